"""Tiny zero-shot models whose weights are set by hand, so that what they see can be told beforehand."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    BertTokenizer,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessorPil,
    GroundingDinoProcessor,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessorPil,
    Owlv2Processor,
    Siglip2Config,
    Siglip2ImageProcessorPil,
    Siglip2Model,
    Siglip2Processor,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    SiglipProcessor,
)
from transformers.models.siglip2 import Siglip2Tokenizer

WORDS = ("red", "green")
HIDDEN = 8
GRID = 8
"""Patches along each side of the square that the tiny OWLv2 looks at."""
END_ID = 299
"""The highest: OWLv2 takes it for the end of a text."""
SIGLIP_SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")
_NO_CHANGE = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def owl_folder(folder: Path) -> Path:
    """An OWLv2 with one box of the size of a patch around the lower right corner of each, found by its colour."""
    model = Owlv2ForObjectDetection(
        Owlv2Config(
            text_config=_text(16), vision_config=_vision(image_size=8 * GRID, patch_size=8), projection_dim=HIDDEN
        )
    )
    with torch.no_grad():
        _see_colours(model.owlv2)
        model.owlv2.vision_model.encoder.layers[0].self_attn.out_proj.weight.zero_()  # Each patch for itself.
        # Boxes of OWLv2 lie around that corner until their head moves them; so look there.
        looks = model.owlv2.vision_model.embeddings.patch_embedding.weight
        looks[:, :, :4], looks[:, :, :, :4] = 0.0, 0.0
        looks.mul_(4)
        # A part that is always there keeps a faint tint from being normalised to a full colour.
        model.owlv2.vision_model.embeddings.position_embedding.weight[1:, 4:] = torch.tensor([0.5, -0.5, 0.5, -0.5])
        model.owlv2.vision_model.embeddings.class_embedding.copy_(torch.tensor([1.0, -1.0] * (HIDDEN // 2)))
        _identity(model.class_head.dense0)
        # Patches are multiplied by the class token, whose signs alternate, and normalised again.
        model.class_head.dense0.weight.copy_(torch.diag(torch.tensor([1.0, -1.0] * (HIDDEN // 2))))
        for layer in (model.class_head.logit_shift, model.class_head.logit_scale):
            layer.weight.zero_()
        model.class_head.logit_shift.bias.fill_(-0.4)
        model.class_head.logit_scale.bias.fill_(20.0)
        model.box_head.dense2.weight.zero_()
        model.box_head.dense2.bias.zero_()
    size = {"height": 8 * GRID, "width": 8 * GRID}
    Owlv2Processor(Owlv2ImageProcessorPil(size=size, **_NO_CHANGE), _clip_tokenizer(16)).save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def clip_folder(folder: Path) -> Path:
    """A CLIP that finds a picture near the word for its colour."""
    model = CLIPModel(
        CLIPConfig(text_config=_text(32), vision_config=_vision(image_size=32, patch_size=8), projection_dim=HIDDEN)
    )
    with torch.no_grad():
        _see_colours(model)
        model.vision_model.embeddings.class_embedding.zero_()
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPProcessor(CLIPImageProcessorPil(**sizes, **_NO_CHANGE), _clip_tokenizer(32)).save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def siglip_folder(folder: Path, *, second: bool) -> Path:
    """A SigLIP, or SigLIP 2, with random weights."""
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vocabulary = [*SIGLIP_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = Siglip2Tokenizer(vocab={token: i for i, token in enumerate(vocabulary)}, merges=[])
    text = {**size, "vocab_size": 300, "max_position_embeddings": 64, "projection_size": 16}
    image_processor: Any = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    if second:
        image_processor = Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16)
        model: Any = Siglip2Model(
            Siglip2Config(text_config=text, vision_config={**size, "num_patches": 16, "patch_size": 8})
        )
        Siglip2Processor(image_processor, tokenizer).save_pretrained(folder)
    else:
        model = SiglipModel(SiglipConfig(text_config=text, vision_config={**size, "image_size": 32, "patch_size": 8}))
        SiglipProcessor(image_processor, tokenizer).save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def dino_folder(folder: Path) -> Path:
    """A Grounding DINO with random weights."""
    torch.manual_seed(0)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "red", "pan"]
    # Grounding DINO tells names apart by the ids that special tokens and dots have in the vocabulary of BERT.
    special = {"[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103, ".": 1012}
    ids = {word: special.get(word, 2000 + i if word != "[PAD]" else 0) for i, word in enumerate(vocabulary)}
    text = {
        "model_type": "bert", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 16, "vocab_size": 2100, "max_position_embeddings": 64,
    }  # fmt: skip
    backbone = {
        "model_type": "swin", "image_size": 64, "patch_size": 4, "embed_dim": 8, "depths": [1, 1, 1, 1],
        "num_heads": [1, 1, 1, 1], "window_size": 4, "out_features": ["stage2", "stage3", "stage4"],
    }  # fmt: skip
    model = GroundingDinoForObjectDetection(
        GroundingDinoConfig(
            backbone_config=backbone, text_config=text, d_model=32, encoder_layers=1, decoder_layers=2,
            encoder_ffn_dim=16, decoder_ffn_dim=16, encoder_attention_heads=2, decoder_attention_heads=2,
            num_queries=5, max_text_len=32,
        )
    )  # fmt: skip
    image_processor = GroundingDinoImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 128})
    GroundingDinoProcessor(image_processor, BertTokenizer(vocab=ids, model_max_length=64)).save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def _text(length: int) -> dict[str, Any]:
    return {
        "hidden_size": HIDDEN, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
        "max_position_embeddings": length, "vocab_size": 300,
        "bos_token_id": 1, "eos_token_id": END_ID, "pad_token_id": 0,
    }  # fmt: skip


def _vision(*, image_size: int, patch_size: int) -> dict[str, Any]:
    return {
        "hidden_size": HIDDEN, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
        "image_size": image_size, "patch_size": patch_size,
    }  # fmt: skip


def _clip_tokenizer(length: int) -> CLIPTokenizer:
    """Reads the colour words whole and any other text letter by letter."""
    letters = [chr(i) for i in range(33, 127)]
    words = ["!", "<|startoftext|>"]
    merges = []
    for word in WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            merges.append((parts[0], parts[1]))
            parts = [parts[0] + parts[1], *parts[2:]]
            words.append(parts[0])
    vocabulary = list(dict.fromkeys([*words, *letters, *(f"{letter}</w>" for letter in letters)]))
    ids = {word: i for i, word in enumerate(vocabulary)} | {"<|endoftext|>": END_ID}
    return CLIPTokenizer(vocab=ids, merges=merges, model_max_length=length, pad_token="!")


def _word_ids() -> list[int]:
    return [_clip_tokenizer(16)(word)["input_ids"][1] for word in WORDS]


def _identity(layer: Any) -> None:
    layer.weight.copy_(torch.eye(*layer.weight.shape))
    if layer.bias is not None:
        layer.bias.zero_()


def _see_colours(model: Any) -> None:
    """Patches become their mean red, green and blue; texts the sum of their colour words; attention takes the mean."""
    vision, text = model.vision_model, model.text_model
    for embeddings in (vision.embeddings, text.embeddings):
        embeddings.position_embedding.weight.zero_()
    weight = vision.embeddings.patch_embedding.weight
    weight.zero_()
    for channel in range(3):
        weight[channel, channel] = 1 / weight[0, 0].numel()
    text.embeddings.token_embedding.weight.zero_()
    text.embeddings.token_embedding.weight[:, len(WORDS)] = 1e-5  # Other words point elsewhere, and not nowhere.
    for channel, word_id in enumerate(_word_ids()):
        text.embeddings.token_embedding.weight[word_id, channel] = 1.0
    for layer in (*vision.encoder.layers, *text.encoder.layers):
        for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.mlp.fc2):
            projection.weight.zero_()
            projection.bias.zero_()
        _identity(layer.self_attn.v_proj)
        _identity(layer.self_attn.out_proj)
    _identity(model.visual_projection)
    _identity(model.text_projection)
