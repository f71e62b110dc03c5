# `make demo` and `make test` need nothing but Debian, rustup, git, make and a C compiler: what else is missing, the
# target `setup` installs. All else is cargo's.

.DEFAULT_GOAL := help
.PHONY: help demo test soak simulate bench check setup

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup ## Show the cache at work, on a Postgres of its own
	cargo run --locked -- demo

test: setup ## Run all tests, on a Postgres of their own
	@./setup.sh tests
	cargo test --locked --workspace

soak: setup ## Let the database fail for SOAK_MINUTES (10) under load, on nodes that live through all of it
	cargo test --locked -p cimd-cache --test faults -- --ignored --nocapture soak

simulate: setup ## Simulate histories of the rules (SIMULATE="--histories 1000000", or "--seed 7" to replay one)
	cargo run --locked -p cimd-cache-simulator -- $(or $(SIMULATE),--histories 100000)

bench: setup ## Measure single calls, and the cache beside native code (BENCH="--rows 1000000" for more)
	cargo bench --locked -p cimd-cache --features internals
	cargo run --locked --release -p cimd-cache --features internals -- bench $(BENCH)

check: ## Check the format and the lints, as CI does
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --all-features -- -D warnings

setup: ## Install what is missing: the wasm target, Postgres' binaries
	@./setup.sh
