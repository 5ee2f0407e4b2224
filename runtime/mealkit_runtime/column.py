"""One column of a dataset: its declared type and rules, compiled from a row schema's field."""

from __future__ import annotations

import datetime as dt
import enum
import re
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Union

from pydantic import AwareDatetime, BaseModel, NaiveDatetime
from pydantic.fields import FieldInfo

from mealkit.errors import ProjectError
from mealkit.row import Row

KINDS: dict[type, str] = {
    bool: "bool",
    int: "int",
    float: "float",
    str: "str",
    dt.datetime: "datetime",
    dt.date: "date",
}


@dataclass(frozen=True)
class Column:
    """What a column must hold.

    Attributes:
        name: Its name.
        kind: ``int``, ``float``, ``str``, ``bool``, ``datetime``, ``date``, or ``any``: nothing is declared.
        nullable: Values may be missing.
        required: The column may not be absent; an absent one is filled with ``default``.
        choices: The only values allowed; None: any.
        ge, gt, le, lt: Bounds.
        multiple_of: Every value is a multiple of it.
        min_length, max_length: Bounds of a text's length in characters.
        pattern: A regular expression found in every text.
        engine: What reads the pattern: pydantic's ``rust-regex`` or ``python-re``.
        finite: Neither infinite nor NaN.
        zone: Whether times must have a zone (True) or must have none (False); None: either.
    """

    name: str
    kind: str = "any"
    nullable: bool = True
    required: bool = True
    default: Any = None
    choices: tuple[Any, ...] | None = None
    ge: Any = None
    gt: Any = None
    le: Any = None
    lt: Any = None
    multiple_of: Any = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | re.Pattern[str] | None = None
    engine: str = "rust-regex"
    finite: bool = False
    zone: bool | None = None

    @property
    def article(self) -> str:
        """The kind with its article, for messages."""
        words = {
            "int": "a whole number",
            "float": "a number",
            "str": "a text",
            "bool": "true or false",
            "datetime": "a time (ISO 8601)",
            "date": "a date (YYYY-MM-DD)",
            "any": "a value",
        }
        return words[self.kind]


def columns_of(model: type[Row]) -> tuple[Column, ...]:
    """The columns that a row schema declares, in order.

    Raises:
        ProjectError: a field has a type or rule that cannot be checked by column.
    """
    decorators = model.__pydantic_decorators__
    functions = (
        decorators.field_validators or decorators.model_validators or decorators.validators
    ) or decorators.root_validators
    if functions or model.model_post_init is not BaseModel.model_post_init:
        raise ProjectError(
            f"the row schema {model.__name__} has validator functions, which are not run for each row",
            where=f"{model.__module__}:{model.__name__}",
            hint="declare ranges, patterns and choices with mealkit.Field; check the rest in DataLoader.prepare",
        )
    if model.model_config.get("extra") == "forbid":
        raise ProjectError(
            f"the row schema {model.__name__} forbids other columns, which a dataset may have",
            where=f"{model.__module__}:{model.__name__}",
            hint="leave extra='forbid' out of model_config: columns that are not declared are not read",
        )
    for option, plain in _PLAIN.items():
        if model.model_config.get(option, plain) not in (plain, None):
            raise ProjectError(
                f"the row schema {model.__name__} sets {option}, which is not done for each row",
                where=f"{model.__module__}:{model.__name__}",
                hint="leave it out of model_config; change values in DataLoader.prepare",
            )
    return tuple(_column(model, name, info) for name, info in model.model_fields.items())


_PLAIN: dict[str, Any] = {
    "strict": False,
    "str_strip_whitespace": False,
    "str_to_lower": False,
    "str_to_upper": False,
    "str_min_length": 0,
    "str_max_length": None,
    "coerce_numbers_to_str": False,
    "alias_generator": None,
}
"""What pydantic's configuration may say of a row schema: only what a check by column keeps true."""


