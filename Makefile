# Everything the project can do. The work is in scripts/, manage.py and pytest; see CONTRIBUTING.md.
# SITES, PORT, BIND, POLLERS (docs/configuration.md) may be given here: make run SITES=2000

.POSIX:
.PHONY: run setup test check bench shots faults clean

PYTHON = python3
PY = .venv/bin/python

run:
	@$(PYTHON) scripts/setup.py run
	@$(PY) manage.py up

setup:
	@$(PYTHON) scripts/setup.py test

test: setup
	@$(PY) -m pytest -n auto -m "not full"
	@PATH="$$PWD/.venv/bin:$$PATH" npm test --silent

check: setup
	@$(PY) scripts/check.py

faults: setup
	@$(PY) -m pytest -n 2 -m full

bench: setup
	@$(PY) -m bench

shots: setup
	@$(PY) -m pytest -q tests/browser/shots.py

clean:
	@rm -rf .venv node_modules static/vendor staticfiles .mypy_cache .ruff_cache .pytest_cache .hypothesis \
	    .import_linter_cache shots bench.json
