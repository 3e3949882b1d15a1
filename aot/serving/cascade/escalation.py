"""The big model of a cascade: asked within limits on money, tokens and time, and left alone while it is down.

Every call is noted in a ledger (aot.chat.spend), and what it may cost at most is set aside before it is made, so that
no number of threads goes over a limit. What it cannot give is a reason (`Fell`), never an exception.
"""

import io
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from aot.answer_records import Answer, Fallback, Seconds
from aot.answers import find_answer, parse_answer, same_answer
from aot.chat.client import ChatModel
from aot.chat.factory import sampling_of
from aot.chat.messages import ChatReply, ChatRequest, ImagePart, message
from aot.chat.server.wire import TOKENS_PER_IMAGE
from aot.chat.spend import Ledger, cost_of
from aot.config import CapsConfig, ChatConfig
from aot.display import one_line, storable
from aot.errors import AotError, ChatError, ChatReason, ConfigError, GuardStop, SourceError
from aot.rationales.notation import format_time
from aot.records import AnswerType, Question
from aot.run_records import ChatUsage
from aot.served_records import FrameRule, StudentContract
from aot.serving.student import Ask

log = logging.getLogger(__name__)
Result = TypeVar("Result")
FAILURES = 3
"""So many in a row, and the big model is left alone for a while; one where nobody is there at all."""
PURPOSE = "escalate"
_FORM = "End with one line: `Answer:` and {what}, nothing else."
_FALLBACKS: dict[ChatReason, Fallback] = {
    "timeout": "big_model_late", "truncated": "big_model_unusable", "empty": "big_model_unusable",
    "bad_request": "big_model_refused", "content_filter": "big_model_refused", "too_long": "big_model_refused",
    "no_script": "big_model_refused",
}  # fmt: skip
"""Of errors of a request; the others say that the model is down."""
_FREE: frozenset[ChatReason] = frozenset({"connection", "too_long", "no_script", "rate_limited", "quota", "setting"})
"""Failures for which nobody is charged."""


@runtime_checkable
class Answering(Protocol):
    """Who answers questions as an exported student does; aot.serving.student.ServedStudent is one."""

    @property
    def contract(self) -> StudentContract:
        """What it promises."""
        ...

    def ask_many(self, asks: Sequence[Ask]) -> list[Answer]:
        """The answers, in the order of the questions."""
        ...

    def close(self) -> None:
        """Let go of the model."""
        ...


@dataclass(frozen=True)
class Fell:
    """Why there is nothing of the big model."""

    reason: Fallback
    detail: str
    cost: float | None = 0.0
    """Of the attempt; None: not known."""


@dataclass(frozen=True)
class _Said:
    """An answer, and the tokens that it took."""

    answer: Answer
    usage: ChatUsage | None
    """None: nobody counted them."""


class _Health:
    """Whether a model is worth asking; after several failures in a row one question at a time tries it."""

    def __init__(self, rest_s: float, clock: Callable[[], float]) -> None:
        self._rest_s, self._clock, self._lock = rest_s, clock, threading.Lock()
        self._failures, self._resting_until = 0, 0.0

    def may_ask(self) -> bool:
        with self._lock:
            if self._failures < FAILURES:
                return True
            if self._clock() < self._resting_until:
                return False
            self._resting_until = self._clock() + self._rest_s  # the others wait for how this one fares
            return True

    def note(self, *, failures: int) -> None:
        """One more answer (no failures), or failures that weigh so much."""
        with self._lock:
            self._failures = self._failures + failures if failures else 0
            if self._failures >= FAILURES:
                self._resting_until = self._clock() + self._rest_s


