"""Which questions a run is about, where their clips lie, how those are decoded; a class for each kind of data set."""

from typing import Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from aot.config.base import Kinds, PathText, Section, SplitName


class RunSection(Section):
    """Where the run folder lies, and what it may take over."""

    dir: PathText | None = None
    """None means runs/<stem of the config file>."""
    reuse: PathText | None = None
    """Another run folder: its prepare, generate and filter stages are taken over as far as the settings agree."""
    shard: str | None = Field(default=None, pattern=r"^\d{1,6}/[1-9]\d{0,5}$")
    """`i/N`: do this share of prepare, generate or evaluate only, i from 0 to N-1 (the --shard option)."""
    node_rank: int = Field(default=0, ge=0)
    """Which of `train.nodes` machines this is; the first, 0, does all stages, the others take part in training."""
    rendezvous: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.-]+:[0-9]{1,5}$")
    """`HOST:PORT` of the first of several machines, where they find each other; the same for all of them."""

    @field_validator("shard")
    @classmethod
    def _is_one_of_them(cls, shard: str | None) -> str | None:
        index, _, count = (shard or "0/1").partition("/")
        if int(index) >= int(count):
            raise ValueError(f"must be i/N with i from 0 to N-1, such as 0/{count}")
        return shard


MOST_DRAWN = 1_000_000
"""Clips or problems of one split that may be drawn."""


class ToyKitchenConfig(Section):
    """How much of the synthetic kitchen is made."""

    train_clips: int = Field(default=320, ge=1, le=MOST_DRAWN)
    test_clips: int = Field(default=80, ge=1, le=MOST_DRAWN)
    test_ood_clips: int = Field(default=80, ge=1, le=MOST_DRAWN)
    new_dishes: int = Field(default=0, ge=0, le=MOST_DRAWN)
    """Further training clips, each of a recipe that no other clip cooks and only a card in the recipe book tells."""
    open_book: int = Field(default=0, ge=0, le=4)
    """Questions about each clip that a recipe card answers, which is drawn anew for each: what comes next, which step
    was left out, which came too early, what is still missing."""
    card: Literal["book", "question"] = "book"
    """Where that card stands: in the recipe book only, which is `embedded` then if `data.book` names none, or in the
    question."""


class ToyMathConfig(Section):
    """How many problems of the embedded maths tasks are drawn."""

    train: int = Field(default=3000, ge=1, le=MOST_DRAWN)
    test: int = Field(default=400, ge=1, le=MOST_DRAWN)
    """Problems of the test split, and the size of each out-of-distribution split is `test_ood`."""
    test_ood: int = Field(default=200, ge=1, le=MOST_DRAWN)
    digits: int = Field(default=2, ge=2, le=9)
    """Of the longest number in training. Above 2, each problem draws how long its numbers may be, from 2 digits on; the
    split ood_large has one digit more than any other."""


class TextFilesConfig(Section):
    """Local files of a text data set."""

    train: PathText | None = None
    test: PathText | None = None
    """None holds `test_share` of the training file out, whole groups at a time."""
    test_share: float = Field(default=0.1, gt=0, lt=1)


class GymConfig(Section):
    """Procedural tasks of the reasoning-gym package."""

    tasks: tuple[str, ...] = ("chain_sum", "simple_equations", "calendar_arithmetic", "leg_counting")
    unseen_tasks: tuple[str, ...] = ()
    """Tasks of the split test_ood; none of them is trained on."""
    train: int = Field(default=500, ge=1, le=MOST_DRAWN)
    """Problems of each task."""
    test: int = Field(default=100, ge=1, le=MOST_DRAWN)


class OfficialFiles(Section):
    """Official annotation files of a published data set."""

    train: PathText | None = None
    """Official file, or folder, of the training split; of all splits where one file holds them."""
    test: PathText | None = None
    """Official file of the validation or test split; None holds `test_share` of the clips out, whole groups at a time,
    unless the file tells the splits itself."""
    test_share: float = Field(default=0.2, gt=0, lt=1)


class ChoiceFiles(OfficialFiles):
    """Those of which questions among options are made."""

    num_choices: int = Field(default=4, ge=2, le=100)


