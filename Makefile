# Two commands: `make eval` and `make test`. Each sets up what it needs; `make check` is what CI adds.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: eval test check format bench clean

eval: $(VENV)/.eval  ## run the main suite on data and a model that come with it
	$(BIN)/pytest --gpueval-suite guardrails_ru --gpus auto

test: $(VENV)/.test  ## the whole test suite
	$(BIN)/coverage run -m pytest -n auto
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

check: $(VENV)/.check  ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.check
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.test  ## figures of the README, side by side
	$(BIN)/python -m benchmarks

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11, 3.12 or 3.13 is needed, this is " + sys.version.split()[0] + "; name another one: make PYTHON=python3.12 ...")'
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.eval: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing what the main suite needs (about 400 MB on disk, a minute or two, once)"
	@$(PIP) install --constraint constraints.txt --editable '.[guardrails-ru]'
	@touch $@

$(VENV)/.test: $(VENV)/.eval
	@echo "Installing what the tests need"
	@$(PIP) install --constraint constraints.txt --editable '.[all]' --group test
	@touch $@

$(VENV)/.check: $(VENV)/.test
	@echo "Installing what the checks need"
	@$(PIP) install --constraint constraints.txt --group check
	@touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
