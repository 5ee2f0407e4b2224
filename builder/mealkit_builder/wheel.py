"""A wheel by name, wherever its bytes are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mealkit._value import dataclass, field

if TYPE_CHECKING:
    from .origin import Origin


@dataclass(frozen=True)
class WheelFile:
    """A wheel by name; its bytes are at ``path``, if they are on this machine at all.

    Attributes:
        name: The distribution's name, as the lock writes it.
        version: Its version.
        filename: The wheel's file name, which says what it runs on.
        sha256: Of the wheel file, as 64 hexadecimal digits; all that is made of the wheel hangs on it.
        size: Length of the wheel file in bytes; 0 where the index, a mere page of links, does not tell.
        path: The file, once it was fetched.
        url: Where to fetch it from; None for a wheel that is a file already.
        origin: The sources that it is built from; None for one that exists. Its ``sha256`` is empty until it was built.
        left_out: Globs of the files that the image gets from another wheel.
        make: Makes the file and gives its path, for a wheel with an origin; no part of what the wheel is.
    """

    name: str
    version: str
    filename: str
    sha256: str
    size: int
    path: Path | None = None
    url: str | None = None
    origin: Origin | None = None
    left_out: tuple[str, ...] = ()
    make: Callable[[WheelFile], Path] | None = field(default=None, compare=False, repr=False)
