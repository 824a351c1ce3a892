# Every target sets itself up: it needs python3 >= 3.10 with venv and pip, and nothing else.
# Run time and tests need libseccomp.so.2 (Debian: libseccomp2, part of the base system).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# All distributions of this repository, the contract first. They are installed by one pip command:
# pip then takes each from here and never asks an index for it (docs/install.md says why).
PARTS := hookspecs $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml contrib/*/pyproject.toml))
MANIFESTS := pyproject.toml bin/nemoclaw constraints.txt $(PARTS:%=%/pyproject.toml)
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# Processes that run tests side by side. Many tests wait, so a few more than there are cores.
JOBS ?= 3

.DEFAULT_GOAL := help
.PHONY: help install demo test lint bench wheels clean

help:
	@echo 'make demo     watch a scripted agent try to get out'
	@echo 'make test     lint, then every test'
	@echo 'make lint     ruff and mypy'
	@echo 'make bench    measure'
	@echo 'make wheels   build every distribution into dist/'
	@echo 'make clean    remove what the other targets made'

install: $(INSTALLED)

# The build backend comes first and by its pinned version; isolated builds would ignore constraints.
$(INSTALLED): $(MANIFESTS)
	test -x $(BIN)/python || $(PYTHON) -m venv --clear $(VENV)
	$(PIP) install --constraint constraints.txt hatchling editables
	$(PIP) install --constraint constraints.txt --no-build-isolation \
		$(PARTS:%=--editable ./%) --editable '.[dev]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/nemoclaw demo

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/pytest -n $(JOBS) --dist loadfile

bench: $(INSTALLED)
	$(BIN)/python -m bench

wheels: $(INSTALLED)
	rm -rf dist
	for part in $(PARTS) .; do $(BIN)/python -m build --no-isolation --wheel --outdir dist $$part || exit 1; done

clean:
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
