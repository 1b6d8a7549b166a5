# syntax=docker/dockerfile:1

# docker build -t reputation-gateway .
# docker run --read-only --cap-drop ALL -p 8080:8080 -e TELNYX_API_KEY -v ledger:/var/lib/reputation-gateway \
#   -v ./gateway.toml:/etc/reputation-gateway/gateway.toml:ro reputation-gateway

# Debian 12 in both stages: the binary runs on the C library that it was linked against.
FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --bin reputation-gateway \
    && install -D target/release/reputation-gateway /out/usr/local/bin/reputation-gateway \
    && install -D -m 644 config/gateway.toml /out/etc/reputation-gateway/gateway.toml \
    && install -d -o 65532 -g 65532 /out/var/lib/reputation-gateway

# Certificates, a C library, no shell.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out /

LABEL org.opencontainers.image.title="reputation-gateway" \
      org.opencontainers.image.description="A reverse proxy in front of Telnyx's Number Reputation API that never pays twice for one answer" \
      org.opencontainers.image.licenses="Apache-2.0"

# Nobody's. It writes into the volume alone, so the root may be read-only.
USER 65532:65532

# For `serve` and for `health`, which has to know where the admin listener is.
ENV REPUTATION_GATEWAY_CONFIG=/etc/reputation-gateway/gateway.toml

# The ledger is the truth about money: it outlives the container.
WORKDIR /var/lib/reputation-gateway
VOLUME /var/lib/reputation-gateway

# The admin listener stays on the container's loopback, where the health check asks it. To publish 8081, give it a token and an
# address: `--admin-listen 0.0.0.0:8081`.
EXPOSE 8080 8081
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["reputation-gateway", "health"]

# SIGTERM drains: billed calls under way are settled before the process ends.
STOPSIGNAL SIGTERM
ENTRYPOINT ["reputation-gateway"]
CMD ["serve", "--listen", "0.0.0.0:8080"]
