#!/usr/bin/env bash
# Super-resolution on real photographs, from nothing: installs, trains a small network
# for a few minutes, fuses it, exports it to ONNX, upscales a photograph that it has not
# seen, and shows what that brought. Every step is a command that you can type yourself.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

make_environment train,onnx

run paragon quickstart images --output quickstart/data --scale 2
if "$PY" -c 'import sys, paragon_archs; sys.exit(not paragon_archs.HAS_BASICSR)'; then
  run basicsr train -opt options/quickstart.yml
  checkpoint=experiments/quickstart/models/net_g_latest.safetensors
else
  echo
  echo "BasicSR cannot be built on Python 3.13, so training is skipped: the checkpoint of a former run, which comes along, is used."
  checkpoint=paragon_archs/weights/quickstart/paragonsr_nano_x2.safetensors
fi
run paragon fuse "$checkpoint" --output quickstart/fused.safetensors --overwrite
run paragon export quickstart/fused.safetensors --output quickstart/fused.onnx --overwrite
run paragon upscale quickstart/data/val/lr/chelsea.png --output quickstart/chelsea.png \
  --model quickstart/fused.safetensors --overwrite
run paragon quickstart report --model quickstart/fused.safetensors --data quickstart/data \
  --upscaled quickstart/chelsea.png --output quickstart/side_by_side.png
