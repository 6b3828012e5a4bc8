# The image is the static binary and the CA certificates: no shell, no package
# manager, no user but a number. Without a docker daemon, make image packs the
# same content.
#
# The same source, VERSION and base image give the same binary. For an image
# that is the same byte by byte:
#   SOURCE_DATE_EPOCH=0 docker buildx build --output type=oci,dest=image.tar,rewrite-timestamp=true .

FROM --platform=$BUILDPLATFORM golang:1.26.8-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY cmd cmd
COPY internal internal
ARG TARGETARCH
ARG VERSION=unknown
RUN CGO_ENABLED=0 GOOS=linux GOARCH=$TARGETARCH go build -trimpath -buildvcs=false \
    -ldflags "-s -w -X main.version=$VERSION" -o /out/redis-sidecar ./cmd/redis-sidecar \
    && ln -s redis-sidecar /out/redis_exporter

FROM scratch
ARG VERSION=unknown
LABEL org.opencontainers.image.title="redis-sidecar" \
      org.opencontainers.image.source="https://github.com/redis-sidecar/redis-sidecar" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# /redis_exporter is a link, for pods whose command names that program.
COPY --from=build /out/ /
# In a pod, run it as the user of redis-server, so that it may read the data.
USER 65532:65532
EXPOSE 9121
ENTRYPOINT ["/redis-sidecar"]
