"""The run folder: the only module that knows file names.

Promises: a published file appears whole or not at all (write, fsync, rename in the same folder); an append-only file
may lose its half-written last line, which is cut off on the next open; there are no lock files, because each file has
one writer, and each folder one command at a time (aot.files.lease). A run folder refuses another config than its own.
"""

import json
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from aot.config import RunConfig, TextRun, VideoRun, load_saved
from aot.errors import AotError, GuardStop, RunError, SourceError, first_problem
from aot.files.disk import DISK_FULL, cut_half_line, whole_file
from aot.files.jsonl import read_json
from aot.files.lease import check_lease

log = logging.getLogger(__name__)
Row = TypeVar("Row", bound=BaseModel)


@dataclass(frozen=True)
class RunFolder:
    """Names of everything in a run folder."""

    root: Path

    @property
    def config(self) -> Path:
        """Resolved config, saved before any work."""
        return self.root / "config.yaml"

    @property
    def run_json(self) -> Path:
        """Command, revision, versions, seeds, hardware and stage states."""
        return self.root / "run.json"

    @property
    def lease(self) -> Path:
        """Who works on this folder now (aot.files.lease); gone when nobody does."""
        return self.root / "lease.json"

    @property
    def log(self) -> Path:
        """What was logged, appended over all commands on this run."""
        return self.root / "log.txt"

    @property
    def clips(self) -> Path:
        """Drawn clips, when the data set draws its own."""
        return self.root / "clips"

    @property
    def questions(self) -> Path:
        """Every question of every split, as Question rows."""
        return self.root / "questions.jsonl"

    @property
    def annotations(self) -> Path:
        """ClipAnnotation rows; may be empty."""
        return self.root / "annotations.jsonl"

    @property
    def book(self) -> Path:
        """RecipeCard rows: the recipe book that cards are looked up in; absent where a run has none."""
        return self.root / "book.jsonl"

    @property
    def rationales(self) -> Path:
        """GivenRationale rows: worked solutions that came with a text data set."""
        return self.root / "rationales.jsonl"

    @property
    def frames(self) -> Path:
        """Folder of frame shards with index.jsonl."""
        return self.root / "frames"

    @property
    def vision_features(self) -> Path:
        """Folder of what frozen vision towers made of stored frames, one folder for each tower."""
        return self.root / "vision_features"

    @property
    def refusals(self) -> Path:
        """Refusal rows of the prepare stage."""
        return self.root / "refusals.jsonl"

    @property
    def traces(self) -> Path:
        """Folder of trace parts, one for each writer."""
        return self.root / "traces"

    @property
    def attempts(self) -> Path:
        """Folder of parts with the candidates that did not verify; a killed run may hold one of them twice."""
        return self.root / "attempts"

    @property
    def faults(self) -> Path:
        """Folder of planted-fault parts; only the funnel's last column reads it."""
        return self.root / "faults"

    @property
    def tool_cache(self) -> Path:
        """Folder of cached tool results, one file for each worker."""
        return self.root / "tool_cache"

    @property
    def chat_replies(self) -> Path:
        """Folder of cached replies of chat models, one file for each writer."""
        return self.root / "chat_replies"

    @property
    def chat_spend(self) -> Path:
        """Folder of what each paid call of a chat model cost, one file for each writer."""
        return self.root / "chat_spend"

    def shards_of(self, stage: str) -> Path:
        """Folder of the states of the shards of a stage, three files for each."""
        return self.root / "shards" / stage

    @property
    def jobs(self) -> Path:
        """Folder of the states of training jobs that ran alone, three files for each."""
        return self.root / "jobs"

    @property
    def kept(self) -> Path:
        """Traces that passed every filter, without wall times."""
        return self.root / "kept.jsonl"

    @property
    def dropped(self) -> Path:
        """Traces that failed a filter, without wall times."""
        return self.root / "dropped.jsonl"

    @property
    def verdicts(self) -> Path:
        """The ledger: every verdict on every trace."""
        return self.root / "verdicts.jsonl"

    @property
    def funnel(self) -> Path:
        """Counts by reason, and precision and recall over planted faults."""
        return self.root / "funnel.json"

    @property
    def teacher_stats(self) -> Path:
        """Yield (pass@1, pass@k), seconds for each kept trace, accuracy of each tool."""
        return self.root / "teacher.json"

    @property
    def metrics(self) -> Path:
        """A list of MetricRow."""
        return self.root / "metrics.json"

    @property
    def predictions(self) -> Path:
        """Folder of Prediction rows, one file for each arm and mode."""
        return self.root / "predictions"

    @property
    def prediction_parts(self) -> Path:
        """Folder of predictions as they come, one part for each writer; gone once they are put together."""
        return self.predictions / "parts"

    @property
    def student_traces(self) -> Path:
        """Folder of traces of students that call tools: parts as they come, then one file for each name they have."""
        return self.root / "student_traces"

    @property
    def cascade_results(self) -> Path:
        """What a cascade of an arm and the teacher would have done; `aot calibrate` writes it."""
        return self.root / "cascade.json"

    @property
    def faithfulness(self) -> Path:
        """What came of `aot faithfulness`; FaithfulReply parts lie beside it."""
        return self.root / "faithfulness" / "faithfulness.json"

    @property
    def calibration(self) -> Path:
        """A ServedCalibration: what the confidence of one arm means, and what is promised at which threshold."""
        return self.root / "calibration.json"

    @property
    def calibrating(self) -> "RunFolder":
        """Questions of its own that the calibration rests on, laid out like a run."""
        return RunFolder(self.root / "calibrating")

    @property
    def reviews(self) -> Path:
        """Folder of ReviewRow parts, one for each process that noted what people say of traces and answers."""
        return self.root / "reviews"

    @property
    def pending(self) -> Path:
        """Folder of PendingRow parts, one for each server: requests whose answers wait for a person."""
        return self.root / "pending"

    @property
    def pending_pictures(self) -> Path:
        """Frames of these requests, as JPEG."""
        return self.pending / "pictures"

    @property
    def report(self) -> Path:
        """The self-contained report."""
        return self.root / "report.html"

    @property
    def model_card(self) -> Path:
        """Card of the distilled student."""
        return self.root / "MODEL_CARD.md"

    @property
    def stop(self) -> Path:
        """Who puts or touches this file has running trainings save and stop."""
        return self.root / "STOP"

    @property
    def done(self) -> Path:
        """Written last, when every stage is done."""
        return self.root / "DONE"

    def arm(self, name: str) -> Path:
        """Folder of one trained student."""
        return self.root / "student" / name

    @property
    def routed(self) -> Path:
        """Of a cascade's folder: CascadeRow parts, one for each process."""
        return self.root / "routed"

    @property
    def factory_info(self) -> Path:
        """Of an exported data set: what LLaMA-Factory needs to know of it."""
        return self.root / "dataset_info.json"

    def void(self, mode: str) -> Path:
        """Of a cascade's folder: since when the promise of a mode is void."""
        return self.root / f"void-{mode}.json"

    def predictions_of(self, arm: str, mode: str) -> Path:
        """Prediction rows of one arm in one mode."""
        return self.predictions / f"{arm}-{mode}.jsonl"

    def student_traces_of(self, arm: str) -> Path:
        """Traces of one arm that called tools, beside its predictions."""
        return self.student_traces / f"{arm}.jsonl"

    def server_proofs(self, writer: str) -> Path:
        """ServerProofs of the models that one process of the evaluation asked behind a server."""
        return self.predictions / f"server-{writer}.json"


