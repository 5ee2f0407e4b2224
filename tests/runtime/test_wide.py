"""Tables of very many columns, and of names that are nearly those of others."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pydantic
import pytest

import mealkit
from mealkit.errors import SchemaError
from mealkit_runtime.dataset import locate, pieces
from mealkit_runtime.likeness import nearest
from mealkit_runtime.schema import schema_of


def seconds(columns: int, folder: Path) -> float:
    """Of the processor's time, to read and check five pieces of so many columns."""
    names = [f"a_column_with_number_{number}" for number in range(columns)]
    path = folder / f"{columns}.parquet"
    pq.write_table(pa.table({name: [1.0] * 5 for name in names}), path, row_group_size=1)
    fields = dict.fromkeys(names, (float, ...))
    schema = schema_of(pydantic.create_model("Wide", __base__=mealkit.Row, **fields))  # type: ignore[call-overload]
    source = locate(str(path))
    before = time.process_time()
    assert sum(map(len, pieces(source, schema, 1))) == 5
    return time.process_time() - before


def test_the_time_for_a_wide_table_grows_with_its_columns_and_not_with_their_square(tmp_path: Path) -> None:
    seconds(10, tmp_path)
    few, many = (min(seconds(columns, tmp_path) for _ in range(2)) for columns in (100, 800))
    assert many < 25 * few, "8 times as many columns; 64 times the time would be their square"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("amuont", "amount"), ("AMOUNT", "amount"), ("Customer ID", "customer_id"), ("customerId", "customer_id"),
        ("store.type", "storeType"), ("größe", "GRÖSSE"), ("xyz", None), ("", None), ("%", "%"),
    ],
)  # fmt: skip
def test_the_name_that_was_meant(name: str, meant: str | None) -> None:
    assert nearest(name, ["customer_id", "amount", "storeType", "GRÖSSE", "%", "customer_ids"]) == meant


def test_a_missing_column_names_its_look_alike(tmp_path: Path) -> None:
    class Order(mealkit.Row):
        customer_id: int

    (tmp_path / "x.csv").write_text("Customer ID,amount\n1,2\n")
    with pytest.raises(SchemaError, match="'customer_id' is missing") as caught:
        list(pieces(locate(str(tmp_path / "x.csv")), schema_of(Order), 10))
    assert caught.value.hint == "is it 'Customer ID'? rename that to 'customer_id'"
