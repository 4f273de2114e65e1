#!/bin/sh
# run.sh PYTHON WHEEL TORCH: installs the wheel beside a torch and tries it. TORCH is a version, for which a fresh
# environment is made and removed (the variable TORCH_ARGS has arguments for pip install torch), or the path of a
# Python whose environment has torch, safetensors and NumPy; the wheel stays installed there.
set -eu
python=$1 wheel=$2 torch=$3
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
case $torch in
  */*) own=$torch ;;
  *)
    "$python" -m venv "$folder/venv"
    own=$folder/venv/bin/python
    "$own" -m pip install --disable-pip-version-check --quiet ${TORCH_ARGS:-} "torch==$torch"
    "$own" -m pip install --disable-pip-version-check --quiet numpy safetensors
    ;;
esac
"$own" -m pip install --disable-pip-version-check --quiet --no-deps --force-reinstall "$wheel"
if [ -d "$folder/venv" ]; then
  "$own" -m pip check
  "$folder/venv/bin/lsif" --version
fi
cd "$folder"  # a folder without lsif_sdk
"$own" -I "$here/check.py" "$(basename "$wheel")"
