#!/usr/bin/env bash
# A Ray cluster of two nodes with a core each on this host: scripts/cluster/ray.sh start, or stop, which ends all Ray here.
# `address` prints where it listens, `kill` kills the second node. What uses it needs RAY_AUTH_MODE as here.
set -euo pipefail
export RAY_AUTH_MODE=disabled
node=(--num-cpus=1 --object-store-memory=100000000 --disable-usage-stats)

address() { echo "$(hostname -I | cut -d' ' -f1):26379"; } # a port below 10002 or above 19999: Ray's workers use the others

start() {
  timeout 60 ray start --head --port=26379 --include-dashboard=false "${node[@]}"
  timeout 60 ray start --address="$(address)" "${node[@]}"
}

kill_second() {
  local raylet
  raylet=$(pgrep -f raylet/raylet | sort -n | tail -1)
  kill -9 "$raylet" $(pgrep -P "$raylet")
}

stop() { ray stop --force; }

case "$1" in
  kill) kill_second ;;
  address | start | stop) "$1" ;;
esac
