# Two commands for everyone: `make demo` and `make test`. Each installs what it needs into .venv.
PYTHON ?= python3.11
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)
DEMO ?= demo
SECONDS ?= 600

.PHONY: demo test test-all test-wheel check docs fuzz bench bench-gpu clean

# Sharp and degraded digits: teacher and students learn from the same 40 labels; the control is a student with all.
demo: $(VENV)/.installed
	$(BIN)/cmkd run --data digits --labels 40 --methods none,self_training,kd,ds,all_labels --seeds 3 --preset full \
		--out $(DEMO)
	@echo
	@echo "Open $(DEMO)/report.html in a browser."

# Run the fast tests.
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -n auto --dist loadfile -m "not slow and not gpu"

test-all: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -n auto --dist loadfile -m "not gpu"

# Build the wheel, install it into fresh environments with and without extras, and run it there.
test-wheel: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q tests/test_packaging.py

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

# Build the pages under docs as a site: build/site/index.html works without a network.
docs: $(VENV)/.installed-dev
	$(BIN)/python -m mkdocs build --quiet
	@echo "Open build/site/index.html in a browser."

# Fuzz every reader with damaged and random inputs for SECONDS in total; findings are written to runs/fuzz, the table to
# benchmarks/results.
fuzz: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 PYTHONPATH=tests:benchmarks $(BIN)/python -m fuzz --seconds $(SECONDS)

# Run the speed benchmarks (about an hour on two cores), which write to benchmarks/results; docs/performance.md explains
# them.
bench: $(VENV)/.installed-dev
	set -e; for script in step overhead loading_speed uniformity scaling peers; do \
		OMP_NUM_THREADS=1 $(BIN)/python -W ignore benchmarks/speed/$$script.py; done

# Measure everything that a CUDA device changes, in less than eight minutes; without a device, it ends with one line.
bench-gpu: $(VENV)/.installed-dev
	$(BIN)/python -W ignore benchmarks/speed/gpu.py

clean:
	rm -rf $(VENV) $(DEMO)

# torch is installed first and alone, so that an index with a CPU build can provide it; packages that pin torch then
# accept this build.
$(VENV)/.installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) torch
	$(INSTALL) --editable ".[marine]"
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) --editable ".[dev]"
	@touch $@
