"""Which chat model is asked, how, and what it may cost."""

import datetime
import hashlib
import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, Field, JsonValue, model_validator

from aot.config.base import HubModel, PathText, Section


def _day(text: str) -> str:
    try:
        datetime.date.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"must be a day of the calendar ({error})") from error
    return text


class PricesConfig(Section):
    """What a served model charges for a million tokens of each kind; a kind without a price is reported as unpriced."""

    date: Annotated[str, AfterValidator(_day)] = Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")
    """When these prices were looked up."""
    currency: str = "USD"
    prompt: float | None = Field(default=None, ge=0)
    cached_prompt: float | None = Field(default=None, ge=0)
    """None charges them like any prompt token."""
    completion: float | None = Field(default=None, ge=0)
    """Reasoning tokens are completion tokens."""


Omittable = Literal[
    "temperature", "top_p", "seed", "max_tokens", "response_format", "tool_choice", "stream_options", "logprobs",
    "top_logprobs",
]  # fmt: skip
"""Parameters of a request that a server may not take."""
_OURS = ("messages", "model", "stream", "n", "tools")
"""Never taken from extra_body: what is asked, of whom, and what the reply is read by."""
_SECRET_NAME = re.compile(
    r"(?:^|_)(?:api_?key|secret|password|passwd|passphrase|authorization|credentials?|bearer|(?:access|auth|private)_(?:key|token))(?:_|$)"
    r"|^(?:key|token)$"
)
_SECRET_VALUE = re.compile(r"\s*(?:bearer\s+\S{8,}|(?:sk|gsk|hf|xai|ghp|key)[-_][\w-]{16,}\s*$)", re.IGNORECASE)


