# The commands of a checkout. `make` alone prints this help.
#
#   make setup   create .venv and install the tested versions and this project
#                (once, and again after pyproject.toml or constraints.txt change)
#   make run     set up, run the pipeline at scale "synthetic", print the score table and the report's path
#   make smoke   the same at the smallest scale, in under 90 seconds
#   make ui      set up and serve Dagster's UI on http://localhost:3000
#   make test    set up, check, run the tests
#   make check   lint, format, types and layers
#   make clean   remove .venv and caches; lake/ and Dagster's history in .dagster/ are kept
#
#   PYTHON=python3.12 make setup   choose the interpreter (3.11 or 3.12)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2

# Idle threads sleep, no telemetry is sent, nothing is fetched from the model hub.
export OMP_WAIT_POLICY := PASSIVE
export DAGSTER_DISABLE_TELEMETRY := 1
export HF_HUB_OFFLINE := 1
export TRANSFORMERS_OFFLINE := 1
export GX_ANALYTICS_ENABLED := false

.PHONY: help setup run smoke ui test check clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^#   //p' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || \
	  { echo "latentvla needs Python 3.11 or 3.12: PYTHON=python3.11 make setup"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $@

run: $(STAMP)
	@$(BIN)/latentvla run

smoke: $(STAMP)
	@$(BIN)/latentvla run --scale smoke

ui: $(STAMP)
	@env -u DAGSTER_MODULE_NAME $(BIN)/dagster dev

test: $(STAMP) check
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadscope

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) *.egg-info build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .tmp_dagster_home_*
