SHELL := bash
.DEFAULT_GOAL := help
VENV := .venv
PY := $(VENV)/bin/python

help:            ## list the targets
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

venv: $(VENV)/installed      ## the tools and Salt, pinned, in .venv
# Debian's python3, the version that the target runs; python3-venv is a package of its own there.
$(VENV)/installed: test/requirements.txt
	@/usr/bin/python3 -c 'import ensurepip' 2>/dev/null || { apt-get -qq update && apt-get -qq install -y --no-install-recommends python3-venv; }
	/usr/bin/python3 -m venv --clear $(VENV)
	$(VENV)/bin/pip install --quiet wheel setuptools
	$(VENV)/bin/pip install --quiet --requirement test/requirements.txt
	@touch $@

.PHONY: help venv
