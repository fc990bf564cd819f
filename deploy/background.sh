#!/usr/bin/env bash
# Settle in the background of this checkout: `background.sh up [arguments of settle up]`, `background.sh down`.
set -euo pipefail
cd "$(dirname "$0")/.."

settle=target/debug/settle
pid_file=target/settle.pid
log=target/settle.log
said=target/settle.out
ready=target/settle.ready.json
ready_within_s=300
down_within_s=60

# The process id of the running one; nothing when there is none.
running() {
  local pid
  pid=$(cat "$pid_file" 2>/dev/null) || return 0
  [[ $(ps -p "$pid" -o comm= 2>/dev/null) == *settle* ]] && echo "$pid" || true
}

up() {
  local pid
  pid=$(running)
  if [[ -n $pid ]]; then
    cat "$said"
    echo "settle is up already (pid $pid); \`make down\` stops it"
    local asked="$* " bus
    bus=${asked#*--bus }
    bus=${bus%% *}
    if [[ $asked == *"--bus "* ]] && ! grep -q "bus $bus," "$said"; then
      echo "it runs on another bus: \`make down\` first" >&2
      return 1
    fi
    return
  fi
  rm -f "$ready"
  # A process group of its own: Ctrl-C while waiting here does not reach it.
  set -m
  "$settle" up --ready-file "$ready" "$@" </dev/null >"$said" 2>"$log" &
  pid=$!
  set +m
  disown
  echo "$pid" >"$pid_file"
  printf 'starting settle (pid %s, log in %s) ' "$pid" "$log"
  for ((tenths = 0; tenths < ready_within_s * 10; tenths++)); do
    if [[ -f $ready ]]; then
      echo ' ready'
      cat "$said"
      return
    fi
    if ! kill -0 "$pid" 2>/dev/null; then
      printf ' it ended; the last of %s:\n' "$log"
      tail -n 20 "$log" "$said" >&2
      rm -f "$pid_file"
      return 1
    fi
    ((tenths % 10)) || printf .
    sleep 0.1
  done
  printf ' not ready after %s s; it goes on, see `make logs`\n' "$ready_within_s"
  return 1
}

down() {
  local pid
  pid=$(running)
  if [[ -z $pid ]]; then
    echo 'settle is not running'
    return
  fi
  printf 'stopping settle (pid %s) ' "$pid"
  kill -TERM "$pid"
  for ((tenths = 0; tenths < down_within_s * 10; tenths++)); do
    if ! kill -0 "$pid" 2>/dev/null; then
      rm -f "$pid_file"
      echo ' stopped'
      return
    fi
    ((tenths % 10)) || printf .
    sleep 0.1
  done
  printf ' still ending after %s s, see `make logs`\n' "$down_within_s"
  return 1
}

case ${1:-} in
up | down) "$@" ;;
*) echo "usage: $0 up [ARGUMENT...] | down" >&2 && exit 2 ;;
esac
