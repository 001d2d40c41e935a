# `make demo` and `make test` set up all they need. Another Python: make setup PYTHON=python3.12
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup demo test test-all gpu lint format clean

help:
	@echo "make demo      set up and drive end to end through the ROS 2 nodes; writes runs/demo"
	@echo "make test      set up and run the tests; make test-all runs the slow ones too"
	@echo "make gpu       with an NVIDIA GPU: the tests that need one, and karp bench into models/*/bench.json"
	@echo "make setup     create or repair .venv; a few seconds when nothing has changed"
	@echo "make lint      ruff, check only; make format applies it"
	@echo "make clean     remove .venv, runs and what builds left behind"

setup:
	@$(PYTHON) tools/setup_environment.py

demo: setup
	@$(BIN)/karp demo --out runs/demo

test: setup
	@$(BIN)/python -m pytest -q -m "not slow"

test-all: setup
	@$(BIN)/python -m pytest -q

gpu: setup
	@$(BIN)/python tools/check_gpu.py

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: setup
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:
	rm -rf .venv build dist install log runs *.egg-info .pytest_cache .ruff_cache .hypothesis
