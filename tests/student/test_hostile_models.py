"""Model folders of strangers: nothing of them is run, and whatever is wrong with them is one sentence, told early."""

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile_folders import CONFIGS, TINY
from text_kit import TEMPLATE, save_text_base, text_tokenizer
from tokenizers import AddedToken

from aot.config import LoraSection, RunConfig, StudentConfig, parse_config
from aot.errors import CheckpointError, ConfigError
from aot.pipeline.commands.plan import plan_lines
from aot.records import Question
from aot.student.model import preflight
from aot.student.model.loading import load_student, look_over
from aot.student.rows import templates
from aot.student.rows.tokens import Renderer
from aot.student.train.guards import StopFlag

ROOT = Path(__file__).parents[2]
ENDLESS = "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}"
TEMPLATES = {
    "endless loops": (ENDLESS, "takes longer than 0.5 s"),
    "endless text": (ENDLESS.replace("{% endfor %}", "xxx{% endfor %}"), "takes longer"),
    "too much text": ("{% for i in range(20000) %}" + "x" * 1000 + "{% endfor %}", "writes 20000000 characters"),
    "powers": ("{{ 9**9**9 }}", "computes powers"),
    "powers of what is asked": ("{{ (messages|length + 8) ** 9 ** 9 }}", "computes powers"),
    "wide range": ("{% for i in range(10000000000) %}x{% endfor %}", "cannot be rendered: OverflowError"),
    "class": ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "cannot be rendered: SecurityError"),
    "globals": ("{{ cycler.__init__.__globals__.os.system('touch CANARY') }}", "cannot be rendered: SecurityError"),
    "function": ("{{ lipsum.__globals__['os'].popen('touch CANARY').read() }}", "draws at random"),
    "attribute": ("{{ messages|attr('__class__') }}{{ (messages|attr('__class__')).mro() }}", "cannot be rendered"),
    "include": ("{% include '/etc/passwd' %}", "cannot be rendered: TypeError"),
    "import": ("{% import 'os' as os %}", "cannot be rendered: TypeError"),
    "syntax": ("{% for m in %}", "is no Jinja template: TemplateSyntaxError"),
    "nesting": ("{% if 1 %}" * 3000 + "{% endif %}" * 3000, "is no Jinja template: RecursionError"),
    "recursion": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "cannot be rendered: RecursionError"),
    "raising": ("{{ raise_exception('no') }}", "cannot be rendered: TemplateError: no"),
    "undefined": ("{{ messages[0].nope.nope }}", "cannot be rendered: UndefinedError"),
    "no division": ("{{ 1/0 }}", "cannot be rendered: ZeroDivisionError"),
    "nothing": (" ", "leaves the question out"),
}  # fmt: skip


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_hostile_chat_template_is_one_sentence(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(templates, "RENDER_LIMIT_S", 0.5)
    template, told = TEMPLATES[name]
    with pytest.raises(CheckpointError, match="the chat template of") as error:
        Renderer(text_tokenizer(template))
    assert told in str(error.value) and "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_tags_of_transformers_and_calls_with_keywords_are_no_powers() -> None:
    template = "{% macro said(text) %}{{ text }}{% endmacro %}" + TEMPLATE.replace(
        "{{ m.content }}", "{% generation %}{{ said(**{'text': m.content}) }}{% endgeneration %}"
    )
    assert "What is the next step?" in Renderer(text_tokenizer(template)).prompt(*probe())


def probe() -> tuple[Any, tuple[float, ...], Any]:
    from aot.student.rows.prompts import PROBE

    return PROBE, (), "direct"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_rendering_of_a_template(number: int) -> None:
    tokenizer = text_tokenizer(ENDLESS)
    with pytest.raises(KeyboardInterrupt), StopFlag().listening():
        threading.Timer(0.2, os.kill, (os.getpid(), number)).start()
        templates.render_chat(tokenizer, [{"role": "user", "content": "x"}], prompt=True)


def change(file: str, **settings: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        held = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**held, **settings}))

    return edit


