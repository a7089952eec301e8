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
#                locks/<platform>.txt, which `make setup` then obeys; commit it
#   make audit   known vulnerabilities of the installed packages, and whether they fit together
#                (asks pypi.org)
#   make clean   remove .venv and caches; lake/, with Dagster's history, is kept
#
#   PYTHON=python3.12 make setup   choose the interpreter (3.11 or 3.12)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2
PLATFORM := $(shell $(PYTHON) -c 'import sys, sysconfig; print("cp%d%d-%s" % (*sys.version_info[:2], sysconfig.get_platform()))' 2>/dev/null)
LOCK := locks/$(PLATFORM).txt
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

$(STAMP): pyproject.toml constraints.txt $(wildcard $(LOCK))
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || \
	  { echo "latentvla needs Python 3.11 or 3.12: PYTHON=python3.11 make setup"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
ifeq ($(wildcard $(LOCK)),)
	$(PIP) install --quiet --constraint constraints.txt --editable ".[dev]"
else
	$(PIP) install --quiet --no-deps --require-hashes --requirement $(LOCK)
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
	@mkdir -p locks
	$(PIP) install --quiet --dry-run --ignore-installed --report $(VENV)/report.json --constraint constraints.txt ".[dev]"
	@$(BIN)/python .ci/lock.py < $(VENV)/report.json > $(VENV)/lock.txt
	@mv $(VENV)/lock.txt $(LOCK) && echo "$(LOCK): `grep -c sha256 $(LOCK)` packages"

audit: $(STAMP)
	$(PIP) check
	@test -x $(AUDIT)/bin/pip-audit || { $(PYTHON) -m venv $(AUDIT) && $(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check pip-audit; }
	@$(AUDIT)/bin/pip-audit --path $(VENV)/lib/python*/site-packages --skip-editable --progress-spinner off > $(VENV)/audit.txt 2>&1; status=$$?; \
	  cat $(VENV)/audit.txt; \
	  if grep -qE "ConnectionError|Max retries|Failed to connect" $(VENV)/audit.txt; then \
	    echo "make audit asks pypi.org, which cannot be reached from here: nothing was audited"; exit 2; fi; \
	  exit $$status

clean:
	rm -rf $(VENV) *.egg-info build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .tmp_dagster_home_*
