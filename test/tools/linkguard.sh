#!/bin/bash
# linkguard.sh PACKAGE: fails when the linker of this program must keep every exported method.
#
# One reachable call of reflect's Method or MethodByName with a name that is not
# constant switches off the linker's pruning of methods. text/template does it,
# html/template, and some command line libraries: 8 MiB more in this program.
set -euo pipefail
cd "$(dirname "$0")/../.."

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
CGO_ENABLED=0 go build -trimpath -ldflags=-dumpdep -o "$out/program" "$1" 2>"$out/deps" || { tail -20 "$out/deps" >&2; exit 1; }
grep -qa '^main\.main -> ' "$out/deps" || { echo "linkguard: go build -ldflags=-dumpdep printed no dependencies" >&2; exit 1; }
if grep -a '<ReflectMethod>$' "$out/deps" | sort -u >"$out/found"; then
  echo "linkguard: reflected method calls in $1; caller -> function that makes them:" >&2
  cat "$out/found" >&2
  exit 1
fi
