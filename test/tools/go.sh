#!/bin/bash
# go.sh PACKAGE VERSION: builds a Go program, static, into bin/, unless it is there in that version.
set -euo pipefail
cd "$(dirname "$0")/../.."

package=$1 version=$2
program=bin/${package##*/}
have=$([ ! -x "$program" ] || go version -m "$program" | awk '$1 == "mod" { print $3 }')
[ "$have" != "$version" ] || exit 0
echo "building $program $version"
said=$(GOBIN=$PWD/bin GOFLAGS='' CGO_ENABLED=0 go install -ldflags "-s -w" "$package@$version" 2>&1) || {
  echo "$said" >&2
  exit 1
}
