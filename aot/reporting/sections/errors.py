"""Where answers are wrong, and how sure: single mistakes, confused next steps, and calibration."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from aot.display import counted
from aot.evaluation.baselines import NEXT_KINDS
from aot.evaluation.calibration import reliability_bins
from aot.evaluation.scoring import score
from aot.rationales.wording import phrase_key
from aot.records import ClipAnnotation, Prediction, Question
from aot.reporting.charts import Drawing, heat_map, reliability_chart
from aot.reporting.load import RunData
from aot.reporting.pivot import word_table
from aot.reporting.sections import Block, Section, absent, charts, note, tables, words
from aot.reporting.sections.gallery import reply_view
from aot.reporting.thumbs import Thumb, ThumbBook
from video_data.decode.sampling import uniform_times

MAX_HEAT_LABELS = 60
SHOWN_MISTAKES = 6
MISTAKE_FRAMES = 4
NO_ANSWER = "(no answer)"
OTHER = "(other words)"


class Confusion(NamedTuple):
    """Counts of next-step answers."""

    labels: tuple[str, ...]
    """Rows (gold) and columns (predicted), sorted; the columns go on with NO_ANSWER and OTHER."""
    counts: np.ndarray
    """Integers (len(labels), len(labels) + 2)."""

    def top_pairs(self, limit: int) -> list[tuple[str, str, int]]:
        """The most frequent (gold, predicted, count) off the diagonal, most frequent first."""
        columns = (*self.labels, NO_ANSWER, OTHER)
        off = ((i, j) for i, j in np.argwhere(self.counts) if i != j)
        pairs = [(self.labels[i], columns[j], int(self.counts[i, j])) for i, j in off]
        return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))[:limit]


def confusion(
    questions: Sequence[Question], predictions: Sequence[Prediction], *, vocabulary: Sequence[str] = ()
) -> Confusion:
    """Counts over the next-step questions that `predictions` (one arm, one mode) answer.

    Labels are the gold answers and the options of those questions, and `vocabulary`; any other answer is OTHER.
    """
    by_id = {question.id: question for question in questions if question.kind in NEXT_KINDS}
    answered = [(by_id[said.question_id], said.answer) for said in predictions if said.question_id in by_id]
    words = {label for question, _ in answered for label in (question.answer, *question.choices)}
    labels = tuple(sorted({*vocabulary, *words})) if answered else ()
    row_of = {label: index for index, label in enumerate(labels)}
    by_spelling = {phrase_key(label): index for label, index in row_of.items()}
    counts = np.zeros((len(labels), len(labels) + 2), dtype=np.int64)
    for question, answer in answered:
        column = len(labels) if answer is None else by_spelling.get(phrase_key(answer), len(labels) + 1)
        counts[row_of[question.answer], column] += 1
    return Confusion(labels, counts)


def confusion_blocks(data: RunData) -> list[Block]:
    """Next steps that the main arm took for others, in its first mode, for each split."""
    student = data.student(data.learning.lead)
    steps = sorted({s.label for annotation in data.annotations.values() for s in annotation.segments})
    said = [p for p in data.predictions if (p.arm, p.mode) == student]
    blocks = []
    for split in data.splits:
        table = confusion([q for q in data.evaluated if q.split == split], said, vocabulary=steps)
        if student is None or not table.labels:
            continue
        counts, size = table.counts, len(table.labels)
        used = [i for i in range(size) if counts[i].sum() or counts[:, i].sum()]
        busiest = sorted(used, key=lambda i: (-int(counts[i].sum() + counts[:, i].sum()), i))[:MAX_HEAT_LABELS]
        shown, total = sorted(busiest), int(counts.sum())
        columns = [*shown, size, size + 1]
        name = data.name(student)
        chart = heat_map(
            counts[shown][:, columns],
            rows=[table.labels[i] for i in shown],
            columns=[(*table.labels, NO_ANSWER, OTHER)[i] for i in columns],
            name=f"{name} on {split}: right step (rows) against answer (columns)",
        )
        pairs = [(gold, answer, str(times)) for gold, answer, times in table.top_pairs(10)]
        errors, hidden = total - int(counts[:, :size].trace()), len(used) - len(shown)
        blocks.append(Block("heading", f"{name}, {split}: {errors} of {total} wrong"))
        blocks += charts([chart])
        blocks += tables(word_table("", ("right step", "answered", "times"), pairs))
        blocks += note(f"{counted(hidden, 'rarer step')} left out of the map." if hidden else "")
    why = f"no student answered the next-step questions of {', '.join(data.splits)}"
    return blocks or [absent(data, "no next-step predictions of a trained student yet", "evaluate", why)]


def mistake_blocks(data: RunData, book: ThumbBook) -> list[Block]:
    """Wrong answers of the main student on the first split, the surest first; their frames are embedded into `book`."""
    teacher = {p.question_id: p for p in data.predictions if p.arm == "teacher"}
    said = _wrong(data, teacher)
    if not said:
        why = "no answer of the main student is wrong, or none is there"
        return [absent(data, "no answers of a trained student yet", "evaluate", why)]
    cards = []
    for sure, prediction in said[:SHOWN_MISTAKES]:
        question = data.questions[prediction.question_id]
        by_teacher = teacher.get(question.id)
        cards.append({
            "question": question,
            "frames": [(thumb, ()) for thumb in window_frames(data.annotations, question, book)],
            "reply": reply_view(prediction, question),
            "sure": sure,
            "teacher": reply_view(by_teacher, question) if by_teacher else None,
        })  # fmt: skip
    name = data.name((said[0][1].arm, said[0][1].mode))
    order = "the surest come first" if said[0][0] is not None else "those that its teacher got right come first"
    shown = f"{len(cards)} of the {counted(len(said), 'wrong answer')} of {name} on {data.first}; {order}."
    return [words(shown), Block("template", "mistakes.html.j2", values={"cards": cards})]


def _wrong(data: RunData, teacher: Mapping[str, Prediction]) -> list[tuple[float | None, Prediction]]:
    """Wrong answers and how sure the student was, in the first mode that tells it; first one of each group."""
    questions = {question.id: question for question in data.evaluated if question.split == data.first}
    rows = [p for p in data.predictions if p.arm == data.learning.lead and p.question_id in questions]
    modes = [p.mode for p in rows if _sureness(p) is not None] or [p.mode for p in rows]
    wrong = [p for p in rows if p.mode == modes[0] and not score(p, questions[p.question_id]).correct]
    ids = {p.question_id for p in wrong} & teacher.keys()
    right = {id_ for id_ in ids if score(teacher[id_], questions[id_]).correct}
    ranked = sorted(wrong, key=lambda p: (-(_sureness(p) or 0.0), p.question_id not in right, p.question_id))
    firsts = {questions[p.question_id].group: p.question_id for p in reversed(ranked)}
    ranked.sort(key=lambda p: firsts[questions[p.question_id].group] != p.question_id)
    return [(_sureness(p), p) for p in ranked]


def _sureness(prediction: Prediction) -> float | None:
    """The probability of the likeliest choice, or the mean one of its tokens; None where nothing was noted."""
    if prediction.choice_probs:
        return max(prediction.choice_probs)
    logprobs = prediction.token_logprobs
    return math.exp(sum(logprobs) / len(logprobs)) if logprobs else None


def window_frames(annotations: Mapping[str, ClipAnnotation], question: Question, book: ThumbBook) -> list[Thumb]:
    """A few frames from the stretch of a clip that a question is about, evenly spread."""
    if question.media is None:
        return []
    media, clip = question.media, annotations.get(question.media.uri)
    end_s = media.end_s if media.end_s is not None else clip.duration_s if clip else media.start_s + 1.0
    times_s = uniform_times(media.start_s, end_s, MISTAKE_FRAMES)
    book.load(media.uri, times_s)
    within_s = (end_s - media.start_s) / MISTAKE_FRAMES / 2
    near = (book.at(media.uri, time_s, within_s=within_s) for time_s in times_s)
    return list(dict.fromkeys(thumb for thumb in near if thumb))


def reliability(data: RunData) -> list[Drawing]:
    """For each split, stated probability against how often it was right."""
    drawings = []
    for split in data.splits:
        series = {}
        for arm in filter(None, ("base", data.learning.control, data.learning.main)):
            rows = [p for p in data.predictions if p.arm == arm and p.choice_probs]
            questions = {q.id: q for q in data.evaluated if q.split == split}
            rows = [p for p in rows if p.question_id in questions and p.mode == rows[0].mode]
            bins = reliability_bins([questions[p.question_id] for p in rows], rows)
            if bins:
                series[arm] = [(b.confidence, b.accuracy.value, b.accuracy.low, b.accuracy.high, b.size) for b in bins]
        drawings += [reliability_chart(series, colors=data.learning.colors, name=split)] if series else []
    return drawings


def _calibration(data: RunData) -> list[Block]:
    drawings = reliability(data)
    if not drawings:
        return [absent(data, "no option probabilities yet", "evaluate", "the predictions hold no probabilities")]
    return [
        words(
            "Options are scored by likelihood; a dot shows how often the likeliest option was right, with its 95% "
            "interval. A perfectly calibrated student lies on the dashed line."
        ),
        *charts(drawings),
        *note(
            "The expected calibration error of each student is in the tables above (ten equal bins; biased upwards in "
            "small samples)."
        ),
    ]


SECTIONS = (
    Section(
        "confusion", "Confusion", "Which next steps are confused", confusion_blocks,
        applies=lambda data: any(q.kind in NEXT_KINDS for q in data.evaluated), needs="questions about the next step",
    ),
    Section(
        "calibration", "Calibration", "Calibration", _calibration,
        applies=lambda data: any(q.choices for q in data.evaluated), needs="questions with options",
    ),
)  # fmt: skip
