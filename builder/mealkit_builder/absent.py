"""Wheels that are absent: which paths they bring is read from the end of them, at their host.

A fresh machine need not download a wheel whose layer is known. But whether two wheels that never were in one image
bring different files to one path must be known all the same. A zip archive's directory is at its end, and RECORD mostly
just before it: one request of 64 KiB tells, and nothing is taken from it into an image.
"""

from __future__ import annotations

import contextlib
import csv
import io
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from configparser import ConfigParser
from configparser import Error as ConfigError
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from mealkit.errors import MealkitError

from .download import Fetch, get_range, remote_size
from .layering import check_conflicts, placed_files
from .own import record_hash
from .placement import launcher, left_out_of, scheme_folders
from .store import Store
from .wheel import WheelFile

_TAIL = 1 << 16
_LONGEST = 32 << 20
_UNKNOWN = ""

Listing = Mapping[str, str]
"""Path in the image → hash as RECORD writes it; empty where installing changes the file."""


def check_with_absent(wheels: Sequence[WheelFile], minor: str, store: Store) -> None:
    """Refuse wheels that bring different files to one path, though some are not here.

    Those that are in doubt are fetched, and looked at.

    Raises:
        WheelError: two of the wheels disagree about a path; it names both.
        MealkitError: a wheel in doubt cannot be fetched.
    """
    here = [wheel for wheel in wheels if store.has_blob(wheel.sha256)]
    absent = [wheel for wheel in wheels if not store.has_blob(wheel.sha256)]
    with ThreadPoolExecutor(8, "mealkit-list") as executor:
        told = dict(zip(absent, executor.map(lambda wheel: _remembered(wheel, minor, store), absent), strict=True))
    listings: dict[WheelFile, Listing] = {wheel: one for wheel, one in told.items() if one is not None}
    for wheel in here:
        files = placed_files(replace(wheel, path=store.blob_path(wheel.sha256)), minor)
        listings[wheel] = {file.path: file.hash for file in files}
    untold = [wheel for wheel, one in told.items() if one is None]
    brought = _fetched(untold, store, must=False)
    for wheel in brought:
        listings[wheel] = {file.path: file.hash for file in placed_files(wheel, minor)}
    doubtful = suspects(listings)
    brought += _fetched([wheel for wheel in absent if wheel in doubtful and wheel not in untold], store, must=True)
    check_conflicts((*(replace(wheel, path=store.blob_path(wheel.sha256)) for wheel in here), *brought), minor)


def _fetched(wheels: Sequence[WheelFile], store: Store, *, must: bool) -> list[WheelFile]:
    """The wheels with their paths; one that cannot be had is passed over, unless it ``must``: its layer is there."""
    found: list[WheelFile] = []
    fetch = Fetch(wheels, store)
    try:
        for wheel in wheels:
            try:
                found.append(fetch.get(wheel))
            except MealkitError:
                if must:
                    raise
    finally:
        fetch.close()
    return found


def suspects(listings: Mapping[WheelFile, Listing]) -> set[WheelFile]:
    """The wheels that may disagree about a path: other or unknown hashes, or a file where another has a folder."""
    owners: dict[str, WheelFile] = {}
    found: set[WheelFile] = set()
    for wheel, listing in listings.items():
        for path, value in listing.items():
            other = owners.setdefault(path, wheel)
            if other is not wheel and (value == _UNKNOWN or value != listings[other][path]):
                found |= {wheel, other}
    for wheel, listing in listings.items():
        for path in listing:
            above = path.rpartition("/")[0]
            while above:
                if above in owners:
                    found |= {wheel, owners[above]}
                above = above.rpartition("/")[0]
    return found


def _remembered(wheel: WheelFile, minor: str, store: Store) -> Listing | None:
    known = store.read_fact("listings", f"{wheel.sha256}-{minor}")
    if not isinstance(known, dict):
        known = remote_listing(wheel, minor)
        if known is None:
            return None
        store.write_fact("listings", f"{wheel.sha256}-{minor}", known)
    left_out = left_out_of(wheel, minor)
    return {path: value for path, value in known.items() if not left_out(path)}


def remote_listing(wheel: WheelFile, minor: str) -> dict[str, str] | None:
    """What a wheel brings, as its own RECORD says; None where its host does not tell."""
    if wheel.origin is not None or urlsplit(wheel.url or "").scheme not in ("http", "https"):
        return None
    with contextlib.suppress(MealkitError, OSError, zipfile.BadZipFile, ValueError, KeyError, ConfigError, csv.Error):
        size = wheel.size or remote_size(wheel) or 0
        with zipfile.ZipFile(_Remote(size, lambda start, stop: get_range(wheel, start, stop))) as archive:
            return dict(_paths(archive, wheel, minor))
    return None


def _paths(archive: zipfile.ZipFile, wheel: WheelFile, minor: str) -> Iterable[tuple[str, str]]:
    folders = scheme_folders(wheel, minor)
    names = {info.filename: info for info in archive.infolist()}
    (record,) = [name for name in names if name.count("/") == 1 and name.endswith(".dist-info/RECORD")]
    start = record.removesuffix(".dist-info/RECORD")
    for name, value, _ in csv.reader(io.StringIO(_text(archive, names[record]))):
        if name.startswith(f"{start}.dist-info/") or "__pycache__" in name.split("/"):
            continue
        if name.startswith(f"{start}.data/"):
            scheme, _, rest = name.removeprefix(f"{start}.data/").partition("/")
            yield f"{folders[scheme]}/{rest}", _UNKNOWN if scheme == "scripts" else value
        else:
            yield f"{folders['purelib']}/{name}", value
    points = names.get(f"{start}.dist-info/entry_points.txt")
    if points is None:
        return
    parser = ConfigParser(delimiters=("=",), interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(_text(archive, points))
    for section in ("console_scripts", "gui_scripts"):
        for name, reference in parser[section].items() if section in parser else ():
            module, _, attribute = reference.partition("[")[0].strip().partition(":")
            data = launcher(module.strip(), attribute.strip())
            yield f"{folders['scripts']}/{name}", f"sha256={record_hash(data)}"


def _text(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> str:
    if info.file_size > _LONGEST:
        raise ValueError(info.filename)
    return archive.read(info).decode()


class _Remote(io.RawIOBase):
    """A file at a host, of which only the parts that are read come; its end comes first."""

    def __init__(self, size: int, get: Callable[[int, int], bytes]) -> None:
        self._size, self._get = size, get
        self._at = 0
        self._start = max(0, size - _TAIL)
        self._part = get(self._start, size)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._at = max(0, offset + {0: 0, 1: self._at, 2: self._size}[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        stop = min(self._at + len(view), self._size)
        if stop <= self._at:
            return 0
        if not self._start <= self._at or stop > self._start + len(self._part):
            self._start = self._at
            self._part = self._get(self._at, min(self._size, max(stop, self._at + _TAIL)))
        data = self._part[self._at - self._start : stop - self._start]
        view[: len(data)] = data
        self._at += len(data)
        return len(data)
