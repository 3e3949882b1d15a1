# shellcheck shell=bash
# shellcheck disable=SC2034 # what is set here is for who sources this
# Sourced by distill_video.sh and slurm_pipeline.sh: site settings, and commands as a person would type them.

# load_site SCRIPTS: sources the site settings of a clone, of which slurm.env.example files stand in configs/slurm.
# Says in SITE which one that was.
load_site() {
  local file
  SITE="none (copy configs/slurm/a100.env.example to configs/slurm.env)"
  for file in "${AOT_SLURM_ENV:-}" "$1/slurm.env" "$1/../configs/slurm.env" "$1/../slurm.env"; do
    if [ -n "$file" ] && [ -f "$file" ]; then
      # shellcheck disable=SC1090
      source "$file"
      SITE=$file
      return
    fi
  done
}

# show WORD...: the words of a command in one line, quoted where a shell wants it.
show() {
  local word line="" quote="'\\''"
  for word in "$@"; do
    if [[ $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]]; then line+=" $word"; else line+=" '${word//\'/$quote}'"; fi
  done
  echo "${line# }"
}

# header FILE NAME: the value of an option in the #SBATCH lines of a job script.
header() { sed -n "s/^#SBATCH .*--$2=\([^ ]*\).*/\1/p" "$1" | sed -n 1p; }
