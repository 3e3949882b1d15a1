#!/usr/bin/env bash
# Distil a video student end to end: makes the environment if needed, then runs every stage and resumes where it stopped.
#
#   bash scripts/distill_video.sh [--config FILE] [--procs N] [--zero 0|2|3] [--limit N] [--dry-run] [KEY.SUB=VALUE ...]
#
# Without options it runs configs/video/toy_kitchen.yaml, which takes minutes on a laptop without a GPU.
# --procs N trains in N processes under torchrun, --zero S with DeepSpeed ZeRO stage S; run folders are
# runs/<config>[-procsN][-zeroS] in the clone unless run.dir=DIR is given.
set -euo pipefail

usage() { sed -n '2,9p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//'; }
fail() {
  echo "distill_video.sh: $1" >&2
  usage >&2
  exit 2
}

config="" procs="" zero="" dir="" arguments=()
while [ $# -gt 0 ]; do
  case $1 in
    --config | --procs | --zero | --limit)
      [ $# -ge 2 ] || fail "$1 needs a value"
      case $1 in
        --config) config=$2 ;;
        --procs) procs=$2 ;;
        --zero) zero=$2 ;;
        --limit) arguments+=(--limit "$2") ;;
      esac
      shift 2
      ;;
    --dry-run) arguments+=(--dry-run); shift ;;
    -h | --help) usage; exit 0 ;;
    run.dir=*) dir=${1#run.dir=}; shift ;;
    *=*) arguments+=("$1"); shift ;;
    *) fail "unknown argument $1" ;;
  esac
done
[[ -z $procs || $procs =~ ^[1-9][0-9]*$ ]] || fail "--procs needs a number of processes, got $procs"
[[ -z $zero || $zero =~ ^[023]$ ]] || fail "--zero needs 0, 2 or 3, got $zero"
if [ -n "$config" ]; then
  [ -f "$config" ] || fail "no config file $config"
  config=$(cd "$(dirname "$config")" && pwd)/$(basename "$config")
fi
if [ -n "$dir" ]; then
  case $dir in /*) ;; *) dir=$PWD/$dir ;; esac
fi

# shellcheck source=scripts/env.sh
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
ensure_env video,train,report
cd "$ROOT"
config=${config:-configs/video/toy_kitchen.yaml}
suffix=""
if [ -n "$procs" ]; then
  arguments+=("train.procs=$procs")
  suffix+=-procs$procs
fi
if [ -n "$zero" ]; then
  arguments+=("train.zero_stage=$zero")
  suffix+=-zero$zero
fi
if [ -z "$dir" ] && [ -n "$suffix" ]; then
  stem=$(basename "$config")
  dir=runs/${stem%.*}$suffix
fi
[ -z "$dir" ] || arguments+=("run.dir=$dir")
exec "$VENV/bin/aot" run "$config" ${arguments[@]+"${arguments[@]}"}
