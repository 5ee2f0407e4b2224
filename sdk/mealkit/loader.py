"""The data loader: turns rows of the input dataset into features, and makes the target apart from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Generic

from .context import Context, H
from .data import Data

if TYPE_CHECKING:
    import pandas as pd


class DataLoader(Generic[H]):
    """Subclass it to make features; as it is, it takes the input columns as they are.

    The same ``prepare`` serves training, evaluation and scoring, and cannot tell which of them runs. It never sees a
    column named as the target. Keys travel beside the features: a key is taken from the index levels of what
    ``prepare`` returns, else from its columns (and is then no feature), else from the input rows with the same index.

    Attributes:
        keep_together: A column whose rows with one value never straddle two batches, nor training and validation.
        validation_fraction: The part of the data that the default :meth:`split` holds back, in 0 to 1.
    """

    keep_together: ClassVar[str | None] = None
    validation_fraction: ClassVar[float] = 0.2

    def prepare(self, frame: pd.DataFrame, context: Context[H]) -> pd.DataFrame:
        """Features, one row a case, from ``frame`` (input columns, one row an input row, index 0…n-1).

        Rows may be dropped, merged and reordered; the index must be unique.
        """
        return frame

    def target(self, frame: pd.DataFrame, prepared: pd.DataFrame, context: Context[H]) -> pd.Series:
        """The target of the ``prepared`` cases; only called to train and to evaluate.

        Returns a series on the index of ``prepared``, or on a part of it: cases that are left out or missing (NaN),
        because their target is not known yet, are dropped. ``frame`` has the target's column, if the dataset does.
        """
        from .errors import SchemaError

        if context.target is None or context.target not in frame.columns:
            raise SchemaError(
                f"the input has no target column {context.target!r}",
                where=f"column {context.target}",
                hint="name an input column as target in [tool.mealkit], or write DataLoader.target",
            )
        column: pd.Series = frame[context.target]
        return column.loc[prepared.index]

    def weights(self, frame: pd.DataFrame, prepared: pd.DataFrame, context: Context[H]) -> pd.Series | None:
        """How much each prepared case counts (≥ 0, on the index of ``prepared``); None: all alike."""
        return None

    def split(self, data: Data, context: Context[H]) -> tuple[Data, Data]:
        """``(training, validation)``; seeded, by whole groups, stratified by class where the kind has classes."""
        import numpy as np
        from sklearn.model_selection import GroupShuffleSplit, StratifiedShuffleSplit, train_test_split

        fraction = self.validation_fraction
        positions = np.arange(len(data))
        if data.groups is not None:
            shuffle = GroupShuffleSplit(n_splits=1, test_size=fraction, random_state=context.seed)
            training, validation = next(shuffle.split(positions, groups=data.groups))
        elif context.kind == "classification" and _can_stratify(data, fraction):
            stratified = StratifiedShuffleSplit(n_splits=1, test_size=fraction, random_state=context.seed)
            training, validation = next(stratified.split(positions, data.target))
        else:
            training, validation = train_test_split(positions, test_size=fraction, random_state=context.seed)
        # Sorted: the order of the rows is the dataset's, whatever the shuffle did.
        return data.take(np.sort(training)), data.take(np.sort(validation))


def _can_stratify(data: Data, fraction: float) -> bool:
    """Stratifying needs two rows of each class, and a row of each class on both sides."""
    counts = data.target.value_counts()
    held_back = int(len(data) * fraction)
    return bool(len(counts) > 1 and counts.min() >= 2 and min(held_back, len(data) - held_back) >= len(counts))
