# Every target makes its own virtual environment first, with the versions that constraints.txt pins.
# On a machine without a GPU, PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu gets the much smaller torch.

PYTHON ?= python3
VENV ?= .venv
VENV_MIN ?= .venv-min
JOBS ?= logical

OFFLINE := HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 HF_DATASETS_OFFLINE=1
# One thread per process: the tests' models are small, and worker processes keep the cores busy.
PYTEST := env $(OFFLINE) OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
PYTEST_ARGS := -n $(JOBS) --maxprocesses 8 --dist worksteal

# What breaks most often, a room or two in each file, in well under a minute on two cores.
QUICK := package doctests data_files examples loading grounding rendering encoding collator objectives schedules \
	settings tiles trainer numbers scores

.DEFAULT_GOAL := help
.PHONY: help demo check test test-min lint format clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{ printf "%-18s%s\n", $$1, $$2 }'

# $(call install,environment,constraints file)
define install
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
  echo 'cattune needs Python 3.11 or newer, and "$(PYTHON)" is not; name one that is: make PYTHON=python3.12 ...' >&2; exit 1; }
$(PYTHON) -m venv $(1)
$(1)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' --constraint $(2)
@touch $(1)/.installed
endef

$(VENV)/.installed: pyproject.toml constraints.txt
	$(call install,$(VENV),constraints.txt)

$(VENV_MIN)/.installed: pyproject.toml constraints-min.txt
	$(call install,$(VENV_MIN),constraints-min.txt)

demo: $(VENV)/.installed ## train the demo's small models and write demo/report.html
	$(OFFLINE) $(VENV)/bin/cattune demo --out demo --overwrite
	@echo 'The report is demo/report.html; its numbers are in demo/results.json.'

check: lint ## style, types and the quickest tests, in under a minute: before each commit
	$(PYTEST) $(VENV)/bin/python -m pytest -q $(PYTEST_ARGS) -m 'not slow' $(QUICK:%=tests/test_%.py)

test: $(VENV)/.installed ## run the tests; needs no network once installed
	$(PYTEST) $(VENV)/bin/python -m pytest $(PYTEST_ARGS)

test-min: $(VENV_MIN)/.installed ## run the tests on the lowest supported versions
	$(PYTEST) $(VENV_MIN)/bin/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.installed ## check style, formatting and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/.installed ## format the code and fix what ruff can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean: ## remove the environments, the demo's output and the caches
	rm -rf $(VENV) $(VENV_MIN) demo dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
