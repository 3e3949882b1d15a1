"""Tokenizers and chat templates as models of the field have them: prompts and ends are those of transformers."""

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from text_kit import TEMPLATE, save_text_base, sums, text_config, text_run, text_tokenizer
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from aot.config import StudentConfig
from aot.errors import CheckpointError
from aot.student.model.contract import Contract, read_contract
from aot.student.model.loading import load_student, look_over
from aot.student.rows import templates
from aot.student.rows.prompts import MODE_SUFFIX, TEXT_MODES
from aot.student.rows.replies import check_prompts, check_round_trip
from aot.student.rows.tokens import Renderer
from aot.student.train.arm import train_arm

QUESTION = sums(1)[0]
TURN_TEMPLATE = TEMPLATE.replace("<end>", "<turn_end>")
SWITCH = "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
QWEN3_TEMPLATE = TEMPLATE.replace(
    "{{ m.content }}",
    "{% if m.role == 'assistant' and loop.last and '</think>' not in m.content %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content }}",
).replace("<assistant>{% endif %}", "<assistant>" + SWITCH)
DATED = "Today is {{ strftime_now('%d %b %Y') }}. " + TEMPLATE
LLAMA_DATED = (
    "{% if not date_string is defined %}{% if strftime_now is defined %}"
    "{% set code = '%d %b %Y' %}{% set date_string = strftime_now(code) %}"
    "{% else %}{% set date_string = '26 Jul 2024' %}{% endif %}{% endif %}Today: {{ date_string }} " + TEMPLATE
)
SPIECE = (
    "{% for m in messages %}{% if m.role == 'user' %}<s>[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }} </s>{% endif %}{% endfor %}"
)


