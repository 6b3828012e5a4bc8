#!/bin/bash
# again.sh COMMAND...: runs a command that fetches something from the network. When it
# fails it is run again, after 5 s, 20 s and 60 s: mirrors and proxies have their moments.
set -euo pipefail

for pause in 5 20 60; do
  "$@" && exit 0
  echo "again.sh: $1 failed, the next try is in $pause s" >&2
  sleep "$pause"
done
exec "$@"
