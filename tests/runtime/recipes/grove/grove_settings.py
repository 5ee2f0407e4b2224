"""What the recipe takes and gives."""

from __future__ import annotations

from typing import Literal

from pydantic import SecretStr

import mealkit
from mealkit import Field


class Hyperparameters(mealkit.Hyperparameters):
    trees: int = Field(12, ge=4, le=40)
    depth: int = Field(3, ge=2, le=6)
    token: SecretStr | None = None
    nap: float = Field(0.0, ge=0, description="seconds of each parallel task, of each step, and of each batch scored")
    steps: int = Field(0, ge=0)
    score: Literal["well", "raise", "draw", "die"] = Field("well", json_schema_extra=mealkit.search(enabled=False))
    train: Literal["well", "raise"] = Field("well", json_schema_extra=mealkit.search(enabled=False))


class Case(mealkit.Row):
    id: int
    a: float = Field(ge=-9, le=9)
    b: float
    c: float
    d: float
    y: int | None = None


class Score(mealkit.Row):
    id: int
    probability: float = Field(ge=0, le=1)
    luck: float
