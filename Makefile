# What a developer does with this project; `make` lists the targets. Each works in a fresh
# clone: it depends on the stamp that `install` leaves in .venv. Works with GNU Make 3.81
# (macOS) and later.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

# The first interpreter that is new enough; looked for only when one is needed.
IS_NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python $(IS_NEW_ENOUGH) 2>/dev/null && { echo $$python; break; }; done)

# Downloads and tools are outside the clone, so that a second clone finds them:
# tests/kit/downloads.py has the same rule for the same directory.
CACHE := $(if $(filter Darwin,$(shell uname -s)),$(HOME)/Library/Caches,$(or $(XDG_CACHE_HOME),$(HOME)/.cache))
TOOLS := $(or $(BRIDGE_TEST_CACHE),$(CACHE)/dryapi-kafka-bridge)/tools

# More arguments for pytest, uv or the benchmarks: make test ARGS="-k outbox".
ARGS ?=
# How many tests run at once, each in a process with servers of its own; 0 runs all in this
# process, for a debugger. Tests mostly wait, so that two cores can run three.
PROCESSES ?= 3

# What is set of these variables, as options of the program that a target starts.
OPTIONS = $(foreach name,KILLS ONLY FOR TIMES SEED DELIVERY RATE CONTENDERS EVENTS RUNS RATES PREVIEWS, \
	$(if $($(name)),--$(shell echo $(name) | tr A-Z a-z) $($(name)))) $(if $(QUICK),--quick)

.PHONY: help install run fetch test test-all test-browser cover-protocol mutants lint format types check docs schemas \
	chart site chaos chaos-brokers soak restarts healing bench bench-faults steady profile chart-test image-lint lock clean clean-cache

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z -]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

install: $(STAMP) ## create .venv with the project and its development tools (PYTHON=python3.12 selects)
	@echo "ready: $(BIN)/bridge"

