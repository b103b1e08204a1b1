# Two commands do everything on a fresh machine: `make up` runs the house, `make test` tests it.

PYTHON ?= python3
BIN    := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help up down demo load bench-import test lint

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# The stamp is as new as the locks it was made from; a changed lock installs again.
.venv/ready: requirements-dev.lock pyproject.toml
	@echo "Installing into .venv (once; half a minute or so) …"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	@$(PYTHON) -m venv .venv || { echo "python3 lacks venv: install it first (Debian: apt-get install python3-venv)"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

up: .venv/ready ## run the whole house here: Postgres, Valkey, lookup, intake, relay (Ctrl-C stops it)
	@exec $(BIN)/hoso24 up

down: .venv/ready ## stop what `make up` started here
	@exec $(BIN)/hoso24 down

demo: .venv/ready ## move one dossier through its life, slowly enough to watch on its page
	@exec $(BIN)/hoso24 demo

test: .venv/ready ## run all tests, on servers they start and stop themselves
	@exec $(BIN)/python -m pytest

load: .venv/ready ## put Locust users on a running `make up` and judge the figures against the budget
	@exec $(BIN)/locust --headless -f loadtests/locustfile.py

bench-import: .venv/ready ## `hoso24 import` beside psql \copy of the same rows
	@exec $(BIN)/python -m loadtests.bench.bulk

lint: .venv/ready ## ruff and mypy in strict mode
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
