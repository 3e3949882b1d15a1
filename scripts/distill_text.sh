#!/usr/bin/env bash
# Distil a text student end to end: makes the environment if needed (no video package), then runs every stage and resumes.
#
#   bash scripts/distill_text.sh [--config FILE] [--limit N] [--dry-run] [KEY.SUB=VALUE ...]
#
# Without --config it runs configs/text/tiny_math.yaml. The rest is handed to `aot run` as it is; the run folder is
# runs/<config> in the folder you are in unless run.dir=DIR says otherwise.
set -euo pipefail

# shellcheck source=scripts/env.sh
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
config=$ROOT/configs/text/tiny_math.yaml arguments=()
while [ $# -gt 0 ]; do
  case $1 in
    --config)
      if [ $# -lt 2 ] || [ ! -f "$2" ]; then
        echo "distill_text.sh: --config needs the path of a config file, got ${2:-nothing}" >&2
        exit 2
      fi
      config=$2
      shift 2
      ;;
    -h | --help) sed -n '2,7p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//'; exit 0 ;;
    *) arguments+=("$1"); shift ;;
  esac
done
ensure_env "$(with_zero train,text,report "$config" ${arguments[@]+"${arguments[@]}"})"
exec "$VENV/bin/aot" run "$config" ${arguments[@]+"${arguments[@]}"}
