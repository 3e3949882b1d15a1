"""A chat model behind any server that speaks the chat-completions API.

All calls live in one event loop on a thread of its own; `reply` may be called from any other thread and waits. The SDK
sends and receives bytes; when to send, how long to wait, how much to read and what a body means is decided here and in
`gate`, `retries`, `failures` and `wire`, and nowhere twice: the SDK's own retries are off.
"""

import asyncio
import concurrent.futures
import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

import httpx2
import openai
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from aot.chat.messages import ChatReply, ChatRequest
from aot.chat.server.bodies import Body, unpacked
from aot.chat.server.failures import OTHER_FORM, ErrorInside, Failure, Remedy, Server, of_status, transient
from aot.chat.server.gate import Gate, Outcome
from aot.chat.server.keys import Secret, address_of, is_local, quiet_transport_logs
from aot.chat.server.retries import STARTING_ATTEMPTS, Breaker, wait_s
from aot.chat.server.wire import Form, prompt_tokens, read_reply, request_body
from aot.chat.spend import Ledger, SpendRow
from aot.config import ChatConfig
from aot.errors import UNPROVEN, AotError, ChatError, ConfigError, GuardStop
from aot.run_records import ChatUsage

log = logging.getLogger(__name__)
_IN_WORDS: dict[Remedy, str] = {
    "rename_max_tokens": "the cap is called max_completion_tokens",
    "open_schema": "additionalProperties is left out of the wanted form",
    "drop_schema": "no form of the reply is asked for",
    "drop_usage": "no count of tokens is asked for",
}
_CLOSED = "the chat model was closed while a request was waiting; the same command goes on"
_NO_SCHEMA = 2
_MOST_ERROR_BYTES = 64 * 1024
_OUTCOMES: dict[str, Outcome] = {"rate_limited": "rejected", "server_error": "failed", "timeout": "failed"}
Attempt = ChatReply | Failure


