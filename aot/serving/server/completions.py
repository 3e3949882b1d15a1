"""`/v1/chat/completions`: asked as OpenAI's clients ask, answered by whoever replies; a choice is decided."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from aot.answer_records import AbstainReason, Answer, ServedRow
from aot.chat.messages import ChatReply, ChatRequest, ImagePart, Sampling
from aot.display import storable
from aot.errors import ChatError, OutOfDomainError
from aot.review_records import PendingRow
from aot.served_records import AskMode, StudentContract
from aot.serving import media
from aot.serving.cascade.model import Cascade
from aot.serving.disclosure import Watermark, origin_of, text_of
from aot.serving.replies import tool_agreement
from aot.serving.review.disclosing import abstention_of, disclosure_of, origin_of_person
from aot.serving.review.queue import Outcome, ReviewQueue, question_of, request_id
from aot.serving.server import errors
from aot.serving.server.chat_reply import (
    AotOut,
    ChoiceProb,
    Completion,
    error_event,
    safe_length,
    until_stop,
    usable,
)
from aot.serving.server.chat_request import (
    ChatAsk,
    ChatBody,
    VideoPath,
    chat_request,
    clip_of,
    images_of,
    parts_of,
    read_body,
)
from aot.serving.server.desk import Desk
from aot.serving.server.errors import WAITS, ApiError, bad
from aot.serving.server.json_body import JsonRequest
from aot.serving.server.served import GONE, ClientLeftError, Served, result_of, served_of, while_waited_for
from aot.serving.student import MODEL_FAILED, Ask
from aot.student.rows.prompts import MODE_SUFFIX

log = logging.getLogger(__name__)


class _BodyRoute(APIRoute):
    """Reads a sound body in one step; any other one is FastAPI's, which says what is wrong with it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler around that of the library."""
        usual = super().get_route_handler()

        async def handle(plain_request: Request) -> Response:
            request = JsonRequest(plain_request.scope, plain_request.receive)
            if request.headers.get("content-type") != "application/json":
                return await usual(request)
            try:
                body = ChatBody.model_validate(await request.json())
            except (ValueError, HTTPException):
                return await usual(request)
            return await create(body, request)

        return handle


router = APIRouter(route_class=_BodyRoute)


