"""What the recipe takes and gives."""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import SecretStr

import mealkit
from mealkit import Field


class Hyperparameters(mealkit.Hyperparameters):
    c: float = Field(1.0, gt=0, le=1000, description="inverse strength of the penalty")
    token: SecretStr | None = None
    train: Literal["well", "raise", "sleep", "look", "stuck", "nothing"] = "well"
    score: Literal["well", "raise", "slow", "wide"] = "well"


class Event(mealkit.Row):
    customer: str = Field(pattern="^c[0-9]+$")
    day: date
    kind: Literal["call", "visit", "complaint"]
    amount: float | None = Field(ge=0)
    items: int | None = Field(ge=0)
    plan: str
    left: bool | None = None


class Plan(mealkit.Row):
    plan: str
    price: float = Field(gt=0)


class Score(mealkit.Row):
    customer: str
    probability: float = Field(ge=0, le=1)
    events: int
