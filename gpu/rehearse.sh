#!/usr/bin/env bash
# Rehearses a first run on this machine's CPU with small shapes: from a copy of the tree in another folder, with an empty
# home and a stand-in for nvidia-smi. Fails if a step fails that needs no PyTorch.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# In a folder of its own, so that the programs for a GPU stay packed.
PACKED=target/gpu-rehearsal FEATURES='' PROFILE=${PROFILE:-dev} gpu/prepare.sh
elsewhere=$(mktemp -d)
trap 'rm -rf "$elsewhere"' EXIT
mkdir -p "$elsewhere/tree/target" "$elsewhere/home" "$elsewhere/bin"
git ls-files --cached --others --exclude-standard -z |
  while IFS= read -r -d '' file; do [ ! -e "$file" ] || printf '%s\0' "$file"; done |
  xargs -0 cp --parents -t "$elsewhere/tree"
cp -r target/gpu-rehearsal "$elsewhere/tree/target/gpu"
printf '#!/bin/sh\necho "no GPU: a rehearsal"\n' >"$elsewhere/bin/nvidia-smi"
chmod +x "$elsewhere/bin/nvidia-smi"
mkdir "$elsewhere/out"
cd "$elsewhere/tree"
HOME=$elsewhere/home PATH=$elsewhere/bin:$PATH OUT=$elsewhere/out bash gpu/first_run.sh --device cpu --small
failed=$(grep -v 'rc=0$' "$elsewhere/out/steps.txt" | grep -v '^peer \|^ceilings ' || true)
if [ -n "$failed" ]; then
  echo "failed: $failed" >&2
  exit 1
fi
