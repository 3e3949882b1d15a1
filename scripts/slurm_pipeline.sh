#!/usr/bin/env bash
# Submit a whole run to Slurm as jobs that wait for one another; what is done already is not done again.
#
#   bash scripts/slurm_pipeline.sh CONFIG [--shards N] [--nodes N] [--dry-run] [KEY.SUB=VALUE...]
#
#   --shards N   split prepare, generate and evaluate into N shares, each a task of an array; 8, if not given
#   --nodes N    train each student on N nodes; 1, if not given
#   --dry-run    print what would be submitted
#
# Jobs: prepare (array, then one that unites), generate (the same, beside a model server where `base_url` of a chat model
# holds {port}), filter, one for each job of `aot jobs`, evaluate (array, then one that unites) and report. Each of them
# runs scripts/distill_video.sh. Account, partition, modules and what each kind of job asks for stand in configs/slurm.env
# (docs/cluster.md); resources of training are those at the head of distill_video.sh unless AOT_TRAIN_OPTIONS says more.

set -euo pipefail

usage() { sed -n '/^# Submit/,/^$/p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//'; }
fail() {
  echo "slurm_pipeline.sh: $1" >&2
  usage >&2
  exit 2
}

config="" shards=8 nodes=1 dry="" dir="" settings=()
while [ $# -gt 0 ]; do
  case $1 in
    --shards | --nodes)
      [ $# -ge 2 ] || fail "$1 needs a value"
      [[ $2 =~ ^[1-9][0-9]{0,5}$ ]] || fail "$1 needs a number, got $2"
      if [ "$1" = --shards ]; then shards=$2; else nodes=$2; fi
      shift 2
      ;;
    --dry-run) dry=1; shift ;;
    -h | --help) usage; exit 0 ;;
    run.dir=*) dir=${1#run.dir=}; shift ;;
    *=*) settings+=("$1"); shift ;;
    *) [ -z "$config" ] || fail "unknown argument $1"; config=$1; shift ;;
  esac
done
[ -n "$config" ] || fail "which CONFIG?"
[ -f "$config" ] || fail "no config file $config"

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/env.sh
source "$scripts/env.sh"
# shellcheck source=scripts/cluster.sh
source "$scripts/cluster.sh"
set -a # what sbatch reads of it, such as SBATCH_ACCOUNT, must reach sbatch
load_site "$scripts"
set +a
[ -n "$dry" ] || command -v sbatch >/dev/null || fail "there is no sbatch here; --dry-run prints what would be submitted"
config=$(cd "$(dirname "$config")" && pwd)/$(basename "$config")
stem=$(basename "$config")
stem=${stem%.*}
if [ -z "$dir" ] && ! grep -q '^run:' "$config"; then dir=$ROOT/runs/$stem; fi
[ -z "$dir" ] || settings+=("run.dir=$dir")
if [ -n "$dir" ] && [ -e "$dir/DONE" ]; then
  echo "$dir is finished; there is nothing to submit"
  exit 0
fi
server="" judge=""
if grep -q '{port}' "$config" || [[ "${settings[*]-}" == *'{port}'* ]]; then
  server=1
  [ -n "${AOT_SERVER:-}" ] || fail "$config wants a model server beside its jobs; set AOT_SERVER in the site settings ($SITE)"
fi
grep -q '^ *judge: *true' "$config" && judge=1

if [ -n "${AOT_COMMAND:-}" ]; then
  read -ra aot <<<"$AOT_COMMAND"
else
  aot=("$VENV/bin/aot")
  [ -n "$dry" ] || ensure_env "${AOT_EXTRAS:-all}"
fi

script=$scripts/distill_video.sh
common=(--requeue --open-mode=append --signal=TERM@300)
read -ra cpu <<<"${AOT_CPU_OPTIONS:---cpus-per-task=8 --mem=32G --time=08:00:00}"
read -ra gpu <<<"${AOT_GPU_OPTIONS:---gpus-per-node=1 --cpus-per-task=8 --mem=64G --time=12:00:00}"
train=(--nodes="$nodes" --ntasks-per-node=1)
for option in gpus-per-node cpus-per-task mem time; do train+=("--$option=$(header "$script" "$option")"); done
read -ra more <<<"${AOT_TRAIN_OPTIONS:-}"
train+=(${more[@]+"${more[@]}"})

