# The operator and its agent, static, in an image that holds nothing else.
ARG VERSION=dev

FROM --platform=$BUILDPLATFORM golang:1.26 AS build
ARG TARGETOS TARGETARCH VERSION
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY api api
COPY cmd cmd
COPY controllers controllers
COPY internal internal
COPY main.go ./
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /out/manager . && \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /out/probe ./cmd/probe

FROM scratch
ARG VERSION REVISION CREATED
LABEL org.opencontainers.image.title="HTTPSMeshProbe" \
      org.opencontainers.image.source="https://github.com/meshprobe/httpsmeshprobe" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED"
COPY --from=build /out/manager /manager
COPY --from=build /out/probe /probe
USER 65532:65532
ENTRYPOINT ["/manager"]
