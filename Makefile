# Everything a newcomer runs. Each target makes the environment it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := .demo


.PHONY: .python demo test check test-export bench-pipeline lock clean

demo: $(VENV)/.base
	@bash scripts/demo.sh $(BIN) $(DEMO)

test: $(VENV)/.dev
	$(BIN)/pytest

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/docs_drift.py
	$(BIN)/python -m benchmarks.tables --check

# What needs torch: the export of open_clip models, and the programs that torch compiles.
test-export: .venv-export/.done
	.venv-export/bin/pytest tests/engines/export tests/engines/inductor tests/engines/precision

bench-pipeline: .venv-export/.done
	.venv-export/bin/python -m benchmarks.pipeline
	.venv-export/bin/python -m benchmarks.tables

.python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"Python 3.11 or newer is needed, {sys.executable} is {v[0]}.{v[1]}: make PYTHON=python3.11 ...")'

$(VENV)/.base: requirements/base.lock pyproject.toml | .python
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/base.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.lock $(VENV)/.base
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@touch $@

.venv-export/.done: requirements/dev.lock requirements/export.txt pyproject.toml | .python
	$(PYTHON) -m venv .venv-export
	.venv-export/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	.venv-export/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/export.txt
	.venv-export/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Needs uv; writes locks with hashes that name no index.
lock:
	uv pip compile pyproject.toml requirements/build.in --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" -o requirements/base.lock
	uv pip compile pyproject.toml requirements/build.in --extra dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" -c requirements/base.lock -o requirements/dev.lock

clean:
	rm -rf $(VENV) .venv-export $(DEMO) .mypy_cache .ruff_cache .import_linter_cache
