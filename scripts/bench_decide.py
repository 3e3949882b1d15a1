"""Decisions against writing the same answers with the same weights: milliseconds each, and how many times faster.

    python scripts/bench_decide.py                              # the embedded video student, frames of noise
    python scripts/bench_decide.py --export EXPORT --run RUN    # an export of a run, questions and frames of its test
    python scripts/bench_decide.py --acts [--run RUN]           # calling tools against answering at once, in batches

One question at a time, everything in turns on the same frames: written at once and after reasoning, as `student.ask`
does with frames that it sees for the first time; written both ways behind frames already read; and decided, with fresh
frames and with frames already seen. Beside the time stands processor time, which neighbours on the machine change
least; how many times as much a way of writing takes is the median over the questions. Required: a decision about
frames already seen within 30 ms in 99% of cases.

With --acts, batches of questions are answered in turns at once, by calling a tool as a trained student does, and by
reasoning, on frames that are processed already. What is written is given, so that the weights do not matter: the
lessons of the run's arm of order tool_use, or one made-up talk. Required: at most 2.5 times the direct answer.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from embedded_export import export_embedded

from aot.acting.act import Actor
from aot.config import StudentConfig, load_saved
from aot.files.run_folder import LESSONS, RunFolder, read_rows
from aot.pipeline.doors import door_of
from aot.records import Finding, Lesson, LessonTurn, MediaRef, PromptMode, Question, Trace
from aot.serving.decisions.decider import Decider, State, _num_same, _question
from aot.serving.decisions.questions import TypedQuestion, choice
from aot.serving.student import Ask, ServedStudent, load_student
from aot.student.answer.batches import prompt_items
from aot.student.answer.decoding import steps
from aot.student.answer.sampling import likeliest
from aot.student.answer.talk import Talks
from aot.student.model.loading import Student
from aot.student.model.loading import load_student as load_base
from aot.student.rows.frames import FrameSource, StoredClipLike
from aot.student.rows.prompts import call_text
from aot.teacher.bench import Bench, Budget
from aot.teacher.tools.base import Tool, ToolArguments, ToolPart, ToolResult

REQUIRED_P99_MS = 30.0
REQUIRED_TIMES = 2.5
"""An answer with tools, against a direct one."""
BATCH = 32
WARM_UP = 3
"""Cases that do not count."""
STEPS = ("wash rice", "chop onion", "boil egg", "fry fish", "peel potato", "mix dough", "bake pizza", "pour soup")
WAYS = (
    "decided, frames already seen", "decided, fresh frames", "written at once, frames already read",
    "written after reasoning, frames already read", "written at once, fresh frames",
    "written after reasoning, fresh frames",
)  # fmt: skip


def main() -> int:
    """Print milliseconds and ratios; 1 if decisions about seen frames take too long."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--export", type=Path, help="an exported video student; the embedded one by default")
    parser.add_argument("--run", type=Path, help="take questions and frames of this run's test split")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--base", default="tiny-video", help="of the student that acts")
    parser.add_argument("--acts", action="store_true", help="time answers with tools against direct ones")
    options = parser.parse_args()
    if options.acts:
        return acts(options.run, base=options.base, questions=options.questions)
    with tempfile.TemporaryDirectory() as work:
        student = load_student(options.export or export_embedded("tiny-video", Path(work) / "export"))
        cases = of_run(options.run) if options.run else noise(options.questions + WARM_UP)
        taken_ms, cpu_ms, tokens = measure(student, cases, most=options.questions)
        student.close()
    count = len(taken_ms[WAYS[0]])
    print(f"{student.contract.name}, n={count} questions each, {torch.get_num_threads()} threads")
    for way in WAYS:
        if not taken_ms[way]:
            continue
        p50, p95, p99 = np.percentile(taken_ms[way], [50, 95, 99])
        said = f", {np.mean(tokens[way]):.1f} tokens written" if tokens[way] else ""
        times = [np.median(np.divide(ms[way], ms[WAYS[0]])) for ms in (taken_ms, cpu_ms)]
        print(f"  {way:<43} p50 {p50:7.2f}  p95 {p95:7.2f}  p99 {p99:7.2f} ms, CPU {np.median(cpu_ms[way]):7.2f} ms; "
              f"{times[0]:.1f} times the first, {times[1]:.1f} times its CPU{said}")  # fmt: skip
    p99_ms = np.percentile(taken_ms[WAYS[0]], 99)
    print(f"p99 with frames already seen: {p99_ms:.1f} ms, required: at most {REQUIRED_P99_MS:g} ms")
    return int(p99_ms > REQUIRED_P99_MS)


