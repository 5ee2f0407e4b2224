"""Between processes: values of any size, tables of any type without copies, and an end that is noticed."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from mealkit_runtime.channel import pair, share, shared

TABLES = {
    "plain": pa.table({"a": [1, None, 3], "b": ["x", "", None], "c": [1.5, float("nan"), None]}),
    "empty": pa.table({"a": pa.array([], pa.int64())}),
    "no columns": pa.table({}),
    "nested": pa.table({"l": [[1, 2], None, []], "s": [{"p": 1}, None, {"p": 2}]}),
    "dictionary": pa.table({"d": pa.array(["x", "y", "x"]).dictionary_encode()}),
    "times": pa.table({"t": [datetime(2026, 1, 1, tzinfo=UTC)], "n": [Decimal("1.50")], "z": pa.nulls(1)}),
    "chunks": pa.concat_tables([pa.table({"a": ["p", "q"]}), pa.table({"a": ["r"]})]),
    "a slice": pa.table({"a": [f"row {number}" for number in range(1000)], "f": pa.array(range(1000))}).slice(300, 7),
    "metadata": pa.table({"a": [1]}).replace_schema_metadata({"pandas": "{}"}),
}


def descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


@pytest.mark.parametrize("name", TABLES)
def test_a_table_comes_as_it_went(name: str) -> None:
    before = descriptors()
    table = TABLES[name]
    ours, theirs = pair()
    handle = share(table)
    ours.send({"name": name}, handle)
    os.close(handle)
    value, descriptor = theirs.receive()
    assert value == {"name": name}
    assert descriptor is not None
    assert not os.get_inheritable(descriptor)
    again = shared(descriptor)
    ours.close()
    theirs.close()
    assert again.schema.equals(table.schema, check_metadata=True)
    assert again.to_pylist() == table.to_pylist() or name == "plain"  # nan is not equal to itself
    assert str(again.to_pylist()) == str(table.to_pylist())
    assert descriptors() == before


def test_values_larger_than_any_buffer_and_then_the_end() -> None:
    ours, theirs = pair()
    values = ["x" * 5_000_000, None, list(range(100_000))]

    def send() -> None:
        for value in values:
            ours.send(value)
        ours.close()

    thread = threading.Thread(target=send)
    thread.start()
    assert [theirs.receive() for _ in values] == [(value, None) for value in values]
    thread.join()
    with pytest.raises(EOFError):
        theirs.receive()
    with pytest.raises(OSError):  # noqa: PT012 (the first one may still find room)
        for _ in range(10):
            theirs.send("does anybody listen?")
    theirs.close()
