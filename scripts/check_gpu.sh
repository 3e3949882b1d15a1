#!/usr/bin/env bash
# Measures training and prediction of a random-weight Qwen2.5-VL-7B on one GPU, in at most eight minutes.
#
#   bash scripts/check_gpu.sh [--out FOLDER] [--work FOLDER] [--budget-s 480] [--only PART ...] [--cpu]
#
# Downloads nothing and installs nothing: the environment in .venv (or AOT_VENV), else `python3`, must hold this package's
# extras video and train with a torch built for the GPU, and a torchvision that fits it. See check_gpu.py for what is done.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${AOT_VENV:-$ROOT/.venv}/bin/python
[ -x "$python" ] || python=python3
export PYTHONPATH=$ROOT${PYTHONPATH:+:$PYTHONPATH} HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
exec "$python" "$ROOT/scripts/check_gpu.py" "$@"
