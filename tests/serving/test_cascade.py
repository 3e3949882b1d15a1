"""A cascade escalates what it must, keeps its limits, fails soft, and says who answered and why."""

import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cascade_models import PRICES, USAGE, Big, Small, cascade, contract, down, section, threshold
from serving_kit import export_base

from aot import load_student
from aot.answer_records import Answer, CascadeRow
from aot.chat.messages import ChatRequest, ImagePart, message
from aot.chat.spend import cost_of
from aot.config import load_cascade_config
from aot.errors import ChatError, ConfigError
from aot.files.parts import parts_of
from aot.files.run_folder import RunFolder, read_rows
from aot.served_records import KindTemperature, WatchBaseline, WatchFeature
from aot.serving.cascade.model import Cascade, load_cascade
from aot.serving.cascade.routing import is_degenerate
from aot.serving.student import Ask

ROOT = Path(__file__).parents[2]
CHOICES = ("wash rice", "chop onion")
COST = cost_of(USAGE, section().big.prices)


def rows_of(folder: Path) -> list[CascadeRow]:
    return [row for path in parts_of(RunFolder(folder).routed) for row in read_rows(path, CascadeRow)]


def test_what_the_student_is_sure_of_stays_local_and_costs_nothing(tmp_path: Path) -> None:
    big = Big()
    with cascade(big, folder=tmp_path) as both:
        answer = both.ask("How many? 0.9")
    assert (answer.answer, answer.model, answer.escalated, answer.cost) == ("7", "small", False, 0.0)
    assert answer.routing is not None and (answer.routing.reason, answer.routing.threshold) == ("confident", 0.9)
    assert answer.routing.promise == "at most 0.05 of the answers that stay local are wrong, with confidence 0.95"
    assert not big.requests and big.closed
    (row,) = rows_of(tmp_path)
    assert (row.decision, row.model, row.confidence, row.cost, row.agreed) == ("local", "small", 0.9, 0.0, None)
    assert len(row.question) == 32


@pytest.mark.parametrize(
    ("reason", "asked", "said"),
    [
        ("uncertain", {"question": "How many? 0.89"}, {}),
        ("no_confidence", {"question": "How many?"}, {}),
        ("degenerate", {"question": "How many? 0.99"}, {"raw_text": "so it is 7 and " * 9}),
        ("degenerate", {"question": "How many? 0.99"}, {"answer": " "}),
        ("unparsable", {"question": "How many? 0.99"}, {"answer": "", "abstained": "unparsable"}),
        ("cut_off", {"question": "How many? 0.99"}, {"answer": "", "abstained": "cut_off"}),
        ("failed", {"question": "How many? 0.99"}, {"answer": "", "abstained": "failed"}),
        ("out_of_domain", {"question": "How many? 0.99"}, {"answer": "", "abstained": "out_of_domain"}),
        ("out_of_domain", {"question": "How many? 0.99", "kind": "poem"}, {}),
        ("out_of_domain", {"question": "How many? 0.99", "choices": ("9", "8")}, {}),
        ("out_of_domain", {"question": "How many? 0.99"}, {"mode": "explain"}),
        ("no_threshold", {"question": "How many? 0.99"}, {"mode": "reason"}),
    ],
)
def test_every_reason_to_escalate(reason: str, asked: dict[str, Any], said: dict[str, Any], tmp_path: Path) -> None:
    terms = contract(threshold(0.9), threshold(None, mode="reason"), labels=("7", "8"))
    with cascade(small=Small(terms, **said), folder=tmp_path) as both:
        (answer,) = both.ask_many([Ask(**asked)])
        assert both.counts.reasons == {reason: 1} and both.counts.escalated == 1
    assert (answer.answer, answer.model, answer.escalated, answer.cost) == ("8", "big-1", True, COST)
    assert answer.routing is not None and answer.routing.reason == reason
    (row,) = rows_of(tmp_path)
    assert (row.reason, row.escalated, row.cost, row.usage) == (reason, True, COST, USAGE)


def test_frames_for_a_student_of_text_are_out_of_its_domain_and_cannot_be_shown() -> None:
    with cascade() as both:
        answer = both.ask("How many? 0.99", frames=[np.zeros((8, 8, 3), np.uint8)])
    assert answer.routing is not None
    assert (answer.routing.reason, answer.routing.fallback) == ("out_of_domain", "not_to_be_shown")


