"""Counts a column's different values: exactly while there are few, else by two sketches of Apache DataSketches."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from mealkit.errors import UsageError

CELLS = 400_000
"""How many different values all columns together may keep."""

MOST, LEAST = 20_000, 1_000
"""How many of them a column may keep in a narrow and in a wide table."""

_HLL_BITS = 14  # a standard error of 1.04 / sqrt(2**14) = 0.8 %
_FREQUENT_BITS = 12  # at most 3,072 values are followed


class Values:
    """The values of one column, as texts.

    Args:
        cap: How many different ones are counted exactly; beyond that, sketches take over.
    """

    def __init__(self, cap: int = MOST) -> None:
        self._cap = cap
        self._counts: dict[str, int] | None = {}
        self._hll: Any = None
        self._frequent: Any = None

    @property
    def exact(self) -> bool:
        """Whether nothing is estimated."""
        return self._counts is not None

    def add(self, keys: Sequence[str], counts: Iterable[int]) -> None:
        """Further values, each with the number of its rows."""
        if self._counts is None:
            self._sketch(keys, counts)
            return
        known = self._counts
        for key, count in zip(keys, counts, strict=True):
            known[key] = known.get(key, 0) + count
        if len(known) > self._cap:
            self._counts = None
            self._hll, self._frequent = _sketches()
            self._sketch(list(known), known.values())

    def _sketch(self, keys: Sequence[str], counts: Iterable[int]) -> None:
        deque(map(self._hll.update, keys), maxlen=0)
        deque(map(self._frequent.update, keys, counts), maxlen=0)

    @property
    def distinct(self) -> int:
        """How many different values there are; where sketches took over, an estimate."""
        if self._counts is not None:
            return len(self._counts)
        estimate: float = self._hll.get_estimate()
        return round(estimate)

    def top(self, number: int) -> list[tuple[str, int]]:
        """The most frequent values; where sketches took over, those that surely are, with lower bounds."""
        if self._counts is not None:
            found = list(self._counts.items())
        else:
            from datasketches import frequent_items_error_type

            items = self._frequent.get_frequent_items(frequent_items_error_type.NO_FALSE_POSITIVES)
            found = [(str(value), int(lower)) for value, _, lower, _ in items if lower > 1]
        return sorted(found, key=lambda item: (-item[1], item[0]))[:number]


def _sketches() -> tuple[Any, Any]:
    try:
        from datasketches import frequent_strings_sketch, hll_sketch, tgt_hll_type
    except ImportError:
        raise UsageError(
            "a column has too many different values to be counted one by one",
            hint="install datasketches, which estimates them: pip install 'mealkit-runtime[profile]'",
        ) from None
    return hll_sketch(_HLL_BITS, tgt_hll_type.HLL_8), frequent_strings_sketch(_FREQUENT_BITS)
