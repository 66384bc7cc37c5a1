# Everything that there is to do, for root and for others with sudo. PG is the Postgres major: 15, 16, 17
# or 18. Unless it is given, the tests run on each of TESTED. 16 and 18 get pg_regress and the isolation
# specs alone: the Postgres 16 that is to be had brings hardly any contrib along.
TESTED := $(if $(filter undefined,$(origin PG)),15 17,$(PG))
PG ?= 15
export PG TESTED
export PGRX_HOME := $(CURDIR)/target/pgrx
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

.DEFAULT_GOAL := help
# None of them is a file.
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*## .*/\1/p' Makefile)

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

setup: ## install what is missing: Debian packages, cargo-pgrx, the REST server, npm packages
	@scripts/setup $(PG) test

setup-build: ## install only what building needs
	@scripts/setup $(PG) build

install: setup-build ## build the extension and install it into the Postgres of this machine
	@scripts/install $(PG)

quick: setup-build ## the same with a build that takes seconds and runs slower, for trying out
	@scripts/install $(PG) . quick

dev: setup ## keep a throwaway Postgres with a REST server, built anew with each change of the sources
	@node scripts/dev.mjs

lint: setup-build ## formatting and clippy
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets --no-default-features --features pg$(PG) -- -D warnings

audit: setup install ## pgspot on the install script, licences and sources of the dependencies
	@scripts/audit $(PG)

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

# Servers of pg_regress and the isolation specs log whatever they can, and no secret may be in it.
test: lint audit unit ## everything that there is to test, on Postgres 15 and 17
	@set -e; for pg in $(TESTED); do $(MAKE) --no-print-directory PG=$$pg setup install; done
	@set -e; for pg in $(TESTED); do echo "== Postgres $$pg"; \
		case $$pg in \
			15|17) PG=$$pg LOG_SECRETS=1 node tests/run.mjs regress isolation; PG=$$pg node tests/run.mjs e2e ;; \
			*) PG=$$pg node tests/run.mjs regress isolation ;; \
		esac; done

freeze: install ## at a release: freeze the SQL of the version that CHANGELOG.md declares
	@scripts/freeze $(PG)

deb: setup-build ## make a Debian package of the extension for this Postgres, in target/deb
	@scripts/build $(PG)
	@scripts/deb $(PG)

pack-console: setup ## pack the console's elements for npm, in target/console
	@mkdir -p target/console
	@cd console && echo "target/console/$$(npm pack --silent --pack-destination ../target/console | tail -n 1)"

test-deb: deb ## install the package in a clean Debian system, use it there and remove it
	@scripts/setup $(PG) deb
	node --test tests/deb/

# Not part of `make test`: the libraries of released versions are built from their commits, five minutes each the first
# time.
test-upgrade: setup install ## go from each released version to this one: its library, these files, a restart, the update
	@for version in $$(sed -n 's/^## \([0-9][^ ]*\) .*/\1/p' CHANGELOG.md); do scripts/released $$version $(PG) > /dev/null || exit 1; done
	node --test tests/upgrade/

# It is kept out of the folder where programs of the machine are.
docs: MDBOOK := 0.5.4
docs: ## build a site of the documentation with mdBook, in target/docs/site, and check each of its links
	@[ "$$(target/mdbook/bin/mdbook --version 2> /dev/null)" = "mdbook v$(MDBOOK)" ] || \
		cargo install --quiet --locked --root target/mdbook --no-default-features --features search --version $(MDBOOK) mdbook
	@node scripts/docs.mjs

sbom: setup-build ## write the bill of materials of the library, as CycloneDX has it, in target/sbom
	@scripts/sbom $(PG)

release-check: export TESTED := $(or $(PACKAGES),$(TESTED))
release-check: setup ## check a release, all but the tests and the tag, with packages for PACKAGES="15 17"; REHEARSE=1 before it is declared
	@node scripts/release-check.mjs $(CHECKS)

demo: setup install ## play the story of a token on a throwaway Postgres, and open the console on it
	@node examples/demo.mjs

demo-stop: ## end the demo
	@node examples/demo.mjs stop

bench: setup install ## measure against the hand-written way, side by side; PUBLISH=1 writes it into docs/
	@scripts/setup $(PG) bench
	@node bench/run.mjs

bench-scale: setup install ## costs with ten million tokens, 100,000 of them in use, and 1,000 requests a second: twenty minutes, 10 GB
	@scripts/setup $(PG) bench
	@node bench/scale.mjs

interleave: setup install ## random interleavings of checks with changes of rows and tables: SECONDS=60, SEED to repeat one
	SECONDS=$(or $(SECONDS),60) node --test tests/e2e/interleavings.test.mjs

soak: setup install ## ten million calls of each function in one backend, which must not grow: hours; CALLS=200000 SECONDS=10 for a quick look
	@node bench/memory.mjs

soak-guard: setup install ## a million requests, REQUESTS=… for another number, while their tokens are ended: an hour
	@REQUESTS=$(or $(REQUESTS),1000000) node --test tests/e2e/guard_under_load.test.mjs

bench-timing: setup install ## measure whether the time of an answer tells if an account exists
	@node bench/timing.mjs

clean: ## remove what was built
	rm -rf target tests/node_modules bench/node_modules console/node_modules console/dist
