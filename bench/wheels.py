"""Wheels on disk made into layers: spliced as mealkit does, beside unpacking them into a tar that zlib compresses."""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from mealkit_builder.kitchen import _SPLICERS
from mealkit_builder.layering import Group, _placed, build_wheel_layer, group
from mealkit_builder.store import Store
from mealkit_builder.wheel import WheelFile

from .timing import median, settle

_LEVEL = 6  # gzip's default


@dataclass(frozen=True)
class Splicing:
    """How long both ways took for the same wheels; each gives digests and diff IDs.

    Attributes:
        wheels: How many.
        size: Their bytes.
        layers: How many layers they became.
        spliced: Median seconds of mealkit, which makes several layers at once.
        spliced_size: Bytes of its layers.
        recompressed: Seconds of tar and zlib, in one thread.
        recompressed_size: Bytes of its layers.
    """

    wheels: int
    size: int
    layers: int
    spliced: float
    spliced_size: int
    recompressed: float
    recompressed_size: int


def compare(wheels: Sequence[WheelFile], store: Path, minor: str, repeats: int) -> Splicing:
    """Make layers of wheels that are in ``store``, ``repeats`` times our way and once the usual way."""
    here = [replace(wheel, path=Store(store).blob_path(wheel.sha256)) for wheel in wheels]
    groups = group(here)
    largest_first = sorted(groups, key=lambda one: -sum(wheel.size for wheel in one.wheels))
    times = []
    size = 0
    for _ in range(repeats):
        with tempfile.TemporaryDirectory(prefix="mealkit-bench-", dir=store.parent) as folder:
            settle()
            started = time.perf_counter()
            target = Store(Path(folder))
            with ThreadPoolExecutor(_SPLICERS) as pool:  # as a build makes them; the largest first
                made = pool.map(lambda one: build_wheel_layer(one, minor, target).size, largest_first)  # noqa: B023
                size = sum(made)
            times.append(time.perf_counter() - started)
            _placed.cache_clear()  # the next one shall read the wheels' directories again
    with tempfile.TemporaryDirectory(prefix="mealkit-bench-", dir=store.parent) as folder:
        settle()
        started = time.perf_counter()
        usual = sum(recompress(one, Path(folder) / f"{number}.tar.gz") for number, one in enumerate(groups))
        usual_seconds = time.perf_counter() - started
    total = sum(path.path.stat().st_size for path in here if path.path)
    return Splicing(len(here), total, len(groups), median(times), size, usual_seconds, usual)


def recompress(one: Group, target: Path) -> int:
    """A layer by the usual way: inflate, tar, hash, deflate, hash; returns its size."""
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, 31)
    diff_id, digest = hashlib.sha256(), hashlib.sha256()
    size = 0
    with target.open("wb") as file:

        def write(data: bytes) -> None:
            nonlocal size
            digest.update(data)
            size += len(data)
            file.write(data)

        for block in _tar(one):
            diff_id.update(block)
            write(compressor.compress(block))
        write(compressor.flush())
    return size


def _tar(one: Group) -> Iterator[bytes]:
    for wheel in one.wheels:
        assert wheel.path is not None
        with zipfile.ZipFile(wheel.path) as archive:
            for member in archive.infolist():
                if member.is_dir():
                    continue
                data = archive.read(member)
                info = tarfile.TarInfo(f"opt/site-packages/{member.filename}")
                info.size = len(data)
                yield info.tobuf(tarfile.PAX_FORMAT)
                yield data
                yield b"\0" * (-len(data) % tarfile.BLOCKSIZE)
    yield b"\0" * (2 * tarfile.BLOCKSIZE)
