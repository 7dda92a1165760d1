#!/bin/bash
# What the job scripts in this folder run: `accelerate launch ARGUMENTS --resume` once on each node,
# and after a preemption or at the time limit the same job again, which goes on where it stopped.
#
#   bash launch/slurm/run.sh [options of accelerate launch] RECIPE [options of the recipe]
#
# Not requeued: a run that was cancelled (scancel), and one that failed for a reason of its own.
# Processes per node: the GPUs that Slurm gave to the job there, else 1.
set -u

export PATH="$PWD/.venv/bin:$PATH" PYTHONUNBUFFERED=1
# Rank 0 writes it when a signal ended the run. It runs beside this script, so a local path will do.
export LLMCLF_PREEMPTED="${TMPDIR:-/tmp}/llmclf-preempted-$SLURM_JOB_ID"
# torchrun passes on only the signals named here, and kills its ranks 30 s later unless told so.
export PET_SIGNALS_TO_HANDLE=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 PET_SHUTDOWN_TIMEOUT=300
# A long evaluation may lie between a signal and the end of the next step; Slurm gives 180 s.
export LLMCLF_GRACE_SECONDS="${LLMCLF_GRACE_SECONDS:-150}"
export LLMCLF_NODES="$SLURM_JOB_NUM_NODES"
export LLMCLF_PROCESSES="$((SLURM_JOB_NUM_NODES * ${SLURM_GPUS_ON_NODE:-1}))"
export LLMCLF_PORT="$((20000 + SLURM_JOB_ID % 20000))"
rm -f "$LLMCLF_PREEMPTED"
trap : TERM USR1  # the ranks act on these; this script must live on to requeue the job

# A launcher of a single process dies of the signal before its rank has saved, and Slurm kills what
# a task leaves behind. So a task ends when the last process with its output has ended.
# shellcheck disable=SC2016
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --kill-on-bad-exit=1 --cpu-bind=none \
  ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} \
  bash -c 'set -o pipefail; trap : TERM USR1
    accelerate launch --num_machines "$LLMCLF_NODES" --num_processes "$LLMCLF_PROCESSES" \
      --machine_rank "$SLURM_NODEID" --main_process_ip "$SLURM_LAUNCH_NODE_IPADDR" \
      --main_process_port "$LLMCLF_PORT" --same_network --deepspeed_multinode_launcher standard \
      "$@" --resume 2>&1 | (trap "" TERM USR1; exec cat)' launch "$@"
code=$?

reason=$(cat "$LLMCLF_PREEMPTED" 2>/dev/null)
rm -f "$LLMCLF_PREEMPTED"
[ "$code" -eq 0 ] && exit 0
job=$(scontrol show job "$SLURM_JOB_ID") || exit "$code"

fact() {  # a value of `scontrol show job`
  grep -o "\b$1=[^ ]*" <<<"$job" | head -n 1 | cut -d= -f2
}

seconds_left() {  # to the time limit; many, if there is none
  local end
  end=$(date -d "$(fact EndTime)" +%s 2>/dev/null) || end=9999999999
  echo $((end - $(date +%s)))
}

requeue_wanted() {
  # Amid a scancel the state is COMPLETING, and EndTime is now.
  [[ $(fact JobState) == RUNNING || $(fact Reason) == TimeLimit ]] || return 1
  # Times sort as text. A preemption before this start does not count.
  [[ $(fact PreemptTime) != None && ! $(fact PreemptTime) < $(fact StartTime) ]] && return 0
  # SIGUSR1 is always somebody's wish. SIGTERM may be another node's launcher that failed.
  [[ $reason == SIGUSR1 ]] || [[ -n $reason && $(seconds_left) -lt 300 ]]
}

if requeue_wanted; then
  echo "job $SLURM_JOB_ID: requeued, to go on with --resume"
  scontrol requeue "$SLURM_JOB_ID" && sleep 60  # Slurm ends this script
fi
exit "$code"
