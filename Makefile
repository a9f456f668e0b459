# make demo: see it work, from nothing. make test: every test but the long ones. Needs only Python >= 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-fast test-long lint constraints clean help

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

demo: $(STAMP)  ## back up, destroy, restore and prove it, in about half a minute
	$(BIN)/invoke demo

test: $(STAMP)  ## lint, types, and every test but the long ones
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n 2 -m "not long"

test-fast: $(STAMP)  ## only the quick tests
	$(BIN)/pytest -n 2 -m "not long and not slow"

test-long: $(STAMP)  ## the long tests: fault injection, bit flips, the whole matrix
	$(BIN)/pytest -n 2 -m long

lint: $(STAMP)  ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Everything that is installed is named with its hash. The package itself comes from this folder.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(STAMP)

constraints:  ## write constraints.txt anew from pyproject.toml (pip install uv first)
	$(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --all-extras -o constraints.txt pyproject.toml

clean:  ## remove what was installed and made
	rm -rf $(VENV) .demo .bench .pytest_cache .mypy_cache .ruff_cache .hypothesis
