#!/usr/bin/env bash
# Kernels on a GPU: are they right, and how fast are they beside JAX and PyTorch on the same card?
#
#     cargo build --release
#     benches/gpu.sh                      results go to $OUT, by default benches/results
#
# Needs the release binary (or JETC), this repository, and for the peers a python3 with JAX or PyTorch for the card (PYTHON).
# What is missing is left out and said. Ends within eight minutes, or SECONDS_AT_MOST. Without a GPU a few problems run against kernels on the
# CPU, which shows that the script works and says nothing about speed.
set -uo pipefail
cd "$(dirname "$0")/.."
exec python3 benches/gpu.py "$@"
