# `make demo` and `make test` work on a fresh machine: ops/setup.sh installs what is missing.
#
#   make demo                 real photographs through the real parts, dots on a page; Ctrl-C ends it
#   make demo ARGS=--once     the same, ends by itself; status 0 only when no pin was lost or dead and dots are shown
#   make test                 every test but the long fault runs, a real browser included
#   make check                linters, types, imports, dependencies, generated code; changes nothing
#   make faults-short         the fault runs that CI does; make faults: the long ones
#   make bench NAME=pipeline  one benchmark

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
BIN := .venv/bin
PYTHON := $(BIN)/python
SOURCES := dotstream producers triton_models indexer consumers discovery ops
NAME ?= pipeline
FAULT_ROUNDS ?= 1000

.PHONY: demo up setup setup-tests setup-bench check test faults-short faults bench proto

demo: setup
	$(BIN)/dotstream demo $(ARGS)

up: setup
	$(BIN)/dotstream up $(ARGS)

setup:
	@ops/setup.sh

setup-tests:
	@ops/setup.sh --tests

setup-bench:
	@ops/setup.sh --bench

check: setup
	$(BIN)/ruff check $(SOURCES) tests
	$(BIN)/ruff format --check $(SOURCES) tests
	$(BIN)/mypy --strict $(SOURCES) tests
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(PYTHON) -m ops.protobuf --check

test: setup-tests
	$(PYTHON) -m pytest -m "not faults" $(ARGS)

faults-short: setup
	$(PYTHON) -m pytest tests/faults -m faults --timeout=2400 $(ARGS)

faults: setup
	FAULT_ROUNDS=$(FAULT_ROUNDS) $(PYTHON) -m pytest tests/faults -m faults --timeout=0 $(ARGS)

bench: setup-bench
	$(BIN)/dotstream bench $(NAME) $(ARGS)

proto: setup
	$(PYTHON) -m ops.protobuf
