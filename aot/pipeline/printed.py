"""What each verb prints with `--json`, as types, and their JSON schemas with the docstrings of all fields."""

import ast
import inspect
import textwrap
from functools import cache
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import DataclassSchema, ModelSchema

from aot.answer_records import Answer, Faithfulness, PredictSummary, RunComparison
from aot.errors import ConfigError
from aot.pipeline.commands.clips import SavedFrames
from aot.pipeline.commands.doctor import Checkup
from aot.pipeline.commands.status import RunStatus
from aot.pipeline.data.export import DataExport
from aot.pipeline.data.offline import OfflineCheck
from aot.pipeline.data.prefetch import News
from aot.pipeline.planning.lines import DryRun, PlanNumbers
from aot.records import Trace
from aot.review_records import ReviewSummary
from aot.run_records import Baselines, JobFacts, Scores
from aot.served_records import Audit, ServedCalibration, Sight, StudentContract
from video_data.decode.facts import ClipFacts

PRINTED: dict[str, Any] = {
    "run": DryRun,
    "plan": PlanNumbers,
    "jobs": list[JobFacts],
    "status": RunStatus,
    "baselines": Baselines,
    "predict": Answer | PredictSummary,
    "score": Scores,
    "export": StudentContract,
    "watch": Sight,
    "audit": Audit,
    "review": ReviewSummary,
    "compare": RunComparison,
    "calibrate": ServedCalibration,
    "faithfulness": Faithfulness,
    "doctor": Checkup | DryRun | OfflineCheck,
    "prefetch": list[News],
    "probe": ClipFacts,
    "frames": SavedFrames,
    "ask": Trace,
    "data export": DataExport,
}
"""Verb to the type of what it prints with `--json`; `|` where its options decide which."""


def schema_of(verb: str) -> dict[str, Any]:
    """The JSON schema of what a verb prints.

    Raises:
        ConfigError: it prints no JSON.
    """
    if verb not in PRINTED:
        raise ConfigError(f"`aot {verb[:60]}` prints no JSON; these do: {', '.join(PRINTED)}")

    class Described(GenerateJsonSchema):
        """Takes over what stands under each field."""

        def model_schema(self, schema: ModelSchema) -> JsonSchemaValue:
            """Of a record."""
            return _described(super().model_schema(schema), schema["cls"])

        def dataclass_schema(self, schema: DataclassSchema) -> JsonSchemaValue:
            """Of plain values of a room that knows no records."""
            return _described(super().dataclass_schema(schema), schema["cls"])

    made = TypeAdapter(PRINTED[verb]).json_schema(mode="serialization", schema_generator=Described)
    return {"$schema": GenerateJsonSchema.schema_dialect, **made}


def _described(schema: dict[str, Any], cls: type) -> dict[str, Any]:
    for name, about in schema.get("properties", {}).items():
        meaning = next((meanings[name] for kind in cls.__mro__ if name in (meanings := meanings_of(kind))), "")
        if meaning:
            about["description"] = meaning
    return schema


@cache
def meanings_of(cls: type) -> dict[str, str]:
    """The docstring under each field that the class itself has."""
    try:
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    except (OSError, TypeError):  # of the interpreter
        return {}
    assert isinstance(body, ast.ClassDef)
    return {
        field.target.id: " ".join(str(text.value.value).split())
        for field, text in zip(body.body, body.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }
