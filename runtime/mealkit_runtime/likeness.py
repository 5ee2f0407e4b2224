"""Which of a dataset's columns was meant by a name that none of them has."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LISTED = 20


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name that is most like it, whatever the case, blanks and signs between words; None: none is like it."""
    plain: dict[str, str] = {}
    for one in names:
        plain.setdefault(_plain(one), one)
    found = difflib.get_close_matches(_plain(name), plain, n=1)
    return plain[found[0]] if found else None


def listed(names: Iterable[str]) -> str:
    """The first names, for a hint."""
    known = list(names)
    return ", ".join(known[:_LISTED]) + (", …" if len(known) > _LISTED else "")


def _plain(name: str) -> str:
    return "".join(sign for sign in name.casefold() if sign.isalnum()) or name
