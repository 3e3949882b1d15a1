"""The video student of build_tiny_students.py: an Idefics3 of about 2.5 million parameters that knows single skills.

It learns to name the steps that frames show, to know recipes as text (recite, continue, answer about steps told in
words), and to repeat the sentences that rationales are made of; and then, as text alone, to read recipe cards and to
write tool calls (tiny_cards.py). It never sees a next-step question about a clip: combining the skills is what
distillation has to teach.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from tiny_cards import CARD_RATE, CARD_ROWS, MIX_RATE, MIX_ROWS, card_lesson, with_cards
from tiny_text import padded
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, IterableDataset
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    PreTrainedTokenizerFast,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from aot.rationales.notation import PARTS, format_span, format_time
from aot.rationales.wording import PHRASES, template_words
from video_data.datasets.rows import SegmentRow
from video_data.decode.sampling import uniform_times
from video_data.kitchen.pictures import ClipStyle, draw_step_frame, draw_style
from video_data.kitchen.stories import random_segments
from video_data.kitchen.world import ACTIONS, INGREDIENTS, RECIPES, STEP_LABELS, Recipe

CARD_STEPS, MIX_STEPS = 900, 1200
"""Further steps of the video student: cards and calls alone, then everything together."""
SIDE_PX, PATCH_PX, TOKENS_PER_FRAME = 64, 8, 4
NUM_FRAMES = 8
TEXT_WIDTH = 192
VIDEO_ROWS, TEXT_ROWS = 20, 12
MAX_SECONDS = 25
NAME_STEPS, NAME_FRAMES, LIST_STEPS = "Name the steps.", "Name each frame.", "Name the steps. Answer directly."
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ 'User: ' if message['role'] == 'user' else 'Assistant: ' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endif %}"
    "<end_of_utterance>{% endfor %}{% if add_generation_prompt %}Assistant: {% endif %}"
)
PROMPT_WORDS = """User Assistant Continue
Name each frame the steps Recite Which recipe has What is are done may come next In
Repeat step comes right before after How often does happen When Is there any in clip Choices Answer directly Reason then
answer Done fits yes no"""

CARD = """# tiny-video

An Idefics3 of {parameters:,} parameters, made by `scripts/build_tiny_students.py` (seed {seed}, {steps} steps) from
synthetic frames and texts of the same script; Apache-2.0. It can name the steps that frames of the synthetic kitchen
show, recite and continue the kitchen's 16 recipes as text, say what comes after steps that are told in words, repeat
the sentences that rationales are made of, read recipe cards that it is shown as text, and write tool calls for steps
that it is told. It was never asked what comes next in a clip, never saw frames and a card together, was never asked to
call anything about a clip, and knows nothing of the real world. It is there so that the whole system can be tried on a
laptop; it is not a model to use.

Token accuracy on its last batch: {seen:.3f} naming steps, {read:.3f} on text. Neither can reach 1: the moment between
two frames at which a step ends cannot be seen, and which step of a partial order comes first is a free choice.
"""


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer: one token for each word, number, mark, citation `[n]` and time of up to 25 s."""
    words = {*PROMPT_WORDS.split(), *template_words(), *PARTS, *ACTIONS, *INGREDIENTS, *RECIPES}
    marks = [*".,:;?-", *(str(n) for n in range(100)), *(f"[{n}]" for n in range(1, 13))]
    times = [format_time(tenth / 10) for tenth in range(MAX_SECONDS * 10 + 1)]
    special = ["<pad>", "<unk>", "<bos>", "<end_of_utterance>", "<fake_token_around_image>", "<image>", "<global-img>"]
    vocab = {token: i for i, token in enumerate([*special, *sorted(words), *marks, *times])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace("t=", "")
    pattern = Regex(r"\d+\.\d+s|\[\d+\]|\w+|[^\w\s]")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(pattern, "isolated")]
    )
    marks_left = [decoders.Replace(f" {mark}", mark) for mark in ":-;"]
    tokenizer.decoder = decoders.Sequence([decoders.WordPiece(prefix="##", cleanup=True), *marks_left])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<bos>",
        eos_token="<end_of_utterance>",
        additional_special_tokens=special[4:],
        model_max_length=2048,
        padding_side="left",
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def build_processor() -> Idefics3Processor:
    """The processor of the video student; needs no torchvision."""
    side = {"longest_edge": SIDE_PX}
    images = Idefics3ImageProcessorPil(size=side, max_image_size=side, do_image_splitting=False)
    return Idefics3Processor(images, build_tokenizer(), image_seq_len=TOKENS_PER_FRAME, chat_template=CHAT_TEMPLATE)


