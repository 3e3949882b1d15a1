"""The hostile and odd model folders that check_bases.py tries: each an edit of a copy of an embedded student.

Some are made from tiny random models; nothing is downloaded. Knows no command line and judges nothing.
"""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

TINY = Path(__file__).resolve().parents[1] / "aot" / "student" / "tiny"
Wanted = Literal["told", "works"]
Edit = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """A folder, how it is used, and what should come of it."""

    edit: Edit
    """Makes the folder hostile or odd; it begins as a copy of the embedded student of its door."""
    wanted: Wanted = "told"
    door: Literal["text", "video", "chat"] = "text"
    settings: tuple[str, ...] = ()


def change(file: str, **settings: object) -> Edit:
    """Edits JSON settings of a folder."""

    def edit(folder: Path) -> None:
        path = folder / file
        held = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**held, **settings}))

    return edit


def write(file: str, data: bytes | str) -> Edit:
    """Writes a file of a folder."""

    def edit(folder: Path) -> None:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(data if isinstance(data, bytes) else data.encode())

    return edit


def template(text: str) -> Edit:
    """Gives a folder another chat template."""
    return write("chat_template.jinja", text)


def both(*edits: Edit) -> Edit:
    """Several edits, one after the other."""

    def edit_all(folder: Path) -> None:
        for edit in edits:
            edit(folder)

    return edit_all


def in_place_of(file: str, make: Callable[[Path], object]) -> Edit:
    """Makes something else in place of a file."""

    def edit(folder: Path) -> None:
        (folder / file).unlink()
        make(folder / file)

    return edit


def without(*files: str) -> Edit:
    """Takes files out of a folder."""

    def edit(folder: Path) -> None:
        for file in files:
            (folder / file).unlink()

    return edit


def only(**files: str) -> Edit:
    """Replaces all of a folder."""

    def edit(folder: Path) -> None:
        shutil.rmtree(folder)
        folder.mkdir()
        for name, data in files.items():
            (folder / name.replace("__", ".")).write_text(data)

    return edit


def random_model(kind: str, **sizes: object) -> Edit:
    """A tiny random model of another type in place of the embedded one."""

    def edit(folder: Path) -> None:
        import transformers

        config = getattr(transformers, f"{kind}Config")(**sizes)
        heads = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "Model")
        model = next(getattr(transformers, kind + head) for head in heads if hasattr(transformers, kind + head))
        model(config).save_pretrained(folder)

    return edit


def tokenizer(**changes: object) -> Edit:
    """Edits parts of tokenizer.json."""

    def edit(folder: Path) -> None:
        path = folder / "tokenizer.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return edit


def added_token(text: str, token: int) -> Edit:
    """Declares one more special token, which has no name."""

    def edit(folder: Path) -> None:
        held = json.loads((folder / "tokenizer.json").read_text())
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        held["added_tokens"].append({"id": token, "content": text, **flags, "special": True})
        held["model"]["vocab"][text] = token
        (folder / "tokenizer.json").write_text(json.dumps(held))

    return edit


