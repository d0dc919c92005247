# make demo   the main job on an embedded sample, each command with its output
# make test   the tests
# make check  lint, format, types
# make fuzz   what parses foreign bytes, with atheris; FUZZ_ARGS="--seconds 600 answers" for longer, for one target
# make bench  measure: a table of ratios; BENCH_ARGS="--only no-op" for some of it, BENCH_ARGS=--help for more
#
# Each makes its own .venv; all that is needed is Python >= 3.11, make and git.

PYTHON ?= python3
BIN := .venv/bin
PYTEST_ARGS ?=
BENCH_ARGS ?=
FUZZ_ARGS ?=

.PHONY: demo test check format bench torture fuzz clean

demo: .venv/ready
	@$(BIN)/python examples/demo.py

test: .venv/ready-test
	$(BIN)/python -m pytest -n 3 --dist loadfile $(PYTEST_ARGS)

torture: .venv/ready-test
	MAILSYNC_TORTURE=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "torture or tried" --tried=README.rst $(PYTEST_ARGS)

fuzz: .venv/ready-fuzz
	@$(BIN)/python -m tests.fuzz $(FUZZ_ARGS)

check: .venv/ready-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: .venv/ready-test
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: .venv/ready
	@$(BIN)/python -m bench $(BENCH_ARGS)

clean:
	rm -rf .venv build dist

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/ready-test: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[test,check]"
	@touch $@

.venv/ready-fuzz: .venv/ready-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[fuzz]"
	@touch $@
