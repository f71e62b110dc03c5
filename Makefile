# `make demo` and `make test` need Debian, rustup, git, make and a C compiler; the target `setup` installs whatever else is
# missing. Everything else is up to cargo.

.DEFAULT_GOAL := help
.PHONY: help demo test test-integrations soak simulate fuzz bench check setup

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup ## Show the cache at work, on a Postgres of its own
	cargo run --locked -- demo

test: setup ## Run all tests, on a Postgres of their own
	@./setup.sh tests
	cargo test --locked --workspace --features cimd-cache-cli/otlp

test-integrations: setup ## Test the packages for Node and Python, and real auth servers on them (needs npm and PyPI)
	@./setup.sh integrations
	integrations/test.sh

soak: setup ## Let the database fail for SOAK_MINUTES (10) under load, on nodes that live through all of it
	cargo test --locked -p cimd-cache-cli --test faults -- --ignored --nocapture soak

simulate: setup ## Simulate histories of the rules (SIMULATE="--histories 1000000", or "--seed 7" to replay one)
	cargo run --locked -p cimd-cache-simulator -- $(or $(SIMULATE),--histories 100000)

bench: setup ## Measure single calls, and the cache beside native code (BENCH="--rows 1000000" for more)
	cargo bench --locked -p cimd-cache-bench
	cargo build --locked --release -p cimd-cache-cli -p cimd-cache-bench
	target/release/cimd-cache-bench $(BENCH)

# libFuzzer through cargo-fuzz, without sanitizers, which a stable compiler does not have; it needs a C++ compiler. Of the
# inputs that it finds, it keeps those that reach code which no kept input reaches.
FUZZ_TARGETS = metadata url ticket rows
FUZZ_SECONDS = 60
CARGO_FUZZ = cargo fuzz run --fuzz-dir tests/fuzz/libfuzzer --sanitizer none --target-dir target/fuzz
CORPUS = cargo run --locked --quiet -p cimd-cache-fuzz --
FUZZ_LIMITS = -max_len=20000 -timeout=5 -rss_limit_mb=512 -malloc_limit_mb=16

fuzz: setup ## Look for input that breaks a rule, a minute for each kind of it (FUZZ_SECONDS=600 for more)
	@cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz
	@set -e; for target in $(FUZZ_TARGETS); do \
		found=target/fuzz/found/$$target; kept=target/fuzz/kept/$$target; mkdir -p $$found; rm -rf $$kept; \
		$(CORPUS) unpack $$target $$kept; \
		$(CARGO_FUZZ) $$target $$found $$kept -- $(FUZZ_LIMITS) -max_total_time=$(FUZZ_SECONDS); \
		$(CARGO_FUZZ) $$target $$kept $$found -- $(FUZZ_LIMITS) -merge=1 -use_counters=0; \
		$(CORPUS) pack $$target $$kept; \
	done

check: ## Check the format, the lints, the documentation and the dependencies, as CI does
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --all-features -- -D warnings
	cargo clippy --locked -p cimd-cache -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items
	@cargo deny --version >/dev/null 2>&1 || cargo install --locked --debug cargo-deny
	cargo deny --locked --workspace check --hide-inclusion-graph bans licenses sources

setup: ## Install what is missing: the wasm target, Postgres' binaries
	@./setup.sh