class StepFiles(ChoiceFiles):
    """Those of steps, and which questions about the next step are made of them."""

    kinds: tuple[Literal["next_choice", "next_open"], ...] = ("next_choice", "next_open")
    """Among some options, or among all labels."""
    min_history: int = Field(default=1, ge=1)
    """Steps that must have been seen before a next step is asked."""
    per_clip: int | None = Field(default=4, ge=1)
    """Next-step questions of each kind made from one clip, at most; None asks about every step."""
    window_s: float | None = Field(default=None, gt=0)
    """A next-step question shows at most this much of the clip; None shows all from its beginning."""


class EpicFiles(StepFiles):
    """Those of EPIC-KITCHENS."""

    gap_s: float = Field(default=1.0, ge=0)
    """The window ends this long before the asked action starts, as in the official anticipation task."""


class DataSection(Section):
    """Which questions a run is about; each kind of data set adds what it is made of."""

    dataset: str
    limit: int | None = Field(default=None, ge=1)
    """Use at most this many clips, or text problems, of each split (the --limit option)."""


EMBEDDED, COUNTED = "embedded", "annotations"
"""Recipe books that are no folder."""


class ClipData(DataSection):
    """Questions about clips."""

    root: PathText | None = None
    """Folder of the clips; the toy kitchen draws into <run>/clips when it is None."""
    stream: int | None = Field(default=None, ge=0)
    """Index in the container of the video stream that is read of every clip, as `aot probe` names it; None takes the
    best of each."""
    book: PathText | None = None
    """A recipe book, which the teacher and a student with tools look up: a folder of cards (docs/tools.md),
    `annotations`, the procedures counted from the training annotations, or `embedded`, the synthetic kitchen's own."""

    @model_validator(mode="after")
    def _has_that_book(self) -> Self:
        if self.book == EMBEDDED and self.dataset != "toy_kitchen":
            raise ValueError(
                f"data.book: {EMBEDDED} is the synthetic kitchen's; for {self.dataset} give a folder of cards, or "
                f"{COUNTED}"
            )
        return self

    @property
    def recipes(self) -> str | None:
        """The recipe book that the run has."""
        return self.book


class KitchenData(ClipData):
    """The synthetic kitchen."""

    dataset: Literal["toy_kitchen"]
    toy: ToyKitchenConfig = ToyKitchenConfig()

    @property
    def recipes(self) -> str | None:
        """The recipe book: questions about cards that stand in no question bring the embedded one."""
        is_needed = self.toy.new_dishes or (self.toy.open_book and self.toy.card == "book")
        return super().recipes or (EMBEDDED if is_needed else None)


class PlainData(ClipData):
    """Clips and questions of the user's own."""

    dataset: Literal["plain"]
    questions: PathText = "questions.jsonl"
    """Questions file, relative to root."""
    annotations: PathText | None = None
    """Optional JSONL of annotated clips (docs/plain_data.md), relative to root; feeds procedural knowledge and
    baselines."""


class QuestionData(ClipData):
    """A published data set that comes with its questions (docs/annotated_data.md)."""

    dataset: Literal["nextqa", "star"]
    annotated: OfficialFiles = OfficialFiles()


class EgoplanData(ClipData):
    """One whose questions are put among options here."""

    dataset: Literal["egoplan"]
    annotated: ChoiceFiles = ChoiceFiles()


class StepData(ClipData):
    """One whose steps are known, so that next steps can be asked."""

    dataset: Literal["youcook2", "coin", "crosstask"]
    annotated: StepFiles = StepFiles()


class EpicData(ClipData):
    """EPIC-KITCHENS, whose window ends before the asked action."""

    dataset: Literal["epic100"]
    annotated: EpicFiles = EpicFiles()


class MathData(DataSection):
    """The embedded maths tasks."""

    dataset: Literal["toy_math"]
    math: ToyMathConfig = ToyMathConfig()


class GymData(DataSection):
    """Tasks of the reasoning-gym package."""

    dataset: Literal["gym"]
    gym: GymConfig = GymConfig()


class FilesData(DataSection):
    """Text problems in local files."""

    dataset: Literal["gsm8k", "math", "cot_collection", "text_jsonl"]
    root: PathText | None = None
    """Folder of the files."""
    files: TextFilesConfig = TextFilesConfig()