@pytest.mark.parametrize(
    "asked",
    [
        Ask(""), Ask(None), Ask("How? 0.99", choices=(1, 2)), Ask("How? 0.99", frames=7), Ask("How? 0.99", clip="\0"),  # type: ignore[arg-type]
        Ask("How? 0.99", frames=[None], times_s=[float("nan")], kind=None),  # type: ignore[arg-type,list-item]
    ],
)  # fmt: skip
def test_what_is_no_question_is_not_sent_to_anybody(asked: Ask) -> None:
    big = Big()
    small = Small(contract(threshold(0.9), frames=True), answer="", abstained="failed", choices=(), confidence=None)
    with cascade(big, small=small) as both:
        (answer,) = both.ask_many([asked])
    assert (answer.abstained, answer.cost, big.requests) == ("failed", 0.0, [])
    assert answer.routing is not None and answer.routing.fallback == "not_to_be_shown"


def test_the_big_model_is_asked_once_with_the_options_and_answers_in_their_words() -> None:
    big = Big("It washes rice first.\nAnswer: Chop onion.")
    with cascade(big) as both:
        answer = both.ask("What is next? 0.1", choices=CHOICES)
    assert (answer.answer, answer.rationale) == ("chop onion", "It washes rice first.\nAnswer: Chop onion.")
    (request,) = big.requests
    assert "Options:\n- wash rice\n- chop onion\n" in request.messages[0].text
    assert answer.routing is not None and answer.routing.agreed is False


@pytest.mark.parametrize(
    ("error", "fallback"),
    [
        ("connection", "big_model_down"), ("server_error", "big_model_down"), ("rate_limited", "big_model_down"),
        ("timeout", "big_model_late"), ("bad_request", "big_model_refused"), ("too_long", "big_model_refused"),
        ("truncated", "big_model_unusable"),
    ],
)  # fmt: skip
def test_when_the_big_model_gives_nothing_the_small_one_answers_and_is_marked(error: str, fallback: str) -> None:
    with cascade(Big(down(error))) as both:
        answer = both.ask("How many? 0.2")
        assert both.counts.fallbacks == {fallback: 1} and both.counts.escalated == 0
    assert (answer.answer, answer.model, answer.escalated) == ("7", "small", False)
    assert answer.routing is not None
    assert (answer.routing.reason, answer.routing.fallback) == ("uncertain", fallback)


def test_a_reply_that_names_no_option_leaves_the_small_answer_and_is_paid() -> None:
    with cascade(Big("Answer: boil water")) as both:
        answer = both.ask("What is next? 0.2", choices=CHOICES)
        assert both.counts.cost == COST
    assert (answer.answer, answer.cost) == ("wash rice", COST)
    assert answer.routing is not None and answer.routing.fallback == "big_model_unusable"


def test_a_failure_of_any_kind_is_no_failure_of_the_cascade() -> None:
    def broken(request: ChatRequest) -> str:
        raise ZeroDivisionError

    with cascade(Big(broken)) as both:
        answers = both.ask_many([Ask("How many? 0.2"), Ask("How many? 0.95")])
    assert [one.routing and one.routing.fallback for one in answers] == ["big_model_down", ""]


def test_a_model_that_hangs_is_waited_for_only_so_long_and_paid_when_it_comes_to_an_end() -> None:
    released, ended = threading.Event(), threading.Event()

    def hang(request: ChatRequest) -> str:
        released.wait(60)
        ended.set()
        return "Answer: 8"

    both = cascade(Big(hang), caps={"wait_s": 0.05})
    answer = both.ask("How many? 0.2")
    assert answer.answer == "7" and answer.routing is not None and answer.routing.fallback == "big_model_late"
    released.set()
    assert ended.wait(60)
    for thread in threading.enumerate():
        if thread.name == "aot-escalate":
            thread.join(60)
    assert both.counts.cost == COST


def test_a_question_that_waited_behind_others_until_it_was_given_up_is_never_asked_nor_paid() -> None:
    asked, released = threading.Event(), threading.Event()

    def slow(request: ChatRequest) -> str:
        asked.set()
        released.wait(60)
        return "Answer: 8"

    big = Big(slow)
    both = cascade(big, caps={"wait_s": 0.05}, of_big={"max_concurrency": 1})
    first = both.ask("How many? 0.2")
    assert asked.wait(60)
    second = both.ask("How many? 0.3")
    released.set()
    for thread in threading.enumerate():
        if thread.name == "aot-escalate":
            thread.join(60)
    assert [one.routing and one.routing.fallback for one in (first, second)] == ["big_model_late"] * 2
    assert (first.cost, second.cost, len(big.requests), both.counts.cost) == (None, 0.0, 1, COST)
    assert both.big.ledger._held_tokens == 0


