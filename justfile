# Recipes for daily work; `just` lists them. The checks are steps of `.ci/run`, so that local runs and CI are identical.

_list:
    @just --list

# All checks, as before a merge
check:
    .ci/run

# Spelling, shell scripts, YAML, the Dockerfile
lint:
    .ci/run lint

# Compile and lint every target
clippy:
    .ci/run fmt clippy

# The offline tests
test:
    .ci/run test

# The Helm chart and the alerts
deploy:
    .ci/run deploy

# The tests against a real Kafka and a real S3 server (needs Java, Maven and Go)
services:
    .ci/run services

# Rate the sample photos on real servers, llama-server and `transformers serve`; the script says what they need
scoring-peer *servers:
    cargo build
    tests/services/scoring_peer.sh {{ servers }}

# Every fault at length, 300,000 references in all (about an hour on two cores); writes docs/faults.md
soak references="16700":
    tests/services/soak.sh {{ references }}

# The documentation, without warnings
doc:
    .ci/run doc

# Licences, sources and advisories of the dependencies (builds cargo-deny the first time)
deny:
    .ci/run deny

# The software bill of materials: CycloneDX, in target/sbom
sbom *arguments:
    .ci/sbom {{ arguments }}

# Sample photos through an embedded broker
demo *arguments:
    cargo run --release -- demo {{ arguments }}

# Build for NVIDIA GPUs; needs a CUDA toolkit (nvcc on the PATH), or a script that sets one up
build-cuda environment="/dev/null":
    bash -c 'source "$0" && cargo build --release --locked --features cuda' {{ environment }}

# Pack the programs that measure a GPU machine without Rust (docs/gpu.md); needs a CUDA toolkit, as build-cuda does
prepare-gpu environment="/dev/null":
    gpu/prepare.sh {{ environment }}

# The measurements of docs/gpu.md on this machine's CPU with small shapes, from a copy in another folder
rehearse-gpu:
    gpu/rehearse.sh

# The CUDA program at full size against a driver that computes nothing; needs a CUDA toolkit, as build-cuda does
rehearse-cuda environment="/dev/null":
    bash -c 'source "$0" && cargo build --locked --features cuda --example gpu_first_run' {{ environment }}
    gpu/rehearse_cuda.sh target/debug/examples/gpu_first_run stages --rows target/stand-in.jsonl
    gpu/rehearse_cuda.sh target/debug/examples/gpu_first_run engine --rows target/stand-in.jsonl

# Images per second on a GPU at the largest shapes, and its answers next to the CPU's; needs Rust on that machine
bench-cuda device="cuda:0":
    cargo test --release --locked --features cuda --test it cuda_parity
    cargo bench --locked --features cuda --bench throughput -- --size production --device {{ device }}

# Every benchmark, or the named one
bench *arguments:
    cargo bench {{ arguments }}

# Coverage-guided fuzzing until it is stopped (config, decode, notification, reference, rle, uri); needs nightly Rust and cargo-fuzz
fuzz target *arguments:
    cargo +nightly fuzz run {{ target }} -- {{ arguments }}
