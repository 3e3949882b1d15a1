"""Every model type of this matrix answers as transformers does, is taught and comes back, or is refused by name."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import save_base
from peft import PeftModel
from text_kit import lessons_of, sums, text_config, text_run
from transformers import AutoModelForCausalLM

from aot.config import LoraSection, RunConfig, StudentConfig, parse_config
from aot.errors import CheckpointError, ConfigError, GuardStop
from aot.files.run_folder import ARM_MARKER, RunFolder
from aot.records import Question
from aot.student.answer.decoding import Prompt, write_replies
from aot.student.answer.predict import predict
from aot.student.answer.sampling import BatchSampling
from aot.student.model.caches import Habits
from aot.student.model.loading import Student, load_student, look_over, stored_state
from aot.student.model.lora import add_lora, size_of, unfreeze
from aot.student.model.preflight import preflight
from aot.student.rows.collate import Collator
from aot.student.rows.examples import make_examples
from aot.student.rows.packing import EncodedRow
from aot.student.rows.replies import thought_ids
from aot.student.rows.tokens import Renderer
from aot.student.train import trainer
from aot.student.train.arm import train_arm
from aot.student.train.session import open_session, padded_because

ATTENTION = (
    "apertus", "bloom", "cohere", "falcon", "gemma", "glm4", "gpt2", "gpt_bigcode", "gpt_neox", "gptj", "granite",
    "llama", "modernbert-decoder", "mpt", "olmo2", "opt", "phi", "phi3", "qwen2", "qwen3", "smollm3", "stablelm",
)  # fmt: skip
WINDOWS = ("cohere2", "gemma2", "gemma3_text", "gpt_neo", "gpt_oss", "mistral", "starcoder2")
EXPERTS = ("deepseek_v3", "mixtral", "olmoe", "qwen2_moe", "qwen3_moe")
HYBRIDS = (
    "bamba", "falcon_h1", "granitemoehybrid", "jamba", "lfm2", "minimax", "nemotron_h", "olmo_hybrid", "qwen3_5_text",
    "qwen3_next", "recurrent_gemma", "zamba2",
)  # fmt: skip
RECURRENT = ("falcon_mamba", "mamba", "mamba2", "xlstm")
MATRIX = (*ATTENTION, *WINDOWS, *EXPERTS, *HYBRIDS, *RECURRENT)
RENAMED = ("granitemoehybrid", "gpt_neox", "jamba", "mixtral", "nemotron_h", "qwen3_moe", "qwen3_next")
"""Some of those whose weights transformers writes under other names than those in memory."""
BOTH_WAYS, KEEPS_NOTHING = "reads a text in both directions", "keeps nothing of what it has read"
REFUSED = {"bert": BOTH_WAYS, "electra": BOTH_WAYS, "openai-gpt": KEEPS_NOTHING, "rwkv": KEEPS_NOTHING}
LENGTH = 12


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    """Models this small are slower on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def opened(base: Path, adapter: Path | None = None) -> Student:
    few: dict[str, Any] = {"max_answer_tokens": LENGTH, "max_rationale_tokens": LENGTH}  # random ones seldom end
    return load_student(str(base), adapter=adapter, config=StudentConfig(base=str(base), device="cpu", **few))


def asked() -> list[Question]:
    """Questions of three lengths, two of each."""
    return [q.model_copy(update={"text": " ".join([q.text] * (1 + i % 3))}) for i, q in enumerate(sums(6))]


def prompts_of(
    student: Student, mode: Any = "reason", questions: Sequence[Question] | None = None
) -> list[tuple[int, ...]]:
    questions = asked() if questions is None else questions
    return [student.renderer.encode(q, (), mode, frame_size_hw=None).prompt_ids for q in questions]


