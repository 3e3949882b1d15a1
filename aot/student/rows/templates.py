"""Chat templates, which are programs that strangers wrote: rendered within limits, and each failure is one sentence.

A template sees messages only and cannot leave transformers' sandbox, but it can loop, fill memory and raise anything.
What it may ask of the world is fixed: the day is always the same, so that a prompt is the same tomorrow.
"""

import ctypes
import datetime
import re
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from types import FrameType
from typing import Any

import jinja2
import jinja2.meta
import jinja2.nodes
import numpy as np

from aot.errors import CheckpointError
from aot.records import JsonDict

RENDER_LIMIT_S = 5.0
"""For one prompt, which takes a millisecond."""
MAX_CHARACTERS = 10_000_000
"""Of one prompt."""
MAX_TEMPLATE_CHARACTERS = 1_000_000
TEMPLATE_DATE = "2024-07-26"
"""The day that templates are told when they ask for today's; Llama's own fall back to this one."""
_CLOCK = "strftime_now"
_GENERATION = re.compile(r"{%[-+]?\s*(?:end)?generation\s*[-+]?%}")
"""A tag of transformers' own."""
_CONTROL_MARK = re.compile(r"<\|[^<>|\s]{1,60}\|>|<｜[^<>\s]{1,60}｜>|</?(?:start|end|begin)_of_[a-z]{1,20}>")
"""Text that was meant to be a token of its own; marks such as <user> or [INST] may well be plain text."""
_SYSTEM = {"role": "system", "content": "Be brief."}


def check_template(processor: Any) -> None:  # noqa: ANN401 - processors share no useful base type
    """Look a chat template over before it is rendered for the first time.

    Raises:
        CheckpointError: it is no template, or computes powers: one of them may take for ever, and no signal ends it.
            Or it draws at random, so that no prompt could be made twice.
    """
    templates = getattr(processor, "chat_template", None)
    for template in (
        list(templates.values()) if isinstance(templates, dict) else [] if templates is None else [templates]
    ):
        if not isinstance(template, str):
            raise CheckpointError(f"{_named(processor)} is no text but {type(template).__name__}; mend it")
        if not template:
            raise CheckpointError(f"{_named(processor)} is empty; mend it, or take it out for plain prompts")
        if len(template) > MAX_TEMPLATE_CHARACTERS:
            problem = f"has {len(template)} characters; at most {MAX_TEMPLATE_CHARACTERS} are read"
            raise CheckpointError(f"{_named(processor)} {problem}; mend it")
        try:
            with within_limits(processor):
                tree = _parsed(template)
        except CheckpointError:
            raise
        except Exception as error:
            raise CheckpointError(f"{_named(processor)} is no Jinja template: {_words(error)}; mend it") from error
        if tree.find(jinja2.nodes.Pow):
            raise CheckpointError(f"{_named(processor)} computes powers (**), which no prompt needs; mend it")
        if _draws(tree):
            raise CheckpointError(f"{_named(processor)} draws at random, so no prompt could be made twice; mend it")


def render_chat(
    processor: Any,  # noqa: ANN401
    messages: list[dict[str, Any]],
    *,
    prompt: bool,
    date: str = TEMPLATE_DATE,
    thinks: bool | None = None,
    tools: Sequence[JsonDict] = (),
) -> str:
    """Messages as the chat template writes them, with the beginning of a reply where a `prompt` is wanted.

    Args:
        processor: whose template it is.
        messages: what was said.
        prompt: whether a reply follows.
        date: the day that the template is told, as in 2024-07-26.
        thinks: turns thinking on or off where the template has a switch for it; None leaves it alone.
        tools: that the model is told of, in OpenAI's form.

    Raises:
        CheckpointError: the template cannot be rendered, takes too long, or writes too much.
    """
    settings = template_settings(processor, date=date, thinks=thinks, with_tools=bool(tools))
    if tools:
        settings["tools"] = list(tools)
    try:
        with within_limits(processor):
            text = str(
                processor.apply_chat_template(messages, add_generation_prompt=prompt, tokenize=False, **settings)
            )
    except CheckpointError:
        raise
    except Exception as error:
        if messages[0]["role"] != "system" and _renders(processor, [_SYSTEM, *messages], settings):
            problem = f"refuses a conversation without a system message ({_words(error)}), and prompts have none"
            raise CheckpointError(f"{_named(processor)} {problem}; mend it, or take another model") from error
        raise CheckpointError(f"{_named(processor)} cannot be rendered: {_words(error)}; mend it") from error
    if len(text) > MAX_CHARACTERS:
        raise CheckpointError(
            f"{_named(processor)} writes {len(text)} characters for one prompt; at most {MAX_CHARACTERS} are taken"
        )
    return text


