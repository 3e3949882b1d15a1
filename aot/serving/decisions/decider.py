"""Typed questions decided: a calibrated probability for every allowed answer, and nothing is written.

Questions are about a state: frames of a clip, a text, or both. A state is read once and kept for a while, so a question
about frames that were seen costs its own tokens only; all questions of one call, with all their choices, take one pass
behind it. The prompt is that of a direct answer, frames first, as in training. Knows no HTTP.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aot.answer_records import AbstainReason, Answer, Seconds
from aot.chat.messages import ImagePart
from aot.errors import OutOfDomainError, SourceError
from aot.records import Question
from aot.run_records import ChatUsage
from aot.serving.decisions.questions import TypedQuestion
from aot.serving.domain import check_choices, kind_problem, text_of
from aot.serving.review.holding import Held, after_review, not_looked_at
from aot.serving.review.queue import question_of
from aot.serving.student import Ask, ServedStudent

if TYPE_CHECKING:
    from aot.student.answer.decoding import Reading

SAME_PROBABILITY = 1e-3
"""A probability may differ by so much between one pass over a tree and whole prompts in float32, and by 50 times as
much in shorter numbers; a model that differs by more is asked with whole prompts."""
_CHUNK = 32
"""Choices of one pass over whole prompts, each of which holds the prompt again."""
_CHOICES = 4096
"""Whose tokens are kept, the latest: the same ones are mostly asked about again."""


@dataclass(frozen=True)
class State:
    """What questions are about; one without frames and text is allowed, as questions may say everything themselves."""

    text: str = ""
    """Stands before the text of each question."""
    frames: Sequence[Any] | Callable[[], Sequence[Any]] | None = None
    """As of an `Ask`; or what gives them, which is called where they were not seen yet."""
    times_s: Sequence[float] | None = None
    """Of the frames, ascending."""
    content: str = ""
    """Names the frames by what they show, such as a hash of their files; empty: their pixels are hashed."""
    clip: str | Path | None = None
    """A video file, instead of frames."""
    start_s: float | None = None
    """Of the clip or the frames: nobody looks outside this window."""
    end_s: float | None = None


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

    num_bytes: int = 0
    """As it was counted when it was kept."""


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
        self._num_bytes = 0
        self._books = threading.Lock()
        """Held for a moment, unlike the lock of the model."""
        self._bears: dict[bool, bool] = {}
        """Whether one pass over a tree gives what whole prompts give, with frames and without; tried once."""
        self._choice_ids = lru_cache(_CHOICES)(self._tokenised)

    def ready(self, state: State) -> Ready:
        """The state as it was seen, or else decoded; waits for no model, so another thread may do it beforehand.

        Raises:
            SourceError: it cannot be shown to this student.
            VideoError: its clip cannot be read.
            RunError: the student was closed.
        """
        started_s = time.perf_counter()
        key = repr((state.text, state.content, state.times_s, state.start_s, state.end_s)) if state.content else ""
        if seen := self._seen_as(key):
            return Ready(state, key, seen)
        student, rule, shown = self._served.loaded, self._served.contract.frames, self._served.frames_to_show()
        media = self._served.media_of(_shows(state), shown)
        key = key or repr((state.text, media))
        if seen := self._seen_as(key):
            return Ready(state, key, seen, Seconds(decode=time.perf_counter() - started_s))
        if media is None or shown is None or rule is None:
            return Ready(state, key, _Seen())
        from aot.student.rows.frames import choose_indices

        decoded_s = time.perf_counter()
        chosen = choose_indices(shown, media, num_frames=rule.num_frames)
        seen = _Seen(chosen.times_s, chosen.size_hw, student.pixels(shown, max_bytes=0).of([chosen]))
        seconds = Seconds(decode=decoded_s - started_s, vision=time.perf_counter() - decoded_s)
        return Ready(state, key, seen, seconds)

    def decide(self, about: State | Ready, questions: Sequence[TypedQuestion]) -> list[Answer]:
        """An answer to each question, with the probabilities of its choices; one that cannot be put abstains.

        Of kinds under review it is what a person said, without probabilities, and nothing before somebody has looked.

        Raises:
            SourceError: the state cannot be shown to this student.
            VideoError: its clip cannot be read.
            RunError: the student was closed.
        """
        ready = about if isinstance(about, Ready) else self.ready(about)
        held = {i: self._held(ready, one) for i, one in enumerate(questions) if self._served.holds(one.kind)}
        return after_review(
            held, len(questions), queue=self._served.review,
            say=lambda places: self.unreviewed(ready, [questions[i] for i in places]),
        )  # fmt: skip

    def _held(self, ready: Ready, question: TypedQuestion) -> Held | Answer:
        """A question that a person has to look at, or the answer that stands without asking the student."""
        served, state = self._served, ready.state
        blank = served.abstained("decide", "", "").model_copy(update={"choices": question.choices})
        if served.review is None:
            return not_looked_at(served.contract, blank)

        def pictures() -> Sequence[ImagePart]:
            shown = served.frames_to_show()
            media = served.media_of(_shows(state), shown)
            return shown.pictures(media) if shown and media else ()

        text = " ".join(filter(None, (state.text.strip(), question.text.strip())))
        row = question_of(text, choices=question.choices, kind=question.kind)
        return Held(row, (served.digest, ready.key, question), blank, pictures)

    def unreviewed(self, about: State | Ready, questions: Sequence[TypedQuestion]) -> list[Answer]:
        """What the student decides itself, whatever is under review; raises as `decide`."""
        ready = about if isinstance(about, Ready) else self.ready(about)
        rows: dict[int, _Row] = {}
        failed: dict[int, tuple[AbstainReason, str]] = {}
        with self._served.turn():
            seen = self._seen_as(ready.key) or ready.seen
            for i, question in enumerate(questions):
                try:
                    self._served.student.renderer.check_times(seen.times_s)
                    rows[i] = self._row(question, ready.state.text, seen)
                except SourceError as error:
                    failed[i] = ("out_of_domain" if isinstance(error, OutOfDomainError) else "failed", str(error))
            started_s, read = time.perf_counter(), seen.ids
            sums = dict(zip(rows, self._sums(seen, list(rows.values()), ready.state.text), strict=True)) if rows else {}
            self._keep(ready.key, seen)
            prefill_s = time.perf_counter() - started_s
        each = 1 / max(len(rows), 1)
        shares = Seconds(
            decode=ready.seconds.decode * each, vision=ready.seconds.vision * each, prefill=prefill_s * each
        )
        return [
            self._answer(question, rows[i], sums[i], seen, shares, cached=_num_same(read, rows[i].ids))
            if i in rows
            else self._served.abstained("decide", *failed[i])
            for i, question in enumerate(questions)
        ]

    def _seen_as(self, key: str) -> _Seen | None:
        with self._books:
            if key not in self._seen:
                return None
            self._seen.move_to_end(key)
            return self._seen[key]

    def _keep(self, key: str, seen: _Seen) -> None:
        if seen.reading is not None and self._bears.get(bool(seen.times_s)):
            seen.shown = {}  # they were read
        with self._books:
            before = self._seen.pop(key, None)
            self._num_bytes -= before.num_bytes if before else 0
            seen.num_bytes = _size(seen)
            self._num_bytes += seen.num_bytes
            self._seen[key] = seen
            while self._num_bytes > self._max_bytes:
                self._num_bytes -= self._seen.popitem(last=False)[1].num_bytes

    def _row(self, question: TypedQuestion, before: str, seen: _Seen) -> _Row:
        """A question as ids.

        Raises:
            SourceError: it cannot be put to this student.
        """
        student = self._served.student
        renderer = student.renderer
        question.check()
        text = " ".join(one for one in (before.strip(), question.text.strip()) if one)
        shown = question.shown
        if not text:
            raise SourceError("a question without words; say what is to be decided")
        text_of(text, "question")
        if mark := renderer.reserved_mark(" ".join((text, *shown))):
            raise SourceError(f"the text contains {mark!r}, which the model reserves; write it otherwise")
        prompt_ids = renderer.encode(
            _question(text, shown), seen.times_s, "direct", frame_size_hw=seen.size_hw
        ).prompt_ids
        row = _Row(prompt_ids, [self._choice_ids(said) for said in question.choices])
        check_choices(student, question.choices, ids=row.choices)
        longest, most = max(map(len, row.choices)), student.most_tokens
        if len(row.ids) + longest > most:
            raise SourceError(
                f"the question has {len(row.ids)} tokens, its longest choice {longest}, and {most} can be read "
                "together; shorten them, or give fewer choices"
            )
        return row

    def _tokenised(self, choice: str) -> tuple[int, ...]:
        return self._served.student.renderer.completion_ids(choice)

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
        from aot.student.answer.batches import with_marks

        return with_marks(self._served.student.renderer, ids, seen.shown)

    def _answer(
        self, question: TypedQuestion, row: _Row, sums: Sequence[float], seen: _Seen, seconds: Seconds, *, cached: int
    ) -> Answer:
        contract = self._served.contract
        logs = np.asarray(sums, dtype=np.float64)
        shares = np.exp(logs - logs.max())
        probs = self._served.calibrated((shares / shares.sum()).tolist(), kind=question.kind or "*")
        best = max(range(len(probs)), key=lambda i: (probs[i], -i))
        strange = kind_problem(contract, question.kind)
        return Answer(
            answer=question.choices[best], choices=question.choices, choice_probs=probs,
            confidence=None if strange else probs[best], detail=strange, mode="decide", frame_times_s=seen.times_s,
            usage=ChatUsage(prompt_tokens=len(row.ids), cached_prompt_tokens=cached),
            seconds=seconds, model=contract.name, contract_version=contract.version,
            contract_digest=self._served.digest,
        )  # fmt: skip


def _shows(state: State) -> Ask:
    frames = state.frames() if callable(state.frames) else state.frames
    return Ask("", clip=state.clip, frames=frames, times_s=state.times_s, start_s=state.start_s, end_s=state.end_s)


def _size(seen: _Seen) -> int:
    """Bytes of pixels, keys and values."""
    from aot.student.model.caches import num_bytes

    pixels = sum(one.numel() * one.element_size() for one in seen.shown.values())
    return pixels + (num_bytes(seen.reading.cache) if seen.reading is not None else 0)


def _question(text: str, shown: tuple[str, ...]) -> Question:
    return Question(
        id="decision", dataset="", split="", kind="*", text=text, choices=shown, answer=shown[0] if shown else "",
        answer_type="text", group="",
    )  # fmt: skip


def _num_same(read: Sequence[int], ids: Sequence[int]) -> int:
    """How many leading ids of a prompt were read, leaving it at least one."""
    from aot.student.rows.packing import num_alike

    return num_alike(read, ids[:-1])


def _agree(tree: list[list[float]], whole: list[list[float]], *, model: Any) -> bool:  # noqa: ANN401
    limit = SAME_PROBABILITY * (1 if "float32" in str(model.dtype) else 50)
    for ours, theirs in zip(tree, whole, strict=True):
        one, two = (np.exp(np.asarray(sums) - np.logaddexp.reduce(sums)) for sums in (ours, theirs))
        if not np.abs(one - two).max() <= limit:
            return False
    return True
