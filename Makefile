# Run `make help`. Everything happens in .venv and build/; nothing is installed elsewhere.
PYTHON ?= python3
# Arguments for the pip that installs torch. Without any, torch comes from the default index: on Linux, a CUDA build.
TORCH_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
JOBS ?= $(shell nproc)
# Folders are listed, too: their modification time changes when a file is added or removed.
CXX_SOURCES := $(shell find csrc cmake) CMakeLists.txt pyproject.toml
# Prefer the virtual environment's cmake: the machine's own may be too old.
CMAKE := PATH="$(abspath $(BIN)):$$PATH" cmake
CTEST := PATH="$(abspath $(BIN)):$$PATH" ctest

.DEFAULT_GOAL := help
.PHONY: help demo test wheel wheel-cuda test-wheel sdist test-cpp test-emulated test-cuda-emulated test-cuda bench-cuda test-neon test-python dev lint format sanitize soak bench cuda-compile clean

help: ## Show the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16
	@echo
	@echo "PYTHON=python3.12             makes .venv with it (3.11 or newer; default: python3)"
	@echo "TORCH_ARGS='--index-url ...'  goes to the pip that installs torch: for a build for CPUs, say"

# On a busy machine, OpenMP threads that spin while they wait make training 20 times slower (docs/training.md).
demo test-python: export OMP_WAIT_POLICY ?= PASSIVE

demo: dev ## Fresh machine: build, get MovieLens-100K, train, evaluate, recommend
	$(BIN)/python examples/demo.py

test: dev test-cpp test-python ## Fresh machine: build and run all tests

# The stamp file does not show that the package was uninstalled, or replaced by a wheel.
IN_PLACE = $(BIN)/python -I -c 'import importlib.util, os, sys; found = importlib.util.find_spec("lsif_sdk"); \
  sys.exit(not found or not found.origin or not os.path.samefile(os.path.dirname(found.origin), "python/lsif_sdk"))'
dev: $(VENV)/built ## Make .venv with the SDK built and installed in place, and all tools
	@$(IN_PLACE) || { rm $(VENV)/built; $(MAKE) --no-print-directory $(VENV)/built; }

CHECK_PYTHON = $(1) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
  echo "make: expected Python 3.11 or newer, got $$($(1) --version 2>&1) ($(1)): $(2)"; exit 1; }
$(VENV)/tools: constraints.txt pyproject.toml
	@test -x $(BIN)/python || { $(call CHECK_PYTHON,$(PYTHON),PYTHON=... names another); }
	@test ! -x $(BIN)/python || { $(call CHECK_PYTHON,$(BIN)/python,remove $(VENV); PYTHON=... names another to make it with); }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing packages into $(VENV) (some minutes on a slow network) ..."
	$(PIP) install -c constraints.txt $(TORCH_ARGS) torch
	$(PIP) install -c constraints.txt numpy pybind11 scikit-build-core ninja cmake
	touch $@

$(VENV)/built: $(VENV)/tools $(CXX_SOURCES)
	@echo "Building lsif_sdk ..."
	CMAKE_BUILD_PARALLEL_LEVEL=$(JOBS) $(PIP) install -c constraints.txt --no-build-isolation -e '.[train,test,lint]'
	touch $@

test-cpp: dev ## C++ tests, on every instruction set this machine can run
	$(CMAKE) -S . -B build/tests -G Ninja -DLSIF_PYTHON=OFF -DLSIF_TESTS=ON
	$(CMAKE) --build build/tests
	$(CTEST) --test-dir build/tests --parallel $(JOBS) --output-on-failure

test-emulated: dev ## C++ tests of the AVX-512 kernels too, emulated on AVX2 (needs SIMDe)
	@if echo '#include <simde/x86/avx512.h>' | $(CXX) -E -x c++ - > /dev/null 2>&1; then \
	  $(CMAKE) -S . -B build/emulated -G Ninja -DLSIF_PYTHON=OFF -DLSIF_TESTS=ON -DLSIF_EMULATE_AVX512=ON && \
	  $(CMAKE) --build build/emulated && \
	  $(CTEST) --test-dir build/emulated --parallel $(JOBS) --output-on-failure; \
	else echo "Skipped: $(CXX) finds no simde/x86/avx512.h (Debian: libsimde-dev)"; fi

