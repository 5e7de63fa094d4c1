# tidegate: `make demo` shows it at work, `make test` tests it. Both set up what they need (Python 3.11, Java 17).
PYTHON ?= python3.11
MINUTES ?= 30
# They share one set of servers.
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TAG ?= local

.PHONY: help setup demo dashboards docs images test test-slow test-fast lint format bench soak pin clean
.DEFAULT_GOAL := help

help: ## what each target does
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-10s %s\n", $$1, $$2}'

setup: $(READY) ## the virtual environment with everything in it

$(READY): requirements/pinned.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: no $(PYTHON); install Python 3.11 or run make PYTHON=..."; exit 1; }
	@command -v java >/dev/null || { echo "make: no java; install a Java 17 runtime"; exit 1; }
	@echo "Setting up $(VENV): about a minute the first time"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements/pinned.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

demo: setup ## a real Envoy with a dozen tasks, and their metrics live in the terminal
	@$(BIN)/tidegate demo $(ARGS)

dashboards: setup ## write the Grafana dashboards anew, from the Python that describes them
	$(BIN)/python -m tidegate.dashboards

docs: setup ## write docs/settings.md anew, from the settings' models
	$(BIN)/tidegate settings --markdown > docs/settings.md.new
	mv docs/settings.md.new docs/settings.md

images: ## the container images, by Docker; BUILD_FLAGS for a network of your own (docs/docker.md)
	for image in jobs adapters; do \
	  DOCKER_BUILDKIT=1 docker build $(BUILD_FLAGS) -f docker/$$image/Dockerfile -t tidegate-$$image:$(TAG) . || exit 1; \
	done

# Exit code 5 of pytest: ARGS names files that have no such test.
test: setup lint ## everything, on real servers that WORKERS processes share; then what needs the machine alone
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=25 \
	  -m "not slow and not alone" $(ARGS) || test $$? -eq 5
	$(BIN)/python -m pytest -m "alone and not slow" --durations=10 $(ARGS) || test $$? -eq 5

test-slow: setup ## what `make test` leaves out: the rest of each fault matrix, property tests' other examples, what takes minutes
	TIDEGATE_TEST_THOROUGH=1 $(BIN)/python -m pytest -m "slow or hypothesis" $(ARGS)

test-fast: setup ## what needs no server
	$(BIN)/python -m pytest tests/unit tests/contract $(ARGS)

lint: setup ## ruff, mypy and the import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy -p tidegate -p tests.support.dashboards
	$(BIN)/lint-imports

format: setup ## ruff's formatter, and what it can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## the figures, each beside its floor, then the soak; over an hour, less with MINUTES=5
	$(BIN)/python -m benchmarks.service_metrics
	$(BIN)/python -m benchmarks.real_envoy
	$(BIN)/python -m benchmarks.visibility
	$(BIN)/python -m benchmarks.ship
	$(BIN)/python -m benchmarks.index
	$(BIN)/python -m benchmarks.elasticsearch_sizes
	$(BIN)/python -m benchmarks.closed_loop
	$(BIN)/python -m benchmarks.limits
	$(BIN)/python -m benchmarks.task_profile
	$(BIN)/python -m benchmarks.window_jobs
	$(BIN)/python -m benchmarks.resource_samples
	$(BIN)/python -m benchmarks.profile_visibility
	$(BIN)/python -m benchmarks.ui
	$(BIN)/python -m benchmarks.autoscaling_day
	$(BIN)/python -m benchmarks.soak --minutes $(MINUTES)

soak: setup ## only the soak: what the job keeps while replicas come and go
	$(BIN)/python -m benchmarks.soak --minutes $(MINUTES)

pin: setup ## write requirements/pinned.txt from this environment
	$(BIN)/pip freeze --all --exclude-editable | grep -v -i -E '^(tidegate|pip|wheel)( |=)' > requirements/pinned.txt

clean: ## remove what make made (the local stack's data stays; see tidegate down --purge)
	rm -rf $(VENV) build dist *.egg-info src/*.egg-info
