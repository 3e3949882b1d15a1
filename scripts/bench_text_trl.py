"""The trl side of bench_text_train.py: prints supervised tokens a second of its SFTTrainer as JSON.

Command: PYTHON scripts/bench_text_trl.py BASE ROWS VARIANT STEPS, called by bench_text_train.py with the python of an
environment that holds trl. VARIANT is `defaults` or `same` (our batch size and precision). Imports nothing of ours.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

WARM_UP = 5
VARIANTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "same": {"per_device_train_batch_size": 16, "gradient_checkpointing": False, "bf16": False},
}


def main(base: str, rows: str, variant: str, steps: int) -> None:
    """Train for a few steps and print the median rate of those after the first ones."""
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
                output_dir=folder, max_steps=steps + WARM_UP, learning_rate=2e-3, save_strategy="no",
                report_to="none", disable_tqdm=True, use_cpu=True, **VARIANTS[variant],
            ),
            train_dataset=data,
            processing_class=AutoTokenizer.from_pretrained(base),
            peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"),
        )  # fmt: skip
        watch = Watch()
        collate = trainer.data_collator

        def counting(examples: list[Any]) -> Any:  # noqa: ANN401
            batch = collate(examples)
            watch.tokens = int((batch["labels"] != -100).sum())
            return batch

        trainer.data_collator = counting
        trainer.add_callback(watch)
        trainer.train()
    print(json.dumps({"tokens_per_s": statistics.median(watch.rates[WARM_UP:])}))


class Watch(TrainerCallback):
    """Times each step; the batch of a step is made right before it."""

    def __init__(self) -> None:
        self.tokens = 0
        self.rates: list[float] = []
        self._started = 0.0

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Start the clock."""
        self._started = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Note the rate of the step that ends."""
        now = time.perf_counter()
        self.rates.append(self.tokens / (now - self._started))
        self._started = now


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
