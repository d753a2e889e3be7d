# One image, every role: `mainstay serve <role>`. Built from locked dependencies, run as nobody, with nothing in it but
# the binary and the certificates of public authorities: no shell, no package manager.
# Deliberately absent: settings and secrets. They come from the environment.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
# SQLX_OFFLINE: queries are checked against the committed metadata; no database is needed to build.
ENV SQLX_OFFLINE=true
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package mainstay-cli --bin mainstay \
    && install -m 0555 target/release/mainstay /mainstay

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /mainstay /usr/local/bin/mainstay
# 65532, as the Deployments say; a number, so that Kubernetes can see that it is not root.
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/mainstay"]
CMD ["--help"]