@dataclass
class _Turn:
    """One request while it is answered."""

    served: Served
    ask: ChatAsk
    client: Request
    completion: Completion
    began_s: float = field(default_factory=time.monotonic)
    frame_times_s: list[float] = field(default_factory=list)
    images: list[ImagePart] = field(default_factory=list)
    """That the model was shown."""
    waits: bool = False
    """Whether a person has to look at the answer before anybody is told."""
    sampling: Sampling | None = None
    """Of a reply that is written as a client asked; None of an answer to a question, which is never sampled."""
    said: tuple[str | None, AotOut] | None = None
    """Text and facts of the reply, once it is whole."""

    def find(self, video: VideoPath) -> media.ClipWindow:
        """The clip of a content part."""
        return self.served.find_clip(video.path, start_s=video.start_s, end_s=video.end_s)

    def frames(self, video: VideoPath) -> list[ImagePart]:
        """The frames of a content part's clip."""
        window, contract, shelf = self.find(video), self.served.contract, self.served.shelf
        if contract is None or contract.frames is None or shelf is None:
            raise bad("this model is shown no clips", param="messages", code="no_clips")
        return media.read_clip(window, contract.frames, shelf)

    async def request(self) -> ChatRequest:
        """What the model is asked, its images and clips read."""
        served = self.served

        def made() -> ChatRequest:
            return chat_request(self.ask, contract=served.contract, limits=served.limits, clip=self.frames)

        # Text alone is quicker read than handed to another thread.
        request = await served.aside(made) if self.ask.has_media else made()
        images = [image for one in request.messages for image in images_of(one)]
        self.images, self.sampling = images, request.sampling
        self.frame_times_s = [image.time_s for image in images if image.time_s is not None]
        return request

    def outside(self) -> Answer | None:
        """An answer that abstains, where the student here cannot read the times of the images."""
        student = self.served.student
        if student is None or not self.frame_times_s:
            return None
        try:
            student.student.renderer.check_times(self.frame_times_s)
        except OutOfDomainError as error:
            return student.refusal(Ask(self.ask.question), str(error), reason="out_of_domain")
        return None

    @property
    def discloses(self) -> bool:
        """Whether the text itself is to say where it comes from; never inside of JSON that a client reads."""
        wanted = self.served.disclose or self.ask.body.aot.disclose
        return wanted and not self.ask.choices and self.ask.body.response_format is None

    def _long_text(self, who: StudentContract | None) -> Watermark:
        """What holds of a long reply of the student here; of another model it is not known."""
        if who is None or self.served.desk is None:
            return "none"
        if self.sampling is None or not self.sampling.temperature:
            return "none_greedy"
        return "synthid" if self.served.watermark and self.sampling.takes_watermark else "none"

    def outcome(self, reply: ChatReply, *, finish: str, content: str | None, **more: Any) -> AotOut:  # noqa: ANN401
        """What this project tells of a reply; counted and noted on the way."""
        served, contract = self.served, self.served.contract
        seconds = time.monotonic() - self.began_s
        mode, sure = more.pop("mode", self.ask.mode), more.get("confidence")
        # What a larger model was asked instead is none of the student's words.
        who = None if more.get("escalated") else contract
        tokens = reply.usage.completion_tokens if reply.usage else 0
        origin = origin_of(
            who, mode=mode, has_confidence=sure is not None, tokens=tokens, long_text=self._long_text(who)
        )
        disclosure = text_of(reply.model or served.name, origin, sure=sure)
        if content and self.discloses and finish != "tool_calls":
            self.completion.note = f"\n\n{disclosure}"
        aot = AotOut(
            model=reply.model or served.name,
            mode=mode,
            frame_times_s=more.pop("frame_times_s", self.frame_times_s),
            seconds=round(seconds, 6),
            contract_version=contract.version if contract else None,
            contract_digest=self.completion.fingerprint,
            origin=origin,
            disclosure=disclosure,
            **more,
        )
        row = ServedRow(
            id=self.completion.id, time_s=time.time(), route="/v1/chat/completions", kind=self.ask.body.aot.kind,
            choices=len(aot.choices), answer=aot.answer or "" if aot.choices else "", confidence=aot.confidence,
            abstained=aot.abstained, finish=finish, status=200, model=aot.model,
            contract_digest=aot.contract_digest or "", escalated=aot.escalated, cost=aot.cost,
            agreed=aot.routing.agreed if aot.routing and aot.routing.audited else None,
            tool_agreement=tool_agreement(aot.answer or "", [one.result for one in aot.calls]),
            usage=reply.usage or Answer.model_fields["usage"].default, seconds=aot.seconds,
            review="pending" if self.waits else "",
        )  # fmt: skip
        if aot.routing is not None:
            served.metrics.routed.labels(aot.routing.reason, aot.routing.fallback).inc()
            if aot.routing.audited and aot.routing.agreed is not None:
                served.metrics.audits.labels(str(aot.routing.agreed).lower()).inc()
        served.note(row, question=self.ask.question, choices=self.ask.choices, text=content or "")
        return aot


@router.post("/v1/chat/completions", response_model=None, responses=WAITS)
async def create(body: ChatBody, request: Request) -> Response:
    """A reply in OpenAI's shape: whole, or as events where `stream` is true; usage is always there."""
    served = served_of(request)
    ask = read_body(body, name=served.name, contract=served.contract, limits=served.limits)
    with_usage = bool(body.stream_options and body.stream_options.include_usage)
    completion = Completion(served.name, served.fingerprint, with_usage=with_usage)
    turn = _Turn(served, ask, request, completion)
    try:
        if served.review is not None and served.review.covers(body.aot.kind):
            return await _reviewed(turn, served.review)
        return await _replied(turn)
    except ClientLeftError:
        return Response(status_code=GONE)


