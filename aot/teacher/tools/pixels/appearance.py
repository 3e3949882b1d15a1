"""The appearance card: what the pixel tools know about how things look, and nothing about any clip.

A card names objects and actions with a colour and a shape, and lists the step labels built from them. It is read from
a JSON file, or made from the synthetic kitchen's world.
"""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, ValidationError, model_validator

from aot.errors import ConfigError
from aot.files.jsonl import RowProblem, first_mistake, parse_object
from aot.records import Record
from video_data.kitchen import world as kitchen_world

Level = Annotated[int, Field(ge=0, le=255)]
Rgb = tuple[Level, Level, Level]
_UTENSIL_SHARES = {
    "knife": 0.013, "drops": 0.013, "peeler": 0.013, "pan": 0.08,
    "pot": 0.10, "spoon": 0.016, "jug": 0.022, "oven": 0.075,
}  # fmt: skip


class ThingLook(Record):
    """How one object, or the utensil of one action, looks."""

    rgb: Rgb
    shape: str = "any"
    """circle, ellipse, triangle, bar, diamond, half, pentagon, dots, any; a free name counts as any."""
    utensil: str = ""
    """For an action: what the hand holds; empty for an object."""
    share: float = Field(default=0.02, gt=0, le=1)
    """Share of the frame it covers when seen well."""


class StepLook(Record):
    """Which looks together show a step."""

    label: str
    action: str | None
    object: str | None


class Appearance(Record):
    """What can be recognised: objects, actions by their utensils, and the step labels made of them."""

    name: str
    objects: dict[str, ThingLook]
    actions: dict[str, ThingLook] = Field(default_factory=dict)
    labels: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _labels_are_made_of_looks(self) -> Self:
        blind = [label for label in self.labels if self._split(label) == (None, None)]
        if blind:
            raise ValueError(f"labels {blind} name no action and no object of the card; add their looks")
        return self

    @cached_property
    def steps(self) -> tuple[StepLook, ...]:
        """The labels taken apart, in order."""
        return tuple(
            StepLook(label=label, action=a, object=o) for label in self.labels for a, o in [self._split(label)]
        )

    @cached_property
    def digest(self) -> str:
        """Twelve hex digits that change whenever the card does."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    def _split(self, label: str) -> tuple[str | None, str | None]:
        actions = [name for name in self.actions if f"{label} ".startswith(f"{name} ")]
        objects = [name for name in self.objects if f" {label}".endswith(f" {name}")]
        return max(actions, key=len, default=None), max(objects, key=len, default=None)


def kitchen_appearance() -> Appearance:
    """The card of the synthetic kitchen."""
    return Appearance(
        name="drawn kitchen",
        objects={name: ThingLook(rgb=look.rgb, shape=look.shape) for name, look in kitchen_world.INGREDIENTS.items()},
        actions={
            name: ThingLook(rgb=look.rgb, shape=look.shape, utensil=look.shape, share=_UTENSIL_SHARES[look.shape])
            for name, look in kitchen_world.ACTIONS.items()
        },
        labels=kitchen_world.STEP_LABELS,
    )


def load_appearance(path: str | Path | None) -> Appearance:
    """The card in a JSON file; the synthetic kitchen's own for None.

    Raises:
        ConfigError: the file cannot be read or is no card.
    """
    if path is None:
        return kitchen_appearance()
    try:
        return Appearance.model_validate(parse_object(Path(path).read_bytes()))
    except OSError as error:
        raise ConfigError(
            f"cannot read the appearance card {path}: {error}; set teacher.appearance to a JSON file"
        ) from error
    except RowProblem as problem:
        raise ConfigError(f"appearance card {path}: {problem.detail[:300]}; it must be one JSON object") from None
    except ValidationError as error:
        mistake, value = first_mistake(error, whole="the top"), error.errors(include_url=False)[0]["input"]
        raise ConfigError(f"appearance card {path}: {mistake}, got {value!r}"[:400]) from None
