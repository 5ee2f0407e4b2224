"""What an installer makes of a wheel and what a layer of ours holds, side by side: same files, same bytes, same modes.

Differences that the documentation names (``docs/concepts/wheels.md``) are told apart from all others; of those there
must be none.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mealkit_builder.layering import VENV, Group, build_wheel_layer
from mealkit_builder.lock import Lock
from mealkit_builder.platform import host_platform
from mealkit_builder.selection import select_wheels
from mealkit_builder.store import Store
from mealkit_builder.wheel import WheelFile

MINOR = f"{sys.version_info[0]}.{sys.version_info[1]}"
FOLDER = Path(__file__).parent
UV = str(Path(sys.executable).with_name("uv"))

_NOTES = ("REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json")
"""What an installer notes of how it was called; a layer is the same however its wheel was asked for."""

_VERSIONED = re.compile(r"bin/(pip|easy_install)-?3\.\d+")
"""Installers know the one project whose launchers are named after the Python that installs them."""


@dataclass(frozen=True)
class File:
    """A file of an environment: its permission bits and content."""

    mode: int
    data: bytes


Tree = Mapping[str, File]


@dataclass
class Difference:
    """How two trees of one wheel differ.

    Attributes:
        documented: Kind of documented difference → paths.
        other: What the documentation does not name, a line each.
    """

    documented: dict[str, list[str]] = field(default_factory=dict)
    other: list[str] = field(default_factory=list)

    def note(self, kind: str, path: str) -> None:
        """A documented difference."""
        self.documented.setdefault(kind, []).append(path)


def environment(folder: Path) -> Path:
    """A fresh virtual environment of this Python, without pip."""
    shutil.rmtree(folder, ignore_errors=True)
    command = [UV, "venv", "-q", "--no-project", "--no-config", "--python", sys.executable, str(folder)]
    subprocess.run(command, check=True, timeout=60, capture_output=True)
    return folder


def by_uv(wheels: Sequence[Path], folder: Path) -> Tree:
    """What ``uv pip install`` makes of wheels."""
    command = [UV, "pip", "install", "-q", "--no-deps", "--no-index", "--no-config", "--link-mode", "copy"]
    return _installed(command, wheels, folder, ("--python", str(folder / "bin/python")))


def by_pip(wheels: Sequence[Path], folder: Path) -> Tree:
    """What ``pip install --no-compile`` makes of wheels."""
    command = [sys.executable, "-m", "pip", "--isolated", "--python", str(folder / "bin/python"), "install", "-q"]
    command += ["--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check", "--root-user-action=ignore"]
    return _installed(command, wheels, folder, ())


def _installed(command: list[str], wheels: Sequence[Path], folder: Path, further: tuple[str, ...]) -> Tree:
    environment(folder)
    before = {path for path in folder.rglob("*") if not path.is_dir()}
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("UV_", "PIP_"))}
    clean |= {key: os.environ[key] for key in ("UV_CACHE_DIR",) if key in os.environ}
    done = subprocess.run(
        [*command, *further, *map(str, wheels)], capture_output=True, text=True, timeout=300, umask=0o022, env=clean
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} refuses: {done.stderr}")
    return {
        path.relative_to(folder).as_posix(): File(stat.S_IMODE(path.stat().st_mode), path.read_bytes())
        for path in folder.rglob("*")
        if path not in before and path.is_file() and not path.is_symlink() and path != folder / ".lock"
    }


def by_layer(wheel: WheelFile, store: Store, folder: Path) -> Tree:
    """What the wheel's layer holds, as GNU tar unpacks it."""
    layer = build_wheel_layer(Group((wheel,)), MINOR, store)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    blob = store.blob_path(layer.digest)
    # -p: modes are the archive's, whatever the umask is here.
    subprocess.run(["tar", "-xzpf", str(blob), "-C", str(folder)], check=True, timeout=300)
    root = folder / VENV.lstrip("/")
    found = {
        path.relative_to(root).as_posix(): File(stat.S_IMODE(path.stat().st_mode), path.read_bytes())
        for path in root.rglob("*")
        if not path.is_dir()
    }
    # Python's own reader agrees.
    with tarfile.open(blob) as tar:
        assert {member.name for member in tar if member.isfile()} == {f"{VENV.lstrip('/')}/{name}" for name in found}
    return found


def compare(theirs: Tree, ours: Tree) -> Difference:
    """How an installer's environment and a layer's differ."""
    result = Difference()
    for path in sorted(theirs.keys() | ours.keys()):
        their, our = theirs.get(path), ours.get(path)
        name = path.rpartition("/")[2]
        if our is None:
            if name in _NOTES and ".dist-info/" in path:
                result.note(name, path)
            elif _VERSIONED.fullmatch(path):
                result.note("pip's launcher with the Python's version", path)
            elif "__pycache__" in path.split("/"):
                result.note("bytecode that came in the wheel", path)
            else:
                result.other.append(f"{path}: missing in the layer")
        elif their is None:
            result.other.append(f"{path}: only in the layer")
        else:
            _compare_file(path, their, our, result)
    return result


def _compare_file(path: str, their: File, our: File, result: Difference) -> None:
    if their.mode != our.mode:
        if bool(their.mode & 0o111) == bool(our.mode & 0o111):
            result.note(f"mode {their.mode:o} becomes {our.mode:o}", path)
        elif path.endswith(".dist-info/RECORD"):
            result.note("RECORD that may be executed", path)
        elif path.startswith("bin/") and our.mode & 0o111:
            result.note("script that may be executed", path)
        elif path.startswith("bin/") or not our.mode & 0o111:
            result.other.append(f"{path}: mode {their.mode:o}, in the layer {our.mode:o}")
        else:
            result.note(f"mode {their.mode:o} becomes {our.mode:o}", path)
    if their.data == our.data:
        return
    name = path.rpartition("/")[2]
    if ".dist-info/" in path and name == "INSTALLER":
        result.note("INSTALLER", path)
    elif ".dist-info/" in path and name == "RECORD":
        unlike = _rows(their.data) ^ _rows(our.data)
        if unlike:
            result.other.append(f"{path}: lines differ: {sorted(unlike)[:4]}")
        result.note("RECORD", path)
    elif path.startswith("bin/"):
        if _script(their.data) == _script(our.data):
            result.note("script", path)
        else:
            result.other.append(f"{path}: another script")
    else:
        result.other.append(f"{path}: other bytes")


def _rows(data: bytes) -> set[tuple[str, str, str]]:
    """A RECORD's lines but those of what is documented to differ; hashes of scripts are left out."""
    rows = set()
    for name, digest, size in csv.reader(io.StringIO(data.decode())):
        last = name.rpartition("/")[2]
        if (
            last in (*_NOTES, "INSTALLER")
            or _VERSIONED.fullmatch(name.removeprefix("../../../"))
            or "__pycache__" in name.split("/")
        ):
            continue
        if name.startswith("../../../bin/"):
            digest = size = ""
        rows.add((name, digest, size))
    return rows


def _script(data: bytes) -> object:
    """What a script in ``bin`` does: a launcher's entry point, or the text below the line that names its Python."""
    first, _, rest = data.partition(b"\n")
    text = data.decode("utf-8", "replace")
    found = re.search(r"^\s*from (\S+) import (\S+)$.*sys\.exit\(([^()]+)\(\)\)", text, re.MULTILINE | re.DOTALL)
    if found and len(data) < 1000:
        return found.groups()
    if first.startswith(b"#!/bin/sh"):  # the way round a path that is too long for a kernel
        rest = rest.partition(b"\n' '''\n")[2] or rest
    return hashlib.sha256(rest).hexdigest()


def resolve(names: Sequence[str], folder: Path) -> Lock:
    """These packages and no others, as uv locks them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "names.in").write_text("\n".join(names) + "\n")
    path = folder / "pylock.toml"
    command = [UV, "pip", "compile", str(folder / "names.in"), "--no-deps", "--universal", "--quiet", "--no-header",
               "--no-annotate", "--format", "pylock.toml", "--python-version", MINOR, "-o", str(path)]  # fmt: skip
    subprocess.run(command, check=True, timeout=300, stdout=subprocess.DEVNULL)
    return Lock(path, path.read_text())


def select(lock: Lock, store: Store) -> tuple[WheelFile, ...]:
    """The wheels for this machine and Python."""
    major, minor = platform.libc_ver()[1].split(".")[:2]
    return select_wheels(lock, MINOR, host_platform(), "glibc", (int(major), int(minor)), store)


def named(wheel: WheelFile, folder: Path) -> Path:
    """The fetched file under its own name, by which installers go."""
    assert wheel.path is not None
    path = folder / wheel.filename
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        os.link(wheel.path, path)
    return path


def true_record(tree: Tree) -> list[str]:
    """What is wrong with the RECORDs of a layer: each file listed once, with its own hash and size."""
    wrong, listed = [], set()
    for path in [path for path in tree if re.fullmatch(r"lib/[^/]+/site-packages/[^/]+\.dist-info/RECORD", path)]:
        site = path.rpartition("/")[0].rpartition("/")[0]
        for name, digest, size in csv.reader(io.StringIO(tree[path].data.decode())):
            target = os.path.normpath(f"{site}/{name}")
            if target in listed or target not in tree:
                wrong.append(f"{path}: {name} is listed twice, or missing")
            listed.add(target)
            if target == path:
                continue
            algorithm, _, value = digest.partition("=")
            data = tree[target].data if target in tree else b""
            made = base64.urlsafe_b64encode(hashlib.new(algorithm, data).digest()).decode().rstrip("=")
            if (made, str(len(data))) != (value, size or str(len(data))):
                wrong.append(f"{path}: the line of {name} is wrong")
    return wrong + [f"{path}: not in RECORD" for path in tree if path not in listed]