# submit NAME KIND AFTER WORD...: hands in a job that does distill_video.sh WORD... once those in AFTER (ids, separated by
# blanks) have ended well; its id is added to `ids`. Array options may stand before the words, up to --.
ids="" count=0
submit() {
  local name=$1 kind=$2 words=() waits id
  read -ra waits <<<"$3"
  shift 3
  words=(sbatch --parsable "--job-name=aot-$stem-$name" "--output=${AOT_LOG_DIR:-.}/%x-%j.out" "${common[@]}")
  case $kind in
    cpu) words+=("${cpu[@]}") ;;
    gpu) words+=("${gpu[@]}") ;;
    train) words+=("${train[@]}") ;;
  esac
  while [ "$1" != -- ]; do words+=("$1"); shift; done
  shift
  [ ${#waits[@]} -eq 0 ] || words+=("--dependency=afterok:$(IFS=:; echo "${waits[*]}")" --kill-on-invalid-dep=yes)
  words+=("--wrap=$(show bash "$script" --config "$config" --refused-ok "$@" ${settings[@]+"${settings[@]}"})")
  if [ -n "$dry" ]; then
    show "${words[@]}"
    id=$name
  else
    id=$("${words[@]}" </dev/null)
    id=${id%%;*}
    echo "$id  $name${waits[*]:+  after ${waits[*]}}"
  fi
  ids+=" $id" count=$((count + 1))
}

# submit_shares STAGE KIND AFTER: the shares of a stage, in as many arrays as Slurm's limit on their size wants.
submit_shares() {
  local first=0 size
  while [ "$first" -lt "$shards" ]; do
    size=$((shards - first < most ? shards - first : most))
    submit "$1-shares$([ "$first" -eq 0 ] || echo "-$first")" "$2" "$3" "--array=0-$((size - 1))" -- \
      --shards "$shards" --first-shard "$first" "$1"
    first=$((first + size))
  done
}
most=$(scontrol show config 2>/dev/null | sed -n 's/^MaxArraySize *= *\([0-9]*\).*/\1/p') || true
most=$((${most:-1001} - 1))
[ "$most" -ge 1 ] || most=1

# One share needs no array: the job that unites does all.
if [ "$shards" -gt 1 ]; then submit_shares prepare cpu ""; fi
after=$ids ids=""
submit prepare cpu "$after" -- prepare
before=$ids ids=""
asking=cpu
[ -z "$server" ] || asking=gpu
if [ "$shards" -gt 1 ]; then
  submit_shares generate "$asking" "$before"
  after=$ids ids=""
  submit generate cpu "$after" -- --no-server generate
else
  submit generate "$asking" "$before" -- generate
fi
before=$ids ids=""
if [ -n "$judge" ]; then submit filter "$asking" "$before" -- filter; else submit filter cpu "$before" -- --no-server filter; fi
before=$ids ids=""

# The jobs of the train stage, with what each needs, as `aot jobs` tells them.
list='import json, sys
for job in json.load(sys.stdin):
    print(job["name"], job["state"], *job["needs"])'
if [ -n "$dry" ] && [ ! -x "${aot[0]}" ] && ! command -v "${aot[0]}" >/dev/null; then
  echo "# and the training jobs, which \`aot jobs\` lists once the environment is made"
  trained=$before
else
  jobs=$("${aot[@]}" jobs "$config" --json ${settings[@]+"${settings[@]}"})
  rows=$(python3 -c "$list" <<<"$jobs")
  declare -A job_id=()
  trained=$before
  while read -r name state needs; do
    case $state in done | not_needed) continue ;; esac
    after=$before ids=""
    for one in $needs; do after+=" ${job_id[$one]:-}"; done
    case $name in
      *:train) kind=train ;;
      *:lessons | *:reach) kind=cpu ;;
      *) kind=gpu ;;
    esac
    submit "$(tr /: -. <<<"$name")" "$kind" "$after" -- --job "$name" train
    job_id[$name]=$ids
    trained+=$ids
  done <<<"$rows"
fi
ids=""
submit train cpu "$trained" -- train # finds its jobs done, and notes that the stage is
before=$ids ids=""
if [ "$shards" -gt 1 ]; then
  submit_shares evaluate gpu "$before"
  after=$ids ids=""
  submit report cpu "$after" -- evaluate report
else
  submit report gpu "$before" -- evaluate report
fi
echo "$count submissions${dry:+ would be made}; site settings: $SITE"
