"""What every config section is, and the kinds of value that several of them hold."""

from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationInfo,
    field_validator,
)
from pydantic_core import CoreSchema, core_schema

MAX_NAME_BYTES, MAX_PATH_CHARS = 200, 1000
"""Of one name in a path, and of a whole path as it is written: file systems take 255 and 4096 bytes, and files of ours
stand below."""


def _as_word(value: object) -> object:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


def _usable_path(path: str) -> str:
    longest = max(len(name.encode("utf-8", "surrogatepass")) for name in path.split("/"))
    if not path.strip() or "\0" in path:
        raise ValueError("must be a path, and this is none")
    if longest > MAX_NAME_BYTES or len(path) > MAX_PATH_CHARS:
        raise ValueError(
            f"must be a path of at most {MAX_PATH_CHARS} characters in which no name has more than {MAX_NAME_BYTES} "
            f"bytes; this one has {len(path):,} characters, its longest name {longest:,} bytes"
        )
    return path


Word = TypeVar("Word")
YamlWord = Annotated[Word, BeforeValidator(_as_word)]
"""A choice that has the words `on` or `off` in it, which YAML reads as true and false unless they are quoted."""
PathText = Annotated[str, AfterValidator(_usable_path)]
"""A path, or the name of something that may lie in a folder."""
SplitName = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^/\\]+$")]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
MOST_COUNT, MOST_SECONDS, MOST_REAL = 10**9, 1e9, 1e30
"""Limits of whole numbers, of seconds and of other numbers; what a machine can hold may be much less."""


def _kinds(annotation: object) -> set[object]:
    """The plain types that may stand in a value so annotated; the values of a Literal by their types."""
    if get_origin(annotation) is Literal:
        return {type(one) for one in get_args(annotation)}
    parts = get_args(annotation)[:1] if get_origin(annotation) is Annotated else get_args(annotation)
    return set().union(*map(_kinds, parts)) if parts else {annotation}


class Section(BaseModel):
    """Base of every config section: frozen, unknown keys refused, and every number finite and of this world."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, str_max_length=5000)

    @field_validator("*", mode="before")
    @classmethod
    def _no_word_for_a_number(cls, value: object, info: ValidationInfo) -> object:
        """Raises where true or false would be taken for 1 or 0."""
        field = cls.model_fields[str(info.field_name)]
        values = value if isinstance(value, list) else [value]
        if any(isinstance(one, bool) for one in values) and _kinds(field.annotation) & {int, float}:
            raise ValueError("must be a number")
        return value

    @field_validator("*")
    @classmethod
    def _within_reason(cls, value: object, info: ValidationInfo) -> object:
        if info.field_name != "seed" and isinstance(value, int | float):
            real = MOST_SECONDS if str(info.field_name).endswith("_s") else MOST_REAL
            most = MOST_COUNT if isinstance(value, int) else real
            if abs(value) > most:
                raise ValueError(f"must be at most {most:,.0f}" if most < MOST_REAL else f"must be at most {most:g}")
        return value


def sections_in(annotation: object) -> list[type[Section]]:
    """The kinds of section that may stand in a value so annotated, those of a tuple included."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return [annotation] if issubclass(annotation, Section) else []
    return [kind for part in get_args(annotation) for kind in sections_in(part)]


class Kinds:
    """Marks a union of sections that the values of one key tell apart.

    The library's own discriminated unions take no section whose key has a check of its own, and no default of the key.
    """

    def __init__(self, by: str, *, default: str | None = None) -> None:
        """`default` is the value of a key that is not given."""
        self.by, self._default = by, default

    def names(self, kind: type[Section]) -> tuple[str, ...]:
        """The values that mean one kind."""
        return get_args(kind.model_fields[self.by].annotation)

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        kinds = {name: handler.generate_schema(kind) for kind in sections_in(source) for name in self.names(kind)}
        return core_schema.tagged_union_schema(kinds, self._name)

    def _name(self, value: Any) -> str | None:  # noqa: ANN401 - whatever was written, or a section
        name = value.get(self.by, self._default) if isinstance(value, dict) else getattr(value, self.by, None)
        return None if name is None else str(name)


class HubModel(Section):
    """A model on the hub, and which state of it; `aot prefetch` puts it into the folder that the run reads."""

    name: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")
    revision: str = Field(pattern=r"^\w[\w./-]{0,99}$")
    """A commit of 40 hex digits; what a branch or tag stands for is pinned by the first prefetch."""