def test_a_model_that_is_down_is_left_alone_and_tried_again_after_a_rest() -> None:
    big = Big(down("server_error"))
    with cascade(big, caps={"rest_s": 1000}) as both:
        for _ in range(6):
            both.ask("How many? 0.2")
        assert len(big.requests) == 3 and both.counts.fallbacks == {"big_model_down": 6}
        both.big._health._clock = lambda: 1e12  # the rest is over
        big.say = "Answer: 8"
        assert [both.ask("How many? 0.2").answer for _ in range(2)] == ["8", "8"]


def test_a_server_that_is_not_there_is_opened_anew_once_it_is(tmp_path: Path) -> None:
    """A client that gave up for good, as that of a server does where nobody listens, is replaced."""
    config = tmp_path / "cascade.yaml"
    url = "http://127.0.0.1:9/v1"  # the port of `discard`: nobody listens there
    config.write_text(
        json.dumps(
            {
                "big": {"model": "big", "base_url": url, "max_attempts": 1, "deadline_s": 5},
                "target": 0.05,
                "folder": str(tmp_path / "out"),
                "caps": {"rest_s": 0},
            }
        )
    )
    with load_cascade(config, Small(contract(threshold(0.9)))) as both:
        answers = [both.ask("How many? 0.2") for _ in range(3)]
        assert {one.routing.fallback for one in answers if one.routing} == {"big_model_down"}
        assert both.counts.cost is None and both.counts.tokens == 0
        assert {one.answer for one in answers} == {"7"}


def test_money_is_never_overspent_by_eight_threads(tmp_path: Path) -> None:
    gate = threading.Barrier(8, timeout=60)

    def say(request: ChatRequest) -> str:
        return "Answer: 8"

    big = Big(say)
    with cascade(big, folder=tmp_path, of_big={"max_cost": 0.01}) as both:

        def client(number: int) -> list[Answer]:
            gate.wait()
            return [both.ask(f"Of {number}, {i}: how many? 0.2") for i in range(40)]

        with ThreadPoolExecutor(8) as pool:
            answers = [one for group in pool.map(client, range(8)) for one in group]
        spent = both.counts.cost
    escalated = [one for one in answers if one.escalated]
    assert spent is not None and spent <= 0.01 and spent == pytest.approx(len(big.requests) * (COST or 0))
    assert len(escalated) == len(big.requests) and 0 < len(escalated) < 320
    refused = [one for one in answers if one.routing and one.routing.fallback == "budget_spent"]
    assert len(refused) == 320 - len(escalated) and {one.answer for one in refused} == {"7"}
    assert len(rows_of(tmp_path)) == 320
    with cascade(Big(), folder=tmp_path, of_big={"max_cost": 0.01}) as again:
        assert again.counts.cost == pytest.approx(spent), "a restart forgets nothing"


def test_a_limit_on_tokens_holds_for_all_calls_together() -> None:
    big = Big()
    with cascade(big, caps={"max_tokens": 2000}) as both:
        fallbacks = Counter(both.ask("How many? 0.2").routing.fallback for _ in range(40))  # type: ignore[union-attr]
        assert both.counts.tokens == 100 * len(big.requests) <= 2000
    assert fallbacks["tokens_spent"] == 40 - len(big.requests) > 0


def test_without_prices_a_cost_is_unpriced_and_not_zero() -> None:
    with cascade(of_big={"prices": None}) as both:
        escalated, local = both.ask("How many? 0.2"), both.ask("How many? 0.95")
        assert both.counts.cost is None
    assert (escalated.cost, local.cost) == (None, 0.0)


def test_a_call_without_a_count_of_tokens_has_no_cost_and_is_charged_at_its_most() -> None:
    with cascade(Big(usage=None)) as both:
        answer = both.ask("How many? 0.2")
        reply, said = both.converse(ChatRequest(messages=(message("user", "Hi."),)))
        assert both.counts.cost is not None and both.counts.cost > 100e-6 and both.counts.tokens > 100
    assert answer.escalated and said.escalated and answer.cost is said.cost is reply.usage is None


