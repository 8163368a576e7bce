# Two commands matter: `make run` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
TORCH  := 2.13.0
STAMP  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup lock check mutants pictures test test-apps test-system golden gpu run tour results reference clean

help:            ## this list
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 16

setup: $(STAMP)  ## the environment, in .venv

# torch by version first: which build it is depends on the machine, so no one hash fits everybody.
# Then everything else by hash. A Ctrl-C leaves no stamp, and the next call goes on.
$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "cannot make a virtual environment with $(PYTHON); install Python 3.11 to 3.13 with its venv module, or set PYTHON=" >&2; exit 1; }
	@$(BIN)/python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { echo "$$($(BIN)/python --version) is not supported: Python 3.11 to 3.13; make clean, then make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	@echo "the environment, once: torch first, then some 320 packages by their hashes; a few minutes" >&2
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps torch==$(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@cuda=$$($(BIN)/python -c 'import re, importlib.metadata as m; print("\n".join(r.split(";")[0].strip() for r in m.requires("torch") or () if re.match("nvidia|cuda|triton", r) and "extra" not in r))' ); \
	if [ -n "$$cuda" ]; then echo "$$cuda" | $(BIN)/python -m pip install --quiet --disable-pip-version-check -r /dev/stdin; fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

# uv resolves without looking at the packages of this machine, so the lock is good elsewhere too.
lock:            ## make requirements.lock anew from pyproject.toml
	@mkdir -p .tidemill && test -x .tidemill/lock/bin/uv || { $(PYTHON) -m venv .tidemill/lock && .tidemill/lock/bin/pip install --quiet uv; }
	@.tidemill/lock/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --quiet -o .tidemill/lock/all.txt
	@{ echo "# Linux x86-64, CPython 3.11 to 3.13; run on 3.11. Made by \`make lock\`."; \
	  echo "# torch and what only its CUDA build needs are not here: pip installs torch==$(TORCH) by version first."; \
	  .tidemill/lock/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --quiet \
	    $$(grep -oE '^(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)(\[[a-z,]*\])?==' .tidemill/lock/all.txt | sed -E 's/(\[.*)?==//; s/^/--no-emit-package /') \
	  | sed -E "/^[a-z]/{s/(implementation_name == 'cpython'|platform_machine == 'x86_64'|sys_platform == 'linux'|platform_python_implementation != 'PyPy'|python_full_version < '3.14')( and )?//g; s/ and ( |\\\\)/ \1/; s/ and +\\\\/ \\\\/; s/ ; +\\\\/ \\\\/}"; } > requirements.lock
	@grep -c == requirements.lock

check: setup     ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/mypy

test: setup      ## the default tests: no root, no network beyond pip
	$(BIN)/python -m pytest -m "not system and not apps" -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-apps: setup ## whole runs and nights of applications, a quarter of an hour more
	$(BIN)/python -m pytest -m "apps and not system" -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-system: setup  ## slow tests, and those that need root or a Debian package
	$(BIN)/python -m pytest -m system $(ARGS)

# mutmut has an environment of its own, and sees this one's packages.
mutants: setup   ## break the verdict's pure functions in every way, and count what the tests see
	@test -x .tidemill/mutmut/bin/mutmut || { $(PYTHON) -m venv .tidemill/mutmut && .tidemill/mutmut/bin/pip install --quiet mutmut==3.*; }
	PYTHONPATH=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') .tidemill/mutmut/bin/mutmut run --max-children 2

pictures: setup  ## the pictures of docs/operate.md and docs/serve.md, from the real pages (needs Chromium)
	TIDEMILL_PICTURES=$(CURDIR)/docs/pictures $(BIN)/python -m pytest tests/test_browser.py tests/test_serve_page.py

golden: setup    ## the numbers of a seeded training of each recipe, made anew: only where they are meant to change
	TIDEMILL_GOLDEN=write $(BIN)/python -m pytest tests/test_recipes.py -k numbers_it_gave_before

gpu: setup       ## on a machine with a GPU: train a 124M GPT for two minutes, kill it, go on, and write what was measured
	$(BIN)/python -m benchmarks.gpu

run: setup       ## one retraining of `languages`, here and now
	$(BIN)/tidemill run languages $(ARGS)

tour: setup      ## nights over releases of a package: a killed training, a broken release; in .tidemill/tour
	$(BIN)/python -m tidemill.cli.tour

reference: setup  ## docs/reference, from the commands and settings themselves
	$(BIN)/python -m tidemill.cli.reference

results: setup   ## README's table from the last verdicts; ARGS=--run makes new ones, each from nothing
	$(BIN)/python -m benchmarks.results $(ARGS)

clean:           ## remove the environment and caches; data and models stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache *.egg-info
