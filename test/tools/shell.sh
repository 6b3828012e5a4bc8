#!/bin/bash
# shell.sh: checks every shell script of the repository, with shellcheck where it can be had.
set -euo pipefail
cd "$(dirname "$0")/../.."

mapfile -t scripts < <(git ls-files --cached --others --exclude-standard '*.sh' .ci/run)
for s in "${scripts[@]}"; do
  bash -n "$s"
done
if test/tools/apt.sh shellcheck:shellcheck; then
  shellcheck "${scripts[@]}"
else
  echo "shell.sh: without shellcheck, only the syntax was checked" >&2
fi
