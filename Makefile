# `make` lists the targets. Everything happens in .venv, which is made once and renewed when setup.cfg changes.

PYTHON = python3
BIN = .venv/bin
PIP = $(BIN)/python -m pip --quiet --disable-pip-version-check install

.DEFAULT_GOAL = help
.PHONY: help lenet cifar10 test test-all warm bench lint clean
.DELETE_ON_ERROR:

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20
	@echo "PYTHON=python3.12 and the like choose the interpreter for .venv."

lenet: .venv/installed ## fetch MNIST, build the databases and train LeNet to about 99 %
	PYTHON=$(CURDIR)/$(BIN)/python data/mnist/get_mnist.sh
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/create_mnist.sh
	$(BIN)/caffe train --solver=models/lenet/lenet_solver.prototxt

cifar10: .venv/installed ## fetch CIFAR-10, build the databases and train CIFAR-10 quick to about 75 %
	PYTHON=$(CURDIR)/$(BIN)/python data/cifar10/get_cifar10.sh
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/create_cifar10.sh
	$(BIN)/caffe train --solver=models/cifar10_quick/cifar10_quick_solver.prototxt
	$(BIN)/caffe train --solver=models/cifar10_quick/cifar10_quick_solver_lr1.prototxt \
	    --snapshot=models/cifar10_quick/cifar10_quick_iter_4000.solverstate.h5

test: .venv/installed-test ## run the tests, but for the slow ones
	$(BIN)/python -m pytest -m "not slow"

test-all: .venv/installed-test ## run all tests
	$(BIN)/python -m pytest

warm: .venv/installed ## compile the kernels ahead: LeNet's, or all with WARM=--models=models
	$(BIN)/caffe warm $(WARM)

bench: .venv/installed-bench ## measure LeNet and other nets against PyTorch
	$(BIN)/python scripts/bench/bench_lenet.py
	$(BIN)/python -m scripts.bench.bench_nets

lint: .venv/installed-test ## check the style
	$(BIN)/ruff check .

clean: ## remove .venv and all that was built; data, databases and snapshots stay
	rm -rf .venv build dist .pytest_cache .ruff_cache *.egg-info
	find caffetools tests -name __pycache__ -type d -exec rm -rf {} +

.venv/made:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("Python 3.10 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv --clear .venv
	@touch $@

.venv/installed: .venv/made setup.cfg pyproject.toml
	$(PIP) --editable .
	@touch $@

.venv/installed-%: .venv/installed
	$(PIP) --editable '.[$*]'
	@touch $@
