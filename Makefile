# Everything a person does with a clone. Each target sets up what it needs; a second call starts work at once.
# Works with GNU make 3.81 and later (macOS ships 3.81).

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
# Options of the program: make run ARGS="--data tweets.csv --messages 1000"
ARGS ?=
DOCKER ?= docker
IMAGE ?= sentiment-assets:latest
# Options of the builder: make image IMAGE_ARGS="--build-arg BASE=..."
IMAGE_ARGS ?=
# The Python that makes the virtual environment; the first of these that is 3.11 or 3.12 unless given.
PYTHON ?=
CANDIDATES := $(or $(PYTHON),python3.11 python3.12 python3)

.PHONY: help setup run chaos soak test test-fast test-cluster test-deployment lint lint-workflows format snapshot doctor bench proof-sources proof-sinks proof-stream audit relock wheel image smoke-compose clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo '  Options of the program: make run ARGS="--data FILE --messages 1000"; see make run ARGS=--help'

setup: $(VENV)/.dev ## Virtual environment with locked dependencies, development tools and the jars
	@$(BIN)/python -m sentiment_assets.runtime.jars

run: $(VENV)/.run ## Everything: broker, training, Dagster UI, stream, replayed tweets; Ctrl-C ends it
	@exec $(BIN)/sentiment-assets up $(ARGS)

doctor: $(VENV)/.run ## Check this machine, with a fix for whatever is wrong
	@exec $(BIN)/sentiment-assets doctor $(ARGS)

bench: $(VENV)/.run ## The benchmarks of the README: make bench ARGS="stream"
	@exec $(BIN)/sentiment-assets bench $(or $(ARGS),--help)

proof-sources: setup ## 100,000 messages from each live source through disconnects and broker restarts
	@exec $(BIN)/python -m sentiment_assets_tests.proofs.sources $(ARGS)

proof-sinks: setup ## A million predictions into PostgreSQL and MongoDB's protocol, with kills of either side
	@exec $(BIN)/python -m sentiment_assets_tests.proofs.sinks $(ARGS)

proof-stream: setup ## 100,000 hostile messages, and a rescore of a million rows that is killed half-way
	@exec $(BIN)/python -m sentiment_assets_tests.proofs.stream $(ARGS)

chaos: $(VENV)/.dev ## Faults under load: make chaos ARGS="--rounds 1"
	@exec $(BIN)/python -m sentiment_assets_tests.chaos $(ARGS)

soak: $(VENV)/.dev ## An hour of operation: make soak ARGS="--minutes 60"
	@exec $(BIN)/python -m sentiment_assets_tests.chaos.soak $(ARGS)

test: setup lint ## Lint, types and the tests with coverage (needs Java; 15 to 20 minutes on 2 cores)
	-@$(BIN)/python -m sentiment_assets.local.class_archive
	@exec $(BIN)/pytest --cov --cov-report=term:skip-covered $(ARGS)

test-fast: $(VENV)/.dev ## Unit tests without a JVM, two to three minutes
	@exec $(BIN)/pytest sentiment_assets_tests/unit $(ARGS)

test-deployment: setup ## The services of docker/ as plain processes, Dagster on a real PostgreSQL
	@exec $(BIN)/pytest -o addopts='-ra --strict-markers --timeout=900' sentiment_assets_tests/deployment $(ARGS)

test-cluster: setup ## Training, stream and spark-submit on a real Spark master with two workers
	@exec $(BIN)/pytest -o addopts='-ra --strict-markers --timeout=900' sentiment_assets_tests/cluster $(ARGS)

lint: $(VENV)/.dev ## ruff, its formatter, and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

lint-workflows: ## The workflow files, by actionlint (needs Go)
	@go run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12 && echo "The workflows are sound."

format: $(VENV)/.dev ## Format the code and mend what ruff can mend safely
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

snapshot: $(VENV)/.dev ## Write the reviewed lineage anew after a change of assets; review the difference
	@UPDATE_SNAPSHOTS=1 $(BIN)/pytest -q sentiment_assets_tests/defs/test_lineage.py

audit: $(VENV)/.dev ## Known advisories against the locked dependencies of this Python
	@for lock in requirements.lock requirements-bootstrap.lock; do \
	  $(BIN)/pip-audit --require-hashes --disable-pip --progress-spinner off -r $$lock || exit 1; \
	done

UV_LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header $(UPGRADE)
relock: UPGRADE ?= --upgrade
relock: $(VENV)/.bootstrap ## The lock files anew, with the newest releases in range: make relock; UPGRADE= keeps what fits
	@$(UV_LOCK) pyproject.toml -o requirements.lock
	@$(UV_LOCK) pyproject.toml --extra dev -c requirements.lock -o requirements-dev.lock
	@$(UV_LOCK) requirements-bootstrap.in -o requirements-bootstrap.lock

