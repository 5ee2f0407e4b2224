"""Mounts: a run's arguments rewritten so that this machine's files are found inside a container."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mealkit.errors import UnreadableDataError, UsageError, storage_error

ROOT = "/mnt/mealkit"

# How each path option of the runtime is used: read a file, folder or glob; fill a folder; write a file.
READ, _FILL, _WRITE = "read", "fill", "write"
_OPTIONS: Mapping[str, str] = {
    "--input": READ, "--validation": READ, "--model": READ, "--config": READ, "--hyperparameters": READ,
    "--warm-start": READ, "--trial-storage": _WRITE, "--quarantine": _FILL,
    "--output": _FILL, "--outputs": _FILL, "--checkpoint-dir": _FILL, "--result": _WRITE, "--report": _WRITE,
}  # fmt: skip
_TRAINED = {"--model": _FILL}  # what train makes, evaluate and score read

NAMED = re.compile(r"([A-Za-z_][\w.-]*)=(.*)", re.DOTALL)
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_GLOB = re.compile(r"[*?\[]")
_DELTA = re.compile(r"(delta:)?(.+?)(@v\d+|@\d{4}-\d\d-\d\d[^/]*)?", re.DOTALL)
"""A Delta table may be told as such, and have a version behind it."""


@dataclass(frozen=True)
class Mount:
    """A file or folder of this machine inside a container.

    Attributes:
        source: Absolute path here.
        target: Absolute path there.
        read_only: Whether the container may only read it.
        folder: Whether it is a folder (rather than a file).
    """

    source: Path
    target: str
    read_only: bool
    folder: bool = True


@dataclass(frozen=True)
class Mounted:
    """Arguments as they are right inside, and the mounts that make them so."""

    arguments: tuple[str, ...]
    mounts: tuple[Mount, ...]


def path_options(mode: str) -> Mapping[str, str]:
    """The arguments of a mode that take a path or URI, and how each is used: :data:`READ`, or else written."""
    return {**_OPTIONS, **(_TRAINED if mode == "train" else {})}


def local_path(value: str) -> str | None:
    """The path in the value of such an argument; None: it is a URI of elsewhere, or empty."""
    value = value.removeprefix("delta:")
    path = value.removeprefix("file://")
    return None if not path or (path == value and _URI.match(value)) else path


def plan_mounts(mode: str, arguments: Sequence[str], cwd: Path) -> Mounted:
    """Find the path options among a mode's arguments, and plan a mount for each.

    Inputs are mounted read-only under their own name (a file's ending tells its format); a glob brings the folder
    that it starts from. Outputs are mounted as folders that can be written: the folder itself, or a result file's.
    URIs with a scheme are left as they are, but ``file://``.

    Raises:
        UnreadableDataError: an input is not there.
        UsageError: an option has no value.
    """
    options = path_options(mode)
    mounts: dict[tuple[Path, bool], Mount] = {}
    rewritten: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        name, equals, value = argument.partition("=")
        use = options.get(name) if argument.startswith("--") else None
        if argument == "--":
            rewritten += [argument, *rest]
            break
        if use is None:
            rewritten.append(argument)
            continue
        if not equals:
            if not rest:
                raise UsageError(f"{name} needs a value", hint=f"{name} PATH")
            value = rest.pop(0)
        label = ""
        if use == READ and name == "--input" and (match := NAMED.fullmatch(value)) and not (cwd / value).exists():
            label, value = f"{match[1]}=", match[2]
        rewritten += [name, label + _place(use, value, cwd, mounts)]
    return Mounted(tuple(rewritten), tuple(mounts.values()))


def _place(use: str, value: str, cwd: Path, mounts: dict[tuple[Path, bool], Mount]) -> str:
    """The value's path inside, its mount added."""
    if value.startswith("file://"):
        value = value.removeprefix("file://")
    if _URI.match(value.removeprefix("delta:")) or not value:
        return value
    if use == READ and not (cwd / value).exists() and (delta := _DELTA.fullmatch(value)) and (delta[1] or delta[3]):
        return (delta[1] or "") + _place(use, delta[2], cwd, mounts) + (delta[3] or "")
    if use == _FILL and value.startswith("delta:"):
        return "delta:" + _place(use, value.removeprefix("delta:"), cwd, mounts)
    path = Path(posixpath.normpath(cwd / Path(value).expanduser()))
    if use == READ:
        if path.exists():
            return _mount(path, "input", True, mounts)
        if _GLOB.search(str(path)):
            start = path
            while _GLOB.search(str(start)):
                start = start.parent
            if start.is_dir():
                return posixpath.join(_mount(start, "input", True, mounts), path.relative_to(start).as_posix())
        raise UnreadableDataError("there is no such file or folder", where=value, hint="check the path")
    if use == _FILL:
        return _mount(path, "output", False, mounts)
    return posixpath.join(_mount(path.parent, "output", False, mounts), path.name)


def _mount(path: Path, kind: str, read_only: bool, mounts: dict[tuple[Path, bool], Mount]) -> str:
    key = (path, read_only)
    if key not in mounts:
        # Engines take any byte in a path but a few; the number keeps two files of one name apart.
        target = f"{ROOT}/{kind}/{len(mounts)}/{path.name or 'root'}"
        mounts[key] = Mount(path, target, read_only, folder=not read_only or path.is_dir())
    return mounts[key].target


def make_outputs(mounts: Sequence[Mount]) -> None:
    """Make the folders to be written to, as the calling user: an engine would make them as root's.

    Raises:
        StorageError: one cannot be made.
    """
    for mount in mounts:
        if not mount.read_only:
            try:
                mount.source.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise storage_error(error, "cannot make an output folder") from error
