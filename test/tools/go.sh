#!/bin/bash
# go.sh PACKAGE VERSION: builds a Go program, static, into bin/, unless it is there in that version.
set -euo pipefail
cd "$(dirname "$0")/../.."

package=$1 version=$2
program=bin/${package##*/}
# What is no program, of a build that was cut short, is built anew.
have=$(go version -m "$program" 2>/dev/null | awk '$1 == "mod" { print $3 }') || have=
[ "$have" != "$version" ] || exit 0
echo "building $program $version"
said=$(GOBIN=$PWD/bin GOFLAGS='' CGO_ENABLED=0 test/tools/again.sh go install -ldflags "-s -w" "$package@$version" 2>&1) || {
  echo "$said" >&2
  exit 1
}
