#!/usr/bin/env bash
#SBATCH --job-name=aot-distill
#SBATCH --nodes=1 --ntasks-per-node=1
#SBATCH --gpus-per-node=8 --cpus-per-task=64 --mem=400G
#SBATCH --time=24:00:00
#SBATCH --requeue --open-mode=append
#SBATCH --signal=TERM@300
#SBATCH --output=%x-%j.out
# Distil a video student end to end: makes the environment if needed, then runs every stage and resumes where it stopped.
#
#   bash scripts/distill_video.sh [OPTION...] [STAGE...] [KEY.SUB=VALUE...] [-- ARGUMENT...]
#   sbatch [--nodes=N ...] scripts/distill_video.sh [OPTION...]         the same as a job of Slurm (docs/cluster.md)
#
#   --config FILE    the run; without it configs/video/toy_kitchen.yaml, which takes minutes on a laptop without a GPU
#   --procs N        train in N processes on each machine, under torchrun; in a job one for each GPU, if not given
#   --nodes N        train on N machines; in a job on all of it, if not given
#   --zero 0|1|2|3   train with this stage of DeepSpeed ZeRO
#   --limit N        use at most N clips of each split
#   --dry-run        print every command and resource, then the plan of the run; start nothing
#   --node-rank I, --rendezvous HOST:PORT    on each of N machines without Slurm: which one it is, and where the first
#                    listens; also as AOT_NODE_RANK, MASTER_ADDR and MASTER_PORT
#   --job NAME, --shards N [--first-shard I]    a part of a stage: a job of `aot jobs`, or the share of this array task
#   --no-server      start no model server beside generate and filter, though the config asks for one
#   --refused-ok     end with 0 where inputs were refused (3): they are listed, and hold up no job that waits
#
# Stages are prepare, generate, filter, train, evaluate and report; all of them, if none is named. Arguments after -- go
# to aot as they are. Run folders are runs/<config>[-limitN][-procsN][-zeroS] in the clone (in a job without -procsN, for
# it may come back on another number of GPUs) unless run.dir=DIR or a `run:` section in the config says otherwise.
# Paths given here are relative to the folder you are in; those written in a config file may also be relative to the
# file's folder or to one above it.

set -euo pipefail
STAGES=(prepare generate filter train evaluate report)

usage() { sed -n '/^# Distil/,/^$/p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//'; }
say() { echo "distill_video.sh: $1" >&2; }
fail() {
  say "$1"
  usage >&2
  exit 2
}

config="" procs="" nodes="" zero="" limit="" dir="" rank=${AOT_NODE_RANK:-} rendezvous="" job="" shards="" first_shard=0
dry="" refused_ok="" stages=() arguments=() given=()
while [ $# -gt 0 ]; do
  case $1 in --* | -h) ;; *) given+=("$1") ;; esac
  case $1 in
    --config | --procs | --nodes | --zero | --limit | --node-rank | --rendezvous | --job | --shards | --first-shard)
      [ $# -ge 2 ] || fail "$1 needs a value"
      case $1 in
        --config) config=$2 ;;
        --procs) procs=$2 ;;
        --nodes) nodes=$2 ;;
        --zero) zero=$2 ;;
        --limit) [ -z "$limit" ] || fail "--limit is given twice"; limit=$2 ;;
        --node-rank) rank=$2 ;;
        --rendezvous) rendezvous=$2 ;;
        --job) job=$2 ;;
        --shards) shards=$2 ;;
        --first-shard) first_shard=$2 ;;
      esac
      [ "$1" = --nodes ] || given+=("$1" "$2")
      shift 2
      ;;
    --dry-run) dry=1; shift ;;
    --no-server) export AOT_SERVER_PORT=9; given+=("$1"); shift ;; # where nobody listens: who asks after all is told so
    --refused-ok) refused_ok=1; given+=("$1"); shift ;;
    -h | --help) usage; exit 0 ;;
    prepare | generate | filter | train | evaluate | report) stages+=("$1"); shift ;;
    run.dir=*) [ -z "$dir" ] || fail "run.dir is given twice"; dir=${1#run.dir=}; shift ;;
    data.limit=*) [ -z "$limit" ] || fail "data.limit is given twice"; limit=${1#data.limit=}; shift ;;
    *=*) arguments+=("$1"); shift ;;
    --) given+=("$@"); shift; arguments+=("$@"); break ;;
    *) fail "unknown argument $1" ;;
  esac
