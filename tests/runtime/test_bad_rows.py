"""Bad rows: told, skipped or kept; counted so that all rows add up; a limit; keys that must not come again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from churn_runs import Outcome, Runner, make_events, write
from hypothesis import given, settings
from hypothesis import strategies as st

import mealkit
from mealkit.errors import BadRowsError, ProjectError, RowsLostError, SchemaError
from mealkit.row import json_schema
from mealkit_runtime.bad_row import BadRows
from mealkit_runtime.dataset import locate, pieces, read_table
from mealkit_runtime.schema import schema_of
from mealkit_runtime.sieve import Sieve
from mealkit_runtime.unique import Keys

JSON = ("--log-format", "json")
SKIP = ("--on-bad-rows", "skip")
KEEP = ("--on-bad-rows", "quarantine")


def spoiled(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[int], dict[str, dict[str, int]]]:
    """Events of which some are bad, which, and by what."""
    frame = frame.astype({"amount": object, "items": object, "kind": object, "customer": object, "plan": object})
    frame["day"] = frame["day"].dt.strftime("%Y-%m-%d").astype(object)
    frame = frame.where(frame.notna(), None)
    for row, column, value in (
        (3, "amount", -1), (4, "amount", -2.5), (10, "items", "many"), (11, "items", 1.5), (20, "kind", "letter"),
        (20, "amount", -3), (21, "customer", "7"), (30, "day", "yesterday"), (31, "day", None),
    ):  # fmt: skip
        frame.loc[row, column] = value
    rules = {
        "amount": {"ge": 2},
        "items": {"type": 2},
        "kind": {"choice": 1},
        "customer": {"pattern": 1},
        "day": {"type": 1, "missing": 1},
    }
    return frame, [3, 4, 10, 11, 20, 21, 30, 31], rules


def write_lines(frame: pd.DataFrame, path: Path) -> Path:
    rows = [{key: _json(value) for key, value in row.items()} for row in frame.to_dict("records")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _json(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    return None if value is None or value is pd.NA or value != value else value


@pytest.fixture
def scoring(run: Runner, common: tuple[str, ...], model: Path, tmp_path: Path) -> Callable[..., Outcome]:
    def runner(source: Path, *more: object, output: str = "scores") -> Outcome:
        return run("score", "--input", source, *common, "--model", model, "--output", tmp_path / output, *JSON, *more)

    return runner


Scoring = Callable[..., Outcome]


def counts(outcome: Outcome) -> tuple[int, int, int, int]:
    result = outcome.result
    return result["rows_read"], result["rows_used"], result["rows_skipped"], result["rows_quarantined"]


def batch(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder).drop(columns="batch_id").reset_index(drop=True)


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl"])
def test_skipping_bad_rows_is_scoring_the_others(scoring: Scoring, tmp_path: Path, name: str) -> None:
    frame, bad, rules = spoiled(make_events(seed=1).drop(columns="left"))
    source = write(frame, tmp_path / name) if name == "x.csv" else write_lines(frame, tmp_path / name)
    clean = write(make_events(seed=1).drop(columns="left").drop(index=bad), tmp_path / "clean.parquet")
    outcome = scoring(source, *SKIP)
    assert outcome.code == 0, outcome.err
    assert counts(outcome) == (len(frame), len(frame) - len(bad), len(bad), 0)
    assert outcome.result["bad_rows"] == rules
    assert scoring(clean, output="clean").code == 0
    pd.testing.assert_frame_equal(batch(tmp_path / "scores"), batch(tmp_path / "clean"), check_exact=True)
    warnings = outcome.result["warnings"]
    assert len(warnings) == 6, "the first five, and the counts"
    assert warnings[0] == (
        f"{source}, row 4, column amount: the column 'amount' is -1.0, but must be ≥ 0; the row is skipped"
    )
    assert warnings[-1].startswith(f"8 of {len(frame):,} rows were bad and skipped: ")
    record = json.loads(next((tmp_path / "scores").rglob("_batch.json")).read_text())
    assert (record["input"]["rows"], record["input"]["rows_used"]) == (len(frame), len(frame) - len(bad))
    assert not (tmp_path / "scores.quarantine").exists()


@pytest.mark.parametrize("rows", ["7", "100000"])
def test_quarantine_keeps_bad_rows_to_be_mended(scoring: Scoring, tmp_path: Path, rows: str) -> None:
    frame, bad, rules = spoiled(make_events(seed=1).drop(columns="left"))
    source = write(frame, tmp_path / "x.csv")
    outcome = scoring(source, *KEEP, "--run-id", "r", "--batch-rows", rows)
    assert outcome.code == 0, outcome.err
    assert counts(outcome) == (len(frame), len(frame) - len(bad), 0, len(bad))
    folder = tmp_path / "scores.quarantine" / "run_id=r"
    assert outcome.result["quarantine"] == str(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["run_id=r"]
    kept = pd.read_csv(folder / "bad-rows.csv", dtype=str, keep_default_na=False)
    assert kept["_row"].tolist() == [str(row + 1) for row in bad]
    assert set(kept["_file"]) == {str(source)}
    assert list(zip(kept["_column"], kept["_rule"], kept["_value"], strict=True)) == [
        ("amount", "ge", "-1"), ("amount", "ge", "-2.5"), ("items", "type", "many"), ("items", "type", "1.5"),
        ("kind", "choice", "letter"), ("customer", "pattern", "7"), ("day", "type", "yesterday"),
        ("day", "missing", ""),
    ]  # fmt: skip
    assert [column for column in kept.columns if column[0] != "_"] == [
        "customer",
        "day",
        "kind",
        "amount",
        "items",
        "plan",
    ]
    found = {name: dict(group["_rule"].value_counts()) for name, group in kept.groupby("_column")}
    assert found == rules
    mended = folder / "bad-rows.csv"
    text = mended.read_text().replace("yesterday", "2026-01-05").replace("many", "3").replace("letter", "call")
    mended.write_text(text)
    again = scoring(mended, *SKIP, output="mended")
    assert counts(again) == (8, 2, 6, 0), "the row that was a letter has a second fault"


def test_a_run_that_fails_keeps_nothing(
    scoring: Scoring, run: Runner, common: tuple[str, ...], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame, _, rules = spoiled(make_events(seed=1).drop(columns="left"))
    source = write(frame, tmp_path / "x.csv")
    outcome = scoring(source, *KEEP, "--max-bad-rows", "7")
    assert outcome.error["code"] == "bad-rows"
    assert "8 of" in outcome.error["message"]
    assert outcome.result["rows_quarantined"] == 8
    assert outcome.result["bad_rows"] == rules
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.csv"]
    monkeypatch.setattr("mealkit_runtime.batch.ParquetBatchSaver.commit", lambda self: 1 / 0)
    assert scoring(source, *KEEP).code == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.csv"]
    monkeypatch.undo()
    kept = tmp_path / "kept"
    assert scoring(source, *KEEP, "--quarantine", kept, "--run-id", "a").code == 0
    assert scoring(source, *KEEP, "--quarantine", kept, "--run-id", "b", "--max-bad-rows", "0").code == 3
    assert [path.name for path in kept.iterdir()] == ["run_id=a"]


def test_a_run_replaces_what_a_killed_one_left(scoring: Scoring, tmp_path: Path) -> None:
    frame, bad, _ = spoiled(make_events(seed=1).drop(columns="left"))
    source = write(frame, tmp_path / "x.csv")
    left = tmp_path / "scores.quarantine" / "run_id=r"
    for rows in (frame, frame.drop(index=bad)):
        shutil.rmtree(tmp_path / "scores", ignore_errors=True)
        left.mkdir(parents=True, exist_ok=True)
        (left / "bad-rows.csv").write_text("half")
        write(rows, source)
        assert scoring(source, *KEEP, "--run-id", "r").code == 0
        assert left.exists() is (len(rows) == len(frame))
    assert scoring(source, *KEEP, "--run-id", "r").result["batch"]["existed"]


def test_limits(scoring: Scoring, tmp_path: Path) -> None:
    frame, bad, _ = spoiled(make_events(seed=1).drop(columns="left"))
    source = write(frame, tmp_path / "x.csv")
    part = len(bad) / len(frame)
    for limit, code in (
        ("8", 0),
        ("7", 3),
        (str(part + 0.001), 0),
        (str(part - 0.001), 3),
        ("0", 3),
        ("0.0", 3),
        ("1.0", 0),
    ):
        outcome = scoring(source, *SKIP, "--max-bad-rows", limit, output=f"scores{limit}")
        assert outcome.code == code, limit
        if code:
            assert outcome.error["code"] == "bad-rows"
            assert outcome.error["hint"]
            assert not (tmp_path / f"scores{limit}").exists()


def test_all_rows_are_bad(scoring: Scoring, tmp_path: Path) -> None:
    source = write(make_events(seed=1).drop(columns="left").assign(amount=-1.0), tmp_path / "x.parquet")
    outcome = scoring(source, *SKIP)
    assert outcome.error["code"] == "bad-rows"
    assert "all" in outcome.error["message"]
    assert "amount ge" in outcome.error["message"]
    typed = write(make_events(seed=1).drop(columns="left").assign(amount="1"), tmp_path / "typed.parquet")
    assert scoring(typed, *SKIP).error["code"] == "bad-rows"


def test_a_missing_column_is_no_bad_row(scoring: Scoring, tmp_path: Path) -> None:
    source = write(make_events().rename(columns={"amount": "amounts"}), tmp_path / "x.csv")
    outcome = scoring(source, *SKIP)
    assert outcome.error["code"] == "schema"
    assert outcome.error["hint"].startswith("is it 'amounts'?")


def test_rows_that_get_lost_fail_the_run(
    scoring: Scoring, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mealkit_runtime import sieve

    sift = sieve.Sieve.sift

    def losing(self: sieve.Sieve, table: Any, *given: Any, **more: Any) -> Any:
        return sift(self, pa.concat_tables([table, table.slice(0, 1)]), *given, **more).slice(0, len(table))

    monkeypatch.setattr(sieve.Sieve, "sift", losing)
    for policy in ("fail", "skip", "quarantine"):
        outcome = scoring(data / "new.parquet", "--on-bad-rows", policy)
        assert outcome.error["code"] == "rows-lost", outcome.err
        assert outcome.code == 3
        assert not (tmp_path / "scores").exists()


def test_training_and_evaluation(run: Runner, common: tuple[str, ...], data: Path, model: Path, tmp_path: Path) -> None:
    frame, bad, rules = spoiled(make_events())
    source = write(frame, tmp_path / "x.csv")
    clean = write(make_events().drop(index=bad), tmp_path / "clean.csv")

    def trained(name: str, *argv: object) -> Any:
        outcome = run("train", *argv, *common, "--model", tmp_path / name, *JSON)
        assert outcome.code == 0, outcome.err
        return outcome, outcome.result["metrics"]

    outcome, metrics = trained("m", "--input", source, "--validation", source, *KEEP)
    assert counts(outcome) == (len(frame), len(frame) - len(bad), 0, len(bad))
    assert outcome.result["bad_rows"] == rules
    assert metrics == trained("clean", "--input", clean, "--validation", clean)[1]
    kept = pd.read_csv(next((tmp_path / "m.quarantine").rglob("*.csv")), dtype=str)
    assert len(kept) == 2 * len(bad), "those of the validation dataset too"
    judged = run("evaluate", "--input", source, *common, "--model", model, *JSON, *SKIP)
    again = run("evaluate", "--input", clean, *common, "--model", model, *JSON)
    assert judged.result["metrics"] == again.result["metrics"]
    assert counts(judged)[1:] == (len(frame) - len(bad), len(bad), 0)
    kept_too = run(
        "evaluate", "--input", source, *common, "--model", model, *JSON, *KEEP, "--quarantine", tmp_path / "q"
    )
    assert kept_too.result["quarantine"].startswith(str(tmp_path / "q"))
    refused = run("evaluate", "--input", source, *common, "--model", model, *JSON, *KEEP)
    assert refused.error["code"] == "settings"
    assert "--quarantine" in refused.error["hint"]


def test_secrets_are_not_kept(run: Runner, common: tuple[str, ...], model: Path, tmp_path: Path) -> None:
    frame = make_events(seed=1).drop(columns="left").astype({"kind": object})
    frame.loc[3, "kind"] = "canary-5f0c"
    source = write(frame, tmp_path / "x.csv")
    outcome = run(
        "score", "--input", source, *common, "--model", model, "--output", tmp_path / "s", *JSON, *KEEP,
        environment={"MEALKIT_SET_TOKEN": "canary-5f0c"},
    )  # fmt: skip
    assert outcome.code == 0
    kept = next((tmp_path / "s.quarantine").rglob("*.csv")).read_text()
    assert "***" in kept
    for text in (kept, outcome.out, outcome.err):
        assert "canary-5f0c" not in text


@pytest.mark.parametrize(
    ("more", "where", "hint"),
    [
        (("--on-bad-rows", "skp"), "on_bad_rows", "did you mean 'skip'?"),
        (("--quarantine", "q"), "quarantine", "--on-bad-rows quarantine"),
        ((*SKIP, "--quarantine", "q"), "quarantine", "--on-bad-rows quarantine"),
        ((*SKIP, "--max-bad-rows", "many"), "max_bad_rows", "0.01"),
        ((*SKIP, "--max-bad-rows", "1.5"), "max_bad_rows", "fraction"),
        ((*SKIP, "--max-bad-rows", "-1"), "max_bad_rows", "whole number"),
    ],
)
def test_settings_of_bad_rows(scoring: Scoring, data: Path, more: tuple[str, ...], where: str, hint: str) -> None:
    outcome = scoring(data / "new.parquet", *more)
    assert outcome.code == 2
    assert outcome.error["where"] == where
    assert hint in outcome.error["hint"]


def test_rows_that_stand_together_stay_so_without_the_bad_ones(scoring: Scoring, tmp_path: Path) -> None:
    frame = make_events(seed=1).drop(columns="left")
    frame = pd.concat([part for _, part in sorted(frame.groupby("customer"), key=lambda item: item[0][::-1])])
    frame = frame.reset_index(drop=True).astype({"kind": object})
    frame.loc[frame.index % 9 == 4, "kind"] = "letter"
    source = write(frame, tmp_path / "x.parquet")
    for rows in ("5", "1000"):
        outcome = scoring(source, *SKIP, "--batch-rows", rows, output=f"s{rows}")
        assert outcome.code == 0, outcome.err
    pd.testing.assert_frame_equal(batch(tmp_path / "s5"), batch(tmp_path / "s1000"))


class Order(mealkit.Row, unique=("shop", "number")):
    shop: str | None
    number: int
    note: str | None = None


class Visit(mealkit.Row, unique="id"):
    id: int


class Name(mealkit.Row, unique="id"):
    id: str


def test_keys_that_come_again(tmp_path: Path) -> None:
    rows = [("a", 1), ("b", 1), ("a", 2), ("a", 1), (None, 1), (None, 1), ("b", 1)]
    for part in (0, 1):
        shops, numbers = zip(*rows[part::2], strict=True)
        pq.write_table(pa.table({"shop": shops, "number": numbers}), tmp_path / f"{part}.parquet")
    source = locate(str(tmp_path))
    ledger = BadRows("skip")
    found = pa.concat_tables(pieces(source, schema_of(Order), 2, ledger)).to_pylist()
    assert [(row["shop"], row["number"]) for row in found] == [
        ("a", 1), ("a", 2), (None, 1), ("b", 1), (None, 1),
    ]  # fmt: skip
    assert ledger.by_rule == {"shop+number": {"unique": 2}}
    assert json_schema(Order)["x-unique"] == ["shop", "number"]
    with pytest.raises(SchemaError, match=r"'shop\+number' is 'b \+ 1', which an earlier row has") as caught:
        list(pieces(source, schema_of(Order), 2))
    assert caught.value.where == f"{tmp_path}/1.parquet, row 1, column shop+number"


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.lists(st.integers(-3, 20) | st.integers(-(2**63), 2**63 - 1), max_size=8), max_size=8), st.booleans()
)
def test_every_key_passes_once(tables: list[list[int]], as_text: bool) -> None:
    keys = Keys(("id",))
    seen: set[int] = set()
    for values in tables:
        array = pa.array(
            [str(value) for value in values] if as_text else values, pa.string() if as_text else pa.int64()
        )
        wanted = []
        for value in values:
            wanted.append(value in seen)
            seen.add(value)
        assert keys.repeated(pa.table({"id": pa.chunked_array([array])}), "x").tolist() == wanted


def test_keys_in_bounded_memory() -> None:
    def table(values: list[int]) -> pa.Table:
        return pa.table({"id": values})

    grows = Keys(("id",), most=10)
    for start in range(0, 100, 5):
        assert not grows.repeated(table(list(range(start, start + 5))), "x").any()
    assert not grows._runs, "sorted keys need no memory"
    with pytest.raises(SchemaError, match="more than 10 keys"):
        grows.repeated(table([3]), "x")
    mixed = Keys(("id",), most=10)
    for start in (50, 0):
        mixed.repeated(table(list(range(start, start + 5))), "x")
    with pytest.raises(SchemaError) as caught:
        mixed.repeated(table([200]), "x")
    assert "sort the dataset by id" in str(caught.value.hint)


def test_a_key_must_be_of_required_columns() -> None:
    with pytest.raises(ProjectError, match="has no column 'b'"):

        class Wrong(mealkit.Row, unique=("a", "b")):
            a: int

    with pytest.raises(ProjectError, match="default"):

        class Absent(mealkit.Row, unique=("a",)):
            a: int = 0

    assert Order.__unique__ == ("shop", "number")
    assert mealkit.Row.__unique__ == ()


def test_absent_keys_of_json_lines_have_their_default(tmp_path: Path) -> None:
    class Row(mealkit.Row):
        a: int
        b: float = 0.5
        c: str | None = "none"

    (tmp_path / "x.jsonl").write_text('{"a": 1, "b": 2}\n{"a": 2}\n{"a": 3, "b": null}\n{"a": 4, "c": null}\n')
    ledger = BadRows("skip")
    found = read_table(locate(str(tmp_path / "x.jsonl")), schema_of(Row), ledger)[0].to_pylist()
    assert found == [
        {"a": 1, "b": 2.0, "c": "none"}, {"a": 2, "b": 0.5, "c": "none"}, {"a": 4, "b": 0.5, "c": None},
    ]  # fmt: skip
    assert ledger.by_rule == {"b": {"missing": 1}}


def test_the_ledger_adds_up() -> None:
    ledger = BadRows("skip")
    Sieve(schema_of(Visit), ledger).sift(pa.table({"id": [1, 2, None, 2]}), "x")
    assert ledger.facts()["bad_rows"] == {"id": {"missing": 1, "unique": 1}}
    ledger.settle(2, "x")
    for used in (1, 3):
        with pytest.raises(RowsLostError):
            ledger.settle(used, "x")
    nothing = BadRows("skip")
    Sieve(schema_of(Visit), nothing).sift(pa.table({"id": pa.array([None], pa.int64())}), "x")
    with pytest.raises(BadRowsError, match="all 1 rows are bad: id missing 1"):
        nothing.settle(0, "x")


def test_rows_are_numbered_and_counted_whatever_else_is_asked(scoring: Scoring, tmp_path: Path) -> None:
    frame, _, _ = spoiled(make_events(seed=1).drop(columns="left"))
    apart = frame.sample(frac=1, random_state=0)
    source = write(apart, tmp_path / "x.csv")
    numbers = {int(row): number for number, row in enumerate(apart.index, 1)}
    chosen = ("--where", "plan = 'gold'", "--workers", "2", "--group", "engine", "--batch-rows", "40")
    outcome = scoring(source, *KEEP, *chosen, "--run-id", "r")
    assert outcome.code == 0, outcome.err
    gold = frame[frame["plan"] == "gold"]
    wanted = sorted(numbers[row] for row in (3, 4, 10, 11, 20, 21, 30, 31) if row in gold.index)
    assert counts(outcome) == (len(gold), len(gold) - len(wanted), 0, len(wanted))
    kept = pd.read_csv(tmp_path / "scores.quarantine" / "run_id=r" / "bad-rows.csv", dtype=str)
    assert kept["_row"].astype(int).tolist() == wanted
    # Unsorted, and without an engine that sorts: the rows are read once more, and the same ones are left out.
    refused = scoring(source, *SKIP, "--group", "sorted", output="refused")
    assert refused.error["code"] == "data"


def test_shards_keep_their_own_bad_rows(scoring: Scoring, tmp_path: Path) -> None:
    frame = make_events(seed=1).drop(columns="left").astype({"kind": object})
    frame.loc[[3, len(frame) - 1], "kind"] = "letter"
    cut = int(np.flatnonzero(frame["customer"].ne(frame["customer"].shift()))[60])
    for number, part in enumerate((frame.iloc[:cut], frame.iloc[cut:])):
        write(part, tmp_path / "in" / f"{number}.parquet")
    found = [scoring(tmp_path / "in", *KEEP, "--shard", f"{shard}/2", "--run-id", "r") for shard in (0, 1)]
    assert [outcome.code for outcome in found] == [0, 0], found[0].err + found[1].err
    kept = [counts(outcome)[3] for outcome in found]
    assert sum(kept) == 2
    folders = sorted(path.name for path in (tmp_path / "scores.quarantine").iterdir())
    assert folders == [f"run_id=r.{shard}-of-2" for shard in (0, 1) if kept[shard]]
    record = json.loads(next((tmp_path / "scores").rglob("_batch.json")).read_text())
    assert (record["input"]["rows"], record["input"]["rows_used"]) == (len(frame), len(frame) - 2)
