"""Which hyperparameters trials vary, as the fields tell."""

from __future__ import annotations

import enum
import math
from typing import Literal

import pytest
from pydantic import Field, SecretStr

import mealkit
from mealkit.errors import SettingsError
from mealkit.space import Dimension, dimensions


class Color(enum.Enum):
    red = "r"
    blue = "b"


class Wide(mealkit.Hyperparameters):
    rate: float = Field(0.1, gt=0, le=1, json_schema_extra=mealkit.search(low=1e-3, log=True))
    share: float = Field(0.5, gt=0, lt=1)
    trees: int = Field(100, gt=0, lt=501)
    even: int = Field(4, ge=3, le=9, multiple_of=2)
    fast: bool = True
    shape: Literal["round", "square"] = "round"
    color: Color = Color.red
    depth: int | None = Field(None, ge=1, le=8)
    leaves: int = Field(31, ge=2, json_schema_extra=mealkit.search(high=255, log=True))
    size: int = Field(1, json_schema_extra=mealkit.search(choices=[1, 16, 256]))
    grid: float = Field(0.0, ge=0, le=1, json_schema_extra=mealkit.search(step=0.25))
    # What trials leave alone:
    only: Literal["one"] = "one"
    same: int = Field(3, ge=3, le=3)
    free: float = 1.0
    half: int = Field(1, ge=0)
    name: str = "x"
    token: SecretStr | None = None
    mixed: int | float = Field(1, ge=0, le=2)
    left: int = Field(2, ge=1, le=64, json_schema_extra=mealkit.search(enabled=False))


def test_the_declared_ranges_are_searched() -> None:
    found = {one.name: one for one in dimensions(Wide)}
    assert found == {
        one.name: one
        for one in (
            Dimension("rate", "float", 1e-3, 1, log=True),
            Dimension("share", "float", math.nextafter(0, 1), math.nextafter(1, 0)),
            Dimension("trees", "int", 1, 500),
            Dimension("even", "int", 4, 8, step=2),
            Dimension("fast", "choice", choices=(False, True)),
            Dimension("shape", "choice", choices=("round", "square")),
            Dimension("color", "choice", choices=("r", "b")),
            Dimension("depth", "int", 1, 8),
            Dimension("leaves", "int", 2, 255, log=True),
            Dimension("size", "choice", choices=(1, 16, 256)),
            Dimension("grid", "float", 0, 1, step=0.25),
        )
    }


def test_what_was_set_is_fixed() -> None:
    names = {one.name for one in dimensions(Wide, {"rate", "fast"})}
    assert not names & {"rate", "fast"}
    assert "trees" in names


def test_every_end_of_a_range_is_allowed() -> None:
    for one in dimensions(Wide):
        for value in one.choices or (one.low, one.high):
            assert one.holds(value), one
            Wide.decode({one.name: value})
        assert not one.holds("elsewhere")
        assert not one.holds(None)
        if one.high is not None:
            assert not one.holds(one.high + 1)
    steps = next(one for one in dimensions(Wide) if one.name == "grid")
    assert [steps.holds(value) for value in (0.25, 0.3, True)] == [True, False, False]


def test_the_marker_stands_in_the_schema() -> None:
    schema = Wide.model_json_schema()["properties"]
    assert schema["rate"]["search"] == {"low": 1e-3, "log": True}
    assert schema["left"]["search"] == {"enabled": False}


def wrong(marker: dict[str, object], **options: object) -> type[mealkit.Hyperparameters]:
    kind = options.pop("kind", float)
    field = Field(options.pop("default", 0.5), json_schema_extra=marker, **options)  # type: ignore[call-overload]
    return type("Wrong", (mealkit.Hyperparameters,), {"__annotations__": {"x": kind}, "x": field})


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (wrong(mealkit.search(log=True), ge=0, le=1), "cannot be searched by its logarithm"),
        (wrong(mealkit.search(log=True, step=0.1), ge=0.1, le=1), "cannot be searched by its logarithm"),
        (wrong(mealkit.search(low=0.1)), "has no lower or no upper bound"),
        (wrong(mealkit.search(low=-1), ge=0, le=1), "is never as low as -1"),
        (wrong(mealkit.search(high=2), ge=0, le=1), "is never as high as 2"),
        (wrong(mealkit.search(low=0.9, high=0.1), ge=0, le=1), "has no value from 0.9 to 0.1"),
        (wrong(mealkit.search(low=0), kind=str, default="a"), "is of no type that has a range"),
    ],
)
def test_a_marker_that_does_not_fit_is_told(model: type[mealkit.Hyperparameters], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        dimensions(model)
    assert message in caught.value.message
    assert caught.value.where == "hyperparameters.x"
    assert caught.value.hint
