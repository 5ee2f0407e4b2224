"""Writes skops files whose bytes are a function of the model alone: equal models give equal files.

skops names parts by their address in memory and stamps them with the time, and numpy writes the unused bytes between
the fields of a tree's nodes as they happen to be. Here parts are numbered in the order in which they stand, times are
those of the beginning of zip files, and unused bytes are 0. A plain value (a number, a text) is numbered anew
wherever it stands: whether Python keeps one object or two for it is chance.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

_SCHEMA = "schema.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def dump(model: Any, path: Path) -> None:
    """As :func:`skops.io.dump`, but reproducible.

    Raises:
        Exception: whatever skops raises.
    """
    import skops.io

    buffer = io.BytesIO()
    skops.io.dump(model, buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, "w") as target:
        schema, files = _numbered(json.loads(source.read(_SCHEMA)))
        _write(target, _SCHEMA, json.dumps(schema, indent=2).encode())
        for old, new in files.items():
            _write(target, new, _clean(source.read(old)) if old.endswith(".npy") else source.read(old))


def _numbered(schema: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The schema with parts numbered from 1 as they stand, and the new names of the files that it names."""
    numbers: dict[int, int] = {}
    files: dict[str, str] = {}
    taken = 0

    def fresh() -> int:
        nonlocal taken
        taken += 1
        return taken

    def renamed(name: str) -> str:
        if name not in files:
            files[name] = f"{len(files) + 1}.{name.rpartition('.')[2]}"
        return files[name]

    def walk(value: Any) -> Any:
        if isinstance(value, list):
            return [walk(item) for item in value]
        if not isinstance(value, dict):
            return value
        if not isinstance(value.get("__loader__"), str):
            return {key: walk(item) for key, item in value.items()}  # the content of a dictionary of the model's own
        known: dict[str, Any] = {"__id__": _number(value, numbers, fresh)} if "__id__" in value else {}
        if "file" in value:
            known["file"] = renamed(value["file"])
        return {key: known[key] if key in known else walk(item) for key, item in value.items()}

    found: dict[str, Any] = walk(schema)
    return found, files


def _number(value: dict[str, Any], numbers: dict[int, int], fresh: Callable[[], int]) -> int:
    if value["__loader__"] == "JsonNode":
        return fresh()
    if value["__id__"] not in numbers:
        numbers[value["__id__"]] = fresh()
    return numbers[value["__id__"]]


def _clean(data: bytes) -> bytes:
    """An array file with the bytes between the fields of its records set to 0."""
    import numpy as np

    with io.BytesIO(data) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        dtype: Any = read(file)[2]
        if dtype.names is None or sum(dtype[name].itemsize for name in dtype.names) == dtype.itemsize:
            return data
        file.seek(0)
        found = np.lib.format.read_array(file, allow_pickle=False)
    clean = np.zeros(found.shape, found.dtype)
    for name in found.dtype.names or ():
        clean[name] = found[name]
    with io.BytesIO() as out:
        np.lib.format.write_array(out, clean, allow_pickle=False)
        return out.getvalue()


def _write(target: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.create_system, entry.external_attr = 3, 0o600 << 16
    target.writestr(entry, data)