def _no_secrets(extra: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """`extra` as it is; what looks like a key is refused by the name it stands under, and never shown."""
    for name, value in _items(extra):
        words = re.sub(r"[\W_]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)).strip("_").lower()
        if _SECRET_NAME.search(words) or (isinstance(value, str) and _SECRET_VALUE.match(value)):
            raise ValueError(
                f"{name[:80]!r} looks like a key or password, and what stands here is written into the run folder; "
                "take it out and put the key into the environment variable of api_key_env"
            )
    return extra


def _items(value: JsonValue) -> Iterator[tuple[str, JsonValue]]:
    """Every name with its value, at any depth; values of lists under an empty name."""
    pairs: Any = (
        value.items() if isinstance(value, dict) else (("", one) for one in value) if isinstance(value, list) else ()
    )
    for name, inner in pairs:
        yield name, inner
        yield from _items(inner)


class ChatConfig(Section):
    """One chat model and how it is asked."""

    backend: Literal["openai", "local", "scripted"] = "openai"
    """`openai`: any server that speaks the chat-completions API; `local`: a transformers model in this process;
    `scripted`: replies from a file."""
    model: PathText
    """The name that the server knows, the folder of a local model, or a name for the script."""
    hub: HubModel | None = None
    """Where `aot prefetch` gets the folder of a local model from."""
    base_url: str = "http://127.0.0.1:8000/v1"
    """With `{port}` in the place of the port, a server that is started beside each job (docs/cluster.md)."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; a server on this machine needs none."""
    script: PathText | None = None
    """scripted: a JSONL file of replies, or a cassette (docs/chat.md)."""
    record: PathText | None = None
    """Write every exchange to this cassette, from which `scripted` can replay."""
    temperature: float = Field(default=0.7, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=1024, ge=1)
    """Of one reply, thinking included; a reply cut off there is asked for once more with `raise_tokens` times this, or
    not again where that is 1."""
    raise_tokens: float = Field(default=2.0, ge=1, le=1000)
    max_prompt_tokens: int = Field(default=100_000, ge=1)
    """A longer prompt (estimated at three characters a token) is refused before it is sent, never cut."""
    max_concurrency: int = Field(default=64, ge=1, le=10_000)
    """Calls in flight at most; how many pay off is found out while running."""
    attempt_timeout_s: float = Field(default=120.0, gt=0)
    deadline_s: float = Field(default=600.0, gt=0)
    """For one request with all its retries, waiting included."""
    max_attempts: int = Field(default=6, ge=1)
    max_reply_mb: float = Field(default=8.0, gt=0, le=10_000)
    hedge_after_s: float | None = Field(default=None, gt=0)
    """Ask a second time when no reply came within this time; None never does."""
    prices: PricesConfig | None = None
    max_cost: float | None = Field(default=None, ge=0)
    """Stop with exit code 4 when the run has cost this much (the --max-cost option); needs prices."""
    gpus: float | None = Field(default=None, gt=0)
    """GPUs of a local server, for GPU-hours per thousand chains."""
    omit: tuple[Omittable, ...] = ()
    """Parameters that are not sent, for a server that does not take them; its own default then holds."""
    extra_body: Annotated[dict[str, JsonValue], AfterValidator(_no_secrets)] = Field(default_factory=dict)
    """Sent besides, such as {enable_thinking: false}; what has a setting of its own is not given here."""
    stream: bool = False
    """Ask for the reply piece by piece, for a server that answers in no other way; it is read whole all the same."""
    logprobs: bool = False
    """Ask for the log-probability of every token that the teacher's model writes; its turns in traces keep them."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.backend == "scripted" and self.script is None:
            raise ValueError("a scripted chat model needs `script`, a JSONL file of replies (docs/chat.md)")
        if self.max_cost is not None and (self.prices is None or None in (self.prices.prompt, self.prices.completion)):
            raise ValueError("max_cost needs prices.prompt and prices.completion, or nobody can tell what was spent")
        for name in self.extra_body:
            if name in _OURS:
                raise ValueError(f"extra_body may not hold {name!r}, which is what the request itself is about")
            sent = "max_tokens" if name == "max_completion_tokens" else name
            if sent in get_args(Omittable) and sent not in self.omit:
                settings = {"response_format": "teacher.structured", "seed": "seed", "top_logprobs": "chat.logprobs"}
                setting = settings.get(sent, f"chat.{sent}")
                raise ValueError(
                    f"extra_body may not hold {name!r} beside {setting}; name {sent} in omit, or take it out"
                )
        return self

    def digest(self) -> str:
        """Twelve hex digits over everything that can change a reply."""
        settings = self.model_dump(mode="json", exclude=set(CHAT_NOT_IN_RESULTS))
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


class ServerSection(Section):
    """A server that holds the base and the arms of a run, for an evaluation with engine `server`."""

    base_url: str = "http://127.0.0.1:8000/v1"
    base_urls: dict[str, str] = Field(default_factory=dict)
    """Arm, or `base`, to the address of its own server, where that is not base_url."""
    models: dict[str, str] = Field(default_factory=dict)
    """Arm, or `base`, to the name that its server knows; an arm that is not here goes by its own name."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; a server on this machine needs none."""
    max_concurrency: int = Field(default=64, ge=1, le=10_000)
    attempt_timeout_s: float = Field(default=120.0, gt=0)
    deadline_s: float = Field(default=600.0, gt=0)
    max_attempts: int = Field(default=6, ge=1)
    omit: tuple[Omittable, ...] = ()
    """Parameters that are not sent, for a server that does not take them."""
    extra_body: Annotated[dict[str, JsonValue], AfterValidator(_no_secrets)] = Field(default_factory=dict)
    """Sent besides, such as {chat_template_kwargs: {enable_thinking: false}}."""
    probe_questions: int = Field(default=32, ge=1, le=1000)
    """Asked of the server and of the engine here, in every mode of every arm, before anything is evaluated."""

    def chat_of(self, arm: str) -> ChatConfig:
        """How the model of an arm, or the base, is asked: greedily, and once where its reply is cut off."""
        same = ("api_key_env", "max_concurrency", "attempt_timeout_s", "deadline_s", "max_attempts", "omit",
                "extra_body")  # fmt: skip
        return ChatConfig(
            model=self.models.get(arm, arm), base_url=self.base_urls.get(arm, self.base_url), temperature=0.0,
            raise_tokens=1.0, **{name: getattr(self, name) for name in same},
        )  # fmt: skip


SERVER_NOT_IN_RESULTS = ("max_concurrency", "attempt_timeout_s", "deadline_s", "max_attempts", "api_key_env",
                         "base_url", "base_urls", "probe_questions")  # fmt: skip
"""Settings of a server of students that do not change what it is asked."""
CHAT_NOT_IN_RESULTS = (
    "record", "max_concurrency", "attempt_timeout_s", "deadline_s", "max_attempts", "hedge_after_s", "prices",
    "max_cost", "gpus", "api_key_env", "stream", "hub",
)  # fmt: skip
"""Settings of a chat model that do not change what it is asked."""
CHAT_MAY_CHANGE = (
    "temperature", "top_p", "max_tokens", "raise_tokens", "max_prompt_tokens", "max_reply_mb", "omit", "extra_body",
    "logprobs",
)  # fmt: skip
"""How a chat model is asked: may be mended between two lives of a run, and rows carry the digest of their settings."""
CHAT_BEFORE_ROWS = ("model", "base_url")
"""Whom is asked: may be mended as long as nobody has replied."""
