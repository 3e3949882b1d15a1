"""`/v1/decide` and `/v1/systemone`: typed questions, with a calibrated probability for each allowed answer.

Both are answered by one decider, and nothing is written. At `/v1/decide` a question that cannot be put to the student
has the reason in its place, and its neighbours are answered; System One has no place for reasons, so there it is an
error of the whole request, in the shape that transformers gives errors (`{"detail": ...}`).
"""

import hashlib
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from aot.answer_records import AbstainReason, Answer, Routing, ServedRow
from aot.chat.messages import ImagePart
from aot.errors import SourceError, VideoError
from aot.run_records import ChatUsage
from aot.serving import media
from aot.serving.decisions.bodies import (
    ChoiceIn,
    DecideBody,
    DecideReply,
    DecisionOut,
    DescribedChoice,
    ScoreIn,
    YesNoIn,
)
from aot.serving.decisions.decider import Decider, State
from aot.serving.decisions.questions import TypedQuestion, choice, score, yes_no
from aot.serving.decisions.reviewed import Asking, Decided, certain, keys_of, let_wait, outcomes_of
from aot.serving.decisions.systemone import (
    Extension,
    Item,
    SystemOneReply,
    SystemOneRequest,
    Window,
    mentions,
    parse_questions,
    placed,
    words_of,
)
from aot.serving.disclosure import origin_of, text_of
from aot.serving.review.disclosing import abstention_of
from aot.serving.review.queue import Outcome
from aot.serving.server.chat_reply import AotOut, ChoiceProb, usage_row
from aot.serving.server.chat_request import VideoPath
from aot.serving.server.errors import RESPONSES, WAITS, ApiError, ErrorBody, bad, naming, places_of
from aot.serving.server.json_body import JsonRoute
from aot.serving.server.served import GONE, ClientLeftError, Served, result_of, served_of


class Deciding:
    """What both routes need: the decider with the states that it keeps between requests, and how a server is asked."""

    def __init__(self, served: Served) -> None:
        self._decider = Decider(served.student) if served.student is not None and served.desk is not None else None

    async def answers(
        self, state: State, questions: Sequence[TypedQuestion], *, client: Request
    ) -> tuple[list[Answer], tuple[float, ...]]:
        """An answer to each question about a state, and the times of the frames that were shown.

        Raises:
            ApiError: there is no student here, the state cannot be shown, or too many requests wait.
            ClientLeftError: the client left first.
        """
        served, decider = served_of(client), self._decider
        if decider is None or served.desk is None:
            raise bad(
                "this server passes requests on and has no student of its own; ask one that has", code="no_student"
            )
        try:
            ready = await served.aside(lambda: decider.ready(state))
            ticket = served.desk.run(lambda: decider.unreviewed(ready, questions))
            return await result_of(ticket, client=client), ready.seen.times_s
        except VideoError as error:
            raise media.unusable(error, param="clip") from None
        except SourceError as error:
            words = "the clip or its window cannot be shown" if state.clip is not None else str(error)
            raise bad(words, param="clip" if state.clip is not None else "frames", code="invalid_frames") from None

    async def under_review(self, asking: Asking, *, client: Request) -> Decided:
        """The answers, with what people said of those that a person has to look at, and those that begin to wait.

        Raises:
            ApiError: as for `answers`; or one of them cannot wait.
            ClientLeftError: the client left first.
        """
        served, questions = served_of(client), asking.questions
        keys = keys_of(served.review, asking)
        seen = await served.aside(lambda: outcomes_of(served.review, keys))
        unseen = {i: one for i, one in questions.items() if i not in seen}
        answers, times_s = dict[int, Answer](), tuple[float, ...]()
        if unseen or not seen:
            made, times_s = await self.answers(asking.state, list(unseen.values()), client=client)
            answers = dict(zip(unseen, made, strict=True))
        waiting = {i: (key, answers[i]) for i, key in keys.items() if i in answers}
        seen |= await served.aside(lambda: let_wait(served, asking, waiting, times_s=times_s))
        return Decided(answers, seen, times_s)


_STUDENT_ONLY = Routing(
    decision="local", reason="student_only", promise="none: typed questions are decided by the student, never escalated"
)
"""A big model writes answers and has no probability for each choice."""


class DetailBody(BaseModel):
    """The body of an error at `/v1/systemone`."""

    detail: str | list[Any]


_DETAILS: dict[int | str, dict[str, Any]] = {
    status: {**row, "model": DetailBody if status == 422 else DetailBody | ErrorBody}
    for status, row in RESPONSES.items()
}


