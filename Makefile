# The commands of this house. `make demo` from a bare clone, `make test` for every test.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
MANAGE := $(PY) manage.py

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo run test check bench format fuzz mutants chaos plant

help:  ## What there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' Makefile

setup:  ## Virtual environment and dependencies (only what is missing)
	@sh scripts/setup.sh "$(PYTHON)" requirements.txt

setup-dev:
	@sh scripts/setup.sh "$(PYTHON)" requirements-dev.txt

demo: setup  ## Everything from nothing: server, workers and one example to watch; ONCE=1 ends after it
	@$(PY) scripts/demo.py

run: setup  ## Server and workers, as one runs them; Ctrl-C or SIGTERM drains
	@exec $(MANAGE) serve --prepare

test: setup-dev  ## Every test, on SQLite and with every real server found here
	@$(PY) scripts/test.py

check: setup-dev  ## Format, lint, types, and the law of the house
	@$(PY) scripts/check.py

bench: setup-dev  ## What a step costs; PEERS=1: beside other systems; ARGS="--quick", "--only chain", "--write"
	@$(PY) -m benchmarks $(if $(PEERS),--peers) $(ARGS)

fuzz: setup-dev  ## Hostile requests for as long as SECONDS says; goes on where the last run ended
	@$(PY) -m tests.fuzz

chaos: setup-dev  ## Kill everything for as long as SECONDS says, on both databases; adds to docs/chaos.json
	@$(PY) -m tests.chaos

plant: setup-dev  ## Plant bugs of work and of rights in a copy of the tree, and see which tests fail
	@$(PY) scripts/plant.py

mutants: setup-dev  ## Flip every condition of the permission code, and see that a test fails
	@$(PY) scripts/mutants.py

format: setup-dev
	@$(VENV)/bin/ruff format . && $(VENV)/bin/ruff check --fix .