def write(file: str, data: bytes | str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).write_bytes(data if isinstance(data, bytes) else data.encode()) and None


class Evil:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch canary",)


def without_end(folder: Path) -> None:
    for path in folder.glob("chat_template*"):
        path.unlink()
    held = json.loads((folder / "tokenizer_config.json").read_text())
    held.pop("eos_token")
    for name in ("config.json", "generation_config.json"):
        change(name, eos_token_id=None)(folder)
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    (folder / "tokenizer_config.json").write_text(json.dumps({**held, "chat_template": template}))


def only_pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "weights")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def only_adapter(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "some/base"}')


def only_gguf(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model.Q4_1.gguf")


def quantised(**method: object) -> Callable[[Path], None]:
    return change("config.json", quantization_config=method)


def one_token_more(folder: Path) -> None:
    tokenizer = text_tokenizer(TEMPLATE.replace("<end>", "<turn>"))
    tokenizer.add_tokens([AddedToken("<turn>", special=True)])
    tokenizer.save_pretrained(folder)


def index(held: object) -> Callable[[Path], None]:
    """Weights as several files, with this index of them."""

    def edit(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "model-1.safetensors")
        (folder / "model.safetensors.index.json").write_text(held if isinstance(held, str) else json.dumps(held))

    return edit


def shards(*names: object) -> Callable[[Path], None]:
    return index({"metadata": {}, "weight_map": {str(i): name for i, name in enumerate(names)}})


INDEX = "model.safetensors.index.json"
DEEP = "[" * 200_000
FOLDERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "deep config": (write("config.json", DEEP), "config.json cannot be read"),
    "deep object": (write("config.json", '{"a":' * 200_000), "config.json cannot be read"),
    "huge number": (write("config.json", f'{{"hidden_size": {"9" * 5000}}}'), "config.json cannot be read"),
    "no object": (write("config.json", "[]"), "must hold a JSON object"),
    "no text": (write("config.json", b"\xff\xfe"), "config.json cannot be read"),
    "NaN": (change("config.json", hidden_size=float("nan")), "holds hidden_size NaN"),
    "wrong type": (change("config.json", hidden_size="x"), "cannot be loaded"),
    "type of a list": (change("config.json", model_type=["llama"]), "cannot be loaded"),
    "unknown type": (change("config.json", model_type="nope"), "cannot be loaded"),
    "huge width": (change("config.json", hidden_size=10**12), "beyond any model"),
    "wide": (change("config.json", hidden_size=4096), "do not fit its config.json"),
    "small vocabulary": (change("config.json", vocab_size=3), "do not fit its config.json: 1 tensors"),
    "no heads": (change("config.json", num_attention_heads=0), "at least 1 is needed"),
    "foreign code": (
        change("config.json", auto_map={"AutoConfig": "evil.E"}, model_type="evil"), "code from the model folder",
    ),
    "nested settings": (change("config.json", deep=json.loads("[" * 100 + "]" * 100)), "is nested more than 30 levels"),
    "long settings": (write("config.json", '{"x": "' + "x" * (11 << 20) + '"}'), "no model needs more than"),
    "huge depth": (change("config.json", num_hidden_layers=10**9), "num_hidden_layers 1000000000, beyond any model"),
    "no depth": (change("config.json", num_hidden_layers=0), "num_hidden_layers 0; at least 1 is needed"),
    "labels": (change("config.json", num_labels=10**9), "num_labels 1000000000, beyond any model"),
    "no number": (change("config.json", rms_norm_eps="small"), "config.json of"),
    "kernels": (change("config.json", attn_implementation="evil/kernels"), "kernels from elsewhere"),
    "no language model": (change("config.json", model_type="t5"), "neither a causal language model nor an image-text"),
    "adapter": (only_adapter, "merge it into its base first"),
    "adapter in a model": (write("adapter_config.json", "{}"), "a model and an adapter for it"),
    "gguf": (only_gguf, "GGUF is not read; turn it into safetensors first"),
    "bitsandbytes": (quantised(load_in_8bit=True), "quantised with bitsandbytes"),
    "gptq": (quantised(quant_method="gptq", bits=4), "quantised with gptq"),
    "awq": (quantised(quant_method="awq", bits=4), "quantised with awq"),
    "compressed-tensors": (quantised(quant_method="compressed-tensors"), "quantised with compressed-tensors"),
    "quantised in words": (change("config.json", quantization_config="4 bits"), "quantised with a method"),
    "tokens beyond the model": (one_token_more, "but its model knows 46 tokens only"),
    "deep tokenizer": (write("tokenizer.json", DEEP), "the tokenizer of"),
    "cut tokenizer": (write("tokenizer.json", '{"version"'), "the tokenizer of"),
    "deep tokenizer settings": (write("tokenizer_config.json", DEEP), "the tokenizer of"),
    "no end of a reply": (without_end, "could end"),
    "pickled weights": (only_pickled, "pickled weights are not read"),
    "pickle under another name": (write("model.safetensors", pickle.dumps(Evil())), "the weights of"),
    "cut weights": (cut_weights, "the weights of"),
    "empty weights": (write("model.safetensors", b""), "the weights of"),
    "long header": (write("model.safetensors", (10**15).to_bytes(8, "little") + b"{}"), "the weights of"),
    "index that is no JSON": (index("{"), f"{INDEX} cannot be read"),
    "index that is a list": (index([]), f"{INDEX} must hold a JSON object"),
    "index without a map": (index({"metadata": {}}), f"{INDEX} holds no object 'weight_map'"),
    "index with a list for a map": (index({"metadata": {}, "weight_map": ["a"]}), f"{INDEX} holds no object"),
    "index of nothing": (index({"metadata": {}, "weight_map": {}}), f"{INDEX} holds no object 'weight_map'"),
    "index without metadata": (index({"weight_map": {"a": "model-1.safetensors"}}), f"{INDEX} holds no object 'meta"),
    "shard that is not there": (
        shards("model-1.safetensors", "b.safetensors"), f"{INDEX} names 2 files of weights, of which 1 are not there, "
        "first 'b.safetensors'",
    ),
    "shard elsewhere": (shards("../good/model.safetensors"), f"{INDEX} names '../good/model.safetensors', but weights"),
    "shard by its path": (shards("/a/model.safetensors"), f"{INDEX} names '/a/model.safetensors', but weights"),
    "shard that is pickled": (shards("pytorch_model.bin"), f"{INDEX} names 'pytorch_model.bin', but weights"),
    "shard that is a number": (shards("model-1.safetensors", 3), f"{INDEX} names '3', but weights"),
    "empty tokenizer": (write("tokenizer.json", ""), "/tokenizer.json cannot be read"),
    "NUL for a tokenizer": (write("tokenizer.json", '{"a": "\0"}'), "/tokenizer.json cannot be read"),
    "tokenizer of nothing": (write("tokenizer.json", "{}"), "/tokenizer.json holds no 'model'"),
    "list for tokenizer settings": (write("tokenizer_config.json", "[]"), "/tokenizer_config.json must hold a JSON"),
    "list for special tokens": (write("special_tokens_map.json", "[]"), "/special_tokens_map.json must hold a JSON"),
    "template that is no text": (write("chat_template.jinja", b"\xff"), "/chat_template.jinja cannot be read"),
    "empty template": (write("chat_template.jinja", ""), "is empty; mend it, or take it out"),
    "cut header": (lambda folder: os.truncate(folder / "model.safetensors", 50), "/model.safetensors is damaged"),
    "list of generation settings": (write("generation_config.json", "[]"), "/generation_config.json must hold a JSON"),
    "deep generation settings": (write("generation_config.json", DEEP), "generation_config.json cannot be read"),
}  # fmt: skip


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_text_base(tmp_path_factory.mktemp("model") / "good")


