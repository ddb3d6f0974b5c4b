#!/usr/bin/env bash
# A Ray cluster of two nodes with a core each on this host: scripts/cluster/ray.sh start, or stop (which ends all Ray here)
# What uses it needs RAY_ADDRESS=$(hostname -I | cut -d' ' -f1):26379, and RAY_AUTH_MODE as here.
set -euo pipefail
export RAY_AUTH_MODE=disabled
port=26379 # not 10002 to 19999, which Ray's workers use
node=(--num-cpus=1 --object-store-memory=100000000 --disable-usage-stats)

start() {
  timeout 60 ray start --head --port=$port --include-dashboard=false "${node[@]}"
  timeout 60 ray start --address="$(hostname -I | cut -d' ' -f1):$port" "${node[@]}"
}

stop() { ray stop --force; }

"$1"
