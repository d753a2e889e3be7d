# Thin: each target calls the binary, cargo or one script. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help up build test lint fmt bench

# What follows `up`: make up ARGS="--data-dir /tmp/other --listen 127.0.0.1:0"
ARGS ?=
# Tests mostly wait, for databases and for each other's processes: three of them fill two cores.
TEST_THREADS ?= $(shell echo $$(( ($$(nproc) * 3 + 1) / 2 )))
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)

help: ## Says what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: ## Installs what is missing, builds, and runs everything on this machine (Ctrl-C stops it)
	@.ci/install postgresql compiler
	cargo build --locked
	@exec $(TARGET_DIR)/debug/mainstay up $(ARGS)

build: ## Builds the binary and all tests
	cargo build --locked --workspace --all-targets

test: ## Runs the whole test suite
	@.ci/install postgresql compiler python kubectl
	@tests/python/venv.sh
	cargo build --locked --workspace --all-targets
	@if command -v cargo-nextest > /dev/null; then \
	  cargo nextest run --locked --workspace --no-fail-fast --test-threads $(TEST_THREADS); \
	else \
	  cargo test --locked --workspace --no-fail-fast; \
	fi

lint: ## Checks format, lints, dependencies
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	@if command -v cargo-deny > /dev/null; then cargo deny --offline check bans licenses sources; \
	else echo "cargo-deny is not installed: licences and sources of dependencies were not checked"; fi

fmt: ## Formats the code
	cargo fmt --all

bench: ## Measures start, memory, gateway overhead, webhook intake against pgbench, permission check
	@.ci/install postgresql compiler pgbench
	cargo xtask bench
