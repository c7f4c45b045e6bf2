# Everything from a fresh clone on Debian or Ubuntu: `make demo` shows idcfs at work,
# `make test` checks it. Both set up what is missing, system packages included.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help setup setup-demo setup-bench system-run system-test system-bench demo test lint types \
        contract pytest soak bench clean device

# The distribution's Python comes first: the tests act as an unprivileged user too, and a
# Python below somebody's home may be out of that user's reach.
ifndef PYTHON
PYTHON := $(firstword $(shell for name in /usr/bin/python3 /usr/bin/python3.1{3,2,1} python3; do \
    $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name; \
    done) /usr/bin/python3)
endif

BIN := .venv/bin
INPUTS := pyproject.toml Makefile
# What idcfs is compared with. It has an environment of its own, because it pins a duckdb.
REFERENCE := idc-index==0.13.4
# A file's tests share fixtures, so they stay together; the slow files come first by name.
PARALLEL := --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder
# For more options: make pytest PYTEST='-n0 -x tests/vfs'
PYTEST ?=
# For more options: make bench BENCH=--help
BENCH ?=

help:
	@echo 'make demo      show idcfs at work: a mount of the whole index, on a store of its own'
	@echo 'make test      all checks: ruff, mypy, import contracts, tests'
	@echo 'make soak      the long-running tests, which `make test` leaves out'
	@echo 'make bench     idcfs against its peers, in some 20 minutes: writes docs/benchmarks.md'
	@echo 'make setup     only what both need: system packages, .venv, .venv-reference'
	@echo 'make lint | types | contract | pytest    one check of `make test`'
	@echo 'make clean     remove the environments and everything built'
	@echo
	@echo 'PYTHON=…       the interpreter for the environments, 3.11 or later ($(PYTHON))'
	@echo 'PYTEST=…       further options and paths for pytest'
	@echo "BENCH=…        options for the benchmark: BENCH='--quick', BENCH='--rows cp,ls'"

demo: setup-demo
	@$(BIN)/idcfs demo

# The quick checks first: each ends the run.
test: lint types contract pytest

lint: setup
	@echo '• ruff'
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet || \
	    { echo 'to be formatted:'; $(BIN)/ruff format --check; exit 1; }

types: setup
	@echo '• mypy'
	@$(BIN)/mypy idcfs tests

contract: setup
	@echo '• import contracts'
	@$(BIN)/lint-imports --no-logo

pytest: setup device
	@echo '• pytest'
	@$(BIN)/python -m pytest -m 'not slow' --durations=15 $(PARALLEL) $(PYTEST)

soak: setup device
	@$(BIN)/python -m pytest -m slow --durations=0 $(PYTEST)

# What it fills and keeps for the next run is in the user's cache, idcfs-bench/.
bench: setup-bench device
	@$(BIN)/python -m tests.bench $(BENCH)

device:
	@[ -c /dev/fuse ] || { echo 'There is no /dev/fuse, so nothing can be mounted. Load the' \
	    'kernel module (sudo modprobe fuse), or start the container with' \
	    '--device /dev/fuse --cap-add SYS_ADMIN.' >&2; exit 1; }

setup: system-test .venv/.test .venv-reference/.done
setup-demo: system-run .venv/.demo
setup-bench: system-bench .venv/.bench .venv-reference/.done

system-run system-test system-bench:
	@PYTHON='$(PYTHON)' tests/setup/system-packages.sh $(@:system-%=%)

# The stamps are younger than the inputs only when everything below them worked. Quiet twice:
# errors still show, but not a warning per package about a source that lacks it.
.venv/.demo: $(INPUTS) | system-run
	@echo '• .venv: idcfs and what the demo needs'
	@$(call make-environment,.venv)
	@$(BIN)/pip install --quiet --quiet --editable '.[demo]'
	@touch $@

.venv/.test: .venv/.demo | system-test
	@echo '• .venv: what the tests need'
	@$(BIN)/pip install --quiet --quiet --group test
	@touch $@

.venv/.bench: .venv/.demo | system-bench
	@echo '• .venv: what the benchmark compares with'
	@$(BIN)/pip install --quiet --quiet --group bench
	@touch $@

.venv-reference/.done: $(INPUTS) | system-run
	@echo '• .venv-reference: $(REFERENCE) and polars'
	@$(call make-environment,.venv-reference)
	@.venv-reference/bin/pip install --quiet --quiet '$(REFERENCE)' polars
	@touch $@

# $(1) is the folder. `--group` came with pip 25.1.
define make-environment
$(1)/bin/pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(1); \
$(1)/bin/pip install --quiet --quiet --upgrade 'pip>=25.1'
endef

clean:
	rm -rf .venv .venv-reference .pytest_cache .mypy_cache .ruff_cache .hypothesis \
	    .import_linter_cache build dist
	find . -name __pycache__ -prune -exec rm -rf {} +
