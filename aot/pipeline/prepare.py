"""The prepare stage: questions and annotations as records, every clip decoded once into frame shards.

A clip or question that cannot be used becomes a Refusal row; the rest goes on.
"""

import logging
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from string import ascii_uppercase

from pydantic import ValidationError

from aot.answers import is_right, mixed_options, parse_answer
from aot.config import ANNOTATED_DATASETS, COUNTED, EMBEDDED, ClipData, KitchenData, VideoRun
from aot.display import counted
from aot.errors import SourceError
from aot.files.jsonl import MAX_QUESTION_CHARS, Refused, RefusedRow, RowProblem
from aot.files.run_folder import RunFolder, publish_rows, run_root
from aot.files.shards import Shard
from aot.pipeline.source import clips_root, labels_source, require_questions, toy_counts, usable_source
from aot.records import ClipAnnotation, MediaRef, Question, Refusal
from aot.run_records import RecipeCard
from aot.teacher.tools.book import ReadCards, read_cards, without_answers
from aot.teacher.tools.procedure import procedures
from video_data.datasets.rows import AnnotationRow, CardRow, QuestionRow, VideoData
from video_data.decode.budgets import Sampling
from video_data.store.shards import FrameStore

log = logging.getLogger(__name__)
Progress = Callable[[int, int], None]
Clip = tuple[str, Path]
"""A clip's uri and file."""
NEAR_DUPLICATE_BITS = 0.06
"""Share of differing fingerprint bits below which two clips count as one; unrelated clips differ in about half."""


def prepare(run: RunFolder, config: VideoRun, progress: Progress, source: VideoData | None = None) -> dict[str, int]:
    """Publish questions, annotations, refusals and frame shards of a data set, read already or now; returns counts.

    A run that is one shard of many makes its share of the frame shards, and publishes nothing else: what needs sight of
    all clips, such as the look for near duplicates, is left to the command that puts the shards together.
    """
    from video_data.datasets.plain import check_windows

    source = source or usable_source(config, run)
    for note in source.notes:
        log.info("%s", note)
    refused = _decode(run, config, source.clips, progress)
    if config.run.shard is not None:
        return {"refused": len(refused)}
    store = FrameStore(run.frames)
    refusals = refusals_of(source.refused) + refusals_of(refused, boundary="decode")
    clips = {uri: store.clip(uri) for uri in store.uris()}
    durations_s = {uri: clip.duration_s for uri, clip in clips.items()}
    times_s = {uri: clip.times_s for uri, clip in clips.items()}
    partial = {uri: clip for uri, clip in clips.items() if clip.verdict == "partial"}
    refusals += [Refusal(item=uri, boundary="decode", reason="partial", detail=c.note) for uri, c in partial.items()]
    spans_s = {uri: clip.spans_s for uri, clip in partial.items()}
    checked = check_windows(source.questions, durations_s, times_s=times_s, partial_spans_s=spans_s)
    refusals += refusals_of(checked.refused)
    if checked.num_cut:
        log.info("%s past the end of the clip: cut there", counted(checked.num_cut, "window"))
    questions, more = usable_questions(checked.questions, dataset=config.data.dataset)
    leaks = _near_duplicates(store, [*source.annotations, *checked.questions])
    kept = [q for q in questions if not (q.split == "train" and q.media and q.media.uri in leaks)]
    refusals += more + [
        Refusal(item=uri, boundary="source", reason="near_duplicate_of_test", detail=other)
        for uri, other in leaks.items()
    ]
    require_questions(kept, refusals, config=config, where=clips_root(config.data, run))
    annotations = (row for row in source.annotations if row.uri not in leaks)  # or its truth would reach the teacher
    truth = [ClipAnnotation.model_validate(asdict(row)) for row in annotations]
    publish_rows(run.annotations, truth)
    counts = {"clips": len(source.clips), "questions": len(kept)}
    if config.data.recipes:
        book = recipe_book(config.data, source.cards, truth, held_out=[q for q in kept if q.split != "train"])
        refusals += refusals_of(book.refused, boundary="book")
        publish_rows(run.book, book.cards)
        counts["cards"] = len(book.cards)
    publish_rows(run.refusals, refusals)
    publish_rows(run.questions, kept)
    counts["refused"] = len(refusals)
    return {**counts, "cut_windows": checked.num_cut} if checked.num_cut else counts


def recipe_book(
    data: ClipData, drawn: Sequence[CardRow], truth: Iterable[ClipAnnotation], *, held_out: Sequence[Question]
) -> ReadCards:
    """The recipe book of a run: the synthetic kitchen's, one counted from the training annotations, or a folder's.

    Raises:
        SourceError: the folder is missing or holds no card.
    """
    drawn_cards = tuple(RecipeCard.model_validate(asdict(row)) for row in drawn)
    if data.recipes == EMBEDDED:
        return ReadCards(drawn_cards)
    if data.recipes == COUNTED:
        counted_steps = procedures(truth)
        read = ReadCards(tuple(RecipeCard(name=task or "task", steps=steps) for task, steps in counted_steps.items()))
    else:
        read = read_cards(Path(str(data.recipes)))
    clean = without_answers(read.cards, held_out)
    beside = tuple(card for card in drawn_cards if card.questions)
    return ReadCards((*clean.cards, *beside), (*read.refused, *clean.refused))


