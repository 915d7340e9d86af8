# Both `make demo` and `make test` set up what they need: an environment in .venv with the pins of constraints.txt.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO ?= runs/demo
BENCH ?=

# One small net, Adam at one learning rate for all three, stopped at one training loss: what differs is the batch.
RECIPE := --model mlp --model-arg hidden=32,32 --optimizer adam --lr 1e-3 --schedule constant --warmup 0 \
  --weight-decay 0 --clip 0 --stop-train-loss 0.1 --epochs 1500 --eval-every 25

.PHONY: help demo test test-slow test-long check format lint types install smoke samples bench clean

help:  ## List what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(INSTALLED)  ## Create the environment

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(INSTALLED)  ## Train in three modes from one initialization, analyse, compare
	$(BIN)/sharpcli train --mode sgd,largebatch,fullbatch $(RECIPE) --out $(DEMO) --overwrite
	$(BIN)/sharpcli hessian $(DEMO)/sgd $(DEMO)/largebatch $(DEMO)/fullbatch --topk 10 --plot $(DEMO)/spectrum.png
	$(BIN)/sharpcli interpolate $(DEMO)/sgd $(DEMO)/fullbatch --plot $(DEMO)/interpolation.png
	$(BIN)/sharpcli compare $(DEMO)/sgd $(DEMO)/largebatch $(DEMO)/fullbatch --plot $(DEMO)/comparison.png
	@echo "Look at $(DEMO)/interpolation.png, $(DEMO)/spectrum.png and $(DEMO)/comparison.png"

test: $(INSTALLED)  ## Run the fast tests: almost every property once, five minutes on two cores
	$(BIN)/python -m pytest

test-slow: $(INSTALLED)  ## Run the slow tests, which continuous integration runs after the fast ones
	$(BIN)/python -m pytest -m slow

test-long: $(INSTALLED)  ## Run the tests of minutes each, before a release
	$(BIN)/python -m pytest -m long

check: lint types test  ## What must pass before a commit: style, imports, types and the fast tests

smoke: $(INSTALLED)  ## Build a wheel, and run every command from it
	$(BIN)/python tools/smoke.py

format: $(INSTALLED)  ## Format the code
	$(BIN)/ruff format src tests tools benchmarks
	$(BIN)/ruff check --fix src tests tools benchmarks

lint: $(INSTALLED)  ## Style and the direction of imports
	$(BIN)/ruff format --check src tests tools benchmarks
	$(BIN)/ruff check src tests tools benchmarks
	$(BIN)/lint-imports

types: $(INSTALLED)  ## Types
	$(BIN)/mypy

samples: $(INSTALLED)  ## Make sample_checkpoints/ again
	$(BIN)/sharpcli train --mode sgd,largebatch,fullbatch $(RECIPE) --out sample_checkpoints --overwrite

bench:  ## Measure beside the peers, in an environment of its own; BENCH="--quick --json FILE" or other words
	$(PYTHON) -m benchmarks $(BENCH)

clean:  ## Remove the environments and what demo and bench made
	rm -rf $(VENV) $(DEMO) benchmarks/.venv benchmarks/.cache
