"""The page of `aot review`: who gets in, what is noted, and that nothing of a stranger's text is more than text."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from aot.cli import app as cli
from aot.errors import RunError
from aot.files.run_folder import RunFolder
from aot.pipeline.student.review import Wanted, choose
from aot.records import Finding, MediaRef, Question, Step, TimeSpan, ToolCall, Trace
from aot.review.rows import ReviewBook, read_reviews
from aot.review_records import AskedQuestion, ReviewRow
from aot.serving.review.app import MAX_BODY_BYTES, Reviewing, page_text, review_app
from aot.serving.review.items import Item, in_order, jpeg_of, of_trace, served_items

HOST = "127.0.0.1:8123"
HOSTILE = "<script>alert(1)</script>\u202e\x1b[31m"
ITEM = Item(
    "trace", "q#0", "d1", AskedQuestion(text=f"What is next? {HOSTILE}", choices=("pour\u202e egg", "boil rice")),
    "boil rice", "kept by every filter", frames_s=(0.5,), read_picture=lambda k: b"jpeg",
)  # fmt: skip
WORDS = replace(ITEM, id="q#1", digest="d2", question=AskedQuestion(text="What is left?"), answer="12", frames_s=())


@pytest.fixture
def page(tmp_path: Path) -> Iterator[tuple[TestClient, Reviewing]]:
    reviewing = Reviewing("kitchen", [ITEM, WORDS], ReviewBook(RunFolder(tmp_path)))
    client = TestClient(review_app(reviewing, hosts=[HOST]), base_url=f"http://{HOST}")
    client.headers["X-Aot-Token"] = reviewing.token
    yield client, reviewing
    reviewing.book.close()


def say(page: tuple[TestClient, Reviewing], **changed: Any) -> Any:
    body = {"place": 0, "digest": "d1", "reviewer": "ann", "verdict": "approved", **changed}
    return page[0].post("/api/verdicts", json=body)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X-Aot-Token": ""}, 403),
        ({"X-Aot-Token": "x" * 32}, 403),
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1:80"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": f"http://{HOST}", "Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_only_the_page_itself_with_the_token_gets_in(
    page: tuple[TestClient, Reviewing], headers: dict[str, str], status: int
) -> None:
    body = {"place": 0, "digest": "d1", "reviewer": "ann", "verdict": "approved"}
    assert page[0].get("/api/state", headers=headers).status_code == status
    assert page[0].post("/api/verdicts", json=body, headers=headers).status_code == status
    assert len(page[1].book.rows) == (status == 200)


def test_the_page_wants_the_token_in_its_address_and_holds_no_data(page: tuple[TestClient, Reviewing]) -> None:
    client, reviewing = page
    assert client.get("/").status_code == 403
    reply = client.get(f"/?token={reviewing.token}", headers={"X-Aot-Token": ""})
    assert reply.status_code == 200 and reply.text == page_text() and "What is next" not in reply.text


def test_the_policy_runs_no_script_but_the_one_of_the_page(page: tuple[TestClient, Reviewing]) -> None:
    for path in (f"/?token={page[1].token}", "/api/state", "/nowhere"):
        headers = page[0].get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
    assert "innerHTML" not in page_text() and "insertAdjacent" not in page_text() and " onclick" not in page_text()


def test_hostile_text_is_told_as_text_with_escapes(page: tuple[TestClient, Reviewing]) -> None:
    told = page[0].get("/api/items/0").json()
    assert told["question"]["text"] == "What is next? <script>alert(1)</script>\\u202e\\x1b[31m"
    assert page[0].get("/api/items/0").headers["content-type"] == "application/json"


def test_a_verdict_is_noted_with_all_that_it_is_about(page: tuple[TestClient, Reviewing]) -> None:
    reply = say(page, verdict="corrected", correction="pour\\u202e egg", note=f"see {HOSTILE}")
    assert reply.status_code == 200 and reply.json()["correction"] == "pour\\u202e egg"  # as the page then shows it
    (row,) = page[1].book.rows
    assert (row.item, row.digest, row.reviewer, row.correction) == ("q#0", "d1", "ann", "pour\u202e egg")
    assert row.note == f"see {HOSTILE}" and row.question == ITEM.question and row.time_s > 1e9
    (mine, other) = (page[0].get(f"/api/state?reviewer={name}").json()["items"][0] for name in ("ann", "bo"))
    assert (mine["verdict"], other["verdict"]) == ("corrected", "")  # nobody sees what others said


@pytest.mark.parametrize(
    ("changed", "status", "told"),
    [
        ({"digest": "old"}, 409, "load the page again"),
        ({"place": 7}, 404, "no item 7"),
        ({"reviewer": "  "}, 422, "say who you are"),
        ({"reviewer": "a\nb"}, 422, "say who you are"),
        ({"reviewer": "x" * 101}, 422, "100 characters"),
        ({"verdict": "corrected"}, 422, "a correction has an answer"),
        ({"correction": "pour egg"}, 422, "other verdicts have none"),
        ({"verdict": "corrected", "correction": "fly"}, 422, "one of the choices"),
        ({"verdict": "corrected", "correction": "boil rice"}, 422, "approve it instead"),
        ({"verdict": "maybe"}, 422, "approved"),
        ({"more": 1}, 422, "Extra inputs"),
        ({"note": "x" * 4001}, 422, "4000"),
        ({"note": "x" * MAX_BODY_BYTES}, 413, "shorter note"),
    ],
)
def test_what_is_no_verdict_is_refused_in_a_sentence(
    page: tuple[TestClient, Reviewing], changed: dict[str, Any], status: int, told: str
) -> None:
    reply = say(page, **changed)
    assert reply.status_code == status and told in reply.json()["error"] and not page[1].book.rows


def test_bodies_of_forms_and_doubled_keys_are_refused(page: tuple[TestClient, Reviewing]) -> None:
    assert page[0].post("/api/verdicts", data={"place": "0"}).status_code == 415
    headers = {"Content-Type": "application/json"}
    assert page[0].post("/api/verdicts", content='{"place": 0, "place": 1}', headers=headers).status_code == 400
    assert page[0].put("/api/verdicts").status_code == 405


def test_frames_are_told_to_who_has_the_token_and_only_those_of_the_item(page: tuple[TestClient, Reviewing]) -> None:
    client = page[0]
    assert client.get("/api/items/0/frames/0").content == b"jpeg"
    assert [client.get(f"/api/items/{path}").status_code for path in ("0/frames/1", "1/frames/0", "9")] == [404] * 3
    assert client.get("/api/items/0/frames/0", headers={"X-Aot-Token": ""}).status_code == 403
    assert jpeg_of(np.zeros((8, 900, 3), np.uint8)).startswith(b"\xff\xd8")


def test_a_trace_is_shown_with_its_evidence_and_where_its_frames_are(tmp_path: Path) -> None:
    question = Question(
        id="q", dataset="d", split="train", kind="next_open", text="What is next?", answer="pour egg",
        answer_type="text", group="g", media=MediaRef(uri="a.mp4", end_s=4.0),
    )  # fmt: skip
    step = Step(
        index=1, call=ToolCall(tool="look"), span=TimeSpan(start_s=0, end_s=4), frame_times_s=(0.5, 1.5),
        findings=(Finding(kind="event", label="mix egg", spans_s=((0.0, 2.0),), score=0.7),),
    )  # fmt: skip
    trace = Trace(question_id="q", sample_index=0, teacher="t", steps=(step,), support=(1,), rationale="so [1]",
                  answer="pour egg", status="ok", config_digest="c")  # fmt: skip
    frames = lambda uri, times_s: ((8, 8), [(times_s[0], np.zeros((8, 8, 3), np.uint8))])  # noqa: E731
    item = of_trace(question, trace, [], frames)
    shown = item.shown()
    assert shown["steps"][0]["findings"] == ["event mix egg · 0.0-2.0 s · 0.70"] and shown["steps"][0]["cited"]
    assert shown["frames_s"] == [0.5, 1.5] and item.read_picture is not None and item.read_picture(1)[:2] == b"\xff\xd8"
    changed = of_trace(question, trace.model_copy(update={"rationale": "so"}), [], frames)
    assert changed.digest != item.digest and item.sureness == 0.7


def test_requests_that_wait_come_first_then_the_least_sure_then_the_seed() -> None:
    items = [replace(ITEM, id=str(i), sureness=sure) for i, sure in enumerate((0.9, 0.2, 0.5))]
    items.append(replace(ITEM, id="waits", sureness=1.0, is_waiting=True))
    assert [one.id for one in in_order(items, order="sure", seed=0)] == ["waits", "1", "2", "0"]
    orders = {tuple(one.id for one in in_order(items, order="seed", seed=seed)) for seed in range(8)}
    assert len(orders) > 2 and all(order[0] == "waits" for order in orders)


def test_served_answers_without_text_are_left_out_and_counted(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    rows = [
        '{"id": "a", "question": "2 + 2?", "answer": "4", "confidence": 0.4}',
        '{"id": "a", "question": "2 + 2?", "answer": "4"}', '{"question": "", "answer": "4"}', "rubbish",
        '{"question": "3?", "abstained": "uncertain"}', '{"question": "5?", "answer": "5", "confidence": 7}',
    ]  # fmt: skip
    log.write_text("\n".join(rows) + "\n")
    counted = Counter[str]()
    items = list(served_items(log, counted))
    assert [one.answer for one in items] == ["4", "5"] and items[0].sureness == 0.4
    assert counted == {"listed_already": 1, "no_text": 1, "broken_json": 1, "no_answer": 1}


def test_nothing_to_review_is_told_with_what_to_do(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["review", str(tmp_path)])
    assert "nothing to review" in str(done.exception) and "--served LOG" in str(done.exception)
    with pytest.raises(RunError, match="no run folder"):
        choose(tmp_path / "nowhere", Wanted())


def test_agreement_is_printed_as_text_and_as_json(tmp_path: Path) -> None:
    book = ReviewBook(RunFolder(tmp_path))
    book.note(ReviewRow(subject="served", item="a", digest="d", reviewer="ann", time_s=0, verdict="rejected",
                        answer="4", question=AskedQuestion(text="2 + 2?")))  # fmt: skip
    book.close()
    done = CliRunner().invoke(cli, ["review", str(tmp_path), "--agreement"])
    assert "0 approved, 0 corrected, 1 rejected" in done.stdout and "not defined" in done.stdout
    as_json = CliRunner().invoke(cli, ["review", str(tmp_path), "--agreement", "--json"])
    assert '"rejected": 1' in as_json.stdout and len(read_reviews(RunFolder(tmp_path))) == 1
