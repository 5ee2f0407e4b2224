"""Numbers as people read them: shares, correlations, quantities."""

from __future__ import annotations

import math


def percent(share: float) -> str:
    """A share: never 100 % or 0 % where it is not quite."""
    value = share * 100
    if 0 < value < 0.1:
        return "<0.1 %"
    if 99.9 < value < 100:
        return ">99.9 %"
    text = f"{value:.0f}" if 10 <= value <= 90 else f"{value:.1f}".removesuffix(".0")
    return f"{text} %"


def round_down(value: float) -> str:
    """A correlation with two digits; 0.997 is told as 0.997, not as 1.00."""
    text = f"{value:.2f}"
    return f"{value:.6f}".rstrip("0") if text in ("1.00", "-1.00") and abs(value) < 1 else text


def number(value: float) -> str:
    """A number in some ten characters: whole ones and large ones with their thousands apart, else five digits."""
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= 1e15:
        return f"{value:.4g}"
    if isinstance(value, int) or value == int(value) or abs(value) >= 1e4:
        return f"{value:,.0f}"
    return f"{value:.5g}"


def characters(shortest: int, longest: int) -> str:
    """The lengths of texts."""
    if shortest == longest:
        return "1 character" if longest == 1 else f"{longest:,} characters"
    return f"{shortest:,} … {longest:,} characters"
