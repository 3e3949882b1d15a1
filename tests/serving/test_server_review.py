"""Kinds of questions under review: no route tells what the model thinks before a person has looked at it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cascade_models import Big
from fastapi.testclient import TestClient

from aot.config import CascadeSection, load_config
from aot.errors import ConfigError
from aot.files.run_folder import RunFolder, read_rows
from aot.reporting.card import reviewed_kinds
from aot.review.rows import ReviewBook, answer_digest, read_pending
from aot.review_records import PendingRow, ReviewRow, Said
from aot.serving.cascade.model import Cascade
from aot.serving.contract import read_contract
from aot.serving.review import queue as work
from aot.serving.review.queue import ReviewQueue
from aot.serving.server.app import build_app
from aot.serving.server.command import open_queue
from aot.serving.server.served import DeskStudent, Recorder, Served

SUM = "Ann has 24 eggs and gets 13. How many does she have?"
CHOICES = ["37", "11"]
FORM = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"enum": CHOICES}}}
ROUTES = ["chat", "choice", "stream", "decide", "systemone"]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "queue")


@pytest.fixture
def client(text_served: Served, folder: RunFolder) -> Iterator[TestClient]:
    text_served.review = ReviewQueue(folder.root, kinds=["sum"], learned=["sum", "easy"])
    with TestClient(build_app(text_served), raise_server_exceptions=False) as one:
        yield one
    text_served.review.close()
    text_served.review = None


def ask(client: TestClient, route: str, *, kind: str = "sum", question: str = SUM) -> Any:
    body: dict[str, Any]
    if route == "decide":
        row = {"type": "choice", "text": question, "choices": CHOICES, "kind": kind, "name": "q"}
        return client.post("/v1/decide", json={"questions": [row]})
    if route == "systemone":
        asked = {"type": "choice", "instructions": question, "criteria": dict.fromkeys(CHOICES)}
        body = {"state": "", "questions": {"q": asked}, "aot": {"kinds": {"q": kind}}}
        return client.post("/v1/systemone", json=body)
    message = {"role": "user", "content": question}
    body = {"model": "tiny-text", "messages": [message], "stream": route == "stream"}
    body |= {"aot": {"kind": kind, "mode": "direct"}}
    if route == "choice":
        body |= {"response_format": FORM, "aot": {"kind": kind}}
    return client.post("/v1/chat/completions", json=body)


def say(folder: RunFolder, verdict: Said, correction: str = "") -> PendingRow:
    """What a person says of the only request that waits."""
    (row,) = read_pending(folder)
    book = ReviewBook(folder)
    book.note(ReviewRow(
        subject="served", item=row.id, digest=answer_digest(row.question, row.answer, row.rationale), reviewer="ann",
        time_s=0, verdict=verdict, correction=correction, answer=row.answer, question=row.question,
    ))  # fmt: skip
    book.close()
    return row


def answers_in(text: str) -> list[str]:
    """The answers of CHOICES that a body tells as a value of its own."""
    return [one for one in CHOICES if f'"{one}"' in text or f'\\"{one}\\"' in text or f": {one}" in text]


@pytest.mark.parametrize("route", ROUTES)
def test_no_route_tells_an_answer_before_a_person_has_looked(client: TestClient, folder: RunFolder, route: str) -> None:
    for _ in range(2):  # asking again asks no model and makes no second row
        reply = ask(client, route)
        assert reply.status_code == (409 if route == "systemone" else 202)
        assert answers_in(reply.text) == [] and "review-" in reply.text and "waits for review" in reply.text
    (row,) = read_pending(folder)
    assert row.id in reply.text and row.answer in CHOICES and row.question.kind == "sum"
    assert SUM in row.question.text and row.model == "tiny-text"


@pytest.mark.parametrize("route", ROUTES)
def test_the_same_request_gets_the_answer_that_a_person_gave(client: TestClient, folder: RunFolder, route: str) -> None:
    ask(client, route)
    row = say(folder, "corrected", correction="11")
    reply = ask(client, route)
    assert reply.status_code == 200 and ("gave this answer instead" in reply.text or route == "systemone")
    if route in ("chat", "choice"):
        made = reply.json()
        assert made["choices"][0]["message"]["content"] == ("11" if route == "chat" else '"11"')
        assert made["aot"]["review"] == {"state": "corrected", "id": row.id}
        assert made["aot"]["origin"]["ai_generated"] is False and made["aot"]["origin"]["reviewed"] == "corrected"
        assert "gave this answer instead" in made["aot"]["disclosure"]
    if route == "decide":
        (one,) = reply.json()["answers"]
        assert (one["answer"], one["review"]["state"], one["confidence"]) == ("11", "corrected", None)
        assert "gave this answer instead" in reply.json()["aot"]["disclosure"] and not one["probabilities"]
    if route == "systemone":
        assert reply.json()["answers"]["q"]["choice"] == "11" and "gave this" in reply.json()["aot"]["disclosure"]
    if route == "stream":
        assert '"content": "11"' in reply.text and '"37"' not in reply.text


def test_an_approved_answer_is_the_student_s_and_says_that_a_person_looked(
    client: TestClient, folder: RunFolder
) -> None:
    ask(client, "choice")
    row = say(folder, "approved")
    made = ask(client, "choice").json()
    assert row.watermark == made["aot"]["origin"]["watermark"] == "none_short_text"
    assert made["choices"][0]["message"]["content"] == json.dumps(row.answer)
    assert made["aot"]["origin"]["ai_generated"] and "A person reviewed this answer" in made["aot"]["disclosure"]


def test_a_rejected_answer_is_never_told_and_the_state_says_so(client: TestClient, folder: RunFolder) -> None:
    ask(client, "chat")
    say(folder, "rejected")
    made = ask(client, "chat")
    message = made.json()["choices"][0]["message"]
    assert (made.status_code, message["content"], made.json()["aot"]["abstained"]) == (200, None, "rejected_by_person")
    assert "rejected" in message["refusal"] and answers_in(made.text) == []


@pytest.mark.parametrize(("kind", "status"), [("easy", 200), ("", 202), ("summ", 202), ("*", 202)])
def test_a_kind_that_is_left_out_or_unknown_is_no_way_around(client: TestClient, kind: str, status: int) -> None:
    assert [ask(client, route, kind=kind).status_code for route in ("chat", "decide", "stream")] == [status] * 3


def test_turns_and_tools_without_a_kind_wait_too(client: TestClient, folder: RunFolder) -> None:
    turns = [{"role": role, "content": SUM} for role in ("user", "assistant", "user")]
    reply = client.post("/v1/chat/completions", json={"model": "tiny-text", "messages": turns, "stream": True})
    assert reply.status_code == 202 and "waits for review" in reply.text and len(list(read_pending(folder))) == 1


def test_a_decision_among_others_waits_alone(client: TestClient) -> None:
    rows = [{"type": "choice", "text": SUM, "choices": CHOICES, "kind": kind} for kind in ("sum", "easy")]
    reply = client.post("/v1/decide", json={"questions": rows})
    waits, told = reply.json()["answers"]
    assert reply.status_code == 202 and waits["abstained"] == "pending_review" and waits["probabilities"] == []
    assert told["answer"] in CHOICES and told["review"] is None


def test_a_cascade_tells_neither_model_s_answer(text_served: Served, folder: RunFolder) -> None:
    section = CascadeSection.model_validate(
        {"big": {"model": "big", "backend": "scripted", "script": "-"}, "threshold": 1.0, "folder": None}
    )
    assert text_served.desk is not None and text_served.contract is not None
    both = Cascade(DeskStudent(text_served.desk, text_served.contract), Big("37"), section)
    served = Served(both, text_served.contract, text_served.student, text_served.desk, both)
    served.review = ReviewQueue(folder.root, kinds=["*"], learned=["sum"])
    with TestClient(build_app(served), raise_server_exceptions=False) as client:
        message = {"role": "user", "content": SUM}
        body = {"model": served.name, "messages": [message], "aot": {"mode": "direct"}}
        reply = client.post("/v1/chat/completions", json=body)
    assert reply.status_code == 202 and answers_in(reply.text) == []
    assert [row.answer for row in read_pending(folder)] == ["37"]


def test_where_the_queue_is_full_or_the_disk_refuses_nobody_is_told_the_answer(
    client: TestClient, text_served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "MOST_WAITING", 0)
    for route in ROUTES:
        reply = ask(client, route)
        assert reply.status_code == 503 and answers_in(reply.text) == [] and "cannot wait" in reply.text


def test_the_log_says_which_answers_wait_and_reviewers_are_not_shown_them_twice(
    client: TestClient, text_served: Served, tmp_path: Path
) -> None:
    from collections import Counter

    from aot.answer_records import ServedRow
    from aot.serving.review.items import served_items

    text_served.recorder = Recorder(tmp_path / "log.jsonl", with_text=True)
    ask(client, "choice")
    text_served.recorder.close()
    text_served.recorder = None
    assert [row.review for row in read_rows(tmp_path / "log.jsonl", ServedRow)] == ["pending"]
    left_out = Counter[str]()
    assert list(served_items(tmp_path / "log.jsonl", left_out)) == [] and left_out == {"waits_in_the_queue": 1}


def test_the_contract_s_rule_cannot_be_left_out_when_serving(text_export: Path, tmp_path: Path) -> None:
    contract = read_contract(text_export).model_copy(update={"review": ("sum",)})
    with pytest.raises(ConfigError, match="need review by a person; name the folder"):
        open_queue(None, contract, ())
    with pytest.raises(ConfigError, match="no kind 'summ' to review"):
        open_queue(tmp_path, contract, ("summ",))
    with pytest.raises(ConfigError, match="no kind needs it"):
        open_queue(tmp_path, contract.model_copy(update={"review": ()}), ())
    assert open_queue(None, contract.model_copy(update={"review": ()}), ()) is None
    made = open_queue(tmp_path, contract, ())
    assert made is not None and made.covers("sum")
    made.close()


def test_the_setting_names_kinds_or_every_kind_and_changes_no_result() -> None:
    config = Path(__file__).parents[2] / "configs" / "text" / "tiny_math_tiny.yaml"
    plain, every, some = (
        load_config(config, overrides=more)
        for more in ((), ("serving.review=required",), ("serving.review=required", "serving.review_kinds=[sum]"))
    )
    assert [one.serving.kinds_under_review for one in (plain, every, some)] == [(), ("*",), ("sum",)]
    assert plain.digest() == every.digest() == some.digest()
    assert "question of kind sum before a person" in reviewed_kinds(some.serving.kinds_under_review)
    with pytest.raises(ConfigError, match="required"):
        load_config(config, overrides=("serving.review_kinds=[sum]",))
