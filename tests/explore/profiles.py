"""Profiles of frames and files, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from mealkit_runtime.dataset import locate, pieces
from mealkit_runtime.profile.survey import survey
from mealkit_runtime.profile.value import Profile
from mealkit_runtime.schema import Schema

Mealkit = Callable[..., tuple[int, str, str]]
"""``mealkit ARGUMENTS``: exit status, standard output, standard error."""

RETAIL = Path(__file__).parents[3] / "shared" / "data" / "retail" / "retail.csv"


def cut(table: Any, size: int) -> Iterator[Any]:
    for start in range(0, len(table), size):
        yield table.slice(start, size)


def profile(frame: pd.DataFrame | pa.Table, piece: int = 1_000, **options: Any) -> Profile:
    table = frame if isinstance(frame, pa.Table) else pa.Table.from_pandas(frame, preserve_index=False)
    found = survey(cut(table, piece), uri="x", files=1, text=options.pop("text", False), **options)
    assert found is not None
    return found


def profile_file(path: Path, **options: Any) -> Profile:
    source = locate(str(path))
    text = any(file.format == "csv" for file in source.files)
    found = survey(pieces(source, Schema(), 1_000), uri=str(path), files=1, text=text, **options)
    assert found is not None
    return found


def mixed(rows: int = 7_000, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    x = random.normal(50, 3, rows)
    frame = pd.DataFrame(
        {
            "x": x,
            "y": 2 * x + random.normal(0, 5, rows),
            "heavy": random.lognormal(0, 2, rows),
            "big": random.integers(10**9, 10**9 + 50, rows),
            "color": random.choice(["red", "green", "blue"], rows, p=[0.6, 0.3, 0.1]),
            "flag": random.random(rows) < 0.2,
            "at": pd.Timestamp("2024-01-01") + pd.to_timedelta(random.integers(0, 300, rows), "D"),
        }
    )
    frame.loc[random.random(rows) < 0.1, "x"] = np.nan
    frame.loc[random.random(rows) < 0.3, "heavy"] = np.nan
    frame.loc[random.random(rows) < 0.05, "color"] = None
    return frame
