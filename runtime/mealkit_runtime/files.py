"""Small things that the edges to the disk share: durable writes, and names that are no one's data."""

from __future__ import annotations

import os
from pathlib import Path

STAGING = ".mealkit-staging"
"""Begins the name of all unfinished work; readers of datasets leave names with a dot out."""


def sync(path: Path) -> None:
    """Force a file, or the entries of a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Force a folder with all that is in it to the disk."""
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)


def make_folder(path: Path) -> None:
    """Make a folder and those above it; each new one's name is forced to the disk, or a power cut may take it all."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync(path.parent)


def umask() -> int:
    """The process' umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
