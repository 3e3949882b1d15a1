"""A transformers model in this process as a chat model: slow, but it needs no server, key or network.

One request at a time. Only safetensors are read and no code from a model folder is ever run. A reply depends on the
request alone: tokens are drawn by a generator seeded from its seed and sample index. `json_schema` is not enforced.
"""

import io
import re
import threading
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    GenerationConfig,
    LogitsProcessorList,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
from transformers.utils import logging as hf_logging

from aot.chat.drawing import Drawer
from aot.chat.local_messages import has_tool_form, knows_system, read_calls, template_messages
from aot.chat.messages import ChatReply, ChatRequest, ChatUsage, ImagePart, TokenLogprob
from aot.chat.model_folders import GGUF_HINT, check_kind, damage
from aot.chat.templates import (
    check_template,
    first_token,
    render_chat,
    special_tokens,
    template_settings,
    within_limits,
)
from aot.config import EMBEDDED_STUDENTS, ChatConfig
from aot.errors import ChatError, CheckpointError, ConfigError

_PROBE, _REPLY = "What is the next step?", "Stir the soup."


class LocalChat:
    """Replies of the model in `section.model`: a folder, a hub name, or one of the embedded students."""

    def __init__(self, section: ChatConfig) -> None:
        """Load the model; raises ConfigError when it cannot be."""
        self.name, self._section, self._lock = section.model, section, threading.Lock()
        source = _source(section.model)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._processor, self._model = _load(source, self._device)
        self._tokenizer: Any = getattr(self._processor, "tokenizer", self._processor)
        self._sees = self._tokenizer is not self._processor
        self._template = _template(self._processor, source)
        self._ends = _end_ids(self._model, self._processor, source)
        self._special = special_tokens(self._tokenizer)

    def reply(self, request: ChatRequest) -> ChatReply:
        """The reply to one request.

        Raises:
            ChatError: bad_request, too_long, truncated, timeout or empty.
        """
        with_tools = bool(request.tools) and request.tool_choice != "none"
        if with_tools and not has_tool_form(self._template):
            raise ChatError(
                f"the chat template of {self.name} has no tool form that can be read (tools told, calls as JSON in "
                "<tool_call> tags); use a model that has one, or a server",
                reason="bad_request",
            )
        drawer = Drawer(request.sampling, sample_index=request.sample_index, device=self._device)
        with self._lock:  # Tokenizers cannot be used by two threads at once either.
            inputs = self._inputs(request, with_tools=with_tools)
            num_prompt = int(inputs["input_ids"].shape[1])
            cap = self._cap(request, num_prompt)
            try:
                ids = self._written(inputs, drawer, cap=cap)
            except torch.OutOfMemoryError as error:
                raise ChatError(f"{self.name} ran out of memory on a prompt of {num_prompt} tokens; use shorter ones, "
                                "or a smaller model", reason="too_long") from error  # fmt: skip
            except (RuntimeError, ValueError, IndexError) as error:
                told = f"{self.name} failed on this request: {str(error)[:200]}"
                raise ChatError(told, reason="bad_request") from error
            return self._read(ids, drawer, num_prompt=num_prompt, with_tools=with_tools)

    def close(self) -> None:
        """Let go of the model."""
        with self._lock:
            self._model = None

    def _inputs(self, request: ChatRequest, *, with_tools: bool) -> Any:  # noqa: ANN401
        messages = template_messages(
            request.messages, with_system=knows_system(self._template), special=self._special, in_parts=self._sees
        )
        images = [part for one in request.messages for part in one.parts if isinstance(part, ImagePart)]
        if images and not self._sees:
            raise ChatError(f"{self.name} takes no images; name an image-text model", reason="bad_request")
        pictures = iter([_picture(part) for part in images])
        for parts in (one["content"] for one in messages if self._sees):
            for part in parts:
                if part["type"] == "image":
                    part["image"] = next(pictures)
        try:
            # With pictures in hand the processor does all of it; a tokenizer alone knows the same call.
            with within_limits(self._processor):
                inputs = self._processor.apply_chat_template(
                    messages, tools=list(request.tools) if with_tools else None, add_generation_prompt=True,
                    tokenize=True, return_dict=True, return_tensors="pt",
                    **template_settings(_template_owner(self._processor), with_tools=with_tools),
                )  # fmt: skip
        except Exception as error:  # a template can raise anything
            told = f"the chat template of {self.name} cannot take this request: {str(error)[:200]}"
            raise ChatError(told, reason="bad_request") from error
        inputs.pop("token_type_ids", None)
        return inputs.to(self._device)

    def _cap(self, request: ChatRequest, num_prompt: int) -> int:
        """Tokens that the reply may have: since it is drawn by seed, a second try would only write the same again."""
        text_config = self._model.config.get_text_config()
        context = int(getattr(text_config, "max_position_embeddings", None) or self._section.max_prompt_tokens)
        most = min(context - 1, self._section.max_prompt_tokens)
        if num_prompt > most:
            raise ChatError(f"a prompt of {num_prompt} tokens; {self.name} takes {most}", reason="too_long")
        return min(int(request.sampling.max_tokens * self._section.raise_tokens), context - num_prompt)

    def _written(self, inputs: Any, drawer: Drawer, *, cap: int) -> list[int]:  # noqa: ANN401
        """Ids of a finished reply, its end token included."""
        ends = self._ends
        settings = GenerationConfig(
            do_sample=False, num_beams=1, max_new_tokens=cap, max_time=self._section.deadline_s,
            eos_token_id=list(ends),
            pad_token_id=self._tokenizer.pad_token_id if self._tokenizer.pad_token_id is not None else ends[0],
            repetition_penalty=1.0, no_repeat_ngram_size=0,
        )  # fmt: skip
        started_s = time.monotonic()
        with torch.inference_mode():
            output = self._model.generate(
                **inputs, generation_config=settings, logits_processor=LogitsProcessorList([drawer])
            )
        ids: list[int] = output[0, inputs["input_ids"].shape[1] :].tolist()
        if ids and ids[-1] in ends:
            return ids
        if len(ids) < cap and time.monotonic() - started_s >= self._section.deadline_s:
            limit = f"{self._section.deadline_s:.0f} s; raise chat.deadline_s"
            raise ChatError(f"{self.name} wrote {len(ids)} tokens and no end within {limit}", reason="timeout")
        raise ChatError(f"the reply was cut off after {len(ids)} tokens; raise chat.max_tokens", reason="truncated")

    def _read(self, ids: list[int], drawer: Drawer, *, num_prompt: int, with_tools: bool) -> ChatReply:
        """Only tokens that end or fill up are left out: think and tool tags are special tokens of some models."""
        tokenizer = self._tokenizer
        dropped = {*self._ends, tokenizer.pad_token_id, tokenizer.bos_token_id}
        text = tokenizer.decode([one for one in ids if one not in dropped], clean_up_tokenization_spaces=False)
        text, calls = read_calls(text) if with_tools else (text, ())
        if not text.strip() and not calls:
            raise ChatError(f"the reply of {self.name} holds nothing ({len(ids)} tokens)", reason="empty")
        return ChatReply(
            text=text.strip(),
            tool_calls=calls,
            finish_reason="tool_calls" if calls else "stop",
            model=self.name,
            usage=ChatUsage(prompt_tokens=num_prompt, completion_tokens=len(ids)),
            logprobs=tuple(
                TokenLogprob(
                    token=tokenizer.decode([one.token]),
                    logprob=one.logprob,
                    top=tuple((tokenizer.decode([token]), logprob) for token, logprob in one.top),
                )
                for one in drawer.drawn
            ),
        )


