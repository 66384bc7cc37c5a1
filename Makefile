# Everything that there is to do, for root and for others with sudo. PG is the Postgres major.
PG ?= 15
export PG
export PGRX_HOME := $(CURDIR)/target/pgrx
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup setup-build install lint unit fuzz suites test demo demo-stop bench clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

setup: ## install what is missing: Debian packages, cargo-pgrx, the REST server, npm packages
	@scripts/setup $(PG) test

setup-build: ## the part of it that building needs
	@scripts/setup $(PG) build

install: setup-build ## build the extension and install it into the Postgres of this machine
	@scripts/install $(PG)

lint: setup-build ## formatting and clippy
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets --no-default-features --features pg$(PG) -- -D warnings

unit: setup-build ## the tests of the core, without Postgres
	cargo test --quiet -p supabase_pat_core -p supabase_pat_fuzz

# libFuzzer's instrumentation needs flags of the compiler that are not stable. What it keeps is not for
# the repository as it is: see tests/fuzz/README.md.
fuzz: export RUSTC_BOOTSTRAP = 1
fuzz: export CARGO_PROFILE_RELEASE_LTO = false
fuzz: setup-build ## search for inputs that break the core: SECONDS=60 a target, TARGET=jwt for one
	@command -v cargo-fuzz > /dev/null || cargo install --quiet --locked cargo-fuzz
	@set -e; for target in $(or $(TARGET),$(notdir $(wildcard tests/fuzz/corpus/*))); do \
		mkdir -p target/fuzz/corpus/$$target; \
		cargo fuzz run --fuzz-dir tests/fuzz --features libfuzzer $$target \
			target/fuzz/corpus/$$target tests/fuzz/corpus/$$target -- \
			-dict=tests/fuzz/dictionaries/$$target.dict -max_total_time=$(or $(SECONDS),60) \
			-max_len=4096 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1; \
	done

suites: setup install ## pg_regress, isolation specs and the tests through the REST server
	node tests/run.mjs

test: lint unit suites ## everything that there is to test

demo: setup install ## play the story of a token on a throwaway Postgres with a REST server
	@node examples/demo.mjs

demo-stop: ## end the demo
	@node examples/demo.mjs stop

bench: setup install ## measure against the hand-written way, side by side
	@node bench/run.mjs

clean: ## remove what was built
	rm -rf target tests/node_modules
