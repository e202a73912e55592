# `make lab` and `make test` do all their own set-up: they need Python 3.11 or newer, and this make.
# PYTHON=python3.12 make lab     chooses the Python      LAB_ARGS=--no-browser make lab   adds flags

PYTHON_IN_VENV = .venv/bin/python
# The notebook that `make lab` opens, by name or number.
NOTEBOOK = 01_async_batch

# The newest release that `make lock` may choose; move it on to take newer ones.
LOCK_DATE = 2026-11-01

.PHONY: help lab reset test check nightly contracts soak build bench bundle site doctor lock setup

help:
	@echo "make lab     start JupyterLab on your own copy of the first notebook (NOTEBOOK=4: another)"
	@echo "make reset   put your copies aside and begin anew"
	@echo "make test    run everything: lint, types, tests, notebooks, browser"
	@echo "make check   the daily part: lint, types, unit tests; PART=caching for one package"
	@echo "make nightly run what takes long: many examples of every property"
	@echo "make contracts  other people's suites with oldest, locked and newest versions"
	@echo "               (PYTHONS=\"3.11 3.13\" and VERSIONS=oldest: with these; UNIT=1: all unit tests;"
	@echo "               REPORT=1: write docs/contracts.md, too)"
	@echo "make soak    storms, faults, notebooks 20 times, made-up inputs: hours (RUNS=2: the notebooks"
	@echo "             twice; REPORT=1: write docs/reliability.md, too; SOAK_ARGS: see tools/soak.py)"
	@echo "make build   build the notebooks from notebooks/sources (TEXT=1: only their text is new)"
	@echo "make bench   compare this package with its peers; REPORT=1 writes docs/performance.md, QUICK=1 is a look"
	@echo "make bundle  one folder that starts without a network (BUNDLE_ARGS: see tools/bundle.py)"
	@echo "make site    build the website into build/site; SITE_ARGS=--serve: and show it"
	@echo "make doctor  say whether this machine is ready, and what to do if not"
	@echo "make lock    choose newer versions (needs uv and the network)"

lab: setup
	@exec $(PYTHON_IN_VENV) -m course_lib lab $(NOTEBOOK) $(LAB_ARGS)

reset: setup
	@$(PYTHON_IN_VENV) -m course_lib reset

test: setup
	@$(PYTHON_IN_VENV) tools/checks.py test

check: setup
	@$(PYTHON_IN_VENV) tools/checks.py check $(if $(PART),--part $(PART))

nightly: setup
	@$(PYTHON_IN_VENV) tools/checks.py nightly

contracts: setup
	@$(PYTHON_IN_VENV) tools/contracts.py $(if $(PYTHONS),--pythons "$(PYTHONS)") \
	  $(if $(VERSIONS),--versions "$(VERSIONS)") $(if $(UNIT),--unit) $(if $(REPORT),--report)

soak: setup
	@$(PYTHON_IN_VENV) tools/soak.py $(if $(RUNS),--runs $(RUNS)) $(if $(REPORT),--report) $(SOAK_ARGS)

build: setup
	@$(PYTHON_IN_VENV) tools/build_notebooks.py $(if $(TEXT),--text)

bench: setup
	@$(PYTHON_IN_VENV) -m benchmarks $(if $(REPORT),--report) $(BENCH)

bundle: setup
	@$(PYTHON_IN_VENV) tools/bundle.py $(BUNDLE_ARGS)

site: setup
	@$(PYTHON_IN_VENV) tools/website.py $(SITE_ARGS)

doctor: setup
	@$(PYTHON_IN_VENV) -m course_lib doctor

lock:
	uv pip compile pyproject.toml --upgrade --all-extras --universal --generate-hashes \
	  --no-emit-index-url --no-header --no-annotate --python-version 3.11 \
	  --exclude-newer $(LOCK_DATE) --output-file requirements.lock

# The first Python that runs (a shim may be there and fail) and is new enough. The environment's own
# comes first, so that a Python once chosen with PYTHON= stays.
setup:
	@if [ -n "$$PYTHON" ]; then set -- "$$PYTHON"; \
	else set -- $(PYTHON_IN_VENV) python3.13 python3.12 python3.11 python3 python; fi; \
	for python do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
	  then exec "$$python" tools/setup.py; fi; \
	done; \
	echo "No Python 3.11 or newer works here (tried: $$*)." >&2; \
	echo "Install one (Debian: apt install python3 python3-venv; macOS: brew install python)," >&2; \
	echo "or name one that is elsewhere: PYTHON=/path/to/python make lab" >&2; \
	exit 1