def library_ids(
    processor: Any,  # noqa: ANN401
    messages: list[dict[str, Any]],
    *,
    prompt: bool,
    date: str,
    thinks: bool | None,
    tools: Sequence[JsonDict] = (),
) -> list[int]:
    """Ids of `messages` as transformers' own `apply_chat_template` makes them; arguments as for `render_chat`.

    Raises:
        CheckpointError: it makes none.
    """
    settings = template_settings(processor, date=date, thinks=thinks, with_tools=bool(tools))
    if tools:
        settings["tools"] = list(tools)
    try:
        with within_limits(processor):
            made: Any = processor.apply_chat_template(
                messages, add_generation_prompt=prompt, tokenize=True, return_dict=True, **settings
            )
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"transformers makes no prompt of {_named(processor)}: {_words(error)}") from error
    return [int(i) for i in np.asarray(made["input_ids"]).reshape(-1)]


def template_settings(
    processor: Any,  # noqa: ANN401
    *,
    date: str = TEMPLATE_DATE,
    thinks: bool | None = None,
    with_tools: bool = False,
) -> dict[str, Any]:
    """What `apply_chat_template` gets besides messages: the switch of thinking, and the template with its day fixed.

    transformers lets no function be given to a template, so one that asks for the day gets it from a macro.
    """
    template = template_of(processor, with_tools=with_tools)
    variables = _variables(template)
    settings: dict[str, Any] = {"chat_template": _told_the_day(template, date)} if _CLOCK in variables else {}
    if thinks is not None and "enable_thinking" in variables:
        settings["enable_thinking"] = thinks
    return settings


def asks_for_the_day(processor: Any) -> bool:  # noqa: ANN401
    """Whether the template writes today's date into prompts."""
    return _CLOCK in _variables(template_of(processor))


def special_tokens(tokenizer: Any) -> tuple[str, ...]:  # noqa: ANN401
    """The tokens that text must not spell out: those with a name such as eos, then all others declared as special."""
    added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    return tuple(dict.fromkeys([*tokenizer.all_special_tokens, *(one for one in added if len(one.strip()) > 1)]))


def first_token(text: str, tokens: Sequence[str]) -> str:
    """The token that stands first in `text`, the longest of several at one place; empty if none does.

    >>> first_token("!<b><a>", ("<a>", "<b>", "<b><"))
    '<b><'
    """
    places = [(text.find(token), -len(token), token) for token in tokens if token and token in text]
    return min(places)[2] if places else ""


def control_marks(text: str) -> list[str]:
    """What in `text` is meant as a control token by its looks, such as <|im_end|>.

    >>> control_marks("<|im_start|>user a <b> c<end_of_turn>")
    ['<|im_start|>', '<end_of_turn>']
    """
    return _CONTROL_MARK.findall(text)


def template_of(processor: Any, *, with_tools: bool = False) -> str:  # noqa: ANN401
    """The text that transformers takes of one template, or of several with names; empty where there is none."""
    template = getattr(processor, "chat_template", None)
    if isinstance(template, dict):
        template = template["tool_use"] if with_tools and "tool_use" in template else template.get("default")
    return template if isinstance(template, str) else ""


@lru_cache(maxsize=16)
def _variables(template: str) -> frozenset[str]:
    """Names that a template looks up but does not set itself."""
    try:
        return frozenset(jinja2.meta.find_undeclared_variables(_parsed(template)))
    except Exception:  # noqa: BLE001 - check_template tells what is wrong with it
        return frozenset()


