"""Compiled wheels: the bytecode of small ones, kept, for the layer that they share is made anew when one is added."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from .layer import layer_key
from .store import Store

FOLDER = "compiled"
"""The folder in the store. A file in it is a line of JSON, then the contents, one after the other."""


def compiled_key(identity: str, *made_by: str) -> str:
    """What a wheel's bytecode is a pure function of."""
    return layer_key("compiled", *made_by, identity)


def read_compiled(store: Store, key: str) -> dict[str, bytes] | None:
    """The bytecode of a wheel by its path in the image; None when it is not kept, or damaged."""
    path = _path(store, key)
    try:
        head, _, data = path.read_bytes().partition(b"\n")
        told = json.loads(head)
        sizes = {str(name): int(size) for name, size in told["sizes"].items()}
        sound = told["sha256"] == hashlib.sha256(data).hexdigest() and sum(sizes.values()) == len(data)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    if not sound:
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # what was not used for longest is pruned first
    found, at = dict[str, bytes](), 0
    for name, size in sizes.items():
        found[name] = data[at : at + size]
        at += size
    return found


def keep_compiled(store: Store, key: str, contents: Mapping[str, bytes]) -> None:
    """Keep a wheel's bytecode.

    Raises:
        StorageError: the disk is full.
    """
    state = hashlib.sha256()
    for data in contents.values():
        state.update(data)
    head = {"sha256": state.hexdigest(), "sizes": {path: len(data) for path, data in contents.items()}}
    with store.writing(_path(store, key)) as file:
        file.write(json.dumps(head).encode() + b"\n")
        file.writelines(contents.values())


def _path(store: Store, key: str) -> Path:
    return store.root / FOLDER / key.replace(":", "-").replace("/", "_")