class OpenAIChat:
    """The model `section.model` at `section.base_url`."""

    def __init__(self, section: ChatConfig, *, key: Secret, ledger: Ledger) -> None:
        self.name, self._section, self._key, self._ledger = section.model, section, key, ledger
        self._address = address_of(section)
        self._server = Server(section.model, self._address, section.api_key_env, key.excerpt)
        self._settings = section.digest()
        self._breaker = Breaker(self._address, answered_before=ledger.answered)
        self._stop: AotError | None = None
        """What ended all work with this server."""
        self._form, self._schema_worked = Form(), False
        self._said_starting = False
        self._closed, self._closing = False, threading.Lock()
        quiet_transport_logs()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="aot-chat-loop", daemon=True)
        self._thread.start()
        self._on_loop(self._open())

    @property
    def concurrency(self) -> int:
        """How many calls may be in flight, as found so far."""
        return self._gate.knee.limit

    def reply(self, request: ChatRequest) -> ChatReply:
        """The reply to one request; waits for it, retries included (see client.ChatModel.reply)."""
        size = prompt_tokens(request)
        if size > self._section.max_prompt_tokens:
            raise ChatError(
                f"a prompt of about {size} tokens is longer than chat.max_prompt_tokens "
                f"({self._section.max_prompt_tokens}) and was not sent",
                reason="too_long",
                unproven=not self._breaker.settings_work(request.purpose),
            )
        answered: Attempt = self._on_loop(self._persist(request))
        if isinstance(answered, ChatReply):
            return answered
        unproven = answered.reason in UNPROVEN and not self._breaker.settings_work(request.purpose)
        raise ChatError(answered.message, reason=answered.reason, unproven=unproven, so_far=answered.so_far)

    def close(self) -> None:
        """End calls in flight, close connections, and stop the thread."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self._ledger.close()

    def _on_loop(self, work: Any) -> Any:  # noqa: ANN401 - a coroutine and its result
        with self._closing:  # what is handed to a loop that has stopped would be waited for without end
            if self._closed:
                work.close()
                raise GuardStop(_CLOSED)
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise GuardStop(_CLOSED) from None
        except BaseException:
            future.cancel()
            raise

    async def _open(self) -> None:
        most, timeout_s = self._section.max_concurrency, self._section.attempt_timeout_s
        self._gate = Gate(most=most)
        http = DefaultAsyncHttpxClient(
            timeout=httpx2.Timeout(timeout_s, connect=min(10.0, timeout_s), pool=None),
            limits=httpx2.Limits(max_connections=2 * most, max_keepalive_connections=2 * most),
            follow_redirects=False,  # a key goes to the address that the user wrote, and nowhere else
            trust_env=not is_local(self._address),  # no proxy between this machine and itself
            event_hooks={"response": [_raise_refusal]},
        )
        self._client = AsyncOpenAI(
            api_key=self._key.reveal(),
            base_url=self._address,
            organization="",
            project="",
            max_retries=0,
            http_client=http,
            default_headers={"Accept-Encoding": "identity"},
        )
        self._create: Any = self._client.chat.completions.with_streaming_response.create

    async def _shut(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.close()

    async def _persist(self, request: ChatRequest) -> Attempt:
        """Try until there is a reply, a refusal, or no time or patience left."""
        cap, attempt, starting, deadline = request.sampling.max_tokens, 0, 0, float("inf")
        last: Failure | None = None
        cut: Failure | None = None
        """Of the first reply that needed a larger cap."""
        form = self._form
        while True:
            try:
                async with asyncio.timeout_at(None if last is None else deadline):
                    await self._gate.enter(first=last is not None)
            except TimeoutError:
                assert last is not None
                return self._give_up(request, last)
            if last is None:
                deadline = self._loop.time() + self._section.deadline_s  # waiting for a first turn costs nobody's time
            try:
                self._check()
            except AotError:
                self._gate.leave("neutral", latency_s=0.0)
                raise
            left_s = max(0.0, deadline - self._loop.time())
            attempt += 1
            form = form.and_of(self._form)
            tried = await self._hedged(request, cap, form, min(left_s, self._section.attempt_timeout_s))
            if isinstance(tried, ChatReply):
                self._breaker.success(request.purpose)
                self._schema_worked |= request.json_schema is not None and form.schema < _NO_SCHEMA
                return tried
            last = tried
            if tried.remedy == "more_tokens":
                self._breaker.success(request.purpose)
                if cut or "max_tokens" in self._section.omit or self._section.raise_tokens == 1:
                    return tried
                cut, cap = tried, int(cap * self._section.raise_tokens)
            elif tried.remedy in OTHER_FORM and form.mended(tried.remedy) != form:
                form = self._adapt(form, tried)
                attempt -= 1
            elif cut and tried.refusal:
                return cut  # the server takes no larger cap
            elif self._is_final(tried, attempt):
                return self._give_up(request, tried)
            else:
                if tried.unready:  # costs nothing, and may take minutes
                    attempt, starting = attempt - 1, starting + 1
                if not await self._rested(request, tried, attempt=attempt + starting, deadline=deadline):
                    return self._give_up(request, tried)

    async def _rested(self, request: ChatRequest, failure: Failure, *, attempt: int, deadline: float) -> bool:
        """Wait before the next attempt; False, and at once, where it would come too late."""
        seed = request.digest(model=self.name, base_url=self._section.base_url)
        pause_s = wait_s(attempt=attempt, seed=seed, asked_s=failure.wait_s)
        if self._loop.time() + pause_s >= deadline:
            return False
        if failure.unready:
            self._wait_for_start(failure, pause_s)
        await asyncio.sleep(pause_s)
        return True

    def _check(self) -> None:
        """Raises what ended all work, if anything did."""
        if self._stop is not None:
            raise type(self._stop)(str(self._stop))
        self._ledger.guard()

    def _is_final(self, failure: Failure, attempt: int) -> bool:
        """Whether a request is not tried again after so many attempts."""
        if failure.unready:
            return False
        nobody_there = failure.refused_connection and not self._breaker.worked
        patience = min(STARTING_ATTEMPTS if nobody_there else 1_000_000, self._section.max_attempts)
        if failure.remedy == "once":
            patience = min(patience, 2)
        refused = failure.remedy == "never" or (failure.remedy in OTHER_FORM and bool(failure.refusal))
        return refused or attempt >= patience

    def _adapt(self, form: Form, failure: Failure) -> Form:
        """The form to ask in now, by everybody from here on where that cannot be for this request alone."""
        mended = form.mended(failure.remedy)
        if failure.remedy == "drop_schema" and self._schema_worked:
            return mended
        if mended.and_of(self._form) != self._form:
            self._form = mended.and_of(self._form)
            log.info("%s: from here on %s (%s)", self._address, _IN_WORDS[failure.remedy], failure.message)
        return mended.and_of(self._form)

    def _wait_for_start(self, failure: Failure, pause_s: float) -> None:
        """Keep everybody away from a server that is only starting, and say so once."""
        self._gate.pause(pause_s)
        if not self._said_starting:
            self._said_starting = True
            log.warning("the server is starting; waiting up to %g s (%s)", self._section.deadline_s, failure.message)

    def _give_up(self, request: ChatRequest, failure: Failure) -> Failure:
        """The failure of a whole request, which may be the one that ends all work."""
        if failure.refused_connection and not self._breaker.worked:
            self._stop = ConfigError(
                f"no server answers at {self._address} ({failure.message}); "
                "start it and wait until it is ready, or correct chat.base_url"
            )
            raise self._stop
        stop = self._breaker.failure(failure.reason)
        if failure.refusal and stop is None:
            stop = self._breaker.refusal(request.purpose, failure.refusal, failure.message)
        self._stop = self._stop or stop
        return failure

    async def _hedged(self, request: ChatRequest, cap: int, form: Form, timeout_s: float) -> Attempt:
        """One attempt, or two at once where the first takes long; the turn of the first was taken already."""
        if self._section.hedge_after_s is None:
            return await self._attempt(request, cap, form, timeout_s)
        tasks = {asyncio.ensure_future(self._attempt(request, cap, form, timeout_s))}
        try:
            done, running = await asyncio.wait(tasks, timeout=self._section.hedge_after_s)
            if running and self._gate.has_room():
                await self._gate.enter(first=True)
                tasks.add(asyncio.ensure_future(self._attempt(request, cap, form, timeout_s)))
            running, tried = set(tasks), None
            while running and not isinstance(tried, ChatReply):
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                results = [one.result() for one in done]
                tried = next((one for one in results if isinstance(one, ChatReply)), results[0])
            assert tried is not None
            return tried
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _attempt(self, request: ChatRequest, cap: int, form: Form, timeout_s: float) -> Attempt:
        """One call, whatever comes of it; gives the turn back."""
        began_s, epoch_s = time.monotonic(), time.time()
        tried: Attempt | ConfigError = Failure("timeout", "again", "cancelled", billed=True)
        outcome: Outcome = "neutral"
        try:
            tried = await self._classified(request, cap, form, timeout_s)
            if isinstance(tried, ConfigError):
                self._stop = tried
                raise tried
            outcome = "ok" if isinstance(tried, ChatReply) else _OUTCOMES.get(tried.reason, "neutral")
            if isinstance(tried, Failure) and tried.wait_s is not None:
                if tried.wait_s <= self._section.deadline_s:
                    self._gate.pause(tried.wait_s)
                else:  # nobody else would be answered before giving up either
                    self._stop = GuardStop(
                        f"the server asks for {tried.wait_s:,.0f} s of rest, and chat.deadline_s is "
                        f"{self._section.deadline_s:g} ({tried.message}); the same command goes on then"
                    )
        finally:
            seconds = time.monotonic() - began_s
            self._gate.leave(outcome, latency_s=seconds)
            if isinstance(tried, ChatReply) or (isinstance(tried, Failure) and tried.billed):
                self._note(request, tried, cap=cap, epoch_s=epoch_s, seconds=seconds)
        return tried

    async def _classified(self, request: ChatRequest, cap: int, form: Form, timeout_s: float) -> Attempt | ConfigError:
        """What came of one call; a ConfigError where no other call can do better.

        Nothing is raised here: an error raised while one of the SDK's is handled would carry that one, with whatever
        the server said, as its context.
        """
        server = self._address
        body = request_body(request, section=self._section, max_tokens=cap, form=form)
        try:
            async with asyncio.timeout(timeout_s):
                raw = await self._send(body)
            return read_reply(raw, clean=self._key.clean, cap=None if "max_tokens" in self._section.omit else cap)
        except Failure as failure:
            return failure
        except (TimeoutError, openai.APITimeoutError, httpx2.TimeoutException):
            return transient("timeout", f"no whole reply from {server} within {timeout_s:.1f} s", billed=True)
        except ErrorInside as error:
            return self._refused(200, {}, error.raw, sent=body)
        except _RefusalError as error:
            packed = error.headers.get("content-encoding", "")
            content = unpacked(error.content, packed=packed, limit=_MOST_ERROR_BYTES)
            return self._refused(error.status, error.headers, content, sent=body)
        except (openai.APIConnectionError, httpx2.HTTPError) as error:
            cause = error.__cause__ or error
            message = f"connection to {server} failed: {type(cause).__name__} {self._key.excerpt(str(cause))}"
            nobody_there = isinstance(cause, httpx2.ConnectError)
            return Failure("connection", "again", message, refused_connection=nobody_there)

    def _refused(
        self, status: int, headers: Mapping[str, str], content: bytes, *, sent: dict[str, Any]
    ) -> Failure | ConfigError:
        worked = self._breaker.worked
        return of_status(status, headers, content, server=self._server, worked_before=worked, sent=tuple(sent))

    async def _send(self, body: dict[str, Any]) -> bytes | dict[str, Any]:
        """The body of a reply with status 200, read up to the limit."""
        # The SDK walks through messages given as such, type by type, which costs more than all the rest of a call.
        async with self._create(model=self.name, messages=(), extra_body=body) as response:
            kind = response.headers.get("content-type", "").lower()
            packed = response.headers.get("content-encoding", "")
            limit, is_stream = int(self._section.max_reply_mb * 1e6), kind.startswith("text/event-stream")
            charset = kind.partition("charset=")[2].partition(";")[0].strip(" \"'")
            reply = Body(limit=limit, packed=packed, is_stream=is_stream, charset=charset)
            async for chunk in response.http_response.aiter_raw():  # nothing is unpacked before it is within limits
                reply.feed(chunk)
        return reply.whole()

    def _note(self, request: ChatRequest, tried: Attempt, *, cap: int, epoch_s: float, seconds: float) -> None:
        guess = ChatUsage(prompt_tokens=prompt_tokens(request), completion_tokens=cap)
        self._ledger.note(
            SpendRow(
                model=self.name,
                base_url=self._section.base_url,
                purpose=request.purpose,
                outcome="ok" if isinstance(tried, ChatReply) else tried.reason,
                started_s=round(epoch_s, 3),
                seconds=round(seconds, 4),
                usage=tried.usage,
                guess=None if tried.usage else guess,
                settings=self._settings,
            )
        )


class _RefusalError(openai.OpenAIError):
    """A status other than that of a reply; the SDK hands on its own kind of error as it is."""

    def __init__(self, response: httpx2.Response, content: bytes) -> None:
        super().__init__()
        self.status, self.headers, self.content = response.status_code, response.headers, content


async def _raise_refusal(response: httpx2.Response) -> None:
    """Take an error as it comes, packed or not, and only its beginning: none is endless."""
    content = bytearray()
    if response.status_code >= 300:
        async for chunk in response.aiter_raw():
            content += chunk
            if len(content) >= _MOST_ERROR_BYTES:
                break
        raise _RefusalError(response, bytes(content))
