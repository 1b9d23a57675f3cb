# What a developer does with this project; `make` lists the targets. Each works in a fresh
# clone: it depends on the stamp that `install` leaves in .venv.

BIN := .venv/bin
STAMP := .venv/installed
PYTHON ?= python3
# Go's own installer leaves it off the PATH.
export PATH := $(PATH):/usr/local/go/bin
# How many tests run at once, each in a process with servers of its own; 0 runs all in this
# process, for a debugger. Tests mostly wait, so that two cores can run three.
PROCESSES ?= 3
PYTEST = $(BIN)/pytest --numprocesses $(PROCESSES) --dist worksteal $(ARGS)

# Those of these variables that are set, as options of the program that a target starts.
OPTIONS = $(foreach name,KILLS ONLY FOR TIMES SEED DELIVERY RATE CONTENDERS EVENTS RUNS RATES PREVIEWS, \
	$(if $($(name)),--$(shell echo $(name) | tr A-Z a-z) $($(name)))) $(if $(QUICK),--quick)

.PHONY: help install run fetch test test-all test-browser cover-protocol mutants lint format types check docs schemas \
	chart site chaos chaos-brokers soak restarts healing bench bench-faults steady profile chart-test lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z -]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

install: $(STAMP) ## create .venv with the project and its development tools (3.11 or newer: PYTHON=python3.12)
	@echo "ready: $(BIN)/bridge"

# Made again when a dependency may have changed. pip knows --group since 25.1.
$(STAMP): pyproject.toml
	@$(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || $(PYTHON) -m venv --clear .venv
	@echo "installing the project and its development tools into .venv"
	@$(BIN)/python -m pip install --quiet --upgrade 'pip==26.3'
	@$(BIN)/python -m pip install --quiet --editable '.[sandbox]' --group dev
	@touch $@

run: $(STAMP) ## run sandbox, Kafka, bridge, board and live view on this machine (FOR=seconds, RATE=events/s)
	@$(BIN)/python -m examples.local $(OPTIONS)

fetch: $(STAMP) ## download what `run` and `test` start (Kafka, soketi, Java, Node), once
	@$(BIN)/python -m tests.kit.downloads

test: $(STAMP) ## run what every change should pass, in four minutes (ARGS="-k outbox", PROCESSES=0)
	@$(PYTEST) -m "not slow"

test-all: $(STAMP) ## run all others: 50 kills, seeded defects, slow tests; 25 minutes
	@$(BIN)/python -m tests.chaos kills $(OPTIONS)
	@$(BIN)/python -m tests.mutants
	@$(PYTEST) -m slow

test-browser: $(STAMP) ## test the board in Chromium (ARGS="-k hostile", SCREENSHOTS=docs)
	@$(BIN)/python -m pip install --quiet --group browser
	@$(if $(SCREENSHOTS),BRIDGE_TEST_SCREENSHOTS=$(SCREENSHOTS)) $(BIN)/pytest -m browser tests/browser $(ARGS)

cover-protocol: $(STAMP) ## fail unless every branch of the Pusher protocol and its tables is tested
	@COVERAGE_FILE=.coverage.protocol $(BIN)/pytest -q tests/pusher/test_backoff.py $(foreach name,protocol close_codes, \
		tests/pusher/test_$(name).py --cov=bridge.pusher.$(name)) --cov-branch --cov-report=term --cov-fail-under=100

mutants: $(STAMP) ## show that tests catch some forty seeded defects; seven minutes (ONLY=NN,...)
	@$(BIN)/python -m tests.mutants $(OPTIONS)

chaos chaos-brokers soak restarts healing: $(STAMP) ## let things fail under load (KILLS=, ONLY=, FOR=1h, TIMES=, SEED=, DELIVERY=, RATE=)
	@$(BIN)/python -m tests.chaos $(patsubst chaos-%,%,$(@:chaos=kills)) $(OPTIONS)

# Modules that write generated files, or check them.
GENERATORS := bridge.schemas bridge.settings.document tests.operations.page helm

lint: $(STAMP) ## report what is wrong with style, language and generated files; never writes
	@$(BIN)/ruff check .
	@$(BIN)/ruff check --quiet --preview --select PLC2701 tests
	@$(BIN)/ruff format --check .
	@$(BIN)/codespell
	@$(BIN)/hadolint Dockerfile
	@for module in $(GENERATORS); do $(BIN)/python -m $$module --check || exit 1; done
	@for check in words pusher.conformance promises; do $(BIN)/python -m tests.$$check || exit 1; done

format: $(STAMP) ## format the code and fix what ruff can fix
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

types: $(STAMP) ## run mypy, strict, tests and examples included
	@$(BIN)/mypy

check: lint types cover-protocol test test-all ## run all that CI demands, and more

docs schemas chart: $(STAMP) ## write all generated files: schemas/, tables in docs/, the chart's schema
	@for module in $(GENERATORS); do $(BIN)/python -m $$module || exit 1; done

site: $(STAMP) ## make a web site of docs/, in site/
	@$(BIN)/python -m pip install --quiet --group docs
	@$(BIN)/zensical build --strict

bench: $(STAMP) $(if $(shell PATH="$(PATH)" command -v go),benthos) ## measure the bridge beside its peers (QUICK=1, CONTENDERS=, EVENTS=, RUNS=, RATES=, PREVIEWS=)
	@$(BIN)/python -m benchmarks $(OPTIONS) $(ARGS)

# A peer that is compiled. Nothing is locked: Go's checksum database vouches for go.mod.
benthos: benchmarks/peers/benthos/main.go benchmarks/peers/benthos/go.mod
	@mkdir -p build/benthos && cp $^ build/benthos
	@cd build/benthos && go build -mod=mod -o benthos .

bench-faults steady profile: tools ## measure faults, memory or CPU time (CONTENDERS=, ONLY=, FOR=1h, RATE=, DELIVERY=, PREVIEWS=)
	@$(BIN)/python -m benchmarks.$(@:bench-%=%) $(OPTIONS) $(ARGS)

tools: $(STAMP)
	@$(BIN)/python -m pip install --quiet --group tools

chart-test: tools ## test the chart and its alerts (needs Go; five minutes the first time)
	@helm/test.sh $(ARGS)

# Versions and hashes, no address. Each extra agrees with those before it: any fit together.
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command "make lock" $(ARGS) $(1) --output-file requirements/$(2).txt

lock: tools ## lock what the image installs, with hashes (ARGS=--upgrade takes newer versions)
	@$(call LOCK,pyproject.toml,service)
	@$(call LOCK,pyproject.toml --extra msk --constraint requirements/service.txt,msk)
	@$(call LOCK,pyproject.toml --extra tracing --constraint requirements/msk.txt,tracing)
	@echo hatchling | $(call LOCK,-,build)

clean: ## remove .venv and everything that the targets made in this clone
	rm -rf .venv dist build site .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
