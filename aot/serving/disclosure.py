"""What every answer says of itself: that a machine wrote it, which one, where its knowledge comes from, its limits.

Said of what the contract knows, in fields for machines and in one text for people. Knows no server and no model.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from aot.chat.messages import WATERMARK_TOKENS
from aot.chat.server.keys import Secret
from aot.display import one_line
from aot.errors import ConfigError
from aot.records import Record
from aot.served_records import StudentContract

LEAST_SECRET_CHARS = 16
Calibrated = Literal["calibrated", "not_calibrated", "none"]
"""What a confidence is; `none`: there is none."""
Watermark = Literal["synthid", "none_short_text", "none_greedy", "none"]
"""`synthid`: put in. `none_short_text`: at most WATERMARK_TOKENS tokens, which are exempt. Of longer text
`none_greedy`: nothing was sampled, as in all that is graded, and a mark would change it; `none`: nobody asked."""


class Origin(Record):
    """Where an answer comes from."""

    ai_generated: bool = True
    """False of an answer that a person gave instead of the model's."""
    reviewed: Literal["", "approved", "corrected", "rejected"] = ""
    """What a person said of it; empty where nobody has looked."""
    distilled: bool | None = None
    """Whether who answered learned from rationales of a teacher; None where that is not known."""
    teacher: str | None = None
    """Who wrote them; None where that is not known, or there was none."""
    data: str | None = None
    """What it was trained on; None where that is not known."""
    base: str | None = None
    """The model that it was made from; None where that is not known."""
    confidence: Calibrated = "none"
    limits: tuple[str, ...] = ()
    watermark: Watermark = "none_short_text"


def origin_of(
    contract: StudentContract | None,
    *,
    mode: str = "none",
    has_confidence: bool = False,
    tokens: int = 0,
    long_text: Watermark = "none",
) -> Origin:
    """Where an answer comes from that the student of a contract gave, or somebody of whom nothing is known.

    Args:
        contract: of the student that answered; None where another model did.
        mode: how the student was asked.
        has_confidence: whether a confidence stands beside the answer.
        tokens: of the reply.
        long_text: what holds of it where it is long; a mark is in a short one, too.
    """
    is_short = tokens <= WATERMARK_TOKENS and long_text != "synthid"
    watermark: Watermark = "none_short_text" if is_short else long_text
    if contract is None:
        return Origin(confidence="not_calibrated" if has_confidence else "none", watermark=watermark)
    origin = contract.origin
    return Origin(
        distilled=origin.distilled if origin else None,
        teacher=(origin.teacher or None) if origin else None,
        data=origin.data if origin else None,
        base=_name(contract.base),
        confidence=_confidence(contract, mode) if has_confidence else "none",
        limits=contract.limits,
        watermark=watermark,
    )


def _confidence(contract: StudentContract, mode: str) -> Calibrated:
    fitted = contract.calibration.temperatures if contract.calibration else ()
    return "calibrated" if any(row.mode == mode for row in fitted) else "not_calibrated"


def _name(base: str) -> str:
    """A base without the folder that it lies in on some machine; `owner/name` of a hub stays."""
    return Path(base).name if base.startswith((".", "/", "~")) or base.count("/") > 1 else base


def sentence_of(contract: StudentContract) -> str:
    """What people are told of all answers of a student."""
    return text_of(contract.name, origin_of(contract))


def text_of(model: str, origin: Origin, *, sure: float | None = None) -> str:
    """The same as an origin says, for people, in one line.

    Args:
        model: who answered.
        origin: where the answer comes from.
        sure: the confidence in it, if there is one.

    >>> text_of("kitchen", Origin(distilled=True, teacher="an agent", data="toy", base="tiny"))
    'Written by kitchen, a small model distilled from an agent (data: toy; base: tiny). It may be wrong.'
    """
    if origin.base is None:
        return one_line(f"Written by the language model {model}. It may be wrong.")
    made = "that was made from another one"
    if origin.distilled is not None:
        made = f"distilled from {origin.teacher}" if origin.distilled else "that saw no rationale of a teacher"
    data = f"data: {origin.data}; " if origin.data else ""
    parts = [f"Written by {model}, a small model {made} ({data}base: {origin.base}). It may be wrong."]
    if sure is not None:
        calibrated = "" if origin.confidence == "calibrated" else "not "
        parts.append(f"Its confidence is {sure:.0%}, {calibrated}calibrated.")
    return one_line(" ".join((*parts, *origin.limits)))


def read_watermark_secret(name: str | None, environment: Mapping[str, str] = os.environ) -> Secret | None:
    """The secret of a watermark in an environment variable; None where no name was given.

    Raises:
        ConfigError: the variable is not set, or holds too little to be a secret.
    """
    if name is None:
        return None
    value = environment.get(name, "").strip()
    if len(value) < LEAST_SECRET_CHARS:
        raise ConfigError(
            f"--watermark-key-env names {name}, and this environment variable "
            f"{'holds fewer than' if value else 'is not set; it needs'} {LEAST_SECRET_CHARS} characters; put a long "
            "random text there, such as that of `openssl rand -hex 32`, and keep it: the mark is only found with it"
        )
    return Secret(value)