def decide_router(served: Served) -> APIRouter:
    """The routes that decide."""
    router, deciding = APIRouter(route_class=JsonRoute), Deciding(served)

    @router.post("/v1/decide", response_model=DecideReply, responses=WAITS)
    async def decide(body: DecideBody, request: Request) -> Response:
        """A calibrated probability for each allowed answer to each question; nothing is written."""
        began_s, served = time.monotonic(), served_of(request)
        check_model(body.model, served)
        good, faults = _typed(body.questions)
        state = await served.aside(lambda: _state(body, served))
        shown = body.model_dump(mode="json", include={"state", "frames", "times_s", "clip"})
        try:
            made = await deciding.under_review(
                Asking(state, good, "/v1/decide", shown, body.state, body.clip,
                       lambda: [media.read_image(url, limits=served.limits) for url in body.frames]),
                client=request,
            )  # fmt: skip
        except ClientLeftError:
            return Response(status_code=GONE)
        rows = [
            _of_person(one, made.reviewed[i]) if i in made.reviewed
            else _decision(one, made.answers[i], good[i]) if i in good else _refused(one, faults[i])
            for i, one in enumerate(body.questions)
        ]  # fmt: skip
        seconds = round(time.monotonic() - began_s, 6)
        reply = DecideReply(
            id=f"decision-{uuid.uuid4().hex}", created=int(time.time()), model=served.name, answers=rows,
            usage=usage_row(_note(served, "/v1/decide", good, made, seconds=seconds)),
            aot=_about(served, made.times_s, seconds, reviewed=list(made.reviewed.values())),
        )  # fmt: skip
        waits = any(not one.is_settled for one in made.reviewed.values())
        return JSONResponse(reply.model_dump(mode="json"), 202 if waits else 200)

    systemone = APIRouter(route_class=_DetailRoute)

    @systemone.post("/v1/systemone", response_model=SystemOneReply, responses=_DETAILS)
    async def answer(body: SystemOneRequest, request: Request) -> Response:
        """System One: the answers to named questions about a state, by one pass and without any text written."""
        began_s, served = time.monotonic(), served_of(request)
        try:
            items = parse_questions(body)
            before = words_of(body.state)
        except SourceError as error:
            place: dict[str, Any] = {"loc": ("body", "questions"), "msg": str(error)[:10_000], "type": "value_error"}
            return _detail(422, [place])
        if body.model and body.model != served.name:
            raise ApiError(400, f"Server is pinned to {served.name!r}; requested {body.model[:100]!r}.")
        groups = await served.aside(lambda: _groups(before, items, body, served))
        answers, tokens, times_s, reviewed = dict[str, Any](), 0, set[float](), list[Outcome]()
        try:
            for state, group, questions in groups:
                asks = dict(enumerate(questions))
                made = await deciding.under_review(
                    Asking(state, asks, "/v1/systemone", body.model_dump(exclude={"questions"}), state.text,
                           body.aot.clip if body.aot else None, lambda: list(_assets(body, served).values())),
                    client=request,
                )  # fmt: skip
                seconds = round(time.monotonic() - began_s, 6)
                tokens += _note(served, "/v1/systemone", asks, made, seconds=seconds).prompt_tokens
                times_s.update(made.times_s)
                reviewed += made.reviewed.values()
                listed = _all_settled(asks, made)
                _raise_refusals(group, listed)
                answers |= {item.name: item.answer(one.choice_probs) for item, one in zip(group, listed, strict=True)}
        except ClientLeftError:
            return Response(status_code=GONE)
        row: dict[str, Any] = {
            "model": body.model or served.name,
            "answers": {item.name: answers[item.name] for item in items},
            "usage": {"input_tokens": tokens, "output_tokens": 0},
        }
        if body.aot is not None:  # who uses the extension reads its answer, too
            row["aot"] = _about(served, sorted(times_s), seconds, reviewed=reviewed).model_dump()
        return JSONResponse(row)

    router.include_router(systemone)
    return router


def _all_settled(questions: Mapping[int, TypedQuestion], made: Decided) -> list[Answer]:
    """An answer to each question, of a person where that is required.

    Raises:
        ApiError: one waits for a person, or a person rejected it: System One has no place for that.
    """
    if without := [one.review for one in made.reviewed.values() if not one.answer]:
        raise ApiError(409, " ".join(one.sentence for one in without), code=f"review_{without[0].state}")
    return [
        certain(one, made.reviewed[i].answer) if i in made.reviewed else made.answers[i] for i, one in questions.items()
    ]


def check_model(name: str, served: Served) -> None:
    """Refuse another model than the one that is served.

    Raises:
        ApiError: it is another one.
    """
    if name and name != served.name:
        words = f"there is no model {name[:100]!r} here; this server has {served.name!r}"
        raise ApiError(404, words, code="model_not_found", param="model")


def _typed(questions: Sequence[ChoiceIn | YesNoIn | ScoreIn]) -> tuple[dict[int, TypedQuestion], dict[int, str]]:
    """The questions that may be put, and why the others may not be, by place."""
    good, faults = dict[int, TypedQuestion](), dict[int, str]()
    for i, one in enumerate(questions):
        try:
            good[i] = _one_typed(one)
        except SourceError as error:
            faults[i] = str(error)
    return good, faults


