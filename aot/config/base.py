"""What every config section is."""

from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict


def _as_word(value: object) -> object:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


Word = TypeVar("Word")
YamlWord = Annotated[Word, BeforeValidator(_as_word)]
"""A choice that has the words `on` or `off` in it, which YAML reads as true and false unless they are quoted."""


class Section(BaseModel):
    """Base of every config section: frozen, unknown keys refused, and every number finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
