"""Chat templates, which are programs that strangers wrote: rendered within limits, and each failure is one sentence.

A template sees messages only and cannot leave transformers' sandbox, but it can loop, fill memory and raise anything.
"""

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import jinja2
import jinja2.nodes

from aot.errors import CheckpointError

RENDER_LIMIT_S = 10.0
"""For one prompt, which takes a millisecond."""
_GENERATION = re.compile(r"{%[-+]?\s*(?:end)?generation\s*[-+]?%}")
"""A tag of transformers' own."""
MAX_CHARACTERS = 10_000_000
"""Of one prompt."""


def check_template(processor: Any) -> None:  # noqa: ANN401 - processors share no useful base type
    """Look a chat template over before it is rendered for the first time.

    Raises:
        CheckpointError: it is no template, or computes powers: one of them may take for ever, and no signal ends it.
    """
    found = getattr(processor, "chat_template", None)
    for template in list(found.values()) if isinstance(found, dict) else [found] if found else []:
        if not isinstance(template, str):
            raise CheckpointError(f"{_named(processor)} is no text but {type(template).__name__}; mend it")
        environment = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"])  # noqa: S701 - nothing is rendered
        try:
            tree = environment.parse(_GENERATION.sub("", template))
        except Exception as error:
            raise CheckpointError(f"{_named(processor)} is no Jinja template: {_words(error)}; mend it") from error
        if tree.find(jinja2.nodes.Pow):
            raise CheckpointError(f"{_named(processor)} computes powers (**), which no prompt needs; mend it")


def render_chat(processor: Any, messages: list[dict[str, Any]], *, prompt: bool) -> str:  # noqa: ANN401
    """Messages as the chat template writes them, with the beginning of a reply where a `prompt` is wanted.

    Raises:
        CheckpointError: the template cannot be rendered, takes too long, or writes too much.
    """
    try:
        with _time_limit(processor):
            text = str(processor.apply_chat_template(messages, add_generation_prompt=prompt, tokenize=False))
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"{_named(processor)} cannot be rendered: {_words(error)}; mend it") from error
    if len(text) > MAX_CHARACTERS:
        raise CheckpointError(
            f"{_named(processor)} writes {len(text)} characters for one prompt; at most {MAX_CHARACTERS} are taken"
        )
    return text


@contextmanager
def _time_limit(processor: Any) -> Iterator[None]:  # noqa: ANN401
    """Interrupt what takes longer than RENDER_LIMIT_S; a no-op outside the main thread, where no signal arrives."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(number: int, frame: FrameType | None) -> None:
        raise CheckpointError(f"{_named(processor)} takes longer than {RENDER_LIMIT_S:g} s for one prompt; mend it")

    handler = signal.signal(signal.SIGALRM, expire)
    before_s, interval_s = signal.setitimer(signal.ITIMER_REAL, RENDER_LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, before_s, interval_s)
        signal.signal(signal.SIGALRM, handler)


def _named(processor: Any) -> str:  # noqa: ANN401
    tokenizer = getattr(processor, "tokenizer", processor)
    return f"the chat template of {getattr(tokenizer, 'name_or_path', '') or 'this model'}"


def _words(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
