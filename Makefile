# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One test process a core with one thread each: two threads each would wait for one another.
JOBS ?= 2
ONE_THREAD = OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest
PYTEST = $(ONE_THREAD) -n $(JOBS) --dist loadfile
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-slow lint format completions clean

$(INSTALLED): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "distill3r needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[all,dev]'
	touch $@

demo: $(INSTALLED)  ## Render scenes, distil, evaluate, reconstruct: about 4 minutes on two idle cores, installation included.
	$(BIN)/distill3r demo

test: $(INSTALLED)  ## Every test; drills at a tenth of their count.
	$(PYTEST) -m 'not slow'

test-slow: $(INSTALLED)  ## Every test, drills at full count, the long runs.
	$(PYTEST) -m 'not alone' --full-drills --timeout 5400
	$(ONE_THREAD) -m alone

lint: $(INSTALLED)  ## Format, lint, types, layers.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

completions: $(INSTALLED)  ## Write completions/ anew from the command tree.
	$(BIN)/python -m distill3r_cli.completions

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build *.egg-info
