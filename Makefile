# AtlasQueue. `make help` lists what there is.
.DEFAULT_GOAL := help
SHELL := bash

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
    $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
# One more than two cores: many tests wait for processes.
WORKERS ?= 3
SEEDS ?= 200

.PHONY: help venv demo dev test test-long test-go conformance docs lab chaos model bench bench-peers bench-plots lint format generate verify verify-deploy cluster tools lock ci clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | awk -F ':.*?## ' '{printf "  %-14s %s\n", $$1, $$2}'

venv: $(STAMP) ## Make the virtual environment with everything in requirements.lock

$(STAMP): requirements.lock pyproject.toml clients/python/pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or say make PYTHON=/path/to/python3"; exit 1; }
	@echo "Installing into $(VENV) (once; about a minute) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e ./clients/python -e .
	@touch $@

demo: $(STAMP) ## Run 2 000 and more jobs over real files through a server and two workers, and check every result
	@$(BIN)/python -m examples.media_index.demo

GO_MODULES := clients/go clients/go/otel examples

test-go: ## Check and test the Go modules with the race detector (needs Go and a C compiler)
	@unformatted=$$(gofmt -l $(GO_MODULES)); if [ -n "$$unformatted" ]; then echo "gofmt -w: $$unformatted"; exit 1; fi
	@export GOTOOLCHAIN=auto; for module in $(GO_MODULES); do \
	    (cd $$module && go vet ./... && go test -race ./...) || exit 1; done

conformance: $(STAMP) ## Play one suite of cases with the SDKs (Python, Go), and with broken ones that must fail; EXECUTOR=command
	@$(BIN)/python -m tests.conformance $(if $(EXECUTOR),--executor '$(EXECUTOR)',--executor python --executor go --broken) $(ARGS)

dev: $(STAMP) ## Start a server on an embedded PostgreSQL and leave it running
	@$(BIN)/atlasqueue-server dev

cluster: $(STAMP) ## Start PostgreSQL, three servers, workers, a load and Prometheus here; Ctrl-C stops all (ARGS=--help)
	@$(BIN)/python -m deploy.cluster $(ARGS)

test: $(STAMP) ## Run the tests (under ten minutes on two cores) and print coverage
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --cov --cov-report=term $(ARGS)

test-long: $(STAMP) ## Run the tests marked `long`: every lab and example in short form, the site (under forty minutes)
	@$(BIN)/python -m pytest -m long -n 2 --dist worksteal --timeout 900 $(ARGS)

docs: $(STAMP) ## Build the documentation site into build/docs; SERVE=1 shows it on 127.0.0.1:8000 instead
	@$(BIN)/python scripts/docs.py $(if $(SERVE),serve,build)

# ONLY=names, PAIRS=rounds, QUICK=1, LONG=1, DATABASE_URL=…; ARGS for the rest (--help lists it).
BENCH_FLAGS = $(if $(ONLY),--only $(ONLY)) $(if $(PAIRS),--pairs $(PAIRS)) $(if $(QUICK),--quick) $(ARGS)
bench bench-peers: export ATLASQUEUE_BENCH_DATABASE_URL ?= $(DATABASE_URL)

bench: $(STAMP) ## Measure AtlasQueue alone (ONLY=work,slots PAIRS=5 QUICK=1 LONG=1)
	@$(BIN)/python -m benchmarks own $(if $(LONG),--long) $(BENCH_FLAGS)

bench-peers: $(STAMP) ## Measure AtlasQueue beside other queues in one run (ONLY=river,work PAIRS=5)
	@$(BIN)/python -m benchmarks peers $(BENCH_FLAGS)

bench-plots: $(STAMP) ## Draw the curves of a run (RUN=file.json; default: the newest), and of each `make bench` from then on
	@test -e .tools/bench/bin/python || $(PYTHON) -m venv .tools/bench
	@.tools/bench/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	@.tools/bench/bin/python -m benchmarks.harness.plots $(or $(RUN),$(lastword $(sort $(wildcard benchmarks/results/own-*.json))))

model: $(STAMP) ## Check the models: random verbs on the real store (SEEDS=10000 for many), TLC on models/*.cfg
	@$(BIN)/python scripts/model.py --seeds $(SEEDS) $(ARGS)

lab: $(STAMP) ## Break a small real system and see what happens; NAME=two_workers AUTO=1, without NAME they are listed
	@$(BIN)/python -m labs $(NAME) $(if $(AUTO),--auto) $(ARGS)

chaos: $(STAMP) ## Break real processes and check the promise I1 to I9; SCENARIO= SEED= MINUTES= BROKEN=
	@$(BIN)/python -m tests.chaos $(if $(SCENARIO),--scenario $(SCENARIO)) $(if $(SEED),--seed $(SEED)) \
	    $(if $(MINUTES),--minutes $(MINUTES)) $(if $(BROKEN),--broken $(BROKEN)) $(ARGS)

lint: $(STAMP) ## Check format, lint, types, the contract's style, the floors
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/buf lint
	@$(BIN)/buf format --diff --exit-code proto
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest -q tests/tidy

format: $(STAMP) ## Format code and contract
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .
	@$(BIN)/buf format -w proto

generate: $(STAMP) ## Generate the stubs, the OpenAPI document, the sync client, schema.sql and the code in docs/learn
	@$(BIN)/python scripts/generate.py
	@$(BIN)/python -m scripts.openapi
	@$(BIN)/python scripts/async_to_sync.py
	@$(BIN)/python scripts/dump_schema.py
	@$(BIN)/python scripts/book.py

verify: $(STAMP) ## Fail when generated files differ from their sources, or the contract breaks its last release
	@$(BIN)/python scripts/generate.py --check
	@$(BIN)/python -m scripts.openapi --check
	@$(BIN)/python scripts/async_to_sync.py --check
	@$(BIN)/python scripts/dump_schema.py --check
	@$(BIN)/python scripts/book.py --check
	@tag=$$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null); \
	if [ -n "$$tag" ]; then echo "comparing the contract with $$tag"; $(BIN)/buf breaking --against ".git#tag=$$tag"; \
	else echo "no release tag yet: nothing to compare the contract with"; fi

verify-deploy: $(STAMP) ## Check dashboards, rules, metrics, compose file, Dockerfile and Kubernetes example (after `make tools`)
	@$(BIN)/python -m deploy.checks $(ARGS)

tools: ## Install optional tools (grpcurl, Go plugins, TLC, PostgreSQL 15, pgbouncer, libfaketime, Prometheus, checks of deploy/) and say what could not be
	@scripts/tools.sh

lock: ## Resolve requirements.lock anew (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --no-strip-extras --generate-hashes --no-header --no-annotate \
	    --no-emit-index-url --no-emit-find-links --no-emit-package atlasqueue --python-version 3.11 -o requirements.lock

ci: ## What the continuous integration runs
	@.ci/run

clean: ## Remove what was built
	rm -rf $(VENV) .tools dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*
