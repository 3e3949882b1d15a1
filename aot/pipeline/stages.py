"""The stages that both doors share, filter and report: they hand the run folder to the room that does the work."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext

import numpy as np

from aot.chat.client import ChatModel
from aot.config import ChatConfig, RunConfig, chat_for
from aot.files.run_folder import RunFolder, append_row, publish, publishing, read_rows
from aot.files.traces import read_faults, read_traces
from aot.filtering.chain import FunnelCounter, Judge, Judged, run_filters
from aot.filtering.judge import ChatJudge, in_order
from aot.records import Question, Verdict
from aot.reporting.thumbs import ReadFrames, TrueSize
from aot.run_records import Funnel
from aot.student.answer import open_model

log = logging.getLogger(__name__)
Progress = Callable[[int, int], None]


def filter_traces(run: RunFolder, config: RunConfig, progress: Progress) -> dict[str, int]:
    """Verdicts on every training trace, kept and dropped traces, and the funnel."""
    questions = {q.id: q for q in read_rows(run.questions, Question)}
    held_out = [q for q in questions.values() if q.split != "train"]
    training = (t for t in read_traces(run) if questions[t.question_id].split == "train")
    counter = FunnelCounter(planted=read_faults(run))
    section = chat_for(config, "judges")
    # What nobody judged holds up the stage, but a script would say the same another time.
    again = section is not None and section.backend != "scripted" and config.teacher.unanswered == "ask_again"
    with (
        _open_judge(run, section) as model,
        publishing(run.kept) as kept,
        publishing(run.dropped) as dropped,
        publishing(run.verdicts) as ledger,
    ):
        chat_judge, judge = None, None
        if model and section:
            chat_judge = ChatJudge(model, max_tokens=section.max_tokens)
            judge = _judge(chat_judge, model, questions, threads=section.max_concurrency)
        judged = run_filters(training, questions=questions, held_out=held_out, config=config.filter, judge=judge)
        for number, one in enumerate(judged, start=1):
            append_row(kept if one.keep else dropped, one.trace.timeless())
            for verdict in one.verdicts:
                append_row(ledger, verdict)
            counter.add(one)
            progress(number, max(number, len(questions) - len(held_out)))
        if chat_judge and again:
            chat_judge.require_all()
    funnel: Funnel = counter.funnel()
    publish(run.funnel, funnel.model_dump_json(indent=1) + "\n")
    return {"kept": funnel.kept, "dropped": funnel.dropped}


def _open_judge(run: RunFolder, section: ChatConfig | None) -> closing[ChatModel] | nullcontext[None]:
    return closing(open_model(section, run=run, writer="judge")) if section else nullcontext()


def _judge(chat_judge: ChatJudge, model: ChatModel, questions: Mapping[str, Question], *, threads: int) -> Judge:
    """The chat model as a judge of verified traces; the others are dropped anyway and cost no call."""

    def verdict(judged: Judged) -> Verdict:
        trace = judged.trace
        if judged.is_verified:
            return chat_judge.verdict(trace, questions[trace.question_id])
        return Verdict(
            question_id=trace.question_id, sample_index=trace.sample_index, filter="judge", keep=True,
            reason="not_applicable",
        )  # fmt: skip

    return lambda stream: in_order(verdict, stream, threads=threads, give_up=model.close)


def report(run: RunFolder, config: RunConfig, progress: Progress) -> dict[str, int]:
    """report.html and MODEL_CARD.md."""
    from aot.reporting.card import write_card
    from aot.reporting.report import write_report

    progress(0, 1)
    if run.frames.exists():
        frames, true_size = _pictures(run)
        write_report(run, config, frames=frames, true_size=true_size)
    else:
        write_report(run, config)
    write_card(run, config)
    progress(1, 1)
    return {"bytes": run.report.stat().st_size}


def _pictures(run: RunFolder) -> tuple[ReadFrames, TrueSize]:
    """How the report reads frames of a run that has some, and their sizes."""
    from video_data.decode.sampling import nearest_indices
    from video_data.store.shards import FrameStore

    store = FrameStore(run.frames)

    def frames(uri: str, wanted_s: Sequence[float]) -> list[tuple[float, np.ndarray]]:
        times_s = store.clip(uri).times_s
        indices = nearest_indices(times_s, list(wanted_s))
        return [(times_s[i], frame) for i, frame in zip(indices, store.frames(uri, indices), strict=True)]

    def true_size(uri: str) -> tuple[int, int]:
        clip = store.clip(uri)
        return clip.true_width, clip.true_height

    return frames, true_size
