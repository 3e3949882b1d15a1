"""What stands under examples/ runs as it is printed there."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_trunk_on_one_screen_goes_from_questions_to_metric_rows() -> None:
    command = [sys.executable, "examples/distill_flat.py", "--questions", "40", "--steps", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "traces 40" in done.stdout
    assert done.stdout.count("n=60") == 2, "one accuracy before training and one after it"
