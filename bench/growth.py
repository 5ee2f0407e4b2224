"""Growth: what a build costs by the size of the recipe's dependencies, from 10 MB to 2 GB of generated wheels."""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import random
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mealkit.project import read_project
from mealkit_builder.lock import LOCK_NAME, lock_inputs

from .registry import Place, Traffic, fresh_registry
from .side import Built, Mealkit
from .source import Source
from .timing import median, settle

SIZES = (10, 50, 200, 1000, 2000)  # MB
_MOST = 100  # MB of a wheel
_PART = 2_000_000  # bytes of a large file, packed

_PYPROJECT = """\
[project]
name = "grown"
version = "1"
requires-python = ">=3.11"
dependencies = [{dependencies}]

[tool.mealkit]
kind = "custom"
trainer = "grown.model:T"
"""
_PACKAGE = """\

[[packages]]
name = "{name}"
version = "1.0"

[[packages.wheels]]
name = "{file}"
url = "{url}"
size = {size}
hashes = {{ sha256 = "{sha256}" }}
"""


@dataclass(frozen=True)
class Cost:
    """What one kind of build cost at one size; seconds and bytes are medians.

    Attributes:
        megabytes: Of wheels.
        case: ``cold``, ``edit``, ``nothing`` or ``fresh``: from nothing; one file changed; nothing changed; one file
            changed, on a machine that knows nothing.
        seconds: From process start to the URL.
        peak: Resident bytes of the largest process.
        traffic: What the registry saw.
    """

    megabytes: int
    case: str
    seconds: float
    peak: int
    traffic: Traffic


@dataclass(frozen=True)
class _Part:
    """A file of a generated wheel: DEFLATE data, and what they inflate to."""

    packed: bytes
    size: int
    crc: int
    hash: str


def measure(
    folder: Path, seed: Path, minor: str, repeats: int, sizes: Sequence[int], say: Callable[[str], None]
) -> tuple[Cost, ...]:
    """Generate wheels of each size, and build with them; ``repeats`` times but from nothing only once."""
    found: list[Cost] = []
    for megabytes in sizes:
        say(f"{megabytes} MB of dependencies")
        here = folder / f"grown-{megabytes}"
        source = generate(here, megabytes, minor)
        mealkit = Mealkit(source, here / "cache", here / "none")
        with fresh_registry(here / "registry", seed) as place:
            mealkit.forget()
            found.append(_cost(megabytes, "cold", [_build(mealkit, place)]))
            for case, fresh, edits in (("edit", False, True), ("nothing", False, False), ("fresh", True, True)):
                built = []
                for _ in range(repeats):
                    if edits:
                        source.edit()
                    if fresh:
                        mealkit.forget()
                    built.append(_build(mealkit, place))
                found.append(_cost(megabytes, case, built))
        shutil.rmtree(here)
    return tuple(found)


def _build(mealkit: Mealkit, place: Place) -> tuple[Built, Traffic]:
    settle()
    with place.counting() as traffic:
        built = mealkit.build(place)
    return built, traffic[0]


def _cost(megabytes: int, case: str, built: Sequence[tuple[Built, Traffic]]) -> Cost:
    traffic = Traffic(*(int(median([getattr(one, name) for _, one in built])) for name in ("requests", "down", "up")))
    seconds = median([one.timed.seconds for one, _ in built])
    return Cost(megabytes, case, seconds, max(one.timed.peak for one, _ in built), traffic)


