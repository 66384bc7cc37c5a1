# Everything that there is to do, for root and for others with sudo. PG is the Postgres major.
PG ?= 15
export PG
export PGRX_HOME := $(CURDIR)/target/pgrx
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup setup-build install lint audit notices unit suites suites-logged test demo demo-stop bench bench-timing clean

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

audit: setup install ## pgspot on the install script, licences and sources of the dependencies
	@scripts/audit $(PG)

notices: setup ## what has to go with a binary: the licences of all that is linked into it
	@node tests/audit.mjs --notices > target/THIRD-PARTY-NOTICES.txt
	@echo target/THIRD-PARTY-NOTICES.txt

unit: setup-build ## the tests of the core, without Postgres
	cargo test --quiet -p supabase_pat_core

suites: setup install ## pg_regress, isolation specs and the tests through the REST server
	node tests/run.mjs

suites-logged: setup install ## pg_regress and isolation specs on servers that log whatever they can, looking for secrets
	LOG_SECRETS=1 node tests/run.mjs regress isolation

test: lint unit suites ## everything that there is to test

demo: setup install ## play the story of a token on a throwaway Postgres with a REST server
	@node examples/demo.mjs

demo-stop: ## end the demo
	@node examples/demo.mjs stop

bench: setup install ## measure against the hand-written way, side by side
	@node bench/run.mjs

bench-timing: setup install ## whether the time of an answer tells whose an address is
	@node bench/timing.mjs

clean: ## remove what was built
	rm -rf target tests/node_modules