def _one_typed(one: ChoiceIn | YesNoIn | ScoreIn) -> TypedQuestion:
    if isinstance(one, YesNoIn):
        return yes_no(one.text, yes=one.yes, no=one.no, kind=one.kind)
    if isinstance(one, ScoreIn):
        return score(one.text, low=one.low, high=one.high, step=one.step, levels=one.levels, kind=one.kind)
    described = [DescribedChoice(answer=choice) if isinstance(choice, str) else choice for choice in one.choices]
    meanings = [choice.description for choice in described]
    return choice(
        one.text, [choice.answer for choice in described], descriptions=meanings if any(meanings) else (), kind=one.kind
    )


def _state(body: DecideBody, served: Served) -> State:
    """What the questions are about; pictures stay packed until somebody has to look at them.

    Raises:
        ApiError: an image or a path cannot be used.
    """
    if body.frames and body.clip is not None:
        raise bad("frames and a clip were given; give one of them", param="clip")
    if body.times_s is not None and not body.frames:
        raise bad("times_s belong to frames, and none were given", param="times_s")
    if body.clip is not None:
        return _of_clip(body.state, body.clip, served)
    media.check_count(len(body.frames), limits=served.limits, param="frames")
    with naming("frames"):
        images = [media.read_image(url, limits=served.limits) for url in body.frames]
    times_s = tuple(body.times_s) if body.times_s is not None else None
    return _of_images(body.state, images, times_s)


def _of_clip(text: str, clip: VideoPath | Window, served: Served) -> State:
    with naming("clip"):
        window = served.find_clip(clip.path, start_s=clip.start_s, end_s=clip.end_s)
    return State(text, clip=window.path, start_s=window.start_s, end_s=window.end_s)


def _of_images(text: str, images: Sequence[ImagePart], times_s: Sequence[float] | None) -> State:
    if not images:
        return State(text)
    digest = hashlib.sha256()
    for image in images:
        digest.update(hashlib.sha256(image.data).digest())

    def unpacked() -> list[np.ndarray]:
        with naming("frames"):
            return [media.pixels_of(image) for image in images]

    return State(text, frames=unpacked, times_s=times_s, content=digest.hexdigest())


def _assets(body: SystemOneRequest, served: Served) -> dict[str, ImagePart]:
    """The images of a request by placeholder.

    Raises:
        ApiError: there are too many, or one of them cannot be used.
    """
    if body.assets and body.aot and body.aot.clip:
        raise bad("assets and a clip were given; give one of them", param="assets")
    media.check_count(len(body.assets), limits=served.limits, param="assets")
    images = {}
    for name, asset in body.assets.items():
        data = asset.get("data_base64")
        if not name.strip() or not isinstance(data, str):
            raise bad(
                f"the asset {name[:60]!r} needs a name and data_base64, like "
                '{"type": "image", "format": "png", "data_base64": ...}',
                param="assets",
            )
        url = data if data.startswith("data:") else f"data:image/png;base64,{''.join(data.split())}"
        images[name] = media.read_image(url, limits=served.limits)
    return images


def _groups(
    before: str, items: Sequence[Item], body: SystemOneRequest, served: Served
) -> list[tuple[State, list[Item], list[TypedQuestion]]]:
    """The questions about each of the states that a request shows: one for each set of images.

    Raises:
        ApiError: an image or a clip cannot be used.
    """
    images = _assets(body, served)
    groups = []
    for names, group in _by_images(before, items, images, body.aot or Extension()).items():
        times_s = dict(names)
        state = _state_of(placed(before, times_s), times_s, images, body, served)
        groups.append((state, group, [item.typed(times_s) for item in group]))
    return groups


def _by_images(
    before: str, items: Sequence[Item], images: Mapping[str, ImagePart], extension: Extension
) -> dict[tuple[tuple[str, float], ...], list[Item]]:
    """Questions by the images that they and the state name, each with its time; in the order of times.

    Raises:
        ApiError: an image is named nowhere, so nobody would see it; or a time is that of none.
    """
    names = list(images)
    if strange := sorted(extension.times_s.keys() - images.keys()):
        raise bad(f"aot.times_s has a time of {strange[0][:60]!r}, which is no asset", param="aot.times_s")
    groups: dict[tuple[tuple[str, float], ...], list[Item]] = {}
    for item in items:
        shown = list(dict.fromkeys([*mentions(before, names), *item.names_in(names)]))
        if missing := [name for name in shown if extension.times_s and name not in extension.times_s]:
            raise bad(f"aot.times_s has no time of {missing[0][:60]!r}; give all or none", param="aot.times_s")
        times_s = {name: extension.times_s.get(name, float(i)) for i, name in enumerate(shown)}
        groups.setdefault(tuple(sorted(times_s.items(), key=lambda pair: pair[1])), []).append(item)
    unnamed = [name for name in names if not any(name in dict(group) for group in groups)]
    if unnamed:
        raise bad(
            f"the asset {unnamed[0][:60]!r} is named nowhere; write its name in the state or in a question, where it "
            "belongs",
            param="assets",
        )
    return groups


