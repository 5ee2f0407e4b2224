"""Rows that belong together, in data that are not sorted: found by a sort on disk, the same scores, nothing left."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from churn_runs import Runner, make_events, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mealkit.errors import SchemaError, StorageError
from mealkit_runtime import cutting
from mealkit_runtime.grouping import Sorter, temporary_folder
from mealkit_runtime.stop import Stopper

JSON = ("--log-format", "json")
QUICK = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def scattered(tmp_path: Path) -> tuple[Path, Path]:
    """Events sorted by customer, and the same ones in another order, each customer's own in the same one."""
    events = make_events(400, seed=5).drop(columns="left")
    events = events.sort_values("customer", kind="stable").reset_index(drop=True)
    random = np.random.default_rng(0)
    turn = pd.Series(random.random(len(events))).groupby(events["customer"]).transform(lambda part: np.sort(part))
    mixed = events.iloc[np.argsort(turn.to_numpy(), kind="stable")]
    assert mixed["customer"].tolist() != events["customer"].tolist()
    return write(events, tmp_path / "sorted.parquet"), write(mixed, tmp_path / "mixed.parquet")


def score(run: Runner, data: Path, model: Path, source: Path, output: Path, *more: object) -> Any:
    plans = ("--input", f"plans={data}/plans.csv")
    return run(
        "score", "--input", source, *plans, "--model", model, "--output", output, "--run-id", "r",
        "--batch-rows", "100", *JSON, *more,
    )  # fmt: skip


@pytest.mark.parametrize(("how", "workers"), [("auto", 1), ("engine", 2)])
def test_scattered_rows_give_the_scores_of_sorted_ones(
    run: Runner,
    data: Path,
    model: Path,
    tmp_path: Path,
    scattered: tuple[Path, Path],
    place: Path,
    how: str,
    workers: int,
) -> None:
    plain, mixed = scattered
    assert score(run, data, model, plain, tmp_path / "a", "--group", "sorted").code == 0
    outcome = score(run, data, model, mixed, tmp_path / "b", "--group", how, "--workers", workers)
    assert outcome.code == 0, outcome.err
    left, right = (pd.read_parquet(tmp_path / name / "batch_id=r") for name in "ab")
    pd.testing.assert_frame_equal(left, right, check_exact=True)
    assert not list(place.iterdir())


def test_sorted_rows_are_not_sorted_again(
    run: Runner, data: Path, model: Path, tmp_path: Path, scattered: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cutting, "Sorter", None)
    assert score(run, data, model, scattered[0], tmp_path / "a").code == 0


