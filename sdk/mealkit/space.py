"""The search space: which hyperparameters trials vary, and within which ranges, as the declared fields tell."""

from __future__ import annotations

import enum
import math
import typing
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from mealkit._value import dataclass

from .errors import SettingsError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from .hyperparameters import Hyperparameters

Choice = str | int | float | bool | None

_KEY = "search"


def search(
    *,
    low: float | None = None,
    high: float | None = None,
    log: bool = False,
    step: float | None = None,
    choices: Collection[Choice] | None = None,
    enabled: bool = True,
) -> dict[str, Any]:
    """How trials vary a field, where its own range is too wide or has an open end; for ``json_schema_extra``.

    .. code-block:: python

        learning_rate: float = Field(0.1, gt=0, le=1, json_schema_extra=mealkit.search(low=1e-3, log=True))
        threads: int = Field(2, ge=1, le=64, json_schema_extra=mealkit.search(enabled=False))

    Args:
        low: The lowest value that is tried; None: the field's own lower bound.
        high: The highest value that is tried; None: the field's own upper bound.
        log: Whether values are spread evenly over their logarithm; ``low`` must be above 0.
        step: Only ``low``, ``low + step``, … are tried.
        choices: Only these are tried.
        enabled: False: trials leave the field at its default.
    """
    told = {"low": low, "high": high, "step": step, "choices": None if choices is None else list(choices)}
    found: dict[str, Any] = {key: value for key, value in told.items() if value is not None}
    if log:
        found["log"] = True
    if not enabled:
        found["enabled"] = False
    return {_KEY: found}


@dataclass(frozen=True)
class Dimension:
    """One hyperparameter that trials vary.

    Attributes:
        name: The field.
        kind: ``float``, ``int`` or ``choice``.
        low: The lowest value, itself allowed; None for a choice.
        high: The highest value, itself allowed; None for a choice.
        log: Whether values are spread over their logarithm.
        step: The distance of neighbouring values; None: any.
        choices: The values of a choice.
    """

    name: str
    kind: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    choices: tuple[Choice, ...] = ()

    def holds(self, value: object) -> bool:
        """Whether a value can be one of the tried ones."""
        if self.kind == "choice":
            return any(type(value) is type(choice) and value == choice for choice in self.choices)
        if isinstance(value, bool) or not isinstance(value, int if self.kind == "int" else int | float):
            return False
        if self.low is None or self.high is None or not self.low <= value <= self.high:
            return False
        if self.step is None:
            return True
        steps = (value - self.low) / self.step
        return math.isclose(steps, round(steps), abs_tol=1e-8)


def dimensions(model: type[Hyperparameters], fixed: Collection[str] = ()) -> tuple[Dimension, ...]:
    """The fields of ``model`` that trials vary, without those of ``fixed``.

    A ``bool``, ``Literal`` or ``Enum`` is a choice; an ``int`` or ``float`` with a lower and an upper bound is a range;
    :func:`search` in ``json_schema_extra`` narrows it. Everything else stays at its default.

    Raises:
        SettingsError: a marker does not fit its field.
    """
    found = (_dimension(name, field) for name, field in model.model_fields.items() if name not in fixed)
    return tuple(dimension for dimension in found if dimension is not None)


def _dimension(name: str, field: FieldInfo) -> Dimension | None:
    extra = field.json_schema_extra
    marker: Mapping[str, Any] = {}
    if isinstance(extra, Mapping) and isinstance(extra.get(_KEY), Mapping):
        marker = typing.cast("Mapping[str, Any]", extra[_KEY])
    if marker.get("enabled") is False:
        return None
    if "choices" in marker:
        return Dimension(name, "choice", choices=tuple(marker["choices"]))
    from .hyperparameters import members

    kinds = [member for member in members(field.annotation) if member is not type(None)]
    if len(kinds) != 1:
        return _unmarked(name, marker, "is of no type that has a range", "give choices, or take mealkit.search away")
    choices = _choices(kinds[0])
    if choices is not None:
        return Dimension(name, "choice", choices=choices) if len(choices) > 1 else None
    if kinds[0] not in (int, float):
        return _unmarked(name, marker, "is of no type that has a range", "give choices, or take mealkit.search away")
    return _range(name, kinds[0] is int, field, marker)


def _unmarked(name: str, marker: Mapping[str, Any], what: str, hint: str) -> Dimension | None:
    """Nothing to vary, which is a mistake only where a marker asks for it."""
    if marker:
        raise _wrong(name, what, hint)
    return None


def _choices(kind: Any) -> tuple[Choice, ...] | None:
    if kind is bool:
        return (False, True)
    if typing.get_origin(kind) is typing.Literal:
        values = typing.get_args(kind)
    elif isinstance(kind, type) and issubclass(kind, enum.Enum):
        values = tuple(member.value for member in kind)
    else:
        return None
    plain = tuple(value.value if isinstance(value, enum.Enum) else value for value in values)
    return plain if all(isinstance(value, str | int | float | bool | None) for value in plain) else None


def _range(name: str, whole: bool, field: FieldInfo, marker: Mapping[str, Any]) -> Dimension | None:
    low, high = _bound(field, "ge", "gt", max, whole), _bound(field, "le", "lt", min, whole)
    for key, narrower in (("low", max), ("high", min)):
        if key in marker:
            own = low if key == "low" else high
            if own is not None and narrower(own, marker[key]) != marker[key]:
                raise _wrong(name, f"is never as {key} as {marker[key]}", f"its bound is {own}")
    low, high = marker.get("low", low), marker.get("high", high)
    if low is None or high is None:
        return _unmarked(name, marker, "has no lower or no upper bound", "give mealkit.search both low and high")
    log, step = bool(marker.get("log")), marker.get("step", _multiple(field))
    if low > high:
        raise _wrong(name, f"has no value from {low} to {high}", "mend its bounds")
    if log and (low < 1e-300 or step is not None):
        raise _wrong(name, "cannot be searched by its logarithm", "give mealkit.search(low=…) above 0, and no step")
    if low == high:
        return None
    if step is not None:
        first = math.ceil(low / step) * step if "step" not in marker else low
        last = first + math.floor((high - first) / step + 1e-9) * step
        low, high = (int(first), int(last)) if whole else (first, last)
        step = int(step) if whole else step
    return Dimension(name, "int" if whole else "float", low, high, log, step)


def _bound(field: FieldInfo, closed: str, opened: str, pick: Any, whole: bool) -> float | None:
    """The tightest bound that the field's constraints tell; an open one is moved to the next number."""
    away = math.inf if pick is max else -math.inf
    found: list[float] = []
    for item in field.metadata:
        if (limit := getattr(item, closed, None)) is not None:
            found.append(math.ceil(limit) if whole and pick is max else math.floor(limit) if whole else limit)
        if (limit := getattr(item, opened, None)) is not None:
            if whole:
                found.append(math.floor(limit) + 1 if pick is max else math.ceil(limit) - 1)
            else:
                found.append(math.nextafter(limit, away))
    finite = [limit for limit in found if math.isfinite(limit)]
    tightest: float | None = pick(finite) if finite else None
    return tightest


def _multiple(field: FieldInfo) -> float | None:
    steps = [getattr(item, "multiple_of", None) for item in field.metadata]
    return next((step for step in steps if step is not None), None)


def _wrong(name: str, what: str, hint: str) -> SettingsError:
    return SettingsError(f"hyperparameter {name!r} {what}", where=f"hyperparameters.{name}", hint=hint)
