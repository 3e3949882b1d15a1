"""The rule of a cascade: which answers of the small model may stay, and what is promised of those that do.

An answer stays where its calibrated confidence reaches the threshold of the contract, the question lies in the domain
of the contract, and the answer is one. Which threshold keeps which promise is decided in aot.evaluation.risk. Pure
functions but for the watch, which counts. Knows no big model.
"""

import hashlib
import json
import logging
import re
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import ValidationError

from aot.answer_records import AbstainReason, Answer, RouteReason
from aot.chat.messages import ChatRequest, ImagePart, TextPart
from aot.chat.pictures import unpacked
from aot.config import CascadeSection
from aot.errors import AotError, ConfigError
from aot.files.run_folder import RunFolder, publish
from aot.filtering.language import computed_as_one, has_loop
from aot.records import Record
from aot.served_records import AskMode, CascadeThreshold, StudentContract
from aot.serving.cascade.watch import ContractWatch
from aot.serving.domain import kind_problem, label_problem
from aot.serving.student import Ask

log = logging.getLogger(__name__)
LONGEST_LOOP = 40
"""Words of a stretch that is looked for again and again."""
_OF_ABSTENTION: dict[AbstainReason, RouteReason] = {
    "uncertain": "uncertain", "unparsable": "unparsable", "cut_off": "cut_off",
}  # fmt: skip
_TIME = re.compile(r"t=\d+(?:\.\d+)?s")
"""What is written before a frame."""


class _Void(Record):
    """That the promise of one mode has ended, kept for the processes to come."""

    contract_digest: str
    since_s: float
    """Seconds since 1970."""
    by: str
    """The measure of requests that ended it."""


class Promises:
    """What holds of local answers in each mode, and since when it does not; every method from any thread."""

    def __init__(self, contract: StudentContract, section: CascadeSection) -> None:
        self._contract, self._section, self._lock = contract, section, threading.Lock()
        self._digest = contract.digest()
        calibration = contract.calibration if section.threshold is None else None
        self._watches = (
            {one.mode: ContractWatch(one, seed=section.seed) for one in calibration.watches} if calibration else {}
        )
        self._void = {mode: void for mode in self._watches if (void := self._noted(mode))}

    def observe(self, ask: Ask, small: Answer) -> None:
        """Take note of one question, and of the end of the promise."""
        watch = self._watches.get(small.mode)
        if watch is None:
            return
        state = watch.observe(ask.question, choices=ask.choices, confidence=small.confidence)
        with self._lock:
            if state.void_at is None or small.mode in self._void:
                return
            void = _Void(contract_digest=self._digest, since_s=round(time.time(), 3), by=state.void_by)
            self._void[small.mode] = void
        log.warning("the promise of mode %s is void: %s of requests has changed", small.mode, state.void_by)
        if self._section.folder:
            try:
                publish(self._path(small.mode), void.model_dump_json() + "\n")
            except AotError as error:
                log.error("the end of the promise could not be written: %s", error)

    def threshold(self, mode: AskMode) -> float | None:
        """That an answer must reach to stay local; None where none keeps the target."""
        if self._section.threshold is not None:
            return self._section.threshold
        row = row_of(self._contract, self._section, mode)
        return row.threshold if row else None

    def is_void(self, mode: AskMode) -> bool:
        """Whether questions in a mode are no longer those of the calibration."""
        return mode in self._void

    def words(self, mode: AskMode) -> str:
        """What is promised of local answers in a mode."""
        if self._section.threshold is not None:
            return "none: the threshold was set by hand"
        if void := self._void.get(mode):
            since = datetime.fromtimestamp(void.since_s, UTC).isoformat(timespec="seconds")
            return f"void since {since}: {void.by} of the questions is no longer that of the calibration"
        row = row_of(self._contract, self._section, mode)
        if row is None:
            return f"none: the student was not calibrated for this target in mode {mode}"
        if row.threshold is None:
            more = f"; {row.missing} more calibration questions are needed at least" if row.missing else ""
            return f"none: no threshold keeps the target of {row.target:.3g}, so that everything is escalated{more}"
        lost = "wrong" if row.loss == "wrong" else "not what the big model says"
        return f"at most {row.target:.3g} of the answers that stay local are {lost}, with confidence {row.confidence:g}"

    def _path(self, mode: AskMode) -> Path:
        return RunFolder(Path(self._section.folder or "")).void(mode)

    def _noted(self, mode: AskMode) -> _Void | None:
        """What an earlier process has written, if it was about this contract."""
        if not self._section.folder or not self._path(mode).exists():
            return None
        try:
            void = _Void.model_validate_json(self._path(mode).read_bytes())
        except (OSError, ValidationError) as error:
            raise ConfigError(
                f"{self._path(mode)} cannot be read ({type(error).__name__}); delete it to watch anew"
            ) from None
        return void if void.contract_digest == self._digest else None


