# `make help` lists what there is; a target without a `##` sentence is a step of another one.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help run stop uninstall test check format table bench mounts packages-run packages-test
unexport PYTHONDONTWRITEBYTECODE

PYTHON := .venv/bin/python
PIP := $(PYTHON) -m pip install --quiet --disable-pip-version-check --constraint install/constraints.txt
TESTS ?= tests
PYTEST ?=

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

run: packages-run mounts .make/run ## Install what is missing, start the service, run a container through it
	@$(PYTHON) -m install.run

stop: ## Stop listening; containers go on
	@/usr/bin/python3 -m install.stop

uninstall: ## Stop containers and service, remove what was installed outside this folder (PURGE=1: images and volumes too)
	@/usr/bin/python3 -m install.uninstall $(if $(PURGE),--purge)

test: packages-test mounts .make/test ## Install what is missing, then lint, types and all tests (TESTS=tests/house for some)
	@$(MAKE) --no-print-directory check; checked=$$?; $(PYTHON) -m tests.twice $(PYTEST) $(TESTS) && exit $$checked

check: .make/test ## Format, lint and types
	@$(PYTHON) -m ruff format --check . && $(PYTHON) -m ruff check . && $(PYTHON) -m mypy

format: .make/test ## Format all Python files
	@$(PYTHON) -m ruff format --quiet .
	@$(PYTHON) -m ruff check --quiet --fix-only .

table: .make/test ## Write the README's table of served operations anew
	@$(PYTHON) -m tests.house.operations_table

bench: packages-test .make/test ## Measure against dockerd and podman where they are installed (docs/performance.md)
	@$(PYTHON) -m tests.bench

mounts:
	@/usr/bin/python3 -m install.mounts

packages-run:
	@install/packages run

packages-test:
	@install/packages test

# The environment sees Debian's packages: python3-systemd comes from there, so that no compiler is needed.
$(PYTHON):
	@/usr/bin/python3 -m venv --system-site-packages .venv

.make/run: pyproject.toml install/constraints.txt | $(PYTHON)
	@mkdir -p .make
	@/usr/bin/python3 -m install.requirements client >$@.txt
	@$(PIP) -r $@.txt
	@touch $@

.make/test: pyproject.toml install/constraints.txt | $(PYTHON)
	@mkdir -p .make
	@/usr/bin/python3 -m install.requirements client test >$@.txt
	@$(PIP) -r $@.txt
	@touch $@ .make/run
