"""The stages that both doors share, filter and report: they hand the run folder to the room that does the work."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext

import numpy as np

from aot.config import RunConfig, chat_for
from aot.files.run_folder import RunFolder, append_row, publish, publishing, read_rows, read_run_json
from aot.files.traces import read_faults, read_traces
from aot.filtering.chain import FunnelCounter, Judge, Judged, run_filters
from aot.filtering.judge import ChatJudge, in_order
from aot.records import Question, Verdict
from aot.reporting.thumbs import ReadFrames, Size, no_frames
from aot.review.overruling import People
from aot.review.rows import read_reviews, reviews_seal, trace_digest
from aot.student.answer import open_model

log = logging.getLogger(__name__)
Progress = Callable[[int, int], None]


def filter_traces(run: RunFolder, config: RunConfig, progress: Progress) -> dict[str, int]:
    """Verdicts on every training trace, kept and dropped traces, and the funnel."""
    questions = {q.id: q for q in read_rows(run.questions, Question)}
    held_out = [q for q in questions.values() if q.split != "train"]
    training = (t for t in read_traces(run) if questions[t.question_id].split == "train")
    seal = reviews_seal(run)  # before they are read: who reviews meanwhile is heard another time
    people = People(read_reviews(run), digest_of=lambda trace: trace_digest(questions[trace.question_id], trace))
    counter, stays = FunnelCounter(planted=read_faults(run), overruled=people.overruled), dict[tuple[str, int], bool]()
    section = chat_for(config, "judges")
    with (
        closing(open_model(section, run=run, writer="judge")) if section else nullcontext() as model,
        publishing(run.kept) as kept,
        publishing(run.dropped) as dropped,
        publishing(run.verdicts) as ledger,
    ):
        chat_judge, judge = None, None
        if model and section:
            chat_judge = ChatJudge(model, max_tokens=section.max_tokens)
            judge = _judge(chat_judge, questions, threads=section.max_concurrency, give_up=model.close)
        judged = run_filters(
            training, questions=questions, held_out=held_out, config=config.filter, judge=judge, people=people.settle
        )
        for number, one in enumerate(judged, start=1):
            append_row(kept if one.keep else dropped, one.trace.timeless())
            for verdict in one.verdicts:
                append_row(ledger, verdict)
            counter.add(one)
            stays[one.trace.question_id, one.trace.sample_index] = one.keep
            progress(number, max(number, len(questions) - len(held_out)))
        # A script says the same another time, so that traces which nobody judged need not hold up the stage.
        if chat_judge and section and section.backend != "scripted" and config.teacher.unanswered == "ask_again":
            chat_judge.require_all()
    funnel = counter.funnel().model_copy(update={"review": people.totals(stays)})
    publish(run.funnel, funnel.model_dump_json(indent=1) + "\n")
    return {"kept": funnel.kept, "dropped": funnel.dropped, **({REVIEWS: seal} if seal else {})}


REVIEWS = "reviews"
"""What run.json notes of the filter stage: the seal of the verdicts of people that it heard."""


def has_new_reviews(run: RunFolder) -> bool:
    """Whether people gave verdicts on traces since the filter stage was done."""
    return reviews_seal(run) != read_run_json(run)["stages"].get("filter", {}).get(REVIEWS, 0)


def _judge(
    chat_judge: ChatJudge, questions: Mapping[str, Question], *, threads: int, give_up: Callable[[], None]
) -> Judge:
    """The chat model as a judge of verified traces; the others are dropped anyway and cost no call."""

    def verdict(judged: Judged) -> Verdict:
        trace = judged.trace
        if judged.is_verified:
            return chat_judge.verdict(trace, questions[trace.question_id])
        return Verdict(
            question_id=trace.question_id, sample_index=trace.sample_index, filter="judge", keep=True,
            reason="not_applicable",
        )  # fmt: skip

    return lambda stream: in_order(verdict, stream, threads=threads, give_up=give_up)


def report(run: RunFolder, config: RunConfig, progress: Progress) -> dict[str, int]:
    """report.html and MODEL_CARD.md."""
    from aot.reporting.card import write_card
    from aot.reporting.report import write_report

    progress(0, 1)
    write_report(run, config, frames=pictures(run))
    write_card(run, config)
    progress(1, 1)
    return {"bytes": run.report.stat().st_size}


def pictures(run: RunFolder) -> ReadFrames:
    """How a report reads frames of a run; none where it has none."""
    if not run.frames.exists():
        return no_frames
    from video_data.decode.sampling import nearest_indices
    from video_data.store.shards import FrameStore

    store = FrameStore(run.frames)

    def frames(uri: str, wanted_s: Sequence[float]) -> tuple[Size, list[tuple[float, np.ndarray]]]:
        clip = store.clip(uri)
        indices = nearest_indices(clip.times_s, list(wanted_s))
        timed = zip((clip.times_s[i] for i in indices), store.frames(uri, indices), strict=True)
        return (clip.true_width, clip.true_height), list(timed)

    return frames
