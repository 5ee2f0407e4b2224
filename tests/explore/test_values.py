"""A profile's values are pandas' own, however the rows come in pieces."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from profiles import RETAIL, cut, mixed, profile, profile_file

from mealkit.errors import SettingsError
from mealkit_runtime.profile.association import correlation_ratio, uncertainty_coefficient
from mealkit_runtime.profile.distinct import Values
from mealkit_runtime.profile.moment import CoMoments, Moments
from mealkit_runtime.profile.sample import RowSample

NUMBERS = ("x", "y", "heavy", "big")


@pytest.mark.parametrize("size", [97, 1_000, 100_000])
def test_numbers_are_those_of_pandas(size: int) -> None:
    frame = mixed()
    found = profile(frame, size)
    assert (found.rows, found.sample, found.sampled) == (7_000, 7_000, False)
    for name in NUMBERS:
        column, series = found.column(name), frame[name]
        numbers = column.numbers
        assert numbers is not None
        assert column.missing == series.isna().sum()
        assert (column.distinct, column.distinct_exact) == (series.nunique(), True)
        assert (numbers.minimum, numbers.maximum) == (series.min(), series.max())
        assert numbers.mean == pytest.approx(series.mean(), rel=1e-12)
        assert numbers.std == pytest.approx(series.std(), rel=1e-9)
        for share, value in numbers.quantiles.items():
            assert value == pytest.approx(series.quantile(float(share)), rel=1e-12)
        assert numbers.outliers is not None
        assert numbers.histogram is not None
        assert sum(numbers.histogram.counts) + numbers.histogram.beyond == series.count()
        lower, upper = series.quantile(0.25), series.quantile(0.75)
        low, high = lower - 1.5 * (upper - lower), upper + 1.5 * (upper - lower)
        assert (numbers.outliers.below, numbers.outliers.above) == ((series < low).sum(), (series > high).sum())


def test_correlations_are_those_of_pandas_also_with_missing_values() -> None:
    frame = mixed()
    found = profile(frame, 500).correlations
    assert found is not None
    assert found.names == NUMBERS
    frame["big"] -= 10**9  # where pandas' own loses seven digits
    np.testing.assert_allclose(np.array(found.pearson), frame[[*NUMBERS]].corr(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(np.array(found.spearman), frame[[*NUMBERS]].corr("spearman"), rtol=1e-9, atol=1e-12)


def test_most_frequent_values_and_times() -> None:
    frame = mixed()
    found = profile(frame)
    expected = frame["color"].value_counts()
    assert [(one.value, one.rows) for one in found.column("color").top] == list(expected.items())
    flags = {one.value: one.rows for one in found.column("flag").top}
    assert flags == {"true": frame["flag"].sum(), "false": (~frame["flag"]).sum()}
    times = found.column("at").times
    assert found.column("at").kind == "date"
    assert times is not None
    days = frame["at"].drop_duplicates().sort_values()
    assert (times.first, times.last, times.days) == ("2024-01-01", str(days.max().date()), len(days))
    assert found.column("at").top[0].value == str(frame["at"].value_counts().sort_index().idxmax().date())


def test_gaps_of_dates() -> None:
    weeks = pd.date_range("2024-01-05", periods=40, freq="7D").delete([10, 20, 21])
    times = profile(pd.DataFrame({"week": weeks})).column("week").times
    assert times is not None
    assert (times.days, times.step, times.gaps) == (37, 7, 2)
    assert times.longest_gap is not None
    assert (times.longest_gap.after, times.longest_gap.before, times.longest_gap.days) == (
        "2024-05-17",
        "2024-06-07",
        21,
    )


def test_a_csv_gives_what_a_parquet_file_gives(tmp_path: Path) -> None:
    frame = mixed(3_000)
    frame.to_csv(tmp_path / "x.csv", index=False)
    frame.to_parquet(tmp_path / "x.parquet")
    text, typed = profile_file(tmp_path / "x.csv"), profile_file(tmp_path / "x.parquet")
    for one, other in zip(text.columns, typed.columns, strict=True):
        assert (one.kind, one.missing, one.distinct) == (other.kind, other.missing, other.distinct)
        if one.numbers and other.numbers:  # their pieces differ, and so the last bits of sums
            assert one.numbers.mean == pytest.approx(other.numbers.mean, rel=1e-12)
            assert one.numbers.std == pytest.approx(other.numbers.std, rel=1e-9)
            assert replace(one.numbers, mean=0, std=0) == replace(other.numbers, mean=0, std=0)
        assert {count.value: count.rows for count in one.top if count.rows > 1}.keys() == {
            count.value for count in other.top if count.rows > 1
        }
    assert text.correlations is not None
    assert typed.correlations is not None
    np.testing.assert_allclose(np.array(text.correlations.pearson), np.array(typed.correlations.pearson), atol=1e-12)
    assert text.correlations.spearman == typed.correlations.spearman


def test_the_retail_sales_are_as_pandas_describes_them() -> None:
    frame = pd.read_csv(RETAIL)
    found = profile_file(RETAIL, target="weeklySales")
    numeric = frame.select_dtypes("number")
    described = numeric.describe()
    for name in numeric:
        numbers = found.column(name).numbers
        assert numbers is not None
        told = [len(frame) - found.column(name).missing, numbers.mean, numbers.std, numbers.minimum]
        told += [numbers.quantiles[share] for share in ("0.25", "0.5", "0.75")] + [numbers.maximum]
        np.testing.assert_allclose(np.array(told, float), described[name], rtol=1e-9)
        assert found.column(name).distinct == frame[name].nunique()
    assert found.correlations is not None
    np.testing.assert_allclose(np.array(found.correlations.pearson, float), numeric.corr(), rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(np.array(found.correlations.spearman, float), numeric.corr("spearman"), rtol=1e-8)
    assert {column.name: column.kind for column in found.columns} == {
        "date": "str", "store": "int", "storeType": "str", "weeklySales": "float", "storeSize": "int",
        "temperature": "float", "regionalFuelPrice": "float", "markDown": "float", "cpi": "float",
        "unemployment": "float", "isHoliday": "bool",
    }  # fmt: skip
    assert {count.value: count.rows for count in found.column("isHoliday").top} == {
        "false": (~frame["isHoliday"]).sum(), "true": frame["isHoliday"].sum()
    }  # fmt: skip
    assert found.target is not None
    assert found.target.kind == "number"
    assert found.target.associations[0].column in ("storeSize", "storeType")
    by_type = frame.groupby("storeType")["weeklySales"].mean()
    groups = next(one for one in found.target.associations if one.column == "storeType").groups
    assert {group.label: pytest.approx(group.target) for group in groups} == by_type.to_dict()
    assert ("dates-as-text", "date") in {(finding.code, finding.column) for finding in found.findings}


def test_the_same_seed_gives_the_same_profile_however_the_rows_come() -> None:
    frame = mixed(2_000)
    small = profile(frame, 2_000, size=500, target="flag")
    assert small.sample == 500
    assert small.sampled
    for pieces_of in (97, 999):
        again = profile(frame, pieces_of, size=500, target="flag")
        for one, other in zip(small.columns, again.columns, strict=True):
            assert (one.top, one.distinct, one.missing_by_part) == (other.top, other.distinct, other.missing_by_part)
            if one.numbers and other.numbers:
                assert one.numbers.quantiles == other.numbers.quantiles
                assert one.numbers.mean == pytest.approx(other.numbers.mean, rel=1e-12)
    assert (
        profile(frame, 97, size=500, target="flag").to_text() == profile(frame, 97, size=500, target="flag").to_text()
    )
    assert profile(frame, 2_000, size=500, seed=1).column("x").numbers != small.column("x").numbers


def test_quantiles_of_a_sample_are_near() -> None:
    rows = 120_000
    values = np.random.default_rng(3).permutation(rows).astype(float)
    found = profile(pd.DataFrame({"x": values}), 10_000, size=5_000).column("x").numbers
    assert found is not None
    # The share below a sample's quantile has the deviation sqrt(q (1 - q) / n): at most 0.7 % of the rows.
    for share, value in found.quantiles.items():
        assert abs(value / rows - float(share)) < 5 * math.sqrt(0.25 / 5_000)


def test_a_sample_is_fair() -> None:
    """Each row is kept as often as any other."""
    hits = np.zeros(40)
    for seed in range(600):
        sample = RowSample(10, seed)
        for piece in cut(pa.table({"row": range(40)}), 7):
            sample.add(piece)
        kept = sample.table()["row"].to_numpy()
        assert len(kept) == 10
        assert (np.diff(kept) > 0).all()
        hits[kept] += 1
    # Each count is binomial(600, 1/4): deviation 10.6.
    assert np.abs(hits - 150).max() < 5 * 10.7


def test_many_different_values_are_estimated() -> None:
    values = Values(1_000)
    for start in range(0, 200_000, 10_000):
        keys = [f"v{number}" for number in range(start, start + 10_000)]
        values.add([*keys, "often"], [1] * len(keys) + [2_000])
    assert not values.exact
    assert values.distinct == pytest.approx(200_001, rel=0.04)  # five standard errors
    assert values.top(3)[0][0] == "often"
    assert 30_000 < values.top(3)[0][1] <= 40_000


def test_moments_are_exact_far_from_zero() -> None:
    random = np.random.default_rng(0)
    values = 1e9 + random.normal(0, 1e-3, 50_000)
    moments = Moments()
    for part in np.array_split(values, 13):
        moments.add(part, np.ones(len(part), dtype=int))
    assert moments.std == pytest.approx(np.std(values, ddof=1), rel=1e-6)
    products = CoMoments()
    other = values + random.normal(0, 1e-3, 50_000)
    for one, two in zip(np.array_split(values, 13), np.array_split(other, 13), strict=True):
        products.add({"one": one, "two": two})
    assert products.pearson()["one", "two"] == pytest.approx(np.corrcoef(values, other)[0, 1], abs=1e-6)


def test_only_the_first_columns_are_correlated_but_the_target_always_is() -> None:
    products = CoMoments(3, reserved="y")
    products.add({name: np.arange(5.0) for name in ("a", "b", "c", "d", "y")})
    assert products.names == ["a", "b", "y"]
    assert products.left_out == {"c", "d"}


def test_ranks_of_a_wide_table_are_thinned() -> None:
    random = np.random.default_rng(0)
    base = random.normal(size=12_000)
    frame = pd.DataFrame({f"x{number}": base + random.normal(size=12_000) for number in range(50)})
    found = profile(frame, 12_000).correlations
    assert found is not None
    assert found.ranked == 6_000
    off = ~np.eye(50, dtype=bool)
    expected = 6 / math.pi * math.asin(0.5 / 2)  # Spearman's of normal numbers whose Pearson's is 0.5
    assert np.abs(np.array(found.spearman, float)[off] - expected).max() < 6 / math.sqrt(6_000)


def test_strength_with_a_target_of_classes() -> None:
    random = np.random.default_rng(0)
    label = random.choice(["no", "yes"], 3_000, p=[0.8, 0.2])
    frame = pd.DataFrame(
        {
            "label": label,
            "told": np.where(label == "yes", "a", "b"),
            "noise": random.choice(["p", "q"], 3_000),
            "near": (label == "yes") + random.normal(0, 0.5, 3_000),
            "name": [f"n{number}" for number in range(3_000)],
        }
    )
    target = profile(frame, target="label").target
    assert target is not None
    assert (target.kind, target.shown) == ("class", "share of label = yes")
    assert {one.value: one.rows for one in target.balance} == frame["label"].value_counts().to_dict()
    strength = {one.column: one.value for one in target.associations}
    assert strength["told"] == pytest.approx(1)
    assert strength["noise"] < 0.01
    group = frame.groupby("label")["near"]
    between = (group.size() * (group.mean() - frame["near"].mean()) ** 2).sum()
    assert strength["near"] == pytest.approx(math.sqrt(between / ((frame["near"] - frame["near"].mean()) ** 2).sum()))
    assert target.left_out == ("name",)
    told = next(one for one in target.associations if one.column == "told").groups
    assert {one.label: one.target for one in told} == {"a": 1, "b": 0}


def test_measures_by_hand() -> None:
    codes = np.array([0, 0, 1, 1])
    assert correlation_ratio(codes, np.array([1.0, 1.0, 3.0, 3.0])) == 1
    assert correlation_ratio(codes, np.array([1.0, 3.0, 1.0, 3.0])) == 0
    assert correlation_ratio(codes, np.ones(4)) is None
    assert uncertainty_coefficient(codes, np.array([5, 5, 7, 8])) == pytest.approx(1)
    assert uncertainty_coefficient(codes, np.array([5, 7, 5, 7])) == pytest.approx(0)
    assert uncertainty_coefficient(np.zeros(4), codes) is None


def test_a_target_that_cannot_be_one() -> None:
    frame = mixed(100)
    with pytest.raises(SettingsError, match="no column 'colour'") as caught:
        profile(frame, target="colour")
    assert caught.value.hint == "did you mean 'color'?"
    with pytest.raises(SettingsError, match="cannot be a target: it is date"):
        profile(frame, target="at")
