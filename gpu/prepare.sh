#!/usr/bin/env bash
# Builds the programs of a first run on a GPU, on a machine without one, and packs them into PACKED (target/gpu).
#
#   gpu/prepare.sh [SCRIPT]         SCRIPT sets up a CUDA toolkit (nvcc on the PATH) and is sourced first
#   FEATURES= PROFILE=dev gpu/prepare.sh    without CUDA, for a rehearsal on a CPU
#
# CUDA_COMPUTE_CAP is the generation to build for (90: H100 and H200). CUPTI is the folder of an installed CUPTI, with
# include and lib; without it, a wheel is installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -n "${1:-}" ]; then
  # shellcheck source=/dev/null
  source "$1"
fi
features=${FEATURES-cuda}
profile=${PROFILE:-release}
target=${CARGO_TARGET_DIR:-target}
packed=${PACKED:-target/gpu}
mkdir -p "$packed"
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-90}

cargo build --locked --profile "$profile" --features "$features" --example gpu_first_run
test_binary=$(cargo test --locked --profile "$profile" --features "$features" --test it --no-run --message-format=json |
  sed -n 's/.*"executable":"\([^"]*\/it-[^"]*\)".*/\1/p' | tail -n 1)
folder=$([ "$profile" = dev ] && echo debug || echo "$profile")

# Compresses a program without its symbols.
pack() {
  local stripped
  stripped=$(mktemp)
  strip -o "$stripped" "$1"
  python3 - "$stripped" "$packed/$2.xz" <<'PYTHON'
import lzma, shutil, sys

with open(sys.argv[1], "rb") as source, lzma.open(sys.argv[2], "wb", preset=6) as packed:
    shutil.copyfileobj(source, packed, 1 << 20)
PYTHON
  rm "$stripped"
}

rm -f "$packed"/*.xz
pack "$target/$folder/examples/gpu_first_run" gpu_first_run
pack "$test_binary" it
# Tests find their goldens and photos below the folder of the build.
pwd >"$packed/manifest_dir"
echo "$features" >"$packed/features"

if [ "$features" = cuda ]; then
  if [ -z "${CUPTI:-}" ]; then
    python3 -m pip install --quiet --no-deps --upgrade --target "$packed/cupti" 'nvidia-cuda-cupti==13.0.*'
    CUPTI=$packed/cupti/nvidia/cu13
  fi
  gcc -shared -fPIC -O2 -Wall -Wextra -isystem "$CUPTI/include" -isystem "${CUDA_HOME:-/usr/local/cuda}/include" \
    gpu/inject.c -o "$packed/libkernels.so" -L"$CUPTI/lib" -l:libcupti.so.13
  pack "$packed/libkernels.so" libkernels.so
  rm -rf "$packed/libkernels.so" "$packed/cupti"
  echo "libraries that the programs need on the other machine:"
  readelf -d "$target/$folder/examples/gpu_first_run" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/  \1/p'
fi

tree=$(git ls-files -z | du -c --apparent-size -B1 --files0-from=- | tail -n 1 | cut -f1)
programs=$(du -c --apparent-size -B1 "$packed"/*.xz | tail -n 1 | cut -f1)
echo "tree $((tree >> 20)) MiB, programs $((programs >> 20)) MiB in $packed"
if [ $((tree + programs)) -gt $((60 << 20)) ]; then
  echo "together they are above 60 MiB" >&2
  exit 1
fi
