#!/bin/sh
# Builds the package for this machine's GPU in a separate folder and runs its Python tests. For tests/cuda/run.sh.
#   python.sh FOLDER PYTHON
set -e
folder=$(cd "$1" && pwd) python=$2
"$python" -m pip install --quiet --no-build-isolation --no-deps --upgrade --target "$folder/python" \
  -C build-dir="$folder/package" -C cmake.define.CMAKE_CUDA_ARCHITECTURES=native .
export PYTHONPATH="$folder/python"
# If the GPU cannot be used, fail here: its tests would only be skipped, and nothing would fail.
"$python" -c 'from lsif_sdk.device.facts import gathered, problem
facts = gathered()
print(facts)
assert not problem(facts), problem(facts)'
several=
"$python" -c 'import xdist' 2> /dev/null && several="-n 8"
# Deselected: if g++ links a libstdc++ of its own into a library, the process ends in the stream in torch's header that
# writes the message of a failed allocation.
"$python" -m pytest -p no:cacheprovider $several tests/test_cuda.py tests/test_device_*.py tests/test_kept_*.py \
  tests/test_training_cuda.py --deselect tests/test_device_path.py::test_what_does_not_fit_the_memory_names_k
