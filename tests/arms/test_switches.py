"""Switches that change how the same chains are learned: each against its formula, by hand, and refused where idle."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from aot.arms.choice import Likelihood, likeliest, publish_likelihoods, require_choice
from aot.arms.jobs import LIKELIHOODS, Job, job_named, plan_jobs
from aot.arms.lessons import Material, answer_lesson, key_names, ordered_lessons, refused_lesson, shared_chains
from aot.arms.own_chains import REFUSED, round_lessons, sample_round
from aot.arms.train import do, twins
from aot.config import ArmConfig, RunConfig, parse_arm, parse_config
from aot.errors import ConfigError, GuardStop
from aot.files.run_folder import RunFolder, publish_rows, read_rows
from aot.records import Finding, Lesson, Prediction, Question, Step, Trace
from aot.student.model.loading import load_student
from aot.student.rows.collate import Collator
from aot.student.rows.examples import Example
from aot.student.rows.packing import EncodedRow
from aot.student.rows.replies import encode_lesson, key_spans, weighted
from aot.student.rows.tokens import Renderer
from aot.student.train.loss import picked_loss
from text_cot.datasets.toy_math import draw_toy_math
from text_cot.teacher.procedural import solve

QUESTION = Question(
    id="q", dataset="d", split="train", kind="sum", text="1 + 2 + 3 ?", answer="6", answer_type="integer", group="q"
)
STEPS = "1 + 2 = 3\n3 + 3 = 6"
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% if m.role == 'assistant' %}<end>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    """One token for each word, mark, digit, blank and line end."""
    said = (
        "Answer directly Reason then answer explain Choose how to chop onion first one What is the next step tools Use"
    )
    pieces = ["<pad>", "<unk>", "<user>", "<assistant>", "<end>", *said.split(), *"0123456789+-=.,:;?<>_\n []", "s"]
    vocab = {token: i for i, token in enumerate(dict.fromkeys(pieces))}
    made = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[A-Za-z]+|\d|\s|[^\w\s]"), "isolated")
    return Renderer(
        PreTrainedTokenizerFast(
            tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", eos_token="<end>",
            additional_special_tokens=["<user>", "<assistant>"], chat_template=TEMPLATE,
        )
    )  # fmt: skip


def arm(**more: Any) -> ArmConfig:
    return parse_arm({"name": "arm", "order": "pre", **more})


def trace(rationale: str = f"{STEPS}\nAnswer: 6", sample: int = 0, *labels: str) -> Trace:
    seen = tuple(Finding(kind="event", label=label) for label in labels)
    return Trace(
        question_id="q", sample_index=sample, teacher="t", rationale=rationale, answer="6", status="ok",
        steps=(Step(index=1, findings=seen),) if labels else (), config_digest="0",
    )  # fmt: skip


def lessons(chain: Trace | None = None, **more: Any) -> list[Lesson]:
    return ordered_lessons({"q": QUESTION}, {"q": chain or trace()}, arm(**more))


def test_two_lessons_of_one_chain_have_together_the_very_ids_of_the_whole_one(renderer: Renderer) -> None:
    (whole,), (rationale, answer) = lessons(), lessons(parts="apart")
    rows = [encode_lesson(renderer, QUESTION, one) for one in (whole, rationale, answer)]
    assert (answer.forced, answer.label) == (f"{STEPS}\nAnswer:", " 6")
    assert rows[1].prompt_ids == rows[0].prompt_ids and rows[1].num_label == 0
    assert rows[2].prompt_ids == rows[1].prompt_ids + rows[1].completion_ids
    assert rows[1].completion_ids + rows[2].completion_ids == rows[0].completion_ids
    assert rows[2].num_label == len(rows[2].completion_ids) == 3, "blank, 6 and the end: the label term, and all of it"


def test_a_chain_of_nothing_but_its_answer_stays_one_lesson() -> None:
    assert lessons(trace("Answer: 6"), parts="apart") == lessons(trace("Answer: 6"))


def test_rationale_and_answer_apart_are_means_of_their_own(renderer: Renderer) -> None:
    """(1 - alpha) L_r + alpha L_a of CasCoD, up to a common factor: the answer weighs as much as all of the steps."""
    rows = [encode_lesson(renderer, QUESTION, one) for one in lessons(parts="apart")]
    batch = Collator(renderer, 0, packed=True, pack_tokens=64)([Example("q", tuple(rows))])
    assert batch["num_supervised"].tolist() == [3, len(rows[1].prompt_ids) - len(rows[0].prompt_ids)]


@pytest.mark.parametrize(
    ("text", "names", "wanted"),
    [
        ("0.4s chop onion [1].", ("chop onion",), ["0.4s", "chop onion"]),
        ("12 + 7.5 = 19,5", (), ["12", "7.5", "19,5"]),
        ("Chop onion first.", ("onion", "chop onion"), ["Chop onion"]),
        ("2.4s-5.1s x2 [12] 1/2", (), ["2.4s", "5.1s", "1/2"]),
        ("nothing here", ("fry",), []),
    ],
)
def test_names_numbers_and_times_are_keys_and_citations_are_none(
    text: str, names: tuple[str, ...], wanted: list[str]
) -> None:
    assert [text[a:b] for a, b in key_spans(text, names)] == wanted


def test_the_names_of_a_chain_are_what_its_tools_made_out_and_the_options() -> None:
    said = QUESTION.model_copy(update={"choices": ("fry egg", "6")})
    assert key_names(said, trace("x", 0, "chop onion", "chop onion")) == ("chop onion", "fry egg", "6")


def test_key_tokens_weigh_what_the_config_says_and_others_1(renderer: Renderer) -> None:
    (one,) = lessons(trace("first chop onion 12\nAnswer: 6", 0, "chop onion"), key_weight=3)
    row = weighted(renderer, one, encode_lesson(renderer, QUESTION, one), keys=3.0, refused=0.0)
    by_token = [(renderer.tokenizer.decode([i]), w) for i, w in zip(row.completion_ids, row.weights, strict=True)]
    heavy = [token for token, weight in by_token if weight == 3]
    assert heavy == ["chop", " ", "onion", "1", "2", "6"]
    assert {weight for _, weight in by_token} == {1.0, 3.0}
    assert weighted(renderer, one, encode_lesson(renderer, QUESTION, one), keys=1.0, refused=0.0).weights == ()


def test_key_tokens_of_an_explanation_leave_the_answer_before_it_alone(renderer: Renderer) -> None:
    (one,) = lessons(trace("first chop onion 12\nAnswer: 6", 0, "chop onion"), key_weight=3, order="post")
    row = weighted(renderer, one, encode_lesson(renderer, QUESTION, one), keys=3.0, refused=0.0)
    heavy = [i for i, weight in enumerate(row.weights) if weight == 3]
    assert len(heavy) == 5 and min(heavy) > row.num_label, "chop, blank, onion, 1 and 2"


def test_key_tokens_of_a_rationale_learned_apart_are_those_of_the_whole(renderer: Renderer) -> None:
    chain = trace("first chop onion 12\nAnswer: 6", 0, "chop onion")
    (whole,), (begun, _) = lessons(chain, key_weight=3), lessons(chain, key_weight=3, parts="apart")
    rows = [
        weighted(renderer, one, encode_lesson(renderer, QUESTION, one), keys=3.0, refused=0.0) for one in (whole, begun)
    ]
    assert rows[1].weights == rows[0].weights[: len(rows[1].weights)] and len(rows[1].weights) > 8


LOGITS = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 1.0, 1.0]])
TARGETS = torch.tensor([0, 1, 2, 0])
PROBS = torch.tensor([0.786986, 0.576117, 0.155362, 1 / 3])
"""e^2 / (e^2 + 2), e / (e + 2), e^-1 / (e^-1 + 2), 1/3."""


def loss(**more: Any) -> tuple[float, torch.Tensor]:
    """The loss of four rationale tokens, and its gradient by their logits."""
    logits = LOGITS.clone().requires_grad_()
    made = picked_loss(
        logits, TARGETS, of_rationale=torch.tensor([True] * 4), num_supervised=torch.tensor([0, 4]),
        rationale_weight=1.0, **more,
    ).total  # fmt: skip
    made.backward()
    assert logits.grad is not None
    return float(made.detach()), logits.grad


def test_own_probability_is_a_factor_of_the_loss_and_of_its_gradient_and_has_none_itself() -> None:
    plain, slope = loss()
    weighed, weighed_slope = loss(weighting="own_probability")
    assert plain == pytest.approx(float(-PROBS.log().mean()), rel=1e-5)
    assert weighed == pytest.approx(float((-PROBS * PROBS.log()).mean()), rel=1e-5)
    assert torch.allclose(weighed_slope, slope * PROBS[:, None], atol=1e-6)


def test_a_refused_reply_is_pushed_down_alpha_times_as_strongly_as_one_is_pulled_up(renderer: Renderer) -> None:
    """REDI: the mean of -log p over right tokens and of +alpha log p over wrong ones, here of two each."""
    wrong = refused_lesson(QUESTION, "1 + 2 = 4\nAnswer: 4")
    row = weighted(renderer, wrong, encode_lesson(renderer, QUESTION, wrong), keys=1.0, refused=0.4)
    assert set(row.weights) == {-0.4} and len(row.weights) == len(row.completion_ids)
    weights = torch.tensor([1.0, 1.0, -0.4, -0.4])
    total, slope = loss(weights_N=weights)
    log_p = PROBS.log()
    assert total == pytest.approx(float(-(log_p[0] + log_p[1]) + 0.4 * (log_p[2] + log_p[3])) / 4, rel=1e-5)
    assert torch.allclose(slope, loss()[1] * weights[:, None], atol=1e-6)
    assert slope[3, 0] > 0, "a step against it makes the wrong token less likely"


def test_the_likeliest_chain_is_learned_and_the_first_of_two_alike(tmp_path: Path) -> None:
    chains = {"q": [trace(f"{i}\nAnswer: 6", i) for i in range(4)], "r": [trace("x\nAnswer: 6", 0)]}
    values = (-3.0, -0.5, None, -0.5)
    rows = [Likelihood(question_id="q", sample_index=i, log_prob=value) for i, value in enumerate(values)]
    publish_rows(tmp_path / "likelihoods.jsonl", rows)
    assert likeliest(chains, tmp_path / "likelihoods.jsonl") == {"q": chains["q"][1]}


def test_a_choice_where_no_question_has_two_chains_is_an_error(tmp_path: Path) -> None:
    publish_rows(tmp_path / "likelihoods.jsonl", [])
    with pytest.raises(GuardStop, match="none has two"):
        require_choice([tmp_path / "likelihoods.jsonl", tmp_path / "gone.jsonl"], arm="a")


TEXT = {"data": {"dataset": "toy_math"}, "teacher": {"planner": "procedural"}, "student": {"base": "tiny-text"}}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"order": "post", "parts": "apart"}, "order: both or pre"),
        ({"order": "pre", "negative_weight": 0.5}, "chains: self"),
        ({"order": "pre", "chains": "shuffled", "choice": "likelihood"}, "chains: kept or self"),
        ({"order": "answers_only", "key_weight": 2}, "key_weight"),
        ({"order": "pre", "chains": "self", "negative_weight": 1.5}, "at most 1.0"),
    ],
)
def test_a_switch_that_controls_nothing_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_config({**TEXT, "train": {"arms": [{"name": "a", **settings}]}}, source="test")


def test_arms_share_one_look_and_one_weighing(tmp_path: Path) -> None:
    arms = [
        {"name": "plain_a", "order": "pre", "chains": "plain"}, {"name": "plain_b", "order": "pre", "chains": "plain"},
        {"name": "best", "order": "pre", "choice": "likelihood"},
        {"name": "own", "order": "pre", "chains": "self", "choice": "likelihood", "negative_weight": 0.2},
    ]  # fmt: skip
    train = {"arms": arms, "own_chains": {"rounds": 1}}
    jobs = plan_jobs(RunFolder(tmp_path), parse_config({**TEXT, "train": train}, source="test"))
    names = [job.name for job in jobs]
    assert [name for name in names if name.endswith((":look", ":weigh"))] == ["plain_a:look", "best:weigh"]
    reads = {job.name: {path.relative_to(tmp_path).as_posix() for path in job.inputs} for job in jobs}
    assert "student/plain_a/plain.jsonl" in reads["plain_b:lessons"] & reads["plain_a:lessons"]
    assert "student/best/likelihoods.jsonl" in reads["own/round0:lessons"] & reads["best:lessons"]


def test_the_answer_lesson_gives_the_whole_rationale_and_asks_for_the_answer() -> None:
    made = answer_lesson(QUESTION, trace())
    assert (made.forced, made.label, made.rationale) == (f"{STEPS}\nAnswer:", " 6", "")


def test_rows_of_weight_stay_what_they_are_in_a_batch(renderer: Renderer) -> None:
    row = EncodedRow((5, 6), (7, 8), weights=(-0.4, 1.0))
    batch = Collator(renderer, 0, packed=False)([Example("q", (row, EncodedRow((5,), (6,))))])
    assert torch.allclose(batch["weights"], torch.tensor([[0.0, 0.0, -0.4, 1.0], [1.0, 1.0, 0.0, 0.0]]))


OWN = {"name": "own", "order": "pre", "chains": "self", "chain_share": 0.2, "negative_weight": 0.3}


@pytest.fixture
def sampled(tmp_path: Path) -> tuple[RunFolder, RunConfig, Job, Material]:
    """A run whose first round has written its replies already, so that no student is asked."""
    raw = {
        **TEXT, "data": {"dataset": "toy_math", "math": {"train": 10, "test": 1, "test_ood": 1}},
        "train": {"arms": [OWN], "own_chains": {"rounds": 1, "samples": 4}}, "evaluate": {"splits": ["test"]},
    }  # fmt: skip
    config = parse_config(raw, source="test")
    drawn = draw_toy_math(config.data.math, seed=0)
    questions = {q.id: q for q in drawn if q.split == "train"}
    chains = {i: solve(q, granularity="fine", seed=0, config_digest="x") for i, q in questions.items()}
    material = Material(questions, {i: {"full": chain} for i, chain in chains.items()}, chains, len(chains))
    run = RunFolder(tmp_path)
    publish_rows(run.questions, drawn)
    job = job_named(plan_jobs(run, config), "own/round0:sample")
    given = shared_chains(material, config.train.arms[0], seed=0)
    samples: list[Prediction] = []
    for number, (question_id, chain) in enumerate((i, c) for i, c in chains.items() if i not in given):
        coarse = solve(questions[question_id], granularity="coarse", seed=0, config_digest="x")
        cut = chain.rationale.partition("\n")[0]
        wrong = chain.rationale.rpartition(" ")[0] + " 99999"
        texts = [cut, wrong, chain.rationale, coarse.rationale] if number else [cut, wrong, wrong, wrong]
        samples += [
            Prediction(
                question_id=question_id, arm="own/round0", mode="reason", raw_text=text, answer=None,
                finish_reason="length" if text == cut else "stop",
            )
            for text in texts
        ]  # fmt: skip
    folder = run.arm("own/round0")
    publish_rows(folder / "samples.jsonl", samples)
    answered = Prediction(question_id="t", arm="own/round0", mode="reason", raw_text="1", answer="1")
    tests = [q for q in drawn if q.split == "test"]
    publish_rows(folder / "test.jsonl", [answered.model_copy(update={"question_id": q.id}) for q in tests])
    return run, config, job, material


def test_refused_chains_are_kept_and_one_stands_beside_each_right_one(
    sampled: tuple[RunFolder, RunConfig, Job, Material],
) -> None:
    run, config, job, material = sampled
    sample_round(run, config, job, material)
    refused = list(read_rows(run.arm("own/round0") / REFUSED, Prediction))
    open_ids = [i for i in material.samples if i not in shared_chains(material, job.arm, seed=0)]
    assert len(refused) == len(open_ids) + 2, "one of each question, three of the unsolved one, and none that was cut"
    last = job_named(plan_jobs(run, config), "own:lessons")
    lessons = round_lessons(run, last, material, seed=0)
    wrong = [one for one in lessons if one.form == "refused"]
    assert [one.question_id for one in wrong] == open_ids[1:], "nothing is pushed down where nothing right is known"
    assert all(one.rationale.endswith("99999") for one in wrong)
    assert len(lessons) - len(wrong) == len(material.samples) - 1
    publish_rows(run.arm("own/round0") / REFUSED, [])
    with pytest.raises(GuardStop, match="none of its rounds wrote one"):
        round_lessons(run, last, material, seed=0)


def test_of_verified_chains_the_base_picks_the_one_that_leads_it_to_the_answer(
    sampled: tuple[RunFolder, RunConfig, Job, Material],
) -> None:
    """The likelihood that it picks by is the sum over the answer's tokens that the bare model gives."""
    run, config, job, material = sampled
    arm = parse_arm({**OWN, "choice": "likelihood"})
    sample_round(run, config, replace(job, arm=arm, student=arm.model_copy(update={"name": "own/round0"})), material)
    rows = list(read_rows(run.arm("own/round0") / LIKELIHOODS, Likelihood))
    chosen = {t.question_id: t for t in read_rows(run.arm("own/round0") / "kept.jsonl", Trace)}
    assert rows and len(rows) == 2 * len(chosen)
    for one, two in zip(rows[::2], rows[1::2], strict=True):
        assert one.log_prob is not None and two.log_prob is not None
        best = one if one.log_prob >= two.log_prob else two
        assert chosen[one.question_id].sample_index == best.sample_index
    student = load_student("tiny-text", config=config.student)
    question = material.questions[rows[0].question_id]
    chain = material.chains[question.id]  # the fine one, which is its third reply
    row = encode_lesson(student.renderer, question, answer_lesson(question, chain))
    ids = torch.tensor([row.prompt_ids + row.completion_ids])
    with torch.inference_mode():
        log_probs = student.model(ids).logits[0].float().log_softmax(-1)
    start = len(row.prompt_ids)
    wanted = sum(float(log_probs[start - 1 + i, token]) for i, token in enumerate(row.completion_ids))
    assert rows[0].log_prob == pytest.approx(wanted, abs=1e-3)


