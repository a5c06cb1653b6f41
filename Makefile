# Every target that needs Python installs it first, into .venv, when requirements.txt
# or constraints.txt changed. `make` alone lists what there is.

# Where .venv has no Python yet, the first of these that is 3.11 or newer makes it.
PYTHON = python3 python3.13 python3.12 python3.11
# Another index for torch alone: make book TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
export TORCH_INDEX

# One thread a process: pytest and tools/run.py work on two pages at a time.
OMP_NUM_THREADS ?= 1
export OMP_NUM_THREADS

PY = .venv/bin/python
# Inside the conda environment of environment.yml, that one is used and .venv is not.
ifeq ($(CONDA_DEFAULT_ENV),settled)
PY = python
endif
PYTEST = $(PY) -m pytest -n 2 --dist loadscope

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s%s\n", $$1, $$2 }' Makefile

.PHONY: install
install: ## make .venv, or bring it up to the lock; every other target does so first
	@test $(PY) = python && exit; \
	for python in .venv/bin/python $(PYTHON); do \
	  if $$python -ISc 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	  then exec $$python tools/install.py; fi; \
	done; \
	echo "No Python 3.11 or newer here (tried: $(PYTHON)); install one," \
	  "or name one: make PYTHON=/path/to/python3.12" >&2; \
	exit 1

.PHONY: book
book: install ## build the site from the stored outputs; executes nothing
	@$(PY) -m sphinx -W -n --keep-going -q -c book -d _build/doctrees \
	  chapters _build/html
	@echo "The book is in _build/html/index.html: open that file in a browser."

.PHONY: lab
lab: install ## open the chapters in JupyterLab
	$(PY) -m jupyterlab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/chapters \
	  $(if $(filter 0,$(shell id -u)),--allow-root) # in a container, say

.PHONY: test
test: install ## what CI runs: lint, unit tests, every page executed and compared
	$(PY) -m ruff check .
	$(PYTEST) tests chapters --durations=10

.PHONY: run
run: install ## execute the pages that changed and store their outputs (FRESH=1: all)
	$(PY) tools/run.py $(if $(FRESH),--fresh)

.PHONY: faults
faults: install ## break the code in small ways; each must turn a test red
	$(PY) tools/faults.py

.PHONY: shake
shake: install ## execute every page as a lesser processor would, and compare
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_CBWR=COMPATIBLE \
	  OMP_NUM_THREADS=2 $(PYTEST) -n 0 chapters

.PHONY: records
records: install ## measure again what takes many seeds or minutes
	$(PY) tools/records.py

.PHONY: bench
bench: install ## time ours beside the library's
	$(PY) tools/bench.py

.PHONY: audit
audit: book ## walk the site and JupyterLab in a real browser (needs Chromium)
	$(PY) -m pip install --quiet -c constraints.txt \
	  -r tools/audit-requirements.txt
	$(PY) tools/audit.py

.PHONY: lock
lock: install ## write constraints.txt anew from requirements.txt (UPGRADE=1: newest)
	$(PY) -m pip install --quiet uv
	@mkdir -p _build && cp constraints.txt _build/lock.txt
	grep -v '^-' requirements.txt | $(PY) -m uv pip compile - --quiet --universal \
	  --fork-strategy fewest --python-version 3.11 --no-annotate --no-header \
	  --no-emit-package torch $(if $(UPGRADE),--upgrade) -o _build/lock.txt
	{ echo '# Made by make lock from requirements.txt; not edited by hand.'; \
	  grep -Ev '^(nvidia|cuda|triton)' _build/lock.txt; } > constraints.txt

.PHONY: clean
clean: ## remove what was built, but not .venv
	rm -rf _build .pytest_cache .ruff_cache .hypothesis
	find . -path ./.venv -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) \
	  -print | xargs rm -rf