@lru_cache(maxsize=16)
def _told_the_day(template: str, date: str) -> str:
    """`template` behind a macro of the name under which transformers tells the time.

    The line end behind the macro is dropped by transformers' settings, and leaves the template as it was.
    """
    day = datetime.datetime.fromisoformat(date)
    codes = [
        *(f"%-{letter}" for letter in "dmHIMSjy"),
        *(f"%{letter}" for letter in "aAwdbBmyYHIpMSfzZjUWcxXGuVeDFTRhC"),
    ]
    written = "".join(f"|replace('{code}', '{day.strftime(code)}')" for code in codes)
    return f"{{% macro {_CLOCK}(format) %}}{{{{ format{written} }}}}{{% endmacro %}}\n{template}"


def _parsed(template: str) -> jinja2.nodes.Template:
    environment = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"])  # noqa: S701 - nothing is rendered
    return environment.parse(_GENERATION.sub("", template))


def _draws(tree: jinja2.nodes.Template) -> bool:
    filters = {node.name for node in tree.find_all(jinja2.nodes.Filter)}
    return "random" in filters or any(node.name == "lipsum" for node in tree.find_all(jinja2.nodes.Name))


def _renders(processor: Any, messages: list[dict[str, Any]], settings: dict[str, Any]) -> bool:  # noqa: ANN401
    try:
        with within_limits(processor):
            processor.apply_chat_template(messages, tokenize=False, **settings)
    except Exception:  # noqa: BLE001 - a template can raise anything
        return False
    return True


@contextmanager
def within_limits(processor: Any) -> Iterator[None]:  # noqa: ANN401
    """Interrupts what takes longer than RENDER_LIMIT_S.

    A signal does it, or where none arrives, in threads other than the main one, an exception that is put into them.
    """
    message = f"{_named(processor)} takes longer than {RENDER_LIMIT_S:g} s for one prompt; mend it"
    if threading.current_thread() is not threading.main_thread():
        with _thread_limit(message):
            yield
        return

    def expire(number: int, frame: FrameType | None) -> None:
        raise CheckpointError(message)

    handler = signal.signal(signal.SIGALRM, expire)
    before_s, interval_s = signal.setitimer(signal.ITIMER_REAL, RENDER_LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, before_s, interval_s)
        signal.signal(signal.SIGALRM, handler)


class _Expired(Exception):
    """Put into a thread from outside."""


class _Limit:
    """The time that one prompt may take in a thread."""

    def __init__(self) -> None:
        self.until_s = time.monotonic() + RENDER_LIMIT_S
        self._ident, self._lock, self._over = threading.get_ident(), threading.Lock(), False

    @property
    def is_over(self) -> bool:
        """Whether the prompt is made, or its thread was interrupted."""
        return self._over

    def end(self) -> None:
        """Nothing is put into the thread from here on."""
        with self._lock:
            self._over = True

    def expire(self) -> None:
        """Interrupt the thread, unless it has ended its prompt."""
        with self._lock:
            if not self._over:
                self._over = True
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._ident), ctypes.py_object(_Expired))


class _Watcher:
    """One thread that interrupts others; a timer for each prompt would be a thread for each of them."""

    def __init__(self) -> None:
        self._limits: deque[_Limit] = deque()
        """By the time at which they expire; those that are over leave at that time."""
        self._new = threading.Event()
        self._thread: threading.Thread | None = None
        self._start = threading.Lock()

    def watch(self, limit: _Limit) -> None:
        """See to it that `limit` expires."""
        self._limits.append(limit)
        if not self._new.is_set():
            self._new.set()
        with self._start:
            if self._thread is None or not self._thread.is_alive():  # after a fork it is not
                self._thread = threading.Thread(target=self._work, name="aot-limits", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while self._new.wait():
            self._new.clear()
            while self._limits:
                left_s = self._limits[0].until_s - time.monotonic()
                if left_s > 0 and not self._limits[0].is_over:
                    time.sleep(left_s)
                    continue
                self._limits.popleft().expire()


_WATCHER = _Watcher()


@contextmanager
def _thread_limit(message: str) -> Iterator[None]:
    limit = _Limit()
    _WATCHER.watch(limit)
    try:
        try:
            yield
        finally:
            limit.end()
    except _Expired:
        raise CheckpointError(message) from None


def _named(processor: Any) -> str:  # noqa: ANN401
    tokenizer = getattr(processor, "tokenizer", processor)
    return f"the chat template of {getattr(tokenizer, 'name_or_path', '') or 'this model'}"


def _words(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