def test_a_weight_of_keys_where_no_lesson_has_one_is_an_error(tmp_path: Path) -> None:
    words = {"order": "pre", "key_weight": 2}
    config = parse_config({**TEXT, "train": {"arms": [{"name": "a", **words}]}}, source="test")
    said = QUESTION.model_copy(update={"answer": "yes", "answer_type": "yes_no"})
    chain = trace("so it is\nAnswer: yes").model_copy(update={"answer": "yes"})
    material = Material({"q": said}, {"q": {"full": chain}}, {"q": chain}, 1)
    job = job_named(plan_jobs(RunFolder(tmp_path), config), "a:lessons")
    with pytest.raises(GuardStop, match="key_weight 2, and none of its 1 lessons"):
        do(RunFolder(tmp_path), config, job, material)


def test_what_was_weighed_before_a_kill_is_not_weighed_again(tmp_path: Path) -> None:
    chains = {"q": [trace("1\nAnswer: 6", 0), trace("2\nAnswer: 6", 1)]}
    rows = [Likelihood(question_id="q", sample_index=i, log_prob=-1.0 - i) for i in range(2)]
    publish_rows(tmp_path / "likelihoods.jsonl", rows)

    def never(questions: list[Question]) -> Any:
        raise AssertionError("the base was opened")

    for path in (tmp_path / "likelihoods.jsonl", tmp_path / "single.jsonl"):
        only = {"q": chains["q"][:1]} if path.name == "single.jsonl" else chains
        publish_likelihoods(path, only, {"q": QUESTION}, open_base=never, batch_size=4)
    assert list(read_rows(tmp_path / "likelihoods.jsonl", Likelihood)) == rows
    assert list(read_rows(tmp_path / "single.jsonl", Likelihood)) == [], "nothing to weigh, and the base stays away"


def test_arms_that_differ_in_the_config_and_learned_the_same_are_told_apart_from_others(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    ways = [
        {"name": "aot"},
        {"name": "plain", "chains": "plain"},
        {"name": "keys", "key_weight": 2.0},
        {"name": "more"},
    ]
    arms = [parse_arm({"order": "pre", **way}) for way in ways]
    for one, text in zip(arms, ("same", "same", "same", "other"), strict=True):
        run.arm(one.name).mkdir(parents=True)
        (run.arm(one.name) / "lessons.jsonl").write_text(text, encoding="utf-8")
    assert twins(run, arms) == [("aot", "plain")]
