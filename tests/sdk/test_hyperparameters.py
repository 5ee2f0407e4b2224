"""Hyperparameters: what platforms send is decoded by the declared types, or refused with name, range and hint."""

from __future__ import annotations

import enum
import json
import uuid
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

import mealkit
from mealkit import Field
from mealkit.errors import SettingsError
from mealkit.hyperparameters import decode_string


class Loss(enum.Enum):
    LOG = "log"
    ONE = "1"


class Depth(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Part(BaseModel):
    size: int = 1


class Everything(mealkit.Hyperparameters):
    rate: float = Field(0.1, gt=0, le=1, description="shrinkage per tree")
    trees: int = Field(100, ge=1)
    early: bool = False
    name: str = "none"
    limit: int | None = 3
    old_limit: Optional[float] = None  # noqa: UP045  # both spellings must work
    label: str | None = "a"
    loss: Literal["log", "square", "1"] = "log"
    level: Literal[1, 2] = 1
    kind: Loss = Loss.LOG
    depth: Depth = Depth.LOW
    layers: list[int] = Field([10])
    pair: tuple[int, float] = (1, 0.5)
    names: list[str] = Field([])
    weights: dict[str, float] = Field({})
    part: Part = Part()
    ranged: Annotated[int, Field(ge=0)] = 0
    either: Union[int, bool] = 0  # noqa: UP007
    share: float | Literal["auto"] = "auto"
    day: date = date(2026, 1, 1)
    path: Path = Path("x")
    exact: Decimal = Decimal("0")
    identity: uuid.UUID = uuid.UUID(int=0)
    token: SecretStr = SecretStr("")


DECODED: list[tuple[str, str, object]] = [
    ("rate", "0.1", 0.1),
    ("rate", "1", 1.0),
    ("rate", " 1e-3 ", 0.001),
    ("rate", '"0.5"', 0.5),
    ("trees", "12", 12),
    ("trees", "3.0", 3),
    ("trees", '"12"', 12),
    ("early", "True", True),
    ("early", "true", True),
    ("early", "False", False),
    ("early", "false", False),
    ("early", '"True"', True),
    ("early", "1", True),
    ("early", "0", False),
    ("early", "no", False),
    ("name", "adam", "adam"),
    ("name", '"adam"', "adam"),
    ("name", "0.1", "0.1"),
    ("name", "True", "True"),
    ("name", "[1, 2]", "[1, 2]"),
    ("name", "none", "none"),
    ("name", "", ""),
    ("name", '"', '"'),
    ("name", '"not" json "', '"not" json "'),
    ("limit", "7", 7),
    ("limit", "7.0", 7),
    ("limit", "None", None),
    ("limit", "null", None),
    ("limit", "", None),
    ("old_limit", "2", 2.0),
    ("old_limit", "None", None),
    ("label", "null", None),
    ("label", "7", "7"),
    ("loss", "square", "square"),
    ("loss", '"square"', "square"),
    ("loss", "1", "1"),
    ("level", "2", 2),
    ("kind", "log", Loss.LOG),
    ("kind", "1", Loss.ONE),
    ("depth", "2", Depth.HIGH),
    ("layers", "[1, 2]", [1, 2]),
    ("layers", '"[1, 2]"', [1, 2]),
    ("pair", "[1, 2]", (1, 2.0)),
    ("names", '["a", "b"]', ["a", "b"]),
    ("weights", '{"a": 1}', {"a": 1.0}),
    ("part", '{"size": 4}', Part(size=4)),
    ("ranged", "4", 4),
    ("either", "4", 4),
    ("share", "0.25", 0.25),
    ("share", "auto", "auto"),
    ("day", "2026-02-03", date(2026, 2, 3)),
    ("path", "123", Path("123")),
    ("exact", "0.10", Decimal("0.10")),
    ("identity", "12345678123456781234567812345678", uuid.UUID("12345678123456781234567812345678")),
    ("token", "12345", SecretStr("12345")),
]


@pytest.mark.parametrize(("name", "text", "value"), DECODED)
def test_a_string_becomes_what_the_declared_type_says(name: str, text: str, value: object) -> None:
    found = getattr(Everything.decode({name: text}), name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("value", [0.5, 1])
def test_values_that_are_no_strings_are_taken_as_they_are(value: float) -> None:
    assert Everything.decode({"rate": value}).rate == value


def test_what_platforms_add_is_ignored() -> None:
    added = {"sagemaker_job_name": "x", "sagemaker_program": "y", "_tuning_objective_metric": "auc"}
    assert Everything.decode({**added, "trees": "5"}) == Everything(trees=5)


def test_without_values_there_are_the_defaults() -> None:
    assert Everything.decode({}) == Everything()
    assert mealkit.Hyperparameters.decode({}) == mealkit.Hyperparameters()


def refused(values: dict[str, object], model: type[mealkit.Hyperparameters] = Everything) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        model.decode(values)
    return caught.value


@pytest.mark.parametrize("value", ["2", "0", "-0.1", "fast", "NaN", "[0.1]", "", 7, None])
def test_a_value_out_of_range_is_refused_with_name_range_and_default(value: object) -> None:
    error = refused({"rate": value})
    assert "'rate'" in error.message
    assert repr(value) in error.message
    assert error.where == "hyperparameters.rate"
    assert error.hint == "rate is float, > 0, ≤ 1 (shrinkage per tree); its default is 0.1"


@pytest.mark.parametrize(
    ("name", "text"),
    [("trees", "2.5"), ("trees", "True "), ("early", "2"), ("early", "maybe"), ("loss", "hinge"), ("level", "3"),
     ("kind", "cubic"), ("layers", "1, 2"), ("layers", '["a"]'), ("weights", "[1]"), ("part", '{"size": "x"}'),
     ("limit", "many"), ("day", "tomorrow")],
)  # fmt: skip
def test_a_wrong_value_is_refused(name: str, text: str) -> None:
    error = refused({name: text})
    assert error.where == f"hyperparameters.{name}"
    assert repr(text) in error.message
    assert error.hint is not None
    assert name in error.hint


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    assert refused({"tree": 1}).hint == "did you mean 'trees'?"
    assert "rate, trees" in str(refused({"zzz": 1}).hint)
    assert refused({"a": 1}, mealkit.Hyperparameters).hint == "this recipe has: none"


def test_a_secret_is_not_shown() -> None:
    class Secret(mealkit.Hyperparameters):
        token: SecretStr = Field(SecretStr("x"), max_length=3)

    error = refused({"token": "hunter2"}, Secret)
    assert "hunter2" not in error.render()


def test_hyperparameters_are_frozen_and_closed() -> None:
    values = Everything()
    with pytest.raises(ValueError, match="frozen"):
        values.trees = 3
    with pytest.raises(ValueError, match="Extra inputs"):
        Everything(other=1)  # type: ignore[call-arg]


plain = st.fixed_dictionaries(
    {
        "rate": st.floats(min_value=1e-9, max_value=1),
        "trees": st.integers(1, 10**9),
        "early": st.booleans(),
        "limit": st.none() | st.integers(),
        "layers": st.lists(st.integers(-(2**53), 2**53)),
        "names": st.lists(st.text()),
        "weights": st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False)),
        "loss": st.sampled_from(["log", "square", "1"]),
    }
)


@given(values=plain, python=st.booleans(), quoted=st.booleans())
def test_what_a_client_turned_into_strings_comes_back(values: dict[str, Any], python: bool, quoted: bool) -> None:
    def send(value: object) -> str:
        text = str(value) if python and not isinstance(value, (list, dict)) else json.dumps(value)
        return json.dumps(text) if quoted and not isinstance(value, str) else text

    found = Everything.decode({name: send(value) for name, value in values.items()})
    assert found.model_dump(include=set(values)) == values


@given(text=st.text())
def test_text_for_a_text_field_is_the_text_unless_it_is_quoted(text: str) -> None:
    assert Everything.decode({"name": json.dumps(text)}).name == text
    if not text.strip().startswith('"'):
        assert Everything.decode({"name": text}).name == text


@given(text=st.text() | st.from_regex(r'["\[\]{}0-9.,eE+-]*', fullmatch=True))
@pytest.mark.parametrize("annotation", [int, float, bool, list[int], dict[str, int], int | None, Literal[1], Any])
def test_decoding_never_fails_by_itself(annotation: Any, text: str) -> None:
    decode_string(text, annotation)
