# Two commands do everything on a fresh machine: `make up` runs the house, `make test` tests it.

PYTHON ?= python3
BIN    := .venv/bin
# Files of tests that run at a time. On two cores four: each waits for its servers half of the time.
TEST_WORKERS ?= 4

# The bench has an environment of its own, so that the peers' packages stay out of .venv, and so that it can have another
# interpreter: compare with one that was built with optimisations, as those of the distributions are.
BENCH_PYTHON ?= $(PYTHON)

.DEFAULT_GOAL := help
.PHONY: help up down demo load load-live rolling gameday bench bench-import bench-sync bench-receptions national capacity check test fresh proof mutants monitoring pictures screenshots lighthouse metrics-page image-proof lint audit

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# The stamp is as new as the locks it was made from; a changed lock installs again.
.venv/ready: requirements-dev.lock pyproject.toml
	@echo "Installing into .venv (once; half a minute or so) …"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	@$(PYTHON) -m venv .venv || { echo "python3 lacks venv: install it first (Debian: apt-get install python3-venv)"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

up: .venv/ready ## run the whole house here: Postgres, Valkey, lookup, intake, relay (Ctrl-C stops it; UP=--fresh begins anew)
	@exec $(BIN)/hoso24 up $(UP)

down: .venv/ready ## stop what `make up` started here
	@exec $(BIN)/hoso24 down

demo: .venv/ready ## move one dossier through its life, slowly enough to watch on its page
	@exec $(BIN)/hoso24 demo

# Lint, types, and the tests that start no server: a minute and a half, to be run before every commit.
check: lint ## lint, types, and every test that needs no server (a minute and a half)
	@exec $(BIN)/python -m pytest -q --numprocesses 2 --dist worksteal -m "not servers and not long"

# Makes its target only when nothing is missing; tests whose programs are missing are left out and say so.
.programs/ready: requirements-programs.lock tests/fetch_programs.py $(filter-out .ci/lighthouse/%,$(wildcard .ci/*/package-lock.json)) | .venv/ready
	@$(BIN)/python -m tests.fetch_programs

test: .venv/ready .programs/ready ## run all tests, on servers they start and stop themselves
	@exec $(BIN)/python -m pytest --numprocesses $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder

fresh: ## both commands on a bare Debian 12 made here, as root and as a user (needs root and mmdebstrap; FRESH_TESTS="tests/test_api.py": only these)
	@exec $(PYTHON) tests/fresh.py

proof: .venv/ready ## try what holds for any input on new examples, and a hundred thousand interleavings (an hour and a half or so)
	@HOSO24_PROOF_HISTORIES=$${HOSO24_PROOF_HISTORIES:-100000} $(BIN)/python -m pytest -q --numprocesses $(TEST_WORKERS) --dist worksteal -m hypothesis --hypothesis-profile fresh
	@HOSO24_PROOF_VERIFY=$${HOSO24_PROOF_VERIFY:-1000} $(BIN)/python -m pytest -q tests/intake/test_verify_whole.py
	@HOSO24_PROOF_SECONDS=$${HOSO24_PROOF_SECONDS:-600} $(BIN)/python -m pytest -q tests/test_any_request.py
	@HOSO24_PROOF_EXAMPLES=$${HOSO24_PROOF_EXAMPLES:-100000} exec $(BIN)/python -m tests.lookup.proof

SEED ?= 1
mutants: .venv/ready ## plant 300 small faults in the core, one at a time, and list those the tests miss (SEED=2, MUTANTS="--help")
	@exec nice $(BIN)/python -m tests.mutants --seed $(SEED) $(MUTANTS)

PROFILE ?= steady
load: .venv/ready ## put Locust users on a running `make up` and judge the figures against the budget (PROFILE=results-day, LOCUST="-u 500")
	@exec $(BIN)/locust --headless -f loadtests/locustfile.py --profile $(PROFILE) $(LOCUST)

load-live: .venv/ready ## the same in the browser, on 127.0.0.1:8089; each test is judged on /verdict
	@exec $(BIN)/locust -f loadtests/locustfile.py --profile $(PROFILE) $(LOCUST)

ROLLING ?= --front rotation
rolling: .venv/ready ## the game day's rolling restart alone, until 50,000 lookups were asked (4 minutes; ROLLING="--order old-first")
	@exec $(BIN)/python -m loadtests.gameday --only rolling-restart --lookups 50000 --rate 300 $(ROLLING)

gameday: .venv/ready ## break a production-shaped system here in every way, under load (45 minutes; GAMEDAY=--short: 3; GAMEDAY="--healthy 60": an hour without a fault, for alerts)
	@exec $(BIN)/python -m loadtests.gameday $(GAMEDAY)

.venv-bench/ready: requirements-dev.lock requirements-bench.lock pyproject.toml
	@echo "Installing into .venv-bench (once; half a minute or so) …"
	@$(BENCH_PYTHON) -m venv .venv-bench
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

bench: .venv-bench/ready ## lookups, ours beside peers, into loadtests/bench/RESULTS.md (needs wrk and nginx; BENCH="--help" lists options)
	@exec .venv-bench/bin/python -m loadtests.bench.side_by_side $(BENCH)

bench-import: .venv/ready ## `hoso24 import` beside a COPY of the same rows
	@exec $(BIN)/python -m loadtests.bench.bulk

bench-sync: .venv/ready ## synchronisations beside single moves: how much faster, and how much processor time a line takes (a minute; SYNC="--n 3000")
	@exec $(BIN)/python -m loadtests.bench.syncs $(SYNC)

bench-receptions: .venv/ready ## receptions by 20 clients while 60,000 codes of the same agency are imported (minutes; RECEPTIONS="--n 6000")
	@exec $(BIN)/python -m loadtests.bench.receptions $(RECEPTIONS)

national: .venv/ready ## a year of the whole country in steps, into loadtests/national/RESULTS.md (hours; NATIONAL="--help" lists options)
	@exec $(BIN)/python -m loadtests.national $(NATIONAL)

capacity: .venv/ready ## what follows from the figures of loadtests/capacity.toml: cores, room, minutes a year
	@exec $(BIN)/python -m loadtests.capacity $(CAPACITY)

monitoring: .venv/ready ## make rules, alerts, dashboards and the error-budget page from k8s/components/monitoring/*.toml
	@exec $(BIN)/python -m ops.monitoring

PROMETHEUS ?= http://127.0.0.1:9090
pictures: .venv-bench/ready ## draw the dashboards of the last ten minutes, as PROMETHEUS has them, into docs/monitoring
	@exec .venv-bench/bin/python -m ops.monitoring.pictures $(PROMETHEUS) docs/monitoring

image-proof: ## build the image without a registry, twice, and run it (as root; needs buildah and mmdebstrap; minutes)
	@exec k8s/image/prove

screenshots: .venv/ready ## draw two sample dossiers' pages of a running `make up` into docs, for the README (needs Chromium)
	@exec $(BIN)/python -m tests.pages.screenshots

lighthouse: .venv/ready ## have Lighthouse grade the pages of a running `make up`: 100 each, the median of five (fetches it; LIGHTHOUSE="--runs 1")
	@exec $(BIN)/python -m tests.pages.lighthouse $(LIGHTHOUSE)

metrics-page: .venv/ready ## write docs/metrics.md, which says what every metric means, from their declarations
	@$(BIN)/hoso24 metrics > docs/metrics.md

lint: .venv/ready ## ruff and mypy in strict mode
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m ops.monitoring --check

.venv-audit/ready: requirements-audit.lock
	@echo "Installing into .venv-audit (once) …"
	@$(PYTHON) -m venv .venv-audit
	@.venv-audit/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-audit.lock
	@touch $@

audit: .venv-audit/ready ## ask for known vulnerabilities of everything the locks name (needs the network; AUDIT="-s osv" asks elsewhere)
	@exec .venv-audit/bin/python .ci/audit.py $(AUDIT)