test-cuda-emulated: dev ## C++ tests of the CUDA kernels, run on the CPU (part of test-cpp, too)
	$(CMAKE) -S . -B build/tests -G Ninja -DLSIF_PYTHON=OFF -DLSIF_TESTS=ON
	$(CMAKE) --build build/tests
	$(CTEST) --test-dir build/tests --parallel $(JOBS) --output-on-failure --tests-regex '^cuda_'

# The GPU targets download nothing: they use the CMake, ninja and nvcc already installed.
HAS_GPU = nvidia-smi -L > /dev/null 2>&1 || { echo "make $@: no NVIDIA GPU here (nvidia-smi -L), so nothing was run;" \
  "the CUDA kernels have not been run on a GPU by this. make test-cuda-emulated runs their logic on the CPU."; exit 1; }
CONFIGURE_GPU = $(CMAKE) -S . -B build/gpu -G Ninja -DLSIF_PYTHON=OFF -DLSIF_TESTS=ON -DLSIF_CUDA=ON \
  -DCMAKE_CUDA_ARCHITECTURES=native

test-cuda: ## On a GPU machine: C++ tests of the CUDA kernels, compute-sanitizer on the small ones, tests by PYTHON
	@$(HAS_GPU)
	$(CONFIGURE_GPU)
	$(CMAKE) --build build/gpu --target gpu_tests
	sh tests/cuda/run.sh build/gpu/tests/cuda $(PYTHON)

bench-cuda: ## On a GPU machine: times score_topk, the encoder and requests beside torch, that of PYTHON
	@$(HAS_GPU)
	@$(PYTHON) -c 'import torch' 2> /dev/null || { echo "make $@: $(PYTHON) has no torch; PYTHON=... names one"; exit 1; }
	$(CONFIGURE_GPU)
	$(CMAKE) --build build/gpu --target lsif_cuda_bench
	$(PYTHON) bench/gpu_topk.py build/gpu/tests/cuda/liblsif_cuda_bench.so
	$(PYTHON) bench/gpu_requests.py build/gpu/tests/cuda/liblsif_cuda_bench.so
	$(PYTHON) bench/gpu_encode.py build/gpu/tests/cuda/liblsif_cuda_bench.so

# test_thread_pool is excluded: QEMU itself fails in a forked child that starts threads.
NEON_CXX ?= aarch64-linux-gnu-g++
test-neon: dev ## C++ tests of the NEON kernels, cross-compiled and run by QEMU (minutes)
	@if $(NEON_CXX) --version > /dev/null 2>&1 && qemu-aarch64 --version > /dev/null 2>&1; then \
	  $(CMAKE) -S . -B build/neon -G Ninja -DLSIF_PYTHON=OFF -DLSIF_TESTS=ON -DCMAKE_CXX_COMPILER=$(NEON_CXX) \
	    -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
	    -DCMAKE_CROSSCOMPILING_EMULATOR="qemu-aarch64;-L;/usr/aarch64-linux-gnu" && \
	  $(CMAKE) --build build/neon && \
	  $(CTEST) --test-dir build/neon --output-on-failure --exclude-regex test_thread_pool; \
	else echo "Skipped: needs $(NEON_CXX) and qemu-aarch64 (Debian: g++-aarch64-linux-gnu, qemu-user)"; fi

test-python: dev ## pytest
	$(BIN)/python -m pytest

lint: dev ## ruff, mypy --strict, clang-format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	git ls-files 'csrc/*' 'tests/*.cpp' 'tests/*.h' 'tests/*.cu' | grep -E '\.(cpp|h|cu|cuh)$$' | xargs $(BIN)/clang-format --dry-run -Werror

