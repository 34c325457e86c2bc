# Two commands on a fresh machine: `make demo` and `make test`.

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
INSTALLED := $(VENV)/installed

# One thread is faster than two at the size of the tiny model.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: demo test lint format clean

demo: $(INSTALLED)
	rm -rf demo
	$(VENV)/bin/python examples/main_job.py --out demo

test: lint
	$(VENV)/bin/python -m pytest -q

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(INSTALLED)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) demo

# Torch comes first and by itself: with it installed, nothing below brings another. Before anything
# is downloaded, a machine without an NVIDIA driver is asked whether it would be sent the CUDA build.
$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -c 'import torch' 2>/dev/null || { \
	  $(VENV)/bin/pip install --quiet --dry-run --ignore-installed --report $(VENV)/torch.json '$(TORCH)' && \
	  if ! command -v nvidia-smi >/dev/null && grep -q '"name": "nvidia-' $(VENV)/torch.json; then \
	    echo 'make: $(TORCH) is the CUDA build here, several GB, and this machine has no NVIDIA driver.' >&2; \
	    echo 'make: point pip at the CPU build (README, "Installing"), or run: make TORCH="$(TORCH)" CUDA=yes' >&2; \
	    test -n '$(CUDA)'; \
	  fi && \
	  $(VENV)/bin/pip install --quiet '$(TORCH)'; }
	$(VENV)/bin/pip install --quiet --editable '.[train,dev]'
	touch $@