@functools.cache
def _parts() -> Mapping[str, list[_Part]]:
    """Files that do not compress, as libraries' machine code hardly does, and files that do, and sources."""
    chance = random.Random(1)
    words = [chance.randbytes(chance.randint(2, 9)).hex() for _ in range(4000)]

    def text(size: int) -> bytes:
        return " ".join(chance.choices(words, k=size // 12)).encode()

    return {
        "bin": [_part(chance.randbytes(_PART)) for _ in range(4)],
        "txt": [_part(text(3 * _PART)) for _ in range(4)],
        "py": [
            _part(b"# %d\nx = '''" % n + text(20_000) + b"'''\ndef f(a, b=1):\n    return a + b\n") for n in range(20)
        ],
    }


def _part(plain: bytes) -> _Part:
    stream = zlib.compressobj(6, zlib.DEFLATED, -15)
    value = base64.urlsafe_b64encode(hashlib.sha256(plain).digest()).decode().rstrip("=")
    return _Part(stream.compress(plain) + stream.flush(), len(plain), zlib.crc32(plain), f"sha256={value}")


def generate(folder: Path, megabytes: int, minor: str) -> Source:
    """A recipe with a lock of nothing but generated wheels, which are written to ``folder`` too."""
    parts = _parts()
    project = folder / "project"
    package = project / "grown"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "model.py").write_text("import mealkit\n\n\nclass T(mealkit.Trainer): ...\n")
    count = max(2, megabytes // _MOST)
    names = [f"grown-part-{number:02}" for number in range(count)]
    pins = ", ".join(f'"{name}==1.0"' for name in names)
    (project / "pyproject.toml").write_text(_PYPROJECT.format(dependencies=pins))
    lock = 'lock-version = "1.0"\ncreated-by = "bench"\n'
    for name in names:
        path = folder / "wheels" / f"{name.replace('-', '_')}-1.0-py3-none-any.whl"
        path.parent.mkdir(exist_ok=True)
        sha256 = _write_wheel(path, name, megabytes * 1_000_000 // count, parts)
        lock += _PACKAGE.format(name=name, file=path.name, url=path.as_uri(), size=path.stat().st_size, sha256=sha256)
    lock += f'\n[tool.mealkit]\ninputs = "{lock_inputs(read_project(project))}"\n'
    (project / LOCK_NAME).write_text(lock)
    shutil.copytree(package, folder / "context" / "recipe" / "grown")
    return Source(project, folder / "context", minor, dict(os.environ))


def _write_wheel(path: Path, name: str, size: int, parts: Mapping[str, list[_Part]]) -> str:
    """A wheel of about ``size`` bytes, written around DEFLATE data that exist already; returns its sha256."""
    package = name.replace("-", "_")
    info = f"{package}-1.0.dist-info"
    state, at = hashlib.sha256(), 0
    directory: list[bytes] = []
    rows: list[str] = []
    with path.open("wb") as file:

        def write(data: bytes) -> None:
            nonlocal at
            state.update(data)
            file.write(data)
            at += len(data)

        def add(inner: str, part: _Part) -> None:
            raw = inner.encode()
            common = struct.pack("<5H3L2H", 20, 0, 8, 0, 33, part.crc, len(part.packed), part.size, len(raw), 0)
            mode = 0o100644 << 16
            directory.append(
                b"PK\1\2" + struct.pack("<H", 0x314) + common + struct.pack("<3H2L", 0, 0, 0, mode, at) + raw
            )
            write(b"PK\3\4" + common + raw)
            write(part.packed)
            rows.append(f"{inner},{part.hash},{part.size}")

        for inner, part in _files(package, size, parts):
            add(inner, part)
        add(f"{info}/METADATA", _part(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode()))
        add(f"{info}/WHEEL", _part(b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"))
        add(f"{info}/RECORD", _part("\n".join([*rows, f"{info}/RECORD,,", ""]).encode()))
        start, listed = at, b"".join(directory)
        write(listed)
        count = len(directory)
        write(b"PK\5\6" + struct.pack("<4H2LH", 0, 0, count, count, len(listed), start, 0))
    return state.hexdigest()


def _files(package: str, size: int, parts: Mapping[str, list[_Part]]) -> Iterator[tuple[str, _Part]]:
    """Half of the bytes do not compress; for each 2 MB there are five sources."""
    done = number = 0
    while done < size:
        kind = "bin" if number % 2 else "txt"
        part = parts[kind][number // 2 % 4]
        yield f"{package}/data/{number:04}.{kind}", part
        done += len(part.packed)
        for inner in range(5):
            source = parts["py"][(5 * number + inner) % 20]
            yield f"{package}/m{number:04}_{inner}.py", source
            done += len(source.packed)
        number += 1
