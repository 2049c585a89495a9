#!/usr/bin/env bash
# The fault tests at length: `soak.sh [REFERENCES]` runs each with so many references and writes docs/faults.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

references=${1:-16700}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# One after the other: a fault is felt by everything that runs beside it.
DOGIQA_SERVICES=required DOGIQA_SOAK=$references DOGIQA_SOAK_TABLE=$work/table \
  cargo test --locked --test services -- --test-threads=1 --nocapture faults_ memory 2>&1 | tee "$work/log"

model=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
cat >docs/faults.md <<PAGE
# Faults, and what came of them

Written by \`just soak\` on $(date -u +%Y-%m-%d) at commit $(git rev-parse --short HEAD), on $(nproc) cores (${model:-unknown}), in the dev profile.

Three Apache Kafka brokers with three replicas of every topic, an S3 server, and workers that are processes of the real binary (in the row of images that hang or panic it is one worker inside the test, with models that do so when asked). An oracle reads both output topics with a client of its own, committed records only, and compares with what was sent. **Lost** are references without an answer, **twice** answers beyond one for each reference, **wrong** answers that are not what they must be (another image, key, score, event id, or code of a dead letter) and positions of the group that went back. At-least-once delivery may answer twice after a crash; a graceful stop must not. Faults of S3 are counted by answers that were spoiled.

| fault | delivery | references | faults | lost | twice | wrong | seconds |
|---|---|---|---|---|---|---|---|
$(cat "$work/table")

Memory in the same run:

$(sed -n 's/.*memory: /- /p' "$work/log")
PAGE
echo "written: docs/faults.md" >&2
