"""Where the retail sales are, and the orders of rows that the tests need."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

RECIPE = Path(__file__).parent / "recipe"
FOLDER = Path(__file__).parents[3] / "shared" / "data" / "retail"
"""Beside the checkout, not in it."""

MISSING = None if (FOLDER / "retail.csv").is_file() else f"no retail sales in {FOLDER}"


def sales(name: str = "retail.csv") -> pd.DataFrame:
    """A file of the retail sales, by date and store as published."""
    return pd.read_csv(FOLDER / name)


def by_store(frame: pd.DataFrame) -> pd.DataFrame:
    """The weeks of a store together: the order that reading in batches asks for."""
    return frame.sort_values("store", kind="stable", ignore_index=True)
