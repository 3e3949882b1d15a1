"""Loads a student: an image-text model with its processor or a text model with its tokenizer, and what an arm learned.

Only safetensors are read and no code from a model folder is ever run. A trained arm is refused when a file was altered,
when its tensors are not exactly those the model expects, or when prompts would look different from those it learned.
"""

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer
from transformers.utils import logging as hf_logging

from aot.config import LoraSection, StudentConfig
from aot.errors import EXTRA_OF_PACKAGE, CheckpointError, SourceError, install_command
from aot.records import Lesson, Question
from aot.student.model.base import base_digest, resolve_base, takes_images, told_end_ids
from aot.student.model.caches import Habits, refusal, try_habits
from aot.student.model.contract import WEIGHTS, Tuning, check_contract, read_contract, tuning_of
from aot.student.model.folders import CONFIG, damage
from aot.student.model.lora import add_lora, attach, matched_layers, trained_state
from aot.student.rows.frames import FramePixels, FrameSource
from aot.student.rows.packing import EncodedRow
from aot.student.rows.prompts import MODES, PROBE, PROBE_SIZE_HW
from aot.student.rows.replies import check_prompts, check_round_trip, encode_lesson
from aot.student.rows.templates import TEMPLATE_DATE
from aot.student.rows.tokens import Renderer

log = logging.getLogger(__name__)
_PACKAGES = ("torchvision", "num2words", "sentencepiece", "tiktoken", "torchao")
"""What model folders may need, and nothing of ours does."""
TRIAL_TEXT = "12 + 7 = 19\n19 - 4 = 15\nAnswer: 15"