done
number='^[1-9][0-9]{0,5}$'
[[ -z $procs || $procs =~ $number ]] || fail "--procs needs a number of processes, got $procs"
[[ -z $nodes || $nodes =~ $number ]] || fail "--nodes needs a number of machines, got $nodes"
[[ -z $shards || $shards =~ $number ]] || fail "--shards needs a number of shares, got $shards"
[[ -z $zero || $zero =~ ^[0-3]$ ]] || fail "--zero needs 0, 1, 2 or 3, got $zero"
[[ -z $limit || $limit =~ ^[1-9][0-9]*$ ]] || fail "--limit needs a number of clips, got $limit"
[[ -z $rank || $rank =~ ^[0-9]{1,5}$ ]] || fail "--node-rank needs a number from 0 on, got $rank"
[[ $first_shard =~ ^[0-9]{1,6}$ ]] || fail "--first-shard needs a number from 0 on, got $first_shard"
[[ -z $config || -f $config ]] || fail "no config file $config"
[[ -z $job || "${stages[*]-}" = train ]] || fail "--job is for the stage train alone"
[[ -z $shards || ${#stages[@]} -eq 1 ]] || fail "--shards needs the one stage that is shared out"

# sbatch runs a copy of this file in a folder of its own, so the clone is where that copy came from.
find_scripts() {
  local here submitted="" folder
  here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
  if [ -n "${SLURM_JOB_ID:-}" ] && command -v scontrol >/dev/null; then
    submitted=$(scontrol show job "$SLURM_JOB_ID" 2>/dev/null | sed -n 's/^ *Command=\([^ ]*\).*/\1/p' | sed -n 1p) || true
  fi
  for folder in "${AOT_CLONE:-}/scripts" "$here" "$(dirname "${submitted:-.}")" "${SLURM_SUBMIT_DIR:-.}/scripts" \
    "${SLURM_SUBMIT_DIR:-.}"; do
    if [ -f "$folder/env.sh" ] && [ -f "$folder/cluster.sh" ]; then
      (cd "$folder" && pwd)
      return
    fi
  done
  say "this copy of the script cannot find its clone; submit it from there, or set AOT_CLONE to that folder"
  return 2
}
scripts=$(find_scripts)
# shellcheck source=scripts/env.sh
source "$scripts/env.sh"
# shellcheck source=scripts/cluster.sh
source "$scripts/cluster.sh"
config=${config:-$ROOT/configs/video/toy_kitchen.yaml}

# Where it runs: in a job of Slurm, as a look at one from outside, on one of several machines, or here alone.
if [ -n "${SLURM_JOB_ID:-}" ] && command -v srun >/dev/null; then
  where=job
  [ "${SLURM_STEP_NUM_TASKS:-1}" -eq 1 ] || fail "start this script with sbatch, or in the shell of salloc, not with srun"
elif [ -n "$dry" ] && [ -z "$rank" ] && { [ -n "$nodes" ] || command -v sbatch >/dev/null; }; then
  where=preview
elif [ "${nodes:-1}" -gt 1 ]; then
  where=machines
else
  where=here
fi
# Templates of other launchers set these for a whole machine; here they would be taken for those of one process.
unset RANK WORLD_SIZE LOCAL_RANK

SITE="" gpus="" cpus="" hosts=()
case $where in
  job)
    load_site "$scripts"
    allocated=${SLURM_JOB_NUM_NODES:-1}
    nodes=${nodes:-$allocated}
    [ "$nodes" -le "$allocated" ] || fail "--nodes $nodes is more than the $allocated of this job; give it to sbatch"
    mapfile -t hosts < <(scontrol show hostnames "${SLURM_JOB_NODELIST:-$(hostname)}")
    gpus=${SLURM_GPUS_ON_NODE:-}
    cpus=${SLURM_CPUS_PER_TASK:-}
    rendezvous=${hosts[0]}:${AOT_PORT:-$((10000 + SLURM_JOB_ID % 20000))} # below the ports that systems give away
    # Files that compilers keep go to the disk of the node: on a shared one, processes wait for each other's locks.
    scratch=${SLURM_TMPDIR:-${TMPDIR:-/tmp}}/aot-$(id -u)
    export TRITON_CACHE_DIR=${TRITON_CACHE_DIR:-$scratch/triton} TORCH_EXTENSIONS_DIR=${TORCH_EXTENSIONS_DIR:-$scratch/extensions}
    export TORCHINDUCTOR_CACHE_DIR=${TORCHINDUCTOR_CACHE_DIR:-$scratch/inductor}
    ;;
  preview)
    load_site "$scripts"
    nodes=${nodes:-$(header "${BASH_SOURCE[0]}" nodes)}
    gpus=${SBATCH_GPUS_PER_NODE:-$(header "${BASH_SOURCE[0]}" gpus-per-node)}
    gpus=${gpus##*:}
    cpus=$(header "${BASH_SOURCE[0]}" cpus-per-task)
    rendezvous=FIRST_NODE:PORT
    ;;
  machines)
    rendezvous=${rendezvous:-${MASTER_ADDR:+$MASTER_ADDR:${MASTER_PORT:-29500}}}
    [ -n "$rank" ] && [ -n "$rendezvous" ] ||
      fail "--nodes $nodes: submit it with sbatch --nodes=$nodes, or give --node-rank and --rendezvous HOST:PORT on each of $nodes machines"
    [ "$rank" -lt "$nodes" ] || fail "--node-rank $rank, but the ranks of $nodes machines are 0 to $((nodes - 1))"
    ;;
  here) nodes=1 ;;
