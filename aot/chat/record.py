"""Writes down every exchange with a chat model, as a cassette that `ScriptedChat` plays back without any server."""

import threading
from pathlib import Path

from aot.chat.client import ChatModel
from aot.chat.messages import ChatReply, ChatRequest
from aot.chat.scripted import TapedError, TapedLine
from aot.errors import ChatError
from aot.files.run_folder import append_row, open_append


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