@dataclass(frozen=True)
class Student:
    """A model ready for prediction or training, with the renderer that makes its prompts."""

    model: Any
    processor: Any
    """Of a text model its tokenizer."""
    renderer: Renderer
    config: StudentConfig
    device: torch.device
    base_digest: str

    @property
    def model_type(self) -> str:
        """The transformers model type, such as idefics3."""
        return str(self.model.config.model_type)

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Tokens at which a reply ends."""
        return self.renderer.end_ids

    @property
    def pad_id(self) -> int:
        """Token id that fills up batches."""
        return pad_id_of(self.model, self.renderer.tokenizer, self.end_ids)

    @property
    def context(self) -> int:
        """How many positions the model knows, beyond which some models fail and others write nonsense."""
        return context_of(self.model)

    @property
    def most_tokens(self) -> int:
        """Tokens that a row may have."""
        return min(self.config.max_tokens, self.context)

    def pixels(self, frames: Path | FrameSource | None, *, max_bytes: int) -> FramePixels:
        """Frames as the model's processor makes them.

        Args:
            frames: the folder of a frame store, or a source of them; None where single frames are given only.
            max_bytes: of processed frames that are kept.
        """
        if isinstance(frames, Path):
            from video_data.store.shards import FrameStore  # here, because text needs none of the video packages

            frames = FrameStore(frames)
        return FramePixels(frames, self.processor, model_type=self.model_type, max_bytes=max_bytes)

    @cached_property
    def habits(self) -> Habits:
        """What the model bears when it is asked for text; tried at the first question.

        Raises:
            CheckpointError: it cannot write token by token.
        """
        return try_habits(self.model, self.renderer.completion_ids(TRIAL_TEXT), device=self.device)


def pad_id_of(model: Any, tokenizer: Any, end_ids: Sequence[int]) -> int:  # noqa: ANN401
    """Token id that fills up batches; an end token where there is none of its own."""
    pad_id, size = tokenizer.pad_token_id, getattr(model.config.get_text_config(), "vocab_size", None)
    if pad_id is None or (size and pad_id >= size):  # some tokenizers got one that their model never had
        return end_ids[-1]
    return int(pad_id)


def load_student(
    base: str,
    *,
    adapter: Path | None = None,
    config: StudentConfig,
    date: str = "",
    merge: bool | None = None,
    quantised: bool = False,
) -> Student:
    """The student `base`, and if `adapter` is given with what the arm in that folder learned.

    Args:
        base: `tiny-video`, `tiny-text`, `tiny-names`, the folder of a transformers image-text or causal language model,
            or a name on the model hub.
        adapter: folder of a trained arm; adapters are merged in, weights of full fine-tuning replace those of the base.
        config: dtype, device and the tags around rationales.
        date: the day that the chat template is told; empty takes that of the adapter, or the fixed one.
        merge: whether adapters are merged into the weights; None merges them in float32 and nowhere else.
        quantised: whether the base may hold quantised weights, which can be asked and not trained.

    Raises:
        CheckpointError: a file is missing, altered or does not fit; the message names it.
    """
    contract = read_contract(adapter) if adapter else None
    folder = resolve_base(base, quantised=quantised)
    config = config.model_copy(update={"dtype": str(pick_dtype(config)).removeprefix("torch.")})
    device = pick_device(config)
    with_images = takes_images(folder)
    processor = load_processor(folder, with_images=with_images)
    view = contract.frame_view if contract else config.frame_view
    show_frames(processor, view)
    date = date or (contract.template_date if contract else "") or TEMPLATE_DATE
    renderer = Renderer(processor, think_tags=config.think_tags, eos_ids=told_end_ids(folder), date=date)
    renderer.offered = contract.tools if contract else ()
    digest = base_digest(folder)
    tuning = tuning_of(adapter) if adapter else None
    weights = str(adapter) if tuning == "full" else folder
    attention = "eager" if config.attention == "eager" else None  # flash kernels train only
    model = load_model(weights, dtype=pick_dtype(config), with_images=with_images, attention=attention)
    show_frames(model, view)
    if contract and adapter:
        check_contract(contract, base_digest=digest, renderer=renderer, adapter=adapter)
    if adapter and tuning == "lora":
        model = _with_adapter(model, adapter, merge=config.dtype == "float32" if merge is None else merge)
    model.to(device)
    model.eval()
    model.requires_grad_(False)
    return Student(model, processor, renderer, config, device, digest)


def context_of(model: Any) -> int:  # noqa: ANN401
    """How many positions a model knows; very many where it sets no limit."""
    config = model.config.get_text_config()
    limits = [getattr(config, name, None) for name in ("max_position_embeddings", "max_seq_len")]
    return next((int(one) for one in limits if isinstance(one, int) and one > 0), sys.maxsize)


def pick_device(config: StudentConfig) -> torch.device:
    """The device asked for; `auto` takes the GPU of this process if there is one.

    Raises:
        CheckpointError: cuda was asked for and is not there.
    """
    if config.device == "cpu" or (config.device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise CheckpointError("student.device is cuda, but torch sees no GPU; use student.device=auto")
    return torch.device("cuda", torch.cuda.current_device())


def pick_dtype(config: StudentConfig) -> torch.dtype:
    """The type of the base's weights; `auto` takes bfloat16 on a GPU that calculates in it, and float32 elsewhere.

    Raises:
        CheckpointError: cuda was asked for and is not there.
    """
    if config.dtype != "auto":
        return torch.bfloat16 if config.dtype == "bfloat16" else torch.float32
    on_gpu = pick_device(config).type == "cuda"
    return torch.bfloat16 if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32


def _with_adapter(model: Any, adapter: Path, *, merge: bool) -> Any:  # noqa: ANN401
    from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict

    adapted = attach(model, LoraConfig.from_pretrained(str(adapter)))
    state = load_file(adapter / WEIGHTS["lora"])
    wrong = sorted(state.keys() ^ get_peft_model_state_dict(adapted).keys())
    if wrong:
        raise CheckpointError(f"{adapter}: {len(wrong)} adapter tensors are missing or unexpected, first {wrong[0]}")
    set_peft_model_state_dict(adapted, state)
    return adapted.merge_and_unload() if merge else adapted


def stored_state(folder: Path, *, tuning: Tuning, whole: bool = True) -> dict[str, torch.Tensor]:
    """Tensors of an arm or checkpoint as its readers get them, under the names that they have in memory.

    A whole model is opened, because transformers gives many weights other names in files than in memory, and joins or
    splits some of them.

    Args:
        folder: where they lie.
        tuning: whether they are adapters or a whole model.
        whole: False reads what is in the file, under the names that it has there.

    Raises:
        CheckpointError: the model cannot be opened; the message says why.
    """
    if tuning == "lora" or not whole:
        return load_file(folder / WEIGHTS[tuning])
    model = load_model(str(folder), dtype=torch.float32, with_images=takes_images(str(folder)))
    return dict(model.state_dict())


def take_up(model: Any, adapter: Path, *, tuning: Tuning) -> None:  # noqa: ANN401 - a PeftModel, or the model itself
    """Let a model that is about to be trained begin with what the arm in the folder `adapter` learned.

    Raises:
        CheckpointError: it does not fit, or a file of it is missing or altered.
    """
    read_contract(adapter)  # which compares the files with their manifest
    state = stored_state(adapter, tuning=tuning)
    there = trained_state(model)
    if state.keys() != there.keys():
        wrong = sorted(state.keys() ^ there.keys())
        raise CheckpointError(f"{adapter}: {len(wrong)} tensors are missing or unexpected, first {wrong[0]}")
    with torch.no_grad():
        for name, part in there.items():
            part.copy_(state[name])


@dataclass(frozen=True)
class Look:
    """What was seen of a base student before any work."""

    model_type: str
    parameters: int
    trainable: int
    """Of one arm with adapters; 0 where no arm has any."""
    adapted_layers: int
    end_tokens: tuple[str, ...]
    template_date: str
    has_template: bool
    context: int
    """Positions that it knows; 0 where it sets no limit."""
    row_tokens: int
    """Of one encoded row, the question and its answer; 0 where none was given."""


def look_over(
    base: str,
    *,
    with_frames: bool,
    config: StudentConfig,
    lora: LoraSection | None = None,
    question: Question | None = None,
    step: Callable[[str], None] = lambda name: None,
) -> Look:
    """What a base is, after everything was looked at that training needs, but the values of its weights.

    Args:
        base: as for `load_student`.
        with_frames: whether prompts would show frames.
        config: of the student.
        lora: adapters that are put on the model, if an arm has any.
        question: one row of it is encoded.
        step: hears what is looked at next.

    Raises:
        CheckpointError: no arm could be trained on it; the message says why.
    """
    step("files")
    folder = resolve_base(base)
    with_images = takes_images(folder)
    if with_frames and not with_images:
        raise CheckpointError(f"{base} takes no images; a video run needs an image-text model")
    with _library_errors(CONFIG, folder):
        AutoConfig.from_pretrained(folder, trust_remote_code=False)
    processor = load_processor(folder, with_images=with_images)
    show_frames(processor, config.frame_view)
    step("chat template")
    renderer = Renderer(processor, think_tags=config.think_tags, eos_ids=told_end_ids(folder))
    if with_images and not renderer.takes_images:
        raise CheckpointError(f"{base} takes images, but its folder holds no processor for them; restore its files")
    _ = renderer.end_ids, renderer.template_hash()
    if with_frames:
        check_prompts(renderer)
        renderer.expansion(PROBE_SIZE_HW)
    else:
        check_round_trip(renderer)
    step("weights")
    model = load_model(folder, dtype=pick_dtype(config), with_images=with_images, device_map="meta")
    if not with_frames and (why := refusal(model)):
        raise CheckpointError(f"{base} cannot be a student of text: {why}; use another base")
    _check_ids(model, renderer, base)
    if lora and lora.target_pattern:
        step("train.lora.target_pattern")
        matched_layers(model, lora.target_pattern)
    step("layers")
    parameters = sum(p.numel() for p in model.parameters())
    adapted = add_lora(model, lora) if lora else None
    return Look(
        model_type=str(model.config.model_type),
        parameters=parameters,
        trainable=adapted.num_trainable if adapted else 0,
        adapted_layers=len(adapted.matched) if adapted else 0,
        end_tokens=tuple(str(renderer.tokenizer.decode([one])) for one in renderer.end_ids),
        template_date=renderer.date,
        has_template=renderer.has_template,
        context=context_of(model) % sys.maxsize,
        row_tokens=_num_tokens(renderer, question, with_frames=with_frames, num_frames=config.num_frames)
        if question
        else 0,
    )


def _num_tokens(renderer: Renderer, question: Question, *, with_frames: bool, num_frames: int) -> int:
    try:
        return _one_row(renderer, question, with_frames=with_frames, num_frames=num_frames).num_tokens
    except SourceError:  # a row that will be refused and counted stops nobody
        return 0


def _one_row(renderer: Renderer, question: Question, *, with_frames: bool, num_frames: int) -> EncodedRow:
    if not with_frames:
        return encode_lesson(
            renderer, question, Lesson(question_id=question.id, mode="direct", label=str(question.answer))
        )
    times_s = tuple(0.5 + i for i in range(num_frames))
    return renderer.encode(question, times_s, "direct", frame_size_hw=PROBE_SIZE_HW, completion=str(question.answer))


def _check_ids(model: Any, renderer: Renderer, base: str) -> None:  # noqa: ANN401
    """Every token that prompts and replies are made of needs a row of the model's embedding."""
    rows = int(model.get_input_embeddings().weight.shape[0])
    ids = [i for mode in MODES for i in renderer.encode(PROBE, (), mode, frame_size_hw=None).prompt_ids]
    most = max([*ids, *renderer.completion_ids("")], default=0)
    if most >= rows:
        token = renderer.tokenizer.convert_ids_to_tokens(most)
        raise CheckpointError(
            f"the tokenizer of {base} makes token {most} ({token!r}), but its model knows {rows} tokens only; take the "
            "tokenizer that belongs to the model"
        )