def build_model(processor: Idefics3Processor) -> Idefics3ForConditionalGeneration:
    """The untrained video student."""
    tokenizer = processor.tokenizer
    ids = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    text = {
        "model_type": "llama",
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 6,
        "num_key_value_heads": 6,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
        **ids,
    }
    vision = {
        "hidden_size": 96,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": SIDE_PX,
        "patch_size": PATCH_PX,
    }
    config = Idefics3Config(
        text_config=text,
        vision_config=vision,
        scale_factor=4,
        image_token_id=processor.image_token_id,
        tie_word_embeddings=True,
        **ids,
    )
    return Idefics3ForConditionalGeneration(config)


def to_pixels(frame_rgb: np.ndarray) -> np.ndarray:
    """One frame as the processor would make it: float32 3,64,64 in -1..1."""
    image = Image.fromarray(frame_rgb).resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    return (np.asarray(image, np.float32) / 127.5 - 1.0).transpose(2, 0, 1)


def draw(label: str, phase: float, style: ClipStyle, rng: np.random.Generator) -> np.ndarray:
    """A frame with the losses of compression, as a decoded one has them: uint8 H,W,3 RGB."""
    frame = draw_step_frame(label, phase=phase, style=style, rng=rng)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(60, 96))]
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", frame, quality)[1], cv2.IMREAD_COLOR))


@dataclass(frozen=True)
class VideoLesson:
    """Frames of random steps, and what to say about them."""

    prompt: str
    target: str
    pixels_TCHW: np.ndarray
    """float32 8,3,64,64 in -1..1."""


def video_lesson(rng: np.random.Generator) -> VideoLesson:
    """Naming each frame is asked often: it ties every time to what was seen at that time."""
    segments = random_segments(rng, _labels(rng, int(rng.integers(4, 8))))
    until_s = segments[int(rng.integers(0, len(segments)))].end_s if rng.random() < 0.6 else segments[-1].end_s
    style, prompt, pixels, names = draw_style(rng), [], [], []
    seen: list[SegmentRow] = []
    for time_s in uniform_times(0.0, until_s, NUM_FRAMES):
        time_s = round(min(max(time_s + rng.uniform(-0.2, 0.2), 0.0), until_s - 0.01), 3)
        segment = next(s for s in segments if s.start_s <= time_s < s.end_s)
        frame = draw(segment.label, (time_s - segment.start_s) / 0.9, style, rng)
        prompt.append(f"t={format_time(time_s)} <image>")
        pixels.append(to_pixels(frame))
        names.append(f"{format_time(time_s)} {segment.label}.")
        if not seen or seen[-1].label != segment.label:
            seen.append(segment)
    asked, told = _naming(rng, names, seen, until_s)
    return VideoLesson(f"{' '.join(prompt)} {asked}", told, np.stack(pixels))


def _naming(rng: np.random.Generator, names: list[str], seen: list[SegmentRow], until_s: float) -> tuple[str, str]:
    """One way to ask for names of what is seen, and the reply; none needs a recipe."""
    draw = rng.random()
    if draw < 0.4:
        return NAME_FRAMES, " ".join(names)
    if draw < 0.5:
        return LIST_STEPS, ", ".join(segment.label for segment in seen) + "."
    if draw < 0.6:
        last = seen[-1].label
        options = _choices(rng, last, not_among={segment.label for segment in seen}) if rng.random() < 0.5 else ""
        return f"What is the step before {format_time(until_s)}?{options} Answer directly.", last
    phrase = PHRASES["gather.span"][int(rng.integers(2))]
    sentences = [phrase.format(span=_span(s.start_s, min(s.end_s, until_s)), label=s.label, cite="[1]") for s in seen]
    return NAME_STEPS, f"Gather: {' '.join(sentences)}"


def _labels(rng: np.random.Generator, count: int) -> list[str]:
    """Half the time random steps, half the time the beginning of a recipe cooked in a random order."""
    if rng.random() < 0.5:
        return [str(label) for label in rng.choice(STEP_LABELS, size=count, replace=False)]
    recipe, order = _cook(rng)
    return [recipe.steps[i] for i in order[:count]]


