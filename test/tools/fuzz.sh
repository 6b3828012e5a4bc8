#!/bin/bash
# fuzz.sh TIME: runs every fuzz target of the module for TIME, one after the other.
# What makes one fail is kept in its package's testdata/fuzz: commit it with the fix.
set -euo pipefail
cd "$(dirname "$0")/../.."

time=$1
packages=$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -r -n1 dirname | sort -u)
[ -n "$packages" ] || { echo "there is no fuzz target" >&2; exit 1; }
for package in $packages; do
  for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz'); do
    echo "# $package $target $time"
    # By default each interesting input is made smaller for up to a minute, which
    # leaves no time for anything else: 16 executions in 10 s became 12,000.
    go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 10x "$package"
  done
done
