"""What a chat model said for a trace, behind both doors and over a real server: log-probabilities, and negatives."""

import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from generate_scenes import DOORS

from aot.config import RunConfig, parse_config, read_settings
from aot.errors import GuardStop
from aot.files.parts import part_path
from aot.files.run_folder import RunFolder, append_row, open_append, publish, publish_rows, read_rows
from aot.files.traces import read_traces
from aot.generate.failures import read_attempts
from aot.generate.run import generate
from aot.records import Question, Turn
from aot.reporting.sections.making import logprobs_sentence
from aot.run_records import PlantedFault

sys.path.insert(0, str(Path(__file__).parents[1] / "chat"))
from fault_server import FaultServer, Raw

Body = dict[str, Any]
WRONG, PROSE, RIGHT = range(3)
"""What attempt 0, 1 and 2 at a question come to."""
LOOK = ("propose_next", {"history": ["wash tomato"]})


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    return {name: door.prepare(tmp_path_factory.mktemp(name)) for name, door in DOORS.items()}


def question_of(run: RunFolder) -> Question:
    """One of the training split whose answer is an option or a number, so that another one can be given."""
    return next(q for q in read_rows(run.questions, Question) if q.split == "train" and (q.choices or q.kind == "sum"))


def one_question_run(prepared: RunFolder, folder: Path) -> tuple[RunFolder, Question]:
    """A run on that question alone, over the clips of the prepared one."""
    run, question = RunFolder(folder), question_of(prepared)
    folder.mkdir(exist_ok=True)
    for name in ("frames", "annotations.jsonl", "refusals.jsonl"):
        if (prepared.root / name).exists():
            (folder / name).symlink_to(prepared.root / name)
    publish_rows(run.questions, [question])
    return run, question


def said_by(question: Question) -> Callable[[Body], str | Body]:
    """A model that gives a wrong answer at first, then none, then the right one, by tools where it has some."""
    begun: Counter[str] = Counter()
    wrong = next((one for one in question.choices if one != question.answer), "123")

    def say(body: Body) -> str | Body:
        begins = body["messages"][-1]["role"] == "user" and len(body["messages"]) <= 2
        attempt = begun["attempts"] - (not begins)
        begun["attempts"] += begins
        text = {WRONG: wrong, RIGHT: question.answer}.get(attempt, "")
        if not body.get("tools"):
            return f"I work it out.\nAnswer: {text}" if text else "Hm."
        if not text:
            return "I would rather talk."
        name, arguments = LOOK if begins else ("answer", {"answer": text, "support": [1]})
        function = {"name": name, "arguments": json.dumps(arguments)}
        return {"content": None, "tool_calls": [{"id": "c", "type": "function", "function": function}]}

    return say


def config(door: str, url: str, **chat: object) -> RunConfig:
    settings = read_settings(DOORS[door].config())
    teacher = {"planner": "chat", "candidates": 3}
    model = {"model": "m", "base_url": url, "max_concurrency": 1, "deadline_s": 60, **chat}
    return parse_config({**settings, "teacher": teacher, "chat": model}, source="test")


def solved(door: str, run: RunFolder, server: FaultServer, **chat: object) -> list[Turn]:
    """What the model's turns on disk say, over all attempts."""
    settings = config(door, server.url, **chat)
    generate(run, settings, lambda done, total: None, DOORS[door].room)
    rows = [*read_traces(run), *(one for tried in read_attempts(run) for one in tried.negatives)]
    return [turn for trace in rows for turn in trace.turns if turn.role == "assistant"]


@pytest.mark.parametrize("door", DOORS)
def test_log_probabilities_go_from_the_server_to_the_trace_on_disk(
    door: str, prepared: dict[str, RunFolder], tmp_path: Path
) -> None:
    run, question = one_question_run(prepared[door], tmp_path / "run")
    with FaultServer(said_by(question)) as server:
        turns = solved(door, run, server, logprobs=True)
        assert all((body["logprobs"], body["top_logprobs"]) == (True, 0) for body in server.bodies)
    assert len(turns) >= 3 and all(turn.logprobs and turn.logprobs[0].logprob == -0.5 for turn in turns)
    stats = json.loads(run.teacher_stats.read_text())
    assert stats["model_turns"] == stats["model_turns_with_logprobs"] > 0
    assert re.fullmatch(r"log-probabilities: (\d+) of \1 turns .* have them", logprobs_sentence(stats, wanted=True))


@pytest.mark.parametrize("door", DOORS)
def test_a_server_that_ignores_the_wish_leaves_a_count_of_none(
    door: str, prepared: dict[str, RunFolder], tmp_path: Path
) -> None:
    run, question = one_question_run(prepared[door], tmp_path / "run")

    def ignores(body: Body, good: Body) -> None:
        good["choices"][0].pop("logprobs", None)

    with FaultServer(said_by(question), quirk=ignores) as server:
        assert not any(turn.logprobs for turn in solved(door, run, server, logprobs=True))
    stats = json.loads(run.teacher_stats.read_text())
    assert stats["model_turns"] > 0 and stats["model_turns_with_logprobs"] == 0
    assert "left out what chat.logprobs asked for" in logprobs_sentence(stats, wanted=True)


@pytest.mark.parametrize("door", DOORS)
def test_a_server_that_refuses_the_parameter_stops_the_run_with_the_setting_that_mends_it(
    door: str, prepared: dict[str, RunFolder], tmp_path: Path
) -> None:
    run, question = one_question_run(prepared[door], tmp_path / "run")
    told = Raw(400, json.dumps({"error": {"message": "`logprobs` is not supported with this model"}}).encode())
    with FaultServer(said_by(question), quirk=lambda body, good: told if "logprobs" in body else None) as server:
        with pytest.raises(GuardStop, match=r"set chat\.logprobs=false"):
            solved(door, run, server, logprobs=True)
        assert not list(read_traces(run))
        assert solved(door, run, server)


@pytest.mark.parametrize("door", DOORS)
def test_attempts_of_both_doors_are_read_as_kept_and_negative(
    door: str, prepared: dict[str, RunFolder], tmp_path: Path
) -> None:
    run, question = one_question_run(prepared[door], tmp_path / "run")
    with FaultServer(said_by(question)) as server:
        solved(door, run, server)
    (tried,) = read_attempts(run)
    assert (tried.question, [one.answer for one in tried.kept]) == (question, [question.answer])
    assert [(one.sample_index, one.status) for one in tried.negatives] == [(WRONG, "ok"), (PROSE, "failed")]
    assert all(one.turns for one in tried.negatives)
    publish(run.kept, "")  # the filters dropped what was right
    (tried,) = read_attempts(run)
    assert tried.kept == () and len(tried.negatives) == 2
    with open_append(part_path(run.faults, "0")) as file:
        append_row(file, PlantedFault(question_id=question.id, sample_index=WRONG, fault="wrong_answer"))
    (tried,) = read_attempts(run)
    assert [one.sample_index for one in tried.negatives] == [PROSE]
