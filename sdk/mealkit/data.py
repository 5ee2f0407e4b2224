"""The prepared data that a trainer and an evaluator get."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Data:
    """Features with their target; every part has the same rows in the same order and the same index.

    Attributes:
        features: One row a case, one column a feature, as the loader's ``prepare`` made it.
        target: What is to be predicted, one value a row; all missing where a clustering recipe names no target.
        keys: The recipe's key columns: whose each row is.
        weights: How much each row counts (≥ 0); None: all alike.
        groups: The values of the loader's ``keep_together`` column; None when it names none.
        validation: Data held back from training, for early stopping; None when there are none.
    """

    features: pd.DataFrame
    target: pd.Series
    keys: pd.DataFrame
    weights: pd.Series | None = None
    groups: pd.Series | None = None
    validation: Data | None = None

    def __len__(self) -> int:
        return len(self.features)

    def take(self, rows: object) -> Data:
        """The rows at these positions (an integer array or a boolean mask of length ``len(self)``)."""
        return Data(
            features=self.features.iloc[rows],  # type: ignore[call-overload]
            target=self.target.iloc[rows],  # type: ignore[call-overload]
            keys=self.keys.iloc[rows],  # type: ignore[call-overload]
            weights=None if self.weights is None else self.weights.iloc[rows],  # type: ignore[call-overload]
            groups=None if self.groups is None else self.groups.iloc[rows],  # type: ignore[call-overload]
        )
