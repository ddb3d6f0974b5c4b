#!/usr/bin/env bash
# A real Slurm on this host, as root: scripts/cluster/slurm.sh start FOLDER [NODES], or stop FOLDER
# It has a partition `main` of NODES nodes (1) with equal shares of the cores. What uses it needs SLURM_CONF=FOLDER/slurm.conf.
# Debian: apt-get install --no-install-recommends slurm-wlm munge
set -euo pipefail
folder=$(realpath -m "$2") nodes=${3:-1}

stop() {
  local process
  for process in "$folder"/*.pid; do
    [ -f "$process" ] && kill "$(cat "$process")" 2> /dev/null || true
  done
}

start() {
  local host cores memory
  host=$(hostname -s)
  cores=$(($(env -u OMP_NUM_THREADS nproc) / nodes)) memory=$(($(awk '/MemTotal/ {print $2}' /proc/meminfo) / 1024 / nodes))
  mkdir -p "$folder"/{state,spool,log}
  cat > "$folder/slurm.conf" << END
ClusterName=minuteloop
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=26817
SlurmUser=root
SlurmdUser=root
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
SlurmdTimeout=10
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd-%n.log
JobCompType=jobcomp/filetxt
JobCompLoc=$folder/log/jobs.txt
END
  for node in $(seq "$nodes"); do
    echo "NodeName=n$node NodeHostname=$host NodeAddr=127.0.0.1 Port=$((26817 + node)) CPUs=$cores RealMemory=$memory"
  done >> "$folder/slurm.conf"
  echo "PartitionName=main Nodes=n[1-$nodes] Default=YES MaxTime=INFINITE State=UP" >> "$folder/slurm.conf"

  pgrep -x munged > /dev/null || (mkdir -p /run/munge && chown munge: /run/munge && runuser -u munge -- /usr/sbin/munged)
  export SLURM_CONF=$folder/slurm.conf
  slurmctld
  for node in $(seq "$nodes"); do slurmd -N "n$node"; done
  for _ in $(seq 50); do
    [ "$(sinfo --noheader --states idle --format %D 2> /dev/null)" = "$nodes" ] && exit
    sleep 0.2
  done
  echo "slurm.sh: the nodes did not start; see $folder/log" >&2
  exit 1
}

"$1"
