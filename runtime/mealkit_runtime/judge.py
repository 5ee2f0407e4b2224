"""Any cases of a dataset judged by the recipe's evaluator, with the model asked once."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mealkit.context import Context
from mealkit.data import Data
from mealkit.evaluator import Evaluator
from mealkit.metrics import Metrics

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

ASKED = ("predict", "predict_proba", "predict_log_proba", "decision_function", "transform")
"""The methods of a model that give a row for each row of the features: what they gave is remembered."""


class Judge:
    """Judges all cases, then any of them again.

    Evaluators ask the model for predictions of ``data.features``. They get a twin of the model here, which asks the
    model for those of all cases once, and takes those of drawn cases from there. Whoever asks for other features (some
    columns, say) asks the model itself.
    """

    def __init__(self, evaluator: Evaluator[Any], data: Data, model: Any, context: Context[Any]) -> None:
        self.data = data
        self._current = data
        self._places: npt.NDArray[np.int64] | None = None
        self._known: dict[str, Any] = {}
        # Of a model only the plain call is remembered: an option more may give something else.
        self._model = self._twin(
            model, ASKED, lambda *asked, **named: len(asked) == 1 and not named and asked[0] is self._current.features
        )
        self._evaluator = self._twin(
            evaluator, evaluator.per_case, lambda *asked, **named: bool(asked) and asked[0] is self._current
        )
        self._context = context
        self._silent = silent(context)

    def whole(self) -> Metrics:
        """The metrics of all cases."""
        return self._evaluator.evaluate(self.data, self._model, self._context)  # type: ignore[no-any-return]

    def some(self, places: npt.NDArray[np.int64], groups: Any = None) -> Metrics:
        """The metrics of the cases at these places, silently: nothing is logged or written for them.

        Args:
            places: Places may come several times.
            groups: The groups of the drawn cases, where one that was drawn twice shall be two; None: as they are.
        """
        with self._on(places, groups) as data, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a draw without a class is nothing to warn of
            return self._evaluator.evaluate(data, self._model, self._silent)  # type: ignore[no-any-return]

    def quick(self, places: npt.NDArray[np.int64]) -> Any:
        """The evaluator's quick way to resamples of the cases at these places; None: it has none."""
        with self._on(places, None) as data, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self._evaluator.resampler(data, self._model, self._silent)

    def groups(self) -> Any:
        """What tells which cases are only drawn together; None: each is drawn for itself."""
        return self._evaluator.groups(self.data)

    def _on(self, places: npt.NDArray[np.int64], groups: Any) -> _Turn:
        data = self.data.take(places)
        if groups is not None and data.groups is not None:
            data = replace(data, groups=type(data.groups)(groups, index=data.features.index, name=data.groups.name))
        return _Turn(self, data, places)

    def _twin(self, original: Any, names: tuple[str, ...], ours: Callable[..., bool]) -> Any:
        """A shallow copy that remembers what these methods gave; the original, where it cannot be copied so."""
        if not hasattr(original, "__dict__") or isinstance(original, type):
            return original
        try:
            twin = copy.copy(original)
        except Exception:
            return original
        for name in names:
            method = getattr(original, name, None)
            if callable(method):
                try:
                    setattr(twin, name, self._remembering(f"{id(original)}.{name}", method, ours))
                except Exception:
                    return original  # an object that takes no attributes: it is asked each time
        return twin

    def _remembering(self, key: str, method: Callable[..., Any], ours: Callable[..., bool]) -> Callable[..., Any]:
        def ask(*asked: Any, **named: Any) -> Any:
            known: Any = self._known.get(key)
            if not ours(*asked, **named) or (self._places is not None and known is None):
                return method(*asked, **named)
            if self._places is None:
                given = method(*asked, **named)
                if _by_row(given, len(self.data)):
                    self._known[key] = given
                return given
            return known.iloc[self._places] if hasattr(known, "iloc") else known[self._places]

        return ask


class _Turn:
    """The block in which the evaluator judges drawn cases."""

    def __init__(self, judge: Judge, data: Data, places: npt.NDArray[np.int64]) -> None:
        self.judge, self.data, self.places = judge, data, places

    def __enter__(self) -> Data:
        self.judge._current, self.judge._places = self.data, self.places
        return self.data

    def __exit__(self, *failed: object) -> None:
        self.judge._current, self.judge._places = self.judge.data, None


def silent(context: Context[Any]) -> Context[Any]:
    """The context of a judgement that nobody shall hear of: no folder, no progress, no messages."""
    mute = logging.Logger("mealkit.mute", logging.CRITICAL + 1)
    return replace(context, outputs=None, checkpoint_dir=None, logger=mute, listener=_Nobody())


def describe_cases(data: Data) -> dict[str, object]:
    """What tells the judged cases from others: number, names of keys and target, and a digest of their values in order.

    It does not depend on the file format, on how a column of numbers was typed, or on the features.
    """
    import hashlib

    import pandas as pd

    total = hashlib.sha256()
    for name, column in (*((str(name), data.keys[name]) for name in sorted(data.keys, key=str)), ("", data.target)):
        kind = pd.api.types
        if kind.is_bool_dtype(column) or kind.is_numeric_dtype(column):
            plain: pd.Series = column.astype("float64")
        else:
            plain = column.astype("str")
        total.update(f"{name}\0".encode())
        total.update(pd.util.hash_pandas_object(plain, index=False).to_numpy().tobytes())
    target = None if data.target.name is None else str(data.target.name)
    keys = sorted(map(str, data.keys))
    return {"cases": len(data), "keys": keys, "target": target, "digest": f"sha256:{total.hexdigest()}"}


class _Nobody:
    def progress(self, done: int, total: int | None, unit: str) -> None:
        pass

    def metric(self, name: str, value: float, step: int | None) -> None:
        pass


def _by_row(given: Any, rows: int) -> bool:
    """Whether rows can be taken from it."""
    return len(getattr(given, "shape", ())) in (1, 2) and given.shape[0] == rows and hasattr(given, "__getitem__")


__all__ = ["ASKED", "Judge", "describe_cases", "silent"]