def noise(count: int) -> Iterator[tuple[TypedQuestion, State]]:
    """Questions about frames that show nothing."""
    for i in range(count):
        rng = np.random.default_rng(i)
        frames = list(rng.integers(0, 255, (8, 96, 96, 3), dtype=np.uint8))
        choices = tuple(str(one) for one in rng.choice(STEPS, 4, replace=False))
        yield choice("What is the next step?", choices), State(frames=frames, times_s=[0.5 * k for k in range(8)])


def of_run(folder: Path) -> Iterator[tuple[TypedQuestion, State]]:
    """The test questions of a run that have choices, with the stored frames of their windows."""
    from video_data.store.shards import FrameStore

    run = RunFolder(folder)
    store = FrameStore(run.frames)
    for one in read_rows(run.questions, Question):
        if one.split != "test" or not one.choices or one.media is None:
            continue
        clip = store.clip(one.media.uri)
        end_s = clip.duration_s if one.media.end_s is None else one.media.end_s
        inside = [i for i, time_s in enumerate(clip.times_s) if one.media.start_s <= time_s <= end_s]
        times_s = [clip.times_s[i] for i in inside]
        frames = list(store.frames(one.media.uri, inside))
        yield choice(one.text, one.choices, kind=one.kind), State(frames=frames, times_s=times_s)


def measure(
    student: ServedStudent, cases: Iterator[tuple[TypedQuestion, State]], *, most: int
) -> tuple[dict[str, list[float]], dict[str, list[float]], dict[str, list[int]]]:
    """Milliseconds of each way, those of a processor, and tokens written; the first cases warm up and do not count."""
    taken_ms: dict[str, list[float]] = {way: [] for way in WAYS}
    cpu_ms: dict[str, list[float]] = {way: [] for way in WAYS}
    tokens: dict[str, list[int]] = {way: [] for way in WAYS}
    for number, (question, state) in enumerate(cases):
        if number == most + WARM_UP:
            break
        decider = Decider(student)
        decider.decide(State(text="warm"), [question])
        decider._bears = {True: True, False: True}  # as after its first decision, which is made both ways
        for way, act in ways(student, decider, question, state).items():
            started_s, spent_s = time.perf_counter(), time.process_time()
            made = act()
            if number >= WARM_UP:
                taken_ms[way].append(1000 * (time.perf_counter() - started_s))
                cpu_ms[way].append(1000 * (time.process_time() - spent_s))
                if isinstance(made, int):
                    tokens[way].append(made)
    return taken_ms, cpu_ms, tokens


def ways(
    student: ServedStudent, decider: Decider, question: TypedQuestion, state: State
) -> dict[str, Callable[[], Any]]:
    """What is timed, in this order."""
    acts: dict[str, Callable[[], Any]] = {
        WAYS[1]: partial(decider.decide, state, [question]),
        WAYS[0]: partial(decider.decide, state, [question]),
    }
    turns: tuple[tuple[str, str, PromptMode], ...] = ((WAYS[2], WAYS[4], "direct"), (WAYS[3], WAYS[5], "reason"))
    for read, unread, mode in turns:
        if mode in student.contract.modes:
            acts[read] = partial(written, student, decider, state, question, mode)
            acts[unread] = partial(fresh, student, question, mode, state)
    return acts


def fresh(student: ServedStudent, question: TypedQuestion, mode: str, state: State) -> int:
    """Tokens of a reply about frames that the student sees for the first time."""
    student._pixels = None
    about: Any = Ask(question.text, question.choices, frames=state.frames, times_s=state.times_s, mode=mode)  # type: ignore[arg-type]
    (answer,) = student.ask_many([about])
    return answer.usage.completion_tokens


