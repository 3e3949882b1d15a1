"""Which chat model is asked, how, and what it may cost."""

from typing import Literal, Self

from pydantic import Field, model_validator

from aot.config.base import PathText, Section


class PricesConfig(Section):
    """What a served model charges for a million tokens of each kind; a kind without a price is told as unpriced."""

    date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    """When these prices were looked up."""
    currency: str = "USD"
    prompt: float | None = Field(default=None, ge=0)
    cached_prompt: float | None = Field(default=None, ge=0)
    """None charges them like any prompt token."""
    completion: float | None = Field(default=None, ge=0)
    """Reasoning tokens are completion tokens."""


class ChatConfig(Section):
    """One chat model and how it is asked."""

    backend: Literal["openai", "local", "scripted"] = "openai"
    """`openai`: any server that speaks the chat-completions API; `local`: a transformers model in this process;
    `scripted`: replies from a file."""
    model: PathText
    """The name that the server knows, the folder of a local model, or a name for the script."""
    base_url: str = "http://127.0.0.1:8000/v1"
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; a server on this machine needs none."""
    script: PathText | None = None
    """scripted: a JSONL file of replies, or a cassette (docs/chat.md)."""
    record: PathText | None = None
    """Write every exchange to this cassette, from which `scripted` can replay."""
    temperature: float = Field(default=0.7, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=1024, ge=1)
    """Of one reply, thinking included; a reply cut off there is asked for once more with `raise_tokens` times this."""
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

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.backend == "scripted" and self.script is None:
            raise ValueError("a scripted chat model needs `script`, a JSONL file of replies (docs/chat.md)")
        if self.max_cost is not None and (self.prices is None or None in (self.prices.prompt, self.prices.completion)):
            raise ValueError("max_cost needs prices.prompt and prices.completion, or nobody can tell what was spent")
        return self


CHAT_NOT_IN_RESULTS = (
    "record", "max_concurrency", "attempt_timeout_s", "deadline_s", "max_attempts", "hedge_after_s", "prices",
    "max_cost", "gpus", "api_key_env",
)  # fmt: skip
"""Settings of a chat model that do not change what it is asked."""
