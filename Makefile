# Each target sets up what it needs by itself: a virtual environment in .venv with the versions of constraints.txt.
# A machine needs Python 3.10 to 3.14, git and make.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 15))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
# Tests wait half of their time, so two cores serve five processes. The tests of one file stay together: they
# share a Hub, and often an Airflow. The files stay in the order of collection: tests/conftest.py puts the longest first.
PROCESSES ?= 5
PYTEST = $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder
# Further arguments for pytest or for the script of a target: make test ARGS="tests/unit/xet/test_token.py -k fresh".
ARGS ?=
# Without a path, all tests but those of make compat.
PATHS = $(if $(filter tests/%,$(ARGS)),,tests --ignore tests/compat)
INSTALLED := .venv/.installed
# The three distributions of this repository.
PROJECTS := pyproject.toml provider/local/pyproject.toml provider/token/pyproject.toml
# The tests start hundreds of processes, and each starts three times as fast with bytecode on disk.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test test-unit test-long test-exhaustive test-clients conformance simulate leaks faults chaos \
	system-calls coverage mutants compat compat-pins bench bench-docs scale scale-docs bench-local lint docs screenshots \
	constraints dist clean

help:  ## Show the targets.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(INSTALLED): $(PROJECTS) constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.10 to 3.14 is needed; name it with make PYTHON=…" >&2; exit 1; }
	@echo "Installing into .venv (half a minute) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv  # another Python over one that is there would mix both
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt \
		--editable '.[local]' --editable provider/local --editable provider/token \
		--group test --group parquet --group lint --group docs --group release
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --no-deps --group demo
	@touch $@

setup: $(INSTALLED)  ## Install everything into .venv.

demo: $(INSTALLED)  ## Run the quick start in a real Airflow against a local Hub, and show what happened.
	@$(BIN)/python tests/demo/run.py

test: $(INSTALLED)  ## Run the tests, or some of them: make test ARGS="tests/unit/xet/test_token.py -k fresh".
	$(PYTEST) -m "not long" $(PATHS) $(ARGS)

test-unit: $(INSTALLED)  ## Run the tests that need no server and no database (a minute).
	$(PYTEST) tests/unit $(ARGS)

# Others are not even collected.
test-long: PATHS = $(if $(filter tests/%,$(ARGS)),,$(shell grep --recursive --files-with-matches --include 'test_*.py' \
	'mark\.long' tests | sort))
test-long: $(INSTALLED)  ## Run the tests that need Node 20, Chromium, other servers or minutes.
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --group long
	$(PYTEST) -m long $(PATHS) $(ARGS)

test-exhaustive: $(INSTALLED)  ## Run the property tests with new examples, twenty times as many, and the largest files (an hour).
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --group long
	$(PYTEST) -m "hypothesis and not long or exhaustive" --hypothesis-profile exhaustive --timeout 3600 $(PATHS) $(ARGS)

test-clients: $(INSTALLED)  ## Run the client libraries' own tests against the local Hub.
	@$(BIN)/python tests/local/clients/suites/run.py $(ARGS)

conformance: $(INSTALLED)  ## Compare the local Hub with what is known about the real one; runs test-clients, too.
	@$(BIN)/python tests/local/conformance/run.py $(ARGS)