def bare_replies(student: Student, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Greedy replies of transformers, to one prompt at a time, of full length."""
    student.model.generation_config.eos_token_id = None
    settings: dict[str, Any] = {"max_new_tokens": LENGTH, "do_sample": False, "pad_token_id": 0}
    rows = [torch.tensor([prompt]) for prompt in prompts]
    outputs = [student.model.generate(row, attention_mask=torch.ones_like(row), **settings) for row in rows]
    return [output[0, row.shape[1] :].tolist() for output, row in zip(outputs, rows, strict=True)]


def staggered(replies: list[list[int]]) -> tuple[int, list[list[int]]]:
    """The token as whose end most replies have lengths of their own, and the replies up to it."""

    def cut(reply: list[int], end: int) -> list[int]:
        return reply[: reply.index(end) + 1] if end in reply else reply

    ends = {token for reply in replies for token in reply}
    end = max(sorted(ends), key=lambda token: len({len(cut(reply, token)) for reply in replies}))
    return end, [cut(reply, end) for reply in replies]


def alone(model: Any, prompt: Sequence[int], completion: Sequence[int]) -> torch.Tensor:
    """Log-probability of each token of a completion, in a row of its own, without cache and padding."""
    ids = torch.tensor([[*prompt, *completion]])
    with torch.inference_mode():
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0]
    picked = logits[len(prompt) - 1 : -1].log_softmax(-1)
    return picked[torch.arange(len(completion)), torch.tensor(list(completion))]


def assert_replies(student: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    end, wanted = staggered(bare_replies(student, prompts_of(student)))
    prompts = [Prompt(ids) for ids in prompts_of(student)]
    with monkeypatch.context() as patch:
        patch.setattr(Renderer, "end_ids", (end,))
        assert len({len(reply) for reply in wanted}) > 1
        assert write_replies(student, prompts, max_tokens=LENGTH) == wanted
        # So cold that what is drawn is the likeliest.
        cold = BatchSampling(samples=2, temperature=1e-6, seed=1)
        assert write_replies(student, prompts, max_tokens=LENGTH, sampling=cold) == [
            r for r in wanted for _ in range(2)
        ]
    warm = BatchSampling(samples=3, temperature=1.0, seed=1)
    assert write_replies(student, prompts, max_tokens=4, sampling=warm) == write_replies(
        student, prompts, max_tokens=4, sampling=warm
    )


def assert_likelihoods(student: Student) -> None:
    """Choices, and the first line of an adaptive reply, have the probabilities that they have alone."""
    texts = ("7", "1 2 3", "Answer: 5")
    questions = [q.model_copy(update={"choices": texts, "answer_type": "choice", "answer": "7"}) for q in asked()]
    made = list(predict(student, questions, arm="x", mode="likelihood", batch_size=6))
    for prompt, one in zip(prompts_of(student, "direct", questions), made, strict=True):
        sums_of = [alone(student.model, prompt, student.renderer.completion_ids(text)).sum() for text in texts]
        assert one.choice_probs == pytest.approx(torch.stack(sums_of).softmax(0).tolist(), abs=1e-4)
    first_lines = list(predict(student, asked(), arm="x", mode="adaptive", batch_size=6))
    for prompt, one in zip(prompts_of(student, "adaptive"), first_lines, strict=True):
        sums_of = [alone(student.model, prompt, line).sum() for line in thought_ids(student.renderer)]
        assert one.thought_probs == pytest.approx(torch.stack(sums_of).softmax(0).tolist(), abs=1e-4)


def one_step(root: Path, base: Path, **arm: Any) -> tuple[RunFolder, RunConfig]:
    """A run of two lessons of two questions, of one step."""
    own = {"max_steps": 1, "learning_rate": 0.05, **arm}
    config = text_config(base, arm=own, save_steps=1, warmup_steps=0, questions_per_step=4, questions_per_device=4)
    lessons = [lesson for question in sums(2) for lesson in lessons_of(question)[:2]]
    return text_run(root, config, lessons=lessons), config


def assert_packed(run: RunFolder, config: RunConfig) -> None:
    """Supervised tokens have the log-probabilities of single rows in the batch of training, packed or padded."""
    session = open_session(run, config, config.train.arms[0])
    student, model = session.student, session.adapted.model.eval()
    lessons = [lesson for question in sums(2) for lesson in lessons_of(question)]
    questions = {q.id: q for q in sums(2)}
    examples = make_examples(lessons, questions=questions, renderer=student.renderer, max_tokens=300).examples
    batch = Collator(student.renderer, student.pad_id, session.pack_tokens > 0, session.pack_tokens)(examples)
    assert bool(padded_because(session)) == ("position_ids" not in batch)
    own = {key: batch[key] for key in ("input_ids", "attention_mask", "position_ids") if key in batch}
    with torch.inference_mode():
        log_probs = model(**own, use_cache=False).logits[:, :-1].log_softmax(-1)
    targets = batch["labels"][:, 1:]
    together = log_probs.gather(-1, targets.clamp(min=0)[..., None])[..., 0][targets != -100]
    rows = [row for example in examples for row in example.rows]
    singles = torch.cat([alone(model, row.prompt_ids, row.completion_ids) for row in rows])
    torch.testing.assert_close(together.sort().values, singles.sort().values, rtol=1e-3, atol=1e-4)


def row_of(student: Student) -> EncodedRow:
    return EncodedRow(prompts_of(student)[0], student.renderer.completion_ids("1 + 2 = 3"))


@pytest.mark.parametrize("model_type", MATRIX)
def test_a_model_type_answers_as_transformers_does_and_is_taught(
    model_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = save_base(tmp_path / "base", model_type)
    look_over(str(base), with_frames=False, config=StudentConfig(base=str(base)), lora=LoraSection())
    student = opened(base)
    assert_replies(student, monkeypatch)
    assert_likelihoods(student)
    run, config = one_step(tmp_path / "run", base)
    assert_packed(run, config)
    train_arm(run, config, config.train.arms[0])
    bare = AutoModelForCausalLM.from_pretrained(base)
    row = row_of(student)
    before = alone(bare, row.prompt_ids, row.completion_ids)
    plain = alone(PeftModel.from_pretrained(bare, str(run.arm("all"))).eval(), row.prompt_ids, row.completion_ids)
    after = alone(opened(base, run.arm("all")).model, row.prompt_ids, row.completion_ids)
    torch.testing.assert_close(after, plain, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(after, before, atol=1e-3)


@pytest.mark.parametrize("model_type", RENAMED)
def test_a_whole_model_comes_back_though_its_weights_are_renamed_in_files(model_type: str, tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", model_type)
    run, config = one_step(tmp_path / "run", base, tuning="full", max_steps=2)
    train_arm(run, config, config.train.arms[0])
    folder = run.arm("all")
    published = (folder / "model.safetensors").read_bytes()
    student = opened(base, folder)
    row = row_of(student)
    after, before = (alone(model, row.prompt_ids, row.completion_ids) for model in (student.model, opened(base).model))
    assert not torch.allclose(after, before, atol=1e-3)
    # Killed after its first step, it goes on from there, and not from the base.
    for path in (folder / ARM_MARKER, folder / "checkpoints" / "checkpoint-2"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    train_arm(run, config, config.train.arms[0])
    assert (folder / "model.safetensors").read_bytes() == published


@pytest.mark.parametrize(
    ("model_type", "limit"),
    [
        *((one, "max_position_embeddings") for one in ("bart", "gpt2", "gptj", "llama", "opt")),
        ("mpt", "max_seq_len"),
    ],
)
def test_what_is_longer_than_the_context_of_a_model_is_refused_and_counted(
    model_type: str, limit: str, tmp_path: Path
) -> None:
    prompts = [len(prompt) for prompt in prompts_of(opened(save_base(tmp_path / "long", model_type)))]
    most = sorted(prompts)[2]  # of the three lengths the shortest fits with some room
    base = save_base(tmp_path / "base", model_type, **{limit: most})
    assert look_over(str(base), with_frames=False, config=StudentConfig(base=str(base))).context == most
    student = opened(base)
    for mode in ("reason", "direct", "adaptive"):
        made = list(predict(student, asked(), arm="x", mode=mode, batch_size=4))
        given = max(map(len, thought_ids(student.renderer))) if mode == "adaptive" else 0
        fits = [len(prompt) + given <= most for prompt in prompts_of(student, mode)]
        assert [not one.error for one in made] == fits and not all(fits)
        assert all(f"the model knows {most} positions" in one.error for one in made if one.error)
    choices = ("7", "1 2 3 + " * 20)
    questions = [q.model_copy(update={"choices": choices, "answer_type": "choice", "answer": "7"}) for q in asked()]
    made = list(predict(student, questions, arm="x", mode="likelihood", batch_size=4))
    assert {"are put behind it" in one.error for one in made} == {True}
    run, config = one_step(tmp_path / "run", base)
    with pytest.raises(GuardStop, match=rf"'row_too_long': 2.* may have {most} tokens, which is all that the model"):
        open_session(run, config, config.train.arms[0])


@pytest.mark.parametrize("model_type", REFUSED)
def test_a_model_type_that_cannot_write_is_refused_by_name_before_any_work(model_type: str, tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", model_type)
    with pytest.raises(CheckpointError, match=f"model type {model_type} {REFUSED[model_type]}"):
        look_over(str(base), with_frames=False, config=StudentConfig(base=str(base)))


def test_adapters_fit_the_turned_layers_of_gpt2(tmp_path: Path) -> None:
    student = opened(save_base(tmp_path / "base", "gpt2"))
    adapted = add_lora(student.model, LoraSection())
    assert {name.rpartition(".")[2] for name in adapted.matched} == {"c_attn", "c_fc", "c_proj"}
    assert adapted.model.peft_config["default"].fan_in_fan_out
    assert all("lora" in name for name, parameter in adapted.model.named_parameters() if parameter.requires_grad)


@pytest.mark.parametrize("model_type", ["falcon_h1", "granitemoehybrid", "jamba", "mamba"])
def test_by_default_no_adapter_stands_where_a_fused_kernel_would_read_past_it(model_type: str, tmp_path: Path) -> None:
    model = opened(save_base(tmp_path / "base", model_type)).model
    mixers = [name for name, module in model.named_modules() if hasattr(module, "A_log")]
    matched = add_lora(model, LoraSection()).matched
    inside = {name.rpartition(".")[2] for name in matched if name.rpartition(".")[0] in mixers}
    assert mixers and inside == {"in_proj"}


def test_a_target_that_takes_no_adapter_is_told_before_any_work(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "falcon_h1")
    lora = LoraSection(target_pattern=r"^model\..*\.(in_proj|out_proj)$")
    with pytest.raises(ConfigError, match=r"target_pattern .* takes no adapter .*'out_proj' is incompatible"):
        look_over(str(base), with_frames=False, config=StudentConfig(base=str(base)), lora=lora)
    with pytest.raises(ConfigError, match="matches no linear layer"):
        look_over(
            str(base), with_frames=False, config=StudentConfig(base=str(base)), lora=LoraSection(target_pattern="no")
        )


@pytest.mark.slow
def test_a_run_whose_base_takes_no_such_adapter_or_cannot_write_is_refused_before_prepare(tmp_path: Path) -> None:
    for model_type, pattern, told in (("mamba", r".*\.out_proj", "takes no adapter"), ("bert", "", BOTH_WAYS)):
        base = save_base(tmp_path / model_type, model_type)
        raw = {"data": {"dataset": "toy_math"}, "teacher": {"planner": "procedural"}, "student": {"base": str(base)},
               "train": {"arms": [{"name": "pre", "order": "pre"}], "lora": {"target_pattern": pattern}}}  # fmt: skip
        config = parse_config(raw, source="test")
        with pytest.raises(CheckpointError, match=told):
            preflight(config.student, config.train, with_frames=False)


@pytest.mark.parametrize("model_type", ["gpt_neox", "lfm2", "modernbert-decoder"])
def test_full_tuning_trains_every_weight_of_a_text_model(model_type: str, tmp_path: Path) -> None:
    model = opened(save_base(tmp_path / "base", model_type)).model
    assert unfreeze(model).num_trainable == size_of(model)


def test_what_a_model_does_not_bear_is_found_out(tmp_path: Path) -> None:
    habits = {
        model_type: opened(save_base(tmp_path / model_type, model_type)).habits
        for model_type in ("bart", "jamba", "lfm2", "recurrent_gemma")
    }
    assert habits["lfm2"] == Habits(bears_padding=True, gives_rows=True, takes_spans=True, bears_gaps=False)
    assert not habits["bart"].bears_padding  # it counts positions from the first column
    assert not habits["jamba"].takes_spans
    assert not habits["recurrent_gemma"].gives_rows  # its layers hold their states themselves


def test_shorter_numbers_do_not_make_a_model_seem_to_bear_less(tmp_path: Path) -> None:
    for model_type in ("granitemoehybrid", "jamba", "llama", "mamba"):
        base = str(save_base(tmp_path / model_type, model_type))
        exact, short = (
            load_student(base, config=StudentConfig(base=base, device="cpu", dtype=dtype)).habits
            for dtype in ("float32", "bfloat16")
        )
        assert short == exact


def test_a_model_that_looks_ahead_is_refused_when_it_is_asked(tmp_path: Path) -> None:
    student = opened(save_base(tmp_path / "base", "bert"))
    with pytest.raises(CheckpointError, match="model type bert lets a token see those after it"):
        write_replies(student, [Prompt(ids) for ids in prompts_of(student)], max_tokens=2)
    run, config = one_step(tmp_path / "run", tmp_path / "base")
    with pytest.raises(CheckpointError, match="model type bert"):
        train_arm(run, config, config.train.arms[0])
    assert not (run.arm("all") / "checkpoints").exists()


def test_a_whole_model_that_opens_as_another_one_is_not_taken_for_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = save_base(tmp_path / "base", "mixtral")
    run, config = one_step(tmp_path / "run", base, tuning="full")

    def damaged(folder: Path, **how: Any) -> dict[str, torch.Tensor]:
        state = stored_state(folder, **how)
        return {**state, "model.norm.weight": state["model.norm.weight"] + 1}

    monkeypatch.setattr(trainer, "stored_state", damaged)
    with pytest.raises(CheckpointError, match=r"1 tensors differ from memory after saving, first model.norm.weight"):
        train_arm(run, config, config.train.arms[0])


def test_the_docs_name_every_model_type_of_the_matrix() -> None:
    text = (Path(__file__).parents[2] / "docs" / "students.md").read_text()
    assert [name for name in (*MATRIX, *REFUSED) if not re.search(rf"\b{name}\b", text)] == []
    table = text[text.index("| kind | model types |") :].partition("\n\n")[0].splitlines()
    listed = {name.strip() for line in table for name in line.split("|")[2].split(",")}
    assert listed - {"model types", "---"} == set(MATRIX)