def test_without_the_engine(
    run: Runner, data: Path, model: Path, tmp_path: Path, scattered: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = score(run, data, model, scattered[1], tmp_path / "a", "--group", "sorted")
    assert (outcome.code, outcome.error["code"]) == (3, "data")
    monkeypatch.setattr(cutting, "has_engine", lambda: False)
    outcome = score(run, data, model, scattered[1], tmp_path / "a")
    assert (outcome.code, outcome.error["code"]) == (3, "data")
    assert "add duckdb to the recipe's dependencies" in outcome.error["hint"]
    outcome = score(run, data, model, scattered[1], tmp_path / "a", "--group", "engine")
    assert (outcome.code, outcome.error["code"], outcome.error["where"]) == (2, "settings", "group")
    assert "add duckdb to the recipe's dependencies" in outcome.error["hint"]
    assert score(run, data, model, scattered[0], tmp_path / "a").code == 0
    outcome = score(run, data, model, scattered[0], tmp_path / "a", "--group", "both")
    assert (outcome.code, outcome.error["where"]) == (2, "group")


def test_a_bad_row_is_told_by_its_place_in_the_file(
    run: Runner, data: Path, model: Path, tmp_path: Path, scattered: tuple[Path, Path], place: Path
) -> None:
    events = pd.read_parquet(scattered[1])
    events.loc[events.index[1_200], "amount"] = -1
    source = write(events, tmp_path / "bad.parquet")
    outcome = score(run, data, model, source, tmp_path / "a", "--group", "engine")
    assert (outcome.code, outcome.error["code"]) == (3, "schema")
    assert "row 1,201, column amount" in outcome.error["where"]
    assert not (tmp_path / "a").exists()
    assert not list(place.iterdir())


KEYS = st.one_of(
    st.lists(st.one_of(st.none(), st.integers(-5, 5)), min_size=1, max_size=60),
    st.lists(st.one_of(st.none(), st.text(max_size=3).filter(lambda text: "\0" not in text)), min_size=1, max_size=60),
    st.lists(st.one_of(st.none(), st.dates()), min_size=1, max_size=60),
)


@QUICK
@given(KEYS, st.integers(1, 30), st.integers(1, 20))
def test_a_sort_keeps_rows_and_types_and_the_order_within_a_group(keys: list[Any], cut: int, rows: int) -> None:
    table = pa.table(
        {
            "Key": pa.array(keys),
            "key": [f"{number}" if number % 3 else None for number in range(len(keys))],
            "none": pa.nulls(len(keys)),
            "number": pa.array(range(len(keys)), pa.int16()),
            "at": pa.array([number * 1_000_000 for number in range(len(keys))], pa.timestamp("us")),
            "list": [[number, None] for number in range(len(keys))],
        }
    )
    pieces = (table.slice(start, cut) for start in range(0, len(table), cut))
    with tempfile.TemporaryDirectory() as folder:
        found = pa.concat_tables(Sorter("Key", rows, Path(folder)).sort(pieces))
    assert found.schema.equals(table.schema)
    rank = {key: number for number, key in enumerate(sorted({key for key in keys if key is not None}, key=_binary))}
    order = sorted(range(len(keys)), key=lambda row: (keys[row] is None, rank.get(keys[row], 0), row))
    assert found.to_pylist() == table.take(order).to_pylist()


def _binary(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


def test_more_than_fits_into_the_memory(tmp_path: Path) -> None:
    random = np.random.default_rng(0)

    def tables() -> Iterator[Any]:
        for number in range(20):
            start = number * 50_000
            values = random.integers(0, 100_000, 50_000)
            yield pa.table({"key": values, **{f"v{i}": random.random(50_000) for i in range(4)}, "row": values + start})

    spilled, count, last = 0, 0, -1
    for table in Sorter("key", 100_000, tmp_path, memory=48 << 20).sort(tables()):
        spilled = max(spilled, sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()))
        keys = table["key"].to_numpy()
        assert keys[0] >= last
        assert (np.diff(keys) >= 0).all()
        count, last = count + len(table), keys[-1]
    assert count == 1_000_000
    assert spilled > 4 << 20, "the sort does not fit into that"


def test_files_that_do_not_agree(tmp_path: Path) -> None:
    tables = iter([pa.table({"key": [1], "v": [1]}), pa.table({"key": [1], "v": ["x"]})])
    with pytest.raises(SchemaError, match="do not agree"):
        list(Sorter("key", 10, tmp_path).sort(tables))
    assert list(Sorter("key", 10, tmp_path).sort(iter(()))) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    def tables() -> Iterator[Any]:
        for _ in range(60):
            yield pa.table({"key": np.random.default_rng(0).integers(0, 9, 50_000), "v": np.zeros(50_000)})

    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(StorageError, match="sorting the rows by key"):
        list(Sorter("key", 10_000, file / "below", memory=16 << 20).sort(tables()))


def test_what_killed_runs_left_is_removed_and_what_living_ones_have_is_not(place: Path) -> None:
    dead, living, empty = (place / f"mealkit-group-{name}" for name in ("dead", "living", "empty"))
    for folder in (dead, living, empty):
        folder.mkdir()
    (dead / "rows").write_text("rows")
    lock = os.open(living, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with temporary_folder(Stopper()) as mine:
        (mine / "more").write_text("rows")
        assert sorted(place.iterdir()) == sorted([living, mine])
    os.close(lock)
    assert sorted(place.iterdir()) == [living]
