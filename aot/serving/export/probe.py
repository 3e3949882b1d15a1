"""Proves an exported folder: a fresh process that has it alone answers as the student in the run does.

    python -m aot.serving.export.probe EXPORT PROBE DEVICE [FRAMES]

asks the exported student the questions in the folder PROBE, one at a time, and writes its predictions there. Frames are
read from the store of the run. Knows nothing of how an export is made.
"""

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aot.acting.act import MODE as TOOLS
from aot.acting.act import Actor, act_in_order
from aot.display import one_line
from aot.errors import AotError, CheckpointError
from aot.files.run_folder import RunFolder, publish_rows, read_rows
from aot.records import Prediction, PromptMode, Question
from aot.served_records import LatencyRow
from aot.student.answer.predict import PredictMode, predict
from aot.student.model.loading import Student
from aot.teacher.bench import Bench

SAME_SHARE = 0.99
"""Of greedy replies, at least."""
PROBABILITY_GAP = 1e-3
"""Between probabilities of one choice, at most."""
LIKELIHOOD: PredictMode = "likelihood"
_ARM = "probe"


@dataclass(frozen=True)
class Likeness:
    """How alike two students answered the same questions."""

    replies: int
    same: int
    same_answers: int
    """Replies that give the same answer, or none both."""
    decided: int
    largest_gap: float
    """Between probabilities of one choice, or of one way to begin."""
    largest_token_gap: float
    """Between probabilities of one token, over replies that are the same."""
    differs: str
    """The first question whose replies differ, with both."""

    @property
    def is_proof(self) -> bool:
        """Whether one may stand for the other."""
        gap = max(self.largest_gap, self.largest_token_gap)
        return self.same >= SAME_SHARE * self.replies and gap <= PROBABILITY_GAP

    def __str__(self) -> str:
        """One line."""
        words = f"{self.same} of {self.replies} greedy replies are the same token by token, {self.same_answers} answers"
        gap = f", largest gap between choice probabilities {self.largest_gap:.2g} (n={self.decided})"
        tokens = f", between those of written tokens {self.largest_token_gap:.2g}"
        return words + (gap if self.decided else "") + tokens


def probe_questions(questions: Sequence[Question], *, most: int) -> list[Question]:
    """At most so many questions, evenly spread over those given, which come kind by kind and clip by clip.

    >>> from aot.student.rows.prompts import PROBE
    >>> len(probe_questions([PROBE] * 7, most=3))
    3
    """
    count = min(most, len(questions))
    return [questions[i * len(questions) // count] for i in range(count)]


def probe_modes(modes: Sequence[PromptMode], questions: Sequence[Question]) -> tuple[PredictMode, ...]:
    """How the questions are asked: as the student was taught, and where there are choices those are scored."""
    return (*modes, LIKELIHOOD) if any(q.choices for q in questions) else tuple(modes)


def answers(
    student: Student,
    questions: Sequence[Question],
    *,
    modes: Sequence[PredictMode],
    frames: Path | None,
    batch_size: int,
    cache_bytes: int = 256 << 20,
    bench: Bench | None = None,
) -> list[Prediction]:
    """Predictions in every mode, mode by mode, in the order of the questions.

    In mode `tools` the ids of a reply are those of the whole talk: prompt, calls, results and answer.

    Args:
        student: who answers.
        questions: what is asked.
        modes: how.
        frames: the frame store of the run; None where questions show none.
        batch_size: questions answered together.
        cache_bytes: of processed frames that are kept for the next mode; 0 makes each answer process its own.
        bench: what calls are carried out with; None of a student that makes none.
    """
    pixels = student.pixels(frames, max_bytes=cache_bytes) if frames is not None else None
    made: list[Prediction] = []
    for mode in modes:
        if mode == TOOLS and bench is not None:
            acted = act_in_order(Actor(student, bench, _ARM, pixels=pixels), questions, batch_size=batch_size)
            made += [one.prediction.model_copy(update={"token_ids": one.ids}) for one in acted]
            continue
        made += predict(student, questions, pixels=pixels, arm=_ARM, mode=mode, batch_size=batch_size, with_tokens=True)
    return made


def fresh_answers(folder: Path, questions: Sequence[Question], *, frames: Path | None, device: str) -> list[Prediction]:
    """What the student in an exported folder says in a process of its own, asked one question at a time.

    Raises:
        CheckpointError: that process could not load the folder or ask it; the message says why.
    """
    with tempfile.TemporaryDirectory(prefix="aot-probe-") as place:
        probe = RunFolder(Path(place))
        publish_rows(probe.questions, questions)
        shown = [] if frames is None else [str(frames.resolve())]
        command = [sys.executable, "-m", "aot.serving.export.probe", str(folder.resolve()), place, device, *shown]
        packages = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, [packages, os.environ.get("PYTHONPATH", "")]))
        # Away from here, where no file of the run or of the base can be reached by a relative name; and no network.
        environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
            raise CheckpointError(f"a fresh process cannot use the export: {one_line(lines[-1])[:500]}")
        return list(read_rows(probe.predictions_of(_ARM, "none"), Prediction))


