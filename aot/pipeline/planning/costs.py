"""Memory and time of training and answering, from the shape of a model and the lengths of rows.

Every figure is arithmetic on what shapes.py says, with the constants that stand here and are printed with a plan. FLOPs
count a multiplication and an addition as two (arXiv 2001.08361, appendix B): 2 for each weight and token forward, as
much again for gradients of activations, and for gradients of the weights where those are trained.
"""

from dataclasses import dataclass, fields
from math import ceil

from aot.pipeline.planning.frames import FrameCost
from aot.pipeline.planning.shapes import Decoder, ModelShape

GB = 1e9


@dataclass(frozen=True)
class Device:
    """One GPU, or the cores of a machine without any, and how much of it is reached."""

    name: str
    memory_gb: float
    """0 where it is that of the machine."""
    tflops: float
    """Peak of dense matrix products in the type of the weights, from its data sheet; of a CPU what it reached."""
    bandwidth_gbs: float
    train_mfu: float
    """Share of the peak that training is assumed to reach."""
    layer_s: float
    """Seconds that the program takes for a layer, forward and backward, however little there is to compute."""
    decode_layer_s: float
    """The same of a layer of one token written, or of a batch of them."""
    overhead_gb: float
    """Memory of the runtime and its libraries before any model."""
    slack: float
    """Share of memory that is lost between blocks of it."""


DEVICES = {
    device.name: device
    for device in (
        Device("a100-40gb", 40, 312, 1555, 0.35, 4e-3, 6e-4, 1.6, 0.06),
        Device("a100-80gb", 80, 312, 2039, 0.35, 4e-3, 6e-4, 1.6, 0.06),
        Device("h100", 80, 989, 3350, 0.30, 3e-3, 5e-4, 1.7, 0.06),
        Device("h200", 141, 989, 4800, 0.30, 3e-3, 5e-4, 1.7, 0.06),
        Device("b200", 180, 2250, 8000, 0.25, 3e-3, 5e-4, 1.9, 0.06),
        Device("l40s", 48, 362, 864, 0.30, 3e-3, 5e-4, 1.4, 0.06),
        Device("rtx4090", 24, 165, 1008, 0.35, 3e-3, 5e-4, 1.2, 0.06),
        Device("cpu", 0, 0.115, 20, 1.0, 1.5e-3, 2e-4, 0.66, 0.3),
    )
}
"""Peaks of dense bfloat16, sizes and bandwidths by data sheets; `cpu` is two cores of a server in float32, measured."""
SERVED_MFU = 0.15
"""Share of the peak that a server of chat models reaches over prompts and replies together, in large batches."""
ADAM_BYTES, MASTER_BYTES, FLOAT_BYTES = 8, 4, 4
RAGGED = 1.15
"""How much longer the longest row of a batch is than the mean, where rows are padded."""
PACK_FILL = 0.92
"""Share of a packed row that is filled."""


@dataclass(frozen=True)
class Batch:
    """One micro-batch of training on one device."""

    rows: float
    """Sequences that the language model reads."""
    width: float
    """Tokens of each, padding included."""
    kept: float
    """Tokens of all of them for which logits are made."""
    frames: float
    """Frames that the vision tower sees; each clip once."""
    masked: bool
    """Whether attention takes a mask of our own, so that it computes every pair of tokens."""

    @property
    def tokens(self) -> float:
        """Of all rows."""
        return self.rows * self.width


@dataclass(frozen=True)
class Memory:
    """Bytes on one device by what they are for."""

    weights: float = 0.0
    trained: float = 0.0
    """Adapters where there are any, with gradients, Adam's moments and copies."""
    activations: float = 0.0
    logits: float = 0.0
    vision: float = 0.0
    cache: float = 0.0
    """Keys and values of what was read, when answering."""
    overhead: float = 0.0

    @property
    def total(self) -> float:
        """All of them."""
        return float(sum(getattr(self, field.name) for field in fields(self)))


@dataclass(frozen=True)
class Training:
    """How a student is trained, as far as memory and work hang on it."""

    trainable: int
    whole: bool
    """Whether all of the language model is trained; else adapters."""
    rank: int
    adapted_layers: int
    weight_bytes: int
    checkpointing: bool
    stage: int
    """Of ZeRO; 3 also for FSDP2."""
    processes: int
    offload: bool


def training_memory(shape: ModelShape, how: Training, batch: Batch, frame: FrameCost | None, device: Device) -> Memory:
    """Peak memory of one device in a step of training."""
    decoder = shape.decoder
    assert decoder
    parts = how.processes if how.stage else 1
    frozen: float = how.weight_bytes * (shape.parameters - (how.trainable if how.whole else 0))
    trained: float = FLOAT_BYTES * how.trainable  # what is trained stays in float32
    gradients: float = FLOAT_BYTES * how.trainable
    optimiser: float = (ADAM_BYTES + (MASTER_BYTES if how.stage else 0)) * how.trainable
    if how.stage >= 3:
        frozen, trained = (0.0, 0.0) if how.offload else (frozen / parts, trained / parts)
        frozen += 2 * how.weight_bytes * (shape.speaking - shape.embedding) / decoder.layers  # gathered layers
    if how.stage >= 2:
        gradients /= parts
    if how.stage >= 1:
        optimiser = 0.0 if how.offload and how.stage >= 3 else optimiser / parts
    layer = _layer_bytes(shape, decoder, how, batch)
    saved = batch.tokens * decoder.hidden * how.weight_bytes
    activations = saved * decoder.layers + layer if how.checkpointing else layer * decoder.layers
    # Logits as they come, in float32, the logarithms of their shares, and gradients of both.
    logits = batch.kept * decoder.vocabulary * (2 * how.weight_bytes + 3 * FLOAT_BYTES)
    vision = _tower_bytes(shape, batch.frames, frame, how.weight_bytes)
    return _with_overhead(device, frozen, trained + gradients + optimiser, activations, logits, vision)


def answering_memory(
    shape: ModelShape, *, rows: float, prompt: float, reply: float, weight_bytes: int, frames: float,
    frame: FrameCost | None, device: Device,
) -> Memory:  # fmt: skip
    """Peak memory of one device that answers `rows` questions at once, of so many tokens each and its reply."""
    decoder = shape.decoder
    assert decoder
    pair = 2 * decoder.layers * decoder.kv_heads * decoder.head_dim * weight_bytes
    # One layer at a time reads the prompts; then replies are written token by token.
    inner = rows * prompt * (2 * decoder.inner + 4 * decoder.hidden) * weight_bytes
    memory = _with_overhead(
        device, weight_bytes * shape.parameters, 0.0, inner, rows * decoder.vocabulary * 2 * FLOAT_BYTES,
        _tower_bytes(shape, frames, frame, weight_bytes),
    )  # fmt: skip
    cache = rows * (prompt + reply) * pair
    return Memory(**{**_plain(memory), "cache": cache, "overhead": memory.overhead + device.slack * cache})


def step_flops(shape: ModelShape, how: Training, batch: Batch, frame: FrameCost | None) -> float:
    """Of one micro-batch, forward and backward."""
    decoder = shape.decoder
    assert decoder
    linear = 2 * batch.tokens * _linear(shape, decoder)
    attention = _attention_flops(decoder, batch.rows, batch.width, every=batch.masked)
    output = 2 * batch.kept * shape.output
    passes = 2 + (1 if how.whole else 0) + (1 if how.checkpointing else 0)
    flops = passes * linear + (3 + (1 if how.checkpointing else 0)) * attention
    flops += (3 if how.whole else 2) * output
    if not how.whole:  # adapters: forward, gradients of what went in, and of their weights
        flops += 3 * 2 * batch.tokens * how.trainable
    return flops + tower_flops(shape, frame) * batch.frames


def reading_flops(shape: ModelShape, *, rows: float, width: float) -> float:
    """Of reading `rows` prompts of `width` tokens, without their frames."""
    decoder = shape.decoder
    assert decoder
    return 2 * rows * width * _linear(shape, decoder) + _attention_flops(decoder, rows, width, every=False)


def tower_flops(shape: ModelShape, frame: FrameCost | None) -> float:
    """Of one frame in the vision tower and what joins it to the language model, forward."""
    if shape.tower is None or frame is None:
        return 0.0
    tower = shape.tower
    per_view = frame.patches / frame.views
    # Windows of a Qwen tower are counted as whole views; there they are a few percent of its work.
    return 2 * frame.patches * shape.seeing + 4 * frame.patches * per_view * tower.hidden * tower.layers * 0.5


def step_seconds(shape: ModelShape, flops: float, *, checkpointing: bool, device: Device) -> float:
    """Of one micro-batch."""
    assert shape.decoder
    passes = 1.3 if checkpointing else 1.0
    layers = shape.decoder.layers + (shape.tower.layers / 3 if shape.tower else 0)
    return flops / (device.tflops * 1e12 * device.train_mfu) + layers * device.layer_s * passes