def test_the_same_questions_are_audited_every_time_and_about_so_many(tmp_path: Path) -> None:
    asks = [Ask(f"Of {i}: how many? 0.95") for i in range(1000)]
    audited: list[set[str]] = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        big = Big(lambda request: "Answer: 7" if "Of 1" in request.messages[0].text else "Answer: 8")
        with cascade(big, folder=folder, audit=0.1, seed=3) as both:
            answers = both.ask_many(asks)
            counts = both.counts
        audited.append({row.question for row in rows_of(folder) if row.audited})
        assert {one.answer for one in answers} == {"7"} and not any(one.escalated for one in answers)
        assert counts.audited == len(big.requests) == len(audited[-1]) and 0 < counts.disagreed < counts.audited
        assert sum(one.cost or 0 for one in answers) == pytest.approx(counts.cost)
    assert audited[0] == audited[1] and 60 < len(audited[0]) < 140


@pytest.mark.parametrize(("shadow", "answer"), [("small", "7"), ("big", "8")])
def test_a_shadow_decides_nothing_and_records_everything(shadow: str, answer: str, tmp_path: Path) -> None:
    with cascade(folder=tmp_path, shadow=shadow) as both:
        answers = both.ask_many([Ask("How many? 0.2"), Ask("How many? 0.95")])
    assert [one.answer for one in answers] == [answer, answer]
    rows = sorted(rows_of(tmp_path), key=lambda row: row.confidence or 0)
    assert [row.decision for row in rows] == ["escalate", "local"]
    assert all(row.shadow and row.agreed is False and row.cost == COST for row in rows)
    assert {row.escalated for row in rows} == {shadow == "big"}


def watch() -> WatchBaseline:
    """Of questions of four words that the student is sure of."""
    features = (
        WatchFeature(name="confidence", edges=(0.94, 0.96, 1.0), counts=(0, 400, 0, 0)),
        WatchFeature(name="length", edges=(3.0, 5.0, 9.0), counts=(0, 400, 0, 0)),
        WatchFeature(name="unknown_words", edges=(-1.0, 0.0, 1.0), counts=(0, 400, 0, 0)),
    )
    return WatchBaseline(mode="decide", features=features, words=("how", "many", "?", "0", "."))


@pytest.mark.parametrize("on_void", ["escalate", "say"])
def test_once_questions_drift_the_promise_is_void_in_every_answer(on_void: str, tmp_path: Path) -> None:
    terms = contract(threshold(0.9), watches=(watch(),))
    strange = [Ask("Wholly other words, a great many of them, are said here 0.99")] * 200
    with cascade(small=Small(terms), folder=tmp_path, on_void=on_void) as both:
        before = both.ask("how many ? 0.95")
        for ask in strange:
            both.ask_many([ask])
        after = both.ask("how many ? 0.95")
    assert before.routing is not None and before.routing.promise.startswith("at most 0.05")
    assert after.routing is not None and after.routing.promise.startswith("void since 20")
    assert after.routing.reason == ("void" if on_void == "escalate" else "confident")
    assert after.escalated == (on_void == "escalate")
    with cascade(small=Small(terms), folder=tmp_path, on_void=on_void) as again:
        still = again.ask("how many ? 0.95")
    assert still.routing is not None and still.routing.promise == after.routing.promise


def test_a_threshold_by_hand_promises_nothing_and_an_uncalibrated_student_is_refused() -> None:
    with cascade(small=Small(contract()), threshold=0.5) as both:
        answer = both.ask("How many? 0.6")
    assert not answer.escalated and answer.routing is not None
    assert answer.routing.promise == "none: the threshold was set by hand"
    with pytest.raises(ConfigError, match="it was not calibrated; run aot calibrate"):
        cascade(small=Small(contract()))
    with pytest.raises(ConfigError, match=r"calibrated for the targets 0\.05 \(wrong, confidence 0\.95\)"):
        cascade(target=0.01)


@pytest.mark.parametrize(
    "text",
    [
        "wash rice", "7", "1, 1, 2", "Gather: 0.0s-2.2s wash tomato [1]. 2.2s-4.1s chop tomato [1].\nAnswer: mix egg",
        "5 + 5 + 5 + 5 = 20\n20 - 5 = 15\nAnswer: 15", "yes", "12 + 7 = 19\n19 - 4 = 15\nAnswer: 15", "no, no",
    ],
)  # fmt: skip
def test_normal_answers_are_not_degenerate(text: str) -> None:
    assert not is_degenerate(Answer(mode="reason", answer=text, raw_text=text))


