#!/usr/bin/env bash
# The package `huggingface_hub`, as a peer of `dogiqa models pull` in the tests.
set -euo pipefail

service=hub
version=2.4.0
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=process.sh
. "$here/process.sh"

usage() {
  cat <<'USAGE'
usage: hub.sh available      check that all required programs exist; print the missing ones
       hub.sh fetch          fetch the package into the cache folder (once)
       hub.sh python         print the path of a Python that has the package

The cache folder is $DOGIQA_SERVICES_CACHE, or dogiqa-services in the user's cache folder.
USAGE
}

missing_parts() {
  lacking python3 "Python with its module venv, for the peer of \`models pull\`"
}

# The environment works in the folder that it is moved to: only its scripts contain the old path.
install_package() {
  python3 -m venv "$1" && "$1/bin/python" -m pip install --quiet --disable-pip-version-check "huggingface_hub==$version"
}

fetch() {
  cached "huggingface-hub-$version" install_package
}

case "${1:-help}" in
  available) check_available ;;
  fetch) fetch >/dev/null ;;
  python)
    check_available
    echo "$(fetch)/bin/python"
    ;;
  help) usage ;;
  *)
    usage
    exit 2
    ;;
esac