async def _replied(turn: _Turn) -> Response:
    """The reply of whoever replies."""
    served, ask = turn.served, turn.ask
    if served.cascade is not None:
        return await _routed(turn, served.cascade)
    if served.decides and (ask.choices or ask.mode == "tools"):
        return await _decided(turn)
    if ask.mode == "tools":
        raise bad(
            f"{served.name} answers by calling tools, and whoever replies here runs none; serve its export by "
            'aot serve without --student, or send {"aot": {"mode": "none"}} with tools of your own',
            param="aot.mode", code="no_tools",
        )  # fmt: skip
    prepared = await turn.request()
    if (outside := turn.outside()) is not None:
        return _of_answer(turn, outside)
    if ask.body.stream and isinstance(served.chat, Desk) and not turn.waits:
        return await _streamed(turn, prepared, served.chat)
    return await _whole(turn, prepared)


async def _reviewed(turn: _Turn, queue: ReviewQueue) -> Response:
    """The answer of a person; before there is one, that the model's waits, which nobody is told."""
    ask, kind = turn.ask, turn.ask.body.aot.kind
    shown = ask.body.model_dump(mode="json", include={"messages", "tools", "tool_choice", "response_format"})
    key = request_id("chat", shown, kind)
    outcome = await turn.served.aside(lambda: queue.outcome(key))
    if outcome is None:
        turn.waits = True
        await _replied(turn)
        assert turn.said is not None
        content, aot = turn.said
        if ask.has_media and not turn.images:
            await turn.request()  # for the pictures, which a reviewer is shown
        video = next((part.video for one in ask.body.messages for part in parts_of(one) if part.type == "video"), None)
        answer = aot.answer if ask.choices else aot.answer or content
        row = PendingRow(
            id=key, time_s=0.0, route="/v1/chat/completions", answer=storable(answer or ""), abstained=aot.abstained,
            question=question_of(ask.question, choices=ask.choices, kind=kind, video=video), model=aot.model,
            confidence=aot.confidence, rationale="" if ask.choices else storable(content or ""),
            contract_digest=aot.contract_digest or "", watermark=aot.origin.watermark,
        )  # fmt: skip
        outcome = await turn.served.aside(lambda: turn.served.let_wait(row, turn.images))
    return _of_person(turn, outcome)


def _of_person(turn: _Turn, outcome: Outcome) -> Response:
    """What a person answered, or that nobody has yet; nothing of it is the model's word alone."""
    ask, served, review = turn.ask, turn.served, outcome.review
    said: Any = {ask.choice_key: outcome.answer} if ask.choice_key else outcome.answer
    content = (json.dumps(said, ensure_ascii=False) if ask.choices else outcome.answer) if outcome.answer else None
    turn.completion.refusal = review.sentence if content is None else None
    origin = origin_of_person(served.contract, outcome)
    aot = AotOut(
        model=served.name, mode=ask.mode, answer=outcome.answer or None, review=review, detail=review.sentence,
        abstained=abstention_of(outcome), seconds=round(time.monotonic() - turn.began_s, 6), origin=origin,
        contract_version=served.contract.version if served.contract else None,
        contract_digest=turn.completion.fingerprint, disclosure=disclosure_of(served.name, origin, review.sentence),
    )  # fmt: skip
    if content and turn.discloses:
        turn.completion.note = f"\n\n{aot.disclosure}"
    reply = ChatReply(text=outcome.answer, model=served.name)
    response = _sent(turn, reply, finish="stop", content=content, aot=aot)
    response.status_code = 200 if outcome.is_settled else 202
    return response


async def _whole(turn: _Turn, request: ChatRequest) -> Response:
    """The reply in one piece, once all of it is there; as events of one piece where events were asked for."""
    try:
        reply, finish = await turn.served.reply(request, client=turn.client), ""
    except ChatError as error:
        if (part := usable(error)) is None:
            raise
        reply, finish = part
    content, aot, finish = _finished(turn, reply, finish)
    return _sent(turn, reply, finish=finish, content=content, aot=aot)


async def _decided(turn: _Turn) -> Response:
    """One of the choices, by likelihood, with a probability for each; or an answer after calls, which are run here."""
    served, ask = turn.served, turn.ask
    assert served.desk is not None
    if not ask.body.is_question:
        what = "a choice is decided" if ask.choices else "tools are called"
        raise bad(f"{what} about one message of the user", param="messages")
    if not ask.choices:
        _refuse_for_tools(turn)
    question = await served.aside(lambda: _question(turn)) if ask.has_media else _question(turn)
    (answer,) = await result_of(served.desk.ask([question]), client=turn.client)
    return _of_answer(turn, answer)


