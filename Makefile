# The commands of a checkout. `make` alone prints this help.
#
#   make setup   create .venv and install the tested versions and this project
#                (once, and again after pyproject.toml or constraints.txt change)
#   make run     set up, run the pipeline at scale "synthetic", print the score table and the report's path
#   make smoke   the same at the smallest scale, in under 90 seconds
#   make ui      set up and serve Dagster's UI on http://localhost:3000
#   make test    set up, check, run the tests
#   make check   lint, format, types and layers
#   make lock    pin every package to the hash of its file, for this Python and platform: writes
#                locks/<platform>*.txt, which `make setup` then obeys; commit them
#   make audit   whether the installed packages fit together, and their known vulnerabilities; ends
#                with an error where pypi.org, which knows them, cannot be asked
#   make clean   remove .venv and caches; lake/, with Dagster's history, is kept
#
#   PYTHON=python3.12 make setup   choose the interpreter (3.11 or 3.12)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2
PLATFORM := $(shell $(PYTHON) -c 'import sys, sysconfig; print("cp%d%d-%s" % (*sys.version_info[:2], sysconfig.get_platform()))' 2>/dev/null)
LOCKS := locks/$(PLATFORM)
LOCK := $(LOCKS).txt
HASHED = $(PIP) install --quiet --no-deps --require-hashes --requirement
PIP := $(BIN)/python -m pip --disable-pip-version-check
AUDIT := $(VENV)/audit

# Idle threads sleep, no telemetry is sent, nothing is fetched from the model hub.
export OMP_WAIT_POLICY := PASSIVE
export DAGSTER_DISABLE_TELEMETRY := 1
export HF_HUB_OFFLINE := 1
export TRANSFORMERS_OFFLINE := 1
export GX_ANALYTICS_ENABLED := false

.PHONY: help setup run smoke ui test check lock audit clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^#   //p' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt $(wildcard $(LOCK) $(LOCKS)-*.txt)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || \
	  { echo "latentvla needs Python 3.11 or 3.12: PYTHON=python3.11 make setup"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
ifeq ($(wildcard $(LOCK)),)
	$(PIP) install --quiet --constraint constraints.txt --editable ".[dev]"
else
	$(HASHED) $(LOCK)
	@# the CPU build of torch if the index has it, else the public one
	@$(HASHED) $(LOCKS)-cpu.txt 2> $(VENV)/torch.log || $(HASHED) $(LOCKS)-cuda.txt || { cat $(VENV)/torch.log; exit 1; }
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	$(PIP) check
endif
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

lock: $(STAMP)
	$(PIP) install --quiet --dry-run --ignore-installed --report $(VENV)/report.json --constraint constraints.txt ".[dev]"
	@$(BIN)/python .ci/lock.py $(LOCKS) < $(VENV)/report.json

audit: $(STAMP)
	$(PIP) check
	@test -x $(AUDIT)/bin/pip-audit || { $(PYTHON) -m venv $(AUDIT) && $(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check pip-audit; }
	@$(AUDIT)/bin/pip-audit --path $(VENV)/lib/python*/site-packages --skip-editable --progress-spinner off > $(VENV)/audit.txt 2>&1; status=$$?; \
	  if grep -qE "ConnectionError|ProxyError|Max retries|Failed to connect" $(VENV)/audit.txt; then \
	    tail -n 1 $(VENV)/audit.txt; \
	    echo "make audit: the packages fit together, but pypi.org, which knows vulnerabilities, did not answer:"; \
	    echo "  nothing was looked up; run it where pypi.org can be reached"; exit 2; fi; \
	  cat $(VENV)/audit.txt; exit $$status

clean:
	rm -rf $(VENV) *.egg-info build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .tmp_dagster_home_*
