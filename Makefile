SHELL := bash
.DEFAULT_GOAL := help
VENV := .venv
PY := $(VENV)/bin/python
PYTHON ?= $(shell for python in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do \
    $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
TESTS := $(VENV)/tests
LAB := $(PY) -m test.lab
# Where it is set, each start of a service in a test would compile its sources again.
unexport PYTHONDONTWRITEBYTECODE
# Tests that need no lab.
UNIT := test/unit test/functional test/render

help:            ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

relay: $(TESTS)      ## everything on a fresh machine: two relays deployed, two Delta Chat clients talk over them
	$(PY) -m test.relay

apply: venv      ## deploy or update a relay of etc/roster, with progress: make apply TARGET=relay
	$(PY) -m tools.apply $(TARGET)

upgrade: venv    ## apply with a way back, taken where the relay gets worse: make upgrade TARGET=relay
	$(PY) -m tools.upgrade $(TARGET)

rollback: venv   ## put back what was there before the last upgrade: make rollback TARGET=relay
	$(PY) -m tools.upgrade --back $(TARGET)

migrate: venv    ## move a relay to a new host, or go on with that: make migrate FROM=old TO=relay
	$(PY) -m tools.migrate $(FROM) $(TO)

backup: venv     ## save what a relay must not lose, now: make backup TARGET=relay
	$(VENV)/bin/salt-ssh -c etc $(TARGET) chatmail_backup.save

# With ENVIRONMENT_FILE= for what an S3 repository wants.
restore: venv    ## make a bare host the relay of a backup: make restore TARGET=relay FROM=REPOSITORY PASSWORD_FILE=FILE
	$(PY) -m tools.restore $(TARGET) --from $(FROM) --password-file $(PASSWORD_FILE) \
	    $(if $(ENVIRONMENT_FILE),--environment-file $(ENVIRONMENT_FILE))

# With http://127.0.0.1:8000/ in your browser.
web: venv        ## show the web pages while you write them: make web [PILLAR=FILE] [FOLDER=DIRECTORY] [PORT=8000]
	$(PY) -m tools.web $(PILLAR) $(if $(FOLDER),--folder $(FOLDER)) $(if $(PORT),--port $(PORT))

test: lint unit fuzz integration   ## all tests

lint: $(TESTS)       ## style of Python, YAML, SLS and shell files
	$(VENV)/bin/ruff check --quiet .
	$(VENV)/bin/ruff format --quiet --check .
	$(VENV)/bin/yamllint --strict .
	$(VENV)/bin/salt-lint $$(git ls-files '*.sls' '*.jinja')
	$(VENV)/bin/shellcheck $$(git ls-files '*.sh')

docs: $(TESTS)       ## write docs/settings.md and docs/functions.md from the schema and the modules
	$(PY) -m tools.settings_reference
	$(PY) -m tools.functions_reference

unit: $(TESTS)       ## tests that need no lab: unit, functional, render
	$(VENV)/bin/pytest -n 2 --dist worksteal $(UNIT)

# A minute in all, and what starting takes; more by hand: make fuzz SECONDS=36000 [TARGETS="author mime"]
# `make test` always begins with the same seed: what it finds is there in the next run too. By hand it is another each time.
SECONDS ?= 60
test: SEED = 1
fuzz: $(TESTS) lab-deps    ## look for inputs that break the readers of what strangers send: make fuzz [SECONDS=36000]
	PYTHONPATH=chatmaild/src:_utils $(PY) -m test.fuzz $(if $(SEED),--seed $(SEED)) $(SECONDS) $(TARGETS)

# Three labs side by side, a module at a time in each, for two cores: tests wait as long as they work. They are taken down
# whatever the tests say.
integration: $(TESTS) lab-deps   ## tests on booted Debian 12 and 13 hosts in the lab
	$(VENV)/bin/pytest -n 3 --dist loadfile --no-loadscope-reorder --timeout 1800 --durations 25 test/integration

# With RELAY2= also what goes between two relays, and with SSH=root@HOST what is to be looked at on the host.
online: $(TESTS)     ## test a relay from outside: make online RELAY=chat.example.org [RELAY2=...] [SSH=root@...]
	RELAY='$(RELAY)' RELAY2='$(RELAY2)' SSH='$(SSH)' $(VENV)/bin/pytest test/online

bench: $(TESTS)      ## how fast a relay is, as a table, JSON and a picture: make bench RELAY=chat.example.org [RELAY2=...]
	$(PY) -m test.bench.relay $(RELAY) $(RELAY2)

bench-filter: $(TESTS) lab-up    ## messages a second with the filter, beside the same Postfix without it
	$(PY) -m test.bench.filter

bench-delivery: $(TESTS) lab-up  ## time from DATA's answer to the IDLE notice, with 300 further idle clients
	$(PY) -m test.bench.delivery

bench-federation: $(TESTS) lab-deps  ## the same between two relays, 50 ms apart each way too, by each way: make bench-federation [QUICK=1]
	$(PY) -m test.bench.federation $(if $(QUICK),--quick)

bench-queue: $(TESTS) lab-deps  ## mail to a relay while 10,000 messages to dead destinations wait: make bench-queue [QUICK=1]
	$(PY) -m test.bench.queue $(if $(QUICK),--quick)

bench-notifier: $(TESTS)   ## pushes a second to a server that takes 100 ms, and the service's memory
	$(PY) -m test.bench.notifier

bench-doveauth: $(TESTS)   ## lookups and creations a second, beside a server that only echoes
	$(PY) -m test.bench.doveauth

bench-expire: $(TESTS)     ## mailboxes a second of chatmail-expire, beside plain walks of the same 100,000 mailboxes
	$(PY) -m test.bench.expire

bench-load: $(TESTS) lab-deps      ## logins and creations a second by 50 clients, and each daemon's memory before and after
	$(VENV)/bin/pytest -q test/integration/test_load.py

bench-attack: $(TESTS) lab-deps    ## honest mail beside slow attackers: make bench-attack [QUICK=1] [BEFORE=COMMIT]
	$(PY) -m test.bench.attack $(if $(QUICK),--quick) $(if $(BEFORE),--before $(BEFORE))

bench-restarts: $(TESTS) lab-deps  ## 1,000 logins and messages while each of our services restarts ten times
	RESTARTS=10 ROUNDS=340 $(VENV)/bin/pytest -s --timeout 3600 test/integration/test_restarts.py -k restart

# A minute for each of the steps that `make integration` leaves out.
move-killed: $(TESTS) lab-deps     ## a relay moves to a new host while the move is killed in each of its steps
	KILL_IN=all $(VENV)/bin/pytest -s --timeout 3600 test/integration/test_migration.py

storm: $(TESTS) lab-up   ## mail while daemons and hosts are killed, then full disks and the like: make storm [MESSAGES=10000] [SEED=]
	$(PY) -m test.storm $(if $(MESSAGES),--messages $(MESSAGES)) $(if $(SEED),--seed $(SEED))

first-hour: $(TESTS) lab-deps  ## docs/first-relay.md, command by command, on bare or other hosts, to two clients that talk: [KINDS=all]
	$(PY) -m test.first_hour $(KINDS)

lab-deps: $(TESTS)   ## what the lab and its tests need from Debian
	$(LAB) deps

lab-up: $(TESTS)     ## bring the lab up: a name server and two bare hosts, _one.test (Debian 12) and _two.test (13)
	$(LAB) up

lab-down: $(TESTS)   ## take the lab down: no process, interface, mount or file stays
	$(LAB) down

# Outside of `make test`, whose test of it is skipped without. Some ten minutes; needs cargo.
lab-iroh:        ## build iroh-relay from its crate, for the test that uses a real one
	nice cargo install iroh-relay --version 0.35.0 --features server --locked --jobs 2 \
	    --root $${LAB_CACHE:-/var/cache/chatmail-lab}/iroh

lab-ssh: $(TESTS)    ## log in to a lab host: make lab-ssh HOST=_one.test
	$(LAB) ssh $(HOST)

venv: $(VENV)/installed      ## Salt and what operators need, pinned, in .venv: 26 MB to download, no compiler
# Debian's python3 where there is one: python3-venv is a package of its own there.
$(VENV)/installed: requirements.txt
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer found; name it: make venv PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	    { apt-get -qq update && apt-get -qq install -y --no-install-recommends python3-venv; } || \
	    { echo "$(PYTHON) has no venv; install the package that brings it" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/pip install --quiet wheel setuptools
	$(VENV)/bin/pip install --quiet --no-deps --requirement requirements.txt
	@# ./relay compares.
	@cp requirements.txt $@

# The tools of all tests, beside it.
$(VENV)/tests: test/requirements.txt $(VENV)/installed
	$(VENV)/bin/pip install --quiet --requirement test/requirements.txt
	@touch $@

.PHONY: help relay apply upgrade rollback migrate backup restore web test lint docs unit fuzz integration online bench bench-filter \
    bench-delivery bench-federation bench-queue bench-notifier bench-doveauth bench-expire bench-load bench-attack \
    bench-restarts storm first-hour move-killed lab-deps lab-up lab-down lab-iroh lab-ssh venv
