"""A cascade: a small model that answers what it is sure of, and a big one that is asked the rest.

It stands where an exported student stands (`ask`, `ask_many`), and where a chat model does (`reply`, `stream`). A
question goes to the big model once at most. Every answer says by its `routing` who was to give it and why, and every
decision is a row in the ledger. The rule itself stands in `routing`, the limits of the big model in `escalation`.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aot.answer_records import Answer, CascadeCounts, CascadeRow, Routing, Seconds
from aot.answers import stop_workers
from aot.chat.client import ChatModel
from aot.chat.factory import check_chat, open_chat
from aot.chat.messages import ChatReply, ChatRequest
from aot.chat.spend import Ledger
from aot.config import CascadeSection, load_cascade_config
from aot.errors import AotError, ChatError, ConfigError
from aot.files.parts import Part, writer_name
from aot.files.run_folder import RunFolder
from aot.run_records import ChatUsage
from aot.seeds import share
from aot.served_records import StudentContract
from aot.serving.cascade.escalation import Answering, BigModel, Fell, agree
from aot.serving.cascade.routing import Promises, ask_of, check_target, digest_of, reason_to_escalate
from aot.serving.contract import read_contract
from aot.serving.review.holding import why_held
from aot.serving.student import Ask, ServedStudent, load_student
from aot.student.answer import open_model

log = logging.getLogger(__name__)
MOST_AT_ONCE = 32
"""Questions of one batch that wait for the big model at the same time."""


@dataclass(frozen=True)
class _Outcome:
    """What came of one question: the answer that stands, and what the ledger says beside it."""

    answer: Answer
    routing: Routing
    usage: ChatUsage
    """Of the big model."""


class Cascade:
    """Two models in the place of one; may be asked from many threads."""

    def __init__(self, small: Answering, big: BigModel | ChatModel | Answering, section: CascadeSection) -> None:
        """Both models are closed with the cascade.

        Args:
            small: who is asked first.
            big: who is asked next; of a model that is no `BigModel`, `section` sets the limits.
            section: the rule.

        Raises:
            ConfigError: the student was not calibrated for this target, and no threshold is set by hand.
            AotError: the ledger cannot be written.
        """
        self.small, self.section = small, section
        check_target(small.contract, section)
        self._promises = Promises(small.contract, section)
        self.big = big if isinstance(big, BigModel) else _limited(big, section)
        self.contract: StudentContract = small.contract
        self.name = f"{self.contract.name}+{self.big.name}"
        self._rows = Part(RunFolder(Path(section.folder)).routed, writer_name()) if section.folder else None
        self._lock, self._counts, self._unwritten = threading.Lock(), Counter[str](), 0
        self._reasons, self._fallbacks = Counter[str](), Counter[str]()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close both models, the ledger, and the processes that compared answers."""
        self.big.close()
        stop_workers()
        self.small.close()
        if self._rows is not None:
            self._rows.close()

    def ask(self, question: str, **about: Any) -> Answer:  # noqa: ANN401 - the fields of Ask
        """The answer to one question; keywords are the fields of `Ask`."""
        (answer,) = self.ask_many([Ask(question, **about)])
        return answer

    def ask_many(self, asks: Sequence[Ask]) -> list[Answer]:
        """The answers in the order of the questions; those that go to the big model wait for it together.

        Of a kind under review it is what a person said, of neither model.
        """
        began_s = time.monotonic()
        pairs = list(zip(asks, self.small.ask_many(asks), strict=True))
        for ask, small in pairs:  # in their order, whichever waits for the big model
            if small.review is None:
                self._promises.observe(ask, small)
        if len(pairs) < 2:
            return [self._settle(ask, answer, began_s=began_s) for ask, answer in pairs]
        with ThreadPoolExecutor(max_workers=min(MOST_AT_ONCE, len(pairs))) as pool:
            return list(pool.map(lambda pair: self._settle(*pair, began_s=began_s), pairs))

    def reply(self, request: ChatRequest) -> ChatReply:
        """The reply to one request: of the cascade where it is one question, of the big model where it is more.

        Raises:
            ChatError: neither model has an answer.
        """
        ask = ask_of(request)
        if ask is None:
            return self.converse(request)[0]
        answer = self.ask_many([ask])[0]
        if answer.abstained:
            words = f"{answer.model} has no answer ({answer.abstained}) {answer.detail}".strip()
            raise ChatError(words, reason="truncated" if answer.abstained == "cut_off" else "empty")
        return ChatReply(
            text=answer.raw_text or answer.answer, tool_calls=answer.tool_calls, model=answer.model, usage=answer.usage
        )

    def stream(self, request: ChatRequest) -> Iterator[Any]:
        """The reply as one piece: who gives it is only decided once the small model has answered.

        Raises:
            ChatError: as for `reply`.
        """
        from aot.student.answer.engine import Piece  # torch, which a cascade in front of servers needs not

        reply = self.reply(request)
        yield Piece(reply.text, reply)

    @property
    def counts(self) -> CascadeCounts:
        """What was done so far."""
        with self._lock:
            return CascadeCounts(
                **{name: self._counts[name] for name in ("questions", "escalated", "audited", "disagreed")},
                reasons=dict(sorted(self._reasons.items())), fallbacks=dict(sorted(self._fallbacks.items())),
                cost=self.big.spent, tokens=self.big.ledger.tokens, unwritten=self._unwritten,
            )  # fmt: skip

    def _settle(self, ask: Ask, small: Answer, *, began_s: float) -> Answer:
        """The answer that stands, once it is counted and written down; that of a person as it is."""
        if small.review is not None:
            return small
        question = digest_of(ask)
        outcome = self._outcome(ask, small, self._route(ask, small, question))
        self._record(question, str(ask.kind or "")[:200], small, outcome, seconds=time.monotonic() - began_s)
        return outcome.answer

    def _route(self, ask: Ask, small: Answer, question: str) -> Routing:
        """What the rule says."""
        threshold = self._promises.threshold(small.mode)
        reason = reason_to_escalate(ask, small, self.contract, threshold=threshold)
        if not reason and self._promises.is_void(small.mode) and self.section.on_void == "escalate":
            reason = "void"
        local = not reason
        shadow = self.section.shadow != "off"
        audited = local and not shadow and share(self.section.seed, "audit", question) < self.section.audit
        return Routing(
            decision="local" if local else "escalate", reason=reason or "confident", threshold=threshold,
            promise=self._promises.words(small.mode), audited=audited, shadow=shadow,
        )  # fmt: skip

    def _outcome(self, ask: Ask, small: Answer, routing: Routing) -> _Outcome:
        """Ask the big model where that is called for, and take the answer that stands.

        An audited answer stays the small one's: what users get is what is audited.
        """
        if routing.decision == "local" and not routing.audited and not routing.shadow:
            return _Outcome(small.model_copy(update={"cost": 0.0, "routing": routing}), routing, ChatUsage())
        big = self.big.answer(ask, small, rule=self.contract.frames)
        if isinstance(big, Fell):
            log.info("the small model's answer stands: %s", big.detail)
            routing = routing.model_copy(update={"fallback": big.reason})
            return _Outcome(small.model_copy(update={"cost": big.cost, "routing": routing}), routing, ChatUsage())
        if not small.abstained:
            routing = routing.model_copy(update={"agreed": agree(small.answer, big.answer, ask)})
        serves_big = self.section.shadow == "big" if routing.shadow else routing.decision == "escalate"
        if not serves_big:
            return _Outcome(small.model_copy(update={"cost": big.cost, "routing": routing}), routing, big.usage)
        seconds = Seconds(**{**small.seconds.model_dump(), "generate": small.seconds.generate + big.seconds.generate})
        return _Outcome(big.model_copy(update={"routing": routing, "seconds": seconds}), routing, big.usage)

    def converse(self, request: ChatRequest) -> tuple[ChatReply, Answer]:
        """The big model's reply to a request of any form, or that of the small one's engine; and who gave it, and why.

        Raises:
            ChatError: neither gave one, or a person has to look at answers first, and this is of no kind.
        """
        began_s = time.monotonic()
        if isinstance(self.small, ServedStudent) and self.small.holds(""):
            raise ChatError(why_held(self.contract), reason="bad_request")
        routing = Routing(
            decision="escalate", reason="conversation", promise="none: a conversation was not calibrated for"
        )
        said = Answer(mode="reason", model=self.big.name, escalated=True)
        reply, usage = self.big.reply(request), ChatUsage()
        if isinstance(reply, Fell):
            routing = routing.model_copy(update={"fallback": reply.reason})
            said = said.model_copy(update={"escalated": False, "model": self.contract.name, "cost": reply.cost})
        else:
            usage = reply.usage or usage
            said = said.model_copy(update={"model": reply.model, "cost": self.big.cost(reply.usage)})
        # Written first: nobody else may be able to reply, and that is an error.
        digest, seconds = request.digest(model="", base_url=""), time.monotonic() - began_s
        self._record(digest, "", said, _Outcome(said, routing, usage), seconds=seconds)
        said = said.model_copy(update={"routing": routing})
        return (self._small_reply(request, reply) if isinstance(reply, Fell) else reply), said

    def _small_reply(self, request: ChatRequest, why: Fell) -> ChatReply:
        engine = self.small if hasattr(self.small, "reply") else getattr(self.small, "engine", None)
        if engine is None:
            raise ChatError(f"no model can take this request ({why.reason})", reason="server_error")
        reply: ChatReply = engine.reply(request)
        return reply

    def _record(self, question: str, kind: str, small: Answer, outcome: _Outcome, *, seconds: float) -> None:
        answer, routing = outcome.answer, outcome.routing
        row = CascadeRow(
            time_s=round(time.time(), 3), question=question, kind=kind, mode=small.mode, confidence=small.confidence,
            threshold=routing.threshold, decision=routing.decision, reason=routing.reason, fallback=routing.fallback,
            model=answer.model, escalated=answer.escalated, audited=routing.audited, shadow=routing.shadow,
            agreed=routing.agreed, cost=answer.cost, usage=outcome.usage, seconds=round(seconds, 4),
        )  # fmt: skip
        lost = 0
        try:
            if self._rows is not None:
                self._rows.append(row)
        except AotError as error:  # the answer is there all the same; a full disk must not take it away
            lost = 1
            log.error("a decision of the cascade could not be written: %s", error)
        compared = routing.audited and routing.agreed is not None
        with self._lock:
            self._unwritten += lost
            self._counts.update(
                questions=1, escalated=answer.escalated, audited=compared, disagreed=compared and not routing.agreed
            )
            self._reasons[routing.reason] += 1
            if routing.fallback:
                self._fallbacks[routing.fallback] += 1