class HfColumns(Section):
    """Which column holds what; None takes the usual names of what it holds (docs/text_data.md)."""

    question: str | None = None
    answer: str | None = None
    """The final answer; None, and without a column of a usual name, finds it in the reply."""
    rationale: str | None = None
    choices: str | None = None
    messages: str | None = None
    """A chat: a list of turns, as `role` and `content` or as `from` and `value`."""
    prompt: str | None = None
    completion: str | None = None
    id: str | None = None
    kind: str | None = None
    group: str | None = None


class HfSection(Section):
    """Where a data set lies that `datasets` reads, and how its rows become questions and traces."""

    path: PathText | None = None
    """A folder (of `save_to_disk`, or of data files with their card), a .parquet, .jsonl, .json or .csv file, or a name
    on the hub, which `aot prefetch` fetches before."""
    revision: str | None = Field(default=None, pattern=r"^\w[\w./-]{0,99}$")
    """Of a hub name: a commit of 40 hex digits; what a branch or tag stands for is pinned by the first prefetch."""
    subset: str | None = Field(default=None, min_length=1, max_length=200)
    """One of several configurations of a data set; None takes its default."""
    train: SplitName = "train"
    """Its split that is trained on; a file is one split."""
    test: SplitName | None = None
    """Its split that is tested on; None holds `test_share` of the other one out, whole groups at a time."""
    test_file: PathText | None = None
    """Where `path` is a file: another one, that is tested on."""
    test_share: float = Field(default=0.1, gt=0, lt=1)
    first_rows: int | None = Field(default=None, ge=1)
    """Read so many rows of each split and no further; data.limit takes a sample of all that are read."""
    system: Literal["keep", "drop"] = "keep"
    """Whether a system message is put before the question."""
    turns: Literal["context", "refuse"] = "context"
    """Chats of several turns: the earlier ones are put before the last question, or the row is refused."""
    columns: HfColumns = HfColumns()


class HfData(DataSection):
    """Questions, or chains of somebody else, in a data set of the `datasets` library."""

    dataset: Literal["hf"]
    hf: HfSection = HfSection()


AnnotatedData = QuestionData | EgoplanData | StepData | EpicData
VideoData = KitchenData | PlainData | AnnotatedData
TextData = MathData | GymData | FilesData | HfData
DataConfig = VideoData | TextData
BY_DATASET = Kinds("dataset")
ANNOTATED_DATASETS = tuple(name for kind in get_args(AnnotatedData) for name in BY_DATASET.names(kind))
"""Published data sets whose official annotation files are read (docs/annotated_data.md)."""


class FramesConfig(Section):
    """Decoding: what is sampled from each clip, and the budgets checked before decoding."""

    fps: float = Field(default=3.0, gt=0)
    """Frames stored for each second of clip; teacher tools and student choose among these."""
    max_stored_frames: int = Field(default=512, ge=1)
    """A longer clip is sampled more sparsely so that no more than this many frames are stored."""
    max_side_px: int = Field(default=480, ge=16, le=16_384)
    """Stored frames are scaled down to this longest side; boxes are still given in pixels of the true frame."""
    shard_clips: int = Field(default=64, ge=1)
    workers: int = Field(default=2, ge=1, le=1000)
    time_limit_s: float = Field(default=30.0, gt=0)
    """For reading a small clip; once more for each GB of a file, and for each gigapixel of all its frames together: a
    clip of 5 minutes in 720p at 30 frames/s (8.3 gigapixels) has 279 s."""
    max_file_mb: float = Field(default=4096.0, gt=0)
    max_pixels: int = Field(default=3840 * 2160, gt=0)
    """Width times height of one frame."""
    max_frames: int = Field(default=400_000, gt=0)
    max_duration_s: float = Field(default=4 * 3600.0, gt=0)
    max_streams: int = Field(default=16, gt=0)
    """Video streams; sound, subtitles and attached fonts do not count."""
    max_gigapixels: float = Field(default=80.0, gt=0)
    """Pixels of all frames of a clip together, in 10**9; 21 minutes of 1080p at 30 frames/s have as many."""
