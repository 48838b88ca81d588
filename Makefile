# One target per verb; the work is in the `antiphon` command. This file makes the environment and calls it.
.DEFAULT_GOAL := help
.PHONY: install up down status logs call test test-fast journeys-live test-platforms test-kubernetes test-containers test-prometheus images test-upgrade check bench contracts lock docs release clean help
MAKEFLAGS += --no-print-directory
# Tests start some hundred processes: without it each of them compiles the sources again.
unexport PYTHONDONTWRITEBYTECODE

VENV     := .venv
BIN      := $(VENV)/bin
READY    := $(VENV)/.ready
INSTALL  := cli/src/antiphon/cli/install.py
MEMBERS  := contracts chassis recorder services/session-api services/agent-worker services/persistence services/webhook-ingest services/fleet client cli
PROJECTS := pyproject.toml $(MEMBERS:%=%/pyproject.toml)
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON   ?= $(shell for name in python3.11 python3.12 python3.13 python3; do \
	$$name -c '$(SUPPORTED)' 2>/dev/null && echo $$name && break; done)

SITE     := NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

# Tests mostly wait: more processes than processors keep two of them busy.
WORKERS  ?= 4

# Arguments reach the recipes through the environment: SAY may hold any character.
export SERVICE FLOW SAY ARGS

install: $(READY) ## make the environment, and nothing more

up: $(READY) ## start everything, wait until it is ready, make a first call
	@$(BIN)/antiphon up $(ARGS)

down: $(READY) ## stop everything; stored data stays
	@$(BIN)/antiphon down

status: $(READY) ## print the state of each service
	@$(BIN)/antiphon status $(ARGS)

logs: $(READY) ## print the logs (SERVICE=session-api ARGS=-f)
	@$(BIN)/antiphon logs $${SERVICE:+"$$SERVICE"} $(ARGS)

call: $(READY) ## call the agent (FLOW=booking SAY="hello|thank you good bye")
	@$(BIN)/antiphon call $${FLOW:+--flow "$$FLOW"} $${SAY:+--say "$$SAY"} $(ARGS)

test: $(READY) ## run all tests, on their own servers (ARGS="-k name")
	@$(BIN)/antiphon livekit
	@$(BIN)/pytest -n $(WORKERS) $(ARGS)

test-fast: $(READY) ## run the tests that need no sound, no LiveKit and no package index
	@$(BIN)/pytest -n $(WORKERS) -m "not audio and not livekit and not slow" $(ARGS)

journeys-live: $(READY) ## run the journeys of OpenAI and Deepgram against the real services (needs their keys)
	@$(BIN)/python -m tests.agent_worker.doubles.live $(ARGS)

test-platforms: $(READY) ## lock for all platforms; up and tests on Debian trixie (needs root, debootstrap)
	@$(BIN)/python -m tests.platforms.wheels
	@$(BIN)/python -m tests.platforms.trixie $(ARGS)

test-upgrade: $(READY) ## the release before on this schema, and an upgrade under load (ARGS=-s shows its table)
	@$(BIN)/antiphon livekit
	@$(BIN)/pytest -n 0 tests/upgrade $(ARGS)

test-containers: $(READY) ## images, compose, broker and database tests on a Docker engine of its own (needs root)
	@$(BIN)/python -m tests.containers.run $(ARGS)

test-prometheus: $(READY) ## promtool on the alerts, and Prometheus on the real services (Debian's prometheus)
	@$(BIN)/antiphon livekit
	@$(BIN)/pytest -n 0 tests/prometheus $(ARGS)

test-kubernetes: $(READY) ## install, upgrade and scale the chart on a real control plane (builds it once)
	@$(BIN)/python -m tests.kubernetes.build
	@$(BIN)/antiphon livekit
	@$(BIN)/pytest tests/kubernetes $(ARGS)

images: $(READY) ## build the images of the services (ARGS="--prefix registry.example/antiphon"; needs Docker)
	@$(BIN)/python -m deploy.images.build $(ARGS)

docs: $(READY) ## build the site of the documentation into build/site
	@$(SITE)
	@echo "build/site/index.html"