format: dev ## Rewrite sources the way `make lint` wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	git ls-files 'csrc/*' 'tests/*.cpp' 'tests/*.h' 'tests/*.cu' | grep -E '\.(cpp|h|cu|cuh)$$' | xargs $(BIN)/clang-format -i

# Both wheels have the same source. The CUDA wheel adds the CUDA ops, in a library that is not loaded under a CPU torch.
WHEEL = CMAKE_BUILD_PARALLEL_LEVEL=$(JOBS) $(PIP) wheel . --no-deps --no-build-isolation -w dist/$(1) \
  -C build-dir=build/wheel-$(1)
CUDA_TAG = $(shell nvcc --version | sed -n 's/.*release \([0-9]*\)\.\([0-9]*\),.*/\1\2/p')

wheel: $(VENV)/tools ## Build a wheel for the CPU: dist/cpu/
	$(call WHEEL,cpu) -C cmake.define.LSIF_CUDA=OFF
	ls -l dist/cpu

wheel-cuda: $(VENV)/tools ## Build a wheel for CUDA too, with the nvcc at hand and any build of torch: dist/cuda/
	@test -n "$(CUDA_TAG)" || { echo "make $@: nvcc --version names no release: put CUDA's bin on PATH"; exit 1; }
	$(call WHEEL,cuda) -C cmake.define.LSIF_CUDA=ON -C wheel.build-tag=1cu$(CUDA_TAG)
	ls -l dist/cuda

# Each pair of wheel and torch gets a fresh environment.
WHEELS ?= $(wildcard dist/*/*.whl)
TORCHES ?= 2.13.0
test-wheel: ## Install each wheel of dist/ beside each torch of TORCHES="2.10.0 2.13.0" and try it
	@test -n "$(strip $(WHEELS))" || { \
	  echo "make $@: expected wheels in dist/cpu or dist/cuda, got none: make wheel makes one, WHEELS=... names others"; exit 1; }
	for wheel in $(WHEELS); do for torch in $(TORCHES); do \
	  tests/wheels/run.sh $(PYTHON) $$wheel $$torch || exit 1; done; done

# Packs a copy of HEAD, because scikit-build-core takes whatever is in its folder.
sdist: $(VENV)/tools ## Make the source distribution of HEAD: dist/
	rm -rf build/sdist
	mkdir -p build/sdist dist
	git archive HEAD | tar x -C build/sdist
	cd build/sdist && ../../$(BIN)/python -c 'from scikit_build_core.build import build_sdist; build_sdist("../../dist")'
	ls -l dist/*.tar.gz

SOAK_MINUTES ?= 5
soak: dev ## Threads recommend and append while the catalogue changes, every answer checked
	$(BIN)/python tests/soak.py --minutes $(SOAK_MINUTES)

sanitize: dev ## C++ tests under ASan+UBSan and under TSan
	for s in address,undefined thread; do \
	  $(CMAKE) -S . -B build/sanitize-$${s%%,*} -G Ninja -DLSIF_PYTHON=OFF -DLSIF_TESTS=ON -DLSIF_SANITIZE=$$s && \
	  $(CMAKE) --build build/sanitize-$${s%%,*} && \
	  $(CTEST) --test-dir build/sanitize-$${s%%,*} --output-on-failure || exit 1; \
	done

bench: dev ## Time the kernels and the request path, and the peers that are installed
	$(BIN)/python bench/run.py

cuda-compile: dev ## Compile the CUDA kernels with nvcc, without a CUDA build of torch or a GPU
	$(CMAKE) -S . -B build/cuda -G Ninja -DLSIF_PYTHON=OFF -DLSIF_CUDA=ON
	$(CMAKE) --build build/cuda --target lsif_kernels_cuda

clean: ## Remove everything `make` made
	rm -rf build dist $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find python tests bench examples -name __pycache__ -prune -exec rm -rf {} +
