#!/bin/bash
# build.sh IMAGE VERSION: the container image, by docker from the Dockerfile. Where no
# docker daemon answers, or ARCHIVE names a file, the same content as an image archive.
set -euo pipefail
cd "$(dirname "$0")/../.."

image=$1 version=$2
arch=${ARCH:-$(go env GOARCH)}
source=https://github.com/redis-sidecar/redis-sidecar

if [ -z "${ARCHIVE:-}" ] && docker info >/dev/null 2>&1; then
  exec docker build --platform "linux/$arch" --build-arg "VERSION=$version" -t "$image" .
fi

archive=${ARCHIVE:-bin/redis-sidecar-image.tar}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
CGO_ENABLED=0 GOOS=linux GOARCH=$arch go build -trimpath -buildvcs=false \
  -ldflags "-s -w -X main.version=$version" -o "$work/redis-sidecar" ./cmd/redis-sidecar
mkdir -p "$(dirname "$archive")"
go run ./test/image -o "$archive" -ref "$image" -arch "$arch" -entrypoint /redis-sidecar \
  -label org.opencontainers.image.title=redis-sidecar \
  -label "org.opencontainers.image.source=$source" \
  -label org.opencontainers.image.licenses=Apache-2.0 \
  -label "org.opencontainers.image.version=$version" \
  -link /redis_exporter=redis-sidecar \
  "$work/redis-sidecar:/redis-sidecar" \
  "${CA_BUNDLE:-/etc/ssl/certs/ca-certificates.crt}:/etc/ssl/certs/ca-certificates.crt"
echo "$archive: $image, $(stat -c %s "$archive") bytes, sha256 $(sha256sum "$archive" | cut -d' ' -f1)"
