# Logue. `make` lists the targets; `make up` is all that a fresh clone needs.

PYTHON   ?= python3
BROKER   ?= noida
GATEWAYS ?= 1
AGENTS   ?= 1

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed
UV     = $(or $(shell command -v uv 2>/dev/null),$(BIN)/uv)

MEMBERS  := $(patsubst %/pyproject.toml,%,$(wildcard libs/*/pyproject.toml services/*/pyproject.toml))
MANIFEST := pyproject.toml $(MEMBERS:%=%/pyproject.toml)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Running

.PHONY: up
up: install ## Start everything (BROKER=noida|apache GATEWAYS=n AGENTS=n); Ctrl-C stops it
	@$(BIN)/logue up --broker $(BROKER) --gateways $(GATEWAYS) --agents $(AGENTS)

.PHONY: down
down: install ## Stop what `make up` started
	@$(BIN)/logue down

.PHONY: reset
reset: install ## Delete the data, logs and secrets of `make up`
	@$(BIN)/logue reset --yes

# Checking

.PHONY: check
check: install ## Format, lint, types and imports, in seconds
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

.PHONY: test
test: install ## Every test that can run on this machine
	@$(BIN)/pytest tests

.PHONY: test-unit
test-unit: install ## Unit and contract tests (those of producer and consumer start a broker)
	@$(BIN)/pytest tests/unit tests/contract

.PHONY: test-integration
test-integration: install ## Against real brokers and a real PostgreSQL
	@$(BIN)/pytest tests/integration

.PHONY: test-e2e
test-e2e: install ## The whole system, through its public API only
	@$(BIN)/pytest tests/e2e

.PHONY: test-hostile
test-hostile: install ## Hostile input, slow clients, fuzzed decoders, Schemathesis (LOGUE_HOSTILE_SEED=n: other examples)
	@$(BIN)/pytest tests/hostile

.PHONY: test-deploy
test-deploy: install ## Images, Compose and Kubernetes manifests, with the real tools as far as they can be had
	@$(BIN)/python -m tests.deploy.fetch || true
	@$(BIN)/pytest tests/deploy

.PHONY: test-observability
test-observability: install ## Rules, alerts and dashboards, on a real Prometheus (apt install prometheus)
	@$(BIN)/pytest tests/observability

.PHONY: bench
bench: install ## Logue beside a reference monolith, and by itself (QUICK=1: two minutes; PARTS=compare,users,…)
	@QUICK="$(QUICK)" PARTS="$(PARTS)" $(BIN)/python -m tests.bench

.PHONY: bench-check
bench-check: install ## Fails when a turn has become dearer than on record, as a share of the reference monolith
	@$(BIN)/python -m tests.bench.regression

# Keeping

.PHONY: monitoring
monitoring: install ## Write rules, alerts, dashboards and the tables of docs/slo.md anew from monitoring/
	@$(BIN)/python -m monitoring

.PHONY: format
format: install ## Format the code and apply safe fixes
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

.PHONY: lock
lock: install ## Write requirements.lock anew from the pyproject.toml files
	@$(UV) lock --quiet --python $(BIN)/python --upgrade
	@$(UV) export --quiet --frozen --python $(BIN)/python --all-packages --all-groups --no-emit-workspace --no-header \
		--output-file requirements.lock
	@! grep -nE 'https?://' requirements.lock

# Not part of `check`: it asks a database on the network, and what that says changes without any change here.
PIP_AUDIT = $(UV) tool run --quiet --from 'pip-audit==2.10.1' pip-audit

.PHONY: audit
audit: install ## Known vulnerabilities of what requirements.lock pins (needs the network)
	@found="$$($(PIP_AUDIT) --requirement requirements.lock --disable-pip --no-deps --progress-spinner off 2>&1)"; \
		case "$$found" in \
		*"could not be audited"*) echo "audit: the database of vulnerabilities does not answer here; nothing is known."; exit 2;; \
		*"No known vulnerabilities found"*) echo "audit: no known vulnerabilities.";; \
		*"known vulnerabilit"*) echo "$$found"; exit 1;; \
		*) echo "$$found" | tail -3; echo "audit: pip-audit, or what it asks, cannot be reached from here."; exit 2;; \
		esac

.PHONY: install
install: $(STAMP) ## Make .venv with everything in it (the other targets do this by themselves)

# Where uv cannot reach the index but pip can (an index or a certificate that only pip is told about), pip does it.
EDITABLE := $(MEMBERS:%=--editable ./%)
UV_PIP    = $(UV) pip install --quiet --python $(BIN)/python
PIP      := $(BIN)/python -m pip install --quiet --disable-pip-version-check

$(STAMP): requirements.lock $(MANIFEST) | $(BIN)/python
	@test -x "$(UV)" || { echo "Fetching uv …"; $(PIP) uv; }
	@echo "Installing into $(VENV), as requirements.lock says …"
	@$(UV_PIP) --require-hashes --compile-bytecode --requirements requirements.lock || \
		{ echo "uv could not; trying pip …"; $(PIP) --require-hashes --requirement requirements.lock; }
	@$(UV_PIP) --no-deps --no-build-isolation $(EDITABLE) || $(PIP) --no-deps --no-build-isolation $(EDITABLE)
	@touch $@

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || \
		{ echo "Logue needs Python 3.11 or newer, but there is no $(PYTHON) here: apt install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Logue needs Python 3.11 or newer; choose one with make PYTHON=/path/to/python3.12 …"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) cannot make virtual environments yet: apt install python3-venv"; exit 1; }
	@echo "Making $(VENV) …"
	@$(PYTHON) -m venv $(VENV)
