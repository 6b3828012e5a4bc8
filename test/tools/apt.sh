#!/bin/bash
# apt.sh PROGRAM:PACKAGE...: installs the Debian packages whose program is not in PATH.
# No service of theirs is started. Does nothing, and needs no rights, when all is there.
set -euo pipefail

missing=()
for pair in "$@"; do
  command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
  echo "missing: ${missing[*]} (Debian's names). There is no apt-get here: install them by hand" >&2
  exit 1
fi
if [ "$(id -u)" != 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "missing: ${missing[*]}. Install them, or run this as root or with sudo" >&2
    exit 1
  fi
  exec sudo "$0" "$@"
fi

log=$(mktemp)
policy=/usr/sbin/policy-rc.d # while it says 101, packages do not start their services
mine=
[ -e "$policy" ] || mine=$policy
trap 'rm -f "$log" $mine' EXIT
[ -z "$mine" ] || { printf '#!/bin/sh\nexit 101\n' >"$mine" && chmod 755 "$mine"; }

install() {
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=300 "${missing[@]}"
}
echo "installing ${missing[*]}"
install >"$log" 2>&1 && exit 0
# The package lists are old, or not there at all. Then it is the mirror, or another
# apt-get, that may be better soon.
for pause in 0 10 30; do
  sleep "$pause"
  (apt-get update -q && install) >"$log" 2>&1 && exit 0
done
cat "$log" >&2
exit 1