def written(student: ServedStudent, decider: Decider, state: State, question: TypedQuestion, mode: PromptMode) -> int:
    """Tokens of a reply behind the frames that a decider has read."""
    seen = decider.ready(state).seen
    text = f"{state.text} {question.text}".strip()
    row = student.student.renderer.encode(
        _question(text, question.shown), seen.times_s, mode, frame_size_hw=seen.size_hw
    )
    assert seen.reading is not None
    num_same = _num_same(seen.ids, row.prompt_ids)
    reading = seen.reading.back_to(num_same)
    reading.read_on(torch.tensor([row.prompt_ids[num_same:]]))
    contract = student.contract
    most = contract.max_answer_tokens if mode == "direct" else contract.max_rationale_tokens
    *_, (reply,) = steps(student.student, reading, pick=likeliest, max_tokens=[most])
    return len(reply)


@dataclass(frozen=True)
class Said:
    """What a student is made to say to one question."""

    question: Question
    direct: str
    reason: str
    turns: tuple[LessonTurn, ...]
    final: str


def acts(folder: Path | None, *, base: str, questions: int) -> int:
    """Print what an answer with tools costs against a direct one; 1 if it is more than required."""
    student: Student = load_base(base, config=StudentConfig(base=base, max_rationale_tokens=1000))
    said, store, bench = said_in(folder, questions) if folder else made_up(questions)
    pixels = student.pixels(store, max_bytes=1 << 30)
    renderer, spent = student.renderer, dict[str, list[tuple[float, float]]]()
    for number in range(0, len(said), BATCH):
        part = said[number : number + BATCH]
        asked = [one.question for one in part]
        talks = [[*(t.text for t in one.turns if t.role == "assistant"), one.final] for one in part]
        ways: dict[PromptMode, list[list[str]]] = {
            "direct": [[one.direct] for one in part], "reason": [[one.reason] for one in part], "tools": talks,
        }  # fmt: skip
        for mode, replies in ways.items():
            items = list(prompt_items(student, asked, store=store, mode=mode, with_frames=True))
            pixels.of([item.frames for item in items if item.frames])  # as in an evaluation, where others asked before
            ids = [[renderer.completion_ids(text) for text in texts] for texts in replies]
            started_s, cpu_s = time.perf_counter(), time.process_time()
            if mode == "tools":
                actor = Actor(student, bench, "acts", pixels=pixels, pick=Forced(ids))
                made = actor.act(items)
                if sum(one.prediction.num_calls for one in made) != sum(len(texts) - 1 for texts in talks):
                    raise SystemExit(f"the tokenizer of {base} cannot write calls; give another --base")
            else:
                prompts = [item.prompt(renderer, pixels) for item in items]
                Talks(student, prompts).write(max_tokens=1000, pick=Forced(ids))
            took = (time.perf_counter() - started_s, time.process_time() - cpu_s)
            tokens = sum(len(reply) for texts in ids for reply in texts)
            spent.setdefault(mode, []).append((took[0] / len(part), took[1] / len(part)))
            spent.setdefault(f"{mode} tokens", []).append((tokens / len(part), 0))
    medians = {way: np.median(rows[1:] or rows, axis=0) for way, rows in spent.items()}
    print(f"n={len(said)} questions in batches of {BATCH}, one of them to warm up; {torch.get_num_threads()} threads")
    for mode in ("direct", "reason", "tools"):
        times = medians[mode] / medians["direct"]
        print(f"  {mode:<7} {1000 * medians[mode][0]:7.2f} ms a question, CPU {1000 * medians[mode][1]:7.2f} ms; "
              f"{times[0]:.2f} times a direct answer, {times[1]:.2f} times its CPU; "
              f"{medians[f'{mode} tokens'][0]:.1f} tokens written")  # fmt: skip
    print(f"required: an answer with tools takes at most {REQUIRED_TIMES:g} times a direct one")
    return int((medians["tools"] / medians["direct"])[0] > REQUIRED_TIMES)