def likeness(before: Sequence[Prediction], after: Sequence[Prediction]) -> Likeness:
    """How alike the answers of two students are, question by question and mode by mode."""
    others = {(row.question_id, row.mode): row for row in after}
    same, same_answers, replies, differs, gaps, token_gaps = 0, 0, 0, "", [0.0], [0.0]
    for row in before:
        other = others.get((row.question_id, row.mode))
        if row.mode == LIKELIHOOD or row.thought_probs:
            ours, theirs = (one.choice_probs or one.thought_probs if one else () for one in (row, other))
            gaps.append(_gap(ours, theirs))
        if row.mode == LIKELIHOOD:
            continue
        replies += 1
        same_answers += other is not None and row.answer == other.answer
        if other is not None and _said(row) == _said(other):
            same += 1
            token_gaps.append(_gap(*(np.exp(one.token_logprobs).tolist() for one in (row, other))))
        elif not differs:
            now = other.error or other.raw_text if other else "nothing"
            differs = one_line(f"{row.question_id} ({row.mode}): {row.raw_text[:100]!r}, now {now[:100]!r}")
    decided = sum(row.mode == LIKELIHOOD for row in before)
    return Likeness(replies, same, same_answers, decided, max(gaps), max(token_gaps), differs)


def _said(row: Prediction) -> tuple[object, ...]:
    return row.token_ids, row.raw_text, row.error


def _gap(ours: Sequence[float], theirs: Sequence[float]) -> float:
    if len(ours) != len(theirs):
        return 1.0
    gaps = np.abs(np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float))
    return 1.0 if np.isnan(gaps).any() else float(gaps.max(initial=0.0))


def latency_rows(predictions: Sequence[Prediction]) -> tuple[LatencyRow, ...]:
    """Quantiles of the time for one answer in each mode, frames at hand; without questions that failed."""
    rows = []
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    for mode in dict.fromkeys(row.mode for row in predictions):
        times_s = [row.latency_s for row in predictions if row.mode == mode and not row.error]
        if times_s:
            p50, p95, p99 = (float(q) for q in np.quantile(times_s, (0.5, 0.95, 0.99)))
            name = "decide" if mode == LIKELIHOOD else mode
            rows.append(LatencyRow(mode=name, p50_s=p50, p95_s=p95, p99_s=p99, n=len(times_s), machine=machine))
    return tuple(rows)


def main(arguments: Sequence[str]) -> None:
    """Ask the exported student the questions of a probe folder, as described at the top of this file.

    Raises:
        AotError: the export cannot be loaded, or the questions cannot be read.
    """
    from aot.serving.student import load_student

    folder, place, device, *shown = arguments
    probe = RunFolder(Path(place))
    questions = list(read_rows(probe.questions, Question))
    with load_student(folder, device="cpu" if device == "cpu" else "cuda") as served:
        student, frames = served.student, Path(shown[0]) if shown else None
        modes = probe_modes(served.contract.modes, questions)
        for asked_of in (questions[:1], questions):  # the first answer of a process takes longer
            made = answers(
                student, asked_of, modes=modes, frames=frames, batch_size=1, cache_bytes=0, bench=served.bench
            )
    publish_rows(probe.predictions_of(_ARM, "none"), made)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AotError as error:
        sys.exit(str(error))
