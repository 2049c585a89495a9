#!/usr/bin/env bash
# Apache Kafka for the service tests: brokers in KRaft mode on free loopback ports, with data in a
# temporary folder.
set -euo pipefail

service=kafka
version=4.3.1
# The user with a password.
user=dogiqa-worker
password=dogiqa-worker-password
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=process.sh
. "$here/process.sh"

usage() {
  cat <<'USAGE'
usage: kafka.sh available              check that all required programs exist; print the missing ones
       kafka.sh fetch                  fetch the jars into the cache folder (once)
       kafka.sh start [OPTION]         start; print KEY=value lines, leave the brokers running
       kafka.sh run [OPTION]           start; print the same, stop when standard input closes
       kafka.sh stop FOLDER            stop what `start` started; FOLDER is its DOGIQA_KAFKA_DIR
       kafka.sh kill FOLDER NODE...    kill -9 these nodes; keep their data
       kafka.sh revive FOLDER NODE...  restart these nodes; return when they accept connections
       kafka.sh password FOLDER NEW    change the user's password for SCRAM-SHA-512
       kafka.sh quota FOLDER CLIENT BYTES   limit the bytes per second that clients with this id write

--brokers N              N brokers instead of one
--certificates FOLDER    one broker with three TLS listeners: for users with a password (DOGIQA_KAFKA_SASL), for
                         clients with a certificate (DOGIQA_KAFKA_MTLS), and one with an expired certificate
                         (DOGIQA_KAFKA_EXPIRED). FOLDER has server.pem and expired.pem, each a certificate and its
                         key, and ca.pem, the authority of accepted clients. DOGIQA_KAFKA_CERTIFICATES is a copy

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

# properties FOLDER NODE BROKERS: prints the settings of one node. `start` sets the ports.
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
# Tests kill members and wait until the group removes them.
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.min.heartbeat.interval.ms=300
group.consumer.session.timeout.ms=6000
group.consumer.heartbeat.interval.ms=1000
PROPERTIES
}

# secure_properties FOLDER: prints the settings that --certificates adds to node 1, with the
# certificates of FOLDER.
secure_properties() {
  local login=org.apache.kafka.common.security.scram.ScramLoginModule
  cat <<PROPERTIES
listeners=PLAINTEXT://127.0.0.1:${ports[1]},CONTROLLER://127.0.0.1:${controller_ports[1]},$secure_listeners
advertised.listeners=PLAINTEXT://127.0.0.1:${ports[1]},$secure_listeners
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL:SASL_SSL,MTLS:SSL,EXPIRED:SSL
ssl.keystore.type=PEM
ssl.keystore.location=$1/server.pem
ssl.truststore.type=PEM
ssl.truststore.location=$1/ca.pem
listener.name.sasl.sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl.scram-sha-256.sasl.jaas.config=$login required;
listener.name.sasl.scram-sha-512.sasl.jaas.config=$login required;
listener.name.mtls.ssl.client.auth=required
listener.name.expired.ssl.keystore.location=$1/expired.pem
PROPERTIES
}

# start_node FOLDER N: starts a node from its settings in FOLDER. Returns when the process exists.
start_node() {
  local folder=$1 node=$2 libs
  libs=$(fetch)
  java -Xmx"$(cat "$folder/heap_mb")m" -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$libs/*" \
    kafka.Kafka "$folder/node-$node/server.properties" \
    >"$folder/node-$node/broker.log" 2>&1 </dev/null &
  echo $! >"$folder/node-$node/broker.pid"
  disown
}

# await_nodes FOLDER N...: returns when these nodes accept connections.
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

set_password() {
  local folder=$1 new=$2 bootstrap
  bootstrap=$(sed -n 's,^advertised.listeners=PLAINTEXT://,,p' "$folder/node-1/server.properties" | tail -n 1)
  java -XX:TieredStopAtLevel=1 -cp "$(fetch)/*" kafka.admin.ConfigCommand \
    --bootstrap-server "${bootstrap%%,*}" --alter --entity-type users --entity-name "$user" \
    --add-config "SCRAM-SHA-512=[password=$new]" >&2
}

start() {
  local folder=$1 brokers=1 certificates="" node nodes libs cluster_id bootstrap="" users=()
  case "${2:-}" in
    --brokers) brokers=${3:?--brokers needs a number} ;;
    --certificates) certificates=${3:?--certificates needs a folder} ;;
    "") ;;
    *) die "unknown option $2" ;;
  esac
  echo $((brokers > 1 ? 384 : 512)) >"$folder/heap_mb"
  libs=$(fetch)
  cluster_id=dogiqa$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')
  ports=() controller_ports=()
  for node in $(seq "$brokers"); do
    ports[node]=$(free_port "${ports[@]}" "${controller_ports[@]}")
    controller_ports[node]=$(free_port "${ports[@]}" "${controller_ports[@]}")
    bootstrap="$bootstrap${bootstrap:+,}127.0.0.1:${ports[$node]}"
  done
  if [ -n "$certificates" ]; then
    cp -R "$certificates" "$folder/certificates"
    sasl=127.0.0.1:$(free_port "${ports[@]}" "${controller_ports[@]}")
    mtls=127.0.0.1:$(free_port "${ports[@]}" "${controller_ports[@]}" "${sasl#*:}")
    expired=127.0.0.1:$(free_port "${ports[@]}" "${controller_ports[@]}" "${sasl#*:}" "${mtls#*:}")
    secure_listeners=SASL://$sasl,MTLS://$mtls,EXPIRED://$expired
    for mechanism in SCRAM-SHA-256 SCRAM-SHA-512; do
      users+=(--add-scram "$mechanism=[name=$user,password=$password]")
    done
  fi
  for node in $(seq "$brokers"); do
    mkdir "$folder/node-$node"
    properties "$folder" "$node" "$brokers" >"$folder/node-$node/server.properties"
    # The last value of a setting wins.
    [ -z "$certificates" ] || secure_properties "$folder/certificates" >>"$folder/node-$node/server.properties"
    java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$libs/*" kafka.tools.StorageTool format \
      -t "$cluster_id" -c "$folder/node-$node/server.properties" "${users[@]}" >"$folder/node-$node/format.log" 2>&1 ||
      die "could not format its storage: $(tail -n 5 "$folder/node-$node/format.log")"
    start_node "$folder" "$node"
  done
  mapfile -t nodes < <(seq "$brokers")
  await_nodes "$folder" "${nodes[@]}"
  echo "DOGIQA_KAFKA_DIR=$folder"
  echo "DOGIQA_KAFKA_BOOTSTRAP=$bootstrap"
  [ -n "$certificates" ] || return 0
  cat <<VALUES
DOGIQA_KAFKA_SASL=$sasl
DOGIQA_KAFKA_MTLS=$mtls
DOGIQA_KAFKA_EXPIRED=$expired
DOGIQA_KAFKA_USER=$user
DOGIQA_KAFKA_PASSWORD=$password
DOGIQA_KAFKA_CERTIFICATES=$folder/certificates
VALUES
}

case "${1:-}" in
  kill) kill_nodes "${@:2}" ;;
  revive) revive_nodes "${@:2}" ;;
  password) set_password "${@:2}" ;;
  quota) set_quota "${@:2}" ;;
  *) main "$@" ;;
esac
