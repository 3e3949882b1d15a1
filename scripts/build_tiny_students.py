"""Build the embedded students from nothing: `python scripts/build_tiny_students.py --student video|text|names`.

What they are taught stands in tiny_video.py, tiny_cards.py, tiny_text.py and tiny_names.py: single skills, never how to
combine them.
Seeded; each takes 20 to 45 minutes on 2 cores and is written as bf16 safetensors with tokenizer and card.
"""

import argparse
import hashlib
import json
from pathlib import Path

import torch
from tiny_names import build_names_student
from tiny_text import build_text_student
from tiny_video import build_video_student

STEPS = {"video": 1600, "text": 4000, "names": 4000}
"""Students and how many steps each is taught for."""


def write_digest(out: Path) -> None:
    """The checksum of the weights, which `aot doctor` compares."""
    digest = hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()
    (out / "SHA256").write_text(f"{digest}  model.safetensors\n", encoding="utf-8")


def main() -> None:
    """Build, teach and save one student."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", choices=list(STEPS), required=True)
    parser.add_argument("--out", type=Path, help="default: its folder in the package")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--earlier", type=Path, help="a student of this script that only lacks the last lessons")
    options = parser.parse_args()
    out = options.out or Path(__file__).parents[1] / "aot" / "student" / "tiny" / options.student
    steps = options.steps or STEPS[options.student]
    torch.manual_seed(options.seed)
    builds = {"video": build_video_student, "text": build_text_student, "names": build_names_student}
    builds[options.student](out, steps=steps, seed=options.seed, earlier=options.earlier)
    write_digest(out)
    print(json.dumps({path.name: path.stat().st_size for path in sorted(out.iterdir())}))


if __name__ == "__main__":
    main()
