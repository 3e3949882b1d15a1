"""From kept chains to what an arm learns: which chain of a question, in which order of thought, damaged or not.

All arms of a run learn from the same questions: rationales from those with at least one kept chain that every arm can
use. What question i gives depends on (seed, question i) only.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING

from aot.arms.by_frame import by_frame
from aot.config import ArmConfig, Chains, RunConfig
from aot.errors import GuardStop
from aot.faults.damage import DAMAGES
from aot.files.run_folder import RunFolder, read_rows
from aot.rationales.calls import rests_on_tools
from aot.rationales.notation import ANSWER_MARK, parse_rationale
from aot.rationales.wording import in_sentence
from aot.records import Lesson, Question, ThoughtMode, Trace, Verdict
from aot.seeds import hashed
from aot.student.rows.prompts import MODE_LINES
from text_cot.teacher.granularity import Size, resolve_granularity

if TYPE_CHECKING:
    from video_data.store.shards import FrameStore

Samples = dict[ThoughtMode, Trace]
"""The kept chains of one question: `short`, `full`, or both."""


@dataclass(frozen=True)
class Material:
    """What all arms of a run learn from."""

    questions: dict[str, Question]
    """Of the train split, without those that leak into another one."""
    samples: dict[str, Samples]
    """The kept chains of each question that every arm can learn from."""
    chains: dict[str, Trace]
    """The one of them that an arm learns which is taught one chain of each question."""
    num_kept: int
    """How many questions have a kept chain."""
    base: str = ""
    """Of the student, whose size says what granularity `auto` means."""
    kept: dict[str, tuple[Trace, ...]] = field(default_factory=dict)
    """All kept chains of each question that every arm can learn from."""
    times_of: Callable[[Question], Sequence[float]] = lambda question: ()
    """When the frames are that a question shows a student, in seconds."""


def read_material(run: RunFolder, config: RunConfig) -> Material:
    """What the filters of a run have left to learn from: questions whose chain each arm's damage applies to."""
    ledger = read_rows(run.verdicts, Verdict) if run.verdicts.exists() else ()
    leaks = {row.question_id for row in ledger if row.filter == "leakage" and not row.keep}
    rows = [question for question in read_rows(run.questions, Question) if question.split == "train"]
    questions = {question.id: question for question in rows if question.id not in leaks}
    traces: dict[str, list[Trace]] = {}
    for trace in read_rows(run.kept, Trace):
        traces.setdefault(trace.question_id, []).append(trace)
    kept = {question_id: by_length(traces[question_id]) for question_id in questions if question_id in traces}
    size = resolve_granularity(config.teacher.granularity, base=config.student.base)
    picked = {question_id: pick_chain(kept[question_id], size=size, seed=config.seed) for question_id in kept}
    chains = teachable(picked, config.train.arms, seed=config.seed)
    samples, every = {i: kept[i] for i in chains}, {i: tuple(traces[i]) for i in chains}
    times_of = _frame_times(run, config.student.num_frames)
    return Material(questions, samples, chains, len(kept), config.student.base, every, times_of)


def without_tagged(material: Material, arm: ArmConfig) -> Material:
    """The same without the questions that an arm leaves out.

    Raises:
        GuardStop: no question has one of these tags, or no question is left.
    """
    wanted = arm.leave_out.items()
    tags = {i: {(name, str(value)) for name, value in one.tags.items()} for i, one in material.questions.items()}
    there = set().union(*tags.values())
    left = {i for i, its in tags.items() if not wanted & its}
    unused = [f"{name}: {value}" for name, value in wanted - there]
    if unused or (tags and not left):
        problem = f"no training question is tagged {', '.join(unused)}" if unused else "no training question is left"
        listed = [f"{name}: {value}" for name, value in sorted(there)]
        raise GuardStop(
            f"arm {arm.name} has leave_out, and {problem}; it was not trained. Tags of training questions: "
            f"{', '.join(listed[:20]) or 'none'}"
        )
    return replace(
        material,
        questions={i: row for i, row in material.questions.items() if i in left},
        samples={i: row for i, row in material.samples.items() if i in left},
        chains={i: row for i, row in material.chains.items() if i in left},
        kept={i: row for i, row in material.kept.items() if i in left},
    )


