#!/usr/bin/env bash
# Rates the sample photos on a real server with OpenAI's API, `transformers serve`, before and after a kill -9, and
# compares the levels. Not part of the checks: $PYTHON (default python3) needs torch and transformers[serving].
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=${PYTHON:-python3}
dogiqa=${1:-target/debug/dogiqa}
port=${2:-18011}
work=$(mktemp -d)
server=
trap 'kill -9 $server 2>/dev/null || true; rm -rf "$work"' EXIT

start() {
  HF_HUB_OFFLINE=1 "$python" -m transformers.cli.transformers serve --host 127.0.0.1 --port "$port" \
    --device cpu --dtype float32 >>"$work/server.log" 2>&1 &
  server=$!
  for _ in $(seq 300); do
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then return; fi
    kill -0 "$server" 2>/dev/null || break
    sleep 0.5
  done
  tail -n 20 "$work/server.log" >&2
  exit 1
}

ours() {
  "$dogiqa" "$@" --set engine.name=dog-iqa --set engine.dog_iqa.segmenter=classic --set engine.dog_iqa.scorer=http \
    --set "engine.dog_iqa.http.url=http://127.0.0.1:$port/v1" --set "engine.dog_iqa.http.model=$work/model" \
    --set engine.dog_iqa.http.timeout=120s
}

# Prints the levels of each photo and of its objects.
levels() {
  ours score --format jsonl examples/photos/*.jpg | "$python" -c '
import json, sys
for line in sys.stdin:
    event = json.loads(line)
    ratings = [event["global"], *(thing["rating"] for thing in event["objects"] if thing.get("rating"))]
    print(event["reference"]["id"], [rating["level"] for rating in ratings])'
}

"$python" tests/services/scoring_peer.py "$work/model" tests/goldens/qwen2_tokenizer/tokenizer.json.gz
start
ours check | grep "scorer:" || true
levels >"$work/before"
kill -9 "$server"
wait "$server" 2>/dev/null || true
ours check | grep "scorer:" || true
start
levels >"$work/after"
diff "$work/before" "$work/after"
cat "$work/before"