def load_cascade(config_path: Path, student: Answering | None = None) -> Cascade:
    """The cascade of a config file over `student`, or over the export that the config names.

    Raises:
        ConfigError: the file is unfit, names no student or another one, or the big model cannot be asked.
        CheckpointError: the export cannot be loaded.
    """
    section = load_cascade_config(config_path)
    if student is None:
        if section.student is None:
            raise ConfigError(f"{config_path}: student: is needed here, the folder of an exported student")
        student = load_student(section.student)
    elif section.student is not None:
        named = read_contract(Path(section.student), check_files=False)
        if named.digest() != student.contract.digest():
            raise ConfigError(f"{config_path}: student is another export ({named.name}) than the one that is served")
    check_target(student.contract, section)  # before a folder is made
    return Cascade(student, open_big(section), section)


def open_big(section: CascadeSection) -> BigModel:
    """The big model of a cascade; whether it can be asked is looked at now, it is opened at its first question.

    Raises:
        ConfigError: it cannot, for want of a key, a script or a folder.
    """
    check_chat(section.big)
    ledger = _ledger(section)
    is_server = section.big.backend == "openai"

    def open_it() -> ChatModel:
        if is_server:
            return open_chat(section.big, run=None, writer=writer_name(), ledger=ledger)
        return open_model(section.big, run=None, writer=writer_name())

    return BigModel(open_it, section.big, caps=section.caps, ledger=ledger, notes_spend=is_server)


def _limited(big: ChatModel | Answering, section: CascadeSection) -> BigModel:
    return BigModel(big, section.big, caps=section.caps, ledger=_ledger(section), notes_spend=False)


def _ledger(section: CascadeSection) -> Ledger:
    spend = RunFolder(Path(section.folder)).chat_spend if section.folder else None
    return Ledger(section.big, spend, writer=writer_name(), max_tokens=section.caps.max_tokens)
