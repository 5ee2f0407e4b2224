"""Data of the churn recipe, and what a run of it gave."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mealkit.describe import describe_project
from mealkit.project import read_project
from mealkit.spec import RecipeSpec

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Outcome:
    """What one run did."""

    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]

    @property
    def result(self) -> dict[str, Any]:
        assert self.events, self.err
        assert self.events[-1]["event"] == "result", self.err
        return self.events[-1]["result"]

    @property
    def error(self) -> dict[str, Any]:
        return self.result["error"]


Runner = Callable[..., Outcome]


def spec_of(name: str) -> RecipeSpec:
    return describe_project(read_project(RECIPES / name))


def make_events(customers: int = 120, seed: int = 0) -> pd.DataFrame:
    """Events whose rows of one customer stand together."""
    random = np.random.default_rng(seed)
    counts = random.integers(1, 8, customers)
    who = np.repeat(np.arange(customers), counts)
    rows = len(who)
    unhappy = random.random(customers) < 0.4
    amount = random.gamma(2, 10, rows).round(2)
    amount[random.random(rows) < 0.1] = np.nan
    items = pd.array(random.integers(0, 5, rows), dtype="Int64")
    items[random.random(rows) < 0.1] = pd.NA
    complaint = random.random(rows) < np.where(unhappy[who], 0.5, 0.1)
    return pd.DataFrame(
        {
            "customer": np.char.add("c", who.astype(str)),
            "day": pd.Timestamp("2026-01-01") + pd.to_timedelta(random.integers(0, 300, rows), unit="D"),
            "kind": np.where(complaint, "complaint", random.choice(["call", "visit"], rows)),
            "amount": amount,
            "items": items,
            "plan": random.choice(["basic", "gold"], rows),
            "left": unhappy[who],
        }
    )


def write(frame: pd.DataFrame, path: Path) -> Path:
    """Write a frame in the format that the path's ending tells."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.name
    if name.endswith((".parquet", ".pq")):
        frame.to_parquet(path, index=False)
    elif ".csv" in name:
        frame.to_csv(path, index=False, date_format="%Y-%m-%d")
    else:
        frame.to_json(path, orient="records", lines=True, date_format="iso")
    return path
