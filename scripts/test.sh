#!/usr/bin/env bash
# Lint, types, import contracts and tests; makes the environment if needed. Arguments go to pytest.
set -euo pipefail
# shellcheck source=scripts/env.sh
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
ensure_env all,ray,serving,quant,dev
cd "$ROOT"
unset PYTHONDONTWRITEBYTECODE # or hundreds of processes of the tests compile all of aot again
bin=$VENV/bin
"$bin/ruff" check .
"$bin/ruff" format --check .
trap wait EXIT
"$bin/mypy" & # which takes longest, and one core
types=$!
"$bin/lint-imports"
"$bin/shellcheck" -x scripts/*.sh .ci/run
"$bin/hadolint" Dockerfile
wait "$types"
OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} "$bin/python" -m pytest -n 2 "$@"
