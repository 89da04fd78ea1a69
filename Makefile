# Everything runs in .venv, which these targets make and keep up to date.
PYTHON ?= python3
PYTEST_ARGS ?=
LANES ?= 4
BENCH_ARGS ?=
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Where Python is told to write no bytecode, as in many containers, each of a thousand starts of a process compiles
# all of our modules: a third of its CPU.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
RUNS ?= 10
NIGHT ?= EXAMPLES=20000 CRASH_TIMES=10 CHAOS_FRESH=500 SIMULATIONS=200000 SOAK_SECONDS=7200
KILLS ?= 20
WHEELS ?= dist/wheels
EXTRAS ?=
RELEASE ?= dist/release
PARSERS := tests/unit/api tests/unit/service tests/integration/registry/test_blob_copy.py
.PHONY: help run check static test chaos nightly flakes bench docs pictures wheels release clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: .venv/.installed ## set everything up and run the main job: two sample registries, a fleet, one rule
	$(BIN)/transship demo

check: static ## what has to hold before every commit, in under a minute
	$(BIN)/pytest tests/unit -n 2 --dist worksteal --timeout 60 $(PYTEST_ARGS)

static: .venv/.dev ## format, lint, types and the direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Files in their order, those with few and long tests before those with many and short ones: xdist's own order
# leaves the longest for the end, and one lane with them. Tests wait for half of their time: two lanes a core.
test: static ## set up and run everything: unit, integration, faults, end to end; LANES=1: one after the other
	EXAMPLES=500 $(BIN)/pytest -n $(LANES) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

chaos: .venv/.dev ## random faults again: make chaos SEED=n (the seed that a red run has printed)
	CHAOS_SEED=$(SEED) $(BIN)/pytest tests/faults/test_chaos.py $(PYTEST_ARGS)

nightly: .venv/.dev ## what is too long for CI: every fault in every variant, a job with the timers as shipped; hours
	$(NIGHT) $(BIN)/pytest -m 'nightly or not nightly' \
	  tests/faults tests/integration/engine/test_simulation.py \
	  tests/integration/store/test_backup.py tests/integration/store/test_move.py tests/integration/test_wheels.py \
	  tests/integration/test_release.py tests/e2e/test_helm_fleet.py \
	  $(PYTEST_ARGS)
	$(NIGHT) $(BIN)/pytest $(PARSERS) --timeout 7200 $(PYTEST_ARGS)
	$(BIN)/python -m bench.recovery --default-timers --kills $(KILLS)

flakes: .venv/.dev ## run the faults RUNS times and count what was red in some run only
	$(BIN)/python -m tests.support.flakes --runs $(RUNS) $(PYTEST_ARGS)

bench: .venv/.dev ## compare with crane, skopeo, regsync and oras, and write docs/explanation/performance.md; hours
	$(BIN)/python -m bench.peers_install
	$(BIN)/python -m bench $(BENCH_ARGS)

docs: .venv/.dev ## write the generated pages of docs/reference
	$(BIN)/python -m tests.support.reference_pages

wheels: .venv/.installed ## put all that an installation without a network needs into dist/wheels; EXTRAS=[aws,gcp] for these, too
	$(BIN)/python -m pip wheel --quiet -c requirements/constraints.txt -w $(WHEELS) ".$(EXTRAS)"

release: .venv/.dev ## put sdist, wheel, chart, pins with hashes, SBOM and checksums into dist/release; DIRTY=1 with changes
	$(BIN)/python -m pip install --quiet -c requirements/constraints.txt --group release
	$(BIN)/python -m tests.support.release $(RELEASE) $(if $(DIRTY),--dirty)

pictures: .venv/.dev ## draw the pictures of the documentation: the demo's, and the console's over a fleet of eight minutes
	$(BIN)/python -m tests.support.pictures
	PICTURES=docs/pictures PICTURE_MINUTES=8 $(BIN)/pytest -m nightly tests/e2e/console/test_pictures.py

clean: ## remove what these targets made
	rm -rf .venv dist build

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; give its path: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv .venv || \
	  { rm -rf .venv; echo "On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }

.venv/.installed: .venv/bin/python pyproject.toml requirements/constraints.txt
	$(BIN)/python -m pip install --quiet -c requirements/constraints.txt -e .
	@touch $@

# Groups of pyproject.toml need pip 25.1; Debian 12 brings 23.0.
.venv/.dev: .venv/.installed
	$(BIN)/python -m pip install --quiet -c requirements/constraints.txt pip
	$(BIN)/python -m pip install --quiet -c requirements/constraints.txt --group dev
	@touch $@
