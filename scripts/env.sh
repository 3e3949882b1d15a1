# shellcheck shell=bash
# Sourced by the other scripts: `ensure_env EXTRAS` makes .venv with the package and these extras, once.
# Its stamp, .ready-EXTRAS, holds a hash of pyproject.toml and constraints.txt, so a change in them installs again; a
# stamp of more extras will do, so that a tested clone runs without network.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=${AOT_VENV:-$ROOT/.venv}

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3.12 python3.11 python3.13 python3; do
    if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 &&
      "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "Python 3.11 or newer is needed; install it, or set PYTHON=/path/to/python" >&2
  return 2
}

# covers HAVE WANTED: whether the extras in HAVE hold all those in WANTED; `all` is spelt out as in pyproject.toml.
covers() {
  local have=",$1," extra
  have=${have/,all,/,all,video,train,deepspeed,teacher,text,report,}
  for extra in ${2//,/ }; do
    [[ $have == *",$extra,"* ]] || return 1
  done
}

# with_zero EXTRAS CONFIG ARGUMENT...: these extras, and DeepSpeed's where the run asks for ZeRO; the last argument counts
# more than the config and what it includes.
with_zero() {
  local extras=$1 config=$2 argument stage="" parts part files
  shift 2
  for argument in "$@"; do
    case $argument in train.zero_stage=*) stage=${argument#*=} ;; esac
  done
  if [ -z "$stage" ]; then
    files=("$config")
    read -ra parts <<<"$(sed -n 's/^include: *\[*\([^]#]*\).*/\1/p' "$config" | tr ',\n' '  ')"
    for part in ${parts[@]+"${parts[@]}"}; do files+=("$(dirname "$config")/$part"); done
    stage=$(sed -n 's/^[^#]*zero_stage: *\([0-3]\).*/\1/p' "${files[@]}" 2>/dev/null | sed -n 1p) || true
  fi
  case $stage in "" | 0) echo "$extras" ;; *) echo "$extras,deepspeed" ;; esac
}

ensure_env() {
  local extras=$1 python stamp wanted
  wanted=$(cat "$ROOT/pyproject.toml" "$ROOT/constraints.txt" | cksum)
  for stamp in "$VENV"/.ready-*; do
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && covers "${stamp##*/.ready-}" "$extras"; then
      return
    fi
  done
  echo "making the environment in $VENV (a few minutes, once)" >&2
  python=$(find_python) || return 2
  [ -x "$VENV/bin/python" ] || "$python" -m venv "$VENV" || return 2
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint "$ROOT/constraints.txt" --editable "${ROOT}[$extras]" || return 2
  echo "$wanted" >"$VENV/.ready-$extras"
}