def _refuse_for_tools(turn: _Turn) -> None:
    """A plan is greedy and keeps to the contract's caps: refuse what asks for something else."""
    body, contract = turn.ask.body, turn.served.contract
    for name in ("temperature", "logprobs", "stop"):
        if getattr(body, name):
            raise bad(f"{name} is not supported where the model calls its tools; leave it out", param=name)
    most = body.max_completion_tokens or body.max_tokens
    if contract and most and most < contract.max_rationale_tokens:
        words = f"each reply on the way to an answer may have {contract.max_rationale_tokens} tokens; leave it out"
        raise bad(f"max_tokens is {most}, and {words}", param="max_tokens")


async def _routed(turn: _Turn, cascade: Cascade) -> Response:
    """What a cascade answers to one question; more than that is a conversation, which is the big model's."""
    served, ask = turn.served, turn.ask
    if ask.body.is_question and (ask.choices or ask.mode != "none"):
        question = await served.aside(lambda: _question(turn))
        (answer,) = await served.beside(lambda: cascade.ask_many([question]), client=turn.client)
        return _of_answer(turn, answer)
    request = await turn.request()
    reply, said = await served.beside(lambda: cascade.converse(request), client=turn.client)
    finish = "tool_calls" if reply.tool_calls else "stop"
    content, stopped = until_stop(reply.text, ask.stops)
    aot = turn.outcome(
        reply, finish=finish, content=content, escalated=said.escalated, cost=said.cost, routing=said.routing
    )
    return _sent(turn, reply, finish="stop" if stopped else finish, content=content or None, aot=aot)


def _of_answer(turn: _Turn, answer: Answer) -> Response:
    """An answer to one question: a choice with a probability for each, or what was written."""
    ask = turn.ask
    if answer.abstained == "failed":
        if answer.detail.startswith(MODEL_FAILED):  # what follows are words of this side
            log.error("%s", answer.detail)
            raise ApiError(500, f"{MODEL_FAILED}; the next one may go well", code="internal")
        raise bad(answer.detail, param="messages")
    said: Any = {ask.choice_key: answer.answer} if ask.choice_key else answer.answer
    is_choice = bool(ask.choices) and not answer.abstained  # no client is to read an empty text as one of its choices
    content = json.dumps(said, ensure_ascii=False) if is_choice else answer.raw_text or answer.answer
    finish = "length" if answer.abstained == "cut_off" else "stop"
    pairs = zip(answer.choices, answer.choice_probs, strict=False)
    reply = ChatReply(text=answer.answer, model=answer.model, usage=answer.usage)
    aot = turn.outcome(
        reply, finish=finish, content=content, mode=answer.mode, answer=answer.answer, confidence=answer.confidence,
        choices=[ChoiceProb(choice=choice, probability=prob) for choice, prob in pairs], abstained=answer.abstained,
        detail=answer.detail, calls=list(answer.calls), reasons=list(answer.reasons),
        frame_times_s=list(answer.frame_times_s), escalated=answer.escalated, cost=answer.cost,
        routing=answer.routing,
    )  # fmt: skip
    return _sent(turn, reply, finish=finish, content=content, aot=aot)


def _question(turn: _Turn) -> Ask:
    """The one message of a user as a question, to be decided where it has choices."""
    served, ask = turn.served, turn.ask
    mode: AskMode | None = "decide" if ask.choices else None if ask.mode == "none" else ask.mode
    kind, clip, text = ask.body.aot.kind, clip_of(ask, turn.find), ask.question
    if mode == "tools":  # which puts these words behind the question itself
        text = text.rstrip().removesuffix(MODE_SUFFIX[mode]).rstrip()
    if clip is not None:
        return Ask(text, ask.choices, clip=clip.path, start_s=clip.start_s, end_s=clip.end_s, mode=mode, kind=kind)
    request = chat_request(ask, contract=served.contract, limits=served.limits, clip=turn.frames)
    images = images_of(request.messages[0])
    if not images:
        return Ask(text, ask.choices, mode=mode, kind=kind)
    frames = [media.pixels_of(image) for image in images]
    times_s = [image.time_s for image in images if image.time_s is not None] or None  # all have one, or none has
    if times_s is None and len(images) > 1:  # those that stand in the text, the student here cannot choose by
        raise media.untimed(len(images))
    return Ask(text, ask.choices, frames=frames, times_s=times_s, mode=mode, kind=kind)