@pytest.mark.parametrize("name", FOLDERS)
def test_a_hostile_model_folder_is_one_sentence(
    name: str, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = shutil.copytree(good, tmp_path / "model")
    edit, told = FOLDERS[name]
    edit(folder)
    with pytest.raises(CheckpointError) as error:
        look_over(str(folder), with_frames=False, config=StudentConfig(base=str(folder)))
    assert told in str(error.value) and str(folder) in str(error.value)
    assert len(str(error.value)) < 1000 and not (tmp_path / "canary").exists()


def test_a_sound_folder_is_looked_over_without_a_word_and_fits_its_door_only(
    good: Path, bases: dict[str, Path]
) -> None:
    look_over(str(good), with_frames=False, config=StudentConfig(base=str(good)))
    for base in bases.values():
        look_over(str(base), with_frames=True, config=StudentConfig(base=str(base)))
    with pytest.raises(CheckpointError, match="takes no images"):
        look_over(str(good), with_frames=True, config=StudentConfig(base=str(good)))


def test_code_of_a_type_that_transformers_knows_is_neither_needed_nor_run(good: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(good, tmp_path / "model")
    change("config.json", auto_map={"AutoConfig": "evil.E", "AutoModelForCausalLM": "evil.M"})(folder)
    change("tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", None]})(folder)
    (folder / "evil.py").write_text("raise SystemExit")
    assert look_over(str(folder), with_frames=False, config=StudentConfig(base=str(folder))).model_type == "llama"


