#!/usr/bin/env bash
# An OpenTelemetry Collector for the service tests: receives OTLP on a free loopback port, and sends everything on as
# JSON, so that a test reads what a collector understood.
set -euo pipefail

service=collector
version=v0.165.0
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=process.sh
. "$here/process.sh"

usage() {
  cat <<'USAGE'
usage: collector.sh available    check that all required programs exist; print the missing ones
       collector.sh fetch        build the collector into the cache folder (once, about a minute)
       collector.sh start URL    start; print KEY=value lines, leave the collector running. It sends traces and
                                 metrics to URL/v1/traces and URL/v1/metrics
       collector.sh run URL      start; print the same, stop when standard input closes
       collector.sh stop FOLDER  stop what `start` started; FOLDER is its DOGIQA_COLLECTOR_DIR

The cache folder is $DOGIQA_SERVICES_CACHE, or dogiqa-services in the user's cache folder.
USAGE
}

missing_parts() {
  is_cached "collector-$version" || lacking go "a Go toolchain, to build the collector once"
}

build_collector() {
  local folder=$1
  GOBIN="$folder" go install "go.opentelemetry.io/collector/cmd/builder@$version"
  cat >"$folder/manifest.yaml" <<MANIFEST
dist: {name: collector, output_path: $folder/source}
receivers: [{gomod: go.opentelemetry.io/collector/receiver/otlpreceiver $version}]
exporters: [{gomod: go.opentelemetry.io/collector/exporter/otlphttpexporter $version}]
MANIFEST
  "$folder/builder" --config "$folder/manifest.yaml"
  mv "$folder/source/collector" "$folder"
  rm -r "$folder/source" "$folder/builder" "$folder/manifest.yaml"
}

fetch() {
  cached "collector-$version" build_collector
}

listening() {
  (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null
}

start() {
  local folder=$1 url=$2 program
  program=$(fetch)/collector
  port=$(free_port 0)
  cat >"$folder/collector.yaml" <<SETTINGS
receivers: {otlp: {protocols: {http: {endpoint: "127.0.0.1:$port"}}}}
exporters: {otlp_http: {endpoint: "$url", encoding: json, compression: none, sending_queue: {enabled: false}}}
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: {receivers: [otlp], exporters: [otlp_http]}
    metrics: {receivers: [otlp], exporters: [otlp_http]}
SETTINGS
  "$program" --config="$folder/collector.yaml" >"$folder/collector.log" 2>&1 </dev/null &
  echo $! >"$folder/collector.pid"
  disown
  wait_until "$folder/collector.pid" listening ||
    die "the collector did not start: $(tail -n 20 "$folder/collector.log")"
  echo "DOGIQA_COLLECTOR_DIR=$folder"
  echo "DOGIQA_COLLECTOR=http://127.0.0.1:$port"
}

main "$@"
