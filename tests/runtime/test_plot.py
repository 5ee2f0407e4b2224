"""Plots and pages: the same bytes each time, well-formed, coloured by the page alone, and nothing a name can break."""

from __future__ import annotations

import importlib.util
import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from mealkit.errors import UsageError
from mealkit_runtime import plot
from mealkit_runtime.page import Grid, Section, page

NASTY = '<script>alert("1")</script> & $x_1$ \\frac ü'


def every() -> dict[str, str]:
    title = f"a title {NASTY}"
    return {
        "line": plot.line(
            [(NASTY, [0, 0.5, 1], [0, 0.8, 1]), ("two", [0, 1], [0, 1])],
            title=title, x_label=NASTY, y_label="y", diagonal=True, unit_square=True, markers=True,
        ),
        "scatter": plot.scatter(range(5_000), range(5_000), title=title, x_label="x", y_label=NASTY, zero=True),
        "bars": plot.bars(
            [NASTY, "b", ""], [1, None, 3], title=title, x_label="x", low=[0.5, None, 2], high=[1.5, None, 4],
            reference=2, points=True,
        ),
        "matrix": plot.matrix(
            [[1, -0.5], [float("nan"), 0]], ["a", NASTY], ["b", "c" * 50], title=title, diverging=True, by_row=True
        ),
        "histogram": plot.histogram([1, 0, 4], [0, 1, 2, 3], title=title, x_label="x"),
    }  # fmt: skip


@pytest.fixture(scope="module")
def drawn() -> dict[str, str]:
    return every()


def test_the_same_bytes_each_time(drawn: dict[str, str]) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 30, "axes.grid": False, "lines.linewidth": 9}):
        assert every() == drawn


@pytest.mark.parametrize("name", ["line", "scatter", "bars", "matrix", "histogram"])
def test_a_plot_is_an_element_of_a_page(drawn: dict[str, str], name: str) -> None:
    svg = drawn[name]
    assert svg.startswith("<svg ")
    root = ET.fromstring(svg)
    assert root.get("aria-label") == f"a title {NASTY}"
    assert not re.findall(r"https?://|<style|<metadata|<script|<!DOCTYPE", svg)
    # Black, white and any other colour would not go with the page in the dark.
    assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) == set()
    assert "var(--ink)" in svg
    used = set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", svg))
    ids = re.findall(r' id="([^"]+)"', svg)
    assert set(ids) == used
    assert len(ids) == len(set(ids))


def test_texts_are_texts(drawn: dict[str, str]) -> None:
    texts = {text.text for text in ET.fromstring(drawn["line"]).iter() if text.tag.endswith("text")}
    assert NASTY in texts, "not a formula, and not an element"
    texts = {text.text for text in ET.fromstring(drawn["bars"]).iter() if text.tag.endswith("text")}
    assert {"b", "(empty)"} <= texts


def test_every_colour_of_a_plot_is_one_of_the_page() -> None:
    text = page("x", [])
    light, dark = text.split("prefers-color-scheme: dark")
    for name in plot.colors():
        assert f"--{name}:" in light, name
        assert f"--{name}:" in dark, name


def test_many_points_are_thinned(drawn: dict[str, str]) -> None:
    assert 1_000 < drawn["scatter"].count("<use ") < 2_100


class Checker(HTMLParser):
    """Every element is closed, and there is none that loads or runs anything."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.add(tag)
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.seen.add(tag)


def test_a_page_escapes_all_that_it_is_given(drawn: dict[str, str]) -> None:
    rows = ((NASTY, 1, 0.5, None, True), ("b", 1_000_000, float("nan"), None, False))
    text = page(
        NASTY,
        [
            Section(NASTY, f"{NASTY}\n\nmore", drawn["line"], Grid((NASTY, "n", "f", "none", "yes"), rows, NASTY)),
            Section("warn", NASTY, warning=True),
            Section("long", grid=Grid(("n",), tuple((number,) for number in range(1_000)))),
        ],
        facts=[(NASTY, NASTY), ("nothing", None), ("rows", 1_234_567)],
        subtitle=NASTY,
    )
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert not checker.seen & {"script", "img", "iframe", "object", "embed"}
    assert "1,000,000" in text
    assert "1,234,567" in text
    assert "the first 400 of 1,000 rows" in text
    assert "<dt>nothing" not in text
    assert "default-src 'none'" in text


def test_without_matplotlib_it_is_told_what_to_add(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name))
    with pytest.raises(UsageError, match="plots need matplotlib") as told:
        plot.line([("a", [0], [0])], title="t", x_label="x", y_label="y")
    assert "add matplotlib to the recipe's dependencies" in str(told.value.hint)
