"""Looks at logs: what moved, since when; what is wrong with rows is counted and stops nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
from drift_kit import CONTRACT, NOW_S, asked, canary, look, served, write

from aot.display import clean
from aot.drift.look import sight_lines
from aot.errors import RunError, SourceError

CANARIES = [canary(i) for i in range(60)]


def test_a_canary_that_stays_wrong_is_an_alarm_at_its_second_wrong_answer(tmp_path: Path) -> None:
    day = [asked(one, time_s=NOW_S - 90_000 + i) for i, one in enumerate(CANARIES)]
    log = write(tmp_path / "log.jsonl", day)
    assert look(log, CANARIES)[0].exit_code == 0
    write(log, [asked(CANARIES[7], time_s=NOW_S - 5000, right=False)], append=True)
    assert look(log, CANARIES)[0].alarms == ()
    write(log, [asked(CANARIES[7], time_s=NOW_S - 1000, right=False)], append=True)
    sight, state = look(log, CANARIES)
    (alarm,) = sight.alarms
    assert (alarm.test, alarm.since_s, alarm.found_s) == ("canaries_lost", NOW_S - 5000, NOW_S - 1000)
    assert alarm.e_value > 1 / alarm.level and sight.canaries_lost == 1
    assert sight.advice[0].startswith("Check the pipeline first")
    assert any("1 of 60 canaries that were right at export are wrong now" in line for line in sight_lines(sight, state))


def test_a_sign_that_moves_is_an_alarm_that_says_since_when(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [served(i, confidence=float(rng.beta(9, 1 if i < 1000 else 4))) for i in range(1400)]
    sight, _ = look(write(tmp_path / "log.jsonl", rows))
    alarm = next(one for one in sight.alarms if one.test == "confidence")
    assert alarm.since_s is not None and abs(alarm.since_s - rows[1000]["time_s"]) < 60 * 100
    assert alarm.row > 1000 and "went from 0.9" in alarm.what


def test_a_quiet_log_raises_no_alarm_and_a_second_look_reads_only_what_is_new(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = [served(i, confidence=float(rng.beta(9, 1))) for i in range(800)]
    log = write(tmp_path / "log.jsonl", rows[:500])
    look(log)
    write(log, rows[500:], append=True)
    in_two, state = look(log)
    at_once, whole = look(
        write(tmp_path / "whole" / "log.jsonl" if (tmp_path / "whole").mkdir() is None else log, rows)
    )
    assert (in_two.exit_code, in_two.new, in_two.read) == (0, 300, 800)
    assert in_two.wealth == pytest.approx(at_once.wealth) and state.signs == whole.signs
    assert len(state.model_dump_json()) < 100_000


def test_odd_rows_are_counted_by_reason_and_the_others_are_used(tmp_path: Path) -> None:
    rows = [
        served(0), served(0), "{broken", '{"time_s": 3}', "[1]", '{"id": "x", "id": "y"}', served(1, status=500),
        served(2, contract_digest="another"), served(3, time_s=None), served(4, time_s=NOW_S + 1e7),
        served(5, time_s=NOW_S - 9e6), served(6, contract_digest=""), served(7, confidence="NaN", answer="\x1b[31m"),
        {"question_id": "q", "answer": 7, "confidence": 0.5, "timestamp": "2026-01-01T00:00:00"},
    ]  # fmt: skip
    sight, state = look(write(tmp_path / "log.jsonl", rows))
    assert sight.odd == {
        "broken_json": 2, "clock_jump": 3, "duplicate_id": 1, "duplicate_key": 1, "error_status": 1, "no_time": 1,
        "no_version": 2, "nothing_to_watch": 1, "other_version": 1,
    }  # fmt: skip
    assert (sight.read, sight.used, sight.exit_code) == (14, 7, 0)
    assert state.digests == {CONTRACT.digest(): 5, "another": 1}
    assert all(clean(line) == line for line in sight_lines(sight, state))


def test_a_log_that_is_another_file_is_read_from_its_beginning(tmp_path: Path) -> None:
    log = write(tmp_path / "log.jsonl", [served(i) for i in range(30)])
    look(log)
    write(log, [served(100 + i) for i in range(5)])
    sight, _ = look(log)
    assert sight.odd["other_log"] == 1 and sight.used == 35


def test_a_half_written_last_line_waits_for_the_next_look(tmp_path: Path) -> None:
    log = write(tmp_path / "log.jsonl", [served(0)])
    whole = json.dumps(served(1))
    with log.open("a") as file:
        file.write(whole[:20])
    assert look(log)[0].read == 1
    with log.open("a") as file:
        file.write(whole[20:] + "\n")
    assert look(log)[0].read == 2 and look(log)[0].odd == {}


def test_labelled_answers_below_the_promise_are_an_alarm(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    rows = [served(i, right=bool(rng.random() < 0.7)) for i in range(300)]
    sight, _ = look(write(tmp_path / "log.jsonl", rows), promised=0.9)
    (alarm,) = sight.alarms
    assert alarm.test == "labelled" and "below the promised 90.0%" in alarm.what
    assert any("retrain-advice" in line for line in sight.advice)


def test_a_state_of_another_student_is_refused_by_name(tmp_path: Path) -> None:
    log = write(tmp_path / "log.jsonl", [served(0)])
    look(log)
    with pytest.raises(RunError, match=r"belongs to the export .* begins a new watch"):
        look(log, contract=CONTRACT.model_copy(update={"max_tokens": 65}))
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(RunError, match="is no state of this version"):
        look(log)


def test_a_log_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read; name a log"):
        look(tmp_path / "nowhere.jsonl")


def test_answers_that_leave_what_their_tools_gave_are_an_alarm(tmp_path: Path) -> None:
    def row(i: int, said: str) -> dict[str, object]:
        return {
            **served(i),
            "answer": said,
            "calls": [{"tool": "calculator", "arguments": {}, "result": {"value": "7"}}],
        }

    rows = [row(i, "7" if i < 600 or i % 2 else "8") for i in range(900)]
    sight, _ = look(write(tmp_path / "log.jsonl", [*rows, {**served(900), "answer": "7", "calls": ["broken"]}]))
    assert [one.test for one in sight.alarms] == ["tool_agreement"]


def test_answers_of_aot_predict_to_canaries_count_each_time_they_are_given(tmp_path: Path) -> None:
    rows = [{"question_id": "c3", "answer": "99", "mode": "direct", "contract_digest": CONTRACT.digest()}] * 3
    sight, _ = look(write(tmp_path / "answers.jsonl", rows), CANARIES)
    assert [one.test for one in sight.alarms] == ["canaries_lost"] and sight.odd == {"no_time": 3}
