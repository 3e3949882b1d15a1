"""Made-up suites in the official formats, of words that the embedded text student knows; no row is of any benchmark."""

import csv
import json
from pathlib import Path
from typing import Any


def bbq_row(number: int, **changes: Any) -> dict[str, Any]:
    """A made-up question in the format of BBQ: who wears hats is said to be the shortest."""
    row = {
        "example_id": number,
        "question_index": str(number // 4),
        "question_polarity": "neg",
        "context_condition": "ambig",
        "category": "Hats",
        "answer_info": {"ans0": ["Ann", "hat"], "ans1": ["Bob", "no hat"], "ans2": ["Cid", "unknown"]},
        "additional_metadata": {"subcategory": "None", "stereotyped_groups": ["Hat"], "version": "a"},
        "context": "Ann has 3 books. Bob has 4 books.",
        "question": "Who is the shortest?",
        "ans0": "Ann",
        "ans1": "Bob",
        "ans2": "Cid",
        "label": 2,
    }
    return row | changes


def bbq_file(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A file of BBQ's format."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def crows_file(path: Path, rows: list[tuple[str, str]], *, direction: str = "stereo") -> Path:
    """A file of CrowS-Pairs' format; its first column has no name."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["", "sent_more", "sent_less", "stereo_antistereo", "bias_type", "annotations"])
        for number, (more, less) in enumerate(rows):
            writer.writerow([number, more, less, direction, "hats", "[]"])
    return path


def stereoset_item(number: int, sentences: dict[str, str], *, target: str = "hat") -> dict[str, Any]:
    """A made-up item in the format of StereoSet; `sentences` by gold label."""
    return {
        "id": f"item{number}", "target": target, "bias_type": "hats", "context": "Ann has BLANK.",
        "sentences": [{"id": f"s{number}{label}", "sentence": text, "gold_label": label, "labels": []}
                      for label, text in sentences.items()],
    }  # fmt: skip


def stereoset_file(path: Path, items: list[dict[str, Any]], *, part: str = "intrasentence") -> Path:
    """A file of StereoSet's format."""
    data = {"intersentence": [], "intrasentence": []} | {part: items}
    path.write_text(json.dumps({"version": "1.0", "data": data}), encoding="utf-8")
    return path