async def _streamed(turn: _Turn, request: ChatRequest, desk: Desk) -> Response:
    """The reply as events while it is written; what fails before the first of them is an error with its status."""
    loop, events = asyncio.get_running_loop(), asyncio.Queue[str | None]()
    ticket = desk.submit(request, on_text=lambda text: _tell(loop, events, text))
    ticket.future.add_done_callback(lambda future: _tell(loop, events, None))
    try:
        first = await while_waited_for(asyncio.ensure_future(events.get()), client=turn.client, leave=ticket.leave)
        if first is None and not ticket.future.cancelled():
            error = ticket.future.exception()
            if error is not None and not (isinstance(error, ChatError) and usable(error)):
                raise error
    except asyncio.CancelledError:
        ticket.leave()
        raise

    async def written() -> AsyncIterator[bytes]:
        sent, text = "", first
        try:
            yield turn.completion.piece(role="assistant", content="")
            while text is not None:
                shown, stopped = until_stop(text, turn.ask.stops)
                new = shown[len(sent) : len(shown) if stopped else safe_length(shown, turn.ask.stops)]
                if new:
                    yield turn.completion.piece(content=new)
                    sent += new
                text = await events.get()
            yield _last_events(turn, ticket.future, sent)
        finally:
            ticket.leave()

    return StreamingResponse(written(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


def _last_events(turn: _Turn, future: Any, sent: str) -> bytes:  # noqa: ANN401 - a finished future
    try:
        try:
            reply, finish = future.result(), ""
        except ChatError as error:
            if (part := usable(error)) is None:
                raise
            reply, finish = part
        content, aot, finish = _finished(turn, reply, finish)
    except Exception as error:  # noqa: BLE001 - the head is sent: whatever it is, it has to be told as an event
        return error_event(errors.api_error(error).body())
    unsent = (content or "")[len(sent) :] if (content or "").startswith(sent) else ""
    return turn.completion.end(reply, finish=finish, unsent=unsent, content=content, aot=aot)


def _finished(turn: _Turn, reply: ChatReply, finish: str) -> tuple[str | None, AotOut, str]:
    """The text that the client gets, what stands besides, and why the reply ended."""
    text, stopped = until_stop(reply.text, turn.ask.stops)
    finish = "stop" if stopped else finish or ("tool_calls" if reply.tool_calls else "stop")
    if turn.ask.tool_choice == "required" and not reply.tool_calls:
        raise ApiError(422, "the model wrote no tool call, and tool_choice wants one", code="no_tool_call")
    content = None if reply.tool_calls and not text else text
    answer, abstained = _answer(turn, text, finish)
    return content, turn.outcome(reply, finish=finish, content=content, answer=answer, abstained=abstained), finish


def _answer(turn: _Turn, text: str, finish: str) -> tuple[str | None, AbstainReason]:
    """The answer that a reply states, where the student was asked as in training."""
    mode, student = turn.ask.mode, turn.served.student
    if mode == "none" or student is None or turn.ask.stops:
        return None, ""
    if finish == "length":
        return None, "cut_off"
    from aot.student.rows.replies import answer_of

    answer = answer_of(text, style=student.student.renderer.think_style, mode=mode)
    return answer, "" if answer is not None else "unparsable"


def _sent(turn: _Turn, reply: ChatReply, *, finish: str, content: str | None, aot: AotOut) -> Response:
    completion, turn.said = turn.completion, (content, aot)
    if not turn.ask.body.stream:
        return JSONResponse(completion.whole(reply, finish=finish, content=content, aot=aot))
    events = completion.piece(role="assistant", content="")
    events += completion.end(reply, finish=finish, unsent=content, content=content, aot=aot)
    return Response(events, media_type="text/event-stream")


def _tell(loop: asyncio.AbstractEventLoop, events: "asyncio.Queue[str | None]", text: str | None) -> None:
    """Hand text from the desk's thread to the event loop, which may have ended."""
    try:
        loop.call_soon_threadsafe(events.put_nowait, text)
    except RuntimeError:
        log.debug("a piece came after the loop had ended")
