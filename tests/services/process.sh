# shellcheck shell=bash
# What kafka.sh and s3.sh share: the cache of fetched parts, free ports, pid files, and the life of a service.
# Sourced, never run. The sourcing script sets `service`, its name, before.
# shellcheck disable=SC2154 # `service`

cache_dir="${DOGIQA_SERVICES_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dogiqa-services}"
start_timeout_s=90

die() {
  echo "$service: $*" >&2
  exit 1
}

# lacking COMMAND WHAT: prints both when this machine does not have the command.
lacking() {
  command -v "$1" >/dev/null 2>&1 || printf '%s (%s)\n' "$1" "$2"
}

is_cached() {
  [ -d "$cache_dir/$1" ]
}

# cached NAME FILL: the folder NAME of the cache, filled by `FILL FOLDER` when it is not there yet. It gets its name
# only when complete, so a fetch that was killed leaves nothing that looks whole, and two at a time do no harm.
cached() {
  local place="$cache_dir/$1" fresh
  if ! is_cached "$1"; then
    mkdir -p "$cache_dir"
    fresh=$(mktemp -d "$cache_dir/.partial.XXXXXX")
    echo "$service: fetching $1 into $cache_dir" >&2
    if ! "$2" "$fresh" >&2; then
      rm -rf "$fresh"
      die "could not fetch $1; see the lines above"
    fi
    is_cached "$1" || mv "$fresh" "$place"
    rm -rf "$fresh"
  fi
  printf '%s\n' "$place"
}

# A loopback port that nobody listens on. It lies below the range that outgoing connections take theirs from, so it
# stays free while a service is down between two starts.
#
# free_port TAKEN...: and that is none of these. A subshell may repeat the numbers of the one before it, so RANDOM will
# not do.
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

# alive PID WORD: does the process exist, and does its command line hold WORD? (Process ids are used again.)
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

# wait_until PID_FILE TEST...: returns when TEST succeeds; fails when the process ends or the time is over.
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

# Ends every process whose pid file lies in a folder that `start` made, and removes the folder. The data goes with it,
# so there is nothing that a gentler signal would save. Each process names its folder in its command line.
stop() {
  local folder=$1 pid
  [ -f "$folder/.dogiqa-service" ] || die "$folder was not made by \`start\`"
  find "$folder" -name '*.pid' -exec cat {} + | while read -r pid; do
    if alive "$pid" "$folder"; then
      kill -9 "$pid" 2>/dev/null || true
      while alive "$pid" "$folder"; do sleep 0.05; done
    fi
  done
  rm -rf "$folder"
}

# A new folder for one instance; `stop` refuses any other. While `owner` names a process in it, the instance lives no
# longer than that process.
new_folder() {
  local folder
  folder=$(mktemp -d "${TMPDIR:-/tmp}/dogiqa-$service.XXXXXX")
  touch "$folder/.dogiqa-service"
  echo "$$" >"$folder/owner"
  printf '%s\n' "$folder"
}

# Stops the instances whose owner was killed before it could.
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

# The subcommands. `usage`, `missing_parts`, `fetch` and `start FOLDER` are the script's own.
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
      # Whatever ends this script before the service is handed over also ends the service.
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
