"""What a text run's report shows beside its tables: single questions with every reply, and rounds of own chains."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aot.config import ArmConfig, RunConfig
from aot.errors import SourceError
from aot.records import THOUGHT_MODES, Prediction, Question, Trace, Verdict
from aot.reporting.gallery import gallery_sources
from aot.reporting.load import Json, RunData, read_json
from aot.reporting.numbers import clip_text, short
from aot.reporting.panels import TEXT_LIMIT, PanelSource, answer_view
from aot.reporting.tables import roles
from aot.reporting.text_results import MODES
from aot.reporting.training import StatTable

ROUNDS = "rounds.json"
ROUND_COLUMNS = {
    "round": "round",
    "teacher_chains": "chains of the teacher",
    "own_chains": "chains of its own",
    "chains_used": "chains used",
    "sampled": "replies sampled",
    "new_chains": "new chains found",
}

TRAINING_COLUMNS = {
    "trainable_parameters": "trainable parameters",
    "trainable_share": "share of all",
    "questions": "questions",
    "lessons": "lessons",
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
    """One question of the gallery: the teacher's chain, what the filters thought, and every reply."""

    anchor: str
    question: Question
    trace: Trace
    state: str
    text: str
    chain: str
    verdicts: tuple[Verdict, ...]
    replies: tuple[ReplyView, ...]


@dataclass(frozen=True)
class RoundsView:
    """Rounds of one arm that writes its own chains."""

    arm: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str


def text_gallery(data: RunData, config: RunConfig) -> list[TextPanel]:
    """Questions of every fate, as many as report.gallery says."""
    role = roles(config)
    sources = gallery_sources(data, limit=config.report.gallery, arm=role.main or role.control, filters=config.filter)
    return [_panel(source, anchor=f"t{number}") for number, source in enumerate(sources, start=1)]


def rounds_views(data: RunData, config: RunConfig) -> list[RoundsView]:
    """For each arm with a rounds.json: chains used, accuracy, and its share of what all the teacher's chains give."""
    views = []
    for arm in config.train.arms:
        path = data.run.arm(arm.name) / ROUNDS
        if not path.exists():
            continue
        rows = read_json(path)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise SourceError(f"{path} is no list of rounds; delete it and train the arm again")
        full = _full_arm(config, arm)
        views.append(_rounds_view(arm.name, rows, full=full, accuracy=_accuracy(data, config, full)))
    return views


def training_table(data: RunData, config: RunConfig) -> StatTable | None:
    """What each arm was trained on, and how much of the model changed; None before training."""
    rows = []
    for arm in config.train.arms:
        path = data.run.arm(arm.name) / "training.json"
        facts = read_json(path) if path.exists() else {}
        if isinstance(facts, dict) and facts:
            rows.append((arm.name, arm.tuning, *(_figure(facts.get(key)) for key in TRAINING_COLUMNS)))
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


def _rounds_view(arm: str, rows: Sequence[Json], *, full: str, accuracy: float | None) -> RoundsView:
    shown = [key for key in ROUND_COLUMNS if any(key in row for row in rows)]
    lines = tuple((*(str(row.get(key, "")) for key in shown), *_reached(row, accuracy)) for row in rows)
    columns = (*(ROUND_COLUMNS[key] for key in shown), "accuracy of this round's student", "share of the full accuracy")
    whole = f"{full}, which learns all of the teacher's chains, reaches {accuracy:.1%}." if accuracy is not None else ""
    return RoundsView(arm, columns, lines, whole or "No arm of this run learns all of the teacher's chains.")


def _reached(row: Json, full: float | None) -> tuple[str, str]:
    value = row.get("accuracy", row.get("accuracy_dev"))
    if not isinstance(value, int | float):
        return "not measured", ""
    told = f"{value:.1%}"
    if all(isinstance(row.get(key), int | float) for key in ("low", "high")):
        told += f" [{100 * row['low']:.1f}, {100 * row['high']:.1f}] n={row.get('n')}"
    return told, f"{value / full:.0%}" if full else ""


def _full_arm(config: RunConfig, like: ArmConfig) -> str:
    """The arm of the same order that learns all of the teacher's kept chains; empty if there is none."""
    arms = config.train.arms
    return next((a.name for a in arms if (a.order, a.chains, a.chain_share) == (like.order, "kept", 1)), "")


def _accuracy(data: RunData, config: RunConfig, arm: str) -> float | None:
    split = config.evaluate.splits[0]
    rows = (r for r in data.metrics if (r.arm, r.split, r.kind, r.metric) == (arm, split, "all", "accuracy"))
    return next((row.value for row in rows), None)
