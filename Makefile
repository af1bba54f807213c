# Two commands do everything on a fresh machine: `make demo` and `make test`.
.POSIX:
.PHONY: demo monitor test test-deep coverage mutation check prose bench bench-compare bench-profile bench-revoke bench-flood bench-refusals bench-decisions bench-queries bench-accuracy bench-round-trips dashboards pictures audit dist sbom lock clean help
.DEFAULT_GOAL := help

PYTHON = .venv/bin/python
ARGS =

# Compiled modules live in the virtual environment, not beside the sources. They are kept whatever the environment says,
# because tests start hundreds of processes, which would each compile everything again.
export PYTHONPYCACHEPREFIX = $(CURDIR)/.venv/pycache
export PYTHONDONTWRITEBYTECODE =

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1: /p' Makefile

demo: .venv/demo ## everything embedded, Envoy and nginx in front: a tour (ARGS=--once ends after it)
	@$(PYTHON) -m extauthz demo $(ARGS)

monitor: .venv/demo ## the demo under traffic, with Prometheus and our alerts (ARGS=--once looks and ends)
	@$(PYTHON) -m extauthz demo --monitor $(ARGS)

test: .venv/dev ## the whole suite, on real servers (ARGS="-k name" chooses)
	@$(PYTHON) -m pytest -n 2 --dist worksteal $(ARGS)

test-deep: .venv/dev ## what takes long: all variants, and generated examples by the hundred
	@$(PYTHON) -m pytest -n 2 --dist worksteal -m "deep or fuzz" --hypothesis-profile=deep --timeout=600 $(ARGS)

coverage: .venv/dev ## branches of core/ and service/ that tests inside this process run: at least 95 % of each
	@$(PYTHON) -m coverage erase
	@$(PYTHON) -m coverage run -m pytest -q tests/unit tests/contract tests/integration $(ARGS)
	@$(PYTHON) -m coverage report
	@$(PYTHON) -m coverage json -q -o - | $(PYTHON) -m tests.branches

mutation: .venv/dev ## which small changes of core/ no unit test notices: hours (ARGS="extauthz.core.paths*": a part)
	@.ci/mutation $(ARGS)

check: .venv/dev ## formatting, lint, types, import rules, spelling, words
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m mypy
	@$(PYTHON) .venv/bin/lint-imports --no-cache
	@$(PYTHON) .venv/bin/codespell
	@$(PYTHON) -m tests.prose

prose: .venv/dev ## words and phrases to avoid, with the reason (ARGS=docs/howto lists all of a folder)
	@$(PYTHON) -m tests.prose $(ARGS)

bench: .venv/dev ## how fast it is and what a check costs, beside goals (ARGS=--quick: within two minutes)
	@$(PYTHON) -m benchmarks.speed $(ARGS)

bench-compare: .venv/dev ## what changed between two benches (ARGS="A.json B.json")
	@$(PYTHON) -m benchmarks.compare $(ARGS)

bench-profile: .venv/dev ## where the CPU of a check goes (ARGS="--ask 429 --lines"; names choose functions)
	@$(PYTHON) -m benchmarks.hot_path $(ARGS)

bench-revoke: .venv/dev ## how long a revoked key still works, on two workers under load (ARGS=--leases)
	@$(PYTHON) -m benchmarks.revoke $(ARGS)

bench-flood: .venv/dev ## how valid keys fare while 10,000 unknown ones come at one instant
	@$(PYTHON) -m benchmarks.flood

bench-refusals: .venv/dev ## whether an unknown key takes as long to refuse as a revoked one
	@$(PYTHON) -m benchmarks.refusals

bench-decisions: .venv/dev ## what the decision log and live tails cost an allowed check
	@$(PYTHON) -m benchmarks.decision_outputs

bench-queries: .venv/dev ## how often PostgreSQL is asked while 10,000 keys are in use
	@$(PYTHON) -m benchmarks.queries

bench-accuracy: .venv/dev ## whether limits are exact: 4 workers, 128 connections (ARGS=--leases)
	@$(PYTHON) -m benchmarks.accuracy $(ARGS)

bench-round-trips: .venv/dev ## how often Redis is asked, and what a check costs it and us
	@$(PYTHON) -m benchmarks.round_trips

dashboards: .venv/dev ## write Grafana's dashboards, compose/grafana/dashboards/, from the code beside them
	@$(PYTHON) -m compose.grafana.source

pictures: .venv/dev ## draw every dashboard with what a real service under traffic shows (three minutes)
	@$(PYTHON) -m tests.pictures

audit: ## locked packages against known vulnerabilities (needs pipx)
	@.ci/audit

dist: .venv/dev ## build the wheel and the source distribution into dist/
	@$(PYTHON) -m hatchling build

sbom: .venv/dev ## write the bill of materials, build/extauthz.cdx.json
	@.ci/sbom

lock: ## resolve the newest versions into requirements/ (needs uv)
	@.ci/lock

clean: ## remove the virtual environment and caches
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis

.venv/demo: pyproject.toml requirements/demo.txt .ci/venv
	@.ci/venv demo

.venv/dev: pyproject.toml requirements/dev.txt .ci/venv
	@.ci/venv dev
