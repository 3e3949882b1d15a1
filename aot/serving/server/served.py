"""What one server serves: who replies, who decides, under which limits; routes find it in their request."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any, TypeVar

from fastapi import Request

from aot.answer_records import Answer, ServedRow
from aot.chat.client import ChatModel
from aot.chat.messages import ChatReply, ChatRequest, ImagePart
from aot.chat.server.keys import Secret
from aot.display import storable
from aot.errors import AotError
from aot.files.run_folder import append_row, open_append
from aot.review_records import PendingRow
from aot.served_records import StudentContract
from aot.serving import media
from aot.serving.cascade.model import Cascade, load_cascade
from aot.serving.cascade.watch import features_of, question_sha256
from aot.serving.frames import ClipShelf
from aot.serving.review.queue import Outcome, ReviewQueue
from aot.serving.server.desk import Desk, Ticket
from aot.serving.server.errors import ApiError
from aot.serving.server.limits import Limits
from aot.serving.server.metrics import Metrics
from aot.serving.student import Ask, ServedStudent

log = logging.getLogger(__name__)
Made = TypeVar("Made")
GONE = 499
"""Status of a request whose client left."""


class ClientLeftError(Exception):
    """Nobody waits for the answer any more."""


class Recorder:
    """Appends a row for each answered request to a file; a full disk ends the notes and not the answers."""

    def __init__(self, path: Path, *, with_text: bool, redact: Callable[[str], str] = str) -> None:
        self._file: IO[bytes] | None = open_append(path)
        self._with_text, self._redact, self._lock = with_text, redact, threading.Lock()

    def note(self, row: ServedRow, *, question: str, text: str) -> None:
        """Append a row, with question and text of the reply where texts are noted, and their hash in any case."""
        row = row.model_copy(update={"question_sha256": question_sha256(question)})
        if self._with_text:
            said = {"question": question, "answer": row.answer or text}
            row = row.model_copy(update={name: self._redact(storable(words)) for name, words in said.items()})
        with self._lock:
            if self._file is None:
                return
            try:
                append_row(self._file, row)
            except AotError as error:
                log.error("requests are no longer noted: %s", error.args[0])
                self._file = None

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._file is not None:
                self._file.close()
            self._file = None


@dataclass
class Served:
    """What one server serves."""

    chat: ChatModel
    """Who replies: a desk, a cascade, or servers behind this one."""
    contract: StudentContract | None = None
    student: ServedStudent | None = None
    """Who decides; asked through `desk` only, because its model is not for two threads at once."""
    desk: Desk | None = None
    """The thread at the student's model; None where no model runs in this process."""
    cascade: Cascade | None = None
    """Who replies, where that is a cascade over the desk."""
    limits: Limits = field(default_factory=Limits)
    metrics: Metrics = field(default_factory=Metrics)
    allow: tuple[Path, ...] = ()
    """Folders, resolved, whose clips may be asked about."""
    model_name: str = ""
    """As clients name it; empty takes the name of the contract, or of who replies."""
    recorder: Recorder | None = None
    started_s: float = field(default_factory=time.time)
    disclose: bool = False
    """Whether a sentence behind the text of every reply says where it comes from, too."""
    review: ReviewQueue | None = None
    """Where answers wait that a person has to look at first; None where no kind of question needs that."""
    watermark: bool = False
    """Whether the student's long sampled replies carry a watermark."""
    draining: bool = False
    """Whether a signal came: what was taken is finished, nothing new is."""

    def __post_init__(self) -> None:
        rule = self.contract.frames if self.contract else None
        self.shelf = self.student._shelf if self.student else ClipShelf(rule) if rule else None
        """Decoded clips; those of the student, where it is here."""
        self._pool = ThreadPoolExecutor(max_workers=self.limits.max_batch, thread_name_prefix="aot-chat")
        self._media = ThreadPoolExecutor(max_workers=4, thread_name_prefix="aot-media")

    @property
    def name(self) -> str:
        """Of the model, as clients name it."""
        return self.model_name or (self.contract.name if self.contract else self.chat.name)

    @cached_property
    def fingerprint(self) -> str | None:
        """Digest of the contract, where there is one."""
        return self.contract.digest() if self.contract else None

    @property
    def decides(self) -> bool:
        """Whether choices are decided by the student here, and not asked of whoever replies."""
        return self.student is not None and self.desk is not None and self.chat is self.desk

    def find_clip(self, path: str, *, start_s: float, end_s: float | None) -> media.ClipWindow:
        """The clip at a path that a client gave, in a window that is taken; it may have to be decoded for that.

        Raises:
            ApiError: as for `media.find_clip`.
        """
        return media.find_clip(
            path, allow=self.allow, limits=self.limits, shelf=self.shelf, start_s=start_s, end_s=end_s
        )

    def let_wait(self, row: PendingRow, images: Sequence[ImagePart]) -> Outcome:
        """Put an answer into the queue of those that a person has to look at, which must be there.

        Raises:
            ApiError: it cannot wait: then nobody is told the answer either.
        """
        assert self.review is not None
        try:
            return self.review.add(row, images)
        except AotError as error:
            log.error("a request cannot wait for review: %s", error.args[0])
            words = "the request cannot wait for review now; try again later"
            raise ApiError(503, words, code="review_queue") from None

    async def aside(self, function: Callable[[], Made]) -> Made:
        """What `function` gives, called beside the event loop: for images and clips."""
        return await asyncio.get_running_loop().run_in_executor(self._media, function)

    async def reply(self, request: ChatRequest, *, client: Request) -> ChatReply:
        """The reply of whoever replies, as long as the client waits for it.

        Raises:
            ChatError: there is none.
            ApiError: too many wait.
            ClientLeftError: the client left first.
        """
        if isinstance(self.chat, Desk):
            reply: ChatReply = await result_of(self.chat.submit(request), client=client)
            return reply
        return await self.beside(lambda: self.chat.reply(request), client=client)

    async def beside(self, function: Callable[[], Made], *, client: Request) -> Made:
        """What `function` gives, called in a thread of its own, as long as the client waits for it.

        Raises:
            ClientLeftError: the client left first.
        """
        future = asyncio.get_running_loop().run_in_executor(self._pool, function)
        return await while_waited_for(future, client=client)

    @cached_property
    def words(self) -> frozenset[str] | None:
        """Those of training, by which the words of a question are known; None where the contract holds none."""
        calibration = self.contract.calibration if self.contract else None
        return frozenset(calibration.watches[0].words) if calibration and calibration.watches else None

    def note(self, row: ServedRow, *, question: str = "", choices: Sequence[str] = (), text: str = "") -> None:
        """Count one answered request in the figures, and note it where notes are kept."""
        self.metrics.count_usage(row.usage)
        if row.abstained:
            self.metrics.abstentions.labels(row.abstained).inc()
        if row.escalated:
            self.metrics.escalations.inc()
        if self.recorder is not None:
            if self.words is not None:  # noted as numbers, so that drift is seen where no text is kept
                said = features_of(question, choices=choices, confidence=None, words=self.words)
                counts = {"question_words": int(said["length"]), "unknown_words": int(said["unknown_words"])}
                row = row.model_copy(update=counts)
            self.recorder.note(row, question=question, text=text)

    def close(self) -> None:
        """Let go of models, threads and files."""
        self.chat.close()
        if self.desk is not None and self.desk is not self.chat:
            self.desk.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._media.shutdown(wait=False, cancel_futures=True)
        if self.recorder is not None:
            self.recorder.close()
        if self.review is not None:
            self.review.close()


