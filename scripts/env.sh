# shellcheck shell=bash
# Sourced by the other scripts: `ensure_env EXTRAS` makes .venv with the package and these extras, once.
# The stamp holds a hash of what was asked for, so a changed pyproject.toml or constraints.txt installs again.

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

ensure_env() {
  local extras=$1 python stamp wanted
  stamp=$VENV/.ready-$extras
  wanted=$(cat "$ROOT/pyproject.toml" "$ROOT/constraints.txt" | cksum)
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
    return
  fi
  echo "making the environment in $VENV (a few minutes, once)" >&2
  python=$(find_python) || return 2
  [ -x "$VENV/bin/python" ] || "$python" -m venv "$VENV" || return 2
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint "$ROOT/constraints.txt" --editable "${ROOT}[$extras]" || return 2
  echo "$wanted" >"$stamp"
}