wheel: $(VENV)/.dev ## The wheel, in dist/
	@rm -rf dist build && $(BIN)/uv build --wheel --no-build-isolation --out-dir dist

image: ## The container image (docker, or another builder: make image DOCKER=podman; see docs/containers.md)
	$(DOCKER) build $(IMAGE_ARGS) --file docker/Dockerfile --tag $(IMAGE) .

smoke-compose: ## Start docker/docker-compose.yaml on the sample, wait for the predictions, stop it; SENTIMENT_IMAGE=...: on that image
	@docker/smoke.sh

clean: ## Remove the virtual environment and caches; state (.sentiment) and the jars stay
	rm -rf $(VENV) build dist *.egg-info htmlcov .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find sentiment_assets sentiment_assets_tests -name __pycache__ -type d -prune -exec rm -rf {} +

# --- Set-up. A stamp is newer than the files that it was made from; a changed lock is installed at the next call.

# The environment names its own place and its Python: moved, copied, or without its Python it is made anew.
MADE_HERE := $(shell $(BIN)/python -c 1 2>/dev/null && \
  { [ ! -s $(VENV)/.bootstrap ] || [ "$$(cat $(VENV)/.bootstrap)" = "$(CURDIR)" ]; } && echo yes)
ifneq ($(MADE_HERE),yes)
.PHONY: made-elsewhere
$(VENV)/.bootstrap: made-elsewhere
endif

$(VENV)/.bootstrap: requirements-bootstrap.lock
	@python=; \
	for candidate in $(CANDIDATES); do \
	  if $$candidate -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null; \
	  then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo 'Python 3.11 or 3.12 is needed; none of these is one: $(CANDIDATES).' >&2; \
	  echo 'Debian, Ubuntu, WSL: sudo apt-get install python3.11 python3.11-venv. Fedora: sudo dnf install' \
	    'python3.12. macOS: brew install python@3.12. Elsewhere: make PYTHON=/path/to/python3.11 ...' >&2; \
	  exit 1; \
	fi; \
	echo "Setting up $(VENV) with $$($$python --version)"; \
	if ! $$python -m venv --clear $(VENV); then \
	  rm -rf $(VENV); \
	  echo "$$python cannot make a virtual environment." >&2; \
	  echo 'Debian, Ubuntu, WSL: sudo apt-get install python3-venv, then run make again.' >&2; \
	  exit 1; \
	fi
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bootstrap.lock
	@echo "$(CURDIR)" > $@

$(VENV)/.run: $(VENV)/.bootstrap requirements.lock pyproject.toml
	@$(call install,requirements.lock)
	@touch $@

$(VENV)/.dev: $(VENV)/.bootstrap requirements.lock requirements-dev.lock pyproject.toml
	@$(call install,requirements-dev.lock)
	@touch $@ $(VENV)/.run

# uv does not read pip's configuration: a mirror and a certificate that a person gave to pip are handed on.
# It hard-links from its cache where it can, and copies silently where it cannot.
# Source distributions (pyspark) are built with the locked setuptools, hence no isolation.
define install
	pip_config() { $(BIN)/python -m pip config get "global.$$1" 2>/dev/null; }; \
	index=$${UV_DEFAULT_INDEX:-$${UV_INDEX_URL:-$${PIP_INDEX_URL:-$$(pip_config index-url)}}}; \
	certificate=$${SSL_CERT_FILE:-$${PIP_CERT:-$$(pip_config cert)}}; \
	if [ -n "$$index" ]; then export UV_DEFAULT_INDEX="$$index"; fi; \
	if [ -n "$$certificate" ]; then export SSL_CERT_FILE="$$certificate"; fi; \
	export VIRTUAL_ENV="$(CURDIR)/$(VENV)" UV_HTTP_TIMEOUT="$${UV_HTTP_TIMEOUT:-180}"; \
	cache=$$($(BIN)/uv cache dir); mkdir -p "$$cache"; touch "$$cache/.link"; rm -f $(VENV)/.link; \
	if ! ln "$$cache/.link" $(VENV)/.link 2>/dev/null; then export UV_LINK_MODE="$${UV_LINK_MODE:-copy}"; fi; \
	rm -f $(VENV)/.link "$$cache/.link"; \
	echo 'Installing $(1) (some minutes the first time: pyspark alone is 400 MB)'; \
	$(BIN)/uv pip install --require-hashes --no-build-isolation -r $(1) \
	  && $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
endef
