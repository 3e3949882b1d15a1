"""What a text run's report shows beside its tables: single questions with every reply, and rounds of own chains."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import ConfigDict, TypeAdapter, ValidationError

from aot.config import ArmConfig, RunConfig
from aot.errors import SourceError
from aot.evaluation.intervals import Interval, ratio_of_shares
from aot.records import THOUGHT_MODES, MetricRow, Prediction, Question, Record, Trace, Verdict
from aot.reporting.gallery import gallery_sources
from aot.reporting.load import RunData, read_json
from aot.reporting.numbers import clip_text, percent, short
from aot.reporting.panels import TEXT_LIMIT, PanelSource, answer_view
from aot.reporting.tables import roles
from aot.reporting.text_results import MODES
from aot.reporting.training import StatTable

ROUNDS = "rounds.json"
ROUND_COLUMNS = (
    "round", "chains used", "of the teacher", "of its own", "replies sampled", "new chains found", "accuracy",
    "cut off by the cap", "share of the full accuracy",
)  # fmt: skip
TRAINING_COLUMNS = {
    "trainable_parameters": "trainable parameters",
    "trainable_share": "share of all",
    "questions": "questions",
    "lessons": "lessons",
    "rationales_seen": "rationales seen",
    "max_steps": "steps",
    "packing": "rows",
}


@dataclass(frozen=True)
class ReplyView:
    """What one arm said to a question."""

    arm: str
    mode: str
    said: str
    mark: str
    """right, wrong, none or failed."""
    text: str
    tokens: int
    chose: str
    """Of an adaptive student: the way it chose and its probability of each; else empty."""


@dataclass(frozen=True)
class TextPanel:
    """One question of the gallery: the teacher's chain, the verdicts of the filters, and every reply."""

    anchor: str
    question: Question
    trace: Trace
    state: str
    planted: str
    text: str
    chain: str
    verdicts: tuple[Verdict, ...]
    replies: tuple[ReplyView, ...]


class RoundRow(Record):
    """One round in the rounds.json of an arm that writes its own chains; its last one may be of the final student."""

    model_config = ConfigDict(extra="ignore")

    round: int
    teacher_chains: int
    own_chains: int
    sampled: int
    new_chains: int
    split: str
    accuracy: float
    low: float
    high: float
    n: int
    truncated_rate: float | None = None

    @property
    def reached(self) -> Interval:
        """Accuracy of this round's student; the number of clusters is unknown and taken as that of questions."""
        return Interval(value=self.accuracy, low=self.low, high=self.high, n=self.n, num_clusters=self.n)


@dataclass(frozen=True)
class RoundsView:
    """Rounds of one arm that writes its own chains."""

    arm: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str


def text_gallery(data: RunData, config: RunConfig) -> list[TextPanel]:
    """Questions of every fate, as many as report.gallery says."""
    role = roles(data.learning, config)
    sources = gallery_sources(data, limit=config.report.gallery, arm=role.main or role.control, filters=config.filter)
    return [_panel(source, anchor=f"t{number}") for number, source in enumerate(sources, start=1)]


def rounds_views(data: RunData, config: RunConfig) -> list[RoundsView]:
    """For each arm with a rounds.json: chains used, accuracy, and its share of what all the teacher's chains give.

    Raises:
        SourceError: a rounds.json is no list of rounds.
    """
    views = []
    for arm in config.train.arms:
        path = data.run.arm(arm.name) / ROUNDS
        if not path.exists():
            continue
        try:
            rows = TypeAdapter(list[RoundRow]).validate_python(read_json(path))
        except ValidationError as error:
            raise SourceError(f"{path} is no list of rounds ({error}); delete it and train the arm again") from error
        if rows:
            views.append(_rounds_view(arm.name, rows, _accuracy(data, _full_arm(config, arm), rows[0].split)))
    return views