async def result_of(ticket: Ticket, *, client: Request) -> Any:  # noqa: ANN401 - a reply, answers, or what work gives
    """The result of a place at the desk, which is given up where the client leaves first.

    Raises:
        ClientLeftError: it left; and whatever the work raises.
    """
    return await while_waited_for(asyncio.wrap_future(ticket.future), client=client, leave=ticket.leave)


async def while_waited_for(
    future: "asyncio.Future[Made]", *, client: Request, leave: Callable[[], None] = lambda: None
) -> Made:
    """The result of `future`, unless the client leaves first; then `leave` is called.

    Raises:
        ClientLeftError: it left.
    """
    gone = asyncio.ensure_future(_left(client))
    both: list[asyncio.Future[Any]] = [future, gone]
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if future.done():
            return future.result()
        raise ClientLeftError
    finally:
        gone.cancel()
        if not future.done():
            leave()
            future.cancel()


async def _left(client: Request) -> None:
    while (await client.receive())["type"] != "http.disconnect":
        pass


class DeskStudent:
    """A student as a cascade asks it: every question goes to the desk and takes its turn there."""

    def __init__(self, desk: Desk, contract: StudentContract) -> None:
        self.desk, self.contract = desk, contract

    def ask_many(self, asks: Sequence[Ask]) -> list[Answer]:
        """The student's answers; raises as `Desk.ask`."""
        answers: list[Answer] = self.desk.ask(asks).future.result()
        return answers

    def reply(self, request: ChatRequest) -> ChatReply:
        """The student's reply; raises as `Desk.reply`."""
        return self.desk.reply(request)

    def close(self) -> None:
        """Nothing: whoever opened the desk closes it."""


def serve_export(
    folder: Path,
    *,
    limits: Limits,
    allow: tuple[Path, ...] = (),
    recorder: Recorder | None = None,
    cascade: Path | None = None,
    disclose: bool = False,
    book: Path | None = None,
    watermark: Secret | None = None,
) -> Served:
    """The student in an exported folder, loaded, with a desk of its own; a config file of a cascade puts it over that.

    A folder of recipe cards takes the place of those that came with it; the secret is that of a watermark.

    Raises:
        CheckpointError: it cannot be loaded.
        ConfigError: the cascade is unfit, or the student has no use for a book.
    """
    from aot.serving.student import load_student

    student, metrics = load_student(folder, book=book), Metrics()
    contract = student.contract
    engine = student.open_engine(
        max_prompt_tokens=limits.max_prompt_tokens, deadline_s=limits.reply_s, watermark=watermark
    )
    desk = Desk(engine, student=student, limits=limits, metrics=metrics)
    both = load_cascade(cascade, DeskStudent(desk, contract)) if cascade is not None else None
    return Served(
        both or desk, contract, student, desk, both, limits, metrics, allow, "", recorder, disclose=disclose,
        watermark=watermark is not None,
    )  # fmt: skip


def served_of(request: Request) -> Served:
    """What the application of a request serves."""
    served: Served = request.app.state.served
    return served