class Forced:
    """Picks the tokens of given replies, whatever the logits are."""

    def __init__(self, replies: Sequence[Sequence[tuple[int, ...]]]) -> None:
        self._left = [list(map(list, talk)) for talk in replies]

    def __call__(self, logits_BV: torch.Tensor, replies: Sequence[int]) -> torch.Tensor:
        """The next token of each; the end again for one that has ended."""
        tokens = logits_BV.argmax(dim=-1)  # which a real pick costs, too
        for row, number in enumerate(replies):
            turns = self._left[number]
            if turns and turns[0]:
                tokens[row] = turns[0].pop(0)
            if turns and not turns[0]:
                turns.pop(0)
        return tokens


def said_in(folder: Path, most: int) -> tuple[list[Said], FrameSource, Bench]:
    """Questions of a run's lessons with calls, its frames, and its tools."""
    from video_data.store.shards import FrameStore

    run = RunFolder(folder)
    config = load_saved(run.config)
    arm = next(arm for arm in config.train.arms if arm.order == "tool_use")
    rows = {question.id: question for question in read_rows(run.questions, Question)}
    rationales = {trace.question_id: trace.rationale for trace in read_rows(run.kept, Trace)}
    lessons = [one for one in read_rows(run.arm(arm.name) / LESSONS, Lesson) if one.turns][: most + BATCH]
    said = [
        Said(question, question.right_answer, rationales[question.id], one.turns, one.rationale)
        for one in lessons
        for question in (rows[one.question_id],)
    ]
    return said, FrameStore(run.frames), door_of(config).bench(config, run, "all", "bench")


class Noise:
    """Clips of eight frames that show nothing."""

    def clip(self, uri: str) -> StoredClipLike:
        """The same facts of each."""
        times_s = tuple(0.5 + k for k in range(8))
        return SimpleNamespace(times_s=times_s, duration_s=8.5, stored_width=96, stored_height=72)

    def frames(self, uri: str, indices: Sequence[int] | None = None) -> np.ndarray:
        """Grey in grey."""
        rng = np.random.default_rng(int(uri))
        return rng.integers(0, 255, (8, 72, 96, 3), dtype=np.uint8)[list(indices if indices is not None else range(8))]


class CardArguments(ToolArguments):
    """What was seen."""

    steps: tuple[str, ...]


class Card(ToolPart):
    """As the recipe book gives it."""

    name: str
    text: str
    score: float


class CardResult(ToolResult):
    """Two cards."""

    cards: tuple[Card, ...]

    def findings(self, arguments: CardArguments) -> tuple[Finding, ...]:
        """Their texts."""
        return tuple(Finding(kind="text", how="seen", text=one.text) for one in self.cards)


def made_up(count: int) -> tuple[list[Said], FrameSource, Bench]:
    """Questions about noise, with a talk as long as those of the synthetic kitchen, and a tool that gives two cards."""
    card, seen = Card(name="dish 12 34", text=", ".join(STEPS[:6]), score=0.8), STEPS[:4]
    tool = Tool(
        "look_up_recipe", "1", "Look cards up.", CardArguments, CardResult,
        lambda arguments, context: CardResult(cards=(card, card)), "annotations",
    )  # fmt: skip
    gather = " ".join(f"{k}.5s-{k + 1}.5s {step}." for k, step in enumerate(seen))
    turns = (
        LessonTurn(role="assistant", text=f"Gather: {gather}\n{call_text(tool.name, {'steps': list(seen)})}"),
        LessonTurn(role="tool", text=""),
    )
    said = [
        Said(
            Question(
                id=str(i), dataset="noise", split="test", kind="next_open", text="Which step comes next?", group=str(i),
                answer=STEPS[4], answer_type="text", media=MediaRef(uri=str(i)),
            ),
            STEPS[4], f"Gather: {gather}\nCombine: after {STEPS[3]} comes {STEPS[4]}.\nAnswer: {STEPS[4]}", turns,
            f"Combine: after {STEPS[3]} comes {STEPS[4]} [1].\nAnswer: {STEPS[4]}",
        )
        for i in range(count + BATCH)
    ]  # fmt: skip
    return said, Noise(), Bench(tools={tool.name: tool}, budget=Budget(max_calls=8, time_limit_s=60.0))


if __name__ == "__main__":
    sys.exit(main())
