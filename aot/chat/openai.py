"""A chat model behind any server that speaks the chat-completions API.

All calls live in one event loop on a thread of its own; `reply` may be called from any other thread and waits. The SDK
sends and receives bytes; when to send, how long to wait, how much to read and what a body means is decided here and in
`gate`, `retries`, `failures` and `wire`, and nowhere twice: the SDK's own retries are off.
"""

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from aot.chat.failures import Failure, Server, of_status, transient
from aot.chat.gate import Gate, Outcome
from aot.chat.keys import Secret, is_local, quiet_transport_logs
from aot.chat.messages import ChatReply, ChatRequest, ChatUsage
from aot.chat.retries import STARTING_ATTEMPTS, Breaker, wait_s
from aot.chat.spend import Ledger, SpendRow
from aot.chat.wire import prompt_tokens, read_reply, request_body
from aot.config import ChatConfig
from aot.errors import AotError, ChatError, ConfigError, GuardStop

_MOST_ERROR_BYTES = 64 * 1024
_OUTCOMES: dict[str, Outcome] = {"rate_limited": "rejected", "server_error": "failed", "timeout": "failed"}
Attempt = ChatReply | Failure


class OpenAIChat:
    """The model `section.model` at `section.base_url`."""

    def __init__(self, section: ChatConfig, *, key: Secret, ledger: Ledger) -> None:
        self.name, self._section, self._key, self._ledger = section.model, section, key, ledger
        self._server = Server(section.model, section.base_url, section.api_key_env, key.excerpt)
        self._breaker = Breaker(section.base_url)
        self._stop: AotError | None = None
        """What ended all work with this server."""
        self._renamed, self._schema = False, True
        self._closed = False
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
            )
        answered: Attempt = self._on_loop(self._persist(request))
        if isinstance(answered, ChatReply):
            return answered
        raise ChatError(answered.told, reason=answered.reason)

    def close(self) -> None:
        """End calls in flight, close connections, and stop the thread."""
        if self._closed:
            return
        self._closed = True
        self._on_loop(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self._ledger.close()

    def _on_loop(self, work: Any) -> Any:  # noqa: ANN401 - a coroutine and its result
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise GuardStop("the chat model was closed while a request was waiting; the same command goes on") from None
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
            trust_env=not is_local(self._section.base_url),  # no proxy between this machine and itself
            event_hooks={"response": [_guard_body]},
        )
        self._client = AsyncOpenAI(
            api_key=self._key.reveal(),
            base_url=self._section.base_url,
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
        cap, attempt, raised, deadline = request.sampling.max_tokens, 0, False, float("inf")
        last: Failure | None = None
        while True:
            try:
                async with asyncio.timeout_at(None if last is None else deadline):
                    await self._gate.enter(first=last is not None)
            except TimeoutError:
                assert last is not None
                return self._give_up(last)
            if last is None:
                deadline = self._loop.time() + self._section.deadline_s  # waiting for a first turn costs nobody's time
            try:
                self._check()
            except AotError:
                self._gate.leave("neutral", latency_s=0.0)
                raise
            left_s = max(0.0, deadline - self._loop.time())
            attempt += 1
            tried = await self._hedged(request, cap, min(left_s, self._section.attempt_timeout_s))
            if isinstance(tried, ChatReply):
                self._breaker.success()
                return tried
            last = tried
            if tried.remedy == "more_tokens":
                self._breaker.success()
                if raised:
                    return tried
                raised, cap = True, int(cap * self._section.raise_tokens)
            elif tried.remedy in ("rename_max_tokens", "drop_schema"):
                if not self._adapt(request, tried):
                    return tried
                attempt -= 1
            elif tried.remedy == "never" or attempt >= self._patience(tried):
                return self._give_up(tried)
            else:
                seed = request.digest(model=self.name, base_url=self._section.base_url)
                pause_s = wait_s(attempt=attempt, seed=seed, asked_s=tried.wait_s)
                if self._loop.time() + pause_s >= deadline:
                    return self._give_up(tried)
                await asyncio.sleep(pause_s)

    def _check(self) -> None:
        """Raises what ended all work, if anything did."""
        if self._stop is not None:
            raise type(self._stop)(str(self._stop))
        self._ledger.guard()

    def _patience(self, failure: Failure) -> int:
        nobody_there = failure.refused_connection and not self._breaker.worked
        return min(STARTING_ATTEMPTS if nobody_there else 1_000_000, self._section.max_attempts)

    def _adapt(self, request: ChatRequest, failure: Failure) -> bool:
        """Ask this server in another form from now on; whether that is one it has not refused yet."""
        if failure.remedy == "rename_max_tokens":
            changed, self._renamed = not self._renamed, True
        else:
            changed, self._schema = self._schema and request.json_schema is not None, False
        return changed

    def _give_up(self, failure: Failure) -> Failure:
        """The failure of a whole request, which may be the one that ends all work."""
        if failure.refused_connection and not self._breaker.worked:
            self._stop = ConfigError(
                f"no server answers at {self._section.base_url} ({failure.told}); "
                "start it and wait until it is ready, or correct chat.base_url"
            )
            raise self._stop
        self._stop = self._stop or self._breaker.failure(failure.reason)
        return failure

    async def _hedged(self, request: ChatRequest, cap: int, timeout_s: float) -> Attempt:
        """One attempt, or two at once where the first takes long; the turn of the first was taken already."""
        if self._section.hedge_after_s is None:
            return await self._attempt(request, cap, timeout_s)
        tasks = {asyncio.ensure_future(self._attempt(request, cap, timeout_s))}
        try:
            done, running = await asyncio.wait(tasks, timeout=self._section.hedge_after_s)
            if running and self._gate.has_room():
                await self._gate.enter(first=True)
                tasks.add(asyncio.ensure_future(self._attempt(request, cap, timeout_s)))
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

    async def _attempt(self, request: ChatRequest, cap: int, timeout_s: float) -> Attempt:
        """One call, whatever comes of it; gives the turn back."""
        began_s, epoch_s = time.monotonic(), time.time()
        tried: Attempt | ConfigError = Failure("timeout", "again", "cancelled", billed=True)
        outcome: Outcome = "neutral"
        try:
            tried = await self._classified(request, cap, timeout_s)
            if isinstance(tried, ConfigError):
                self._stop = tried
                raise tried
            outcome = "ok" if isinstance(tried, ChatReply) else _OUTCOMES.get(tried.reason, "neutral")
            if isinstance(tried, Failure) and tried.wait_s is not None:
                self._gate.pause(min(tried.wait_s, self._section.deadline_s))
        finally:
            seconds = time.monotonic() - began_s
            self._gate.leave(outcome, latency_s=seconds)
            if isinstance(tried, ChatReply) or (isinstance(tried, Failure) and tried.billed):
                self._note(request, tried, cap=cap, epoch_s=epoch_s, seconds=seconds)
        return tried

    async def _classified(self, request: ChatRequest, cap: int, timeout_s: float) -> Attempt | ConfigError:
        """What came of one call; a ConfigError where no other call can do better.

        Nothing is raised here: an error raised while one of the SDK's is handled would carry that one, with whatever
        the server said, as its context.
        """
        server = self._section.base_url
        try:
            async with asyncio.timeout(timeout_s):
                raw = await self._send(request, cap)
            return read_reply(raw, clean=self._key.clean)
        except Failure as failure:
            return failure
        except (TimeoutError, openai.APITimeoutError, httpx2.TimeoutException):
            return transient("timeout", f"no whole reply from {server} within {timeout_s:.1f} s", billed=True)
        except openai.APIStatusError as error:
            return of_status(
                error.status_code, error.response.headers, error.response.content,
                server=self._server, worked_before=self._breaker.worked,
            )  # fmt: skip
        except (openai.APIConnectionError, httpx2.HTTPError) as error:
            cause = error.__cause__ or error
            told = f"connection to {server} failed: {type(cause).__name__} {self._key.excerpt(str(cause))}"
            nobody_there = isinstance(cause, httpx2.ConnectError)
            return Failure("connection", "again", told, refused_connection=nobody_there)

    async def _send(self, request: ChatRequest, cap: int) -> bytes:
        """The body of a reply with status 200, read up to the limit."""
        body = request_body(request, model=self.name, max_tokens=cap, renamed=self._renamed, schema=self._schema)
        limit = int(self._section.max_reply_mb * 1e6)
        raw = bytearray()
        # The SDK walks through messages given as such, type by type, which costs more than all the rest of a call.
        async with self._create(model=self.name, messages=(), extra_body=body) as response:
            async for chunk in response.iter_bytes():
                raw += chunk
                if len(raw) > limit:
                    told = f"a reply grew beyond chat.max_reply_mb ({self._section.max_reply_mb:g} MB) and was dropped"
                    raise transient("malformed", told, billed=True)
        return bytes(raw)

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
            )
        )


async def _guard_body(response: httpx2.Response) -> None:
    """Take bodies as they come: none is unpacked, since none was asked for packed, and no error text is endless."""
    response.headers.pop("content-encoding", None)
    if response.status_code >= 300:
        response.stream = _Beginning(response.stream)


class _Beginning(httpx2.AsyncByteStream):
    """The first bytes of a stream."""

    def __init__(self, stream: Any) -> None:  # noqa: ANN401 - the client's own stream type
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        read = 0
        async for chunk in self._stream:
            yield chunk
            read += len(chunk)
            if read >= _MOST_ERROR_BYTES:
                return

    async def aclose(self) -> None:
        await self._stream.aclose()
