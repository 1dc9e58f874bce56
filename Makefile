# Everything runs in a virtual environment of the project's own; only Python 3 and make are needed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet

TEST_ARGUMENTS = $(strip $(filter-out tests,$(MAKECMDGOALS)) $(ARGS))

.DEFAULT_GOAL := help

help:  ## Show this list.
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

demo: $(VENV)/.package  ## Run a real job on this machine, and show what happens.
	@$(BIN)/python docs/examples/demo.py

# Tests mostly wait for jobs and programs, so several run at a time; those of the contract suite most of all.
tests: $(INSTALLED)  ## Run the tests; arguments pass through: make tests -- -k local
ifeq ($(TEST_ARGUMENTS),)
	@$(BIN)/python -m pytest -q -n 8 tests/contract
	@$(BIN)/python -m pytest -q -n 2 --ignore tests/contract
else
	@$(BIN)/python -m pytest $(TEST_ARGUMENTS)
endif

checks: $(INSTALLED)  ## Check format, style and types.
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

docs: $(VENV)/.docs  ## Build the documentation into docs/_build/html.
	@$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo 'The documentation is in docs/_build/html/index.html'

bench: $(INSTALLED)  ## Measure, against floors in the same run; see benchmarks/README.md.
	@$(BIN)/python -m benchmarks $(ARGS)

clean:  ## Remove everything that was made here.
	rm -rf $(VENV) build dist docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info

$(BIN)/python:
	@$(PYTHON) -m venv $(VENV) || { echo 'A Python with the module venv is needed (Debian: apt install python3-venv).'; exit 1; }

$(VENV)/.package: $(BIN)/python pyproject.toml
	@$(PIP) install --editable .
	@touch $@

$(INSTALLED): $(VENV)/.package
	@$(PIP) install --editable '.[dev,cli]'
	@touch $@

$(VENV)/.docs: $(VENV)/.package
	@$(PIP) install --editable '.[docs]'
	@touch $@

# `make tests -- -k local` makes goals of the arguments, which pytest gets and make must not try to make.
ifneq ($(filter tests,$(MAKECMDGOALS)),)
ifneq ($(filter-out tests,$(MAKECMDGOALS)),)
$(eval $(filter-out tests,$(MAKECMDGOALS)):;@:)
.PHONY: $(filter-out tests,$(MAKECMDGOALS))
endif
endif

.PHONY: help demo tests checks docs bench clean
