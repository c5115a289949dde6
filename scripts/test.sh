#!/usr/bin/env bash
# Lint, types and the whole suite, in an environment that this script makes.
# Arguments go to pytest: bash scripts/test.sh -k paragonsr
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

make_environment all

export OMP_NUM_THREADS=1 # one thread a worker: pytest runs one worker a core
run ruff format --check .
run ruff check .
run pyright
run python -m pytest -n auto "$@"
