"""Hyperparameters: typed, ranged and documented; strings from platforms are decoded by the declared types."""

from __future__ import annotations

import difflib
import enum
import json
import pathlib
import types
import typing
import uuid
from collections.abc import Mapping
from datetime import date, time
from decimal import Decimal
from typing import Any, Self, Union

from pydantic import BaseModel, ConfigDict, SecretBytes, SecretStr, ValidationError

from .errors import SettingsError

_PLATFORM_KEYS = ("sagemaker_", "_tuning_objective_metric")
"""SageMaker adds these to a job's hyperparameters; they are not the recipe's."""

_NONE = frozenset({"", "none", "null"})
_TRUE = frozenset({"true", "yes", "on", "1"})
# What pydantic reads from text itself: "2012" for a date is a year and no number, "0.10" a Decimal of two places.
_TEXT = (str, bytes, SecretStr, SecretBytes, pathlib.PurePath, date, time, Decimal, uuid.UUID)
_FALSE = frozenset({"false", "no", "off", "0"})


class Hyperparameters(BaseModel):
    """The base of a recipe's hyperparameters; every field needs a default.

    .. code-block:: python

        class Hyperparameters(mealkit.Hyperparameters):
            learning_rate: float = Field(0.1, gt=0, le=1, description="shrinkage per tree")
            trees: int = Field(100, ge=1, le=10_000)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @classmethod
    def decode(cls, values: Mapping[str, object]) -> Self:
        """Typed hyperparameters from ``values``, whose strings may stand for numbers, booleans or JSON.

        Platforms pass every hyperparameter as a string (``"0.1"``, ``"True"``, ``"[1, 2]"``, some clients quote strings
        again); the declared type says what is meant. Keys that SageMaker adds are ignored.

        Raises:
            SettingsError: an unknown name, or a value of the wrong type or out of range.
        """
        known = {key: value for key, value in values.items() if not key.startswith(_PLATFORM_KEYS)}
        for key in known:
            if key not in cls.model_fields:
                near = difflib.get_close_matches(key, cls.model_fields, n=1)
                names = ", ".join(cls.model_fields) or "none"
                raise SettingsError(
                    f"unknown hyperparameter {key!r}",
                    where=f"hyperparameters.{key}",
                    hint=f"did you mean {near[0]!r}?" if near else f"this recipe has: {names}",
                )
        decoded = {
            key: decode_string(value, cls.model_fields[key].annotation) if isinstance(value, str) else value
            for key, value in known.items()
        }
        try:
            return cls.model_validate(decoded)
        except ValidationError as error:
            raise _settings_error(cls, error, known) from None


def decode_string(text: str, annotation: Any) -> object:
    """A string as a platform sends it, as the value that ``annotation`` asks for; pydantic checks it afterwards."""
    found = members(annotation)
    stripped = text.strip()
    if type(None) in found and stripped.lower() in _NONE:
        return None
    wanted = [member for member in found if member is not type(None)]
    quoted = _unquote(stripped)
    if any(_holds_text(member) for member in wanted):
        return quoted if quoted is not None else text
    plain = quoted.strip() if quoted is not None else stripped
    if type(None) in found and plain.lower() in _NONE:
        return None  # '"None"': quoted again by the client
    if bool in wanted and plain.lower() in _TRUE | _FALSE and not {int, float} & set(wanted):
        return plain.lower() in _TRUE
    try:
        value: object = json.loads(plain)
    except ValueError:
        return plain
    if isinstance(value, float) and value.is_integer() and int in wanted and float not in wanted:
        return int(value)  # "3.0" for an int: JavaScript and YAML writers send whole numbers so
    return value


def secret_fields(model: type[BaseModel]) -> frozenset[str]:
    """Names of the fields that are declared as pydantic's ``SecretStr`` or ``SecretBytes``: never shown nor stored."""
    return frozenset(
        name
        for name, field in model.model_fields.items()
        if any(
            isinstance(part, type) and issubclass(part, (SecretStr, SecretBytes)) for part in members(field.annotation)
        )
    )


def members(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of a union, or the annotation alone."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return members(typing.get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return tuple(part for member in typing.get_args(annotation) for part in members(member))
    return (annotation,)


def _holds_text(annotation: Any) -> bool:
    if typing.get_origin(annotation) is typing.Literal:
        return any(isinstance(choice, str) for choice in typing.get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return any(isinstance(choice.value, str) for choice in annotation)
    return isinstance(annotation, type) and issubclass(annotation, _TEXT)


def _unquote(text: str) -> str | None:
    """The string inside a JSON string literal; None when it is not one."""
    if len(text) >= 2 and text[0] == text[-1] == '"':
        try:
            value = json.loads(text)
        except ValueError:
            return None
        return value if isinstance(value, str) else None
    return None


def _settings_error(model: type[Hyperparameters], error: ValidationError, given: Mapping[str, object]) -> SettingsError:
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    if not name:
        return SettingsError(str(first["msg"]), where="hyperparameters", hint="see `mealkit describe`")
    field = model.model_fields[name]
    allowed = ", ".join([_type_name(field.annotation), *_limits(field.metadata)])
    about = f" ({field.description})" if field.description else ""
    shown = "the given secret" if name in secret_fields(model) else repr(given.get(name))
    return SettingsError(
        f"hyperparameter {name!r} cannot be {shown}: {_lower_first(str(first['msg']))}",
        where=f"hyperparameters.{name}",
        hint=f"{name} is {allowed}{about}; its default is {field.default!r}",
    )


_SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤", "multiple_of": "a multiple of", "pattern": "like"}
_SIGNS |= {"min_length": "length ≥", "max_length": "length ≤"}


def _limits(metadata: list[Any]) -> list[str]:
    """A field's range as one reads it: ``> 0``, ``≤ 1``."""
    found = [(sign, getattr(item, name, None)) for item in metadata for name, sign in _SIGNS.items()]
    return [f"{sign} {limit}" for sign, limit in found if limit is not None]


def _type_name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