def _frame_times(run: RunFolder, num_frames: int) -> Callable[[Question], Sequence[float]]:
    @cache
    def store() -> "FrameStore":
        from video_data.store.shards import FrameStore  # here, because text is trained without the video packages

        return FrameStore(run.frames)

    def times_s(question: Question) -> Sequence[float]:
        from aot.student.rows.frames import choose_indices  # here, because torch is slow to load

        return choose_indices(store(), question.media, num_frames=num_frames).times_s if question.media else ()

    return times_s


def own_share(ids: Iterable[str], *, share: float, seed: int) -> list[str]:
    """The part of `ids` whose teacher chains an arm may use; a smaller share is a part of a larger one."""
    ids = list(ids)
    order = sorted(ids, key=lambda question_id: hashed(seed, question_id, "share"))
    chosen = set(order[: max(1, round(share * len(ids)))])
    return [question_id for question_id in ids if question_id in chosen]


def pick_chain(samples: Samples, *, size: Size, seed: int) -> Trace:
    """The chain of a question at the run's granularity; where that one was not kept, the other."""
    trace = next(iter(samples.values()))
    mixed = size == "mixed" and hashed(seed, trace.question_id, "granularity") % 2 == 0
    coarse = (size == "coarse" or mixed) and not any(map(rests_on_tools, samples.values()))
    first, second = ("short", "full") if coarse else ("full", "short")
    return samples[first] if first in samples else samples[second]  # type: ignore[index]


def teachable(chains: Mapping[str, Trace], arms: Iterable[ArmConfig], *, seed: int) -> dict[str, Trace]:
    """The chains that every arm can learn from: those to which each arm's damage applies."""
    kinds = {arm.chains for arm in arms if arm.chains in DAMAGES}
    return {i: chain for i, chain in chains.items() if all(_damaged(chain, kind, seed=seed) for kind in kinds)}


def arm_lessons(material: Material, arm: ArmConfig, *, seed: int) -> list[Lesson]:
    """What an arm learns from kept chains; adaptive arms and those with chains of their own learn more elsewhere."""
    chains = shared_chains(material, arm, seed=seed) if arm.needs_chains else {}
    if arm.chains in DAMAGES:
        chains = {i: _damaged(chain, arm.chains, seed=seed) or chain for i, chain in chains.items()}
    return ordered_lessons(material.questions, chains, arm)


def shared_chains(material: Material, arm: ArmConfig, *, seed: int) -> dict[str, Trace]:
    """The teacher's chains that an arm may use, by question id, at its own granularity and in its own words.

    Raises:
        GuardStop: it wants frames named, and no chain names any.
    """
    shared = own_share(material.chains, share=arm.chain_share, seed=seed)
    if arm.granularity is None:
        chains = {i: material.chains[i] for i in shared}
    else:
        size = resolve_granularity(arm.granularity, base=material.base)
        chains = {i: pick_chain(material.samples[i], size=size, seed=seed) for i in shared}
    if arm.names == "spans":
        return chains
    named = {i: by_frame(chain, material.times_of(material.questions[i])) for i, chain in chains.items()}
    if named == chains:
        raise GuardStop(
            f"arm {arm.name} has names: frames, and none of its {len(chains)} chains has a call that lists what was "
            "seen at the frames of its question; it was not trained. Take names out, or raise student.num_frames"
        )
    return named


def ordered_lessons(questions: Mapping[str, Question], chains: Mapping[str, Trace], arm: ArmConfig) -> list[Lesson]:
    """One chain of each question in the order of thought of an arm.

    With order `both` every question has a direct reply too, whether there is a chain or not.
    """
    if arm.order != "both":
        return [lesson for i, chain in chains.items() for lesson in _lessons(questions[i], chain, arm)]
    lessons: list[Lesson] = []
    for question_id, question in questions.items():
        lessons.append(_direct(question))
        if question_id in chains:
            lessons += _lessons(question, chains[question_id], arm)
    return lessons


def _lessons(question: Question, trace: Trace, arm: ArmConfig) -> list[Lesson]:
    """The lesson of a chain; two where rationale and answer are learned apart."""
    if arm.order == "answers_only":
        return [_direct(question)]
    keys = key_names(question, trace) if arm.key_weight != 1 else ()
    shown = question.media is not None
    if arm.order == "post":
        steps, answer = _steps_and_answer(trace)
        return [
            Lesson(
                question_id=question.id, mode="explain", with_frames=shown, label=f"{answer}\n", rationale=steps,
                keys=keys,
            )
        ]  # fmt: skip
    if arm.parts == "apart" and (lead := _lead(trace)):
        begun = Lesson(
            question_id=question.id, mode="reason", with_frames=shown, rationale=lead, form="begun", keys=keys
        )  # fmt: skip
        return [begun, answer_lesson(question, trace)]
    return [
        Lesson(question_id=question.id, mode="reason", with_frames=shown, rationale=whole_rationale(trace), keys=keys)
    ]


