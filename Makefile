.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help install demo kafka test chaos check lint types imports drift bench lock clean

help: ## Show what can be made
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

install: .venv/installed ## Make .venv with the command at .venv/bin/streamproc

.venv/installed: requirements/run.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "streamproc needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/run.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

.venv/developer: .venv/installed requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/dev.txt
	@touch $@

# A broker of the demo's own, beside one that may run for development.
DEMO_BROKER := --port 9392 --data .kafka/demo

demo: install ## Play a bad night through the real pipeline; KAFKA=1: through Kafka, and a worker is killed
ifdef KAFKA
	@trap 'trap "" INT TERM HUP; deploy/kafka/kafka-dev clean $(DEMO_BROKER)' EXIT; trap 'exit 130' INT TERM HUP; \
	deploy/kafka/kafka-dev start $(DEMO_BROKER) && KAFKA_BOOTSTRAP=127.0.0.1:9392 $(BIN)/streamproc demo --kafka $(DEMO)
else
	@$(BIN)/streamproc demo $(DEMO)
endif

kafka: ## Start a Kafka broker for development on 127.0.0.1:9092
	@deploy/kafka/kafka-dev start
	@echo "KAFKA_BOOTSTRAP=127.0.0.1:9092; one broker: set kafka.replication to 1 and kafka.production to false"

test: .venv/developer ## Run every test
	$(BIN)/coverage erase
	HYPOTHESIS_PROFILE=$(if $(CI),ci,dev) $(BIN)/pytest -n 3 --dist loadgroup --cov --cov-report= --quiet
	$(BIN)/coverage report --fail-under=95 --format=total > /dev/null || { $(BIN)/coverage report; exit 1; }
	$(BIN)/coverage report --fail-under=100 --include='streamproc/core/*,streamproc/events/*,streamproc/stages/*,streamproc/sources/*' > .coverage-pure || { cat .coverage-pure; exit 1; }
	@echo "coverage: $$($(BIN)/coverage report --format=total) % of all, 100 % of the pure core"

chaos: .venv/developer ## Play every fault on real Kafka brokers, about an hour; SEEDS=1,2,3: what these seeds draw
ifdef SEEDS
	$(BIN)/python -m tests.kafka.product $(SEEDS) drawn 1
	$(BIN)/python -m tests.kafka.product $(SEEDS) drawn 3
else
	KAFKA_CAMPAIGN=all $(BIN)/pytest tests/kafka/test_kafka_exactness.py tests/kafka/test_kafka_product.py \
	  tests/kafka/test_kafka_scenarios.py --quiet
endif

check: lint types imports drift test ## Everything that CI runs

lint: .venv/developer ## Style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/developer ## Types
	$(BIN)/mypy

imports: .venv/developer ## Layers
	$(BIN)/lint-imports

drift: .venv/developer ## Generated files are as the code says
	$(BIN)/streamproc generate --check

bench: .venv/developer ## Measure; figures are ratios within one run
	$(BIN)/python -m bench $(BENCH)

lock: .venv/developer ## Pin every dependency, with hashes and without addresses
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 pyproject.toml -o requirements/run.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 pyproject.toml --group dev -o requirements/dev.txt

clean: ## Remove what was made
	rm -rf .venv .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
