#!/usr/bin/env bash
# Measures everything on a bare machine with one GPU: Python with PyTorch, no Rust, no network. `gpu/prepare.sh` has
# built the programs elsewhere. Results go to the folder OUT (default target/gpu/out); the last lines are a summary.
#
#   gpu/first_run.sh [--device cuda:0|cpu] [--small] [STEP...]
#
# The steps run in order of what they tell in a second. Each has its own limit, and none stops the next. All of them
# take at most 540 seconds. Without names all steps run.
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
device=cuda:0
small=()
chosen=()
while [ $# -gt 0 ]; do
  case $1 in
    --device) device=$2; shift ;;
    --small) small=(--small) ;;
    *) chosen+=("$1") ;;
  esac
  shift
done
kind=${device%%:*}
OUT=${OUT:-target/gpu/out}
mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd)
export OUT
started=$(date +%s)
limit=${LIMIT:-520}
if [ ${#chosen[@]} -eq 0 ]; then
  rm -f "$OUT"/{log.txt,rows.jsonl,steps.txt,kernels.csv.gz}
fi
exec > >(tee -a "$OUT/log.txt") 2>&1
writer=$!
rows=$OUT/rows.jsonl
if [ "$kind" = cuda ] && [ "$(cat target/gpu/features)" != cuda ]; then
  echo "the packed programs are built without cuda; run gpu/prepare.sh again" >&2
  exit 1
fi

programs=$(mktemp -d)
for packed in target/gpu/*.xz; do
  python3 - "$packed" "$programs/$(basename "${packed%.xz}")" <<'PYTHON'
import lzma, shutil, sys

with lzma.open(sys.argv[1]) as packed, open(sys.argv[2], "wb") as program:
    shutil.copyfileobj(packed, program, 1 << 20)
PYTHON
done
chmod +x "$programs"/*
built=$(cat target/gpu/manifest_dir)
if [ ! -e "$built" ]; then
  mkdir -p "$(dirname "$built")"
  ln -sfn "$PWD" "$built"
fi

if [ "$kind" = cuda ]; then
  # The libraries come with PyTorch and the driver; their folders differ from machine to machine. Only those that the
  # loader does not find are searched, and never a stub or a compatibility driver.
  missing=$(ldd "$programs/gpu_first_run" "$programs/libkernels.so" | sed -n 's/^\s*\(lib[^ ]*\) => not found.*/\1/p' | sort -u)
  for library in $missing; do
    found=$(find / -path /proc -prune -o -name "$library" -not -path '*/stubs/*' -not -path '*/compat/*' -print 2>/dev/null |
      head -n 1)
    [ -n "$found" ] && LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$(dirname "$found")
  done
  export LD_LIBRARY_PATH
fi
export CUDA_CACHE_PATH=$programs/cache CUDA_CACHE_MAXSIZE=2147483648
export NVIDIA_TF32_OVERRIDE=0 RUST_BACKTRACE=1 PYTHONUNBUFFERED=1

# step NAME SECONDS COMMAND...: runs a step within its limit and the rest of the whole, and notes its exit code.
step() {
  local name=$1 seconds=$2 code now left
  shift 2
  if [ ${#chosen[@]} -gt 0 ] && [[ " ${chosen[*]} " != *" $name "* ]]; then
    return
  fi
  now=$(($(date +%s) - started))
  left=$((limit - now))
  echo "== $now s: $name"
  if [ "$left" -lt 10 ]; then
    echo "$name skipped" >>"$OUT/steps.txt"
    return
  fi
  timeout -k 5 $((seconds < left ? seconds : left)) "$@"
  code=$?
  echo "$name rc=$code" >>"$OUT/steps.txt"
}

first_run() {
  local name=$1 seconds=$2
  shift 2
  step "$name" "$seconds" "$programs/gpu_first_run" "$@" --device "$device" --rows "$rows" "${small[@]}"
}

# The errors of all golden tensors, as rows.
parity() {
  local filter=cuda_parity
  [ "$kind" = cpu ] && filter=half_formats_follow
  DOGIQA_PRINT_ERRORS=1 "$programs/it" "$filter" --nocapture --test-threads=1 2>&1 |
    awk -v rows="$rows" '/\{"dtype"/ { sub(/^[^{]*/, ""); print >>rows; fflush(rows); next } { print; fflush() }'
  return "${PIPESTATUS[0]}"
}
machine() {
  nvidia-smi
  ldd --version | head -n 1
  ldd "$programs/gpu_first_run" | grep -v '=> /'
  nproc
  free -g
}
export -f parity machine
export programs rows kind

step machine 20 bash -c machine
step ceilings 45 python3 gpu/ceilings.py --device "$kind" --rows "$rows" "${small[@]}"
first_run ops 70 ops
step parity 80 bash -c parity
first_run stages 120 stages
first_run engine 140 engine
if [ "$kind" = cuda ]; then
  for stage in 'encoder, 4' 'transformer, 64' 'masks, 64' 'siglip, 16' 'text, 9'; do
    CUDA_INJECTION64_PATH=$programs/libkernels.so KERNELS_OUT=$programs/kernels_${stage%%,*}.csv \
      first_run "kernels-${stage%%,*}" 30 kernels "$stage"
  done
  cat "$programs"/kernels_*.csv 2>/dev/null | gzip >"$OUT/kernels.csv.gz"
fi
step peer 70 python3 gpu/peer.py --device "$kind" --rows "$rows" "${small[@]}"
echo "== $(($(date +%s) - started)) s: done"
python3 gpu/summary.py "$rows" --steps "$OUT/steps.txt" --kernels "$OUT/kernels.csv.gz"
rm -rf "$programs"
# Without this, the script could end before its last lines are written.
exec >&- 2>&-
wait "$writer"