def row_of(contract: StudentContract, section: CascadeSection, mode: AskMode) -> CascadeThreshold | None:
    """The threshold that a contract has for a mode and the wanted target; None where there is no such row."""
    if contract.calibration is None or section.target is None:
        return None
    row = contract.calibration.threshold(mode, target=section.target, loss=section.loss)
    return row if row and row.confidence >= section.confidence - 1e-9 else None


def reason_to_escalate(
    ask: Ask, small: Answer, contract: StudentContract, *, threshold: float | None
) -> RouteReason | Literal[""]:
    """Why a question is to go to the big model; empty where the small one's answer may stay.

    Args:
        ask: the question.
        small: what the small model says.
        contract: what it was taught and calibrated for.
        threshold: of the confidence; None where none keeps the target.
    """
    if small.abstained == "out_of_domain" or not in_domain(ask, small, contract):
        return "out_of_domain"
    if small.abstained:
        return _OF_ABSTENTION.get(small.abstained, "failed")
    if is_degenerate(small):
        return "degenerate"
    if threshold is None:
        return "no_threshold"
    if small.confidence is None:
        return "no_confidence"
    return "" if small.confidence >= threshold else "uncertain"


def in_domain(ask: Ask, small: Answer, contract: StudentContract) -> bool:
    """Whether a question is of a kind, shows what, and has choices, for which the contract was made.

    A question of no stated kind passes: what it is like is for the watch to see.
    """
    shows_frames = ask.clip is not None or ask.frames is not None
    if shows_frames != (contract.frames is not None):
        return False
    if kind_problem(contract, str(ask.kind or "")):
        return False
    if small.mode != "decide" and small.mode not in contract.modes:
        return False
    return not label_problem(contract, ask.choices or ())


def is_degenerate(answer: Answer) -> bool:
    """Whether an answer says nothing, or a reply goes round in a loop."""
    if not answer.answer.strip():
        return True
    tokens = computed_as_one(answer.raw_text.split())
    return has_loop(tokens, max_period=LONGEST_LOOP)


def digest_of(ask: Ask) -> str:
    """Thirty-two hex digits over a question and all that it is about.

    Of a clip these are its path, size and time of change, of frames every fourth pixel of every fourth row. What
    cannot be read, such as frames that are none, has no part in it: there the student has no answer.
    """
    digest = hashlib.blake2b(digest_size=16)
    clip, stat = None if ask.clip is None else str(ask.clip), None
    with suppress(OSError, ValueError):
        stat = Path(clip).stat() if clip is not None else None
    facts = [ask.question, ask.choices, clip, stat and (stat.st_size, stat.st_mtime_ns), ask.start_s, ask.end_s]
    digest.update(json.dumps([*facts, ask.mode, ask.kind, str(ask.times_s)], default=repr).encode())
    with suppress(TypeError, ValueError, IndexError):
        for frame in ask.frames if ask.frames is not None else ():
            shown = np.asarray(frame)
            digest.update(f"{shown.shape}{shown.dtype}".encode())
            digest.update(shown[::4, ::4].tobytes())  # all of 32 frames would take longer than a decision
    return digest.hexdigest()


def ask_of(request: ChatRequest) -> Ask | None:
    """A request as one question with its pictures; None where it is more than that: turns, tools, instructions.

    The choices are those of a JSON schema that is one `enum` of texts.
    """
    if len(request.messages) != 1 or request.messages[0].role != "user" or request.tools:
        return None
    parts = request.messages[0].parts
    pictures = [part for part in parts if isinstance(part, ImagePart)]
    texts = [part.text for part in parts if isinstance(part, TextPart) and not _TIME.fullmatch(part.text.strip())]
    choices: tuple[str, ...] = ()
    if request.json_schema is not None:
        listed = request.json_schema.get("enum")
        if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed) or not listed:
            return None
        choices = tuple(str(one) for one in listed)
    frames = [np.asarray(unpacked(picture.data)) for picture in pictures] or None
    times_s = [float(i) if one.time_s is None else one.time_s for i, one in enumerate(pictures)] or None
    return Ask("\n".join(texts), choices=choices, frames=frames, times_s=times_s)


def check_target(contract: StudentContract, section: CascadeSection) -> None:
    """Raises ConfigError where a contract can say of no mode whether an answer may stay."""
    modes: tuple[AskMode, ...] = ("decide", *contract.modes)
    if section.target is None or section.threshold is not None or any(row_of(contract, section, one) for one in modes):
        return
    rows = contract.calibration.thresholds if contract.calibration else ()
    there = sorted({f"{row.target:g} ({row.loss}, confidence {row.confidence:g})" for row in rows})
    have = f"it was calibrated for the targets {', '.join(there)}" if there else "it was not calibrated"
    raise ConfigError(
        f"no threshold of {contract.name} belongs to target: {section.target:g} ({section.loss}, confidence "
        f"{section.confidence:g}); {have}; run aot calibrate with this target and export "
        "again, or set threshold by hand"
    )
