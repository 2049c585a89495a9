#!/usr/bin/env bash
# Prometheus for the service tests: the machine's own, or else that of Debian's package, without installing it.
set -euo pipefail

service=prometheus
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=process.sh
. "$here/process.sh"

usage() {
  cat <<'USAGE'
usage: prometheus.sh available               check that all required programs exist; print the missing ones
       prometheus.sh fetch                   fetch the package into the cache folder (once)
       prometheus.sh promtool ARGUMENT...    run promtool
       prometheus.sh start TARGET RULES      start; print KEY=value lines, leave the server running. It scrapes
                                             TARGET (`host:port`) and evaluates the alerts of RULES every 200 ms
       prometheus.sh run TARGET RULES        start; print the same, stop when standard input closes
       prometheus.sh stop FOLDER             stop what `start` started; FOLDER is its DOGIQA_PROMETHEUS_DIR

The cache folder is $DOGIQA_SERVICES_CACHE, or dogiqa-services in the user's cache folder.
USAGE
}

is_installed() {
  command -v prometheus >/dev/null && command -v promtool >/dev/null
}

missing_parts() {
  is_installed || is_cached prometheus || lacking apt-get "Prometheus, or Debian's package manager to fetch it"
}

unpack_package() {
  (
    cd "$1"
    # A new machine has no lists of packages.
    apt-get download -qq prometheus 2>/dev/null || { apt-get update -qq && apt-get download -qq prometheus; }
    dpkg-deb -x prometheus_*.deb package
    mv package/usr/bin/prometheus package/usr/bin/promtool .
    rm -r package prometheus_*.deb
  )
}

fetch() {
  if is_installed; then
    dirname "$(command -v prometheus)"
  else
    cached prometheus unpack_package
  fi
}

ready() {
  local answer
  exec 3<>"/dev/tcp/127.0.0.1/$port" || return 1
  printf 'GET /-/ready HTTP/1.0\r\n\r\n' >&3
  read -r answer <&3 || answer=""
  exec 3>&-
  case "$answer" in *" 200 "*) ;; *) return 1 ;; esac
}

start() {
  local folder=$1 target=$2 rules=$3 programs
  programs=$(fetch)
  port=$(free_port 0)
  cat >"$folder/prometheus.yml" <<SETTINGS
global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}
rule_files: ["$rules"]
scrape_configs:
  - job_name: dogiqa
    static_configs: [{targets: ["$target"]}]
SETTINGS
  "$programs/prometheus" --config.file="$folder/prometheus.yml" --storage.tsdb.path="$folder/data" \
    --web.listen-address="127.0.0.1:$port" --log.level=warn >"$folder/server.log" 2>&1 </dev/null &
  echo $! >"$folder/server.pid"
  disown
  wait_until "$folder/server.pid" ready 2>/dev/null ||
    die "the server did not start: $(tail -n 20 "$folder/server.log")"
  echo "DOGIQA_PROMETHEUS_DIR=$folder"
  echo "DOGIQA_PROMETHEUS=127.0.0.1:$port"
}

case "${1:-}" in
  promtool)
    check_available
    exec "$(fetch)/promtool" "${@:2}"
    ;;
  *) main "$@" ;;
esac
