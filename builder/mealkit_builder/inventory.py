"""The inventory: what mealkit's cache on this machine holds, by kind and last use, and what of it may go."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from mealkit._value import dataclass
from mealkit.errors import storage_error

from .compiled import FOLDER
from .rootfs import removing
from .store import Store

UNFINISHED_SECONDS = 86_400.0
"""A temporary file that is older was left by a killed process: no download or layer takes a day."""

_TEMPORARY = ".tmp-"
_MAGIC = ((b"PK", "wheel file"), (b"!<arch", "Debian package"), (b"{", "document"), (b"\x1f\x8b", "layer"))


@dataclass(frozen=True)
class Item:
    """One thing in the cache.

    Attributes:
        path: Its file or folder.
        kind: Such as ``wheel file``, ``layer of bytecode``, ``bytecode``, ``unpacked image`` or ``note``.
        size: Bytes on the disk; what another folder has too, by a hard link, is counted, but not freed with it.
        used: When it was last used, in seconds since 1970.
        frees: Bytes that its removal frees.
    """

    path: Path
    kind: str
    size: int
    used: float
    frees: int


@dataclass(frozen=True)
class Pruned:
    """What a pruning removed, or would remove.

    Attributes:
        items: The things.
        freed: Bytes.
        kept: Bytes that stay.
    """

    items: tuple[Item, ...]
    freed: int
    kept: int


def list_items(store: Store) -> list[Item]:
    """All that is in the cache, what was used longest ago first; what vanishes meanwhile is left out."""
    kinds = {layer.digest.removeprefix("sha256:"): f"layer of {layer.kind}" for layer in store.layers()}
    return sorted(_items(store.root, kinds), key=lambda item: (item.used, str(item.path)))


def prune(
    store: Store,
    now: float,
    *,
    older_than: float | None = None,
    max_size: int | None = None,
    everything: bool = False,
    dry_run: bool = False,
) -> Pruned:
    """Remove what was not used for long, or longest; a build that runs meanwhile makes again what it misses.

    Args:
        store: The cache.
        now: Seconds since 1970.
        older_than: Remove what was not used for so many seconds.
        max_size: Then remove what was used longest ago, until so many bytes are left.
        everything: Remove all.
        dry_run: Remove nothing, and tell what would go.

    Raises:
        StorageError: something cannot be removed.
    """
    items = list_items(store)
    left = sum(item.size for item in items)
    gone: list[Item] = []
    if not dry_run:
        store.note_pruning()
    for item in items:
        if item.kind == "unfinished":
            goes = now - item.used > UNFINISHED_SECONDS
        else:
            old = older_than is not None and now - item.used > older_than
            goes = everything or old or (max_size is not None and left > max_size)
        if goes and (dry_run or _remove(item)):
            gone.append(item)
            left -= item.size
    if gone and not dry_run:
        store.note_pruning()  # after as well: a build that began meanwhile may have seen what went
    return Pruned(tuple(gone), sum(item.frees for item in gone), left)


def _items(root: Path, kinds: dict[str, str]) -> Iterator[Item]:
    for folder in _children(root):
        if folder.name == "blobs":
            yield from (_blob(path, kinds) for inner in _children(folder) for path in _children(inner) if _is(path))
        elif folder.name == "rootfs":
            yield from (item for path in _children(folder) if (item := _unpacked(path)) is not None)
        else:
            kind = "bytecode" if folder.name == FOLDER else "note"
            yield from (_file(path, kind) for path in _files(folder) if _is(path))


def _is(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _blob(path: Path, kinds: dict[str, str]) -> Item:
    kind = kinds.get(path.name)
    if kind is None:
        head = b""
        with contextlib.suppress(OSError), path.open("rb") as file:
            head = file.read(8)
        kind = next((name for magic, name in _MAGIC if head.startswith(magic)), "other")
    return _file(path, kind)


def _file(path: Path, kind: str) -> Item:
    try:
        state = path.stat()
    except OSError:  # another pruning was here
        return Item(path, kind, 0, 0.0, 0)
    kind = "unfinished" if path.name.startswith(_TEMPORARY) else kind
    return Item(path, kind, state.st_size, state.st_mtime, state.st_size if state.st_nlink == 1 else 0)


def _unpacked(path: Path) -> Item | None:
    """An image that ``mealkit run`` unpacked; its last use is that of the mark in it."""
    try:
        used = max(path.stat().st_mtime, *(child.lstat().st_mtime for child in path.glob(".mealkit-*")))
    except OSError:
        return None
    size = sum(file.lstat().st_size for file in _files(path) if not file.is_dir())
    return Item(path, "unfinished" if path.name.startswith(_TEMPORARY) else "unpacked image", size, used, size)


def _remove(item: Item) -> bool:
    """Remove an item, unless it was used since it was listed."""
    try:
        if item.path.is_dir():
            with removing(item.path) as free:
                if free:
                    shutil.rmtree(item.path)
                return free
        if item.path.stat().st_mtime > item.used:
            return False
        item.path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise storage_error(error, "cannot remove from mealkit's cache", item.path) from error
    return True


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _files(folder: Path) -> Iterable[Path]:
    for place, _, names in os.walk(folder):
        for name in names:
            yield Path(place, name)
