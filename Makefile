# `make` lists the targets. Everything happens in .venv, which is made once and renewed when setup.cfg changes.

PYTHON = python3
BIN = .venv/bin
PIP = $(BIN)/python -m pip --quiet --disable-pip-version-check install

# Tests compile more than they compute, which takes one processor: so many run at once, those of a file one by one.
TEST_JOBS = 2
# What `make test` runs of the GPU engine's tests, in the simulator.
GPU_QUICK = $(patsubst %,tests/gpu/test_%.py,memory operations iteration solvers precision cudnn feed out_of_memory \
	nccl exchange ranks)

.DEFAULT_GOAL = help
.PHONY: help lenet cifar10 test test-all test-cudasim test-gpu warm bench bench-gpu docs lint clean
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
	$(BIN)/python -m pytest -m "not slow" -n $(TEST_JOBS) --dist loadfile
	NUMBA_ENABLE_CUDASIM=1 $(BIN)/python -m pytest -m "not slow" -n $(TEST_JOBS) --dist loadfile $(GPU_QUICK)

test-all: .venv/installed-test ## run all tests
	$(BIN)/python -m pytest

test-cudasim: .venv/installed-test ## run all tests of the GPU engine in numba's simulator
	NUMBA_ENABLE_CUDASIM=1 $(BIN)/python -m pytest tests/gpu

test-gpu: .venv/installed-gpu .venv/installed-test ## run all tests of the GPU engine on the GPU
	$(BIN)/python -m pytest tests/gpu

warm: .venv/installed ## compile the kernels ahead: LeNet's, or all with WARM=--models=models
	$(BIN)/caffe warm $(WARM)

bench: .venv/installed-bench ## compare with PyTorch in time and memory, measure kernels, dispatch and start (10 minutes)
	$(BIN)/python -m scripts.bench.bench_nets --seconds 2
	$(BIN)/python -m scripts.bench.bench_nets --seconds 2 --threads 1
	$(BIN)/python -m scripts.bench.bench_memory
	$(BIN)/python scripts/bench/bench_engine.py
	$(BIN)/python -m scripts.bench.bench_dispatch
	$(BIN)/python -m scripts.bench.bench_start

bench-more: .venv/installed-bench ## measure data layers, nets that train from databases, and how steps scale (20 minutes)
	$(BIN)/python -m scripts.bench.bench_data
	$(BIN)/python -m scripts.bench.bench_data --nets all --seconds 5
	$(BIN)/python -m scripts.bench.bench_scaling
	$(BIN)/python -m scripts.bench.bench_packing
	$(BIN)/python -m scripts.bench.bench_split

bench-gpu: .venv/installed-gpu .venv/installed-bench ## compare with PyTorch and cuDNN on the GPU, hold the results to the bars
	$(BIN)/python -m scripts.bench.bench_gpu $(BENCH)

docs: .venv/installed-docs ## build the documentation into site/
	$(BIN)/python -m mkdocs build --strict

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