def _decode(run: RunFolder, config: VideoRun, clips: Sequence[Clip], progress: Progress) -> list[RefusedRow]:
    """The clips that could not be stored; all others of this run, or of its shard, are in the frame store now."""
    from video_data.store.prepare import decode_clips, shard_groups

    frames, shard = config.frames, Shard.of(config.run.shard)
    only = None if config.run.shard is None else shard.owns_number
    groups = shard_groups(clips, shard_clips=frames.shard_clips)
    mine = {uri for number, group in enumerate(groups) if shard.owns_number(number) for uri, _ in group}
    if isinstance(config.data, KitchenData):
        _draw_kitchen_clips(config, config.data, run, progress, only=mine)
    refused = decode_clips(
        clips,
        out=run.frames,
        sampling=Sampling.of(frames, stream=config.data.stream),
        shard_clips=frames.shard_clips,
        workers=frames.workers,
        progress=progress,
        only=only,
    )
    if only and not mine:
        files = counted(len(groups), "file")
        log.info("shard %s: nothing to do: %d clips go into %s of frames (frames.shard_clips: %d), and none of them is "
                 "of this shard", shard, len(clips), files, frames.shard_clips)  # fmt: skip
    return refused


def _draw_kitchen_clips(
    config: VideoRun, data: KitchenData, run: RunFolder, progress: Progress, *, only: Container[str]
) -> None:
    from video_data.kitchen.dataset import draw_toy_kitchen

    draw_toy_kitchen(
        clips_root(data, run),
        seed=config.seed,
        counts=toy_counts(data),
        workers=config.frames.workers,
        progress=progress,
        only=only,
    )


def labelled_questions(config: VideoRun, config_path: Path) -> tuple[list[Question], list[Refusal]]:
    """The questions of a data set whose clips need not be here, and rows that make none."""
    source = labels_source(config, RunFolder(run_root(config, config_path=config_path)))
    questions, refused = usable_questions(source.questions, dataset=config.data.dataset)
    return questions, refusals_of(source.refused) + refused


def refusals_of(rows: Iterable[Refused], *, boundary: str = "source") -> list[Refusal]:
    """Rows that a reader set aside, as a run folder keeps them."""
    return [Refusal(item=row.item, boundary=boundary, reason=row.reason, detail=row.detail) for row in rows]


def usable_questions(rows: Sequence[QuestionRow], *, dataset: str) -> tuple[list[Question], list[Refusal]]:
    """Rows as questions, and refusals of those that cannot be asked, or whose gold answer nobody could give."""
    questions, refusals = [], []
    for row in rows:
        try:
            questions.append(_usable(row, dataset=dataset))
        except RowProblem as problem:
            refusals.append(Refusal(item=row.id, boundary="source", reason=problem.reason, detail=problem.detail))
        except (ValidationError, SourceError) as error:
            detail = str(error.errors()[0]["msg"]) if isinstance(error, ValidationError) else str(error)
            refusals.append(Refusal(item=row.id, boundary="source", reason="bad_question", detail=detail))
    return questions, refusals


def _usable(row: QuestionRow, *, dataset: str) -> Question:
    """The question of a row, its answer in the project's own form.

    Raises:
        RowProblem: it is too long, its answer has not the form that its kind asks for, or its options are mixed up.
        SourceError: its gold answer would not count as right.
    """
    if len(row.text) > MAX_QUESTION_CHARS:
        raise RowProblem("too_long", f"the text has {len(row.text)} characters, at most {MAX_QUESTION_CHARS} are fine")
    question = _to_question(row, dataset=dataset)
    mixed = mixed_options(question)
    if mixed and dataset not in ANNOTATED_DATASETS:
        raise RowProblem("bad_choices", f"{mixed}; options must differ in more than case, blanks and the last dot")
    if mixed and row.answer_index is not None and _needs_letters(question, row.answer_index):
        question = _to_question(row, dataset=dataset, answer_index=row.answer_index)
    if question.answer_type in ("integer", "yes_no"):
        read = parse_answer(question.answer, question)
        if read.value is None:
            form = "a whole number such as 2" if question.answer_type == "integer" else "yes or no"
            raise RowProblem("bad_answer", f"the kind {row.kind} wants {form}, got {row.answer[:80]!r}")
        question = question.model_copy(update={"answer": read.value})
    if not is_right(question.right_answer, question):
        raise SourceError(f"the gold answer {question.right_answer!r} would not count as right if it were given")
    return question


def _needs_letters(question: Question, right: int) -> bool:
    """Whether a benchmark's row, which a published score counts too, can be graded by the letter only.

    Options that are mixed up among the wrong ones do no harm.
    """
    others = [choice for place, choice in enumerate(question.choices) if place != right]
    gold_is_right = is_right(question.answer, question) and is_right(ascii_uppercase[right : right + 1], question)
    return not gold_is_right or any(is_right(choice, question) for choice in others)


def _to_question(row: QuestionRow, *, dataset: str, answer_index: int | None = None) -> Question:
    fields = asdict(row)
    del fields["ends_loosely"]
    fields["tags"] = dict(row.tags)
    media = MediaRef(uri=fields.pop("uri"), start_s=fields.pop("start_s"), end_s=fields.pop("end_s"))
    return Question.model_validate({**fields, "dataset": dataset, "media": media, "answer_index": answer_index})


def _near_duplicates(store: FrameStore, rows: Sequence[AnnotationRow | QuestionRow]) -> dict[str, str]:
    """Training clips that look like a clip of another split: uri to the other uri.

    Clips that are only annotated count too: their annotations reach the teacher.
    """
    from video_data.decode.fingerprint import near_duplicate_pairs

    decoded = set(store.uris())
    splits = {row.uri: row.split for row in rows if row.uri in decoded}
    train = sorted(uri for uri, split in splits.items() if split == "train")
    other = sorted(uri for uri, split in splits.items() if split != "train")
    if not train or not other:
        return {}
    pairs = near_duplicate_pairs(store, train, other, NEAR_DUPLICATE_BITS)
    return {pair.uri_a: pair.uri_b for pair in pairs}