def training_table(data: RunData, config: RunConfig) -> StatTable | None:
    """What each arm was trained on, and how much of the model changed; None before training."""
    rows = []
    for arm in config.train.arms:
        path = data.run.arm(arm.name) / "training.json"
        facts = read_json(path) if path.exists() else {}
        if isinstance(facts, dict) and facts:
            name = data.learning.shown(arm.name, config.train.arms)
            rows.append((name, arm.tuning, *(_figure(facts.get(key)) for key in TRAINING_COLUMNS)))
    columns = ("arm", "tuning", *TRAINING_COLUMNS.values())
    return StatTable("What each arm learned from", columns, tuple(rows)) if rows else None


def _figure(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else short(value)


def _panel(source: PanelSource, *, anchor: str) -> TextPanel:
    return TextPanel(
        anchor=anchor,
        question=source.question,
        trace=source.trace,
        state=source.state,
        planted=source.planted,
        text=clip_text(source.question.text, TEXT_LIMIT),
        chain=clip_text(source.trace.rationale, TEXT_LIMIT),
        verdicts=tuple(sorted(source.verdicts, key=lambda verdict: verdict.keep)),
        replies=tuple(_replies(source.predictions, source.question)),
    )


def _replies(predictions: Iterable[Prediction], question: Question) -> Iterable[ReplyView]:
    for prediction in predictions:
        view = answer_view(prediction, question)
        mode = "" if prediction.mode == "none" else MODES.get(prediction.mode, prediction.mode)
        yield ReplyView(
            view.arm, mode, clip_text(view.said, 200), view.mark, view.text, prediction.completion_tokens,
            _chose(prediction),
        )  # fmt: skip


def _chose(prediction: Prediction) -> str:
    if not prediction.thought:
        return ""
    probs = zip(THOUGHT_MODES, prediction.thought_probs, strict=False)
    told = ", ".join(f"{way} {probability:.0%}" for way, probability in probs)
    return f"chose {prediction.thought}" + (f" ({told})" if told else "")


def _rounds_view(arm: str, rows: Sequence[RoundRow], full: MetricRow | None) -> RoundsView:
    note = "No arm of this run learns all of the teacher's chains in this way."
    if full is not None:
        note = (
            f"{full.arm}, which learns all of the teacher's chains, reaches {percent(full)} on {full.split}. The "
            "share is the ratio of the two accuracies, with the interval of Donner and Zou (2012), which takes them as "
            "independent."
        )
    lines = [_round_line(row, full, is_last=row is rows[-1]) for row in rows]
    return RoundsView(arm, ROUND_COLUMNS, tuple(lines), note)


def _round_line(row: RoundRow, full: MetricRow | None, *, is_last: bool) -> tuple[str, ...]:
    name = "final student" if is_last and row.sampled == 0 else str(row.round)
    counts = (row.teacher_chains + row.own_chains, row.teacher_chains, row.own_chains, row.sampled, row.new_chains)
    reached = row.reached
    share = ratio_of_shares(reached, full.interval) if full else None
    cut = "not known" if row.truncated_rate is None else f"{row.truncated_rate:.1%}"
    return name, *(f"{count:,}" for count in counts), _told(reached), cut, _told(share) if share else "not known"


def _told(share: Interval) -> str:
    return f"{share.value:.1%} [{100 * share.low:.1f}, {100 * share.high:.1f}] n={share.n}"


def _full_arm(config: RunConfig, like: ArmConfig) -> str:
    """The arm that thinks first and learns all of the teacher's kept chains, otherwise like `like`; empty if none."""
    wanted = ("pre", "kept", 1, like.tuning, like.seed)
    arms = config.train.arms
    return next((a.name for a in arms if (a.order, a.chains, a.chain_share, a.tuning, a.seed) == wanted), "")


def _accuracy(data: RunData, arm: str, split: str) -> MetricRow | None:
    rows = (r for r in data.metrics if (r.arm, r.split, r.kind, r.metric) == (arm, split, "all", "accuracy"))
    return next(rows, None)
