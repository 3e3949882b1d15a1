"""A Slurm in a folder of PATH: srun does its command here once for each node, sbatch hands out numbers, and all three
write down what they were called with.
"""

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SRUN = """
import subprocess
words = sys.argv[1:]
options = [word for word in words if word.startswith("-")]
command = words[next(i for i, word in enumerate(words) if not word.startswith("-")):]
given = dict(word.lstrip("-").split("=", 1) for word in options if "=" in word)
note("srun", options=given, flags=[word for word in options if "=" not in word], command=command)
hosts, children = given["nodelist"].split(","), []
signal.signal(signal.SIGTERM, lambda *_: [child.send_signal(signal.SIGTERM) for child in children])
for number in range(int(given["ntasks"])):
    step = {"SLURM_NODEID": str(number), "SLURM_PROCID": str(number), "SLURMD_NODENAME": hosts[number],
            "SLURM_STEP_NUM_TASKS": given["ntasks"]}
    children.append(subprocess.Popen(command, env={**os.environ, **step}))
codes = [child.wait() for child in children]
sys.exit(max(code if code >= 0 else 128 - code for code in codes))
"""
SBATCH = """
words = sys.argv[1:]
rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
number = 101 + sum(row["program"] == "sbatch" for row in rows)
site = {name: value for name, value in os.environ.items() if name.startswith("SBATCH_")}
note("sbatch", words=words, site=site, id=str(number))
print(f"{number};cluster")
"""
SCONTROL = """
words = sys.argv[1:]
if words[:2] == ["show", "hostnames"]:
    print(*words[2].split(","), sep="\\n")
elif words[:2] == ["show", "job"]:
    print(f"JobId={words[2]} JobName=x\\n   Command={os.environ.get('FAKE_COMMAND', '')} --config x\\n   WorkDir=/")
elif words[:2] == ["show", "config"]:
    print(f"MaxArraySize            = {os.environ.get('FAKE_ARRAY', '1001')}")
else:
    note("scontrol", words=words)
"""
HEAD = """#!{python}
import json, os, signal, sys
from pathlib import Path
log = Path(os.environ["FAKE_LOG"])
def note(program, **facts):
    with log.open("a") as file:
        file.write(json.dumps({{"program": program, **facts}}) + "\\n")
"""
AOT = """
node = os.environ.get("SLURM_NODEID")
note("aot", words=sys.argv[1:], node=node, port=os.environ.get("AOT_SERVER_PORT"))
if Path(os.environ["FAKE_LOG"]).with_name("waits").exists():
    signal.signal(signal.SIGTERM, lambda *_: os._exit(4))
    Path(os.environ["FAKE_LOG"]).with_name("begun").touch()
    signal.pause()
codes = json.loads(os.environ.get("FAKE_CODES", "{}"))
sys.exit(max([codes.get(word, 0) for word in sys.argv[1:]]))
"""


@dataclass
class Slurm:
    """The folder with the three programs and with an environment whose `aot` only writes down its arguments."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Write the programs."""
        self.log = self.folder / "log"
        programs = {"bin/srun": SRUN, "bin/sbatch": SBATCH, "bin/scontrol": SCONTROL, "venv/bin/aot": AOT}
        for name, text in programs.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(HEAD.format(python=sys.executable) + text)
            path.chmod(0o755)
        (self.folder / "venv/bin/python").symlink_to(sys.executable)
        papers = (ROOT / "pyproject.toml").read_bytes() + (ROOT / "constraints.txt").read_bytes()
        digest = subprocess.run(["cksum"], input=papers, capture_output=True, check=True).stdout
        (self.folder / "venv/.ready-all").write_bytes(digest)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH", "AOT_", "MASTER"))}
        self.environment = {
            **inherited,
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "FAKE_LOG": str(self.log),
            "AOT_VENV": str(self.folder / "venv"),
            "AOT_SLURM_ENV": "/dev/null",
            "AOT_SHORTEST_LIFE_S": "0",
        }

    def job(self, *, nodes: int = 1, gpus: int = 4, id: int = 4242, **more: str) -> None:
        """From now on, be in a job of so many nodes."""
        self.environment |= {
            "SLURM_JOB_ID": str(id), "SLURM_JOB_NUM_NODES": str(nodes), "SLURM_GPUS_ON_NODE": str(gpus),
            "SLURM_JOB_NODELIST": ",".join(f"gpu{n:02}" for n in range(nodes)), "SLURM_CPUS_PER_TASK": "16", **more,
        }  # fmt: skip

    def run(
        self, *arguments: str, script: Path = ROOT / "scripts/distill_video.sh", **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a script to its end."""
        return subprocess.run(
            ["bash", str(script), *arguments], capture_output=True, text=True, check=False, cwd=self.folder,
            env={**self.environment, **more},
        )  # fmt: skip

    def calls(self, program: str) -> list[dict[str, Any]]:
        """What a program was called with, in order."""
        rows = [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []
        return [row for row in rows if row["program"] == program]


def printed_commands(dry_run: str) -> list[list[str]]:
    """The commands that a dry run prints, as words."""
    lines = [line.strip() for line in dry_run.splitlines()]
    return [shlex.split(line) for line in lines if line.startswith("srun ")]
