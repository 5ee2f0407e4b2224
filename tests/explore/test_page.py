"""The page of a profile, in a real browser."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from browser import look
from profiles import Mealkit, mixed, profile

from mealkit.errors import UsageError
from mealkit_runtime.profile.page import html


def test_a_browser_shows_it(mealkit: Mealkit, tmp_path: Path) -> None:
    frame = mixed(900).drop(columns=["big", "y"])
    frame["<b>name</b>"] = [f"n{number}" for number in range(900)]
    frame.to_parquet(tmp_path / "x.parquet")
    page = tmp_path / "x.html"
    code, out, err = mealkit("data", "profile", tmp_path / "x.parquet", "--target", "flag", "--html", page)
    assert (code, err) == (0, "")
    assert out.endswith(f"the page: {page}\n")
    seen = look(page, tmp_path)
    assert seen.problems == []
    assert seen.requests == []
    text, plots = seen.found["text"], seen.found["plots"]
    for words in ("Look out", "<b>name</b> looks like an identifier", "Missing values", "The classes of flag", "900"):
        assert words in text
    assert {plot["label"] for plot in plots} == {
        "Share of missing values by column and part of the rows",
        "Rows of each class of flag",
        "How strongly columns go with flag",
        "Pearson correlation of columns",
        "Distribution of x",
        "share of flag = true by x",
        "Distribution of heavy",
        "share of flag = true by heavy",
        "Most frequent values of color",
        "share of flag = true by color",
        "Most frequent values of flag",
    }
    assert all(plot["width"] > 200 and plot["height"] > 50 and plot["texts"] for plot in plots)
    assert seen.found["width"] <= seen.found["window"]
    assert seen.colors() > 20


def test_the_same_profile_gives_the_same_page() -> None:
    found = profile(mixed(200).drop(columns=["big", "y", "heavy"]))
    assert html(found) == html(found)


def test_few_columns_give_a_page_too() -> None:
    for values, sections in (([1], 3), ([None, None], 4), (["x", "y"], 2)):
        assert html(profile(pd.DataFrame({"a": values}))).count("<section") == sections


def test_letters_that_the_plots_font_lacks_are_left_to_the_browser() -> None:
    text = html(profile(pd.DataFrame({"城市": ["上海", "上海", "$x_1$"] * 9})))
    assert ">上海</text>" in text
    assert ">$x_1$</text>" in text


def test_without_matplotlib_it_is_told_before_the_work(
    mealkit: Mealkit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing() -> None:
        raise UsageError("plots need matplotlib, which is not installed", hint="add matplotlib")

    monkeypatch.setattr("mealkit_runtime.plot.need_matplotlib", missing)
    code, _, err = mealkit("data", "profile", tmp_path / "none.csv", "--html", tmp_path / "x.html")
    assert (code, "plots need matplotlib" in err) == (2, True)


def test_a_folder_that_cannot_be_written(mealkit: Mealkit, tmp_path: Path) -> None:
    pd.DataFrame({"a": [1, 2]}).to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "file").write_text("")
    code, out, err = mealkit("data", "profile", tmp_path / "a.csv", "--html", tmp_path / "file" / "x.html")
    assert (code, out) == (8, "")
    assert "error[storage]: writing the page" in err
