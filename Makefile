# Everything a newcomer runs. Each target makes the environment it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := .demo


.PHONY: .python demo test services check test-export test-trt bench-pipeline bench-poison bench-decode bench-online fuzz-media chaos bench-engines bench-marks lock clean

demo: $(VENV)/.base
	@bash scripts/demo.sh $(BIN) $(DEMO) $(PAIR)

# TESTS narrows it: make test TESTS=tests/jobs
test: services
	$(BIN)/pytest $(TESTS)

# What tests talk to: a server that speaks S3, Redis, PostgreSQL; and a browser.
services: $(VENV)/.dev .venv-s3/.done .redis/.done .postgres/.done .chromium/.done

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/docs_drift.py
	$(BIN)/python -m scripts.openapi
	$(BIN)/python -m benchmarks.tables --check

# What needs torch: the export of open_clip models, the programs that torch compiles, and training.
test-export: .venv-export/.done
	.venv-export/bin/pytest tests/engines/export tests/engines/inductor tests/engines/precision/test_exported_towers.py tests/training/marks

# What TensorRT does without a GPU: TensorRT-RTX builds for other machines, and our calls are checked
# against TensorRT's own signatures. It shares the environment with torch, which exports its models.
test-trt: .venv-export/.done .venv-export/stubs/.done
	REELSIGHT_TRT_REQUIRED=1 .venv-export/bin/pytest -m "not gpu and not tensorrt" tests/engines/trt tests/engines/cuda
	.venv-export/bin/pytest -rs tests/engines/test_end_to_end.py

bench-pipeline: .venv-export/.done
	.venv-export/bin/python -m benchmarks.pipeline
	.venv-export/bin/python -m benchmarks.tables

# Against decord, torchcodec, OpenCV and the ffmpeg command (the package `ffmpeg` of the system, whose
# libraries torchcodec loads too; without it both are reported as absent).
bench-decode: .venv-bench-decode/.done
	.venv-bench-decode/bin/python -m benchmarks.decode
	.venv-bench-decode/bin/python -m benchmarks.tables

# Against FastAPI with torch, LitServe, and Ray Serve's own tutorial. COMPARED, OVERLOAD
# and SOAK are the flags of its three programs.
bench-online: .venv-bench-online/.done
	.venv-bench-online/bin/python -m benchmarks.online $(COMPARED)
	.venv-bench-online/bin/python -m benchmarks.online.overload $(OVERLOAD)
	.venv-bench-online/bin/python -m benchmarks.online.soak $(SOAK)
	.venv-bench-online/bin/python -m benchmarks.tables

# Clips that crash, hang and burst their decoder, in a whole run.
bench-poison: $(VENV)/.dev
	$(BIN)/python -m benchmarks.poison
	$(BIN)/python -m benchmarks.tables

# Kills processes of a run, its drivers among them: make chaos KILLS=100
KILLS ?= 20
chaos: $(VENV)/.dev
	REELSIGHT_CHAOS_KILLS=$(KILLS) $(BIN)/pytest -s tests/chaos

# Any number of broken files: make fuzz-media N=100000
N ?= 2000
fuzz-media: $(VENV)/.dev
	$(BIN)/python -m scripts.fuzz_media --files $(N)

# On the GPU that is there, in an environment with torch for it, open_clip, transformers and onnxruntime-gpu.
bench-engines:
	PYTHONPATH=platform:. $(PYTHON) -m benchmarks.engines --profile
	PYTHONPATH=platform:. $(PYTHON) -m benchmarks.tables

# The null and the power of leak tracing: a million codes that are nobody's, and marked copies. With
# PAIR=DIR that pair beside invisible-watermark on real clips, too.
bench-marks: .venv-bench-marks/.done
	.venv-bench-marks/bin/python -m benchmarks.marks --pair $(or $(PAIR),platform/reelsight/models/mark)
	.venv-bench-marks/bin/python -m benchmarks.tables

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

# What needs more than the development lock: .venv-NAME of requirements/NAME.txt.
.venv-%/.done: requirements/dev.lock requirements/%.txt pyproject.toml | .python
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/$*.txt
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Made of proprietary files: never part of the repository or of a package.
.venv-export/stubs/.done: scripts/trt_stubs.py .venv-export/.done
	.venv-export/bin/python scripts/trt_stubs.py .venv-export/stubs
	@touch $@

# A server that speaks S3, for the tests of registries and of runs: its dependencies and Ray's exclude
# each other.
.venv-s3/.done: requirements/s3.txt | .python
	$(PYTHON) -m venv .venv-s3
	.venv-s3/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/s3.txt
	@touch $@

# PostgreSQL and its driver, for the tests of the ledger.
.postgres/.done: scripts/postgres_server.sh requirements/postgres.txt $(VENV)/.dev
	@bash scripts/postgres_server.sh .postgres
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/postgres.txt
	@if [ -x .postgres/bin/postgres ]; then touch $@; fi

# A Redis server, for the tests of the shared pointer to the current bank.
.redis/.done: scripts/redis_server.sh
	@bash scripts/redis_server.sh .redis

# A headless Chromium, for the test that looks at a page of evidence.
.chromium/.done: scripts/chromium.sh
	@bash scripts/chromium.sh .chromium

# Needs uv; writes locks with hashes that name no index.
lock:
	uv pip compile pyproject.toml requirements/build.in -c requirements/constraints.in --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" -o requirements/base.lock
	uv pip compile pyproject.toml requirements/build.in --extra dev -c requirements/constraints.in --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" -c requirements/base.lock -o requirements/dev.lock

clean:
	rm -rf $(VENV) .venv-export .venv-bench-decode .venv-bench-online .venv-bench-marks .venv-s3 .redis .postgres .chromium $(DEMO) .bench-decode .bench-poison .mypy_cache .ruff_cache .import_linter_cache
