"""Every setting of a run, typed; YAML plus `key.sub=value` overrides make one frozen `RunConfig`.

An unknown key is an error that names the nearest known one, and so is a key that the run would not read, with those who
do. `data`, `teaching`, `chat` and `training` hold the sections, `run` puts them together, `readers` says who reads each
key, `loading` and `strict_yaml` read files. This package knows no stage.
"""

from aot.config.base import Section
from aot.config.chat import ChatConfig, PricesConfig
from aot.config.data import ANNOTATED_DATASETS, DataConfig, FramesConfig, ToyMathConfig
from aot.config.loading import dump_config, load_config, load_saved, parse_config
from aot.config.readers import read_settings, unread_keys
from aot.config.run import RunConfig, chat_settings, differing_keys, may_change
from aot.config.teaching import FilterConfig, HfConfig, TeacherConfig, ToolsConfig
from aot.config.training import (
    EMBEDDED_STUDENTS,
    NO_FRAMES,
    RESERVED_ARMS,
    ArmConfig,
    Chains,
    EvaluateConfig,
    LoraSection,
    Order,
    StudentConfig,
    TrainConfig,
)

__all__ = [
    "ANNOTATED_DATASETS",
    "ChatConfig",
    "PricesConfig",
    "HfConfig",
    "ToolsConfig",
    "ArmConfig",
    "Chains",
    "DataConfig",
    "EMBEDDED_STUDENTS",
    "EvaluateConfig",
    "FilterConfig",
    "FramesConfig",
    "LoraSection",
    "NO_FRAMES",
    "Order",
    "RESERVED_ARMS",
    "RunConfig",
    "Section",
    "StudentConfig",
    "TeacherConfig",
    "ToyMathConfig",
    "TrainConfig",
    "chat_settings",
    "differing_keys",
    "dump_config",
    "load_config",
    "load_saved",
    "may_change",
    "parse_config",
    "read_settings",
    "unread_keys",
]