def writing_seconds(
    shape: ModelShape, *, rows: float, mean: float, longest: float, weight_bytes: int, device: Device
) -> float:
    """Of a batch of replies behind their prompts, of so many tokens in the mean and at most.

    Each token reads all weights and takes its way through all layers, for all rows at once; and each row multiplies.
    """
    assert shape.decoder
    reading_weights = weight_bytes * shape.speaking / (device.bandwidth_gbs * 1e9)
    step_s = max(reading_weights, shape.decoder.layers * device.decode_layer_s)
    work = 2 * (_linear(shape, shape.decoder) + shape.output) * rows * mean
    return longest * step_s + work / (device.tflops * 1e12 * device.train_mfu)


def served_gpu_hours(shape: ModelShape, *, tokens: float, device: Device) -> float:
    """GPU-hours of a served model for so many tokens read and written together."""
    return 2 * shape.speaking * tokens / (device.tflops * 1e12 * SERVED_MFU) / 3600


def _linear(shape: ModelShape, decoder: Decoder) -> float:
    """Weights of the layers of the language model that multiply each token."""
    layer = decoder.hidden * decoder.head_dim * (2 * decoder.heads + 2 * decoder.kv_heads)
    return float(decoder.layers * (layer + 3 * decoder.hidden * decoder.inner))


def _attention_flops(decoder: Decoder, rows: float, width: float, *, every: bool) -> float:
    pairs = width**2 * (1 if every else 0.5)
    return 4 * rows * pairs * decoder.heads * decoder.head_dim * decoder.layers


def _layer_bytes(shape: ModelShape, decoder: Decoder, how: Training, batch: Batch) -> float:
    """What one layer keeps of a batch for its backward pass, as counted by hooks on saved tensors.

    Norms keep float32; attention queries, keys, values (as many as queries where there is a mask) and what comes out;
    the MLP three widths and what its last layer takes. Adapters stand in float32: where the base is shorter, each keeps
    a copy of what it takes, besides its narrow middle.
    """
    hidden, size, inner = decoder.hidden, how.weight_bytes, decoder.inner
    queries, keys = decoder.heads * decoder.head_dim, decoder.kv_heads * decoder.head_dim
    shown = queries if batch.masked else keys
    norms = 2 * hidden * FLOAT_BYTES
    if any(name.endswith("q_norm.weight") for name in shape.weights):
        norms += (queries + keys) * FLOAT_BYTES
    attention = (2 * queries + 2 * shown) * size + (batch.width * size if batch.masked else 0)
    taken = 2 * hidden * FLOAT_BYTES if size == FLOAT_BYTES else (5 * hidden + queries) * FLOAT_BYTES
    if how.whole:
        taken = 4 * hidden * size
    mlp = 3 * inner * size + inner * FLOAT_BYTES
    middle = 0.0 if how.whole else how.rank * how.adapted_layers / decoder.layers * FLOAT_BYTES
    return batch.tokens * (norms + attention + taken + mlp + middle)


def _tower_bytes(shape: ModelShape, frames: float, frame: FrameCost | None, weight_bytes: int) -> float:
    """What a frozen tower needs while it looks: a layer at a time, and the features that it gives."""
    if shape.tower is None or frame is None or shape.decoder is None:
        return 0.0
    tower = shape.tower
    pixels = frame.patches * tower.patch**2 * 3 * FLOAT_BYTES
    inner = frame.patches * (5 * tower.hidden + 2 * tower.inner) * weight_bytes
    return frames * (pixels + inner + 2 * frame.tokens * shape.decoder.hidden * weight_bytes)


def _with_overhead(
    device: Device, weights: float, trained: float, activations: float, logits: float, vision: float
) -> Memory:
    held = weights + trained + activations + logits + vision
    overhead = device.overhead_gb * GB + device.slack * held
    return Memory(
        weights=weights, trained=trained, activations=activations, logits=logits, vision=vision, overhead=overhead
    )


def _plain(memory: Memory) -> dict[str, float]:
    return {field.name: float(getattr(memory, field.name)) for field in fields(memory)}


def micro_batches(questions: int, *, per_device: int, processes: int) -> tuple[int, int]:
    """Questions that a device takes at once, and how often before a step: as `plan_batch` of training cuts it.

    >>> micro_batches(16, per_device=3, processes=2)
    (2, 4)
    """
    share = max(1, ceil(questions / processes))
    at_once = max(n for n in range(1, min(share, per_device) + 1) if share % n == 0)
    return at_once, share // at_once
