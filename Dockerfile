# gatehouse as a static binary alone in an image, running as nobody in
# particular. `make image` builds it with buildah; any other builder that knows
# multi-stage files does as well. The build stage runs on the machine's own
# platform and builds for another one with --platform. GO_IMAGE may be any image
# with a shell, Go and CA certificates; pin it by digest for a build that others
# are to repeat.
ARG GO_IMAGE=docker.io/library/golang:1.26

FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS build
ARG TARGETOS=linux
ARG TARGETARCH
ARG VERSION=unknown
ARG COMMIT=unknown
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# The flags are the Makefile's: e2e/release holds the two binaries equal.
RUN CGO_ENABLED=0 GOOS=${TARGETOS} GOARCH=${TARGETARCH} go build -trimpath -buildvcs=false \
    -gcflags "k8s.io/api/...=-l" -gcflags "github.com/antlr4-go/antlr/...=-l" -gcflags "github.com/google/cel-go/...=-l" -gcflags "google.golang.org/protobuf/...=-l" -gcflags "go.yaml.in/...=-l" \
    -ldflags "-s -w -X main.version=${VERSION} -X main.commit=${COMMIT}" \
    -o /out/gatehouse ./cmd/gatehouse \
    && cp "$(go env GOROOT)/lib/time/zoneinfo.zip" /out/zoneinfo.zip

FROM scratch
ARG VERSION=unknown
ARG COMMIT=unknown
LABEL org.opencontainers.image.title="gatehouse" \
      org.opencontainers.image.description="The front door of a Kubernetes cluster for any identity" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/kube-gatehouse/gatehouse" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}"
# The CA certificates with which public issuers are verified.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# Time zones, which a CEL expression may name: kube-apiserver's image has them too.
COPY --from=build /out/zoneinfo.zip /zoneinfo.zip
ENV ZONEINFO=/zoneinfo.zip
COPY --from=build /out/gatehouse /gatehouse
USER 65532:65532
EXPOSE 8443 8080
ENTRYPOINT ["/gatehouse"]
CMD ["serve"]
