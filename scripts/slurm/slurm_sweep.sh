#!/bin/bash
# A sweep on the nodes of a Slurm job: a Ray head and the sweep on the first node, workers on the others.
#
#   sbatch --nodes 4 --cpus-per-task 16 --gpus-per-node 1 scripts/slurm/slurm_sweep.sh configs/deeprx-2021.yaml [OPTION...]
#
# Options are passed to leanrx sweep, such as --runs /shared/runs --cores 4. The run folder and this directory must be on
# a file system that all nodes share. A job that reached its time limit resumes when it is submitted again.
#SBATCH --job-name=leanrx
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive

set -euo pipefail

if [[ $# -lt 1 ]]; then
    echo "usage: sbatch --nodes N $0 CONFIG [OPTION of leanrx sweep]..." >&2
    exit 2
fi
if [[ -z ${SLURM_JOB_NODELIST:-} ]]; then
    echo "$0: not in a Slurm job; submit it with sbatch" >&2
    exit 2
fi

export RAY_USAGE_STATS_ENABLED=0 # no usage statistics leave the machine
port=${RAY_PORT:-6379}
cpus=${SLURM_CPUS_PER_TASK:-${SLURM_CPUS_ON_NODE:-1}}
gpus=${SLURM_GPUS_ON_NODE:-0}
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
# A step on one node, which it shares with the other steps of this job.
step=(srun --overlap --nodes=1 --ntasks=1 --cpus-per-task="$cpus")
head=$("${step[@]}" --nodelist="${nodes[0]}" hostname --ip-address | tr ' ' '\n' | grep -m 1 -v -e : -e '^127\.')

pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait' EXIT

"${step[@]}" --nodelist="${nodes[0]}" ray start --block --head --node-ip-address="$head" --port="$port" \
    --include-dashboard=false --num-cpus="$cpus" --num-gpus="$gpus" &
pids+=($!)
for node in "${nodes[@]:1}"; do
    "${step[@]}" --nodelist="$node" ray start --block --address="$head:$port" --num-cpus="$cpus" --num-gpus="$gpus" &
    pids+=($!)
done

for ((tries = 60; tries > 0; tries--)); do # the sweep also uses workers that join later
    if "${step[@]}" --nodelist="${nodes[0]}" ray status --address="$head:$port" >/dev/null 2>&1; then break; fi
    sleep 2
done
"${step[@]}" --nodelist="${nodes[0]}" leanrx sweep "$@" --ray "$head:$port"