def test_it_is_a_chat_model_whose_replies_say_who_gave_them() -> None:
    schema = {"enum": list(CHOICES)}
    with cascade(Big("Answer: chop onion")) as both:
        sure, unsure = (
            both.reply(ChatRequest(messages=(message("user", text),), json_schema=schema))
            for text in ("What is next? 0.95", "What is next? 0.1")
        )
        (piece,) = both.stream(ChatRequest(messages=(message("user", "What is next? 0.95"),), json_schema=schema))
        assert both.name == "small+big"
    assert (sure.text, sure.model) == ("wash rice", "small")
    assert (unsure.text, unsure.model, unsure.usage) == ("Answer: chop onion", "big-1", USAGE)
    assert (piece.text, piece.reply) == ("wash rice", sure)


def test_a_conversation_goes_to_the_big_model_as_it_is(tmp_path: Path) -> None:
    turns = (message("user", "Hi."), message("assistant", "Hello."), message("user", "And now? 0.99"))
    big = Big("Good bye.")
    with cascade(big, folder=tmp_path) as both:
        reply = both.reply(ChatRequest(messages=turns))
        big.say = down("connection")
        with pytest.raises(ChatError, match="no model can take this request"):
            both.reply(ChatRequest(messages=turns))
    assert (reply.text, big.requests[0].messages, big.requests[0].sampling.max_tokens) == ("Good bye.", turns, 40)
    assert [(row.reason, row.fallback) for row in rows_of(tmp_path)] == [
        ("conversation", ""), ("conversation", "big_model_down"),
    ]  # fmt: skip


def test_an_answer_of_nobody_is_a_chat_error() -> None:
    small = Small(contract(threshold(0.9)), answer="", abstained="cut_off")
    with cascade(Big(down("connection")), small=small) as both, pytest.raises(ChatError) as caught:
        both.reply(ChatRequest(messages=(message("user", "How many? 0.2"),)))
    assert caught.value.reason == "truncated"


def test_a_full_disk_takes_no_answer_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with cascade(folder=tmp_path) as both:
        with Path("/dev/full").open("wb", buffering=0) as full, monkeypatch.context() as patch:
            patch.setattr(both._rows, "_file", full)
            assert both.ask("How many? 0.95").answer == "7"
        assert both.counts.unwritten == 1


def test_an_exported_student_and_a_scripted_model_make_a_cascade(text_export: Path, tmp_path: Path) -> None:
    script, config = tmp_path / "replies.jsonl", tmp_path / "cascade.yaml"
    script.write_text(json.dumps({"match": "3 + 4", "replies": [{"text": "3 + 4 = 7\nAnswer: 7"}]}) + "\n")
    big = {"backend": "scripted", "model": "script", "script": "replies.jsonl"}
    folder = str(tmp_path / "out")
    config.write_text(json.dumps({"student": str(text_export), "big": big, "target": 0.05, "threshold": 1.0,
                                  "folder": folder}))  # fmt: skip
    with load_cascade(config) as both:
        answers = both.ask_many([Ask("What is 3 + 4?"), Ask("What is 3 + 4?", kind="poem"), Ask("What is 2 + 2?")])
    assert [(one.answer, one.escalated) for one in answers] == [("7", True), ("7", True), (answers[2].answer, False)]
    assert answers[2].routing is not None and answers[2].routing.fallback == "big_model_refused"


def test_the_big_model_is_shown_the_frames_that_the_student_saw_with_their_times(video_export: Path) -> None:
    frames = [np.full((96, 96, 3), 9 * i, dtype=np.uint8) for i in range(20)]
    times_s = [0.5 * i for i in range(20)]
    big = Big("Answer: chop onion")
    rule = section(threshold=1.0)
    with Cascade(load_student(video_export), big, rule) as both:
        answer = both.ask("What is the next step?", frames=frames, times_s=times_s, choices=CHOICES)
    shown = [part.time_s for part in big.requests[0].messages[0].parts if isinstance(part, ImagePart)]
    assert answer.escalated and tuple(shown) == answer.frame_times_s and 0 < len(shown) <= 8
    assert "t=0.5s" in big.requests[0].messages[0].text


