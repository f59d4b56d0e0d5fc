#!/usr/bin/env bash
# Run a program on the GPUs of this machine: one Dask worker for each, on the loopback interface.
#
#   deploy/gpu/run.sh program.py {address}                           (all GPUs)
#   CUDA_VISIBLE_DEVICES=0,1 deploy/gpu/run.sh program.py {address}
#
# Needs paradual with CuPy and dask-cuda: pip install "paradual[cuda13]" "dask-cuda[cu13]"
set -euo pipefail

if [ -z "${CUDA_VISIBLE_DEVICES:-}" ]; then
    if ! command -v nvidia-smi >/dev/null; then
        echo "$0: there is no nvidia-smi: name the devices in CUDA_VISIBLE_DEVICES, or use local/run.py" >&2
        exit 1
    fi
    CUDA_VISIBLE_DEVICES="$(nvidia-smi --query-gpu=index --format=csv,noheader | paste -s -d ,)"
    export CUDA_VISIBLE_DEVICES
fi
IFS=, read -r -a devices <<<"$CUDA_VISIBLE_DEVICES"
here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
exec python "$here/../local/run.py" --gpus "${#devices[@]}" "$@"
