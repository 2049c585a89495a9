#!/usr/bin/env bash
# Repeats named steps of a first run, into a folder of their own.
#
#   gpu/rerun.sh [--device cuda:0|cpu] [--small] STEP...
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
if [ $# -eq 0 ]; then
  echo "usage: gpu/rerun.sh STEP...; the steps are machine, ceilings, ops, parity, stages, engine, kernels-NAME, peer" >&2
  exit 2
fi
OUT=${OUT:-target/gpu/rerun} exec gpu/first_run.sh "$@"
