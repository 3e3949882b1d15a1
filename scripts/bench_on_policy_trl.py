"""The trl side of bench_on_policy.py: steps of its DistillationTrainer over given replies, or over its own.

Command: PYTHON scripts/bench_on_policy_trl.py BASE ROWS WHO BATCH STEPS THREADS MAX_TOKENS, called by
bench_on_policy.py with the python of an environment that holds trl. WHO is `given` (the replies of ROWS, so that both
sides judge and learn the same tokens) or `own` (it writes them itself). Teacher is BASE, which is shown no evidence:
this trainer has one prompt for both. Prints a line of JSON for each step. Imports nothing of ours.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DistillationConfig, DistillationTrainer


class GivenReplies(DistillationTrainer):
    """Learns from replies that somebody else wrote, in their order."""

    replies: list[list[int]]

    def _generate_single_turn(self, prompt_ids: list[list[int]], *others: Any, **more: Any) -> list[list[int]]:  # noqa: ANN401
        now, self.replies = self.replies[: len(prompt_ids)], self.replies[len(prompt_ids) :]
        return now


class Steps(TrainerCallback):
    """Prints what each step took."""

    def __init__(self, tokens: list[int]) -> None:
        self._tokens = tokens
        self._started = (time.perf_counter(), time.process_time())

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Tell of the step that ends."""
        now = (time.perf_counter(), time.process_time())
        took = [b - a for a, b in zip(self._started, now, strict=True)]
        print(json.dumps({"seconds": took[0], "cpu_s": took[1], "tokens": self._tokens[-1]}), flush=True)
        self._started = (time.perf_counter(), time.process_time())


def main(base: str, rows: str, who: str, batch: int, steps: int, max_tokens: int) -> None:
    """Take so many steps."""
    given = json.loads(Path(rows).read_text(encoding="utf-8"))
    data = Dataset.from_list([{"prompt": [{"role": "user", "content": row["prompt"]}]} for row in given])
    trainer_class = GivenReplies if who == "given" else DistillationTrainer
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_class(
            model=AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
            teacher_model=AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
            args=DistillationConfig(
                output_dir=folder, max_steps=steps, learning_rate=5e-4, save_strategy="no", report_to="none",
                disable_tqdm=True, use_cpu=True, per_device_train_batch_size=batch, bf16=False,
                gradient_checkpointing=False, shuffle_dataset=False, max_completion_length=max_tokens,
            ),
            train_dataset=data,
            processing_class=AutoTokenizer.from_pretrained(base, padding_side="left"),
            peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"),
        )  # fmt: skip
        if who == "given":
            trainer.replies = [row["ids"] for row in given]
        tokens: list[int] = []
        score = trainer._generate_and_score_completions

        def counting(inputs: Any) -> Any:  # noqa: ANN401
            made = score(inputs)
            tokens.append(int(made["completion_mask"].sum()))
            return made

        trainer._generate_and_score_completions = counting
        trainer.add_callback(Steps(tokens))
        trainer.train()


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[6]))
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), int(sys.argv[7]))
