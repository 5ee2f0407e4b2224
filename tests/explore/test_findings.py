"""What an author is warned of, and of what not."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from profiles import profile

from mealkit_runtime.profile.finding import CODES
from mealkit_runtime.profile.wording import number, percent, round_down

ROWS = 2_000


def told(frame: pd.DataFrame | pa.Table, **options: object) -> dict[str, set[str | None]]:
    found: dict[str, set[str | None]] = {}
    for finding in profile(frame, **options).findings:
        assert finding.code in CODES
        found.setdefault(finding.code, set()).add(finding.column)
    return found


def test_sound_data_raise_no_warning() -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "a": random.normal(size=ROWS),
            "b": random.integers(0, 500, ROWS),
            "c": random.choice(["x", "y", "z"], ROWS),
            "d": random.random(ROWS) < 0.4,
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(ROWS) // 10, "D"),
        }
    )
    assert told(frame, target="d") == {}


def test_every_trap_is_told() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=ROWS)
    label = random.random(ROWS) < 0.02
    frame = pd.DataFrame(
        {
            "id": np.arange(ROWS) + 5,
            "email": [f"u{number}@example.com" for number in range(ROWS)],
            "x": x,
            "x_again": x,
            "x_scaled": 3 * x + 1,
            "always": 7,
            "once": [None, *["v"] * (ROWS - 1)],
            "rare": [1.5, 2.5] * 10 + [None] * (ROWS - 20),
            "nothing": pd.Series([None] * ROWS, dtype="float64"),
            "endless": np.where(np.arange(ROWS) == 3, np.inf, x),
            "tail": random.lognormal(0, 3, ROWS),
            "day": [f"{1 + number % 28}/3/24" for number in range(ROWS)],
            "price": [f"{number % 97},50" for number in range(ROWS)],
            "padded": [" a" if number % 2 else "b" for number in range(ROWS)],
            "words": [f"w{number % 1_500}" for number in range(ROWS)],
            "hint": label.astype(float),
            "label": label,
        }
    )
    found = told(frame, target="label")
    assert found["identifier"] == {"id", "email"}
    assert found["same-as"] == {"x_again"}
    assert found["correlated"] == {"x_scaled", "endless"}
    assert found["constant"] == {"always", "once"}
    assert found["mostly-missing"] == {"rare"}
    assert found["all-missing"] == {"nothing"}
    assert found["infinite"] == {"endless"}
    assert "tail" in found["outliers"]
    assert found["dates-as-text"] == {"day"}
    assert found["numbers-as-text"] == {"price"}
    assert found["blanks"] == {"padded"}
    assert found["many-values"] == {"words"}
    assert found["leak"] == {"hint"}
    assert found["imbalanced"] == {"label"}


def test_targets_that_need_care() -> None:
    assert told(pd.DataFrame({"y": [1.0, None, 3.5, 2.5], "x": [1, 2, 1, 1]}), target="y")["target-missing"] == {"y"}
    assert told(pd.DataFrame({"y": [1, 1, 1], "x": [1, 2, 3]}), target="y")["target-constant"] == {"y"}


def test_rows_that_belong_together_are_told() -> None:
    random = np.random.default_rng(0)
    names = ("visitor_id", "visitorId", "paid", "store", "ID")
    frame = pd.DataFrame({name: random.integers(0, 300, ROWS) for name in names})
    assert told(frame)["group"] == {"visitor_id", "visitorId", "ID"}
    text = next(finding.text for finding in profile(frame).findings if finding.code == "group")
    assert text.startswith("visitor_id names 299 things with 6.69 rows each")


def test_a_gap_in_dates_is_told() -> None:
    days = pd.date_range("2024-01-01", periods=100).delete(range(40, 50))
    found = [finding.text for finding in profile(pd.DataFrame({"day": days})).findings]
    assert found == [
        "day has 1 gaps longer than its usual 1 day; the longest is 11 days, from 2024-02-09 to 2024-02-20"
    ]


def test_an_odd_word_among_numbers_is_named() -> None:
    table = pa.table({"size": [*map(str, range(50)), "many", *map(str, range(50))]})
    finding = next(one for one in profile(table, 20, text=True).findings if one.code == "numbers-as-text")
    assert finding.text.startswith("size would be numbers, but for 'many'")


def test_shares_and_correlations_never_round_to_certainty() -> None:
    assert [percent(share) for share in (0, 1, 0.5, 0.0004, 0.99951, 0.055, 0.987)] == [
        "0 %", "100 %", "50 %", "<0.1 %", ">99.9 %", "5.5 %", "98.7 %"
    ]  # fmt: skip
    assert [round_down(value) for value in (1, -1, 0.9991, 0.5)] == ["1.00", "-1.00", "0.9991", "0.50"]
    assert [number(value) for value in (3, 1.0, 0.123456, 14269.4, 1234567.8, 1e30, float("inf"))] == [
        "3", "1", "0.12346", "14,269", "1,234,568", "1e+30", "inf"
    ]  # fmt: skip


def test_every_code_is_described() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reference" / "data.md").read_text(encoding="utf-8")
    described = {
        code for row in re.findall(r"^\| (`.+?`) \|", text, re.MULTILINE) for code in re.findall(r"`([a-z-]+)`", row)
    }
    assert set(CODES) <= described