def answer_lesson(question: Question, trace: Trace) -> Lesson:
    """The answer of a chain, to its question and its rationale, which is given."""
    lead = _lead(trace) or ANSWER_MARK
    label = whole_rationale(trace).rpartition(ANSWER_MARK)[2]
    shown = question.media is not None
    return Lesson(question_id=question.id, mode="reason", with_frames=shown, forced=lead, label=label)


def refused_lesson(question: Question, text: str) -> Lesson:
    """A reply that a student wrote and that was refused, to become less likely."""
    shown = question.media is not None
    return Lesson(question_id=question.id, mode="reason", with_frames=shown, rationale=text, form="refused")


def key_names(question: Question, trace: Trace) -> tuple[str, ...]:
    """Step names that a rationale may hold: what its tools made out, and the options."""
    labels = [one.label for step in trace.steps for one in step.findings if one.label]
    return tuple(dict.fromkeys(in_sentence(label) for label in (*labels, *question.choices)))


def _lead(trace: Trace) -> str:
    """A rationale up to the heading of its answer; empty where nothing stands before that."""
    steps, heading, _ = whole_rationale(trace).rpartition(ANSWER_MARK)
    return steps + heading if steps.strip() else ""


def _direct(question: Question) -> Lesson:
    shown = question.media is not None
    return Lesson(question_id=question.id, mode="direct", with_frames=shown, label=question.right_answer)


def thought_lesson(question: Question, samples: Samples, thought: ThoughtMode, *, chosen: bool) -> Lesson:
    """A reply in a way of thinking of which a chain was kept; `chosen` teaches the mode line too, else it is given."""
    line = f"{MODE_LINES[thought]}\n"
    trace = next(iter(samples.values())) if thought == "direct" else samples[thought]
    reply = f"{ANSWER_MARK} {trace.answer}" if thought == "direct" else whole_rationale(trace)
    head = {"label": line} if chosen else {"forced": line}
    shown = question.media is not None
    return Lesson(question_id=question.id, mode="adaptive", with_frames=shown, rationale=reply, **head)


def whole_rationale(trace: Trace) -> str:
    """What the student learns to write: the rationale, ending with its answer."""
    if parse_rationale(trace.rationale).answer:
        return trace.rationale
    return f"{trace.rationale.rstrip()}\n{ANSWER_MARK} {trace.answer}"


def _steps_and_answer(trace: Trace) -> tuple[str, str]:
    """The two parts of a whole rationale; the answer begins its last line, or stands within it."""
    text = whole_rationale(trace)
    at = text.rfind("\n") + 1
    at = at if text.startswith(ANSWER_MARK, at) else max(at, text.rfind(ANSWER_MARK))
    return text[:at].removesuffix("\n").rstrip(" "), text[at:]


def _damaged(trace: Trace, kind: Chains, *, seed: int) -> Trace | None:
    return DAMAGES[kind](trace, seed)


def by_length(traces: list[Trace]) -> Samples:
    """By what the teacher says about granularity; else the shortest chain and a full one.

    The full one is the longest of text chains, whose steps are the work itself. Of chains that rest on tools it is the
    first: their length says what was looked at, not how closely.
    """
    samples: Samples = {}
    for trace in traces:
        if trace.granularity:
            samples.setdefault("short" if trace.granularity == "coarse" else "full", trace)
    if samples:
        return samples
    ordered = sorted(traces, key=lambda trace: (_num_words(trace), trace.sample_index))
    short, full = ordered[0], ordered[-1]
    if any(map(rests_on_tools, traces)):
        full = min(traces, key=lambda trace: trace.sample_index)
        return {"full": full} if _num_words(short) == _num_words(full) else {"short": short, "full": full}
    return {"full": full} if len(ordered) == 1 else {"short": short, "full": full}


def _num_words(trace: Trace) -> int:
    return len(trace.rationale.split())