def _source(model: str) -> str:
    if model in EMBEDDED_STUDENTS and not Path(model).is_dir():
        return str(resources.files("aot") / "student" / EMBEDDED_STUDENTS[model])
    if Path(model).is_dir() or re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", model):
        return model
    if Path(model).is_file():
        told = GGUF_HINT if model.lower().endswith(".gguf") else "name its folder"
        raise ConfigError(f"chat.model: {model!r} is a file; {told}")
    known = ", ".join(EMBEDDED_STUDENTS)
    raise ConfigError(f"chat.model: there is no folder {model!r}, and it is neither a hub name nor one of {known}")


def look_over_chat(model: str, *, step: Callable[[str], None]) -> None:
    """Look whether a folder can be asked as a chat model: all but the values of its weights.

    Args:
        model: as for `LocalChat`.
        step: hears what is looked at next.

    Raises:
        ConfigError: it cannot.
    """
    step("files")
    source = _source(model)
    processor, loaded = _load(source, torch.device("meta"))
    step("chat template")
    _template(processor, source)
    _end_ids(loaded, processor, source)


def _load(source: str, device: torch.device) -> tuple[Any, Any]:
    """Processor, or tokenizer of a text model, and model."""
    try:
        check_kind(Path(source), quantised=True)
    except CheckpointError as error:
        raise ConfigError(f"chat.model: {error}") from error
    hf_logging.disable_progress_bar()
    hf_logging.disable_default_handler()  # warnings quote model folders; ours makes them fit to be shown
    hf_logging.enable_propagation()
    try:
        model_type = AutoConfig.from_pretrained(source, trust_remote_code=False).model_type
        sees = model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
        processor = (AutoProcessor if sees else AutoTokenizer).from_pretrained(source, trust_remote_code=False)
        loaded: Any = (AutoModelForImageTextToText if sees else AutoModelForCausalLM).from_pretrained(
            source, dtype=torch.float32 if device.type == "cpu" else "auto", use_safetensors=True,
            trust_remote_code=False, output_loading_info=True, device_map=device if device.type == "meta" else None,
        )  # fmt: skip
    except ImportError as error:
        raise ConfigError(f"chat.model: {source} needs a package that is not installed: {error}") from error
    except Exception as error:  # whatever a library throws at the files of strangers
        words = damage(Path(source)) or " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ConfigError(f"chat.model: {source} cannot be loaded: {words}") from error
    model, info = loaded
    missing = sorted(map(str, [*info["missing_keys"], *info.get("mismatched_keys", [])]))
    if missing:
        raise ConfigError(f"chat.model: {source} lacks {len(missing)} tensors of the model, first {missing[0]}")
    return processor, model.to(device).eval().requires_grad_(False)


