"""Quantities as people write them on a command line: ``30d`` of time, ``5GB`` of bytes."""

from __future__ import annotations

import re

import click

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


class Age(click.ParamType[float]):
    """A length of time in seconds."""

    name = "age"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """``30d`` as seconds."""
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])\s*", str(value).lower())
        if not match:
            self.fail(f"{value!r} is no length of time: write 90m, 12h, 30d or 2w", param, ctx)
        return float(match[1]) * _SECONDS[match[2]]


class Size(click.ParamType[int]):
    """A number of bytes."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """``5GB`` as bytes."""
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*((?:[kmgt]i?)?)b?\s*", str(value).lower())
        if not match:
            self.fail(f"{value!r} is no size: write 500MB, 5GB or 5GiB", param, ctx)
        return int(float(match[1]) * _BYTES[match[2]])
