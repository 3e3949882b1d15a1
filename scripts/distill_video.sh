#!/usr/bin/env bash
# Distil a video student end to end: makes the environment if needed, then runs every stage and resumes where it stopped.
#
#   bash scripts/distill_video.sh [--config FILE] [--procs N] [--zero 0|2|3] [--limit N] [--dry-run] [KEY.SUB=VALUE ...]
#
# Without options it runs configs/video/toy_kitchen.yaml, which takes minutes on a laptop without a GPU.
# --procs N trains in N processes under torchrun, --zero S with DeepSpeed ZeRO stage S; run folders are
# runs/<config>[-limitN][-procsN][-zeroS] in the clone unless run.dir=DIR or a `run:` section in the config says otherwise.
# Paths given here are relative to the folder you are in; those written in a config file may also be relative to the
# file's folder or to one above it.
set -euo pipefail

usage() { sed -n '2,10p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//'; }
fail() {
  echo "distill_video.sh: $1" >&2
  usage >&2
  exit 2
}

config="" procs="" zero="" limit="" dir="" arguments=()
while [ $# -gt 0 ]; do
  case $1 in
    --config | --procs | --zero | --limit)
      [ $# -ge 2 ] || fail "$1 needs a value"
      case $1 in
        --config) config=$2 ;;
        --procs) procs=$2 ;;
        --zero) zero=$2 ;;
        --limit) [ -z "$limit" ] || fail "--limit is given twice"; limit=$2 ;;
      esac
      shift 2
      ;;
    --dry-run) arguments+=(--dry-run); shift ;;
    -h | --help) usage; exit 0 ;;
    run.dir=*) [ -z "$dir" ] || fail "run.dir is given twice"; dir=${1#run.dir=}; shift ;;
    data.limit=*) [ -z "$limit" ] || fail "data.limit is given twice"; limit=${1#data.limit=}; shift ;;
    *=*) arguments+=("$1"); shift ;;
    *) fail "unknown argument $1" ;;
  esac
done
[[ -z $procs || $procs =~ ^[1-9][0-9]*$ ]] || fail "--procs needs a number of processes, got $procs"
[[ -z $zero || $zero =~ ^[023]$ ]] || fail "--zero needs 0, 2 or 3, got $zero"
[[ -z $limit || $limit =~ ^[1-9][0-9]*$ ]] || fail "--limit needs a number of clips, got $limit"
[[ -z $config || -f $config ]] || fail "no config file $config"

# shellcheck source=scripts/env.sh
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
ensure_env video,train,report
config=${config:-$ROOT/configs/video/toy_kitchen.yaml}
suffix=""
if [ -n "$limit" ]; then
  arguments+=(--limit "$limit")
  suffix+=-limit$limit
fi
if [ -n "$procs" ]; then
  arguments+=("train.procs=$procs")
  suffix+=-procs$procs
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
exec "$VENV/bin/aot" run "$config" ${arguments[@]+"${arguments[@]}"}
