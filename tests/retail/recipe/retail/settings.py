"""What the recipe declares: hyperparameters and rows."""

from datetime import date
from typing import Literal

import mealkit
from mealkit import Field


class Hyperparameters(mealkit.Hyperparameters):
    """The gradient boosting's settings, and where validation begins."""

    learning_rate: float = Field(0.1, gt=0, le=1)
    n_estimators: int = Field(100, ge=1)
    max_depth: int = Field(3, ge=1)
    train_until: date = Field(date(2012, 1, 27), description="the last week to train on; later ones validate")


class Week(mealkit.Row):
    """One week of one store."""

    date: str = Field(description="the week's Friday as month/day/year, 2/5/10")
    store: int
    storeType: Literal["A", "B", "C"]  # noqa: N815  # the column's name
    weeklySales: float = Field(ge=0)  # noqa: N815
    storeSize: int  # noqa: N815
    temperature: float
    regionalFuelPrice: float  # noqa: N815
    markDown: float  # noqa: N815
    cpi: float
    unemployment: float
    isHoliday: bool  # noqa: N815


class Forecast(mealkit.Row):
    """What the sales of the week after will be."""

    date: str
    store: int
    prediction: float