def _state_of(
    text: str, times_s: Mapping[str, float], images: Mapping[str, ImagePart], body: SystemOneRequest, served: Served
) -> State:
    clip = body.aot.clip if body.aot else None
    if clip is not None:
        return _of_clip(text, clip, served)
    return _of_images(text, [images[name] for name in times_s], tuple(times_s.values()) or None)


def _raise_refusals(items: Sequence[Item], answers: Sequence[Answer]) -> None:
    """Fail the request for the questions that could not be put to the student."""
    refused = [
        f"Question {item.name[:60]!r}: {one.detail}" for item, one in zip(items, answers, strict=True) if one.abstained
    ]
    if refused:
        raise bad("\n".join(refused), param="questions")


def _decision(one: ChoiceIn | YesNoIn | ScoreIn, answer: Answer, question: TypedQuestion) -> DecisionOut:
    if answer.abstained:
        return _refused(one, answer.detail, abstained=answer.abstained)
    probs = answer.choice_probs
    pairs = zip(answer.choices, probs, strict=True)
    total = sum(value * prob for value, prob in zip(question.values, probs, strict=True)) if question.values else None
    return DecisionOut(
        name=one.name, type=one.type, answer=answer.answer, confidence=answer.confidence, score=total,
        detail=answer.detail,
        probabilities=[ChoiceProb(choice=choice, probability=prob) for choice, prob in pairs],
    )  # fmt: skip


def _of_person(one: ChoiceIn | YesNoIn | ScoreIn, outcome: Outcome) -> DecisionOut:
    """What a person said, or that nobody has yet; nothing of what the student thinks."""
    return DecisionOut(
        name=one.name, type=one.type, answer=outcome.answer or None, abstained=abstention_of(outcome),
        detail=outcome.review.sentence, review=outcome.review,
    )  # fmt: skip


def _refused(one: ChoiceIn | YesNoIn | ScoreIn, detail: str, *, abstained: AbstainReason = "failed") -> DecisionOut:
    return DecisionOut(name=one.name, type=one.type, answer=None, abstained=abstained, detail=detail)


def _about(
    served: Served, frame_times_s: Sequence[float], seconds: float, *, reviewed: Sequence[Outcome] = ()
) -> AotOut:
    contract = served.contract
    origin = origin_of(contract, mode="decide", has_confidence=True)
    return AotOut(
        model=served.name, mode="decide", frame_times_s=list(frame_times_s), seconds=seconds,
        contract_version=contract.version if contract else None, contract_digest=served.fingerprint,
        origin=origin,
        disclosure=" ".join((text_of(served.name, origin), *dict.fromkeys(one.review.sentence for one in reviewed))),
        routing=_STUDENT_ONLY if served.cascade is not None else None,
    )  # fmt: skip


def _note(
    served: Served, route: str, questions: Mapping[int, TypedQuestion], made: Decided, *, seconds: float
) -> ChatUsage:
    """Count and note each question that the student was asked; gives what all of them took."""
    for i, one in made.answers.items():
        question = questions[i]
        row = ServedRow(
            id=f"decision-{uuid.uuid4().hex}", time_s=time.time(), route=route, kind=question.kind,
            choices=len(question.choices), answer=one.answer, confidence=one.confidence, abstained=one.abstained,
            finish="stop", status=200, review="pending" if i in made.reviewed else "", model=served.name,
            contract_digest=served.fingerprint or "", usage=one.usage, seconds=seconds,
        )  # fmt: skip
        served.note(row, question=question.text, choices=question.choices, text=one.answer)
    return ChatUsage(
        prompt_tokens=sum(one.usage.prompt_tokens for one in made.answers.values()),
        cached_prompt_tokens=sum(one.usage.cached_prompt_tokens for one in made.answers.values()),
        completion_tokens=0,
    )


class _DetailRoute(JsonRoute):
    """A route whose errors have the shape that FastAPI and transformers give them: `{"detail": ...}`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                return _detail(422, places_of(error))
            except ApiError as error:
                return _detail(error.status, error.message, headers=error.headers)
            except HTTPException as error:
                return _detail(error.status_code, str(error.detail))

        return handled


def _detail(status: int, detail: Any, *, headers: Mapping[str, str] | None = None) -> Response:  # noqa: ANN401 - JSON
    return JSONResponse({"detail": detail}, status, dict(headers or {}))
