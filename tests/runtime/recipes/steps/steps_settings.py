"""What the recipe's trials vary, and what they leave alone."""

from __future__ import annotations

from typing import Literal

from pydantic import SecretStr

import mealkit
from mealkit import Field


class Hyperparameters(mealkit.Hyperparameters):
    kind: Literal["sgd", "boost", "forest", "pipeline", "plain"] = Field(
        "sgd", json_schema_extra=mealkit.search(enabled=False)
    )
    alpha: float = Field(1e-3, gt=0, le=1, json_schema_extra=mealkit.search(low=1e-5, log=True))
    average: bool = False
    steps: int = Field(6, ge=1, le=1000, json_schema_extra=mealkit.search(low=2, high=8))
    patience: int | None = None
    token: SecretStr | None = None