SEED ?=
MINUTES ?=
simulate: $(INSTALLED)  ## Run the provider in a world full of faults, drawn from a seed: make simulate SEED=7 MINUTES=5.
	@PYTHONPATH=tests $(BIN)/python -m simulation $(if $(SEED),--seed $(SEED)) \
		$(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

CALLS ?= all
system-calls: $(INSTALLED)  ## Let every system call of each task fail, or a few: make system-calls CALLS=some (an hour, 2 minutes).
	XETHUB_CALLS=$(CALLS) $(PYTEST) -rP -m long tests/system/test_every_system_call.py $(ARGS)

leaks: $(INSTALLED)  ## Search all that a real Airflow leaves behind for credentials (15 minutes, ARGS=--quick: 2).
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt apache-airflow-providers-openlineage
	@PYTHONPATH=tests $(BIN)/python -m leaks $(ARGS)

chaos: $(INSTALLED)  ## Kill the processes of a distributed Airflow while tasks run: make chaos SEED=7 ARGS="--tasks 12 --minutes 3".
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --group long
	@PYTHONPATH=tests $(BIN)/python -m chaos $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

faults: $(INSTALLED)  ## Run every operator against every fault of the local Hub: make faults ARGS="--rows 'upload*'".
	@PYTHONPATH=tests $(BIN)/python -m faults $(ARGS)

coverage: $(INSTALLED)  ## Measure the branches of the code that decides whether content is right, by its tests (4 minutes).
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --group mutants
	$(PYTEST) -m "not long" $$(PYTHONPATH=tests $(BIN)/python -m mutants.modules) $(ARGS)

mutants: $(INSTALLED)  ## Change that code in small ways, and see whether its tests notice: make mutants ARGS="token repo".
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --group mutants
	@PYTHONPATH=tests nice $(BIN)/python -m mutants $(ARGS)

compat: $(INSTALLED)  ## Run the tests that meet Airflow on 3.0 to 3.4, and with the oldest dependencies.
	@$(BIN)/python tests/compat/run.py $(ARGS)

compat-pins: $(INSTALLED)  ## Pin the versions that make compat runs with.
	@$(BIN)/python tests/compat/run.py --pin

bench: $(INSTALLED)  ## Compare the operators with huggingface_hub in a task, and with the bare client (50 to 70 minutes).
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --group long
	@PYTHONPATH=tests $(BIN)/python -m benchmarks.bench $(ARGS)

bench-docs: $(INSTALLED)  ## Write the results of make bench into the documentation.
	@PYTHONPATH=tests $(BIN)/python -m benchmarks.bench --report-only

scale: $(INSTALLED)  ## Measure how tasks grow with files, bytes, tasks and triggers (half an hour).
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --group long
	@PYTHONPATH=tests $(BIN)/python -m benchmarks.scale $(ARGS)

scale-docs: $(INSTALLED)  ## Write the results of make scale into the documentation.
	@PYTHONPATH=tests $(BIN)/python -m benchmarks.scale --report-only

bench-local: $(INSTALLED)  ## Compare the local Hub with the client's built-in store.
	@PYTHONPATH=tests $(BIN)/python -m benchmarks.local_hub $(ARGS)

lint: $(INSTALLED)  ## Check style, types and what may import what.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

docs: $(INSTALLED)  ## Build the documentation into docs/_build/html, and check its links.
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	$(BIN)/python tests/support/site_links.py docs/_build/html
	@echo "Open docs/_build/html/index.html"

screenshots: $(INSTALLED)  ## Take the pictures of the documentation again, in Chromium.
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --group long
	XETHUB_SCREENSHOTS=1 $(BIN)/python -m pytest -m long tests/system/ui tests/system/test_pages_in_chromium.py

constraints: $(INSTALLED)  ## Pin the newest versions that fit, for all supported Pythons.
	$(BIN)/uv pip compile --universal --python-version 3.10 --upgrade --no-emit-index-url --no-emit-find-links \
		--no-annotate --no-header --all-extras --group test --group parquet --group long --group lint --group docs \
		--group demo --group install --group release --group mutants --no-emit-package xethub-local \
		$(PROJECTS) --output-file constraints.txt

dist: $(INSTALLED)  ## Build the wheels and sdists of what is committed into dist, with their bills of materials.
	@rm -rf dist
	@git diff --quiet HEAD || echo "Uncommitted changes are not in dist." >&2
	@checkout=$$(mktemp -d) && trap 'rm -rf "$$checkout"' EXIT && git archive HEAD | tar -x -C "$$checkout" && \
		PYTHONPATH=tests env -u SOURCE_DATE_EPOCH $(BIN)/python -m support.distributions "$$checkout" dist
	@PYTHONPATH=tests $(BIN)/python -m support.sbom dist
	@cd dist && sha256sum *.whl *.tar.gz *.cdx.json > SHA256SUMS

clean:  ## Remove everything that the other targets made.
	rm -rf .venv .compat dist .clients .demo .coverage docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis
