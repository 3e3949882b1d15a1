"""Typed questions decided: a calibrated probability for every allowed answer, and nothing is written.

Questions are about a state: frames of a clip, a text, or both. A state is read once and kept for a while, so a question
about frames that were seen costs its own tokens only; all questions of one call, with all their choices, take one pass
behind it. The prompt is that of a direct answer, frames first, as in training. Knows no HTTP.
"""

import hashlib
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from aot.display import counted
from aot.errors import RunError, SourceError
from aot.records import Question
from aot.run_records import ChatUsage
from aot.served_records import Answer, Seconds
from aot.serving.student import Ask, ServedStudent, _Frames, _held

if TYPE_CHECKING:
    from aot.student.answer.decoding import Reading

QuestionType = Literal["choice", "yes_no", "score"]
MAX_CHOICES = 1000
"""Of one question: more are a search, not a decision; ask in rounds, or about groups first."""
MAX_LEVELS = 101
"""Of a scale, such as 0 to 100."""
SAME_PROBABILITY = 1e-3
"""A probability may differ by so much between one pass over a tree and whole prompts in float32, and by 50 times as
much in shorter numbers; a model that differs by more is asked with whole prompts."""
_CHUNK = 32
"""Choices of one pass over whole prompts, each of which holds the prompt again."""


@dataclass(frozen=True)
class State:
    """What questions are about; one without frames and text is allowed, as questions may say everything themselves."""

    text: str = ""
    """Stands before the text of each question."""
    frames: Sequence[np.ndarray] | Callable[[], Sequence[np.ndarray]] | None = None
    """Each uint8 (height, width, 3), RGB; or what gives them where they were not seen yet."""
    times_s: Sequence[float] | None = None
    """Of the frames, ascending."""
    content: str = ""
    """Names the frames by what they show, such as a hash of their files; empty: their pixels are hashed."""
    clip: str | Path | None = None
    """A video file, instead of frames."""
    start_s: float = 0.0
    end_s: float | None = None


@dataclass(frozen=True)
class TypedQuestion:
    """One question with a closed set of answers; made by `choice`, `yes_no` and `score`."""

    text: str
    choices: tuple[str, ...]
    """What the student might say."""
    type: QuestionType = "choice"
    descriptions: tuple[str, ...] = ()
    """What each of them means; shown behind it, where not empty."""
    values: tuple[float, ...] = ()
    """Of a score: what each level counts."""
    kind: str = ""
    """Of the student's training questions, which calibration goes by; empty: the general one."""


def choice(text: str, choices: Sequence[str], *, descriptions: Sequence[str] = (), kind: str = "") -> TypedQuestion:
    """A question with these answers.

    Raises:
        SourceError: there are none, too many, two are the same, or one says nothing.
    """
    _check_choices(choices)
    if descriptions and len(descriptions) != len(choices):
        raise SourceError(f"{len(choices)} choices came with {len(descriptions)} descriptions; give one for each")
    return TypedQuestion(text, tuple(choices), "choice", tuple(descriptions), kind=kind)


def yes_no(text: str, *, yes: str = "", no: str = "", kind: str = "") -> TypedQuestion:
    """A question with the answers yes and no, and what these mean where it is said."""
    return TypedQuestion(text, ("yes", "no"), "yes_no", (yes, no) if yes or no else (), kind=kind)


def score(
    text: str,
    *,
    low: float = 0,
    high: float = 10,
    step: float = 1,
    levels: Sequence[str] = (),
    kind: str = "",
) -> TypedQuestion:
    """A question with a number from `low` to `high` in equal steps, or with levels in words, the lowest first.

    The student says the number of a level, from 0 on, and is shown what it means.

    Raises:
        SourceError: the scale has no end, too many levels, or steps that do not end at `high`.
    """
    if levels:
        _check_choices([str(i) for i in range(len(levels))], most=MAX_LEVELS)
        names, values = zip(*((str(i), float(i)) for i in range(len(levels))), strict=True)
        return TypedQuestion(text, names, "score", tuple(levels), values, kind)
    if not all(map(math.isfinite, (low, high, step))) or step <= 0 or high <= low:
        raise SourceError(f"a scale from {low} to {high} in steps of {step}; low must be under high, the step over 0")
    steps = (high - low) / step
    if steps > MAX_LEVELS - 1 or abs(steps - round(steps)) > 1e-6:
        raise SourceError(
            f"a scale from {low} to {high} in steps of {step} has {steps + 1:.6g} levels; at most {MAX_LEVELS} can be "
            "scored, and the last one must be the highest: take another step"
        )
    values = tuple(float(f"{low + i * step:.9g}") for i in range(round(steps) + 1))
    return TypedQuestion(text, tuple(f"{value:.9g}" for value in values), "score", values=values, kind=kind)


@dataclass
class _Seen:
    """Frames as the student takes them, and what was read of a state."""

    times_s: tuple[float, ...] = ()
    size_hw: tuple[int, int] | None = None
    shown: dict[str, Any] = field(default_factory=dict)
    """Pixels; dropped once they were read into the cache."""
    ids: tuple[int, ...] = ()
    """Tokens that were read."""
    reading: "Reading | None" = None

    @property
    def num_bytes(self) -> int:
        tensors = list(self.shown.values())
        if self.reading is not None:
            tensors += [one for layer in self.reading.cache.layers for one in (layer.keys, layer.values)]
        return sum(one.numel() * one.element_size() for one in tensors)


@dataclass(frozen=True)
class _Row:
    """A question as the student reads it."""

    ids: tuple[int, ...]
    choices: list[tuple[int, ...]]


@dataclass(frozen=True)
class Ready:
    """A state with its frames decoded and made ready for the model, or as it was seen before."""

    state: State
    key: str
    """Names it by its content; empty where nothing does."""
    seen: _Seen
    seconds: Seconds = field(default_factory=Seconds)
    """What this took."""


class Decider:
    """Decides for one student, and keeps the states that it has read up to a number of bytes, the latest of them.

    May be asked from many threads.
    """

    def __init__(self, served: ServedStudent, *, max_bytes: int = 256 << 20) -> None:
        self._served, self._max_bytes = served, max_bytes
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._books = threading.Lock()
        """Held for a moment, unlike the lock of the model."""
        self._bears: dict[bool, bool] = {}
        """Whether one pass over a tree gives what whole prompts give, with frames and without; tried once."""

    def ready(self, state: State) -> Ready:
        """The state as it was seen, or else decoded; waits for no model, so another thread may do it beforehand.

        Raises:
            SourceError: it cannot be shown to this student.
            VideoError: its clip cannot be read.
        """
        key = _key(state)
        with self._books:
            if key in self._seen:
                self._seen.move_to_end(key)
                return Ready(state, key, self._seen[key])
        if state.frames is None and state.clip is None:
            return Ready(state, key, _Seen())
        from aot.student.rows.frames import FramePixels, choose_indices

        rule, student = self._served.contract.frames, self._student()
        if rule is None:
            raise SourceError(f"{self._served.contract.name} is shown no frames; ask it in text alone")
        started_s, store = time.perf_counter(), _Frames()
        frames = state.frames() if callable(state.frames) else state.frames
        ask = Ask("", clip=state.clip, frames=frames, times_s=state.times_s, start_s=state.start_s, end_s=state.end_s)
        media = _held(ask, rule, store)
        decoded_s = time.perf_counter()
        chosen = choose_indices(store, media, num_frames=rule.num_frames)
        pixels = FramePixels(store, student.processor, model_type=student.model_type, max_bytes=0)
        seen = _Seen(chosen.times_s, chosen.size_hw, pixels.of([chosen]))
        seconds = Seconds(decode=decoded_s - started_s, vision=time.perf_counter() - decoded_s)
        return Ready(state, key, seen, seconds)

    def decide(self, about: State | Ready, questions: Sequence[TypedQuestion]) -> list[Answer]:
        """An answer to each question, with the probabilities of its choices; one that cannot be put abstains.

        Raises:
            SourceError: the state cannot be shown to this student.
            VideoError: its clip cannot be read.
            RunError: the student was closed.
        """
        ready = about if isinstance(about, Ready) else self.ready(about)
        rows: dict[int, _Row] = {}
        failed: dict[int, str] = {}
        with self._served._lock:
            self._student()
            with self._books:
                seen = self._seen.get(ready.key, ready.seen)
            for i, question in enumerate(questions):
                try:
                    rows[i] = self._row(question, ready.state.text, seen)
                except SourceError as error:
                    failed[i] = str(error)
            started_s, cached = time.perf_counter(), len(seen.ids)
            sums = dict(zip(rows, self._sums(seen, list(rows.values()), ready.state.text), strict=True)) if rows else {}
            self._keep(ready.key, seen)
            prefill_s = time.perf_counter() - started_s
        each = 1 / max(len(rows), 1)
        shares = Seconds(
            decode=ready.seconds.decode * each, vision=ready.seconds.vision * each, prefill=prefill_s * each
        )
        return [
            self._answer(question, rows[i], sums[i], seen, shares, cached=cached)
            if i in rows
            else self._abstained(failed[i])
            for i, question in enumerate(questions)
        ]

    def _student(self) -> Any:  # noqa: ANN401 - Student needs torch
        if self._served.student is None:
            raise RunError(f"the student {self._served.contract.name} was closed; load it again")
        return self._served.student

    def _keep(self, key: str, seen: _Seen) -> None:
        if seen.reading is not None and self._bears.get(bool(seen.times_s)):
            seen.shown = {}  # they were read
        if not key:
            return
        with self._books:
            self._seen[key] = seen
            self._seen.move_to_end(key)
            while self._seen and sum(one.num_bytes for one in self._seen.values()) > self._max_bytes:
                self._seen.popitem(last=False)

    def _row(self, question: TypedQuestion, before: str, seen: _Seen) -> _Row:
        """A question as ids.

        Raises:
            SourceError: it cannot be put to this student.
        """
        student = self._served.student
        renderer = student.renderer
        _check_choices(question.choices)
        text = " ".join(one for one in (before.strip(), question.text.strip()) if one)
        shown = tuple(_shown(question))
        if not text:
            raise SourceError("a question without words; say what is to be decided")
        if mark := renderer.reserved_mark(" ".join((text, *shown))):
            raise SourceError(f"the text contains {mark!r}, which the model reserves; write it otherwise")
        prompt_ids = renderer.encode(
            _question(text, shown), seen.times_s, "direct", frame_size_hw=seen.size_hw
        ).prompt_ids
        row = _Row(prompt_ids, [renderer.completion_ids(said) for said in question.choices])
        self._check(row, question)
        return row

    def _check(self, row: _Row, question: TypedQuestion) -> None:
        """Refuse what this student cannot read, or cannot tell apart."""
        student = self._served.student
        unknown = student.renderer.tokenizer.unk_token_id
        places: dict[tuple[int, ...], str] = {}
        for ids, said in zip(row.choices, question.choices, strict=True):
            if unknown is not None and unknown not in student.end_ids and unknown in ids:
                raise SourceError(f"{said[:60]!r} has words that this student does not know; word the choice otherwise")
            if ids in places:
                raise SourceError(f"{said[:60]!r} and {places[ids][:60]!r} are the same to this student; give one")
            places[ids] = said
        longest, most = max(map(len, row.choices)), student.most_tokens
        if len(row.ids) + longest > most:
            raise SourceError(
                f"the question has {len(row.ids)} tokens, its longest choice {longest}, and {most} can be read "
                "together; shorten them, or give fewer choices"
            )

    def _sums(self, seen: _Seen, rows: list[_Row], before: str) -> list[list[float]]:
        """Summed log-probabilities of the choices of each row, by one pass over a tree where the model bears it."""
        from aot.student.answer.likelihood import Branch, score_tree

        with_frames = bool(seen.times_s)
        if not self._bears.get(with_frames, True) or not self._read(seen, rows, before):
            return self._whole_sums(seen, rows)
        assert seen.reading is not None
        num_same = min(_num_same(seen.ids, row.ids) for row in rows)
        reading = seen.reading.back_to(num_same)
        tree = [Branch(row.ids[num_same:], row.choices) for row in rows]
        if with_frames in self._bears:
            return score_tree(reading, tree)
        whole = self._whole_sums(seen, rows)
        try:
            self._bears[with_frames] = _agree(score_tree(reading, tree), whole, model=self._served.student.model)
        except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError):
            self._bears[with_frames] = False
        return whole

    def _read(self, seen: _Seen, rows: list[_Row], before: str) -> bool:
        """Have what the prompts share read, if that was not yet; False where the model has to see whole prompts."""
        from aot.student.answer.decoding import Prompt, read_prompts
        from aot.student.model.caches import can_drop_tokens

        student = self._served.student
        if seen.reading is not None:
            return True
        if not student.habits.takes_spans:
            return False
        probe = _question(f"{before.strip()} |".strip(), ())
        ids = student.renderer.encode(probe, seen.times_s, "direct", frame_size_hw=seen.size_hw).prompt_ids
        ids = ids[: min(_num_same(ids, row.ids) for row in rows)]
        image = student.renderer.image_token_id
        if not ids or any(row.ids.count(image) != ids.count(image) for row in rows):
            return False
        reading = read_prompts(student, [Prompt(ids, self._marked(seen, ids))])
        if not can_drop_tokens(reading.cache):
            return False
        seen.ids, seen.reading = ids, reading
        return True

    def _whole_sums(self, seen: _Seen, rows: list[_Row]) -> list[list[float]]:
        """The same sums from whole prompts, some choices at a time."""
        from aot.student.answer.decoding import Prompt
        from aot.student.answer.likelihood import log_sums

        sums = []
        for row in rows:
            prompt = Prompt(row.ids, self._marked(seen, row.ids))
            parts = [row.choices[k : k + _CHUNK] for k in range(0, len(row.choices), _CHUNK)]
            sums.append([one for part in parts for one in log_sums(self._served.student, [prompt], [part])[0]])
        return sums

    def _marked(self, seen: _Seen, ids: Sequence[int]) -> dict[str, Any]:
        """What the model takes besides ids: pixels, and which tokens stand for them where it wants that."""
        import torch

        renderer = self._served.student.renderer
        if not seen.shown or not renderer.needs_token_types:
            return seen.shown
        marks = (torch.tensor([list(ids)]) == renderer.image_token_id).long()
        return {**seen.shown, "mm_token_type_ids": marks}

    def _answer(
        self, question: TypedQuestion, row: _Row, sums: Sequence[float], seen: _Seen, seconds: Seconds, *, cached: int
    ) -> Answer:
        contract = self._served.contract
        logs = np.asarray(sums, dtype=np.float64)
        shares = np.exp(logs - logs.max())
        probs = self._served.calibrated((shares / shares.sum()).tolist(), kind=question.kind or "*")
        best = max(range(len(probs)), key=lambda i: (probs[i], -i))
        return Answer(
            answer=question.choices[best], choices=question.choices, choice_probs=probs, confidence=probs[best],
            mode="decide", frame_times_s=seen.times_s,
            usage=ChatUsage(prompt_tokens=len(row.ids), cached_prompt_tokens=min(cached, len(row.ids))),
            seconds=seconds, model=contract.name, contract_version=contract.version, contract_digest=contract.digest(),
        )  # fmt: skip

    def _abstained(self, detail: str) -> Answer:
        contract = self._served.contract
        return Answer(
            abstained="failed", detail=detail, mode="decide", model=contract.name, contract_version=contract.version,
            contract_digest=contract.digest(),
        )  # fmt: skip


def _key(state: State) -> str:
    """Names a state by its content; empty where nothing does."""
    times_s = None if state.times_s is None else tuple(state.times_s)
    about: list[Any] = [state.text, times_s, state.start_s, state.end_s]
    if state.clip is not None:
        path = Path(state.clip).resolve()
        facts = path.stat() if path.exists() else None
        about += [str(path), facts and (facts.st_ino, facts.st_size, facts.st_mtime_ns)]
    elif state.content:
        about.append(state.content)
    elif state.frames is not None:
        if callable(state.frames):
            return ""
        digest = hashlib.sha256()
        for frame in state.frames:
            array = np.ascontiguousarray(frame)
            if array.dtype.hasobject:  # its bytes are addresses
                return ""
            digest.update(f"{array.shape} {array.dtype} ".encode() + array.tobytes())
        about.append(digest.hexdigest())
    return repr(about)


def _question(text: str, shown: tuple[str, ...]) -> Question:
    return Question(
        id="decision", dataset="", split="", kind="*", text=text, choices=shown, answer=shown[0] if shown else "",
        answer_type="text", group="",
    )  # fmt: skip


def _shown(question: TypedQuestion) -> list[str]:
    """The choices as a prompt shows them."""
    meanings = question.descriptions or ("",) * len(question.choices)
    return [f"{said}: {means}" if means else said for said, means in zip(question.choices, meanings, strict=True)]


