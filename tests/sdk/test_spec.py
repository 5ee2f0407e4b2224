"""The specification: canonical JSON out and in, and nothing else in."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mealkit.errors import ProjectError
from mealkit.spec import RecipeSpec

text = st.text(max_size=8)
json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(text, json_values, max_size=3)
specs = st.builds(
    RecipeSpec,
    name=text,
    version=text,
    kind=text,
    summary=text,
    target=st.none() | text,
    keys=st.lists(text, max_size=3).map(tuple),
    components=st.dictionaries(text, text, max_size=3),
    inputs=st.dictionaries(text, text, max_size=3),
    hyperparameters=objects,
    input=st.none() | objects,
    output=st.none() | objects,
    input_schemas=objects,
    metrics=st.dictionaries(text, st.sampled_from(["maximize", "minimize"]), max_size=3),
    resources=objects,
    requires_python=text,
    mealkit=text,
)


@given(spec=specs)
def test_json_and_back(spec: RecipeSpec) -> None:
    again = RecipeSpec.from_json(spec.to_json())
    assert again == spec
    assert again.digest == spec.digest
    assert RecipeSpec.from_json(spec.to_json().encode()) == spec


def test_what_came_later_is_left_out_where_it_is_not_used() -> None:
    spec = RecipeSpec("churn", "1.0")
    assert "time" not in json.loads(spec.to_json())
    later = replace(spec, time="day")
    assert RecipeSpec.from_json(later.to_json()).time == "day"
    assert later.digest != spec.digest


def test_equal_specifications_are_equal_bytes_whatever_the_order() -> None:
    one = RecipeSpec("r", "1", components={"a": "x", "b": "y"})
    two = replace(one, components={"b": "y", "a": "x"})
    assert one.to_json() == two.to_json()
    assert one.digest.startswith("sha256:")
    assert replace(one, version="2").digest != one.digest


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", "3", "{}", '{"spec_version": 2, "name": "r", "version": "1"}', '{"spec_version": 1}',
     '{"spec_version": 1, "name": "r", "version": 1}', '{"spec_version": 1, "name": "r", "version": "1", "keys": 3}',
     '{"spec_version": 1, "name": "r", "version": "1", "metrics": {"a": "up"}}', b"\xff"],
)  # fmt: skip
def test_what_is_no_specification_is_refused(content: str | bytes) -> None:
    with pytest.raises(ProjectError) as caught:
        RecipeSpec.from_json(content)
    assert caught.value.hint


def test_a_newer_form_is_refused_with_what_to_do() -> None:
    newer = json.dumps({**json.loads(RecipeSpec("r", "1").to_json()), "spec_version": 9})
    with pytest.raises(ProjectError, match="has version 9; this mealkit reads version 1") as caught:
        RecipeSpec.from_json(newer)
    assert "newer" in str(caught.value.hint)
