"""A shard: one of n disjoint parts of a dataset, each scored by a process of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from mealkit.errors import SettingsError

INDEX = "JOB_COMPLETION_INDEX"
"""Set by Kubernetes in the containers of an Indexed Job."""

_FORM = re.compile(r"(auto|\d{1,5})/(\d{1,5})\Z")
_HINT = "write I/N with I from 0 to N - 1, such as 3/8; auto/8 takes I from JOB_COMPLETION_INDEX"


@dataclass(frozen=True)
class Shard:
    """Part ``index`` (from 0) of ``count``."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


@dataclass(frozen=True)
class Unit:
    """What no shard divides: a file, or a row group of one.

    Attributes:
        file: Which file of the dataset.
        group: Which row group; None: the whole file.
        weight: How much work it is: bytes.
        low, high: The least and greatest value of the column whose equal values are kept together; None: not known.
    """

    file: int
    group: int | None
    weight: int
    low: Any = None
    high: Any = None


def parse_shard(text: str, environment: Mapping[str, str]) -> Shard:
    """The shard that a setting means.

    Raises:
        SettingsError: it means none.
    """
    match = _FORM.match(text)
    if not match:
        raise SettingsError(f"not a shard: {text!r}", where="shard", hint=_HINT)
    index, count = match[1], int(match[2])
    if index == "auto":
        index = environment.get(INDEX) or ""
        if not index.isdecimal():
            raise SettingsError(
                f"the shard is auto, but {INDEX} is {'not set' if not index else repr(index)}",
                where="shard",
                hint="run it in an Indexed Job (completionMode: Indexed), or write the number: 0/" + str(count),
            )
    if not int(index) < count:
        raise SettingsError(f"there is no shard {index} of {count}", where="shard", hint=_HINT)
    return Shard(int(index), count)


def job_name(environment: Mapping[str, str]) -> str | None:
    """The name of the Kubernetes Job that the process is in; None: it is in none, or cannot tell.

    The host name of an Indexed Job's pod is the job's name and the index.
    """
    index = environment.get(INDEX)
    if not index:
        return None
    if name := environment.get("JOB_NAME"):
        return name
    host = environment.get("HOSTNAME") or ""
    return host[: -len(index) - 1] if host.endswith(f"-{index}") and len(host) > len(index) + 1 else None


def divide(units: Sequence[Unit], count: int, *, together: bool) -> list[list[Unit]]:
    """Units in ``count`` runs of like weight, in their order; the same for every shard that divides the same.

    Args:
        units: In the order of the dataset.
        count: How many runs; some are empty when there are few units.
        together: No value between ``low`` and ``high`` of one unit is in another run: a run ends only where all values
            before are less than all after.
    """
    total = sum(unit.weight for unit in units) or 1
    free = _borders(units) if together else [True] * max(0, len(units) - 1)
    shares: list[list[Unit]] = [[] for _ in range(count)]
    done, share = 0, 0
    for number, unit in enumerate(units):
        if number == 0 or free[number - 1]:
            # The middle of what stands between two borders decides whose it is.
            last = next((place for place in range(number, len(free)) if free[place]), len(units) - 1)
            weight = sum(one.weight for one in units[number : last + 1])
            share = min(count - 1, (2 * done + weight) * count // (2 * total))
        shares[share].append(unit)
        done += unit.weight
    return shares


def _borders(units: Sequence[Unit]) -> list[bool]:
    """Whether a run may end after each unit but the last."""
    if any(unit.low is None or unit.high is None for unit in units):
        return [False] * max(0, len(units) - 1)
    highest = list(accumulate((unit.high for unit in units), max))
    lowest = list(accumulate((unit.low for unit in reversed(units)), min))[::-1]
    return [highest[number] < lowest[number + 1] for number in range(len(units) - 1)]
