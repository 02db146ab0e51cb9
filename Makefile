PYTHON ?= python3
VERSION := $(shell $(PYTHON) -c 'import sys; print(f"py{sys.version_info[0]}{sys.version_info[1]}")')
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints/$(VERSION).txt
CORE := $(VENV)/.setup-core
FULL := $(VENV)/.setup-full
SWEEP ?= sweep
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint format bench gpu-check test-triton39 dist clean measured measured-table

help:  ## Say what each target does
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

$(CORE): pyproject.toml constraints/$(VERSION).txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	$(PIP) -e .
	touch $@

$(FULL): $(CORE) constraints/peers.txt
	$(PIP) -e '.[train,ray,slurm]' --group dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r constraints/peers.txt
	touch $@

setup: $(FULL)  ## Make the virtual environment with everything (exact versions)

demo: $(CORE)  ## Fit the bundled runs: growth laws, allocations, plots into demo/
	$(BIN)/python examples/demo.py

test: $(FULL)  ## Set up and run the tests (minutes; JOBS=2 files at a time)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

test-slow: $(FULL)  ## Run the slow tests (calibration, long sequences; up to hours)
	$(BIN)/python -m pytest -m slow

bench: $(FULL)  ## Time the loss-law fit beside PyMC, nutpie, NumPyro and L-BFGS (half an hour)
	test -x $(VENV)-bench/bin/python || $(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	$(VENV)-bench/bin/python -m pip install --quiet --disable-pip-version-check --group bench
	$(BIN)/python benchmarks/fit_speed.py --peers $(VENV)-bench/bin/python -o output/fit_speed.json

gpu-check: $(FULL)  ## On a CUDA machine: every kernel check and benchmark (8 minutes)
	$(BIN)/python benchmarks/gpu_check.py -o gpu_check.json

test-triton39:  ## Run the kernel tests on triton 3.9.0, in an environment of its own
	test -x $(VENV)-triton39/bin/python || $(PYTHON) -m venv $(VENV)-triton39
	$(VENV)-triton39/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 pytest==9.2.0 hypothesis==6.170.17 rich
	$(VENV)-triton39/bin/python -m pip install --quiet --disable-pip-version-check triton==3.9.0
	$(VENV)-triton39/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	cd tests/kernels && TRITON_INTERPRET=1 ../../$(VENV)-triton39/bin/python -m pytest --confcutdir=. -c ../../pyproject.toml . -k triton

lint: $(FULL)  ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(FULL)  ## Format and sort imports
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

measured: $(FULL)  ## Train the measured runs (hours; goes on where it stopped) and collect them
	$(BIN)/allometry corpus build --demo english --tokenizer bytes -o $(SWEEP)/corpus
	$(BIN)/allometry sweep run data/measured/plan.csv --corpus $(SWEEP)/corpus -o $(SWEEP)/measured --set validation_tokens=65536
	$(MAKE) measured-table

measured-table: $(FULL)  ## Write data/measured/ from the runs that are over so far
	$(BIN)/allometry sweep collect $(SWEEP)/measured -o data/measured/runs.csv

dist: $(FULL)  ## sdist, wheel from it, smoke test of the wheel in a clean venv
	$(BIN)/python -m build --outdir dist .
	sh .ci/smoke dist

clean:  ## Remove the virtual environment and everything built
	rm -rf $(VENV) dist demo .mypy_cache .ruff_cache .pytest_cache
