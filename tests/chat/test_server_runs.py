"""Whole runs on servers with ways of their own: where they stop, what they keep, and how they go on."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))
from chat_runs import asked_in, chat_settings, solver, written_rows  # noqa: E402
from check_servers import check_server  # noqa: E402
from fault_server import Body, FaultServer, Raw  # noqa: E402
from quirk_server import Quirk, error, finishes, quota_of_a_minute  # noqa: E402

from aot.chat.server.retries import REFUSED_ALIKE  # noqa: E402
from aot.config import parse_config  # noqa: E402
from aot.errors import GuardStop, RunError  # noqa: E402
from aot.files.run_folder import RunFolder, read_run_json  # noqa: E402
from aot.pipeline import run_stages  # noqa: E402
from aot.records import Question  # noqa: E402
from aot.reporting.sections.making import settings_sentence  # noqa: E402
from text_cot.datasets.toy_math import draw_toy_math  # noqa: E402


def life(url: str, folder: Path, *, stages: tuple[str, ...] = ("prepare", "generate"), **settings: Any) -> int:
    made = chat_settings(url, folder=folder, train=32, **settings.pop("chat", {}))
    for section, values in settings.items():
        made[section] = {**made.get(section, {}), **values}
    return run_stages(parse_config(made, source="t"), config_path=Path("t.yaml"), command=["t"], stages=stages)[1]


def toys() -> list[Question]:
    config = parse_config(chat_settings("", folder=Path("x"), train=32), source="t")
    return draw_toy_math(config.data.math, seed=0)


def server_of_toys(quirk: Callable[[Body, Body], Raw | None] | None = None, **more: Any) -> FaultServer:
    return FaultServer(solver(toys()), quirk=quirk, **more)


def test_a_wait_beyond_the_deadline_stops_at_once_instead_of_a_wait_for_each_question(tmp_path: Path) -> None:
    told = error("limit of today", status=429, headers={"Retry-After": "40000"})
    with server_of_toys(lambda *_: told) as server:
        with pytest.raises(GuardStop, match=r"40,000 s of rest|no reply"):
            life(server.url, tmp_path / "run")
        assert server.calls.total() <= 16
    assert written_rows(RunFolder(tmp_path / "run")) == []


def test_after_a_wait_one_call_tries_before_all_the_others(tmp_path: Path) -> None:
    found = check_server(Quirk(quota_of_a_minute(50, 0.3)), tmp_path / "run", questions=120)
    assert found.right == 120 and found.calls <= 120 + 2 * 16


def test_rows_made_before_and_after_a_mended_setting_are_told_apart(tmp_path: Path) -> None:
    folder, calls = tmp_path / "run", [0]

    def changes_its_mind(body: Body, good: Body) -> Raw | None:
        calls[0] += 1
        return error("temperature must be 1") if calls[0] > 20 and body["temperature"] != 1 else None

    with server_of_toys(changes_its_mind) as server:
        with pytest.raises(GuardStop, match=r"chat\.temperature"):
            life(server.url, folder)
        before = len(written_rows(RunFolder(folder)))
        assert before == 20
        assert life(server.url, folder, chat={"temperature": 1.0}) == 0
        assert server.calls.most_common(1)[0][1] == 2  # nothing that was answered is asked again
    run = RunFolder(folder)
    told = json.loads(run.teacher_stats.read_text())["chat_settings"]
    assert [(group["rows"], group["answered"], group["settings"]["chat.temperature"]) for group in told] == [
        (20, 20, 0.7), (20, 20, 1.0),
    ]  # fmt: skip
    assert {row.config_digest for row in written_rows(run)} == {group["config_digest"] for group in told}
    assert "20 rows with chat.temperature=0.7" in settings_sentence({"chat_settings": told})
    assert set(read_run_json(run)["chat_settings"]) == {group["config_digest"] for group in told}


def test_what_made_all_rows_cannot_be_changed_afterwards_nor_who_made_some(tmp_path: Path) -> None:
    with server_of_toys() as server:
        assert life(server.url, tmp_path / "run") == 0
        with pytest.raises(RunError, match=r"other settings \(chat.temperature: 0.7 there, 1.0 now"):
            life(server.url, tmp_path / "run", chat={"temperature": 1.0})
    faults = {"faults": lambda prompt: "quota always"}
    with server_of_toys(**faults) as server, pytest.raises(GuardStop):
        life(server.url, tmp_path / "other")
    with server_of_toys() as server:  # nobody was answered yet, so that another server may be asked
        assert life(server.url, tmp_path / "other", chat={"model": "n"}) == 0


def test_refusals_alike_stop_before_any_row_and_are_final_once_somebody_is_answered(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with server_of_toys(lambda body, good: error("cannot do that")) as server:
        # Where ten refusals are back before the fifth is looked at, the stage is the one that stops.
        with pytest.raises(GuardStop, match=r"(refused each of the first|none of 10 questions) .*cannot do that.*omit"):
            life(server.url, folder)
        assert REFUSED_ALIKE <= server.calls.total() < 20
        assert written_rows(RunFolder(folder)) == []
    refused = iter(range(2))
    with server_of_toys(
        lambda body, good: error("cannot do that") if next(refused, None) is not None else None
    ) as server:
        life(server.url, folder, chat={"max_concurrency": 1})
        assert server.calls.total() == 40
        assert life(server.url, folder, chat={"max_concurrency": 1}) == 3
        assert server.calls.total() == 40
    assert [row.error.reason for row in written_rows(RunFolder(folder)) if row.error] == ["bad_request"] * 2


def test_a_few_bad_questions_left_over_from_an_earlier_life_do_not_hold_up_the_run(tmp_path: Path) -> None:
    bad = {question.text for question in toys()[:9]}
    answers = [error("internal", status=500), error("this one is beyond me")]

    def beyond(body: Body, good: Body) -> Raw | None:
        return answers[0] if asked_in(body["messages"][-1]["content"]) in bad else None

    with server_of_toys(beyond) as server:
        with pytest.raises(GuardStop, match="no reply"):
            life(server.url, tmp_path / "run", chat={"max_attempts": 1})
        assert len(written_rows(RunFolder(tmp_path / "run"))) == 31
        answers.pop(0)
        assert life(server.url, tmp_path / "run") == 3
    assert [row.status for row in written_rows(RunFolder(tmp_path / "run"))].count("failed") == 9


def test_a_cap_that_cuts_every_reply_stops_the_run_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    def cuts(body: Body, good: Body) -> Raw | None:
        return finishes("length")()(body, good) if body["max_tokens"] < 100 else None

    with server_of_toys(cuts) as server:
        with pytest.raises(GuardStop, match=r"none of 10 questions was answered \(truncated 10\)"):
            life(server.url, tmp_path / "run", chat={"max_tokens": 10})
        assert written_rows(RunFolder(tmp_path / "run")) == []
        assert life(server.url, tmp_path / "run", chat={"max_tokens": 100}) == 0


def test_a_judge_that_is_refused_stops_the_filter_and_judges_once_its_setting_is_mended(tmp_path: Path) -> None:
    solve = solver(toys())

    def answer(body: Body) -> str:
        judges = "response_format" in body  # the teacher asks for no form here
        return '{"faults": ["none"], "why": ""}' if judges else solve(body)

    def at_zero(body: Body, good: Body) -> Raw | None:
        return error("temperature must be 1") if body.get("temperature") == 0 else None

    stages, judged = ("prepare", "generate", "filter"), {"filter": {"judge": True}}
    with FaultServer(answer, quirk=at_zero) as server:
        with pytest.raises(GuardStop, match=r"chat\.omit"):
            life(server.url, tmp_path / "run", stages=stages, **judged)
        assert not RunFolder(tmp_path / "run").funnel.exists()
        asked = server.calls.total()
        life(server.url, tmp_path / "run", stages=stages, **judged, chat={"omit": ["temperature"]})
        assert server.calls.total() - asked == 32
    funnel = json.loads(RunFolder(tmp_path / "run").funnel.read_text())
    assert (funnel["judge"]["failed"], funnel["judge"]["judged"]) == (0, 32)
