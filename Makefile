# receiptd: make demo, make test; both make .venv first..

PYTHON ?= python3
BIN    := .venv/bin
SECONDS ?= 60
WITH_POSTGRES := $(BIN)/python -m tests.servers.with_postgres
FAULTS := --seed 1 --messages 20000 --kills 1000 --seconds 1200 --longest 1800 --calm 600

# One daemon start costs 2.9 s instead of 1 s where compiled modules aren't kept.
unexport PYTHONDONTWRITEBYTECODE
# An outer environment's packages, or a project that uv was told of elsewhere, have no place in .venv.
unexport PYTHONPATH
unexport PYTHONHOME
unexport UV_PROJECT_ENVIRONMENT
unexport VIRTUAL_ENV

.PHONY: help venv demo unit lint test faults fuzz bench lock clean

help:
	@echo 'make demo   the main job on an embedded mail world, in about a minute (ARGS="--nodes 3" on PostgreSQL)'
	@echo 'make unit   format, lint, types, imports and the tests that need no process, in about two minutes'
	@echo 'make test   every test, real mail servers included, and a minute of the same fuzzing each time'
	@echo 'make faults faults at scale: seeded bugs, then 1,000 kills over 20,000 messages (ARGS="--kills 20 --messages 500")'
	@echo 'make fuzz   look for a message that the interpreter takes badly (SECONDS=60; KEEP=1 keeps new ways)'
	@echo 'make bench  how fast it is, beside Postfix and others, in about 15 minutes (ARGS="sink settle" picks)'
	@echo 'make venv   only .venv, with locked versions'
	@echo 'make lock   uv.lock and requirements/ anew (needs uv)'

demo: venv
	$(if $(findstring --nodes,$(ARGS)),$(if $(findstring --database,$(ARGS)),,$(WITH_POSTGRES))) $(BIN)/receiptd demo $(ARGS)

lint: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

unit: lint
	$(BIN)/pytest -q --unit -n auto --dist worksteal $(ARGS)

test: lint
	$(BIN)/pytest -n 3 --dist loadfile $(ARGS)
	$(if $(ARGS),,$(BIN)/python -m tests.fuzz --seed tests --executions 24000 --seconds 60)

# docs/reliability.md says what this shows; a run that breaks a promise keeps its evidence and ends with 1.
faults: venv
	$(if $(ARGS),,$(BIN)/python -m tests.chaos --bugs)
	$(BIN)/python -m tests.chaos $(FAULTS) $(ARGS)
	$(if $(ARGS),,$(BIN)/python -m tests.chaos $(FAULTS) --engine postgresql --daemons 3)

fuzz: venv
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(if $(KEEP),--keep)

bench: venv
	$(BIN)/python -m tests.bench $(ARGS)

venv: .venv/.made

.venv/.made: pyproject.toml uv.lock requirements/build.txt requirements/all.txt deploy/make-venv
	PYTHON='$(PYTHON)' deploy/make-venv
	@touch $@

lock:
	uv lock
	uv export -q --frozen --no-header --no-annotate --no-emit-project --only-group build -o requirements/build.txt
	uv export -q --frozen --no-header --no-annotate --no-emit-project --no-dev --no-group build --extra postgresql -o requirements/run.txt
	uv export -q --frozen --no-header --no-annotate --no-emit-project --all-extras --all-groups -o requirements/all.txt

clean:
	rm -rf .venv build dist
