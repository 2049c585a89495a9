#!/usr/bin/env bash
# Rates the sample photos on real servers with OpenAI's API, before and after a kill -9, and compares the ratings.
#
# usage: scoring_peer.sh [SERVER...], by default llama-server and transformers
#
# `llama-server` of llama.cpp reports probabilities: each rating must be that of an independent request. Its refusals
# are tried too. $LLAMA_SERVER names it; $PYTHON (default python3) needs gguf and pillow.
# `transformers serve` reports none: each rating is a level only. $PYTHON needs torch and transformers[serving].
#
# Not part of the checks. PyPI's llama-cpp-python has llama.cpp's source, so a C++ compiler and cmake suffice:
#   pip download --no-deps --no-binary :all: llama-cpp-python && tar xf llama_cpp_python-*.tar.gz
#   cmake -S llama_cpp_python-*/vendor/llama.cpp -B llama -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=OFF \
#     -DBUILD_SHARED_LIBS=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF
#   cmake --build llama --target llama-server   # llama/bin/llama-server
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=${PYTHON:-python3}
llama_server=${LLAMA_SERVER:-llama-server}
program=${PROGRAM:-target/debug/dogiqa}
port=${PORT:-18011}
here=tests/services
tokenizer=tests/goldens/qwen2_tokenizer/tokenizer.json.gz
work=$(mktemp -d)
touch "$work/server.log"
server=
trap 'kill -9 $server 2>/dev/null || true; rm -rf "$work"' EXIT

fail() {
  echo "scoring peer: $1" >&2
  tail -n 20 "$work/server.log" >&2
  exit 1
}

# Starts a server in the background.
launch() {
  case $peer in
    llama-server)
      "$llama_server" --host 127.0.0.1 --port "$port" --model "$model/model.gguf" --offline --threads 2 \
        "$@" >"$work/server.log" 2>&1 &
      ;;
    transformers)
      HF_HUB_OFFLINE=1 "$python" -m transformers.cli.transformers serve --host 127.0.0.1 --port "$port" \
        --device cpu --dtype float32 >"$work/server.log" 2>&1 &
      ;;
  esac
  server=$!
}

# Prints the status of the server's list of models, which is 503 while llama-server loads.
status() {
  curl --silent --output /dev/null --write-out '%{http_code}' --max-time 5 "http://127.0.0.1:$port/v1/models" || true
}

start() {
  launch "$@"
  for _ in $(seq 300); do
    case $(status) in 200 | 401) return ;; esac
    kill -0 "$server" 2>/dev/null || break
    sleep 0.5
  done
  fail "the server does not start"
}

stop() {
  kill -9 "$server"
  wait "$server" 2>/dev/null || true
}

ours() {
  "$program" "$@" --set engine.name=dog-iqa --set engine.dog_iqa.segmenter=classic --set engine.dog_iqa.scorer=http \
    --set "engine.dog_iqa.http.url=http://127.0.0.1:$port/v1" --set "engine.dog_iqa.http.model=$model" \
    --set engine.dog_iqa.http.timeout=120s
}

# Prints the line of `check` about the server, which must hold a text.
check() {
  local text=$1 line
  shift
  line=$(ours check --set kafka.bootstrap_servers=127.0.0.1:9 --set kafka.probe_timeout=10ms "$@" 2>>"$work/log" |
    grep " scorer: ") || true
  echo "$line"
  [[ $line == *"$text"* ]] || fail "check does not say \"$text\""
}

rate() {
  ours score --format jsonl "$@"
}

rate_in_turn() {
  rate --set engine.dog_iqa.http.concurrency=1 --set "engine.dog_iqa.http.body={cache_prompt=false}" "$@"
}

# Prints the number of requests that were repeated after a fault with a text.
repeats() {
  grep "is repeated" "$work/log" | grep --count --fixed-strings "$1" || true
}

