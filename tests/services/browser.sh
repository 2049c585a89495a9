#!/usr/bin/env bash
# Headless Chromium for the test of the page of `dogiqa monitor`, driven over WebDriver on a free loopback port.
set -euo pipefail

service=browser
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=process.sh
. "$here/process.sh"

usage() {
  cat <<'USAGE'
usage: browser.sh available      check that Chromium and its driver exist or can be installed; print what is missing
       browser.sh fetch          install both if they are missing (once; needs root and Debian's packages)
       browser.sh start          start the driver; print DOGIQA_BROWSER_DRIVER=URL and DOGIQA_BROWSER_BINARY=PATH
       browser.sh run            start; print the same, stop when standard input closes
       browser.sh stop FOLDER    stop what `start` started; FOLDER is its DOGIQA_BROWSER_DIR
USAGE
}

is_installed() {
  command -v chromium >/dev/null 2>&1 && command -v chromedriver >/dev/null 2>&1
}

missing_parts() {
  is_installed && return
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    lacking chromium "Chromium, for the page of \`dogiqa monitor\`"
    lacking chromedriver "its driver, package chromium-driver"
  fi
}

# Another process may hold the lock of the packages, so this waits for it. The lists may be missing or outdated.
install_packages() {
  local options=(-o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 -qq)
  export DEBIAN_FRONTEND=noninteractive
  apt-get "${options[@]}" install -y --no-install-recommends chromium chromium-driver ||
    { apt-get "${options[@]}" update &&
      apt-get "${options[@]}" install -y --no-install-recommends chromium chromium-driver; }
}

fetch() {
  is_installed && return
  echo "$service: installing chromium and chromium-driver" >&2
  install_packages >&2 || die "could not install Chromium; see the lines above"
}

ready() {
  (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null
}

start() {
  local folder=$1 port
  port=$(free_port 0)
  chromedriver --port="$port" --log-path="$folder/chromedriver.log" >"$folder/output" 2>&1 </dev/null &
  echo $! >"$folder/driver.pid"
  disown
  wait_until "$folder/driver.pid" ready || die "the driver did not start: $(cat "$folder/output")"
  echo "DOGIQA_BROWSER_DRIVER=http://127.0.0.1:$port"
  echo "DOGIQA_BROWSER_BINARY=$(command -v chromium)"
  echo "DOGIQA_BROWSER_DIR=$folder"
}

main "$@"
