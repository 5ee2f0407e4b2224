"""The files of a local folder, and those that a glob names: all of them, or an error that tells which cannot be had.

Unlike :mod:`glob` and :meth:`pathlib.Path.rglob`, nothing that cannot be read is passed over: fewer rows without a word
would be worse than none. Links to files are files. Links to folders are followed where a glob names them, and not in
what is searched as a whole: a link may lead back, and its rows would come again.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

MARKS = "*?["
_LOST = "lost+found"
"""A file system's own folder, at the root of each volume: only root may look into it, and there are no data."""


def walk(folder: Path) -> Iterator[Path]:
    """What is below a folder and is no folder itself, without what begins with ``.`` or ``_``.

    Raises:
        OSError: a folder cannot be read.
    """
    for one in _entries(folder):
        if one.name.startswith((".", "_")):
            continue
        if one.is_dir(follow_symlinks=False):
            yield from walk(Path(one.path))
        elif not Path(one.path).is_dir():  # which is no error of a link that leads to itself
            yield Path(one.path)


def expand(pattern: str) -> list[Path]:
    """Files and folders that a glob means, each once, in the order of their paths; nothing that a mark would hide.

    Raises:
        OSError: a folder that has to be searched cannot be read.
    """
    head, tail = split(pattern)
    start = head or ("/" if pattern.startswith("/") else ".")
    return sorted(set(_below(Path(start), tail.split("/"))))


def split(pattern: str) -> tuple[str, str]:
    """The folder before the first part that has a mark, and the rest."""
    parts = pattern.split("/")
    first = next(number for number, part in enumerate(parts) if any(mark in part for mark in MARKS))
    return "/".join(parts[:first]), "/".join(parts[first:])


@functools.lru_cache(64)
def matcher(pattern: str) -> Callable[[str], bool]:
    """What :func:`glob.glob` matches below a folder, ``**`` too; hidden names only where the pattern names them."""
    text = ""
    parts = pattern.split("/")
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if part == "**":
            text += r"(?:(?!\.)[^/]+/)*" + (r"(?!\.)[^/]+" if last else "")
        else:
            text += ("" if part.startswith(".") else r"(?!\.)") + _segment(part) + ("" if last else "/")
    compiled = re.compile(text)
    return lambda path: compiled.fullmatch(path) is not None


def _below(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from _below(folder, rest or ["*"])
        for one in _entries(folder):
            if not one.name.startswith(".") and one.is_dir(follow_symlinks=False):
                yield from _below(Path(one.path), parts)
        return
    if not any(mark in part for mark in MARKS):
        names = [part] if os.path.lexists(folder / part) else []
    else:
        names = [one.name for one in _entries(folder) if matcher(part)(one.name)]
    for name in names:
        if not rest:
            yield folder / name
        elif (folder / name).is_dir():
            yield from _below(folder / name, rest)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        return sorted((one for one in found if one.name != _LOST), key=lambda one: one.name)


def _segment(part: str) -> str:
    """One part of a glob as a regular expression that does not cross a slash."""
    signs = {"*": "[^/]*", "?": "[^/]"}
    pieces = re.findall(r"\[!?\]?[^\]]*\]|.", part)
    return "".join(signs.get(one) or (_choice(one) if len(one) > 2 else re.escape(one)) for one in pieces)


def _choice(text: str) -> str:
    inside = text[1:-1].replace("\\", r"\\").replace("^", r"\^")
    return f"[^/{inside[1:]}]" if inside.startswith("!") else f"[{inside}]"