# A photo must be refused with a text, and its requests repeated or not.
refused() {
  local text=$1 repeated=$2
  ours score "$work/large.png" --set telemetry.log.filter=dog_iqa=debug >"$work/table" 2>"$work/log" && fail "a photo is rated"
  grep --only-matching "scoring failed: .*" "$work/log" | tail -n 1
  grep --quiet --fixed-strings "$text" "$work/log" || fail "the program does not say \"$text\""
  case $repeated in
    once) [ "$(repeats "")" = 0 ] || fail "$(repeats "") requests are repeated" ;;
    repeated) [ "$(repeats "$text")" -gt 0 ] || fail "no request is repeated" ;;
  esac
}

# Sixteen requests at a time, then one. llama-server repeats its answers exactly without its cache of prompts only.
rates_again() {
  start "$@"
  check "rates by"
  rate "$work"/photos/*.png >"$work/before"
  stop
  check "cannot be reached"
  start "$@"
  rate_in_turn "$work"/photos/*.png >"$work/after"
  "$python" "$here/scoring_peer_compare.py" events "$work/before" "$work/after"
}

rate_on_transformers() {
  "$python" "$here/scoring_peer_llava.py" "$model" "$tokenizer"
  rates_again
  stop
}

rate_on_llama_server() {
  local vision=(--mmproj "$model/mmproj.gguf")
  mkdir "$model"
  "$python" "$here/scoring_peer_qwen2_vl.py" "$model" "$tokenizer"

  # Two slots. Of 5 tokens, few are levels.
  rates_again "${vision[@]}" --parallel 2 --ctx-size 8192
  compare_server 20 "$work/after"
  rate_in_turn "$work/photos/cat.png" --set engine.dog_iqa.http.top_logprobs=5 >"$work/five"
  compare_server 5 "$work/five"
  stop

  # A key. Another model's name is no error: the events name the one that answers.
  start "${vision[@]}" --api-key planted --alias its-own-name
  refused "[score.credentials]" once
  DOGIQA_ENGINE__DOG_IQA__HTTP__API_KEY=planted check "rates by its-own-name (b"
  stop

  # Room for the prompt and a small picture, but not for a large one.
  start "${vision[@]}" --parallel 1 --ctx-size 256
  check "rates by"
  refused "exceeds the available context size" once
  stop
  start "${vision[@]}" --parallel 1 --ctx-size 256 --image-min-tokens 300
  refused "[score.misconfigured]" once
  stop

  # Without the part that reads pictures.
  start
  refused "image input is not supported" repeated
  stop

  while_loading "${vision[@]}"
}

compare_server() {
  "$python" "$here/scoring_peer_compare.py" server "http://127.0.0.1:$port/v1" "$1" "$work/photos" "$2"
}

# Requests that arrive while the server loads are repeated. It is paused most of the time, as if its disk was slow.
while_loading() {
  launch "$@"
  until [ "$(status)" = 503 ]; do
    kill -0 "$server" 2>/dev/null || fail "the server does not start"
    [ "$(status)" != 200 ] || fail "the server has loaded too fast"
  done
  slow_down &
  local slowing=$!
  ours score "$work/photos/cat.png" --set engine.dog_iqa.http.attempts_max=50 --set telemetry.log.filter=dog_iqa=debug \
    2>"$work/log" ||
    fail "a photo is not rated"
  wait "$slowing"
  echo "$(repeats "Loading model") requests were repeated while the server loaded"
  [ "$(repeats "Loading model")" -gt 0 ] || fail "no request arrived while the server loaded"
  stop
}

slow_down() {
  for _ in $(seq 50); do
    kill -STOP "$server"
    sleep 0.1
    kill -CONT "$server"
    sleep 0.02
  done
}

"$python" -c '
import pathlib, sys
from PIL import Image
folder = pathlib.Path(sys.argv[1])
folder.mkdir()
for photo in pathlib.Path("examples/photos").glob("*.jpg"):
    Image.open(photo).convert("RGB").save(folder / f"{photo.stem}.png", icc_profile=None)
Image.open("examples/photos/cat.jpg").resize((1024, 1024)).save(folder.parent / "large.png")' "$work/photos"
[ $# -gt 0 ] || set -- llama-server transformers
for peer in "$@"; do
  echo "== $peer"
  model=$work/$peer
  case $peer in
    llama-server) rate_on_llama_server ;;
    transformers) rate_on_transformers ;;
    *) fail "$peer is neither llama-server nor transformers" ;;
  esac
done
