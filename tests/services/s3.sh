#!/usr/bin/env bash
# An S3 server for the service tests: Versity S3 Gateway on a temporary folder, on a free loopback port.
# It has accounts for root, for the worker, and for a test that changes its secret, and three buckets. The worker
# owns `photos`; its requests to `private` are answered with 403. The third account owns `rotating`.
set -euo pipefail

service=s3
version=v1.8.0
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=process.sh
. "$here/process.sh"

usage() {
  cat <<'USAGE'
usage: s3.sh available       check that all required programs exist; print the missing ones
       s3.sh fetch           build the server into the cache folder (once, about two minutes)
       s3.sh start [--events BROKER TOPIC]   start; print KEY=value lines, leave the server running. With --events
                             it publishes its notifications to a topic of Kafka, and `photos` keeps versions
       s3.sh run [--events BROKER TOPIC]     start; print the same, stop when standard input closes
       s3.sh secret FOLDER ACCOUNT NEW   change the secret key of an account
       s3.sh stop FOLDER     stop what `start` started; FOLDER is its DOGIQA_S3_DIR

The cache folder is $DOGIQA_SERVICES_CACHE, or dogiqa-services in the user's cache folder.
USAGE
}

missing_parts() {
  lacking curl "curl, to switch on the versions of a bucket"
  is_cached "versitygw-$version" || lacking go "a Go toolchain, to build the server once"
}

build_gateway() {
  GOBIN="$1" go install "github.com/versity/versitygw/cmd/versitygw@$version"
}

fetch() {
  cached "versitygw-$version" build_gateway
}

# Succeeds if the server answers on its health path.
healthy() {
  local answer
  exec 3<>"/dev/tcp/127.0.0.1/$port" || return 1
  printf 'GET /health HTTP/1.0\r\n\r\n' >&3
  read -r answer <&3 || answer=""
  exec 3>&-
  case "$answer" in *" 200 "*) ;; *) return 1 ;; esac
}

administer() {
  "$gateway" admin --access dogiqa-root --secret dogiqa-root-secret --endpoint-url "$endpoint" "$@"
}

# Switches on the versions of a bucket. This curl signs the query and the hash as they are written here.
keep_versions() {
  local body='<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>' hash
  hash=$(printf %s "$body" | sha256sum)
  curl --silent --show-error --fail --aws-sigv4 aws:amz:us-east-1:s3 --user dogiqa-root:dogiqa-root-secret \
    --request PUT --header 'content-type: application/xml' --header "x-amz-content-sha256: ${hash%% *}" \
    --data "$body" "$endpoint/$1?versioning="
}

set_secret() {
  local folder=$1 account=$2 new=$3
  gateway=$(fetch)/versitygw
  endpoint=$(cat "$folder/endpoint")
  administer update-user --access "$account" --secret "$new" >&2
}

start() {
  local folder=$1 events=() versions=()
  if [ "${2:-}" = --events ]; then
    events=(--event-kafka-url "$3" --event-kafka-topic "$4")
    mkdir "$folder/versions"
    versions=(--versioning-dir "$folder/versions")
  fi
  gateway=$(fetch)/versitygw
  port=$(free_port 0)
  endpoint="http://127.0.0.1:$port"
  echo "$endpoint" >"$folder/endpoint"
  mkdir "$folder/objects" "$folder/metadata" "$folder/accounts"
  "$gateway" --access dogiqa-root --secret dogiqa-root-secret --iam-dir "$folder/accounts" \
    --port "127.0.0.1:$port" --health /health --keep-alive --quiet "${events[@]}" \
    posix --sidecar "$folder/metadata" "${versions[@]}" "$folder/objects" >"$folder/server.log" 2>&1 </dev/null &
  echo $! >"$folder/server.pid"
  disown
  wait_until "$folder/server.pid" healthy 2>/dev/null ||
    die "the server did not start: $(tail -n 20 "$folder/server.log")"
  {
    administer create-user --access dogiqa-worker --secret dogiqa-worker-secret --role user
    administer create-user --access dogiqa-rotating --secret dogiqa-first-secret --role user
    administer create-bucket --bucket photos --owner dogiqa-worker
    administer create-bucket --bucket rotating --owner dogiqa-rotating
    administer create-bucket --bucket private --owner dogiqa-root
    [ ${#versions[@]} -eq 0 ] || keep_versions photos
  } >>"$folder/server.log" 2>&1 || die "could not set up its accounts: $(tail -n 5 "$folder/server.log")"
  cat <<VALUES
DOGIQA_S3_DIR=$folder
DOGIQA_S3_ENDPOINT=$endpoint
DOGIQA_S3_REGION=us-east-1
DOGIQA_S3_ROOT_KEY=dogiqa-root
DOGIQA_S3_ROOT_SECRET=dogiqa-root-secret
DOGIQA_S3_WORKER_KEY=dogiqa-worker
DOGIQA_S3_WORKER_SECRET=dogiqa-worker-secret
DOGIQA_S3_ROTATING_KEY=dogiqa-rotating
DOGIQA_S3_ROTATING_SECRET=dogiqa-first-secret
DOGIQA_S3_BUCKET=photos
DOGIQA_S3_ROTATING_BUCKET=rotating
DOGIQA_S3_PRIVATE_BUCKET=private
VALUES
}

case "${1:-}" in
  secret) set_secret "${@:2}" ;;
  *) main "$@" ;;
esac