def test_the_confidence_of_a_written_reply_is_the_one_that_was_calibrated(tmp_path: Path) -> None:
    confidences = []
    for temperature in (1.0, 2.0):
        rows = (KindTemperature(kind="*", temperature=temperature, n=50, mode="direct"),)
        terms = contract(threshold(0.001, mode="direct")).calibration
        assert terms is not None
        calibration = terms.model_copy(update={"temperatures": rows})
        folder = export_base("tiny-text", tmp_path / f"{temperature}", calibration=calibration)
        with Cascade(load_student(folder), Big(), section()) as both:
            answers = [both.ask("What is 3 + 4?", mode=mode) for mode in ("direct", "reason")]
        assert [one.routing and one.routing.reason for one in answers] == ["confident", "no_threshold"]
        confidences.append(answers[0].confidence or 0.0)
        assert answers[1].escalated
    assert 0 < confidences[0] < 1 and confidences[1] == pytest.approx(confidences[0] ** 0.5)


def test_a_second_student_may_be_the_big_model(text_export: Path) -> None:
    big = load_student(text_export)
    with cascade(big) as both:
        answer = both.ask("What is 3 + 4?")
    assert (answer.answer, answer.model, answer.escalated) == ("7", "tiny-text", True)


def test_a_server_is_asked_over_http_and_every_call_is_paid_from_the_limit(text_url: str, tmp_path: Path) -> None:
    config = tmp_path / "cascade.yaml"
    big = {"model": "tiny-text", "base_url": text_url, "max_tokens": 9, "temperature": 0, "prices": PRICES,
           "max_cost": 0.01, "max_attempts": 1, "raise_tokens": 1}  # fmt: skip
    config.write_text(json.dumps({"big": big, "target": 0.05, "folder": str(tmp_path / "out")}))
    with load_cascade(config, Small(contract(threshold(0.9)))) as both:
        answers = [both.ask(f"What is 3 + {number}? 0.2") for number in range(30)]
        spent, tokens = both.counts.cost, both.counts.tokens
    escalated = [one for one in answers if one.escalated]
    paid = {one.routing.fallback for one in answers if one.routing}
    assert escalated and paid <= {"", "budget_spent", "big_model_unusable"}
    assert spent is not None and sum(one.cost or 0 for one in escalated) <= spent + 1e-12 <= 0.01
    assert tokens == pytest.approx(spent * 1e6)
    assert RunFolder(tmp_path / "out").chat_spend.exists()


def test_the_shipped_config_is_good_and_misspelt_keys_name_the_right_ones(tmp_path: Path) -> None:
    assert load_cascade_config(ROOT / "configs/serving/cascade.yaml").caps.wait_s == 30
    path = tmp_path / "c.yaml"
    path.write_text("big: {model: x, max_tokn: 3}\ntarget: 0.05\nadit: 0.1\ncaps: {wait: 3}\n")
    with pytest.raises(ConfigError) as caught:
        load_cascade_config(path)
    for near in ("big.max_tokens", "audit", "caps.wait_s"):
        assert f"did you mean {near}?" in str(caught.value)
    path.write_text("big: {model: x}\ntarget: 5\n")
    with pytest.raises(ConfigError, match="target: must be less than 1"):
        load_cascade_config(path)
    path.write_text("big: {model: x}\n")
    with pytest.raises(ConfigError, match=r"target: is needed, such as 0\.05; or set threshold by hand"):
        load_cascade_config(path)


def test_a_threshold_by_hand_needs_no_target(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("big: {model: x}\nthreshold: 0.5\n")
    assert load_cascade_config(path).target is None
    with cascade(threshold=0.5, target=None) as both:
        answer = both.ask("How many? 0.6")
    assert not answer.escalated and answer.routing and answer.routing.promise == "none: the threshold was set by hand"


def test_a_cascade_that_is_refused_leaves_no_folder(text_export: Path, tmp_path: Path) -> None:
    script, config = tmp_path / "replies.jsonl", tmp_path / "c.yaml"
    script.write_text(json.dumps({"match": "x", "replies": [{"text": "y"}]}) + "\n")
    big = {"backend": "scripted", "model": "script", "script": str(script)}
    row = {"student": str(text_export), "big": big, "target": 0.05, "folder": str(tmp_path / "out")}
    config.write_text(json.dumps(row))
    with pytest.raises(ConfigError, match="it was not calibrated; run aot calibrate"):
        load_cascade(config)
    assert not (tmp_path / "out").exists()
