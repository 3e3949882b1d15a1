"""The chat planner on the two real clips, as configs/video/chat_clips.yaml has it: real decoding, real pixel tools."""

import json
from pathlib import Path

import pytest

from aot.config import load_config
from aot.teacher.ask import ask

ROOT = Path(__file__).parents[2]
CLIPS = ROOT.parent / "shared" / "data" / "clips"
QUESTIONS = [json.loads(line) for line in (ROOT / "configs/video/chat_clips/questions.jsonl").read_text().splitlines()]
FAILED = {"stove-pour-count": "tool", "stove-taste": "parse"}
"""The plan that fails at its second error, and the model that calls nothing."""


@pytest.mark.skipif(not CLIPS.exists(), reason=f"{CLIPS} is absent")
@pytest.mark.parametrize("row", QUESTIONS, ids=[row["id"] for row in QUESTIONS])
def test_what_the_script_says_follows_from_what_the_tools_see(row: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # The config names its files from here.
    config = load_config(Path("configs/video/chat_clips.yaml"))
    choices = tuple(row.get("choices", ()))
    trace = ask(CLIPS / row["video"], row["question"], kind=row["kind"], choices=choices, config=config).trace
    if row["id"] in FAILED:
        assert (trace.status, trace.error.boundary) == ("failed", FAILED[row["id"]])
        return
    assert trace.status == "ok"
    result = next(step.result for step in trace.steps if step.index == trace.support[0])
    if row["kind"] == "present":
        assert trace.answer == ("yes" if result["boxes"] else "no")
    elif row["kind"] == "count":
        assert trace.answer == str(result["count"])
    elif row["kind"] == "when":
        moment = result["moments"][0]
        assert trace.answer == f"{moment['start_s']}s-{moment['end_s']}s"
    else:
        steps = result["steps"]
        if row["kind"] == "before":
            wanted = steps[[step["label"] for step in steps].index("stir carrot") - 1]
        else:
            wanted = max(steps, key=lambda step: step["end_s"] - step["start_s"])
        assert trace.answer == wanted["label"]