class Evil:
    """Leaves a mark when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch CANARY",)


SAID = (TINY / "text" / "chat_template.jinja").read_text()
LOOP = "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}"
GROW = "{% set ns = namespace(x=%START%) %}{% for i in range(200) %}{% set ns.x = %STEP% %}{% endfor %}{{ ns.x }}"
DEEP = "[" * 200_000
EVIL_PY = "open('CANARY', 'w').close()\nraise SystemExit\n"
FRAMED = {"type": "TemplateProcessing", "pair": [], "special_tokens": {"<end>": {"id": "<end>", "ids": [4], "tokens": ["<end>"]}}}  # noqa: E501  # fmt: skip
NO_END = both(
    change("tokenizer_config.json", eos_token=None),
    template(SAID.replace("<end>", "")),
    change("config.json", eos_token_id=None),
    change("generation_config.json", eos_token_id=None),
)

TEMPLATES: dict[str, str] = {
    "endless loops": LOOP,
    "endless text": LOOP.replace("{% endfor %}", "xxx{% endfor %}"),
    "loops on a second message": "{% if messages|length > 1 %}" + LOOP + "{% endif %}" + SAID,
    "loops in one mode": "{% if 'Choose' in messages[0].content %}" + LOOP + "{% endif %}" + SAID,
    "powers": "{{ 9**9**9 }}",
    "squares": GROW.replace("%START%", "3").replace("%STEP%", "ns.x * ns.x"),
    "doubled text": GROW.replace("%START%", "'xx'").replace("%STEP%", "ns.x ~ ns.x"),
    "doubled list": GROW.replace("%START%", "[1]").replace("%STEP%", "ns.x + ns.x"),
    "nested list": GROW.replace("%START%", "[1]").replace("%STEP%", "[ns.x, ns.x]") + "{{ ns.x|tojson }}",
    "wide text": "{{ 'x' * 100000000000 }}",
    "wide list": "{{ ([1] * 100000000000)|length }}",
    "centred": "{{ 'x'|center(100000000000) }}",
    "formatted": "{{ '%100000000000d' % 1 }}",
    "format": "{{ '{:>100000000000}'.format(1) }}",
    "batch": "{{ messages|batch(100000000000, 'x')|list }}",
    "slice": "{{ messages|slice(100000000000)|list }}",
    "indent": "{{ ('a\n' * 1000000)|indent(100000) }}",
    "replaced": "{{ ('a' * 100000)|replace('a', 'b' * 100000)|replace('b', 'c' * 100000) }}",
    "links": "{{ ('(' * 200000 ~ 'http://a.b')|urlize }}",
    "wide range": "{% for i in range(10000000000) %}x{% endfor %}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "recursive loop": "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
    "nesting": "{% if 1 %}" * 3000 + "{% endif %}" * 3000,
    "parentheses": "{{ " + "(" * 100_000 + "1" + ")" * 100_000 + " }}",
    "long": "{# " + "x" * 3_000_000 + " #}" + SAID,
    "very long": "x" * 30_000_000,
    "syntax": "{% for m in %}",
    "class": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "class by item": "{{ ''['__class__']['__mro__'] }}",
    "class by filter": "{{ (messages|attr('__class__')).mro() }}",
    "class by map": "{{ messages|map(attribute='__class__')|map(attribute='__base__')|list|first|attr('x') }}",
    "class by format": "{{ '{0.__class__.__mro__}'.format(messages).nope.nope }}",
    "globals": "{{ cycler.__init__.__globals__.os.system('touch CANARY') }}",
    "globals of a joiner": "{{ joiner.__init__.__globals__.os.popen('touch CANARY') }}",
    "globals of the clock": "{{ strftime_now.__globals__.sys.modules.os.system('touch CANARY') }}",
    "globals of a refusal": "{{ raise_exception.__globals__['__builtins__'].open('CANARY', 'w') }}",
    "self": "{{ self._TemplateReference__context.environment.x.y }}",
    "import": "{% import 'os' as os %}{{ os.system('touch CANARY') }}",
    "include": "{% include '/etc/passwd' %}",
    "extends": "{% extends '/etc/passwd' %}",
    "changed messages": "{{ messages.clear() }}" + SAID,
    "raising": "{{ raise_exception('no \x1b[2J way') }}",
    "undefined": "{{ messages[0].nope.nope }}",
    "division": "{{ 1/0 }}",
    "bytes": "\x00\x01",
    "random": SAID + "{{ ['a', 'b']|random }}",
    "nothing": " ",
    "walks over parts": "{% for m in messages %}{% for p in m.content if p.type == 'text' %}{{ p.text }}{% endfor %}{% endfor %}",  # noqa: E501
    "loses a line": SAID.replace("message['content']", "message['content'].split('\n')[0]"),
    "cuts the question": SAID.replace("message['content']", "message['content'][:50]"),
    "escapes": SAID.replace("message['content']", "message['content']|e"),
    "wants a system message": "{% if messages[0]['role'] != 'system' %}{{ raise_exception('none') }}{% endif %}" + SAID,
    "tokens of another model": SAID.replace("<end>", "<|im_end|>").replace("<user>", "<|im_start|>user\n").replace("<assistant>", "<|im_start|>assistant\n"),  # noqa: E501
}  # fmt: skip

CONFIGS: dict[str, Edit] = {
    "deep": write("config.json", DEEP),
    "deep object": write("config.json", '{"a":' * 200_000),
    "nested 100 times": change("config.json", deep=json.loads("[" * 100 + "]" * 100)),
    "nested 900 times": write("config.json", '{"model_type": "llama", "x": ' + "[" * 900 + "]" * 900 + "}"),
    "long number": write("config.json", f'{{"hidden_size": {"9" * 5000}}}'),
    "long": write("config.json", '{"x": "' + "x" * 20_000_000 + '"}'),
    "a list": write("config.json", "[]"),
    "empty": write("config.json", ""),
    "no text": write("config.json", b"\xff\xfe\x00"),
    "NaN": change("config.json", hidden_size=float("nan")),
    "NaN for epsilon": change("config.json", rms_norm_eps=float("nan")),
    "text for epsilon": change("config.json", rms_norm_eps="small"),
    "nothing for epsilon": change("config.json", rms_norm_eps=None),
    "text for a width": change("config.json", hidden_size="x"),
    "fraction for a width": change("config.json", hidden_size=192.5),
    "list for a width": change("config.json", hidden_size=[192]),
    "negative width": change("config.json", hidden_size=-192),
    "odd width": change("config.json", hidden_size=191),
    "huge width": change("config.json", hidden_size=10**12),
    "large width": change("config.json", hidden_size=8192),
    "huge vocabulary": change("config.json", vocab_size=10**9),
    "no vocabulary": change("config.json", vocab_size=0),
    "small vocabulary": change("config.json", vocab_size=3),
    "huge depth": change("config.json", num_hidden_layers=10**9),
    "large depth": change("config.json", num_hidden_layers=1500),
    "no depth": change("config.json", num_hidden_layers=0),
    "negative depth": change("config.json", num_hidden_layers=-1),
    "fraction for depth": change("config.json", num_hidden_layers=1.5),
    "no heads": change("config.json", num_attention_heads=0),
    "no key heads": change("config.json", num_key_value_heads=0),
    "five key heads": change("config.json", num_key_value_heads=5),
    "huge heads": change("config.json", head_dim=10**9),
    "labels": change("config.json", num_labels=10**9),
    "label names": change("config.json", id2label=[1, 2]),
    "activation": change("config.json", hidden_act="nope"),
    "number for an activation": change("config.json", hidden_act=3),
    "rope": change("config.json", rope_parameters={"rope_type": "nope", "rope_theta": 1.0}),
    "rope without a base": change("config.json", rope_parameters={"rope_type": "default", "rope_theta": 0}),
    "text for rope": change("config.json", rope_parameters="x"),
    "rope factor": change("config.json", rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": "x"}),
    "huge position": change("config.json", max_position_embeddings=10**15),
    "padding": change("config.json", pad_token_id=10**6),
    "text for padding": change("config.json", pad_token_id="x"),
    "end": change("generation_config.json", eos_token_id="x"),
    "negative end": change("generation_config.json", eos_token_id=[4, -1]),
    "huge end": change("generation_config.json", eos_token_id=1e30),
    "deep generation settings": write("generation_config.json", DEEP),
    "list of generation settings": write("generation_config.json", "[]"),
    "type": change("config.json", model_type="nope"),
    "list for a type": change("config.json", model_type=["llama"]),
    "no type": change("config.json", model_type=None),
    "path for a type": change("config.json", model_type="../../llama"),
    "type of a short text model": change("config.json", model_type="bart"),
    "type of another model": change("config.json", model_type="gpt2"),
    "dtype": change("config.json", dtype="float99"),
    "dtype of os": change("config.json", dtype="os"),
    "attention": change("config.json", _attn_implementation="nope", attn_implementation="nope"),
    "kernels": change("config.json", attn_implementation="evil/kernels"),
    "foreign code": both(
        change("config.json", model_type="evil", auto_map={"AutoConfig": "evil.E", "AutoModelForCausalLM": "evil.M"}),
        write("evil.py", EVIL_PY),
    ),
}  # fmt: skip

FOLDERS: dict[str, Edit] = {
    "empty": only(),
    "readme only": only(README__md="# A model"),
    "gguf": only(model__gguf="GGUF"),
    "gguf with a config": both(without("model.safetensors"), write("model.Q4_1.gguf", "GGUF")),
    "adapter": only(adapter_config__json='{"base_model_name_or_path": "some/base", "peft_type": "LORA"}'),
    "adapter that is no JSON": only(adapter_config__json="["),
    "adapter in a model": write("adapter_config.json", '{"base_model_name_or_path": "other/base"}'),
    "arm": only(adapter_config__json='{"base_model_name_or_path": "some/base"}', contract__json="{}"),
    "bnb 4 bits": change("config.json", quantization_config={"load_in_4bit": True, "quant_method": "bitsandbytes"}),
    "bnb 8 bits": change("config.json", quantization_config={"load_in_8bit": True}),
    "gptq": change("config.json", quantization_config={"bits": 4, "quant_method": "gptq", "group_size": 128}),
    "gptq beside": write("quantize_config.json", '{"bits": 4}'),
    "awq": change("config.json", quantization_config={"bits": 4, "quant_method": "awq"}),
    "compressed-tensors": change("config.json", quantization_config={"quant_method": "compressed-tensors"}),
    "compression": change("config.json", compression_config={"format": "pack-quantized"}),
    "fp8": change("config.json", quantization_config={"quant_method": "fp8", "weight_block_size": [128, 128]}),
    "mlx": change("config.json", quantization={"group_size": 64, "bits": 4}),
    "mxfp4": change("config.json", quantization_config={"quant_method": "mxfp4"}),
    "gguf leftover": change("config.json", quantization_config={"quant_method": "gguf"}),
    "quantised by text": change("config.json", quantization_config="4 bits"),
    "quantised by a list": change("config.json", quantization_config=[4]),
    "pickled": both(
        without("model.safetensors"), write("pytorch_model.bin", pickle.dumps(Evil())),
    ),
    "pickle under another name": write("model.safetensors", pickle.dumps(Evil())),
    "cut weights": lambda folder: os.truncate(folder / "model.safetensors", 1000),
    "empty weights": write("model.safetensors", b""),
    "long header": write("model.safetensors", (10**15).to_bytes(8, "little") + b"{}"),
    "index to elsewhere": both(
        without("model.safetensors"),
        write("model.safetensors.index.json", '{"metadata": {}, "weight_map": {"a": "../../../etc/passwd"}}'),
    ),
    "index that is no JSON": both(without("model.safetensors"), write("model.safetensors.index.json", DEEP)),
    "index without shards": both(
        without("model.safetensors"),
        write("model.safetensors.index.json", '{"metadata": {}, "weight_map": {"a": "b"}}'),
    ),
    "no tokenizer": without("tokenizer.json"),
    "deep tokenizer": write("tokenizer.json", DEEP),
    "cut tokenizer": write("tokenizer.json", '{"version"'),
    "empty vocabulary": tokenizer(model={"type": "WordLevel", "vocab": {}, "unk_token": "<unk>"}),
    "deep tokenizer settings": write("tokenizer_config.json", DEEP),
    "tokenizer of numbers": change("tokenizer_config.json", eos_token=3),
    "tokens beyond the model": both(added_token("<turn>", 349), template(SAID.replace("<end>", "<turn>"))),
    "no end": NO_END,
    "config is a folder": in_place_of("config.json", Path.mkdir),
    "config is a pipe": in_place_of("config.json", os.mkfifo),
    "config is a loop": in_place_of("config.json", lambda path: path.symlink_to(path.name)),
    "config is a device": in_place_of("config.json", lambda path: path.symlink_to("/dev/zero")),
    "templates without a default": both(
        without("chat_template.jinja"),
        change("tokenizer_config.json", chat_template=[{"name": "rag", "template": SAID}]),
    ),
    "template of numbers": both(without("chat_template.jinja"), change("tokenizer_config.json", chat_template=3)),
    "model that translates": random_model(
        "T5", vocab_size=349, d_model=32, num_layers=1, num_heads=2, d_ff=32, decoder_start_token_id=0,
    ),
    "model that sees only": random_model(
        "ViT", hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
    ),
}  # fmt: skip

WORKING: dict[str, Edit] = {
    "plain": lambda folder: None,
    "code of a known type": both(
        change("config.json", auto_map={"AutoConfig": "evil.E", "AutoModelForCausalLM": "evil.M"}),
        change("tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", None]}),
        write("evil.py", EVIL_PY),
    ),
    "end without a name": both(
        change("tokenizer_config.json", eos_token="<pad>"), change("generation_config.json", eos_token_id=[0, 4]),
    ),
    "end in the generation settings only": both(
        change("tokenizer_config.json", eos_token=None), template(SAID.replace("<end>", "")),
    ),
    "end behind every text": tokenizer(
        post_processor={
            **FRAMED, "single": [
                {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<end>", "type_id": 0}},
            ],
        },
    ),
    "date": template("Today is {{ strftime_now('%d %b %Y') }}. " + SAID),
    "switch of thinking": template(
        SAID[: SAID.rindex("{% endif %}")]
        + "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
        + "{% endif %}"
    ),
    "no template": without("chat_template.jinja"),
    "architectures that are not used": change("config.json", architectures=["os.system", 3]),
    "tokenizer class that is not there": change("tokenizer_config.json", tokenizer_class="NopeTokenizer"),
    "padding beyond the model": both(
        added_token("<padding>", 349), change("tokenizer_config.json", pad_token="<padding>"),
    ),
    "infinity": change("config.json", time_step_limit=[0.0, float("inf")]),
    "gguf beside": write("model.Q4_1.gguf", "GGUF"),
}  # fmt: skip


def cases() -> dict[str, Case]:
    """Every case by its name."""
    hang = ("endless loops", "squares", "doubled text", "wide text", "class", "globals", "nothing", "raising")
    odd = ("gguf", "adapter", "pickled", "no end", "deep tokenizer", "cut weights")
    return {
        **{f"template: {name}": Case(template(text)) for name, text in TEMPLATES.items()},
        **{f"config: {name}": Case(edit) for name, edit in CONFIGS.items()},
        **{f"folder: {name}": Case(edit) for name, edit in FOLDERS.items()},
        **{f"video: {name}": Case(template(TEMPLATES[name]), door="video") for name in hang},
        **{f"video: {name}": Case(FOLDERS[name], door="video") for name in odd},
        **{f"chat: {name}": Case(template(TEMPLATES[name]), door="chat") for name in hang},
        **{f"chat: {name}": Case(FOLDERS[name], door="chat") for name in odd},
        "file: gguf": Case(write("m.gguf", "GGUF"), settings=("student.base=FOLDER/m.gguf",)),
        "file: weights": Case(lambda folder: None, settings=("student.base=FOLDER/model.safetensors",)),
        "adapters: no layer": Case(lambda folder: None, settings=("train.lora.target_pattern=nope",)),
        "adapters: no pattern": Case(lambda folder: None, settings=("train.lora.target_pattern=q_(proj",)),
        "adapters: back for ever": Case(
            lambda folder: None,
            settings=(r"train.lora.target_pattern='([a-z_.\d]+)+\$'",),
        ),
        **{
            f"works: {name}": Case(edit, "works", settings=("student.think_tags=none",))
            for name, edit in WORKING.items()
        },
    }
