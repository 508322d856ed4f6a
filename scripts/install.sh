#!/usr/bin/env bash
# Make the environment .venv and install the bundle into it, with the versions of constraints.txt.
#   bash scripts/install.sh [EXTRA ...]     extras: onnx openvino seggpt cluster dicom findings stain gpu dev
# PYTHON chooses the interpreter (3.11 or newer), default python3.
set -euo pipefail
cd "$(dirname "$0")/.."

case " $* " in *" -h "* | *" --help "*) sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
extras=$(IFS=,; echo "$*")

[ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
pip=(.venv/bin/python -m pip install --disable-pip-version-check --constraint constraints.txt)
# torch first: packages that only want some torch would otherwise pull the newest build, with CUDA.
"${pip[@]}" torch
"${pip[@]}" --editable ".${extras:+[$extras]}"

# cuCIM decodes tiled TIFF on the CPU too, but asks for 2.6 GB of CUDA libraries: those come with the extra `gpu`.
case " $* " in
  *" gpu "*) ;;
  *) "${pip[@]}" --no-deps cucim-cu12 || echo "cuCIM is not to be had here; OpenSlide and tifffile read slides instead" ;;
esac
