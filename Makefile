# What people do daily. Every target sets up what it needs; a second run is quick.
PYTHON ?= python3.11
VENV := .venv
AGENT_VENV := .venv-agent
BIN := $(VENV)/bin
PIP_FLAGS := --disable-pip-version-check --quiet
RUN := OMP_NUM_THREADS=1 FLWR_TELEMETRY_ENABLED=0

LIVES ?= 2000

.PHONY: help setup demo test test-fast e2e lives check fix bench lock clean

help: ## show the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

setup: $(VENV)/.done $(AGENT_VENV)/.done ## both virtual environments, from the lock

$(VENV)/.done: pyproject.toml requirements/hub.lock
	@echo "installing the hub's environment into $(VENV): torch is large, this takes minutes and 2 GB or more of disk"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_FLAGS) -r requirements/hub.lock
	$(BIN)/python -m pip install $(PIP_FLAGS) --no-deps --editable .
	@touch $@

# Devices run on the base install alone: torch and flwr are not importable there.
$(AGENT_VENV)/.done: pyproject.toml requirements/agent.lock
	@echo "installing the devices' environment into $(AGENT_VENV): 0.2 GB"
	$(PYTHON) -m venv $(AGENT_VENV)
	$(AGENT_VENV)/bin/python -m pip install $(PIP_FLAGS) -r requirements/agent.lock
	$(AGENT_VENV)/bin/python -m pip install $(PIP_FLAGS) --no-deps --editable .
	@touch $@

demo: setup ## the whole loop with real data on this machine
	$(RUN) $(BIN)/fleetloop demo --agent-python $(AGENT_VENV)/bin/python

test: test-fast e2e ## the whole test suite

test-fast: setup ## everything but the stories with real processes, three files at a time: many of them wait
	$(RUN) $(BIN)/python -m pytest -m "not e2e" -n 3 --dist loadfile --no-loadscope-reorder --durations 15

e2e: setup ## only the stories with real processes
	$(RUN) $(BIN)/python -m pytest -m e2e --durations 10

lives: setup ## random lives of small fleets under random faults, 2,000 of them: some five minutes on two cores
	$(RUN) $(BIN)/fleetloop sim fuzz --seeds $(LIVES)

check: setup ## format, lint, types, direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: setup ## let ruff mend what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## the heavy proofs, one after the other: every promise with its figures
	$(RUN) FLEETLOOP_AGENT_PYTHON=$(AGENT_VENV)/bin/python $(BIN)/python -m bench

lock: ## pin anew what pyproject.toml allows (both environments from scratch)
	./requirements/lock $(PYTHON)

clean: ## remove what the targets made
	rm -rf $(VENV) $(AGENT_VENV) .fleetloop .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
