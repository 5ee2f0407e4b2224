"""The type of the fixture that makes small recipes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Make = Callable[..., Path]
