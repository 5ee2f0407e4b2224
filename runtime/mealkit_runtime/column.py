"""One column of a dataset: its declared type and rules, compiled from a row schema's field."""

from __future__ import annotations

import datetime as dt
import enum
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Union

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
    pattern: str | None = None

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
    if decorators.field_validators or decorators.model_validators or decorators.validators:
        raise ProjectError(
            f"the row schema {model.__name__} has validator functions, which are not run for each row",
            where=f"{model.__module__}:{model.__name__}",
            hint="declare ranges, patterns and choices with mealkit.Field; check the rest in DataLoader.prepare",
        )
    return tuple(_column(model, name, info) for name, info in model.model_fields.items())


def _column(model: type[Row], name: str, info: FieldInfo) -> Column:
    where = f"{model.__module__}:{model.__name__}.{name}"
    if info.alias or info.validation_alias:
        raise ProjectError(
            f"the column {name!r} has an alias", where=where, hint="name the field as the dataset names the column"
        )
    plain, nullable, nested = _unwrap(info.annotation)
    column = Column(name, nullable=nullable)
    if not info.is_required():
        column = replace(column, required=False, default=info.get_default(call_default_factory=True))
    if isinstance(plain, type) and issubclass(plain, enum.Enum):
        column = _with_choices(column, tuple(member.value for member in plain), where)
    elif typing.get_origin(plain) is typing.Literal:
        column = _with_choices(column, typing.get_args(plain), where)
    elif plain in KINDS:
        column = replace(column, kind=KINDS[plain])
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


def _with_rule(column: Column, rule: Any, where: str) -> Column:
    """``column`` with one piece of pydantic's metadata (annotated_types, or a general one with many attributes)."""
    found = {name: getattr(rule, name) for name in _BOUNDS if getattr(rule, name, None) is not None}
    if "pattern" in found and not isinstance(found["pattern"], str):
        found["pattern"] = found["pattern"].pattern
    if not found and (hasattr(rule, "func") or hasattr(rule, "__get_pydantic_core_schema__")):
        raise ProjectError(
            f"the column {column.name!r} has a rule that cannot be checked by column: {rule!r}",
            where=where,
            hint="declare ranges, patterns and choices with mealkit.Field",
        )
    return replace(column, **found)