# The stamp is older than pyproject.toml when a dependency may have changed.
$(STAMP): pyproject.toml
	@[ -n "$(PYTHON)" ] && $(PYTHON) $(IS_NEW_ENOUGH) || { \
		echo "bridge needs Python 3.11 or newer: make install PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { \
		rm -rf $(VENV); echo "on Debian and Ubuntu, install the package python3-venv" >&2; exit 1; }
	@echo "installing the project and its development tools into $(VENV)"
	@# pip knows dependency groups (--group) since 25.1.
	@$(BIN)/python -m pip install --quiet --upgrade 'pip==26.3'
	@$(BIN)/python -m pip install --quiet --editable '.[sandbox]' --group dev
	@touch $@

run: $(STAMP) ## run sandbox, Kafka, bridge, board and live view on this machine (FOR=seconds, RATE=events/s)
	@$(BIN)/python -m examples.local $(OPTIONS)

fetch: $(STAMP) ## download what `run` and `test` start (Kafka, soketi, Java, Node), once
	@$(BIN)/python -m tests.kit.downloads

test: $(STAMP) ## run what every change should pass, in four minutes (ARGS="-k outbox", PROCESSES=0)
	@$(BIN)/pytest -m "not slow" --numprocesses $(PROCESSES) --dist worksteal $(ARGS)

test-all: $(STAMP) ## run all others: 50 kills, seeded defects, slow tests; 25 minutes
	@$(BIN)/python -m tests.chaos kills $(OPTIONS)
	@$(BIN)/python -m tests.mutants
	@HELM="$(wildcard $(HELM))" $(BIN)/pytest -m slow --numprocesses $(PROCESSES) --dist worksteal $(ARGS)

test-browser: $(STAMP) ## test the board in Chromium (ARGS="-k hostile", SCREENSHOTS=docs)
	@$(BIN)/python -c 'import playwright' 2>/dev/null || $(BIN)/python -m pip install --quiet --group browser
	@$(if $(SCREENSHOTS),BRIDGE_TEST_SCREENSHOTS=$(SCREENSHOTS)) $(BIN)/pytest -m browser tests/browser $(ARGS)

cover-protocol: $(STAMP) ## fail unless every branch of the Pusher protocol and its tables is tested
	@COVERAGE_FILE=.coverage.protocol $(BIN)/pytest -q tests/pusher/test_backoff.py $(foreach name,protocol close_codes, \
		tests/pusher/test_$(name).py --cov=bridge.pusher.$(name)) --cov-branch --cov-report=term --cov-fail-under=100

mutants: $(STAMP) ## show that tests catch some thirty seeded defects; five minutes (ONLY=NN,...)
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
	@$(BIN)/python -m tests.words
	@for module in $(GENERATORS); do $(BIN)/python -m $$module --check || exit 1; done
	@$(BIN)/python -m tests.pusher.conformance
	@$(BIN)/python -m tests.promises

format: $(STAMP) ## format the code and fix what ruff can fix
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

types: $(STAMP) ## run mypy, strict, tests and examples included
	@$(BIN)/mypy

check: lint types cover-protocol test test-all ## run all that CI demands, and more

docs schemas chart: $(STAMP) ## write all generated files: schemas/, tables in docs/, the chart's schema
	@for module in $(GENERATORS); do $(BIN)/python -m $$module || exit 1; done

site: $(BIN)/zensical ## make a web site of docs/, in site/
	@$(BIN)/zensical build --strict

bench: $(STAMP) ## measure the bridge beside its peers (QUICK=1, CONTENDERS=, EVENTS=, RUNS=, RATES=, PREVIEWS=)
	@$(if $(GO),$(MAKE) -s --no-print-directory $(BENTHOS) || echo "Benthos could not be built and is left out." >&2)
	@$(BIN)/python -m benchmarks $(OPTIONS) $(ARGS)

bench-faults steady profile: $(STAMP) ## measure faults, memory or CPU time (CONTENDERS=, ONLY=, FOR=1h, RATE=, DELIVERY=, PREVIEWS=)
	@$(BIN)/python -m benchmarks.$(@:bench-%=%) $(PROGRAM) $(OPTIONS) $(ARGS)

profile: PROGRAM := --py-spy $(BIN)/py-spy
profile: $(BIN)/py-spy

# -- Tools -----------------------------------------------------------------------------
# Go's own installer leaves it off the PATH.
GO ?= $(or $(shell command -v go 2>/dev/null),$(wildcard /usr/local/go/bin/go))

# $(call built,NAME,VERSION): where a program is built. $(call program,...): one on the PATH
# serves where it isn't built.
built = $(TOOLS)/$(1)-$(2)/$(1)
program = $(or $(wildcard $(built)),$(shell command -v $(1) 2>/dev/null),$(built))

HELM ?= $(call program,helm,3.22.0)
PROMTOOL ?= $(call program,promtool,0.316.0)
UNITTEST := $(call built,helm-unittest,1.1.2)
KUBE_SCORE := $(call built,kube-score,1.20.0)
BENTHOS := $(TOOLS)/benthos-peer/benthos

$(BIN)/zensical: | $(STAMP)
	@$(BIN)/python -m pip install --quiet --group docs

# Those that come as wheels.
$(BIN)/uv $(BIN)/hadolint $(BIN)/py-spy $(BIN)/kubernetes-validate: | $(STAMP)
	@$(BIN)/python -m pip install --quiet --group tools

define go-needed
	@[ -n "$(GO)" ] || { echo "$(@F) is built with Go, and there is no go." >&2; exit 1; }
	@echo "building $(@F) in $(@D)"
	@mkdir -p $(@D)
endef
# The version is the ending of the directory's name.
VERSION = v$(lastword $(subst -, ,$(notdir $(@D))))

$(TOOLS)/%:
	$(go-needed)
	@GOBIN="$(@D)" $(GO) install $(MODULE)@$(VERSION)

$(HELM): MODULE := helm.sh/helm/v3/cmd/helm
$(KUBE_SCORE): MODULE := github.com/zegl/kube-score/cmd/kube-score
$(PROMTOOL): MODULE := github.com/prometheus/prometheus/cmd/promtool
$(UNITTEST): MODULE := github.com/helm-unittest/helm-unittest

# `go install` refuses a module that replaces another one; a module around it may.
$(UNITTEST):
	$(go-needed)
	@cd $(@D) && rm -f go.mod go.sum && $(GO) mod init tools && $(GO) mod edit -require=$(MODULE)@$(VERSION) \
		-replace=github.com/vmware-labs/yaml-jsonpath@v0.3.2=github.com/helm-unittest/yaml-jsonpath@v0.4.0
	@cd $(@D) && $(GO) build -mod=mod -o $@ $(MODULE)/cmd/helm-unittest

# Nothing is locked: Go's checksum database vouches for what go.mod names.
$(BENTHOS): benchmarks/peers/benthos/main.go benchmarks/peers/benthos/go.mod
	$(go-needed)
	@cp $^ $(@D) && cd $(@D) && rm -f go.sum && $(GO) build -mod=mod -o $(@F) .

# -- Chart and image -------------------------------------------------------------------
# The oldest that Chart.yaml accepts and the newest that there are schemas for.
KUBERNETES_VERSIONS := 1.25 1.37
# A helm that `go install` built assumes a cluster of version 1.20.
NEWEST := --kube-version $(lastword $(KUBERNETES_VERSIONS))
MANIFESTS := build/chart

# kube-score's findings that are ignored, and why:
# - CPU limit: a throttled process answers pings late, and is disconnected.
# - Always pulling: a tag of this chart's is a version and doesn't move; a digest can't.
# - ephemeral storage: its limit counts the pod's log and, without persistence, the outbox;
#   only the cluster's owner knows what it may use (resources).
# - network policy: it depends on the cluster's network (networkPolicy.enabled);
#   everything.yaml has it, but not for the pod of helm test.
# - a Deployment's replicas and strategy: two bridges would publish every event twice.
SCORE_IGNORED := --ignore-container-cpu-limit $(foreach test,container-image-pull-policy \
	container-ephemeral-storage-request-and-limit pod-networkpolicy deployment-replicas \
	deployment-strategy,--ignore-test $(test))

chart-test: $(STAMP) $(HELM) $(UNITTEST) $(KUBE_SCORE) $(PROMTOOL) $(BIN)/kubernetes-validate ## test the chart and its alerts (needs Go; builds its tools in half an hour, once)
	@$(BIN)/python -m helm --check
	@mkdir -p $(MANIFESTS)
	@for values in helm/bridge/ci/*.yaml; do \
		$(HELM) lint --strict --quiet $(NEWEST) helm/bridge --values $$values && \
		$(HELM) template $(NEWEST) bridge helm/bridge --values $$values >$(MANIFESTS)/$$(basename $$values) || exit 1; \
	done
	@HELM="$(HELM)" $(BIN)/pytest tests/helm $(ARGS)
	@$(UNITTEST) --strict helm/bridge
	@for version in $(KUBERNETES_VERSIONS); do \
		$(BIN)/kubernetes-validate --strict --quiet --no-warn --kubernetes-version $$version $(MANIFESTS)/*.yaml || exit 1; \
	done
	@$(KUBE_SCORE) score $(SCORE_IGNORED) $(MANIFESTS)/*.yaml
	@$(PROMTOOL) check rules --lint=all --lint-fatal helm/bridge/files/rules.yaml
	@$(PROMTOOL) test rules tests/helm/alerts.yaml

image-lint: $(BIN)/hadolint ## check the Dockerfile with hadolint
	@$(BIN)/hadolint Dockerfile

# The lock names versions and hashes, and no address: it is installed from the index that
# the user's own configuration names.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command "make lock" $(ARGS)
PROJECT = $(BIN)/python -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb")); print(*$(1), sep="\n")'
# All extras but the one for a laptop; each agrees with those before it, so that any of
# them fit in one image.
EXTRAS = $(sort $(filter-out sandbox,$(shell $(call PROJECT,project["project"]["optional-dependencies"]))))

lock: $(BIN)/uv ## lock what the image installs, with hashes (ARGS=--upgrade takes newer versions)
	@$(LOCK) pyproject.toml --output-file requirements/service.txt
	@before="--constraint requirements/service.txt"; for extra in $(EXTRAS); do \
		$(LOCK) --extra $$extra $$before pyproject.toml --output-file requirements/$$extra.txt || exit 1; \
		before="$$before --constraint requirements/$$extra.txt"; \
	done
	@$(call PROJECT,project["build-system"]["requires"]) | $(LOCK) - --output-file requirements/build.txt

clean: ## remove .venv and everything that the targets made in this clone
	rm -rf $(VENV) dist build site .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

clean-cache: $(STAMP) ## empty the cache directory: downloads and tools
	@rm -rf "$(TOOLS)"
	@$(BIN)/python -m tests.kit.downloads --clean
