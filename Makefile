# Every command a newcomer or a maintainer types. Needs Python >= 3.11 and make; the rest goes into .venv.
# demo, test, lint, nightly and wheel leave the files under version control alone;
# golden, docs and bench exist to rewrite some of them. Written for make 3.81 (macOS) and later.

JOBS ?= 2
TESTS ?= tests
PYTEST_ARGS ?=
PIP_ARGS ?=
N ?= 200
SEED ?= 0

VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
PY := $(BIN)/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet
PYTEST = $(PY) -m pytest -n $(JOBS) $(PYTEST_ARGS)

.DEFAULT_GOAL := help
.PHONY: help demo test lint golden nightly coverage fuzz mutants bench docs site wheel clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.installed ## install gradc and watch it work on real data
	@$(BIN)/gradc demo

test: lint ## lint, then the whole test suite
	$(PYTEST) $(TESTS)

lint: $(VENV)/.installed-dev ## ruff and the type checker
	$(PY) -m ruff check .
	$(PY) -m mypy

golden: $(VENV)/.installed-dev ## rewrite tests/golden from what the code prints now
	$(PYTEST) --update-golden $(TESTS)

nightly: lint ## the long test run: thousands of random programs
	$(PYTEST) --nightly $(TESTS)

coverage: $(VENV)/.installed-dev ## which lines of gradc the tests reach: a table, and build/coverage/index.html
	$(PYTEST) --cov=gradc --cov-report=term:skip-covered --cov-report=html:build/coverage $(TESTS)

fuzz: $(VENV)/.installed-dev ## random programs over the whole surface: make fuzz N=100000 SEED=0
	$(PY) -m tests.fuzz -n $(N) --seed $(SEED)

mutants: $(VENV)/.installed-dev ## plant N small faults one at a time: do the tests notice? make mutants N=300 SEED=0
	$(PY) -m tests.mutants -n $(N) --seed $(SEED)

bench: $(VENV)/.installed-bench ## time gradc beside its peers; rewrites docs/benchmarks.md
	$(PY) -m tests.bench --threads 1,2 --write

docs: $(VENV)/.installed-dev ## rewrite the generated pages of docs/
	$(PY) docs/generate.py

site: $(VENV)/.installed-site ## the documentation as a web site in build/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet
	@echo "open build/site/index.html"

wheel: $(VENV)/.installed ## build a wheel into dist/
	@$(PIP) wheel . --no-deps --wheel-dir dist $(PIP_ARGS)
	@ls dist/*.whl

clean: ## remove the environment and everything built
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .fuzz .mutants
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp per set of extras: a change of pyproject.toml installs again, anything else does not, for the
# installation is editable. The version is read at build time, so it is a prerequisite too.
INSTALL_INPUTS := pyproject.toml gradc/version.py

$(VENV)/.installed: $(INSTALL_INPUTS) | $(PY)
	@echo "installing gradc into $(VENV) ..."
	@$(PIP) install $(PIP_ARGS) --editable .
	@touch $@

$(VENV)/.installed-dev: $(INSTALL_INPUTS) | $(PY)
	@echo "installing gradc and its development tools into $(VENV) ..."
	@$(PIP) install $(PIP_ARGS) --editable '.[dev]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-bench: $(INSTALL_INPUTS) | $(PY)
	@echo "installing gradc, JAX, PyTorch, CasADi and numba into $(VENV) (large) ..."
	@$(PIP) install $(PIP_ARGS) --editable '.[dev,bench]'
	@touch $(VENV)/.installed $(VENV)/.installed-dev $@

$(VENV)/.installed-site: $(INSTALL_INPUTS) | $(PY)
	@echo "installing gradc and its documentation tools into $(VENV) ..."
	@$(PIP) install $(PIP_ARGS) --editable '.[site]'
	@touch $(VENV)/.installed $@

# PYTHON=... chooses an interpreter; otherwise the first of these that is new enough and can make environments.
PYTHON ?=
NEW_ENOUGH := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))

$(PY):
	@for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 python; do \
	    if $$python -c '$(NEW_ENOUGH)' >/dev/null 2>&1; then \
	        echo "creating $(VENV) with $$($$python --version) ..."; \
	        $$python -m venv $(VENV) && exit 0; \
	        rm -rf $(VENV); exit 1; \
	    fi; \
	done; \
	echo "gradc needs Python 3.11 or newer with its venv module (on Debian and Ubuntu: apt install python3-venv)." >&2; \
	echo "Found: $$(python3 --version 2>&1). Name another one with: make PYTHON=/path/to/python" >&2; \
	exit 1
