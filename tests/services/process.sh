# shellcheck shell=bash
# Functions of kafka.sh and s3.sh: the cache of downloads, free ports, pid files, and the lifecycle of a service.
# Sourced, never run. The sourcing script first sets `service` to its name.
# shellcheck disable=SC2154 # `service`

cache_dir="${DOGIQA_SERVICES_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dogiqa-services}"
start_timeout_s=90

die() {
  echo "$service: $*" >&2
  exit 1
}

# lacking COMMAND DESCRIPTION: prints both if this machine does not have the command.
lacking() {
  command -v "$1" >/dev/null 2>&1 || printf '%s (%s)\n' "$1" "$2"
}

is_cached() {
  [ -d "$cache_dir/$1" ]
}

# cached NAME FILL: prints the cache's folder NAME. Runs `FILL FOLDER` first if it does not exist. The folder gets its
# name only when it is complete, so that a killed download leaves no partial folder and two downloads do not conflict.
cached() {
  local folder="$cache_dir/$1" fresh
  if ! is_cached "$1"; then
    mkdir -p "$cache_dir"
    fresh=$(mktemp -d "$cache_dir/.partial.XXXXXX")
    echo "$service: fetching $1 into $cache_dir" >&2
    if ! "$2" "$fresh" >&2; then
      rm -rf "$fresh"
      die "could not fetch $1; see the lines above"
    fi
    is_cached "$1" || mv "$fresh" "$folder"
    rm -rf "$fresh"
  fi
  printf '%s\n' "$folder"
}

# free_port TAKEN...: prints a free loopback port that is none of TAKEN. It is below the range of outgoing connections, so
# it stays free while a service restarts. RANDOM does not work here, because subshells may repeat its numbers.
free_port() {
  local port
  while :; do
    port=$((20000 + $(od -An -N4 -tu4 /dev/urandom) % 12000))
    case " $* " in *" $port "*) continue ;; esac
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      printf '%s\n' "$port"
      return
    fi
  done
}

# alive PID WORD: succeeds if the process exists and its command line contains WORD. (Process ids are reused.)
alive() {
  local arguments
  kill -0 "$1" 2>/dev/null || return 1
  if [ -r "/proc/$1/cmdline" ]; then
    arguments=$(tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline") || return 1
  else
    arguments=$(ps -o args= -p "$1")
  fi
  case "$arguments" in *"$2"*) ;; *) return 1 ;; esac
}

# wait_until PID_FILE TEST...: returns when TEST succeeds. Fails when the process ends or after the timeout.
wait_until() {
  local pid deadline=$((SECONDS + start_timeout_s))
  pid=$(cat "$1")
  shift
  until "$@"; do
    kill -0 "$pid" 2>/dev/null || return 1
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.1
  done
}

# stop FOLDER: kills every process with a pid file in a folder that `start` created, and removes the folder. SIGKILL is
# enough, because the data is removed too. The command line of each process contains the folder.
stop() {
  local folder=$1 pid
  [ -f "$folder/.dogiqa-service" ] || die "$folder was not created by \`start\`"
  find "$folder" -name '*.pid' -exec cat {} + | while read -r pid; do
    if alive "$pid" "$folder"; then
      kill -9 "$pid" 2>/dev/null || true
      while alive "$pid" "$folder"; do sleep 0.05; done
    fi
  done
  rm -rf "$folder"
}

# Creates a folder for one instance. `stop` refuses any other folder. If the file `owner` names a process, `sweep` stops
# the instance after that process has ended.
new_folder() {
  local folder
  folder=$(mktemp -d "${TMPDIR:-/tmp}/dogiqa-$service.XXXXXX")
  touch "$folder/.dogiqa-service"
  echo "$$" >"$folder/owner"
  printf '%s\n' "$folder"
}

# Stops the instances whose owner was killed before it could stop them.
sweep() {
  local owner
  for owner in "${TMPDIR:-/tmp}/dogiqa-$service".*/owner; do
    [ -r "$owner" ] || continue
    alive "$(cat "$owner")" "$service.sh" || stop "$(dirname "$owner")"
  done
}

check_available() {
  local missing
  missing=$(missing_parts)
  [ -z "$missing" ] || die "not available, this machine lacks: ${missing//$'\n'/, }"
}

# Runs a subcommand. The sourcing script defines `usage`, `missing_parts`, `fetch` and `start FOLDER`.
main() {
  local command=${1:-help}
  [ $# -eq 0 ] || shift
  case "$command" in
    available) check_available ;;
    fetch) fetch >/dev/null ;;
    start | run)
      check_available
      fetch >/dev/null
      sweep
      folder=$(new_folder)
      # If this script ends before the service is started, it stops the service.
      trap '' PIPE
      trap 'stop "$folder"' EXIT
      trap 'exit 130' INT TERM HUP
      start "$folder" "$@"
      if [ "$command" = run ]; then
        exec >&-
        cat >/dev/null
      else
        rm "$folder/owner"
        trap - EXIT
      fi
      ;;
    stop)
      [ $# -eq 1 ] || die "stop needs the folder that \`start\` printed"
      stop "$1"
      ;;
    *)
      usage
      [ "$command" = help ] || exit 2
      ;;
  esac
}