PUBLISHED: dict[str, tuple[str, ...]] = {
    "prepare": ("questions", "annotations", "refusals", "frames", "rationales"),
    "generate": ("traces", "teacher_stats"),
    "filter": ("kept", "dropped", "verdicts", "funnel"),
    "train": (),  # for each arm, the marker in its folder
    "evaluate": ("predictions", "metrics"),
    "report": ("report", "model_card"),
}
"""What each stage leaves behind, as properties of RunFolder; a folder counts once it holds something."""
ONE_KIND = {"frames": VideoRun, "rationales": TextRun}
"""What runs of one kind only have."""
ARM_MARKER, LESSONS, LABELS, ROUNDS = "DONE", "lessons.jsonl", "labels.jsonl", "rounds.json"
TRAINING, CHECKPOINTS, STEPS = "training.json", "checkpoints", "metrics.jsonl"
CONTRACT, MANIFEST = "contract.json", "manifest.json"
ARM_SETTINGS, FAILURE = "arm.json", "failure.json"
"""For the processes that train an arm: its settings, as helpers stand in no config; and back, what ended the first."""
BASE_ANSWERS, ANSWERS, SAMPLES, SPLIT = "base-direct.jsonl", "answers-{}.jsonl", "samples.jsonl", "{}.jsonl"
"""In the folders of arms: what the base, a helper or the arm itself says to training questions, or those of a split."""