def _template(processor: Any, source: str) -> str:  # noqa: ANN401
    """The text of the chat template, after it was rendered once."""
    owner = _template_owner(processor)
    try:
        check_template(owner)
        found = getattr(owner, "chat_template", None)
        if isinstance(found, dict):
            found = "\n".join(str(one) for one in found.values())
        if not found:
            raise CheckpointError(f"{source} has no chat template; take a model that was trained to chat")
        try:
            text = render_chat(owner, _said("user", _PROBE, processor), prompt=True)
        except CheckpointError as error:
            if "without a system message" not in str(error):
                raise
            asked = [*_said("system", "Be brief.", processor), *_said("user", _PROBE, processor)]
            text = render_chat(owner, asked, prompt=True)  # a chat teacher sends one
        if _PROBE not in text:
            raise CheckpointError(f"the chat template of {source} leaves the question out; mend it")
    except CheckpointError as error:
        raise ConfigError(f"chat.model: {error}") from error
    return str(found)


def _end_ids(model: Any, processor: Any, source: str) -> tuple[int, ...]:  # noqa: ANN401
    """Where replies end: by the model's settings, by the tokenizer, and by what ends a turn in the template."""
    tokenizer = getattr(processor, "tokenizer", processor)
    told = model.generation_config.eos_token_id
    try:
        ends = [int(one) for one in (told if isinstance(told, list) else [told]) if one is not None]
    except (TypeError, ValueError) as error:
        raise ConfigError(f"chat.model: {source} names end tokens that are no numbers: {error}") from error
    turn = [*_said("user", _PROBE, processor), *_said("assistant", _REPLY, processor)]
    try:
        tail = render_chat(_template_owner(processor), turn, prompt=False).rpartition(_REPLY)[2]
    except CheckpointError as error:
        if "takes longer" in str(error):
            raise ConfigError(f"chat.model: {error}") from error
        tail = ""  # a template may want more messages than these
    token = first_token(tail, special_tokens(tokenizer))
    last = tokenizer.convert_tokens_to_ids(token) if token else None
    found = tuple(dict.fromkeys(int(one) for one in [*ends, tokenizer.eos_token_id, last] if one is not None))
    if not found:
        raise ConfigError(f"chat.model: {source} has no end token, so no reply could end; take a chat model")
    return found


def _template_owner(processor: Any) -> Any:  # noqa: ANN401
    return processor if getattr(processor, "chat_template", None) else getattr(processor, "tokenizer", None)


def _said(role: str, text: str, processor: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    return [{"role": role, "content": [{"type": "text", "text": text}] if hasattr(processor, "tokenizer") else text}]


def _picture(part: ImagePart) -> Any:  # noqa: ANN401
    from PIL import Image  # Here, because text models need no image package.

    try:
        return Image.open(io.BytesIO(part.data)).convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ChatError(f"an image of {len(part.data)} bytes cannot be read: {error}", reason="bad_request") from error
