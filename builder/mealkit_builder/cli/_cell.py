"""Values of a dataset as cells of a table on a terminal: short, on one line, and harmless."""

from __future__ import annotations

import json
import math
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.text import Text

MISSING = "·"


def plain(text: str) -> str:
    """A text on one line, without characters that would move the cursor or colour the terminal."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def clip(text: str, width: int) -> str:
    """At most so many columns of a text."""
    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"


def cell(value: Any, width: int) -> Text:
    """A value of a row; nested ones are shown short."""
    if value is None:
        return Text(MISSING, style="dim")
    if isinstance(value, bool):
        return Text("true" if value else "false")
    if isinstance(value, float):
        return Text(f"{value:.10g}")
    if isinstance(value, dict | list):
        value = json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, bytes):
        value = f"{len(value):,} bytes"
    return Text(clip(plain(str(value)), width))


_BLOCKS = "▁▂▃▄▅▆▇█"


def spark(counts: tuple[int, ...], width: int = 10) -> str:
    """A histogram as one line of blocks; what holds anything at all is more than empty."""
    if not counts:
        return ""
    size = math.ceil(len(counts) / width)
    sums = [sum(counts[start : start + size]) for start in range(0, len(counts), size)]
    most = max(sums)
    return "".join(" " if not one else _BLOCKS[min(int(one / most * 8), 7)] for one in sums)


def bar(share: float, width: int = 12) -> str:
    """A share as a bar."""
    return "█" * round(min(max(share, 0.0), 1.0) * width)
