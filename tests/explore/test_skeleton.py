"""The row schema that a profile suggests is one, and takes the data that it was made of."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from odd_tables import tables
from profiles import RETAIL, mixed, profile, profile_file

import mealkit
from mealkit_runtime.dataset import locate, pieces
from mealkit_runtime.profile import skeleton
from mealkit_runtime.profile.value import Profile
from mealkit_runtime.schema import schema_of


def row_of(found: Profile) -> type[mealkit.Row]:
    space: dict[str, Any] = {"__name__": "suggested"}
    exec(compile(skeleton.settings(found), "settings.py", "exec", dont_inherit=True), space)
    return cast("type[mealkit.Row]", space["Row"])


def rows_of(path: Path, row: type[mealkit.Row]) -> int:
    return sum(map(len, pieces(locate(str(path)), schema_of(row), 1_000)))


def test_the_retail_sales() -> None:
    found = profile_file(RETAIL, target="weeklySales")
    assert rows_of(RETAIL, row_of(found)) == 6_435
    text = skeleton.settings(found)
    assert '    storeType: Literal["A", "B", "C"]' in text
    assert "    store: int" in text
    assert "# 1 … 45" in text
    assert "    isHoliday: bool" in text
    assert skeleton.project(found).splitlines() == [
        "[tool.mealkit]", 'kind = "regression"', 'input = "my_recipe.settings:Row"', 'target = "weeklySales"'
    ]  # fmt: skip


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".jsonl"])
def test_what_it_is_made_of_is_taken(tmp_path: Path, ending: str) -> None:
    frame = mixed(500)
    path = tmp_path / f"x{ending}"
    if ending == ".csv":
        frame.to_csv(path, index=False)
    elif ending == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=True, date_format="iso")
    found = profile_file(path, target="flag")
    row = row_of(found)
    assert row.columns() == tuple(frame)
    assert rows_of(path, row) == 500
    assert row.model_fields["color"].annotation is not str
    assert 'kind = "classification"' in skeleton.project(found)
    assert ('time = "at"' in skeleton.project(found)) == (ending != ".jsonl")  # JSON has texts only
    assert ("times-as-text" in {finding.code for finding in found.findings}) == (ending == ".jsonl")


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(tables())
def test_any_table_is_taken(table: pa.Table) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.parquet"
        pq.write_table(table, path)
        found = profile(pq.read_table(path))
        assert rows_of(path, row_of(found)) == len(table)


def test_names_that_no_field_can_have_are_told() -> None:
    found = profile(pd.DataFrame({"unit price": [1, 2], "class": [1, 2], "copy": [1, 2], "_x": [1, 2], "ok": [1, 2]}))
    assert row_of(found).columns() == ("ok",)
    text = skeleton.settings(found)
    for name in ("unit price", "class", "copy", "_x"):
        assert f"# '{name}' (int) cannot be a field" in text
    assert row_of(profile(pd.DataFrame({"a b": [1]}))).columns() == ()


def test_keys_are_suggested() -> None:
    found = profile(pd.DataFrame({"visit_id": range(200), "userId": [*range(50)] * 4, "y": [0, 1] * 100}), target="y")
    assert 'keys = ["visit_id", "userId"]' in skeleton.project(found)
