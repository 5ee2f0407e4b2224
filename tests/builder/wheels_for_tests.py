"""Wheels made on the spot, good ones and such as a wheel must not be, and a few real ones fetched once a session."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import random
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from packaging.utils import parse_wheel_filename

from mealkit_builder.layer import Layer
from mealkit_builder.store import Store
from mealkit_builder.wheel import WheelFile

MINOR = f"{sys.version_info[0]}.{sys.version_info[1]}"
REAL = ("attrs==25.3.0", "click==8.1.8", "markupsafe==3.0.2", "pyyaml==6.0.2", "six==1.17.0")


def wheel_file(path: Path) -> WheelFile:
    name, version, _, _ = parse_wheel_filename(path.name)
    data = path.read_bytes()
    return WheelFile(name, str(version), path.name, hashlib.sha256(data).hexdigest(), len(data), path)


def record_hash(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def make_wheel(
    folder: Path,
    name: str = "demo",
    version: str = "1.0",
    files: Mapping[str, bytes | str] | None = None,
    *,
    entry_points: str = "",
    record: Mapping[str, str] | None = None,
    purelib: bool = True,
    filename: str | None = None,
    infos: Sequence[tuple[zipfile.ZipInfo, bytes]] = (),
    metadata: str | None = None,
    method: int = zipfile.ZIP_DEFLATED,
    executable: Sequence[str] = (),
    wheel: str | None = None,
) -> WheelFile:
    """A wheel of ``files``; ``record`` replaces lines of RECORD (an empty one drops it), ``infos`` are added as is."""
    info = f"{name}-{version}.dist-info"
    content = {path: data.encode() if isinstance(data, str) else data for path, data in (files or {}).items()}
    if metadata != "":
        content[f"{info}/METADATA"] = (
            metadata or f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        ).encode()
    content[f"{info}/WHEEL"] = (
        wheel or f"Wheel-Version: 1.0\nRoot-Is-Purelib: {str(purelib).lower()}\nTag: py3-none-any\n"
    ).encode()
    if entry_points:
        content[f"{info}/entry_points.txt"] = entry_points.encode()
    lines = {path: f"{path},{record_hash(data)},{len(data)}" for path, data in content.items()}
    lines |= {
        item.filename: f"{item.filename},{record_hash(data)},{len(data)}"
        for item, data in infos
        if not item.filename.endswith("/")
    }
    lines[f"{info}/RECORD"] = f"{info}/RECORD,,"
    lines |= record or {}
    content[f"{info}/RECORD"] = "".join(f"{line}\n" for line in lines.values() if line).encode()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (filename or f"{name}-{version}-py3-none-any.whl")
    with zipfile.ZipFile(path, "w", method) as archive:
        for item in content:
            made = zipfile.ZipInfo(item)
            made.external_attr = (0o100755 if item in executable else 0o100644) << 16
            made.compress_type = method
            archive.writestr(made, content[item])
        for extra, data in infos:
            archive.writestr(extra, data)
    return wheel_file(path)


def patched(wheel: WheelFile, old: bytes, new: bytes, count: int = 1, *, last: bool = False) -> WheelFile:
    """The wheel with bytes of its archive changed, its sha256 made to fit."""
    assert wheel.path is not None
    assert len(old) == len(new)
    data = wheel.path.read_bytes()
    assert old in data
    data = new.join(data.rsplit(old, count)) if last else data.replace(old, new, count)
    wheel.path.write_bytes(data)
    return wheel_file(wheel.path)


def read_layer(store: Store, layer: Layer) -> tarfile.TarFile:
    """The layer as Python's own readers see it, its digests verified."""
    data = store.blob_path(layer.digest).read_bytes()
    assert layer.digest == "sha256:" + hashlib.sha256(data).hexdigest()
    assert layer.size == len(data)
    plain = gzip.decompress(data)
    assert layer.diff_id == "sha256:" + hashlib.sha256(plain).hexdigest()
    return tarfile.open(fileobj=io.BytesIO(plain))


def contents(store: Store, layer: Layer) -> dict[str, bytes]:
    """The layer's regular files by their absolute path."""
    with read_layer(store, layer) as tar:
        return {"/" + member.name: tar.extractfile(member).read() for member in tar if member.isfile()}  # type: ignore[union-attr]


def fetch_real(folder: Path) -> list[WheelFile]:
    """Five small wheels from the configured index: pure ones, compiled ones, one with a script."""
    arguments = [
        "download",
        "-q",
        "--no-deps",
        "--only-binary=:all:",
        "--python-version",
        MINOR,
        "-d",
        str(folder),
        *REAL,
    ]
    commands = [[sys.executable, "-m", "pip"], [shutil.which("pip") or "pip"]]
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    commands += [[uv, "tool", "run", "pip"]] if uv else []
    for command in commands:
        try:
            done = subprocess.run([*command, *arguments], capture_output=True, timeout=120)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return [wheel_file(path) for path in sorted(folder.glob("*.whl"))]
    pytest.skip("no wheels: neither pip nor uv reaches an index")


def generated_wheel(folder: Path, large: Mapping[str, tuple[int, int]], small: int) -> WheelFile:
    """A wheel of ``large`` files (MiB and zip method by name) and ``small`` ones of 20 kB, that hardly compresses."""
    block = random.Random(1).randbytes(1 << 20)
    path = folder / "generated-1.0-py3-none-any.whl"
    rows = ["generated-1.0.dist-info/RECORD,,"]
    with zipfile.ZipFile(path, "w", compresslevel=1) as archive:

        def add(name: str, blocks: Sequence[bytes], method: int = zipfile.ZIP_STORED) -> None:
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            state = hashlib.sha256()
            # The size must be known beforehand, or zipfile reserves space for that of a huge file.
            info.file_size = sum(map(len, blocks))
            with archive.open(info, "w") as file:
                for data in blocks:
                    state.update(data)
                    file.write(data)
            value = base64.urlsafe_b64encode(state.digest()).decode().rstrip("=")
            rows.append(f"{name},sha256={value},{info.file_size}")

        for name, (size, method) in large.items():
            add(f"generated/{name}", [block] * size, method)
        for number in range(small):
            add(f"generated/data/{number:05}.bin", [block[number : number + 20_000]])
        folder_name = "generated-1.0.dist-info"
        add(f"{folder_name}/METADATA", [b"Metadata-Version: 2.1\nName: generated\nVersion: 1.0\n"])
        add(f"{folder_name}/WHEEL", [b"Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"])
        archive.writestr(f"{folder_name}/RECORD", "\n".join(rows) + "\n")
    with path.open("rb") as whole:
        digest = hashlib.file_digest(whole, "sha256").hexdigest()
    return WheelFile("generated", "1.0", path.name, digest, path.stat().st_size, path)