class BigModel:
    """Who is asked where the small model is not sure; every method may be called from many threads."""

    def __init__(
        self,
        model: ChatModel | Answering | Callable[[], ChatModel],
        section: ChatConfig,
        *,
        caps: CapsConfig,
        ledger: Ledger,
        notes_spend: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens nothing before the first question.

        Args:
            model: it, or what opens it; that opens it anew after it gave up for good.
            section: its settings; prices and max_cost hold whatever it is.
            caps: what asking may cost.
            ledger: of its calls.
            notes_spend: whether the model notes its calls in that ledger itself.
            clock: seconds, monotonic.
        """
        self.name, self.ledger, self._section, self._caps = section.model, ledger, section, caps
        self._open_model = model if callable(model) else None
        self._notes_spend = notes_spend
        self._health = _Health(caps.rest_s, clock)
        self._slots = threading.Semaphore(section.max_concurrency)
        self._opening = threading.Lock()
        self._opened: list[ChatModel | Answering] = [] if callable(model) else [model]

    def answer(self, ask: Ask, small: Answer, *, rule: FrameRule | None) -> Answer | Fell:
        """Its answer to a question that the small model has answered, about the frames that that one was shown."""
        try:
            request = request_of(ask, small, rule=rule, section=self._section)
        except (AotError, OSError, ValueError, TypeError) as error:
            return Fell("not_to_be_shown", f"what the question is about cannot be shown to {self.name}: {error}")
        began_s = time.monotonic()
        said = self._run(lambda model: _answered(model, ask, request), _most(request, self._section))
        if isinstance(said, Fell):
            return said
        answer, cost = said.answer, self.cost(said.usage)
        if answer.abstained or (ask.choices and answer.answer not in ask.choices):
            shown = storable(answer.raw_text)[-200:]
            return Fell("big_model_unusable", f"{self.name} gave no answer that can be read: {shown!r}", cost)
        seconds = Seconds(generate=time.monotonic() - began_s)
        return answer.model_copy(update={"escalated": True, "cost": cost, "seconds": seconds})

    def reply(self, request: ChatRequest) -> ChatReply | Fell:
        """Its reply to a whole request, which may be a conversation with tools."""
        most = min(request.sampling.max_tokens, self._section.max_tokens)
        sampling = request.sampling.model_copy(update={"max_tokens": most})
        request = request.model_copy(update={"sampling": sampling, "purpose": PURPOSE})
        return self._run(lambda model: _chat(model, self.name).reply(request), _most(request, self._section))

    def cost(self, usage: ChatUsage | None) -> float | None:
        """Of tokens, by the prices; None: unpriced, or nobody counted them."""
        return None if usage is None else cost_of(usage, self._section.prices)

    @property
    def spent(self) -> float | None:
        """By all calls so far, those of other processes on the folder too where a limit is set; None: unpriced."""
        return None if self._section.prices is None else self.ledger.spent

    def close(self) -> None:
        """Close the model, if it was opened, and the ledger."""
        with self._opening:
            for model in self._opened:
                model.close()
            self._opened = []
        self.ledger.close()

    def _run(self, work: Callable[[ChatModel | Answering], Result], most: ChatUsage) -> Result | Fell:
        """What `work` gives, or why there is nothing; after `wait_s` a call goes on alone, and is paid for.

        One that has not begun by then, since `max_concurrency` others run, is never made.
        """
        if not self._health.may_ask():
            return Fell("big_model_down", f"{self.name} failed several times in a row and is left alone for a while")
        if limit := self.ledger.reserve(most):
            words = {"cost": "big.max_cost is reached", "tokens": "caps.max_tokens is reached"}[limit]
            return Fell("budget_spent" if limit == "cost" else "tokens_spent", f"{words}; raise it to ask {self.name}")
        until_s = time.monotonic() + self._caps.wait_s
        if not self._slots.acquire(timeout=self._caps.wait_s):
            self.ledger.release(most)
            self._health.note(failures=1)
            return Fell("big_model_late", f"{self.name} was busy with other questions for {self._caps.wait_s:g} s")
        future: Future[Result] = Future()
        # A thread of its own, and no pool: one that hangs must neither keep others waiting nor the process alive.
        threading.Thread(target=self._work, args=(future, work, most), name="aot-escalate", daemon=True).start()
        if not wait([future], timeout=max(0.0, until_s - time.monotonic())).done:
            self._health.note(failures=1)
            return Fell("big_model_late", f"{self.name} gave no answer within {self._caps.wait_s:g} s", None)
        error = future.exception()
        if error is None:
            self._health.note(failures=0)
            return future.result()
        return self._fell(error)

    def _work(self, future: "Future[Result]", work: Callable[[Any], Result], most: ChatUsage) -> None:
        """Make a call whose slot is taken and whose most is set aside; gives both back."""
        began_s, epoch_s = time.monotonic(), time.time()
        result: Result | None = None
        error: BaseException | None = None
        model: ChatModel | Answering | None = None
        try:
            model = self._model()
            result = work(model)
        except BaseException as raised:  # noqa: BLE001 - told to whoever waits; it is the end of this thread
            error = raised
        finally:
            self._slots.release()
        if error is not None and not isinstance(error, ChatError):
            self._forget(model)
        try:
            self._note(result, error, most=most, epoch_s=epoch_s, seconds=time.monotonic() - began_s)
        except AotError as refused:
            log.error("a call of %s could not be noted: %s", self.name, refused)
        self.ledger.release(most)
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]
        else:
            future.set_exception(error)

    def _note(
        self, result: object, error: BaseException | None, *, most: ChatUsage, epoch_s: float, seconds: float
    ) -> None:
        """Write a call down, unless the model does so itself or nobody is charged for it."""
        is_free = isinstance(error, ChatError) and error.reason in _FREE
        if self._notes_spend or is_free or isinstance(error, ConfigError):
            return
        usage = getattr(result, "usage", None)
        outcome = "ok" if error is None else str(getattr(error, "reason", type(error).__name__))
        self.ledger.note_call(
            purpose=PURPOSE, outcome=outcome, started_s=epoch_s, seconds=seconds, usage=usage, most=most
        )

    def _fell(self, error: BaseException) -> Fell:
        """What an error says; one of the request itself says nothing against the model."""
        detail = one_line(f"{self.name}: {error}")[:500]
        log.warning("no answer of the big model: %s", detail)
        if isinstance(error, ChatError):
            reason = _FALLBACKS.get(error.reason, "big_model_down")
            is_request = reason in ("big_model_refused", "big_model_unusable")
            self._health.note(failures=0 if is_request else FAILURES if error.reason == "connection" else 1)
            return Fell(reason, detail, 0.0 if error.reason in _FREE else None)
        try:
            self.ledger.guard()
        except GuardStop:
            return Fell("budget_spent", detail)
        if not isinstance(error, AotError):
            log.error("%s failed", self.name, exc_info=error)
        self._health.note(failures=FAILURES)
        return Fell("big_model_down", detail)

    def _model(self) -> ChatModel | Answering:
        with self._opening:
            if not self._opened and self._open_model is not None:
                self._opened = [self._open_model()]
            return self._opened[0]

    def _forget(self, model: ChatModel | Answering | None) -> None:
        """Let go of a model that has given up for good; it is opened anew when it is tried again."""
        with self._opening:
            # Another thread may have opened the next one already.
            if model is None or self._open_model is None or self._opened != [model]:
                return
            self._opened = []
        try:
            model.close()
        except Exception as error:  # noqa: BLE001 - it has failed already, and the question is still to be answered
            log.warning("%s could not be closed: %s", self.name, error)


def request_of(ask: Ask, small: Answer, *, rule: FrameRule | None, section: ChatConfig) -> ChatRequest:
    """A question as a chat model is asked it: each frame behind its time, the question, and the form of the answer.

    Raises:
        SourceError: there is no question, or the frames that the small model was shown cannot be read.
        VideoError: the clip cannot be read.
    """
    choices = ask.choices or ()
    if not isinstance(ask.question, str) or not ask.question.strip() or not all(isinstance(c, str) for c in choices):
        raise SourceError("the question has no text, or choices that are no texts")
    frames = _frames(ask, small, rule)
    shown = [part for frame in frames for part in (f"t={format_time(frame.time_s or 0.0)}", frame)]
    options = "".join(f"\n- {choice}" for choice in choices)
    what = "the text of one of the options" if options else "the answer alone"
    text = f"{ask.question}{options and f'{chr(10)}Options:{options}'}\n{_FORM.format(what=what)}"
    return ChatRequest(
        messages=(message("user", *shown, text),), sampling=sampling_of(section, seed=0), purpose=PURPOSE
    )


def read_answer(text: str, ask: Ask) -> str:
    """The answer in a big model's reply: the option that it names, word for word; empty where it names none.

    An open question takes the stated answer, or all that was said where none is marked.
    """
    stated = find_answer(text).answer
    if not ask.choices:
        return (stated or text).strip()
    question = _question(ask, "choice")
    meant = parse_answer(stated, question).value
    options = {parse_answer(choice, question).value: choice for choice in ask.choices}
    return options.get(meant, "") if meant is not None else ""


def agree(one: str, other: str, ask: Ask) -> bool:
    """Whether two answers to a question say the same: the same option, number or words."""
    if ask.choices:
        return same_answer(one, other, _question(ask, "choice"))
    return same_answer(one, other, _question(ask, "text"), kinds=("number", "text"))


def _answered(model: ChatModel | Answering, ask: Ask, request: ChatRequest) -> _Said:
    if isinstance(model, Answering):
        (answer,) = model.ask_many([ask])
        return _Said(answer, answer.usage)
    reply = model.reply(request)
    answer = Answer(
        answer=read_answer(reply.text, ask), choices=tuple(ask.choices), raw_text=reply.text, rationale=reply.text,
        tool_calls=reply.tool_calls, mode="reason", usage=reply.usage or ChatUsage(), model=reply.model or model.name,
        frame_times_s=tuple(part.time_s or 0.0 for part in request.messages[0].parts if isinstance(part, ImagePart)),
    )  # fmt: skip
    return _Said(answer, reply.usage)


def _chat(model: ChatModel | Answering, name: str) -> ChatModel:
    """The chat model; an exported student is one by its engine."""
    chat = getattr(model, "engine", model) if isinstance(model, Answering) else model
    if isinstance(chat, Answering):
        raise ChatError(f"{name} answers single questions only", reason="bad_request")
    return chat


def _most(request: ChatRequest, section: ChatConfig) -> ChatUsage:
    """The most tokens that a request can be charged for, with all its attempts.

    No tokenizer makes more tokens of a text than it has bytes; templates add a few to each message.
    """
    parts = [part for one in request.messages for part in one.parts]
    images = [part for part in parts if isinstance(part, ImagePart)]
    written = request.model_copy(update={"messages": tuple(_without_images(one) for one in request.messages)})
    prompt = len(written.model_dump_json(exclude={"sampling"}).encode()) + max(
        TOKENS_PER_IMAGE * len(images), sum(len(image.data) for image in images) // 16
    )
    attempts = section.max_attempts + 1 if section.backend == "openai" else 1
    completion = int(request.sampling.max_tokens * max(1.0, section.raise_tokens if attempts > 1 else 1.0))
    return ChatUsage(prompt_tokens=attempts * prompt, completion_tokens=attempts * completion)


def _without_images(one: Any) -> Any:  # noqa: ANN401 - a Message
    return one.model_copy(update={"parts": tuple(part for part in one.parts if not isinstance(part, ImagePart))})


def _question(ask: Ask, answer_type: AnswerType) -> Question:
    # Nothing is checked: whatever was asked was asked, and readers of answers look at these fields only.
    return Question.model_construct(
        id="asked", dataset="", split="", kind="*", text=ask.question, choices=tuple(ask.choices or ()), group="",
        answer=ask.choices[0] if ask.choices else "", answer_type=answer_type,
    )  # fmt: skip


def _frames(ask: Ask, small: Answer, rule: FrameRule | None) -> list[ImagePart]:
    """The frames that the small model was shown, as pictures with their times; none for a question about text."""
    if ask.clip is None and ask.frames is None:
        return []
    if rule is None or not small.frame_times_s:
        raise SourceError(f"the small model was shown no frames ({small.detail or 'it takes none'})")
    if ask.frames is not None:
        times_s = [float(one) for one in ask.times_s or range(len(ask.frames))]
        picked = [(time_s, ask.frames[times_s.index(time_s)]) for time_s in small.frame_times_s if time_s in times_s]
    else:
        from pathlib import Path

        from video_data.decode.sandbox import shared_pool

        decoded = shared_pool().read_frames(
            Path(str(ask.clip)), times_s=list(small.frame_times_s), max_side_px=rule.max_side_px
        )
        picked = list(zip(decoded.times_s, decoded.frames_THWC, strict=True))
    return [_picture(frame, time_s) for time_s, frame in picked]


def _picture(frame: np.ndarray, time_s: float) -> ImagePart:
    from PIL import Image  # an extra that text students need none of

    file = io.BytesIO()
    Image.fromarray(np.asarray(frame)).save(file, format="JPEG", quality=92)
    return ImagePart(data=file.getvalue(), time_s=float(time_s))
