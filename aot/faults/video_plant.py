"""Plants defects in verified traces, as a messy teacher would make them, so that filters can be measured.

Each planted defect is real: the rationale then says something that the trace does not support, or no longer has its
form. The trace's steps, answer and status stay as they were. What was planted is stored where no filter looks.
"""

import hashlib
from collections.abc import Callable, Sequence

from numpy.random import PCG64, Generator

from aot.faults import video_edits as edits
from aot.records import PlantedFault, Question, Trace

Edit = Callable[[edits.Target, Generator], str | None]

FAULTS: dict[str, Edit] = {
    "wrong_label": edits.wrong_label,
    "dropped_step": edits.dropped_step,
    "invented_object": edits.invented_object,
    "invented_time": edits.invented_time,
    "contradiction": edits.contradiction,
    "repetition_loop": edits.repetition_loop,
    "cut_off": edits.cut_off,
    "garbled_language": edits.garbled_language,
    "wrong_format": edits.wrong_format,
}
"""Kind of defect to the edit that makes it; an edit returns None where it does not apply."""


def plant(
    trace: Trace, question: Question, *, rate: float, seed: int, labels: Sequence[str]
) -> tuple[Trace, PlantedFault | None]:
    """The trace with one defect in its rationale with probability `rate`, and which one; or the trace unchanged.

    `labels` are the step labels that a confused teacher might write instead. The draw depends on the seed and the
    question only. Call it for verified traces; one without a rationale is returned unchanged.
    """
    digest = hashlib.blake2b(f"{seed}:{question.id}:fault".encode(), digest_size=8).digest()
    draw = Generator(PCG64(int.from_bytes(digest, "little")))
    if draw.random() >= rate or trace.status != "ok" or not trace.rationale.strip():
        return trace, None
    target = edits.Target(trace, question, tuple(labels))
    for place in draw.permutation(len(FAULTS)):
        kind = tuple(FAULTS)[int(place)]
        rationale = FAULTS[kind](target, draw)
        if rationale is not None and rationale != trace.rationale:
            fault = PlantedFault(question_id=trace.question_id, sample_index=trace.sample_index, fault=kind)
            return trace.model_copy(update={"rationale": rationale}), fault
    return trace, None
