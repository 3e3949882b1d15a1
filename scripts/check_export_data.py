"""Trains one step of TRL's SFTTrainer on exported data sets, as they lie, and says what it read.

    python scripts/check_export_data.py exports/maths-data exports/kitchen-data

Runs in an environment of its own with `datasets`, `trl`, `transformers`, `pillow` and torch; of this project only the
embedded students and their folders are used, by path. No network. Prints one line for each configuration that has
lessons or traces, and ends with 1 where one could not be trained on.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
STUDENTS = Path(__file__).resolve().parents[1] / "aot" / "student" / "tiny"


def main() -> int:
    """Try every folder; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--rows", type=int, default=8, help="rows of each configuration")
    given = parser.parse_args()
    import datasets
    import transformers
    import trl

    datasets.disable_progress_bars()
    print(f"trl {trl.__version__}, transformers {transformers.__version__}, datasets {datasets.__version__}")
    failed = 0
    for folder in [folder.resolve() for folder in given.folders]:
        os.chdir(folder)  # paths of pictures are relative to the folder
        info = json.loads(Path("dataset_info.json").read_text(encoding="utf-8"))
        for name in datasets.get_dataset_config_names(str(Path.cwd())):
            try:
                print(f"{folder.name}/{name}: {_tried(name, info, rows=given.rows)}")
            except Exception as error:  # noqa: BLE001 - whatever is wrong is what is to be told
                failed += 1
                print(f"{folder.name}/{name}: FAILED: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
    return 1 if failed else 0


def _tried(name: str, info: dict[str, Any], *, rows: int) -> str:
    """What came of one configuration, in words."""
    import datasets

    with tempfile.TemporaryDirectory() as scratch:
        whole = datasets.load_dataset(str(Path.cwd()), name, cache_dir=scratch)
        split = next(iter(whole))
        part = whole[split].select(range(min(rows, len(whole[split]))))
        if not {"messages", "completion"} & set(part.column_names):
            return f"{len(whole[split])} questions of {split}, nothing to train on"
        loss = _step(part, Path(scratch))
        step = f"one step on {len(part)} of them: loss {loss:.3f}"
        return f"{len(whole[split])} rows load, {step}; {_factory(part, info[name])}"


def _step(part: Any, scratch: Path) -> float:  # noqa: ANN401 - a Dataset
    """The loss of one step of SFTTrainer on rows as they are."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    shows = "images" in part.column_names
    base = STUDENTS / ("video" if shows else "text")
    model = (AutoModelForImageTextToText if shows else AutoModelForCausalLM).from_pretrained(base)
    processing = (AutoProcessor if shows else AutoTokenizer).from_pretrained(base)
    arguments = SFTConfig(
        output_dir=str(scratch / "out"), max_steps=1, per_device_train_batch_size=len(part), learning_rate=1e-4,
        report_to="none", save_strategy="no", max_length=None, use_cpu=True, disable_tqdm=True, bf16=False,
    )  # fmt: skip
    trainer = SFTTrainer(model=model, args=arguments, train_dataset=part, processing_class=processing)
    return float(trainer.train().training_loss)


def _factory(part: Any, entry: dict[str, Any]) -> str:  # noqa: ANN401
    """Whether rows have the form that LLaMA-Factory's converter of ShareGPT rows wants, after its entry."""
    columns, tags = entry["columns"], entry["tags"]
    for row in part:
        said = [turn[tags["role_tag"]] for turn in row[columns["messages"]]]
        if said != [tags["user_tag"], tags["assistant_tag"]]:
            raise ValueError(f"the turns of {row['question_id']} are of {said}")
        if "images" in columns:
            marks = sum(turn[tags["content_tag"]].count("<image>") for turn in row[columns["messages"]])
            missing = [path for path in row["images"] if not Path(path).is_file()]
            if marks != len(row["images"]) or missing:
                raise ValueError(
                    f"{row['question_id']}: {marks} marks, {len(row['images'])} pictures, missing {missing}"
                )
    return "dataset_info.json fits"


if __name__ == "__main__":
    sys.exit(main())