def _cook(rng: np.random.Generator) -> tuple[Recipe, list[int]]:
    recipe = RECIPES[str(rng.choice(list(RECIPES)))]
    order: list[int] = []
    while len(order) < len(recipe.steps):
        order.append(int(rng.choice(recipe.available(set(order)))))
    return recipe, order


def _span(start_s: float, end_s: float) -> str:
    return format_span(start_s, end_s)


def text_example(rng: np.random.Generator) -> tuple[str, str]:
    """Recipe knowledge, the same asked with choices, or a sentence to repeat: (prompt, target)."""
    recipe, order = _cook(rng)
    steps = [recipe.steps[i] for i in order]
    seen = int(rng.integers(1, len(steps)))
    draw = rng.random()
    if draw < 0.15:
        return f"Recite {recipe.name}.", ", ".join(steps) + "."
    told = ", ".join(_with_stranger(rng, steps[:seen]))
    possible = sorted(recipe.may_follow(set(steps[:seen])))
    following = str(rng.choice(possible))
    if draw < 0.3:
        return f"Done: {told}. Which recipe fits?", f"{_fitting(rng, set(steps[:seen]), recipe)}."
    if draw < 0.45:
        return f"In {recipe.name} are done {told}. What may come next?", f"{following}."
    if draw < 0.6:
        return f"Continue: {told}.", f"{following}."
    if draw < 0.8:
        options = _choices(rng, following, not_among=set(possible)) if rng.random() < 0.6 else ""
        return f"Done: {told}. What may come next?{options} Answer directly.", following
    sentence = echo_sentence(rng)
    return f"Repeat: {sentence}", sentence


def _choices(rng: np.random.Generator, right: str, *, not_among: set[str]) -> str:
    wrong = rng.choice([label for label in STEP_LABELS if label not in not_among], size=3, replace=False)
    options = [right, *(str(label) for label in wrong)]
    rng.shuffle(options)
    return f" Choices: {'; '.join(options)}."


def _with_stranger(rng: np.random.Generator, steps: list[str]) -> list[str]:
    """The steps, in one list of four with a step from elsewhere among them."""
    if rng.random() > 0.25:
        return steps
    position = int(rng.integers(0, len(steps) + 1))
    return [*steps[:position], str(rng.choice(STEP_LABELS)), *steps[position:]]


def _fitting(rng: np.random.Generator, done: set[str], own: Recipe) -> str:
    names = [recipe.name for recipe in RECIPES.values() if done <= set(recipe.steps)]
    return str(rng.choice(names)) if names else own.name


def echo_sentence(rng: np.random.Generator) -> str:
    """A sentence of a rationale, or a question, with random fillings."""
    names = list(PHRASES)
    start = rng.uniform(0, 18)
    slots = {
        "label": str(rng.choice(STEP_LABELS)),
        "last": str(rng.choice(STEP_LABELS)),
        "task": str(rng.choice(list(RECIPES))),
        "event": str(rng.choice([*STEP_LABELS, *INGREDIENTS])),
        "cite": f"[{rng.integers(1, 4)}]",
        "span": _span(start, start + rng.uniform(0.5, 4)),
        "window": _span(0.0, start + 2),
        "end": format_time(start),
        "moment": format_time(start),
    }
    answers = [str(rng.choice(STEP_LABELS)), str(rng.integers(0, 5)), slots["span"], "yes", "no"]
    slots["answer"] = str(rng.choice(answers))
    name = str(rng.choice(names))
    sentence = PHRASES[name][int(rng.integers(len(PHRASES[name])))].format(**slots)
    part = name.partition(".")[0].capitalize()
    tail = f" Answer: {slots['answer']}" if rng.random() < 0.3 else ""
    return f"{part}: {sentence}{tail}"


TextLesson = Callable[[np.random.Generator], tuple[str, str]]


