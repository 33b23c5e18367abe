# make demo, make test: all that a checkout needs, on a machine with Python >= 3.11 (with venv) and make.
# Everything goes into .venv; it is made once and again when pyproject.toml or constraints.txt change.
#   PYTHON=...  the interpreter to use      VENV=...  another folder for it      ARGS=...  passed on to the command

VENV ?= .venv
BIN := $(VENV)/bin
# Tests start many processes: what Python compiles is kept with the environment, also where it is told to keep nothing.
export PYTHONPYCACHEPREFIX := $(abspath $(VENV))/bytecode
export PYTHONDONTWRITEBYTECODE :=
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq install --no-compile --constraint constraints.txt

.PHONY: help demo test lint format bench constraints clean
.DELETE_ON_ERROR:

help:
	@echo "make demo         a simulated crystal, from the wire to the atoms, in this terminal"
	@echo "make test         every check: ruff, mypy, import contracts, tests"
	@echo "make lint         the checks without the tests"
	@echo "make format       put the code into shape"
	@echo "make bench        how fast it is here"
	@echo "make constraints  pin the newest versions that work together"
	@echo "make clean        remove .venv and the caches"

demo: $(VENV)/.run
	@$(BIN)/tumble demo $(ARGS)

# Most of the arithmetic runs beside what starts programs, each on a core of its own, and is printed after it. It begins while
# the code is checked, with what compiles most kernels; what needs some of them comes last in front, and finds them then. What
# sends itself signals stays in front: a shell begins what is behind with some of them ignored.
LINT := $(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports --no-logo
NUMBERS := tests/daemon/test_bench.py tests/benchmarks/test_long.py tests/recon/metrics tests/recon/solvers \
	$(wildcard tests/recon/test_*.py)
LAST := tests/daemon tests/benchmarks tests/recon
PROGRAMS := $(filter-out $(LAST) %conftest.py %__pycache__,$(wildcard tests/*)) $(LAST)
ifdef ARGS
test: lint
	@$(BIN)/pytest $(ARGS)
else
test: $(VENV)/.test
	@$(BIN)/pytest -p no:cacheprovider $(NUMBERS) > $(VENV)/numbers.txt 2>&1 & numbers=$$!; \
	($(LINT)) || { kill $$numbers; exit 1; }; \
	$(BIN)/pytest $(addprefix --ignore=,$(NUMBERS)) $(PROGRAMS); programs=$$?; \
	wait $$numbers; numbers=$$?; cat $(VENV)/numbers.txt; exit $$((programs || numbers))
endif

lint: $(VENV)/.test
	@$(LINT)

format: $(VENV)/.test
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.run
	@$(BIN)/tumble bench $(ARGS)

# A Python is suitable when it is new enough and can make virtual environments (some systems package that apart).
$(VENV)/.python:
	@for python in $(or $(PYTHON),python3.13 python3.12 python3.11 python3); do \
	  if "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "Setting up $(VENV) with $$("$$python" --version), once ..."; \
	    rm -rf "$(VENV)" && "$$python" -m venv "$(VENV)" && touch "$@" && exit 0; exit 1; \
	  fi; \
	done; \
	echo "No Python >= 3.11 with venv was found: install python3 and python3-venv, or name one: make PYTHON=/path" >&2; \
	exit 1

# No build isolation: setuptools is pinned like everything else.
$(VENV)/.run: $(VENV)/.python pyproject.toml constraints.txt
	@$(PIP) setuptools
	@$(PIP) --no-build-isolation --editable .
	@touch "$@"

$(VENV)/.test: $(VENV)/.python pyproject.toml constraints.txt
	@$(PIP) setuptools
	@$(PIP) --no-build-isolation --editable ".[test]"
	@touch "$(VENV)/.run" "$@"

# Versions for every supported Python at once, without addresses of any index.
constraints: $(VENV)/.python
	@$(BIN)/python -m pip --disable-pip-version-check --quiet install uv
	@{ echo "# Made by \`make constraints\`: every version that was tried together."; \
	  $(BIN)/uv pip compile --quiet --universal --upgrade --python-version 3.11 --fork-strategy fewest \
	    --extra gpu --extra multislice --extra test --no-header --no-annotate \
	    --no-emit-index-url --no-emit-find-links pyproject.toml | sed 's/ ; (platform_machine.*//'; \
	} > constraints.new
	@test "$$(wc -l < constraints.new)" -gt 10 || { rm -f constraints.new; echo "nothing was resolved" >&2; exit 1; }
	@mv constraints.new constraints.txt

clean:
	@rm -rf "$(VENV)" build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -not -path "./.*" -prune -exec rm -rf {} +