check: $(READY) ## lint, format, types, import rules, generated files, spelling, style, known vulnerabilities, links
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy .
	@$(BIN)/lint-imports
	@$(BIN)/python -m antiphon.contracts.generate --check
	@$(BIN)/python -m antiphon.session_api.reference --check docs/reference/http-api.md
	@$(BIN)/python -m antiphon.agent_worker.generate . --check
	@$(BIN)/python -m deploy.helm.values_reference --check docs/reference/helm-values.md
	@$(BIN)/python -m deploy.helm.nats_users --check deploy/helm/antiphon-stack/files/nats/users.conf
	@$(BIN)/python -m tools.docs.event_catalogue --check docs/reference/events.md
	@$(BIN)/python -m tools.docs.settings --check docs/reference/settings.md
	@$(BIN)/python -m tools.docs.metrics --check docs/reference/metrics.md
	@$(BIN)/python -m tools.dashboards --check
	@$(BIN)/codespell
	@$(BIN)/python -m tools.dependencies.audit
	@$(BIN)/python -m tools.docs.style
	@$(SITE)

bench: $(READY) ## measure: a table, and JSON in bench-results/
	@$(BIN)/python -m tests.benchmarks.run $(ARGS)

contracts: $(READY) ## generate the schemas, the AsyncAPI document, the schema of flows, and the references
	@$(BIN)/python -m antiphon.contracts.generate
	@$(BIN)/python -m antiphon.session_api.reference > docs/reference/http-api.md.new
	@mv docs/reference/http-api.md.new docs/reference/http-api.md
	@$(BIN)/python -m antiphon.agent_worker.generate .
	@$(BIN)/python -m antiphon.agent_worker.flow.reference > docs/reference/flow-file.md.new
	@mv docs/reference/flow-file.md.new docs/reference/flow-file.md
	@$(BIN)/python -m deploy.helm.values_reference > docs/reference/helm-values.md.new
	@mv docs/reference/helm-values.md.new docs/reference/helm-values.md
	@$(BIN)/python -m deploy.helm.nats_users > users.conf.new
	@mv users.conf.new deploy/helm/antiphon-stack/files/nats/users.conf
	@$(BIN)/python -m tools.docs.event_catalogue > docs/reference/events.md.new
	@mv docs/reference/events.md.new docs/reference/events.md
	@$(BIN)/python -m tools.docs.settings > docs/reference/settings.md.new
	@mv docs/reference/settings.md.new docs/reference/settings.md
	@$(BIN)/python -m tools.docs.metrics > docs/reference/metrics.md.new
	@mv docs/reference/metrics.md.new docs/reference/metrics.md
	@$(BIN)/python -m tools.dashboards

lock: $(READY) ## resolve the requirements into the lock files (ARGS=--upgrade)
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-annotate --all-extras --group pyproject.toml:dev \
		$(shell sed -n 's/^name = "\(antiphon-.*\)"/--no-emit-package \1/p' $(PROJECTS)) \
		--output-file requirements.lock $(MEMBERS:%=%/pyproject.toml) $(ARGS)
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-annotate --group pyproject.toml:images --constraint requirements.lock \
		--output-file deploy/images/tools.lock $(ARGS)
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-annotate --allow-unsafe --group pyproject.toml:audit --constraint requirements.lock \
		--output-file tools/dependencies/audit.lock $(ARGS)

release: $(READY) ## build, check and list a release; publishes nothing (ARGS=--rehearse)
	@$(BIN)/python -m tools.release $(ARGS)

clean: ## remove the virtual environment and the caches; the stack's data stays
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

help: ## print this
	@echo "usage: make TARGET"; echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | \
		while IFS='|' read -r target text; do printf '  %-16s %s\n' $$target "$$text"; done

# The environment is updated when the lock or a project file changes.
$(READY): requirements.lock $(PROJECTS)
	@[ -n "$(PYTHON)" ] && "$(PYTHON)" -c '$(SUPPORTED)' 2>/dev/null || { \
		echo "antiphon needs Python 3.11, 3.12 or 3.13: $(or $(PYTHON),python3) is" \
			"$$("$(or $(PYTHON),python3)" --version 2>/dev/null || echo missing)." \
			"Name one with: make PYTHON=/path/to/python3.13" >&2; exit 1; }
	@[ ! -x $(BIN)/python ] || $(BIN)/python -c '$(SUPPORTED)' || { \
		echo "$(VENV) is of $$($(BIN)/python --version), which antiphon does not support: make clean, then try again" >&2; exit 1; }
	@[ -x $(BIN)/python ] || { echo "Making $(VENV) with $$("$(PYTHON)" --version)"; "$(PYTHON)" -m venv $(VENV); }
	@echo "Installing the locked requirements, hashes checked"
	@$(BIN)/python -I $(INSTALL) --require-hashes -r requirements.lock
	@echo "Installing the packages of this checkout"
	@$(BIN)/python -I $(INSTALL) --no-deps --no-build-isolation $(MEMBERS:%=-e ./%)
	@touch $@