esac

suffix=""
if [ -n "$limit" ]; then
  arguments+=(--limit "$limit")
  suffix+=-limit$limit
fi
if [ -n "$procs" ]; then
  arguments+=("train.procs=$procs")
  case $where in here | machines) suffix+=-procs$procs ;; esac
elif [ -n "$gpus" ] && [ "$gpus" -gt 1 ] && ! grep -q '^ *procs:' "$config" && [[ " ${arguments[*]-}" != *" train.procs="* ]]; then
  procs=$gpus
  arguments+=("train.procs=$procs")
fi
if [ -n "$zero" ]; then
  arguments+=("train.zero_stage=$zero")
  suffix+=-zero$zero
fi
if [ -z "$dir" ] && ! grep -q '^run:' "$config"; then
  stem=$(basename "$config")
  dir=$ROOT/runs/${stem%.*}$suffix
fi
[ -z "$dir" ] || arguments+=("run.dir=$dir")
finished=""
if [ -n "$dir" ] && [ -e "$dir/DONE" ]; then # a requeued job of it says so once, and ends
  finished=", which is finished"
  [ "$where" = machines ] || nodes=1
fi

if [ -n "${AOT_COMMAND:-}" ]; then # such as that of a container, which needs no environment
  read -ra aot <<<"$AOT_COMMAND"
  python=("${aot[@]:0:${#aot[@]}-1}" python)
else
  aot=("$VENV/bin/aot") python=("$VENV/bin/python")
  [ -n "$dry" ] || ensure_env "${AOT_EXTRAS:-$(with_zero video,train,report "$config" ${arguments[@]+"${arguments[@]}"})}"
fi