def show_frames(part: Any, view: Literal["saved", "whole"]) -> None:  # noqa: ANN401
    """Set a processor, or the model that it works for, to show frames in this view; others have nothing to set."""
    if view == "saved":
        return
    images: Any = getattr(part, "image_processor", None)
    settings: Any = getattr(part, "config", None)
    for name in ("do_image_splitting", "do_pan_and_scan", "crop_to_patches"):
        if getattr(images, name, False):
            setattr(images, name, False)
    # LLaVA-NeXT reckons the tiles in its model once more, from the sizes in its config; it has one besides the whole.
    if getattr(images, "image_grid_pinpoints", None):
        size = images.crop_size or images.size
        side = size["height"] if size["height"] else size["shortest_edge"]
        images.image_grid_pinpoints = [[side, side]]
    if getattr(settings, "image_grid_pinpoints", None):
        settings.image_grid_pinpoints = [[settings.vision_config.image_size] * 2]


def load_processor(folder: str, *, with_images: bool = True) -> Any:  # noqa: ANN401
    """The processor of a model, or the tokenizer of one without images.

    Raises:
        CheckpointError: it cannot be loaded; the message says why.
    """
    if not with_images:
        with _library_errors("the tokenizer", folder):
            return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    from transformers import AutoProcessor  # here, because it reaches for image packages, which text needs none of

    with _library_errors("the processor", folder):
        processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False)
    if getattr(processor, "chat_template", None) is None:  # of older folders it stands with the tokenizer only
        processor.chat_template = getattr(getattr(processor, "tokenizer", None), "chat_template", None)
    return processor