class Lessons(IterableDataset):
    """Endless batches, each a pure function of (seed, batch number)."""

    def __init__(
        self, processor: Idefics3Processor, *, seed: int, steps: int, rows: tuple[int, int], text: TextLesson
    ) -> None:
        """Batches 0..steps-1 of so many clips and so many texts."""
        self.processor, self.seed, self.steps, self.rows, self.text = processor, seed, steps, rows, text

    def __iter__(self) -> Iterator[tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]]:
        """A video batch and a text batch for each step; the first is empty where there are no clips."""
        num_clips, num_texts = self.rows
        for step in range(self.steps):
            rng = np.random.default_rng([self.seed, 2, step])
            clips = [video_lesson(rng) for _ in range(num_clips)]
            yield self._shown(clips) if clips else {}, self._encode([self.text(rng) for _ in range(num_texts)])

    def _shown(self, clips: list[VideoLesson]) -> dict[str, torch.Tensor]:
        pixels_NTCHW = torch.from_numpy(np.stack([clip.pixels_TCHW for clip in clips]))
        return self._encode([(clip.prompt, clip.target) for clip in clips]) | {"pixel_values": pixels_NTCHW}

    def _encode(self, pairs: list[tuple[str, str]]) -> dict[str, torch.Tensor]:
        tokenizer = self.processor.tokenizer
        frame = "<fake_token_around_image><global-img>" + "<image>" * TOKENS_PER_FRAME + "<fake_token_around_image>"
        rows = []
        for prompt, target in pairs:
            asked = tokenizer(f"User: {prompt.replace('<image>', frame)} <end_of_utterance>Assistant: ")["input_ids"]
            rows.append((asked, [*tokenizer(target)["input_ids"], tokenizer.eos_token_id]))
        ids, labels = padded(rows, pad_id=tokenizer.pad_token_id)
        return {"input_ids": ids, "attention_mask": (ids != tokenizer.pad_token_id).long(), "labels": labels}


