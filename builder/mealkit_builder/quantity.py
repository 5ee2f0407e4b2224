"""Quantities as Kubernetes writes them, from what ``docker run`` and recipes write."""

from __future__ import annotations

import re

from mealkit.errors import UsageError

_BYTES = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\Z")
_CORES = re.compile(r"(\d+(?:\.\d+)?)(m?)\Z")
_UNITS = "kmgt"


def memory_quantity(value: object, where: str) -> str:
    """``2g`` as ``2Gi``: as for ``docker run``, a unit is 1,024 of the one below it, whatever its case.

    Raises:
        UsageError: it is no number of bytes.
    """
    match = _BYTES.match(str(value).strip().lower())
    size = 0 if match is None else int(float(match[1]) * 1024 ** ((_UNITS.index(match[2]) + 1) if match[2] else 0))
    if size < 1:
        raise UsageError(f"not an amount of memory: {value!r}", where=where, hint="write it such as 512m or 2g")
    power = next(power for power in (4, 3, 2, 1, 0) if size % 1024**power == 0)
    return f"{size // 1024**power}{_UNITS[power - 1].upper()}i" if power else str(size)


def cpu_quantity(value: object, where: str) -> str:
    """``1.5`` as ``1500m``, ``2`` as itself.

    Raises:
        UsageError: it is no number of processors.
    """
    match = _CORES.match(str(value).strip())
    thousandths = 0 if match is None else round(float(match[1]) * (1 if match[2] else 1000))
    if thousandths < 1:
        raise UsageError(f"not a number of processors: {value!r}", where=where, hint="write it such as 0.5 or 2")
    return f"{thousandths}m" if thousandths % 1000 else str(thousandths // 1000)


def gpu_quantity(value: object, where: str) -> str:
    """A number of GPUs.

    Raises:
        UsageError: it is none, as ``all`` and ``device=0`` are: a cluster gives out whole ones that it chooses.
    """
    text = str(value).strip()
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise UsageError(f"not a number of GPUs for a cluster: {value!r}", where=where, hint="write it such as 1")
    return str(int(text))


def whole_cores(quantity: str) -> int:
    """How many whole processors a quantity has, at least one."""
    return max(1, int(quantity.removesuffix("m")) // (1000 if quantity.endswith("m") else 1))
