"""Every setting of a run, typed; YAML plus `key.sub=value` overrides make one frozen `RunConfig`.

An unknown key is an error that names the nearest known one, and so is a key that the run would not read, with those who
do. `data`, `teaching`, `chat` and `training` hold the sections, `run` puts them together, `readers` says who reads each
key, `loading` and `strict_yaml` read files. This package knows no stage.
"""

from aot.config.base import Section
from aot.config.chat import ChatConfig, PricesConfig
from aot.config.data import (
    ANNOTATED_DATASETS,
    VIDEO_DATASETS,
    AnnotatedConfig,
    DataConfig,
    FramesConfig,
    GymConfig,
    RunSection,
    TextFilesConfig,
    ToyKitchenConfig,
    ToyMathConfig,
)
from aot.config.loading import dump_config, load_config, load_saved, parse_config
from aot.config.readers import read_settings, unread_keys
from aot.config.run import NOT_IN_RESULTS, RunConfig, chat_settings, differing_keys, may_change, result_settings
from aot.config.teaching import FaultsConfig, FilterConfig, HfConfig, TeacherConfig, ToolsConfig
from aot.config.training import (
    EMBEDDED_STUDENTS,
    NO_FRAMES,
    RESERVED_ARMS,
    AdaptiveConfig,
    ArmConfig,
    Chains,
    EvaluateConfig,
    LoraSection,
    Order,
    OwnChainsConfig,
    ReportConfig,
    StudentConfig,
    TrainConfig,
)

__all__ = [
    "ANNOTATED_DATASETS",
    "AnnotatedConfig",
    "ChatConfig",
    "PricesConfig",
    "HfConfig",
    "ToolsConfig",
    "AdaptiveConfig",
    "ArmConfig",
    "Chains",
    "DataConfig",
    "EMBEDDED_STUDENTS",
    "EvaluateConfig",
    "FaultsConfig",
    "FilterConfig",
    "FramesConfig",
    "GymConfig",
    "LoraSection",
    "NOT_IN_RESULTS",
    "NO_FRAMES",
    "Order",
    "OwnChainsConfig",
    "RESERVED_ARMS",
    "ReportConfig",
    "RunConfig",
    "RunSection",
    "Section",
    "StudentConfig",
    "TeacherConfig",
    "TextFilesConfig",
    "ToyKitchenConfig",
    "ToyMathConfig",
    "TrainConfig",
    "VIDEO_DATASETS",
    "chat_settings",
    "differing_keys",
    "dump_config",
    "load_config",
    "load_saved",
    "may_change",
    "parse_config",
    "read_settings",
    "result_settings",
    "unread_keys",
]
