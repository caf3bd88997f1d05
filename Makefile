# What a person types. `make` lists it.
.DEFAULT_GOAL := help
.PHONY: help demo test test-fast faults lint bench dist setup engine clean-test

# Programs that test what `cargo test` cannot, one file each.
CHECKS := $(sort $(wildcard tests/checks/*.sh))
BENCHES := $(sort $(wildcard benches/*.sh))

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  make %-11s %s\n", $$1, $$2}'

demo: ## Measure two commits of a sample project, from image to bucket, and clean up
	bash demo/run.sh

test: setup engine ## All tests: unit, integration with a real engine and registry, sample suite, configurations
	cargo test --locked --workspace
	@set -e; for check in $(CHECKS); do echo "== $$check"; bash $$check; done

test-fast: ## The tests that need neither an engine nor root
	cargo test --locked --workspace -- --skip engine::

faults: setup engine ## A daemon that dies before and after every lasting step, and at random moments under load
	BENCHD_TEST_EVERY_STEP=1 cargo test --locked --test integration -- kills::

lint: ## Formatting, clippy, documentation, scripts, unused and refused dependencies
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet
	@set -e; for script in $$(git ls-files '*.sh' .ci/run); do bash -n $$script; done
	@if command -v shellcheck >/dev/null; then shellcheck --severity=warning $$(git ls-files '*.sh' .ci/run); \
	  else echo "lint: not installed, skipped: apt-get install shellcheck"; fi
	@if command -v cargo-machete >/dev/null; then cargo machete; \
	  else echo "lint: not installed, skipped: cargo install --locked cargo-machete"; fi
	@if command -v cargo-deny >/dev/null; then cargo deny check; \
	  else echo "lint: not installed, skipped: cargo install --locked cargo-deny"; bash scripts/licences.sh; fi

bench: setup engine ## Measure benchd itself (docs/performance.md)
	cargo build --locked --release
	cargo build --locked -p github-standin
	@set -e; for bench in $(BENCHES); do echo "== $$bench"; bash $$bench; done

dist: ## A release archive in dist/, with its checksum
	bash scripts/dist.sh

setup: ## Install what is missing
	@bash scripts/setup.sh

engine: setup ## Start a Docker Engine, unless one answers, and the registry of the tests
	@bash tests/support/engine.sh start

clean-test: ## Stop what the tests started
	bash tests/support/engine.sh stop