# srun_on COUNT: the words before a command that is done once on each of the first COUNT nodes.
srun_on() {
  local extra
  words=(srun "--nodes=$1" "--ntasks=$1" --ntasks-per-node=1 --kill-on-bad-exit=1 --wait=60)
  [ ${#hosts[@]} -eq 0 ] || words+=("--nodelist=$(IFS=,; echo "${hosts[*]:0:$1}")")
  [ -z "$cpus" ] || words+=("--cpus-per-task=$cpus") # which srun does not take over from sbatch
  [ "$1" -eq 1 ] || words+=(--label)
  read -ra extra <<<"${AOT_SRUN_OPTIONS:-}"
  words+=(${extra[@]+"${extra[@]}"})
}

slurm() { [ "$where" = job ] || [ "$where" = preview ]; }

asks_server() { [ -z "${AOT_SERVER_PORT:-}" ] && { grep -q '{port}' "$config" || [[ "${arguments[*]-}" == *'{port}'* ]]; }; }

# kind STAGE: how a stage is run in a job: `all` nodes, the first one beside a `server`, or the `first` alone.
kind() {
  case $1 in
    train) if slurm && [ "$nodes" -gt 1 ] && [[ -z $job || $job == *:train ]]; then echo all; else echo first; fi ;;
    generate | filter) if asks_server && [ "${rank:-0}" = 0 ]; then echo server; else echo first; fi ;;
    *) echo first ;;
  esac
}

# command_of KIND STAGE...: the words that do these stages, in `words`.
command_of() {
  local how=$1 share
  shift
  words=()
  if slurm; then
    if [ "$how" = all ]; then
      srun_on "$nodes"
      # shellcheck disable=SC2016 # only the shell that srun starts on a node knows which one that is
      words+=(bash -c 'exec "$@" run.node_rank="$SLURM_NODEID"' node)
    else
      srun_on 1
    fi
  fi
  [ "$how" != server ] || words+=("${python[@]}" -m aot.chat.server.beside "$config" --)
  if [ -n "$job" ]; then
    words+=("${aot[@]}" train "$config" --job "$job")
  elif [ -n "$shards" ]; then
    share=$((first_shard + ${SLURM_ARRAY_TASK_ID:-0}))
    words+=("${aot[@]}" "$1" "$config" --shard "$share/$shards")
  elif [ "$*" = "${STAGES[*]}" ]; then
    words+=("${aot[@]}" run "$config")
  else
    words+=("${aot[@]}" run "$config" "$@")
  fi
  words+=(${arguments[@]+"${arguments[@]}"})
  [ "$nodes" -eq 1 ] || words+=("train.nodes=$nodes") # of all stages, so that what cannot be shared is told before any
  if [ "$how" = all ] || [ "$where" = machines ]; then words+=("run.rendezvous=$rendezvous"); fi
  [ "$where" != machines ] || words+=("run.node_rank=$rank")
}

# Neighbouring stages that run in the same way are done by one command.
[ ${#stages[@]} -gt 0 ] || stages=("${STAGES[@]}")
groups=()
for stage in "${stages[@]}"; do
  how=$(kind "$stage")
  last=$((${#groups[@]} - 1))
  if [ "$last" -ge 0 ] && [ "${groups[$last]%% *}" = "$how" ]; then
    groups[last]+=" $stage"
  else
    groups+=("$how $stage")
  fi
done

facts() {
  local ready
  case $where in
    job)
      echo "job: $SLURM_JOB_ID on ${hosts[*]:0:$nodes}, restart ${SLURM_RESTART_COUNT:-0} of at most ${AOT_MAX_RESTARTS:-20}"
      ;;
    preview)
      echo "job: none yet; this submits it, with what the #SBATCH lines and SBATCH_ variables ask for:"
      echo "  $(show sbatch "--nodes=$nodes" "$scripts/distill_video.sh" ${given[@]+"${given[@]}"})"
      sed -n "s/^#SBATCH /  #SBATCH /; s/--nodes=1/--nodes=$nodes/; /^  #SBATCH/p" "${BASH_SOURCE[0]}"
      env | sed -n 's/^SBATCH_/  SBATCH_/p' | sort
      echo "  FIRST_NODE is the first of \`scontrol show hostnames\`, PORT is 10000 + SLURM_JOB_ID % 20000"
      ;;
    machines) echo "machine: $rank of $nodes, which meet at $rendezvous" ;;
    here) echo "machine: this one alone" ;;
  esac
  echo "training: on $nodes node(s) with ${procs:-as many as train.procs says} process(es) each"
  if slurm; then
    echo "resources of a node: ${gpus:-0} GPU(s), ${cpus:-all} CPU(s)"
    echo "site settings: $SITE"
  fi
  ready="is there"
  [ -x "${aot[0]}" ] || command -v "${aot[0]}" >/dev/null || ready="would be made first (a few minutes, once)"
  echo "environment: ${aot[*]} $ready"
  echo "run folder: ${dir:-as the config says}$finished"
}

if [ -n "$dry" ]; then
  facts
  for group in "${groups[@]}"; do
    read -ra parts <<<"$group"
    command_of "${parts[@]}"
    case ${parts[0]} in
      all) on="on $nodes nodes" ;;
      server) on="beside a model server (AOT_SERVER: ${AOT_SERVER:-not set})" ;;
      *) if slurm; then on="on the first node"; else on="here"; fi ;;
    esac
    echo "${parts[*]:1} $on:"
    echo "  $(show "${words[@]}")"
  done
  if slurm; then
    echo "after exit code 4 (a signal, the end of its time): scontrol requeue ${SLURM_JOB_ID:-JOB_ID}"
  fi
  if [ -n "$job$shards" ] || { [ ! -x "${aot[0]}" ] && ! command -v "${aot[0]}" >/dev/null; }; then
    echo "nothing was started"
    exit 0
  fi
  exec "${aot[@]}" run "$config" --dry-run ${arguments[@]+"${arguments[@]}"} "train.nodes=$nodes"
