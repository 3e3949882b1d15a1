"""Chat models that play a file back and that write one: for tests, demonstrations, and replays without any server.

A file holds JSON lines of two kinds, in any mixture. A script line says what to answer to which words, turn by turn::

    {"match": "how often is the pancake flipped", "replies": [{"calls": [{"name": "caption", "arguments": {}}]},
     {"text": "Twice."}]}

It answers requests whose latest user message contains `match` (any case); reply i is given when i assistant messages
stand after that user message; `sample` and `purpose`, where given, must be those of the request. The first line that
fits wins. A cassette line holds the digest of one request and what was said to it, and is looked for before any script
line; `RecordingChat` writes such lines.
"""

import json
import threading
from pathlib import Path

from pydantic import Field, ValidationError

from aot.chat.client import ChatModel
from aot.chat.messages import ChatReply, ChatRequest, WrittenCall
from aot.errors import ChatError, ChatReason, ConfigError
from aot.files.jsonl import RowProblem, first_mistake, parse_object
from aot.files.run_folder import append_row, open_append
from aot.records import JsonDict, Record
from aot.run_records import ChatUsage


class ScriptedCall(Record):
    """A tool call in a script; arguments may be a string, to write broken JSON."""

    name: str
    arguments: JsonDict | str = Field(default_factory=dict)


class ScriptedReply(Record):
    """One turn of a script."""

    text: str = ""
    reasoning: str = ""
    calls: tuple[ScriptedCall, ...] = ()


class ScriptLine(Record):
    """What to answer to which words."""

    match: str
    replies: tuple[ScriptedReply, ...]
    sample: int | None = None
    purpose: str | None = None


class TapedError(Record):
    """A request that got no usable reply."""

    reason: ChatReason
    message: str


class TapedLine(Record):
    """One exchange of a cassette."""

    key: str
    reply: ChatReply | None = None
    error: TapedError | None = None


class ScriptedChat:
    """Replies from a file, the same for the same request however often and from however many threads it comes."""

    def __init__(self, path: Path, *, model: str, base_url: str = "") -> None:
        """Raises ConfigError when the file cannot be read or a line is neither script nor cassette."""
        self.name, self._base_url, self._path = model, base_url, path
        self._script: list[ScriptLine] = []
        self._tape: dict[str, TapedLine] = {}
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the chat script {path}: {error}; see docs/chat.md") from error
        for number, line in enumerate(lines, start=1):
            if line.strip():
                self._take(line, place=f"{path}:{number}")

    def reply(self, request: ChatRequest) -> ChatReply:
        """What the file says; raises ChatError (no_script) when it says nothing."""
        taped = self._tape.get(request.digest(model=self.name, base_url=self._base_url))
        if taped is not None and taped.error is not None:
            raise ChatError(taped.error.message, reason=taped.error.reason)
        if taped is not None and taped.reply is not None:
            return taped.reply
        latest = max((i for i, one in enumerate(request.messages) if one.role == "user"), default=-1)
        text = request.messages[latest].text.casefold() if latest >= 0 else ""
        turn = sum(one.role == "assistant" for one in request.messages[latest + 1 :])
        for line in self._script:
            fits = line.match.casefold() in text and line.sample in (None, request.sample_index)
            if fits and line.purpose in (None, request.purpose):
                if turn < len(line.replies):
                    return _spoken(line.replies[turn], turn, model=self.name)
                break
        raise ChatError(f"{self._path} has no reply to turn {turn} of {text[-120:]!r}", reason="no_script")

    def close(self) -> None:
        """Nothing to close."""

    def _take(self, line: str, *, place: str) -> None:
        try:
            row = parse_object(line.encode())
            if "key" in row:
                taped = TapedLine.model_validate(row)
                self._tape[taped.key] = taped
            else:
                self._script.append(ScriptLine.model_validate(row))
        except (RowProblem, ValidationError) as error:
            problem = error.detail[:300] if isinstance(error, RowProblem) else first_mistake(error, whole="the line")
            raise ConfigError(f"{place} is no line of a chat script ({problem}); see docs/chat.md") from None


class RecordingChat:
    """A chat model whose replies and refusals are appended to a cassette."""

    def __init__(self, inner: ChatModel, path: Path, *, base_url: str) -> None:
        """`base_url` goes into the keys: a replay needs the same one, and the same model name."""
        self._inner, self._base_url = inner, base_url
        self._file, self._lock = open_append(path), threading.Lock()

    @property
    def name(self) -> str:
        """The model's name."""
        return self._inner.name

    def reply(self, request: ChatRequest) -> ChatReply:
        """What the other model replies."""
        key = request.digest(model=self.name, base_url=self._base_url)
        try:
            reply = self._inner.reply(request)
        except ChatError as error:
            self._write(TapedLine(key=key, error=TapedError(reason=error.reason, message=str(error))))
            raise
        self._write(TapedLine(key=key, reply=reply))
        return reply

    def close(self) -> None:
        """Close the model and the cassette."""
        self._inner.close()
        self._file.close()

    def _write(self, line: TapedLine) -> None:
        with self._lock:
            append_row(self._file, line)


def _spoken(said: ScriptedReply, turn: int, *, model: str) -> ChatReply:
    calls = tuple(
        WrittenCall(
            id=f"call_{turn}_{i}",
            name=call.name,
            arguments=call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments),
        )
        for i, call in enumerate(said.calls)
    )
    return ChatReply(
        text=said.text,
        reasoning=said.reasoning,
        tool_calls=calls,
        finish_reason="tool_calls" if calls else "stop",
        model=model,
        usage=ChatUsage(),
    )