def load_model(
    folder: str,
    *,
    dtype: torch.dtype | Literal["auto"],
    with_images: bool = False,
    kind: Any = None,  # noqa: ANN401
    device_map: str | None = None,
    quantisation: Any = None,  # noqa: ANN401
    attention: str | None = None,
) -> Any:  # noqa: ANN401
    """A model with all its weights.

    Args:
        folder: or hub name.
        dtype: of the weights; `auto` as they are stored.
        with_images: whether it is an image-text model or a causal language model.
        kind: another automatic class of transformers to load it by.
        device_map: `meta` leaves the weights out.
        quantisation: a config of transformers by which weights are made smaller; None leaves them as they are stored.
        attention: what calculates it; None takes sdpa where the model type has it.

    Raises:
        CheckpointError: it cannot be loaded; the message says why.
    """
    hf_logging.disable_progress_bar()
    hf_logging.disable_default_handler()  # warnings quote model folders; ours makes them fit to be shown
    hf_logging.enable_propagation()
    kind = kind or (AutoModelForImageTextToText if with_images else AutoModelForCausalLM)
    with _library_errors("the weights", folder):
        AutoConfig.from_pretrained(folder, trust_remote_code=False)
        loaded: Any = kind.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are named, below
            device_map=device_map,
            **({"quantization_config": quantisation} if quantisation else {}),
            **({"attn_implementation": attention} if attention else {}),
        )
    model, info = loaded
    if info["missing_keys"] or info.get("mismatched_keys"):
        names = sorted(str(key) for key in [*info["missing_keys"], *info.get("mismatched_keys", [])])
        what = f"{len(names)} tensors of the model are not there, or of another size, first {names[0]}"
        raise CheckpointError(f"the weights of {folder} do not fit its config.json: {what}")
    return model


@contextmanager
def _library_errors(what: str, folder: str) -> Iterator[None]:
    """Whatever a library throws at the files of strangers, as one sentence.

    Raises:
        CheckpointError: something was thrown.
    """
    try:
        yield
    except ImportError as error:
        words = " ".join(str(error).split())[:300]
        package = next((name for name in _PACKAGES if name in words.lower()), "")
        extra = EXTRA_OF_PACKAGE.get(package)
        hint = f"; {install_command(extra) if extra else f'pip install {package}'}" if package else ""
        hint += ", the torchvision that fits your torch" if package == "torchvision" else ""
        raise CheckpointError(
            f"{what} of {folder} needs {package or 'a package'}, which is not installed ({words}){hint}"
        ) from error
    except Exception as error:
        words = damage(Path(folder)) or " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise CheckpointError(f"{what} of {folder} cannot be loaded: {words}") from error
