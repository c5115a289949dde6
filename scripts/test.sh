#!/usr/bin/env bash
# Lint, types and the whole suite, in an environment that this script makes.
# Arguments go to pytest: bash scripts/test.sh -k paragonsr
# PARAGON_OLD_TORCH=1 tries half precision in torch 2.7 as well.
# With --gpu the tests that take a device run on this machine's GPU too.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

make_environment all

# Our graphs also have to run in the onnxruntime that chaiNNer and others pin. It exists
# up to Python 3.12; where it does not install, those tests say so and are skipped.
old=$("$PY" -c 'import sys; print(sys.prefix)')/onnxruntime-1.17.1
if [ ! -e "$old/ready" ]; then
  run "$PY" -m venv "$old"
  if run "$old/bin/python" -m pip install -q onnxruntime==1.17.1 "numpy<2"; then
    touch "$old/ready"
  fi
fi
if [ -e "$old/ready" ]; then
  export PARAGON_ORT117_PYTHON=$old/bin/python
fi

# Half precision in the oldest torch that the pack allows: five gigabytes, for those who
# ask for it, as continuous integration does.
old=$("$PY" -c 'import sys; print(sys.prefix)')/torch-2.7.0
if [ -n "${PARAGON_OLD_TORCH:-}" ] && [ ! -e "$old/ready" ]; then
  run "$PY" -m venv "$old"
  if run "$old/bin/python" -m pip install -q torch==2.7.0 torchvision==0.22.0 \
    numpy safetensors spandrel pyyaml psutil pillow pytest; then
    touch "$old/ready"
  else
    rm -rf "$old" # a full disk would fail the other tests
  fi
fi
if [ -n "${PARAGON_OLD_TORCH:-}" ] && [ -e "$old/ready" ]; then
  export PARAGON_TORCH27_PYTHON=$old/bin/python
fi

export OMP_NUM_THREADS=1 # one thread a worker: pytest runs one worker a core
run ruff format --check .
run ruff check .
run pyright
workers=auto
case " $* " in *" --gpu "*) workers=1 ;; esac # one process: they would share its memory
run python -m pytest -n "$workers" "$@"