def test_a_look_puts_the_adapters_on_and_encodes_a_row(good: Path, bases: dict[str, Path]) -> None:
    question = Question(
        id="q", dataset="d", split="train", kind="sum", text="What is 1 + 1?", answer="2", answer_type="integer",
        group="q",
    )  # fmt: skip
    look = look_over(
        str(good), with_frames=False, config=StudentConfig(base=str(good)), lora=LoraSection(rank=2), question=question
    )
    assert (look.adapted_layers, look.end_tokens, look.row_tokens > 10) == (14, ("<end>",), True)
    assert look.trainable < look.parameters
    with pytest.raises(ConfigError, match="matches no linear layer"):
        look_over(
            str(good), with_frames=False, config=StudentConfig(base=str(good)), lora=LoraSection(target_pattern="nope")
        )
    base = str(bases["idefics3"])
    assert look_over(base, with_frames=True, config=StudentConfig(base=base), lora=LoraSection()).adapted_layers == 14


def test_a_package_that_a_processor_needs_is_named_before_any_work(bases: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        pass
    else:
        pytest.skip("torchvision is installed")
    folder = shutil.copytree(bases["idefics3"], tmp_path / "qwen")
    for name in ("preprocessor_config.json", "processor_config.json"):
        (folder / name).unlink(missing_ok=True)
    change("config.json", model_type="qwen2_5_vl")(folder)
    kind = {"image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(kind))
    with pytest.raises(
        CheckpointError, match=r"needs torchvision, which is not installed .*pip install -e .*\[vision\]"
    ):
        look_over(str(folder), with_frames=True, config=StudentConfig(base=str(folder)))


@pytest.mark.parametrize(
    ("file", "data", "told"),
    [
        ("processor_config.json", "", "cannot be read"),
        ("processor_config.json", "[]", "must hold a JSON object"),
        ("chat_template.json", "{}", "holds no 'chat_template'"),
        ("chat_template.jinja", "", "is empty; mend it"),
    ],
)
def test_a_damaged_processor_is_told_by_its_file(
    file: str, data: str, told: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(bases["idefics3"], tmp_path / "model")
    (folder / file).write_text(data)
    with pytest.raises(CheckpointError, match=told) as error:
        look_over(str(folder), with_frames=True, config=StudentConfig(base=str(folder)))
    assert (file in str(error.value) or "template" in file) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", [name for name in CONFIGS if name.startswith("no")])
def test_a_config_that_lacks_what_a_model_needs_is_one_sentence(name: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(TINY / "text", tmp_path / "model"))
    CONFIGS[name](folder)
    with pytest.raises(CheckpointError) as error:
        look_over(str(folder), with_frames=False, config=StudentConfig(base=str(folder)))
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


def test_a_chat_template_that_stands_with_the_tokenizer_only_makes_the_prompts_of_clips(
    bases: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(bases["idefics3"], tmp_path / "model")
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    config = StudentConfig(base=str(folder), device="cpu")
    assert not look_over(str(folder), with_frames=True, config=config).has_template
    change("tokenizer_config.json", chat_template=template)(folder)
    assert look_over(str(folder), with_frames=True, config=config).has_template
    own, whole = load_student(str(folder), config=config), load_student(str(bases["idefics3"]), config=config)
    assert own.renderer.template_hash() == whole.renderer.template_hash()
    change("tokenizer_config.json", chat_template=TEMPLATE)(folder)  # which knows no parts of a message
    with pytest.raises(CheckpointError, match="leaves out or changes a part of the question"):
        look_over(str(folder), with_frames=True, config=config)


def config_of(base: Path) -> RunConfig:
    raw = {"data": {"dataset": "toy_math"}, "teacher": {"planner": "procedural"}, "student": {"base": str(base)},
           "train": {"arms": [{"name": "pre", "order": "pre"}]}}  # fmt: skip
    return parse_config(raw, source="test")


def looked_over(config: RunConfig) -> dict[str, Any]:
    return preflight.preflight(config.student, config.train, with_frames=False)


@pytest.mark.slow
def test_what_hangs_or_fills_memory_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(preflight.LIMITS_S, "chat template", 1.0)
    base = save_text_base(tmp_path / "endless", template=ENDLESS)
    with pytest.raises(CheckpointError, match="took longer than 1 s"):
        looked_over(config_of(base))
    monkeypatch.setitem(preflight.LIMITS_S, "chat template", 60.0)
    base = save_text_base(tmp_path / "huge", template="{{ 'x' * 100000000000 }}")
    with pytest.raises(CheckpointError, match="MemoryError"):
        looked_over(config_of(base))


@pytest.mark.slow
def test_a_pattern_that_goes_back_for_ever_is_ended_and_named(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(preflight.LIMITS_S, preflight.PATTERN, 1.0)
    config = config_of(good)
    lora = LoraSection(target_pattern=r"([a-z_.\d]+)+\$")
    config = config.model_copy(update={"train": config.train.model_copy(update={"lora": lora})})
    with pytest.raises(CheckpointError, match=r"target_pattern was not through .* without repeats inside repeats"):
        looked_over(config)


@pytest.mark.slow
@pytest.mark.parametrize("verb", [("run",), ("run", "--dry-run")])
def test_a_hostile_base_is_refused_before_prepare(verb: tuple[str, ...], tmp_path: Path) -> None:
    base = save_text_base(tmp_path / "model", template="{{ ''.__class__.__mro__ }}")
    config = ROOT / "configs" / "text" / "tiny_math_tiny.yaml"
    command = [sys.executable, "-m", "aot", *verb, str(config), f"student.base={base}", f"run.dir={tmp_path / 'run'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "cannot be rendered: SecurityError" in done.stderr
    assert not (tmp_path / "run" / "questions.jsonl").exists()


@pytest.mark.slow
def test_a_dry_run_says_what_the_base_is_and_stops_where_no_layer_can_be_adapted(good: Path, tmp_path: Path) -> None:
    config, path = config_of(good), tmp_path / "x.yaml"
    sections = {"run": {"dir": str(tmp_path / "run")}, "evaluate": {"splits": ("test",)}}
    config = config.model_copy(
        update={name: getattr(config, name).model_copy(update=changed) for name, changed in sections.items()}
    )
    lines = "\n".join(plan_lines(config, config_path=path))
    assert re.search(r"student: llama of [\d,]+ parameters; a reply ends with '<end>'", lines)
    assert re.search(r"adapters: on 14 layers, [\d,]+ parameters\nfirst row: \d+ tokens", lines)
    lora = config.train.lora.model_copy(update={"target_pattern": "nope"})
    embedded = config.student.model_copy(update={"base": "tiny-text"})
    wrong = config.model_copy(update={"student": embedded, "train": config.train.model_copy(update={"lora": lora})})
    with pytest.raises(CheckpointError, match="'nope' matches no linear layer"):
        plan_lines(wrong, config_path=path)