def _check_choices(choices: Sequence[str], *, most: int = MAX_CHOICES) -> None:
    if not choices:
        raise SourceError("a question without choices; give those that may be answered")
    if len(choices) > most:
        raise SourceError(f"{counted(len(choices), 'choice')}; at most {most} can be decided between: ask in rounds")
    if blank := next((i for i, one in enumerate(choices, start=1) if not one.strip()), 0):
        raise SourceError(f"choice {blank} of {len(choices)} is empty; say what it is")
    if len(set(choices)) < len(choices):
        twice = next(one for i, one in enumerate(choices) if one in choices[:i])
        raise SourceError(f"{twice[:60]!r} is given twice; give each choice once")


def _num_same(read: Sequence[int], ids: Sequence[int]) -> int:
    """How many leading ids of a prompt were read, leaving it at least one."""
    pairs = enumerate(zip(read, ids[:-1], strict=False))
    return next((i for i, (one, two) in pairs if one != two), min(len(read), len(ids) - 1))


def _agree(tree: list[list[float]], whole: list[list[float]], *, model: Any) -> bool:  # noqa: ANN401
    limit = SAME_PROBABILITY * (1 if "float32" in str(model.dtype) else 50)
    for ours, theirs in zip(tree, whole, strict=True):
        one, two = (np.exp(np.asarray(sums) - np.logaddexp.reduce(sums)) for sums in (ours, theirs))
        if not np.abs(one - two).max() <= limit:
            return False
    return True