fi

child="" signalled=""
# shellcheck disable=SC2329 # the trap below calls it
hand_on() {
  signalled=1
  [ -z "$child" ] || kill -TERM "$child" 2>/dev/null || true
}

# do_words: does the command in `words`; its exit code in `code`. A signal to this shell goes on to it.
do_words() {
  "${words[@]}" &
  child=$!
  while true; do
    signalled="" code=0
    wait "$child" || code=$?
    [ -n "$signalled" ] || break
  done
}

# requeue: asks Slurm to start this job again, unless that would be without end, or to no purpose.
requeue() {
  local most=${AOT_MAX_RESTARTS:-20} restarts=${SLURM_RESTART_COUNT:-0} shortest_s=${AOT_SHORTEST_LIFE_S:-60}
  if [ "${AOT_REQUEUE:-1}" = 0 ]; then
    say "not requeued, as AOT_REQUEUE is 0; the same sbatch goes on"
  elif [ -n "$dir" ] && [ "$(stat -c %Y "$dir/STOP" 2>/dev/null || echo 0)" -ge "$began_s" ]; then
    say "not requeued, as $dir/STOP was touched; the same sbatch goes on"
  elif [ "$restarts" -ge "$most" ]; then
    say "not requeued: it was $restarts times already (AOT_MAX_RESTARTS is $most); the same sbatch goes on"
  elif [ "$SECONDS" -lt "$shortest_s" ]; then
    say "not requeued: it stopped after $SECONDS s and would do so again; see above, then the same sbatch goes on"
  elif scontrol requeue "$SLURM_JOB_ID"; then
    say "requeued; restart $((restarts + 1)) of at most $most"
  else
    say "not requeued: Slurm does not take it (is --requeue set?); the same sbatch goes on"
  fi
}

if [ "$where" != job ] && [ ${#groups[@]} -eq 1 ]; then
  read -ra parts <<<"${groups[0]}"
  command_of "${parts[@]}"
  exec "${words[@]}"
fi
trap hand_on TERM INT HUP USR1 USR2
[ "$where" != job ] || facts >&2
end=0 began_s=$(date +%s)
for group in "${groups[@]}"; do
  read -ra parts <<<"$group"
  command_of "${parts[@]}"
  [ "$where" != job ] || say "$(date '+%F %T') $(show "${words[@]}")"
  do_words
  case $code in
    0) ;;
    3) end=3 ;; # refused inputs are listed, the stages after go on
    *) end=$code; break ;;
  esac
done
[ "$end" -ne 3 ] || [ -z "$refused_ok" ] || end=0
[ "$where" != job ] || say "$(date '+%F %T') ended with code $end"
# 143 is what srun tells of a task that its own signal ended before the task could say 4.
if [ "$where" = job ] && [[ $end = 4 || $end = 143 ]]; then requeue; fi
exit "$end"
