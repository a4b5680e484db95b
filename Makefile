# make demo   a real Kafka broker, a model trained on real data, a worker, simulated users
# make test   the whole suite, three files at a time, each side with its broker; PYTEST_ARGS="-x" adds options
# make chaos  CHAOS_RUNS=20 runs of faults on a real broker, seeds from CHAOS_SEED on, CHAOS_JOBS=4
#             at a time; the report is build/chaos.md, what other tests measure in build/chaos.xml
# make audit  the bill of materials (build/audit), and known vulnerabilities of what is pinned
# make bench  two minutes that tell whether ingest, serving or the start became slower
# All create the environment first, and install through apt what the system lacks.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PYTEST_ARGS ?=
TEST_JOBS ?= 3
DEMO_ARGS ?=
BENCH_ARGS ?=
RATIOS := tests/benchmarks/ratios.json

# With a cluster of one's own, the embedded broker and so Java are not needed by the demo.
BROKER := $(if $(KAFKA_BOOTSTRAP_SERVERS),,java)

.NOTPARALLEL:
.PHONY: demo test chaos audit bench lint format env java tools dashboards contract constraints clean

demo: $(BROKER) env
	$(BIN)/slatestream demo $(DEMO_ARGS)

# Much of a test is waiting for a broker or a worker, so three files go side by side on two cores; TEST_JOBS=0 is
# one at a time.
# Each side computes on one thread: pools of two on two cores wait for each other.
test: java tools env
	env -u PYTHONDONTWRITEBYTECODE OMP_NUM_THREADS=1 \
		$(BIN)/pytest -n $(TEST_JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

# A run is mostly waiting, so several go side by side; the logs of those that fail stay in build/chaos.
chaos: java env
	CHAOS_RUNS=$(or $(CHAOS_RUNS),20) CHAOS_SEED=$(or $(CHAOS_SEED),1) OMP_NUM_THREADS=1 \
		$(BIN)/pytest tests/chaos -n $(or $(CHAOS_JOBS),4) --dist worksteal --basetemp=build/chaos \
		-o tmp_path_retention_policy=failed --junit-xml=build/chaos.xml -v $(PYTEST_ARGS)

# Exit code 1: something pinned has a known vulnerability. Without a network it says what it skips.
audit: env
	$(BIN)/python -m deploy.audit build/audit

bench: java env
	$(BIN)/slatestream bench quick --against $(RATIOS) $(BENCH_ARGS)

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: env
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Modules are compiled here, packages once and ours when they have changed: where Python is told to write no
# compiled ones (PYTHONDONTWRITEBYTECODE), every start of a worker would take two seconds to do it again.
env: $(STAMP)
	@$(BIN)/python -m compileall -q streams model_core online_learning

$(STAMP): pyproject.toml deploy/constraints.txt
	@PYTHON="$(PYTHON)" sh deploy/system-packages.sh python
	@echo "Creating .venv (the first time, PyTorch and CUDA's libraries are downloaded: about 3 GB)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c deploy/constraints.txt uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -c deploy/constraints.txt \
		--build-constraints deploy/constraints.txt -e ".[dev,train]"
	@echo "Compiling the kernels, so that no worker has to wait for them"
	@$(BIN)/python -m streams.worker.warm_kernels
	@touch $@

# Asks for all that is missing at once, Python's part too.
java:
	@PYTHON="$(PYTHON)" sh deploy/system-packages.sh python java

# promtool and prometheus, which the tests of deploy/prometheus and deploy/grafana run.
tools:
	@sh deploy/prometheus/tools.sh build/prometheus

# What Grafana shows, from deploy/grafana/dashboards.py, and the table of all metrics.
dashboards: env
	$(BIN)/python -m deploy.grafana.dashboards
	$(BIN)/python -m deploy.metrics

# The topics' contract as an AsyncAPI document and JSON Schemas, from streams/events.py.
contract: env
	$(BIN)/python -m deploy.asyncapi.document

# Pins every package, transitive ones too, for every Python from 3.11 on. It names no registry.
constraints: env
	printf 'hatchling\nuv\n' | $(BIN)/uv pip compile pyproject.toml - --extra dev --extra train --upgrade \
		--universal --python-version 3.11 --no-header --no-annotate --quiet --output-file deploy/constraints.txt

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
