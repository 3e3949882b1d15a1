"""Every setting of a run, typed; YAML plus `key.sub=value` overrides make one frozen `RunConfig`.

An unknown key is an error that names the nearest known one, and so is a key that the run would not read, with those who
do. `data`, `teaching`, `chat` and `training` hold the sections, `run` puts them together, `readers` says who reads each
key, `loading` and `strict_yaml` read files. This package knows no stage.
"""

from aot.config.base import HubModel, Section
from aot.config.chat import ChatConfig, PricesConfig
from aot.config.data import (
    ANNOTATED_DATASETS,
    COUNTED,
    EMBEDDED,
    AnnotatedData,
    ClipData,
    FilesData,
    FramesConfig,
    GymData,
    HfData,
    HfSection,
    KitchenData,
    MathData,
    PlainData,
    TextData,
    ToyMathConfig,
)
from aot.config.reading.loading import (
    dump_config,
    load_cascade_config,
    load_config,
    load_saved,
    parse_config,
    shipped_configs,
)
from aot.config.reading.readers import read_settings, unread_keys
from aot.config.run import (
    RunConfig,
    TextRun,
    VideoRun,
    chat_for,
    chat_jobs,
    chat_settings,
    differing_keys,
    may_change,
    teacher_chats,
)
from aot.config.serving import CapsConfig, CascadeSection
from aot.config.teaching import (
    ClipTeacher,
    FilterConfig,
    HfConfig,
    PlanningTeacher,
    RulesTeacher,
    SolvingTeacher,
    TeacherConfig,
)
from aot.config.training import (
    EMBEDDED_STUDENTS,
    MODES_OF_ORDER,
    NO_FRAMES,
    NO_TOOLS,
    RESERVED_ARMS,
    SHUFFLED_BOOK,
    SWITCHES,
    WAYS,
    AdaptiveConfig,
    ArmConfig,
    Chains,
    EarlyStopConfig,
    EvaluateConfig,
    LoraSection,
    OnPolicyConfig,
    Order,
    Scheduler,
    SpanWeights,
    StudentConfig,
    ToolArm,
    Tracker,
    TrainConfig,
    Weighting,
    modes_of,
    parse_arm,
    switched,
)

__all__ = [
    "ANNOTATED_DATASETS", "COUNTED", "EMBEDDED",
    "AdaptiveConfig", "AnnotatedData", "ArmConfig", "CapsConfig", "CascadeSection", "Chains", "ChatConfig",
    "ClipData", "ClipTeacher", "EMBEDDED_STUDENTS", "EarlyStopConfig", "EvaluateConfig", "FilesData", "FilterConfig",
    "FramesConfig", "GymData", "HfConfig", "HfData", "HfSection", "HubModel", "KitchenData", "LoraSection",
    "MODES_OF_ORDER", "MathData", "NO_FRAMES", "NO_TOOLS", "OnPolicyConfig", "Order", "PlainData", "PlanningTeacher",
    "PricesConfig", "RESERVED_ARMS", "RulesTeacher", "RunConfig", "SHUFFLED_BOOK", "SWITCHES", "Scheduler", "Section",
    "SolvingTeacher", "SpanWeights", "StudentConfig", "TeacherConfig", "TextData", "TextRun", "ToolArm",
    "ToyMathConfig", "Tracker", "TrainConfig", "VideoRun", "WAYS", "Weighting", "chat_for", "chat_jobs",
    "chat_settings", "differing_keys", "dump_config", "load_cascade_config", "load_config", "load_saved", "may_change",
    "modes_of", "parse_arm", "parse_config", "read_settings", "shipped_configs", "switched", "teacher_chats",
    "unread_keys",
]  # fmt: skip
