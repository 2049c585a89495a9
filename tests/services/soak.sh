#!/usr/bin/env bash
# The long fault tests: `soak.sh [REFERENCES]` runs each with that many references and writes docs/faults.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

references=${1:-16700}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# One test at a time: a fault affects everything that runs at the same time.
DOGIQA_SERVICES=required DOGIQA_SOAK=$references DOGIQA_SOAK_TABLE=$work/table \
  cargo test --locked --test services -- --test-threads=1 --nocapture \
  faults_ memory a_large_record_does_not a_changed_password_file 2>&1 | tee "$work/log"

model=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
cat >docs/faults.md <<PAGE
# Fault tests and their results

Written by \`just soak\` on $(date -u +%Y-%m-%d) at commit $(git rev-parse --short HEAD), on $(nproc) cores (${model:-unknown}), in the dev profile.

The set-up is three Apache Kafka brokers with three replicas of every topic, an S3 server, and worker processes of the real binary. (The row of images that hang or panic runs one worker inside the test, with models that hang or panic on request.) A separate client reads the committed records of both output topics and compares them with the references that were sent. **Lost** counts references without an answer. **Twice** counts answers beyond one per reference. **Wrong** counts answers with another image, key, score, event id or dead-letter code than expected, and committed offsets that moved backwards while every broker ran. (When a coordinator dies, librdkafka repeats the commits in flight, and not in their order; the next commit corrects the offset.) At-least-once delivery may answer twice after a crash or a lost session, and if a partition moves while its references wait for longer than \`kafka.revoke_timeout\`, as with a store that throttles; not after a graceful stop. S3 faults are counted as corrupted responses.

| fault | delivery | references | faults | lost | twice | wrong | seconds |
|---|---|---|---|---|---|---|---|
$(cat "$work/table")

Memory in the same run:

$(sed -n 's/.*memory: /- /p' "$work/log")
PAGE
echo "written: docs/faults.md" >&2