class Glances(IterableDataset):
    """Endless batches of single frames with their action and ingredient, each a pure function of (seed, number)."""

    def __init__(self, *, seed: int, steps: int, frames: int) -> None:
        """Batches 0..steps-1 of `frames` frames."""
        self.seed, self.steps, self.frames = seed, steps, frames

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Pixels as float32 N,3,64,64, then indices of actions and of ingredients."""
        actions, ingredients = list(ACTIONS), list(INGREDIENTS)
        for step in range(self.steps):
            rng = np.random.default_rng([self.seed, 1, step])
            labels = [str(label) for label in rng.choice(STEP_LABELS, size=self.frames)]
            pixels = [to_pixels(draw(label, rng.uniform(0, 3), draw_style(rng), rng)) for label in labels]
            pairs = [label.split() for label in labels]
            yield (
                torch.from_numpy(np.stack(pixels)),
                torch.tensor([actions.index(action) for action, _ in pairs]),
                torch.tensor([ingredients.index(ingredient) for _, ingredient in pairs]),
            )


def teach_eyes(model: Idefics3ForConditionalGeneration, *, steps: int, seed: int) -> float:
    """Let the vision tower and connector name single frames through throw-away heads; returns the last accuracy."""
    heads = torch.nn.ModuleList(
        [torch.nn.Linear(TEXT_WIDTH, len(ACTIONS)), torch.nn.Linear(TEXT_WIDTH, len(INGREDIENTS))]
    )
    vision, connector = model.model.vision_model, model.model.connector
    weights = [*vision.parameters(), *connector.parameters(), *heads.parameters()]
    loader = DataLoader(Glances(seed=seed, steps=steps, frames=64), batch_size=None, num_workers=1, prefetch_factor=4)
    optimizer, schedule = _optimizer(weights, steps=steps)
    right = 0.0
    for step, (pixels, *wanted) in enumerate(loader):
        seen = connector(vision(pixel_values=pixels).last_hidden_state).mean(dim=1)
        logits = [head(seen) for head in heads]
        losses = [torch.nn.functional.cross_entropy(one, index) for one, index in zip(logits, wanted, strict=True)]
        loss = torch.stack(losses).sum()
        _step(loss, weights, optimizer, schedule)
        hits = [one.argmax(-1) == index for one, index in zip(logits, wanted, strict=True)]
        right = (hits[0] & hits[1]).float().mean().item()
        if step % 50 == 0 or step == steps - 1:
            print(f"eyes {step}/{steps} loss {loss.item():.3f} right {right:.3f}", flush=True)
    return right


def teach_words(
    model: Idefics3ForConditionalGeneration, lessons: Lessons, *, learning_rate: float = 1e-3, by_reply: bool = False
) -> tuple[float, float]:
    """Teach a model the skills of all lessons; returns the last token accuracies on clips and on text.

    Args:
        model: what learns.
        lessons: how long, and what from.
        learning_rate: at its highest.
        by_reply: a text counts by the root of its tokens, or else long calls would drown answers of one step.
    """
    steps = lessons.steps
    loader = DataLoader(lessons, batch_size=None, num_workers=1, prefetch_factor=4)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer, schedule = _optimizer(weights, steps=steps, learning_rate=learning_rate)
    seen_right = read_right = 0.0
    for step, (video, text) in enumerate(loader):
        read_loss, read_right = _language_loss(model, text, by_reply=by_reply)
        seen_loss, seen_right = _language_loss(model, video) if video else (torch.zeros(()), 0.0)
        _step(seen_loss + (1.0 if by_reply else 0.7) * read_loss, weights, optimizer, schedule)
        if step % 50 == 0 or step == steps - 1:
            print(f"words {step}/{steps} loss/accuracy on clips {seen_loss.item():.3f}/{seen_right:.3f} on text "
                  f"{read_loss.item():.3f}/{read_right:.3f}", flush=True)  # fmt: skip
    return seen_right, read_right


def _language_loss(
    model: Idefics3ForConditionalGeneration, batch: dict[str, torch.Tensor], *, by_reply: bool = False
) -> tuple[torch.Tensor, float]:
    """Mean cross-entropy over the supervised tokens of a batch, and the share of them that is likeliest.

    With `by_reply` the mean over rows of the sum over a row, divided by the root of its number of tokens.
    """
    labels = batch.pop("labels")[:, 1:]
    hidden = model.model(**batch).last_hidden_state[:, :-1]
    is_learned = labels != -100
    logits, wanted = model.lm_head(hidden[is_learned]), labels[is_learned]
    right = (logits.argmax(-1) == wanted).float().mean().item()
    if not by_reply:
        return torch.nn.functional.cross_entropy(logits, wanted), right
    row_weights = is_learned.sum(1, keepdim=True).float().rsqrt().expand_as(labels)[is_learned] / len(labels)
    return (torch.nn.functional.cross_entropy(logits, wanted, reduction="none") * row_weights).sum(), right


def _optimizer(
    weights: list[torch.nn.Parameter], *, steps: int, learning_rate: float = 1e-3
) -> tuple[torch.optim.Optimizer, LambdaLR]:
    """AdamW with 50 steps of warm-up and linear decay."""
    optimizer = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=0.01)
    return optimizer, LambdaLR(optimizer, lambda step: min((step + 1) / 50, max(0.02, 1 - step / steps)))


def _step(
    loss: torch.Tensor, weights: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer, schedule: LambdaLR
) -> None:
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(weights, 1.0)
    optimizer.step()
    schedule.step()


def write_card(out: Path, text: str, *, parameters: int, steps: int, seed: int, right: tuple[float, float]) -> None:
    """What the embedded student is and is not."""
    card = text.format(parameters=parameters, steps=steps, seed=seed, seen=right[0], read=right[1])
    (out / "README.md").write_text(card, encoding="utf-8")


def build_video_student(out: Path, *, steps: int, seed: int, earlier: Path | None = None) -> None:
    """Build, teach and save the video student with its card; with `earlier`, from one that knows no cards yet."""
    if earlier:
        model = Idefics3ForConditionalGeneration.from_pretrained(earlier, dtype=torch.float32)
        processor = Idefics3Processor.from_pretrained(earlier)
    else:
        processor = build_processor()
        model = build_model(processor)
        model.train()
        teach_eyes(model, steps=steps // 4, seed=seed)
        lessons = Lessons(processor, seed=seed, steps=steps, rows=(VIDEO_ROWS, TEXT_ROWS), text=text_example)
        teach_words(model, lessons)
    with_cards(model, processor.tokenizer)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters:,} parameters, {len(processor.tokenizer)} tokens")
    model.train()
    text = partial(card_lesson, text_example)
    cards = Lessons(processor, seed=seed + 1, steps=CARD_STEPS, rows=(0, CARD_ROWS), text=text)
    teach_words(model, cards, learning_rate=CARD_RATE, by_reply=True)
    mixed = Lessons(processor, seed=seed + 2, steps=MIX_STEPS, rows=MIX_ROWS, text=text)
    right = teach_words(model, mixed, learning_rate=MIX_RATE, by_reply=True)
    _save(out, model, processor)
    write_card(out, CARD, parameters=parameters, steps=steps + CARD_STEPS + MIX_STEPS, seed=seed, right=right)


def _save(out: Path, model: Idefics3ForConditionalGeneration, processor: Idefics3Processor) -> None:
    out.mkdir(parents=True, exist_ok=True)
    model.bfloat16().save_pretrained(out)
    processor.save_pretrained(out)
