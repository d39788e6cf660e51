# Two commands for everyone: `make demo` and `make test`. Each makes what it needs.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= demo

.PHONY: demo test test-all check clean

# Ships and radar from physics. The teacher has the labels of its optical images; of the radar images the students see
# one label in ten, and all pairs.
demo: $(VENV)/.installed
	$(BIN)/cmkd run --data marine --methods none,kd,ds --seeds 3 --epochs 30 --teacher.size 48 --student.size 48 \
		--student.labeled 0.1 --out $(DEMO)
	@echo
	@echo "Open $(DEMO)/report.html in a browser."

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -n auto -m "not slow and not gpu"

test-all: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -n auto -m "not gpu"

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(DEMO)

# constraints.txt holds the versions the suite was run with. torch is asked for first and alone, so that an index that
# offers a build for the CPU can give it; its pinned companions are then satisfied by it.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $@
