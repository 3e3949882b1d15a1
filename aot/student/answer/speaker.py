"""Models that hold a conversation: what of a folder has to be known before one is asked as a chat model.

Only safetensors are read and no code from a model folder is ever run. Whatever is wrong with a folder is told in one
sentence before the first question.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from aot.errors import CheckpointError
from aot.student.model.base import resolve_base, takes_images, told_end_ids
from aot.student.model.caches import Habits, refusal, try_habits
from aot.student.model.loading import TRIAL_TEXT, Student, load_model, load_processor, pad_id_of
from aot.student.rows.templates import check_template, first_token, render_chat, special_tokens

_PROBE, _REPLY = "What is the next step?", "Stir the soup."


@dataclass(frozen=True)
class Speaker:
    """A model with a chat template; a `Writer`."""

    name: str
    """As replies name it."""
    model: Any
    processor: Any
    """Of a text model its tokenizer."""
    device: torch.device
    end_ids: tuple[int, ...]
    image_in_text: str = ""
    """How an image is written inside a text, where the template would put all images first."""

    @property
    def tokenizer(self) -> Any:  # noqa: ANN401
        """Of a model with images that of its processor."""
        return getattr(self.processor, "tokenizer", self.processor)

    @property
    def sees(self) -> bool:
        """Whether it takes images."""
        return self.tokenizer is not self.processor

    @property
    def pad_id(self) -> int:
        """Token id that fills up batches."""
        return pad_id_of(self.model, self.tokenizer, self.end_ids)

    @cached_property
    def template(self) -> str:
        """The text of its chat templates."""
        held = getattr(self.processor, "chat_template", None)
        return "\n".join(map(str, held.values())) if isinstance(held, dict) else str(held or "")

    @cached_property
    def special(self) -> tuple[str, ...]:
        """The tokens that no text of a message may spell out."""
        return special_tokens(self.tokenizer)

    @cached_property
    def image_token_id(self) -> int:
        """The token that stands for pieces of images in a prompt; -1 where there is none."""
        settings = self.model.config
        held = getattr(settings, "image_token_id", getattr(settings, "image_token_index", None))
        return -1 if held is None else int(held)

    @cached_property
    def habits(self) -> Habits:
        """What the model bears when it is asked for text; tried at the first question.

        Raises:
            CheckpointError: it cannot write token by token.
        """
        ids = self.tokenizer(TRIAL_TEXT, add_special_tokens=False)["input_ids"]
        return try_habits(self.model, ids, device=self.device)


def speaker_of(student: Student, *, name: str) -> Speaker:
    """A student as one who holds a conversation."""
    image = student.renderer.image_token if student.renderer.times_in_text else ""
    return Speaker(name, student.model, student.processor, student.device, student.end_ids, image)


def load_speaker(name: str, *, device: torch.device, step: Callable[[str], None] = lambda name: None) -> Speaker:
    """The model in a folder, of a hub name, or one of the embedded students; on device `meta` without its weights.

    Args:
        name: as chat.model gives it.
        device: where it is put.
        step: hears what is looked at next.

    Raises:
        CheckpointError: it cannot be asked as a chat model.
    """
    step("files")
    folder = resolve_base(name, key="chat.model", quantised=True)
    with_images = takes_images(folder)
    processor = load_processor(folder, with_images=with_images)
    model = load_model(
        folder,
        dtype="auto" if device.type == "cuda" else torch.float32,
        with_images=with_images,
        device_map="meta" if device.type == "meta" else None,
    )
    if why := refusal(model):
        raise CheckpointError(f"{name} cannot be a chat model: {why}; use another one")
    step("chat template")
    _check_template(processor, folder)
    ends = _end_ids(processor, folder)
    return Speaker(name, model.to(device).eval().requires_grad_(False), processor, device, ends)


def _check_template(processor: Any, folder: str) -> None:  # noqa: ANN401
    """Render the chat template once."""
    check_template(processor)
    if not getattr(processor, "chat_template", None):
        raise CheckpointError(f"{folder} has no chat template; take a model that was trained to chat")
    try:
        text = render_chat(processor, _message("user", _PROBE, processor), prompt=True)
    except CheckpointError as error:
        if "without a system message" not in str(error):
            raise
        messages = [*_message("system", "Be brief.", processor), *_message("user", _PROBE, processor)]
        text = render_chat(processor, messages, prompt=True)  # a chat teacher sends one
    if _PROBE not in text:
        raise CheckpointError(f"the chat template of {folder} leaves the question out; mend it")


def _end_ids(processor: Any, folder: str) -> tuple[int, ...]:  # noqa: ANN401
    """Where replies end: by the model's settings, by the tokenizer, and by what ends a turn in the template."""
    tokenizer = getattr(processor, "tokenizer", processor)
    turn = [*_message("user", _PROBE, processor), *_message("assistant", _REPLY, processor)]
    try:
        tail = render_chat(processor, turn, prompt=False).rpartition(_REPLY)[2]
    except CheckpointError as error:
        if "takes longer" in str(error):
            raise
        tail = ""  # a template may want more messages than these
    token = first_token(tail, special_tokens(tokenizer))
    last = tokenizer.convert_tokens_to_ids(token) if token else None
    named = [*told_end_ids(folder), tokenizer.eos_token_id, last]
    ends = tuple(dict.fromkeys(int(one) for one in named if one is not None))
    if not ends:
        raise CheckpointError(f"{folder} has no end token, so no reply could end; take a chat model")
    return ends


def _message(role: str, text: str, processor: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    return [{"role": role, "content": [{"type": "text", "text": text}] if hasattr(processor, "tokenizer") else text}]