def row_files(folder: Path) -> list[Path]:
    """The files of rows in a folder, such as the predictions of all arms, in one order always."""
    return sorted(folder.glob("*.jsonl"))


def publish(path: Path, data: str | bytes) -> None:
    """Write `data` so that `path` holds either its old content or all of the new one.

    Raises:
        RunError: the folder is not writable.
        GuardStop: the disk is full; the old file is untouched.
    """
    with publishing(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


def write_error(path: Path, error: OSError) -> AotError:
    """What to tell a user whose disk refused `path`: a full disk is a guard's stop, anything else a bad folder."""
    if error.errno in DISK_FULL:
        mending = "free space, then run the same command again: finished work is kept"
        return GuardStop(f"no_space: the disk is full at {path}; {mending}")
    return RunError(f"cannot write {path}: {error.strerror or error}; choose another folder with run.dir=")


def publish_rows(path: Path, rows: Iterable[BaseModel]) -> None:
    """Publish `rows` as JSON lines, all or nothing; holds one row in memory at a time."""
    with publishing(path) as file:
        for row in rows:
            file.write(row.model_dump_json().encode() + b"\n")


@contextmanager
def publishing(path: Path) -> Iterator[IO[bytes]]:
    """A file to stream rows into; it appears at `path` when the block ends well, and not at all when it does not."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, before_rename=lambda: check_lease(path)) as file:
            yield file
    except OSError as error:
        raise write_error(path, error) from error


def publish_json(path: Path, value: Any) -> None:  # noqa: ANN401 - whatever json can write
    """Publish `value` as indented JSON."""
    publish(path, json.dumps(value, indent=1, sort_keys=False) + "\n")


def open_append(path: Path) -> IO[bytes]:
    """`path` open for appending, after a half-written last line was cut off."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            cut_half_line(path)
        return path.open("ab")
    except OSError as error:
        raise write_error(path, error) from error


def append_row(file: IO[bytes], row: BaseModel) -> None:
    """Append one row and hand it to the operating system at once, so that `kill -9` loses no finished row."""
    try:
        file.write(row.model_dump_json().encode() + b"\n")
        file.flush()
    except OSError as error:
        raise write_error(Path(file.name), error) from error


def read_rows(path: Path, model: type[Row]) -> Iterator[Row]:
    """Rows of a JSON-lines file that this project wrote; a half-written last line is left out.

    Raises:
        SourceError: the file is missing, or a whole line is not a `model`, naming the line.
    """
    for number, line in enumerate(whole_lines(path), start=1):
        try:
            yield model.model_validate_json(line)
        except ValidationError as error:
            raise SourceError(f"{path}:{number}: {first_problem(error)}") from None


def whole_lines(path: Path, *, start: int = 0) -> Iterator[bytes]:
    """The lines of a file from a byte offset on, with their line ends; a half-written last one is left out.

    Raises:
        SourceError: the file is missing.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}; run the earlier stages first") from error
    with file:
        file.seek(start)
        for line in file:
            if not line.endswith(b"\n"):
                return
            yield line


def run_root(config: RunConfig, *, config_path: Path) -> Path:
    """Where the run folder of a config lies: run.dir, or runs/<stem>.

    Raises:
        RunError: its name is no UTF-8, which weights cannot be written under; or a file lies there.
    """
    limit = f"-limit{config.data.limit}" if config.data.limit else ""
    root = Path(config.run.dir) if config.run.dir else Path("runs") / (config_path.stem + limit)
    if str(root) != str(root).encode("utf-8", "replace").decode():
        raise RunError(f"the name of the run folder {root} is no UTF-8; give another folder with run.dir=")
    if root.exists() and not root.is_dir():
        raise RunError(f"{root} is a file, not the folder of a run; give another folder with run.dir=")
    return root


def read_run_json(run: RunFolder) -> dict[str, Any]:
    """The parsed run.json.

    Raises:
        RunError: it is missing or not JSON.
    """
    try:
        data: dict[str, Any] = read_json(run.run_json)
        problem = _run_problem(data)
    except FileNotFoundError:
        problem = "there is none"
    except OSError as error:
        problem = error.strerror or str(error)
    except ValueError as error:
        problem = str(error)
    if problem:
        raise RunError(f"{run.root} holds no readable run.json ({problem}); is it a run folder?")
    data.setdefault("stages", {})
    return data


def _run_problem(data: Any) -> str:  # noqa: ANN401 - whatever JSON holds
    """What a run.json lacks; empty if it is one."""
    if not isinstance(data, dict) or not data.keys() & {"stages", "command"}:
        return "it notes no command and no stages"
    stages, commands = data.get("stages", {}), data.get("commands", [])
    if not isinstance(stages, dict) or not all(_is_stage(entry) for entry in stages.values()):
        return "its stages are not noted as they should be"
    if not isinstance(commands, list) or not all(isinstance(command, list) for command in commands):
        return "its commands are no lists"
    return ""


def _is_stage(entry: Any) -> bool:  # noqa: ANN401 - whatever JSON holds
    """Whether what is computed with of a stage's entry is what it should be."""
    if not isinstance(entry, dict) or not isinstance(entry.get("state", ""), str):
        return False
    numbers = [entry.get(name, 0) for name in ("started_s", "updated_s", "seconds", "done", "total", "refused")]
    numbers.append(entry.get("left_s") or 0)
    return all(isinstance(number, int | float) for number in numbers) and isinstance(entry.get("files", {}), dict)


StageState = Literal["running", "done", "stopped", "failed"]


def start_stage(run: RunFolder, stage: str) -> None:
    """Record that a stage begins, or begins again; what an earlier attempt noted is forgotten."""
    data = read_run_json(run)
    now, sealed = time.time(), data["stages"].get(stage, {}).get("files") or {}
    # Earlier versions noted here, and not beside it, the seal of a file that is used again.
    files = {name: seal for name, seal in sealed.items() if seal.get("once") and (run.root / name).exists()}
    data["stages"][stage] = {"state": "running", "started_s": now, "updated_s": now, "files": files}
    publish_json(run.run_json, data)
    run.done.unlink(missing_ok=True)


def set_stage(run: RunFolder, stage: str, state: StageState, **facts: Any) -> None:  # noqa: ANN401
    """Record the state of a stage with facts such as done, total, seconds and error."""
    data = read_run_json(run)
    entry = {**data["stages"].get(stage, {}), "state": state, "updated_s": time.time(), **facts}
    if state == "done":
        entry.pop("error", None)
    data["stages"][stage] = entry
    publish_json(run.run_json, data)


def stage_done(run: RunFolder, stage: str) -> bool:
    """Whether a stage has published everything it makes, and all of it is still there."""
    if not run.run_json.exists():
        return False
    finished = read_run_json(run)["stages"].get(stage, {}).get("state") == "done"
    return finished and not missing_files(run, stage)


def missing_files(run: RunFolder, stage: str) -> list[Path]:
    """What a finished stage should have left behind and is not there."""
    config = load_saved(run.config) if run.config.exists() else None
    wanted = [getattr(run, name) for name in PUBLISHED[stage] if isinstance(config, ONE_KIND.get(name, object))]
    if stage == "train" and config:
        wanted += [run.arm(arm.name) / ARM_MARKER for arm in config.train.arms]
    else:
        wanted += [run.root / name for name in read_run_json(run)["stages"].get(stage, {}).get("files", {})]
    return [path for path in wanted if not (any(path.iterdir()) if path.is_dir() else path.exists())]
