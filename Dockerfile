# gatehouse as a static binary alone in an image, running as nobody in
# particular. Build for another platform with --platform; pin GO_IMAGE by digest
# where builds have to be reproducible.
ARG GO_IMAGE=golang:1.26

FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS build
ARG TARGETOS=linux
ARG TARGETARCH
ARG VERSION=unknown
ARG COMMIT=unknown
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 GOOS=${TARGETOS} GOARCH=${TARGETARCH} go build -trimpath -gcflags "k8s.io/api/...=-l" -gcflags "github.com/antlr4-go/antlr/...=-l" -gcflags "github.com/google/cel-go/...=-l" \
    -ldflags "-s -w -X main.version=${VERSION} -X main.commit=${COMMIT}" \
    -o /out/gatehouse ./cmd/gatehouse

FROM scratch
ARG VERSION=unknown
ARG COMMIT=unknown
LABEL org.opencontainers.image.title="gatehouse" \
      org.opencontainers.image.description="The front door of a Kubernetes cluster for any identity" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}"
# The CA certificates with which public issuers are verified.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/gatehouse /gatehouse
USER 65532:65532
EXPOSE 8443 8080
ENTRYPOINT ["/gatehouse"]
CMD ["serve"]
