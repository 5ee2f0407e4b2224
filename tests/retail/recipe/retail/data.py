"""Features of a store's week from the weeks until then; the week after it is the target's alone."""

from __future__ import annotations

import numpy as np
import pandas as pd

import mealkit

from .settings import Hyperparameters

_STORE_TYPES = ("A", "B", "C")
_PLAIN = ["storeSize", "temperature", "regionalFuelPrice", "markDown", "cpi", "unemployment"]


class WeekLoader(mealkit.DataLoader[Hyperparameters]):
    """One row a store and week that has a week before it."""

    keep_together = "store"

    def prepare(self, frame: pd.DataFrame, context: mealkit.Context[Hyperparameters]) -> pd.DataFrame:
        """Features on the index of ``frame``; a store's first week has no week before it and is left out."""
        day = days(frame["date"])
        sales = frame["weeklySales"]
        lag = _weeks_away(frame, -1)
        features = frame[_PLAIN].copy()
        # A key is no feature; under another name its number may be one.
        features["storeNumber"] = frame["store"]
        features["weeklySales"] = sales
        features["weeklySalesLag"] = lag
        features["weeklySalesDiff"] = (sales - lag) / lag
        features["week"] = day.dt.isocalendar().week.astype("int64")
        features["year"] = day.dt.year
        features["isHoliday"] = frame["isHoliday"].astype("int64")
        for name in _STORE_TYPES:
            features[name] = (frame["storeType"] == name).astype("int64")
        return features[lag.notna()]

    def target(
        self, frame: pd.DataFrame, prepared: pd.DataFrame, context: mealkit.Context[Hyperparameters]
    ) -> pd.Series:
        """Next week's sales; missing for each store's last week, which is not known yet."""
        return _weeks_away(frame, 1).loc[prepared.index]

    def split(self, data: mealkit.Data, context: mealkit.Context[Hyperparameters]) -> tuple[mealkit.Data, mealkit.Data]:
        """By time: a forecast is judged on weeks after those that it was made from."""
        before = (days(data.keys["date"]) <= pd.Timestamp(context.hyperparameters.train_until)).to_numpy()
        return data.take(np.flatnonzero(before)), data.take(np.flatnonzero(~before))


def days(text: pd.Series) -> pd.Series:
    """The dates of ``2/5/10``."""
    return pd.to_datetime(text, format="%m/%d/%y")


def _weeks_away(frame: pd.DataFrame, weeks: int) -> pd.Series:
    """Sales of the same store so many weeks later, on the index of ``frame``; NaN where there is no such week."""
    # By the calendar and not by position: a store that skipped a week must not lend the sales of another.
    here = pd.MultiIndex.from_arrays([frame["store"], days(frame["date"])])
    there = pd.MultiIndex.from_arrays([frame["store"], days(frame["date"]) + pd.Timedelta(weeks=weeks)])
    sales = pd.Series(frame["weeklySales"].to_numpy(dtype="float64"), index=here)
    return pd.Series(sales.reindex(there).to_numpy(), index=frame.index)
