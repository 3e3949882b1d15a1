"""Kinds under review where a program asks the student itself: a person's answer or none, whichever way it asks."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cascade_models import Big
from test_server_review import CHOICES, SUM, say

from aot import load_student
from aot.answer_records import Answer
from aot.chat.messages import ChatRequest, message
from aot.cli import app
from aot.config import CascadeSection
from aot.errors import ChatError, ConfigError, RunError
from aot.files.run_folder import RunFolder
from aot.review.rows import read_pending
from aot.serving.cascade.model import Cascade
from aot.serving.contract import publish_contract, read_contract
from aot.serving.decisions.decider import Decider, State
from aot.serving.decisions.questions import choice
from aot.serving.lerobot import SubtaskWriter
from aot.serving.lerobot.frames import SubtaskError
from aot.serving.review.queue import ReviewQueue
from aot.serving.server.app import build_app
from aot.serving.server.served import Served
from aot.serving.stream.loop import StudentStream
from aot.serving.student import Ask, ServedStudent

STEPS = ["wash rice", "chop onion", "boil egg", "fry fish"]
NEXT = "What is the next step?"


@pytest.fixture(scope="module")
def sees(video_export: Path) -> Iterator[Any]:
    with load_student(video_export, device="cpu") as student:
        yield student.student


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "queue")


def under_review(
    student: Any, export: Path, queue: RunFolder | None, *kinds: str, learned: Sequence[str] = ()
) -> ServedStudent:
    contract = read_contract(export, check_files=False).model_copy(update={"review": kinds or ("*",)})
    contract = contract.model_copy(update={"kinds": learned}) if learned else contract
    waits = ReviewQueue(queue.root, kinds=contract.review, learned=contract.kinds) if queue else None
    return ServedStudent(student, contract, review=waits)


@pytest.fixture
def reads(text_served: Served, text_export: Path, folder: RunFolder) -> ServedStudent:
    assert text_served.student is not None
    return under_review(text_served.student.student, text_export, folder, "sum")


@pytest.fixture
def unheard(text_served: Served, text_export: Path) -> ServedStudent:
    assert text_served.student is not None
    return under_review(text_served.student.student, text_export, None, "sum")


def tells_nothing(answer: Answer) -> bool:
    said = answer.model_copy(update={"detail": "", "choices": ()}).model_dump()
    return answer.abstained == "pending_review" and not any(
        said[name] for name in ("answer", "choice_probs", "confidence", "rationale", "raw_text", "calls", "tool_calls")
    )


@pytest.mark.parametrize("asked", [{"choices": CHOICES}, {"mode": "direct"}, {"mode": "reason"}, {"kind": "summ"}])
def test_a_student_of_text_tells_a_person_s_answer_only(
    reads: ServedStudent, folder: RunFolder, asked: dict[str, Any]
) -> None:
    asked = {"kind": "sum", **asked}
    for _ in range(2):  # asking again makes no second row
        first = reads.ask(SUM, **asked)
        assert tells_nothing(first) and first.review is not None and first.review.id in first.detail
    row = say(folder, "corrected", correction="11")
    assert (row.id, row.question.text, bool(row.answer)) == (first.review.id, SUM, True)
    second = reads.ask(SUM, **asked)
    assert second.review is not None
    assert (second.answer, second.abstained, second.review.state) == ("11", "", "corrected")


def test_frames_wait_with_their_pictures_and_a_rejection_leaves_no_answer(
    sees: Any, video_export: Path, folder: RunFolder
) -> None:
    student = under_review(sees, video_export, folder)
    frames = [np.full((48, 64, 3), 40 * i, np.uint8) for i in range(3)]
    asked = {"frames": frames, "times_s": [0.0, 1.0, 2.0], "choices": STEPS}
    assert tells_nothing(student.ask(NEXT, **asked, kind="next_choice"))
    row = say(folder, "rejected")
    assert [one.time_s for one in row.pictures] == [0.0, 1.0, 2.0] and row.answer in STEPS
    told = student.ask(NEXT, **asked, kind="next_choice")
    assert (told.answer, told.abstained) == ("", "rejected_by_person")
    frames[0] = frames[2]  # another question
    assert student.ask(NEXT, **asked, kind="next_choice").abstained == "pending_review"


def test_a_kind_that_needs_no_review_is_answered_among_those_that_do(
    text_served: Served, text_export: Path, folder: RunFolder
) -> None:
    assert text_served.student is not None
    student = under_review(text_served.student.student, text_export, folder, "hard", learned=("sum", "hard"))
    kinds = ("sum", "hard", "", "sum")
    answers = student.ask_many([Ask(SUM, CHOICES, kind=kind) for kind in kinds])
    assert [one.abstained for one in answers] == ["", "pending_review", "pending_review", ""]
    broken = student.ask("", kind="hard", choices=CHOICES)
    assert (broken.abstained, broken.answer) == ("failed", "") and "is empty" in broken.detail


def test_without_a_folder_nothing_is_told_and_the_answer_says_what_to_do(unheard: ServedStudent) -> None:
    answer = unheard.ask(SUM, choices=CHOICES, kind="sum")
    assert tells_nothing(answer) and "load_student(..., review=FOLDER)" in answer.detail


def test_where_the_disk_refuses_nobody_is_told_the_answer(
    reads: ServedStudent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aot.serving.review.queue.MOST_WAITING", 0)
    answer = reads.ask(SUM, choices=CHOICES, kind="sum")
    assert (answer.answer, answer.abstained, answer.choice_probs) == (
        "",
        "failed",
        (),
    ) and "cannot wait" in answer.detail


def test_a_chat_model_which_is_told_no_kind_says_nothing(reads: ServedStudent) -> None:
    with pytest.raises(RunError, match="told no kind of question: use ask"):
        _ = reads.engine


@pytest.mark.parametrize("heard", [True, False])
def test_a_decider_tells_a_person_s_answer_only(
    reads: ServedStudent, unheard: ServedStudent, folder: RunFolder, heard: bool
) -> None:
    decider, questions = Decider(reads if heard else unheard), [choice(SUM, CHOICES, kind="sum")]
    (first,) = decider.decide(State(), questions)
    assert tells_nothing(first)
    if heard:
        say(folder, "approved")
        (second,) = decider.decide(State(), questions)
        assert second.answer in CHOICES and second.review is not None and second.review.state == "approved"


def test_a_cascade_tells_neither_model_s_answer(reads: ServedStudent, folder: RunFolder) -> None:
    section = {"big": {"model": "big", "backend": "scripted", "script": "-"}, "threshold": 1.0, "folder": None}
    both = Cascade(reads, Big("37"), CascadeSection.model_validate(section))
    assert tells_nothing(both.ask(SUM, choices=CHOICES, kind="sum"))
    turns = (message("user", SUM), message("assistant", "What?"), message("user", SUM))
    for messages in (turns, turns[:1]):
        with pytest.raises(ChatError):
            both.reply(ChatRequest(messages=messages))
    assert both.counts.questions == 0
    assert {row.model for row in read_pending(folder)} == {"tiny-text"}


def test_a_robot_s_loop_gets_no_subtask_before_a_person_has_looked(
    sees: Any, video_export: Path, folder: RunFolder
) -> None:
    student, frame = under_review(sees, video_export, folder, "next_choice"), np.full((48, 64, 3), 90, np.uint8)
    with StudentStream(student, question=NEXT, choices=STEPS, kind="next_choice") as stream:
        stream.observe(frame)
        assert tells_nothing(stream.answer(deadline_s=5.0)) and stream.counts.answers == 0
        for who in (stream, student):
            writer = SubtaskWriter(who, subtasks=STEPS)
            with pytest.raises(SubtaskError) as held:
                writer.generate_text({"observation.images.front": frame, "timestamp": 0.0})
            assert held.value.reason == "pending_review"


def test_an_export_is_loaded_with_the_folder_in_which_its_answers_wait(
    text_export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export, folder = shutil.copytree(text_export, tmp_path / "export"), RunFolder(tmp_path / "queue")
    publish_contract(export, read_contract(export).model_copy(update={"review": ("sum",)}))
    for review in ([], ["--review", str(folder.root)]):
        with pytest.raises(SystemExit) as stopped:
            app(["predict", str(export), SUM, "--choice", "37", "--choice", "11", *review])
        assert stopped.value.code == 3 and "no answer (pending_review)" in capsys.readouterr().out
    assert [row.route for row in read_pending(folder)] == ["python"]
    with pytest.raises(ConfigError, match="no kind of question of tiny-text needs it"):
        load_student(text_export, review=folder.root)


def test_a_server_without_a_queue_is_not_built(text_served: Served, unheard: ServedStudent) -> None:
    with pytest.raises(ConfigError, match="need review by a person"):
        build_app(Served(text_served.chat, unheard.contract, unheard, text_served.desk))
