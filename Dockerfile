# syntax=docker/dockerfile:1
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin settle && cp target/release/settle /usr/local/bin/settle

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin settle
COPY --from=build /usr/local/bin/settle /usr/local/bin/settle
USER 10001
ENV SETTLE_GRPC_ADDR=0.0.0.0:50051 SETTLE_HTTP_ADDR=0.0.0.0:8080 SETTLE_ADMIN_ADDR=0.0.0.0:9464
EXPOSE 50051 8080 9464
ENTRYPOINT ["settle"]