def _column(model: type[Row], name: str, info: FieldInfo) -> Column:
    where = f"{model.__module__}:{model.__name__}.{name}"
    if info.alias or info.validation_alias:
        raise ProjectError(
            f"the column {name!r} has an alias", where=where, hint="name the field as the dataset names the column"
        )
    plain, nullable, nested = _unwrap(info.annotation)
    column = Column(
        name,
        nullable=nullable,
        engine=model.model_config.get("regex_engine", "rust-regex"),
        finite=not model.model_config.get("allow_inf_nan", True),
    )
    if not info.is_required():
        column = replace(column, required=False, default=info.get_default(call_default_factory=True))
    if isinstance(plain, type) and issubclass(plain, enum.Enum):
        column = _with_choices(column, tuple(member.value for member in plain), where)
    elif typing.get_origin(plain) is typing.Literal:
        column = _with_choices(column, typing.get_args(plain), where)
    elif plain in KINDS:
        column = replace(column, kind=KINDS[plain])
    elif plain in (AwareDatetime, NaiveDatetime):
        column = replace(column, kind="datetime", zone=plain is AwareDatetime)
    elif plain is not Any:
        raise ProjectError(
            f"the column {name!r} has the type {plain!r}, which a dataset's column cannot have",
            where=where,
            hint="use int, float, str, bool, datetime, date, Literal or an Enum, each also with `| None`",
        )
    for rule in (*info.metadata, *nested):
        column = _with_rule(column, rule, where)
    return column


def _unwrap(annotation: Any) -> tuple[Any, bool, list[Any]]:
    """``(type, nullable, metadata)`` of an annotation such as ``Annotated[int, Ge(0)] | None``."""
    if typing.get_origin(annotation) is typing.Annotated:
        inner, *metadata = typing.get_args(annotation)
        plain, nullable, nested = _unwrap(inner)
        return plain, nullable, [*nested, *_flat(metadata)]
    if typing.get_origin(annotation) in (Union, types.UnionType):
        members = [member for member in typing.get_args(annotation) if member is not type(None)]
        if len(members) == 1:
            plain, _, nested = _unwrap(members[0])
            return plain, True, nested
        if set(members) == {int, float}:
            return float, len(members) < len(typing.get_args(annotation)), []
    return annotation, annotation is Any, []


def _flat(metadata: Iterable[Any]) -> list[Any]:
    """Metadata with those of nested ``Field(...)`` in place."""
    return [rule for item in metadata for rule in (item.metadata if isinstance(item, FieldInfo) else [item])]


def _with_choices(column: Column, values: tuple[Any, ...], where: str) -> Column:
    kept = tuple(value for value in values if value is not None)
    kinds = {KINDS.get(type(value)) for value in kept}
    if len(kinds) != 1 or None in kinds:
        raise ProjectError(
            f"the choices of column {column.name!r} are not of one plain type",
            where=where,
            hint="choose among values of one type",
        )
    return replace(column, kind=str(kinds.pop()), choices=kept, nullable=column.nullable or len(kept) < len(values))


_BOUNDS = ("ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length", "pattern")
_TEXT = ("min_length", "max_length", "pattern")
_NUMBER = ("multiple_of",)
_NOT_BY_COLUMN = (
    *("strict", "strip_whitespace", "to_lower", "to_upper", "max_digits", "decimal_places", "coerce_numbers_to_str"),
    *("func", "__get_pydantic_core_schema__"),
)


def _with_rule(column: Column, rule: Any, where: str) -> Column:
    """``column`` with one piece of pydantic's metadata (annotated_types, or a general one with many attributes)."""
    found = {name: getattr(rule, name) for name in _BOUNDS if getattr(rule, name, None) is not None}
    odd = [name for name in found if name in _TEXT and column.kind != "str"]
    odd += [name for name in found if name in _NUMBER and column.kind not in ("int", "float")]
    odd += [name for name in found if column.kind in ("bool", "any")]
    if odd or hasattr(rule, "tz") or any(getattr(rule, name, None) for name in _NOT_BY_COLUMN):
        raise ProjectError(
            f"the column {column.name!r} has a rule that cannot be checked by column: {rule!r}",
            where=where,
            hint="declare ranges, patterns and choices with mealkit.Field, of a type that has them",
        )
    if getattr(rule, "allow_inf_nan", None) is not None:
        found["finite"] = not rule.allow_inf_nan
    return replace(column, **found)
