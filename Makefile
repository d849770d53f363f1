# Each target sets itself up: a virtual environment in .venv, and, where we are root on Debian, the programs that
# tests run for real (RUNLEVEL=1: installed, not started). `make help` lists the targets.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
APT    := redis-server memcached nginx-light nodejs openjdk-17-jdk-headless dbus libglib2.0-0 libglib2.0-bin tmux prometheus \
          mandoc groff zsh fish gawk sqlite3 valgrind
APT_ALL := chromium postgresql ffmpeg
QUIET_APT = if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
  for p in $(1); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
  [ -z "$$missing" ] || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get install -qq -y --no-install-recommends -o DPkg::Lock::Timeout=180 $$missing >/dev/null; }; fi

.PHONY: help demo test test-all lint types wheel-test bench instructions soak deb lab model recordings release clean

help:                   ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(VENV)/demo.stamp    ## a real app killed without the guard and alive with it, and a picture of both
	$(BIN)/oomguard demo --plot out/demo.png $(ARGS)

test: $(VENV)/dev.stamp     ## unit, cgroup, kernel-kill, server, runtime and bus tests
	@missing=; $(call QUIET_APT,$(APT))
	$(BIN)/python -m pytest $(ARGS)

test-all: $(VENV)/dev.stamp ## the same, and a browser, a thousand kills, and a virtual device (builds its image the first time)
	@missing=; $(call QUIET_APT,$(APT) $(APT_ALL))
	OOMGUARD_DEVICE=1 OOMGUARD_BROWSER=1 $(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/dev.stamp     ## ruff and the import rules
	$(BIN)/ruff check agent tests bench setup.py
	$(BIN)/lint-imports

types: $(VENV)/dev.stamp    ## mypy, strict
	$(BIN)/mypy

wheel-test: $(VENV)/dev.stamp  ## build the wheel, install it elsewhere, run it; and once without a compiler
	sh tests/wheel.sh $(BIN)/python

bench: $(VENV)/dev.stamp    ## every figure of README and docs/latency.md, measured here; out/bench.html (7 minutes)
	@missing=; $(call QUIET_APT,valgrind qemu-user-static)
	$(BIN)/python -m pytest bench/test_*.py --benchmark-only --fresh $(ARGS)
	$(BIN)/python bench/report.py

instructions: $(VENV)/dev.stamp  ## instructions per score by valgrind, against the stored baseline
	@missing=; $(call QUIET_APT,valgrind)
	$(BIN)/python bench/instructions.py $(ARGS)

soak: $(VENV)/dev.stamp     ## an hour at ten readings a second under random faults, and a million ticks (root)
	$(BIN)/python -m bench.soak $(ARGS)
	$(BIN)/python -m bench.soak --ticks 1000000

deb: $(VENV)/dev.stamp      ## the Debian package, in dist/; the same bits each time
	$(BIN)/python agent/deploy/debian/build.py --out dist $(ARGS)

model: $(VENV)/dev.stamp    ## retrain the default bundle from its recipe; the same bits on the same versions
	$(BIN)/oomguard learn train models/recipes/default.yaml --out models/default $(ARGS)

lab: $(VENV)/dev.stamp      ## virtual devices, guarded by nobody, by others, by oomguard: docs/lab.md (root; hours under emulation)
	$(BIN)/python -m bench.lab survey $(ARGS)
	$(BIN)/python -m bench.lab page

recordings: $(VENV)/dev.stamp  ## record models/recordings/lab again: real programs, real kills; root, 24 GB, 90 minutes
	@missing=; $(call QUIET_APT,$(APT) $(APT_ALL))
	$(BIN)/oomguard learn lab models/lab.yaml --work out/lab --out models/recordings/lab $(ARGS)

release: $(VENV)/dev.stamp   ## wheels, sdist, SBOM and provenance of HEAD in dist/
	rm -rf dist out/sbom
	$(BIN)/python agent/deploy/release.py build --out dist
	$(BIN)/python agent/deploy/wheels.py dist/*linux_x86_64.whl --out dist
	$(PYTHON) -m venv --without-pip out/sbom
	$(BIN)/pip --python out/sbom/bin/python install --quiet dist/*-linux_x86_64.whl
	$(BIN)/cyclonedx-py environment --output-reproducible --sv 1.6 --of JSON -o dist/sbom.cdx.json out/sbom/bin/python
	rm dist/*-linux_x86_64.whl
	$(BIN)/python agent/deploy/release.py provenance --out dist

clean:                  ## remove what was built
	rm -rf $(VENV) build dist out *.egg-info agent/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip

$(VENV)/demo.stamp: $(VENV)/bin/python setup.cfg setup.py agent/oomguard/_kernel.c
	$(BIN)/pip install --quiet --editable '.[plot]'
	mkdir -p out && touch $@

$(VENV)/dev.stamp: $(VENV)/bin/python setup.cfg setup.py agent/oomguard/_kernel.c
	$(BIN)/pip install --quiet --editable '.[dev]'
	mkdir -p out && touch $@ $(VENV)/demo.stamp
