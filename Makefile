# Every target sets up what it needs. PIP_ARGS is passed to pip (for a CPU-only torch, see the README).
PYTHON ?= python3
PIP_ARGS ?=
PY := .venv/bin/python
PAGES = for name in real boosting claims map; do $(PY) experiments/$${name}_report.py || exit 1; done

.PHONY: run report studies searches test test-slow postgresql browser lint check bench bench-kernels clean

run: .venv/.with-run ## the showcase: a network and LightGBM on card fraud, by loss, three seeds each: table and figure
	@if $(PY) -m rarelab data fetch creditcard; then \
	  exec $(PY) -m rarelab train experiments=creditcard; \
	else \
	  echo "creditcard is unavailable: running a sweep on generated toy data instead"; \
	  exec $(PY) -m rarelab train -m loss=bce,smooth_ap "seed=range(3)" sweep.n_jobs=2; \
	fi

report: .venv/.with-run ## the ledger's tables and figures (experiments/README.md), from the committed runs
	$(PY) -m rarelab.ledger report
	$(PAGES)

studies: .venv/.with-run ## rerun the studies, all or STUDY=name, and write runs, tables and figures
	$(PY) -m rarelab.ledger run $(STUDY)
	$(PAGES)

searches: .venv/.with-search ## rerun the searches behind the studies of real data, all or STUDY=name
	$(PY) experiments/search_real.py $(STUDY)

test: .venv/.with-test ## all tests except the slow ones
	$(PY) -m pytest -n auto

test-slow: .venv/.with-test-slow postgresql browser ## the tests that need servers, several processes, downloads or minutes
	$(PY) -m pytest -m slow

# Installed if root on Debian; elsewhere the tests that need it are skipped with a message.
postgresql:
	@command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -q && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends postgresql; \
	} || echo "PostgreSQL is not installed: the tests that need it are skipped"

browser: ## Debian's Chromium, for the dashboard test
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || { \
	  apt-get update -q && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends chromium chromium-driver; \
	} || { echo "install chromium and chromedriver: the dashboard test needs them"; exit 1; }

lint: .venv/.with-check ## style, types and known vulnerabilities
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m pyright
	$(PY) -m bandit -q -c pyproject.toml -r src
	$(PY) tests/audit.py

check: lint test ## style, types, security and tests

bench: .venv/.with-bench ## the measurements that a release is judged by, all or BENCH="name name"
	$(PY) experiments/release.py $(BENCH)

bench-kernels: .venv/.with-bench ## the ranking losses against published implementations (ten minutes)
	$(PY) experiments/bench_kernels/run.py

clean: ## remove the environment; the records in outputs/ are kept
	rm -rf .venv

.venv/bin/python:
	"$(PYTHON)" -m venv .venv

# One stamp per set of extras; a changed requirement reinstalls.
.venv/.with-run: pyproject.toml constraints.txt | .venv/bin/python
	$(PY) -m pip install $(PIP_ARGS) -c constraints.txt -e .
	@touch $@

.venv/.with-%: pyproject.toml constraints.txt | .venv/bin/python
	$(PY) -m pip install $(PIP_ARGS) -c constraints.txt -e ".[$*]"
	@touch $@
