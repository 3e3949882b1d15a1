"""The trl side of bench_text_train.py: takes a step of its SFTTrainer for each line that it reads, and tells its time.

Command: PYTHON scripts/bench_text_trl.py BASE ROWS VARIANT BATCH STEPS THREADS, called by bench_text_train.py with the
python of an environment that holds trl. VARIANT is `defaults` or `same` (our precision, nothing recomputed); the batch
and the order of the rows are ours in both. Imports nothing of ours.
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
from transformers import AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

VARIANTS: dict[str, dict[str, Any]] = {"defaults": {}, "same": {"gradient_checkpointing": False, "bf16": False}}


def main(base: str, rows: str, variant: str, batch: int, steps: int) -> None:
    """Train for so many steps, each when it is asked for."""
    data = Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": row["prompt"]}],
                "completion": [{"role": "assistant", "content": row["completion"]}],
            }
            for row in json.loads(Path(rows).read_text(encoding="utf-8"))
        ]
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=base,
            args=SFTConfig(
                output_dir=folder, max_steps=steps, learning_rate=2e-3, save_strategy="no", report_to="none",
                disable_tqdm=True, use_cpu=True, per_device_train_batch_size=batch,
                train_sampling_strategy="sequential", **VARIANTS[variant],
            ),
            train_dataset=data,
            processing_class=AutoTokenizer.from_pretrained(base),
            peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"),
        )  # fmt: skip
        turns = Turns()
        collate = trainer.data_collator

        def counting(examples: list[Any]) -> Any:  # noqa: ANN401
            made = collate(examples)
            turns.tokens.append(int((made["labels"] != -100).sum()))
            return made

        trainer.data_collator = counting
        trainer.add_callback(turns)
        trainer.train()


class Turns(TrainerCallback):
    """Waits for a line before each step, and prints what the step took."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        """Supervised ones of each batch, which are made before their step."""
        self._steps, self._started_s, self._started_cpu_s = 0, 0.0, 0.0

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Wait for the first turn."""
        self._wait()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Tell of the step that ends, and wait for the next turn."""
        took = {"seconds": time.perf_counter() - self._started_s, "cpu_s": time.process_time() - self._started_cpu_s}
        print(json.dumps({**took, "tokens": self.tokens[self._steps]}), flush=True)
        self._steps += 1
        self._wait()

    def _wait(self) -> None:
        sys.stdin.readline()
        self._started_s, self._started_cpu_s = time.perf_counter(), time.process_time()


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[6]))
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