class OneDay(datetime.datetime):
    """The clock of transformers on the day that we tell templates."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> "OneDay":
        return cls(2024, 7, 26)


WITH_TOOLS = (
    "{% if tools %}{{ tools|tojson }}{% endif %}{% for one in documents or [] %}{{ one.text }}{% endfor %}" + TEMPLATE
)
ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}"
)


def unnamed_end() -> PreTrainedTokenizerFast:
    """As of Phi-3 and Gemma 3: what ends a turn is a special token that has no name, and eos is another one."""
    tokenizer = text_tokenizer(TURN_TEMPLATE)
    tokenizer.add_tokens([AddedToken("<turn_end>", special=True)])
    assert "<turn_end>" not in tokenizer.all_special_tokens
    return tokenizer


def framing(template: str, *, before: str = "", behind: str = "") -> PreTrainedTokenizerFast:
    """A tokenizer that adds tokens to any text, as with add_bos_token and add_eos_token."""
    tokenizer = text_tokenizer(template)
    names = [name for name in (before, behind) if name]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{before} $A {behind}".strip(),
        special_tokens=[(name, tokenizer.convert_tokens_to_ids(name)) for name in names],
    )
    return tokenizer


def with_dummy_prefix() -> PreTrainedTokenizerFast:
    """As sentencepiece has it: a text that stands alone begins with a blank."""
    pieces = [
        f"{blank}{word}" for word in ("What", "is", "Answer", "15", "12", "7", "19", "+", "=") for blank in ("▁", "")
    ]
    letters = [chr(i) for i in range(33, 127)]
    vocab = dict.fromkeys(["<unk>", "<s>", "</s>", "▁", *pieces, *letters, "\n"])
    made = Tokenizer(models.Unigram([(piece, -float(i)) for i, piece in enumerate(vocab)], unk_id=0))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex("\n"), "isolated"), pre_tokenizers.Metaspace(prepend_scheme="first")]
    )
    made.decoder = decoders.Metaspace(prepend_scheme="first")
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template=SPIECE
    )


def test_an_end_of_turn_without_a_name_ends_replies() -> None:
    tokenizer = unnamed_end()
    renderer = Renderer(tokenizer)
    turn_end, eos = tokenizer.convert_tokens_to_ids(["<turn_end>", "<end>"])
    assert renderer.completion_ids("15")[-1] == turn_end
    assert renderer.end_ids == (turn_end, eos)
    assert renderer.decode(renderer.completion_ids("15")) == "15"
    assert renderer.reserved_mark("What is <turn_end>?") == "<turn_end>"
    check_round_trip(renderer)


def test_the_end_tokens_of_the_generation_settings_end_replies_too(tmp_path: Path) -> None:
    base = save_text_base(tmp_path / "base")
    path = base / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": [4, 1, 3]}))
    assert load_student(str(base), config=StudentConfig(base=str(base), device="cpu")).renderer.end_ids == (4, 1, 3)
    for wrong in ("x", [4, -1], [True], 1e30, [[4]]):
        path.write_text(json.dumps({"eos_token_id": wrong}))
        with pytest.raises(CheckpointError, match=r"ends replies at eos_token_id .*, which is no token"):
            look_over(str(base), with_frames=False, config=StudentConfig(base=str(base)))


def test_a_tokenizer_without_an_end_takes_that_of_the_generation_settings() -> None:
    template = TEMPLATE.replace("{% if m.role == 'assistant' %}<end>{% endif %}", "")
    tokenizer = text_tokenizer(template)
    tokenizer.eos_token = None
    renderer = Renderer(tokenizer, eos_ids=(4,))
    assert renderer.end_ids == (4,) and renderer.completion_ids("15")[-1] == 4
    with pytest.raises(CheckpointError, match="could end"):
        _ = Renderer(tokenizer).end_ids


@pytest.mark.parametrize(
    "make",
    [
        lambda: framing(TEMPLATE, behind="<end>"),
        lambda: framing(TEMPLATE, before="<pad>", behind="<end>"),
        lambda: framing("<pad>" + TEMPLATE, before="<pad>"),
        lambda: text_tokenizer(QWEN3_TEMPLATE),
        lambda: text_tokenizer(DATED),
        lambda: text_tokenizer(WITH_TOOLS),
        lambda: text_tokenizer(ALTERNATING + TEMPLATE),
        lambda: text_tokenizer("\n  " + LLAMA_DATED + "\n"),
        unnamed_end,
        with_dummy_prefix,
    ],
)
def test_prompts_are_those_of_apply_chat_template_token_for_token(
    make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", OneDay)
    tokenizer = make()
    renderer = Renderer(tokenizer)
    for mode in TEXT_MODES:
        messages = [{"role": "user", "content": f"{QUESTION.text} {MODE_SUFFIX[mode]}"}]
        thinks = (
            {"enable_thinking": mode in ("reason", "adaptive")} if "enable_thinking" in tokenizer.chat_template else {}
        )
        wanted = tokenizer.apply_chat_template(messages, add_generation_prompt=True, **thinks)["input_ids"]
        assert list(renderer.encode(QUESTION, (), mode, frame_size_hw=None).prompt_ids) == wanted
        assert wanted[-1] not in renderer.end_ids
    check_prompts(renderer)


def test_a_prompt_without_a_template_begins_as_the_tokenizer_has_it_and_does_not_end() -> None:
    tokenizer = framing(TEMPLATE, before="<pad>", behind="<end>")
    tokenizer.chat_template = None
    ids = Renderer(tokenizer).encode(QUESTION, (), "direct", frame_size_hw=None).prompt_ids
    assert (ids[0], ids[-1] == 4, ids.count(0)) == (0, False, 1)


def test_a_prompt_that_is_not_the_one_of_transformers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    renderer = Renderer(text_tokenizer())
    monkeypatch.setattr(Renderer, "_text_ids", lambda self, text: [*self.tokenizer(text)["input_ids"], 4])
    with pytest.raises(
        CheckpointError, match=r"mode direct: the prompt \[4\] at token .* not the one that transformers"
    ):
        check_round_trip(renderer)


def test_replies_have_the_tokens_that_follow_a_prompt_and_no_lone_blank_of_sentencepiece() -> None:
    tokenizer = with_dummy_prefix()
    renderer = Renderer(tokenizer)
    said = [{"role": "user", "content": f"{QUESTION.text} Answer directly."}, {"role": "assistant", "content": "15"}]
    whole = tokenizer.apply_chat_template(said)["input_ids"]
    prompt = renderer.encode(QUESTION, (), "direct", frame_size_hw=None).prompt_ids
    reply = renderer.completion_ids("15")
    assert whole[: len(prompt)] == list(prompt) and whole[len(prompt) :][: len(reply) - 1] == list(reply[:-1])
    assert tokenizer.convert_ids_to_tokens(list(reply)) == ["▁15", "</s>"]
    assert renderer.completion_starts("15")[0] in (-1, 0) and renderer.decode(reply) == "15"
    check_round_trip(renderer)


def test_the_direct_prompt_turns_thinking_off_by_the_templates_own_switch() -> None:
    renderer = Renderer(text_tokenizer(QWEN3_TEMPLATE))
    shown = {mode: renderer.prompt(QUESTION, (), mode) for mode in TEXT_MODES}
    closed = "<assistant><think>\n\n</think>\n\n"
    assert {mode: text.endswith(closed) for mode, text in shown.items()} == {
        "direct": True, "reason": False, "explain": True, "adaptive": False,
    }  # fmt: skip
    assert renderer.think_style == "written" and renderer.completion_ids("15")[-1] == renderer.end_ids[0]
    assert Renderer(text_tokenizer(QWEN3_TEMPLATE), think_tags="none").prompt(QUESTION, (), "reason").endswith(closed)
    check_round_trip(renderer)


@pytest.mark.parametrize("template", [DATED, LLAMA_DATED])
def test_a_template_is_told_the_same_day_always(template: str) -> None:
    renderer = Renderer(text_tokenizer(template))
    assert "26 Jul 2024" in renderer.prompt(QUESTION, (), "direct") and renderer.date == "2024-07-26"
    later = Renderer(text_tokenizer(template), date="2031-01-02")
    assert "02 Jan 2031" in later.prompt(QUESTION, (), "direct") and later.date == "2031-01-02"
    assert later.template_hash() != renderer.template_hash() and Renderer(text_tokenizer()).date == ""


def test_an_arm_opens_with_the_day_of_its_contract_whatever_the_day_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = save_text_base(tmp_path / "base", template=DATED)
    config = text_config(base, max_steps=1)
    run = text_run(tmp_path / "run", config)
    monkeypatch.setattr("aot.student.model.loading.TEMPLATE_DATE", "2019-03-04")
    train_arm(run, config, config.train.arms[0])
    monkeypatch.undo()
    adapter = run.arm("all")
    assert read_contract(adapter).template_date == "2019-03-04"
    student = load_student(str(base), adapter=adapter, config=config.student)
    assert "04 Mar 2019" in student.renderer.prompt(QUESTION, (), "direct")


def test_a_contract_that_was_stored_without_a_day_still_opens() -> None:
    stored = {
        "arm": "pre", "base": "tiny-text", "base_digest": "d", "template_hash": "t", "num_frames": 4,
        "modes": ["direct"],
        "rationale_weight": 1.0, "seed": 0, "config_digest": "c", "max_answer_tokens": 8, "max_rationale_tokens": 8,
    }  # fmt: skip
    assert Contract.model_validate(stored).template_date == ""


def test_padding_that_the_model_does_not_know_is_replaced(tmp_path: Path) -> None:
    base = save_text_base(tmp_path / "base")
    tokenizer = text_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "<more>"})
    tokenizer.save_pretrained(base)
    student = load_student(str(base), config=StudentConfig(base=str(base), device="cpu"))
    assert student.renderer.tokenizer.pad_token_id == len(tokenizer) - 1 and student.pad_id == 4


PARTS = (
    "{% for m in messages %}{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endfor %}"
)
TOLD = {
    "walks over parts": (PARTS, "leaves the question out"),
    "first line only": (TEMPLATE.replace("m.content", "m.content.split('\n')[0]"), "leaves out or changes a part"),
    "cut": (TEMPLATE.replace("m.content", "m.content[:60]"), "leaves out or changes a part"),
    "escaped": (TEMPLATE.replace("m.content", "m.content|e"), "leaves out or changes a part"),
    "other letters": (TEMPLATE.replace("m.content", "m.content|upper"), "leaves the question out"),
    "other mode": (TEMPLATE.replace("m.content", "m.content|replace('Reason', '')"), "leaves out or changes a part"),
    "wants a system message": (
        "{% if messages[0].role != 'system' %}{{ raise_exception('No system message!') }}{% endif %}" + TEMPLATE,
        "refuses a conversation without a system message",
    ),
    "tokens of another model": (
        TEMPLATE.replace("<end>", "<|im_end|>").replace("<{{ m.role }}>", "<|im_start|>{{ m.role }}\n"),
        "writes '<|im_end|>', which is no token of its tokenizer",
    ),
    "no tokens and no end": (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}<|assistant|>",
        "is no token of its tokenizer",
    ),
    "wants tools": ("{% for one in tools %}{{ one }}{% endfor %}" + TEMPLATE, "cannot be rendered: TypeError"),
    "wants documents": ("{{ documents[0].text }}" + TEMPLATE, "cannot be rendered: UndefinedError"),
    "knows no assistant": (
        "{% for m in messages if m.role not in ['user', 'model'] %}{{ raise_exception('role ' ~ m.role) }}{% endfor %}"
        + TEMPLATE,
        "cannot be rendered: TemplateError: role assistant",
    ),
    "random": (TEMPLATE + "{{ ['a', 'b']|random }}", "draws at random"),
}  # fmt: skip


@pytest.mark.parametrize("name", TOLD)
def test_a_template_that_makes_no_sound_prompt_is_told_before_any_work(name: str, tmp_path: Path) -> None:
    template, told = TOLD[name]
    base = save_text_base(tmp_path / "base", template=template)
    with pytest.raises(CheckpointError) as error:
        look_over(str(base), with_frames=False, config=StudentConfig(base=str(base)))
    assert told in str(error.value) and "\n" not in str(error.value), str(error.value)


def test_a_template_that_loops_is_ended_in_any_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import ThreadPoolExecutor

    monkeypatch.setattr(templates, "RENDER_LIMIT_S", 0.3)
    endless = "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}"
    said = [{"role": "user", "content": "x"}]
    with ThreadPoolExecutor(1) as pool, pytest.raises(CheckpointError, match=r"takes longer than 0\.3 s"):
        pool.submit(templates.render_chat, text_tokenizer(endless), said, prompt=True).result()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(templates.render_chat, text_tokenizer(), said, prompt=True).result() == "<user>x<assistant>"


def test_of_several_threads_only_those_whose_template_loops_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import ThreadPoolExecutor

    monkeypatch.setattr(templates, "RENDER_LIMIT_S", 2.0)
    endless = "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}"
    said = [{"role": "user", "content": "x"}]
    tokenizers = [text_tokenizer(*[endless][: i % 2]) for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        made = [pool.submit(templates.render_chat, one, said, prompt=True) for one in tokenizers]
        assert [made[i].result() for i in (0, 2)] == ["<user>x<assistant>"] * 2
        assert all("takes longer than 2 s" in str(made[i].exception()) for i in (1, 3))
