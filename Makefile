# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-slow lint format completions clean

$(INSTALLED): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "distill3r needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[all,dev]'
	touch $@

demo: $(INSTALLED)  ## Render scenes, distil, evaluate, reconstruct: about 4 minutes on two cores.
	$(BIN)/distill3r demo

test: $(INSTALLED)  ## Every test; drills at a tenth of their count.
	$(BIN)/python -m pytest -m 'not slow'

test-slow: $(INSTALLED)  ## Every test, drills at full count, the long runs.
	$(BIN)/python -m pytest --full-drills --timeout 5400

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
