#!/usr/bin/env bash
# Apache Kafka for the service tests: brokers in KRaft mode on free loopback ports, data in a temporary folder.
set -euo pipefail

service=kafka
version=4.3.1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=process.sh
. "$here/process.sh"

usage() {
  cat <<'USAGE'
usage: kafka.sh available              is everything here that it takes? names what is missing
       kafka.sh fetch                  fetch the jars into the cache folder (once)
       kafka.sh start [--brokers N]    start; prints KEY=value lines, leaves the brokers running
       kafka.sh run [--brokers N]      start; prints the same, and stops when standard input closes
       kafka.sh stop FOLDER            stop what `start` started; FOLDER is its DOGIQA_KAFKA_DIR
       kafka.sh kill FOLDER NODE...    kill -9 these nodes, all at once; their data stay
       kafka.sh revive FOLDER NODE...  start these nodes again, all at once; returns when they serve
       kafka.sh quota FOLDER CLIENT BYTES   let clients of this id write only so many bytes in a second

The cache folder is $DOGIQA_SERVICES_CACHE, or dogiqa-services in the user's cache folder.
USAGE
}

missing_parts() {
  lacking java "a Java runtime, 17 or newer"
  is_cached "kafka-$version" || lacking mvn "Maven, to fetch the broker once"
}

fetch_jars() {
  mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$1"
}

fetch() {
  cached "kafka-$version" fetch_jars
}

# properties FOLDER NODE BROKERS: the settings of one node; the ports are those of `start`.
properties() {
  local folder=$1 node=$2 brokers=$3 voters="" n
  for n in $(seq "$brokers"); do voters="$voters${voters:+,}$n@127.0.0.1:${controller_ports[$n]}"; done
  cat <<PROPERTIES
process.roles=broker,controller
node.id=$node
controller.quorum.voters=$voters
listeners=PLAINTEXT://127.0.0.1:${ports[$node]},CONTROLLER://127.0.0.1:${controller_ports[$node]}
advertised.listeners=PLAINTEXT://127.0.0.1:${ports[$node]}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=$folder/node-$node/data
auto.create.topics.enable=false
default.replication.factor=$brokers
min.insync.replicas=$((brokers > 1 ? 2 : 1))
offsets.topic.replication.factor=$brokers
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=$brokers
transaction.state.log.min.isr=$((brokers > 1 ? 2 : 1))
transaction.state.log.num.partitions=3
group.initial.rebalance.delay.ms=0
# Tests kill members and wait for the group to notice.
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.min.heartbeat.interval.ms=300
PROPERTIES
}

# Starts node N of the instance in FOLDER, which has its settings; returns when the process exists.
start_node() {
  local folder=$1 node=$2 libs
  libs=$(fetch)
  java -Xmx"$(cat "$folder/heap_mb")m" -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$libs/*" \
    kafka.Kafka "$folder/node-$node/server.properties" \
    >"$folder/node-$node/broker.log" 2>&1 </dev/null &
  echo $! >"$folder/node-$node/broker.pid"
  disown
}

# Returns when the nodes of the instance in FOLDER serve.
await_nodes() {
  local folder=$1 node
  shift
  for node in "$@"; do
    wait_until "$folder/node-$node/broker.pid" \
      grep -q 'Kafka Server started' "$folder/node-$node/broker.log" ||
      die "node $node did not start: $(tail -n 20 "$folder/node-$node/broker.log")"
  done
}

kill_nodes() {
  local folder=$1 node
  shift
  for node in "$@"; do
    kill -9 "$(cat "$folder/node-$node/broker.pid")"
  done
}

revive_nodes() {
  local folder=$1 node
  shift
  for node in "$@"; do start_node "$folder" "$node"; done
  await_nodes "$folder" "$@"
}

set_quota() {
  local folder=$1 client=$2 bytes=$3 bootstrap
  bootstrap=$(sed -n 's,^advertised.listeners=PLAINTEXT://,,p' "$folder/node-1/server.properties")
  java -XX:TieredStopAtLevel=1 -cp "$(fetch)/*" kafka.admin.ConfigCommand \
    --bootstrap-server "$bootstrap" --alter --entity-type clients --entity-name "$client" \
    --add-config "producer_byte_rate=$bytes" >&2
}

start() {
  local folder=$1 brokers=1 node nodes libs cluster_id bootstrap=""
  shift
  if [ "${1:-}" = --brokers ]; then brokers=${2:?--brokers needs a number}; fi
  echo $((brokers > 1 ? 384 : 512)) >"$folder/heap_mb"
  libs=$(fetch)
  cluster_id=dogiqa$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')
  ports=() controller_ports=()
  for node in $(seq "$brokers"); do
    ports[node]=$(free_port "${ports[@]}" "${controller_ports[@]}")
    controller_ports[node]=$(free_port "${ports[@]}" "${controller_ports[@]}")
    bootstrap="$bootstrap${bootstrap:+,}127.0.0.1:${ports[$node]}"
  done
  for node in $(seq "$brokers"); do
    mkdir "$folder/node-$node"
    properties "$folder" "$node" "$brokers" >"$folder/node-$node/server.properties"
    java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$libs/*" kafka.tools.StorageTool format \
      -t "$cluster_id" -c "$folder/node-$node/server.properties" >"$folder/node-$node/format.log" 2>&1 ||
      die "could not format its storage: $(tail -n 5 "$folder/node-$node/format.log")"
    start_node "$folder" "$node"
  done
  mapfile -t nodes < <(seq "$brokers")
  await_nodes "$folder" "${nodes[@]}"
  echo "DOGIQA_KAFKA_DIR=$folder"
  echo "DOGIQA_KAFKA_BOOTSTRAP=$bootstrap"
}

case "${1:-}" in
  kill) kill_nodes "${@:2}" ;;
  revive) revive_nodes "${@:2}" ;;
  quota) set_quota "${@:2}" ;;
  *) main "$@" ;;
esac
