"""Where a wheel's files go in the environment, by the rules of PyPA's ``installer``; nothing is written."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import posixpath
import zlib
from collections.abc import Callable, Iterable, Iterator
from configparser import Error as ConfigError
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, BinaryIO

import installer
from installer.destinations import WheelDestination
from installer.exceptions import InstallerError
from installer.records import Hash, RecordEntry
from installer.sources import WheelSource
from installer.utils import Scheme, fix_shebang

from mealkit.errors import ProjectError

from .layering import VENV, site_packages
from .own import DISTRIBUTIONS
from .splice import Body, Stream, stored_body
from .wheel import WheelFile
from .wheel_reader import WHITEOUT, OpenWheel, WheelEntry, read_text, refuse

if TYPE_CHECKING:
    import os

    from installer.scripts import ScriptSection
    from installer.sources import WheelContentElement

INTERPRETER = f"{VENV}/bin/python"

# Our own rather than installer's, whose text may change from version to version and with it every digest.
_SCRIPT = """\
#!{interpreter}
import sys
from {module} import {name}
if __name__ == "__main__":
    sys.exit({call}())
"""

# Facts about an installation, which only the one who installs can state.
_INSTALLERS = ("INSTALLER", "REQUESTED", "direct_url.json")


@dataclass(frozen=True, slots=True)
class Placed:
    """A file of a wheel at its path in the image.

    Attributes:
        path: Absolute path in the image.
        source: The wheel it is from.
        content: The entry in the wheel's archive, or bytes that installing made.
        executable: Whether it may be executed.
        hash: ``ALGORITHM=BASE64`` of the content, as RECORD writes it; empty where RECORD has none.
    """

    path: str
    source: OpenWheel
    content: WheelEntry | bytes
    executable: bool
    hash: str

    @property
    def size(self) -> int:
        """Length of the content."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.size

    def body(self) -> Body | Stream:
        """The content, checked; raises WheelError if it is not what the wheel's RECORD says."""
        return stored_body(self.content) if isinstance(self.content, bytes) else self.source.body(self.content)

    def read(self) -> bytes:
        """The content as bytes, checked."""
        return self.content if isinstance(self.content, bytes) else self.source.read(self.content)


def place(opened: OpenWheel, minor: str) -> tuple[Placed, ...]:
    """The files that installing the wheel would give an environment of Python ``minor``, in the order of their paths.

    Raises:
        WheelError: its metadata ask for something that can't be done, or a file would leave its folder or take the
            place of the environment's own.
        ProjectError: it is to be left out of it what it does not have.
    """
    destination = _Destination(opened, minor)
    try:
        installer.install(_Source(opened), destination, {"INSTALLER": b"mealkit\n"})
    except (InstallerError, ConfigError, ValueError, AssertionError, KeyError) as error:
        refuse(opened.wheel, opened.dist_info, f"{type(error).__name__}: {error.args[-1] if error.args else error}")
    unused = destination.unused
    if unused:
        wheel, pattern = opened.wheel, min(unused)
        raise ProjectError(
            f"{wheel.name} {wheel.version} has no file {pattern!r} to leave out",
            where=f"tool.mealkit.image.leave-out.{wheel.name}",
            hint="name paths below site-packages, or below the environment, such as bin/NAME; * stands for anything",
        )
    return _ordered(opened, destination.placed, minor)


def _ordered(opened: OpenWheel, placed: list[Placed], minor: str) -> tuple[Placed, ...]:
    own = {
        f"{VENV}/pyvenv.cfg",
        f"{VENV}/lib64",
        *(f"{VENV}/bin/{name}" for name in ("python", "python3", f"python{minor}")),
    }
    ours = tuple(f"{site_packages(minor)}/{package}/" for package in DISTRIBUTIONS.values())
    paths = {file.path: file for file in placed}
    if len(paths) < len(placed):
        twice = next(file.path for file in placed if paths[file.path] is not file)
        refuse(opened.wheel, twice, "two of its files belong there")
    for path, file in paths.items():
        name = file.content.name if isinstance(file.content, WheelEntry) else path
        if posixpath.normpath(path) != path or not path.startswith(f"{VENV}/"):
            refuse(opened.wheel, name, f"it would be installed outside of the environment, at {path}")
        if path in own or path.startswith((f"{VENV}/lib64/", *ours)):
            refuse(opened.wheel, name, f"it would replace the environment's own {path}")
    return tuple(paths[path] for path in sorted(paths, key=str.encode))


class _Stream(io.RawIOBase):
    """An entry as a file; ``installer`` passes it on, and its content is not inflated unless it is read."""

    def __init__(self, opened: OpenWheel, entry: WheelEntry) -> None:
        self.entry = entry
        self._opened = opened
        self._read: BinaryIO | None = None

    def starts_with(self, start: bytes) -> bool:
        """Whether the content starts so; inflates no more of it than that."""
        raw = self._opened.raw(self.entry)
        try:
            head = zlib.decompressobj(-15).decompress(raw, len(start)) if self.entry.deflated else raw[: len(start)]
        except zlib.error as error:
            refuse(self._opened.wheel, self.entry.name, str(error))
        return bytes(head) == start

    def _content(self) -> BinaryIO:
        if self._read is None:
            self._read = io.BytesIO(self._opened.read(self.entry))
        return self._read

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # what BytesIO takes too
        return self._content().readinto(buffer)  # type: ignore[attr-defined, no-any-return]

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._content().seek(offset, whence)


class _Source(WheelSource):
    """An opened wheel as ``installer`` wants it."""

    def __init__(self, opened: OpenWheel) -> None:
        name, _, version = opened.dist_info.removesuffix(".dist-info").partition("-")
        super().__init__(name, version)
        self._opened = opened

    @property
    def dist_info_filenames(self) -> list[str]:
        start = f"{self.dist_info_dir}/"
        return [name.removeprefix(start) for name in self._opened.entries if name.startswith(start)]

    def read_dist_info(self, filename: str) -> str:
        return read_text(self._opened, f"{self.dist_info_dir}/{filename}")

    def get_contents(self) -> Iterator[WheelContentElement]:
        skipped = {f"{self.dist_info_dir}/{name}" for name in _INSTALLERS}
        for name, entry in self._opened.entries.items():
            if name not in skipped:
                stream = _Stream(self._opened, entry)
                yield (name, entry.hash, str(entry.size)), stream, entry.executable  # type: ignore[misc]


def scheme_folders(wheel: WheelFile, minor: str) -> dict[str, str]:
    """Where the schemes of a wheel are in the image: those of a virtual environment."""
    packages = site_packages(minor)
    return {
        "purelib": packages,
        "platlib": packages,
        "scripts": f"{VENV}/bin",
        "data": VENV,
        # As pip and uv have it in a virtual environment.
        "headers": f"{VENV}/include/site/python{minor}/{wheel.name}",
    }


def launcher(module: str, attribute: str) -> bytes:
    """The script that calls an entry point."""
    name = attribute.partition(".")[0]
    return _SCRIPT.format(interpreter=INTERPRETER, module=module, name=name, call=attribute).encode()


def left_out_of(wheel: WheelFile, minor: str, used: set[str] | None = None) -> Callable[[str], bool]:
    """Whether a path is left out of a wheel, for another wheel brings it; patterns that fit are added to ``used``."""
    if not wheel.left_out:
        return lambda path: False
    roots = (f"{site_packages(minor)}/", f"{VENV}/")

    def is_left_out(path: str) -> bool:
        names = {path.removeprefix(root) for root in roots}
        found = {pattern for pattern in wheel.left_out if any(fnmatchcase(name, pattern) for name in names)}
        if used is not None:
            used.update(found)
        return bool(found)

    return is_left_out


class _Destination(WheelDestination):
    """Notes what goes where; the schemes are those of a virtual environment."""

    def __init__(self, opened: OpenWheel, minor: str) -> None:
        self._opened = opened
        self.placed: list[Placed] = []
        self._used: set[str] = set()
        self._left_out = left_out_of(opened.wheel, minor, self._used)
        self._folders = scheme_folders(opened.wheel, minor)

    @property
    def unused(self) -> set[str]:
        """The globs that fit no file."""
        return set(self._opened.wheel.left_out) - self._used

    def write_script(self, name: str, module: str, attr: str, section: ScriptSection) -> RecordEntry:
        if (
            name in ("", ".", "..")
            or not name.isprintable()
            or "/" in name
            or "\\" in name
            or name.startswith(WHITEOUT)
        ):
            refuse(self._opened.wheel, f"{self._opened.dist_info}/entry_points.txt", f"{name!r} is no name of a script")
        return self._made("scripts", name, launcher(module, attr), executable=True)

    def write_file(
        self, scheme: Scheme, path: str | os.PathLike[str], stream: BinaryIO, is_executable: bool
    ) -> RecordEntry:
        name = str(path)
        if not isinstance(stream, _Stream):
            return self._made(scheme, name, stream.read(), executable=is_executable)
        entry = stream.entry
        executable = is_executable or scheme == "scripts"
        if scheme == "scripts" and stream.starts_with(b"#!python"):
            with fix_shebang(stream, INTERPRETER) as fixed:
                return self._made(scheme, name, fixed.read(), executable=True)
        self.placed.append(Placed(self._path(scheme, name), self._opened, entry, executable, entry.hash))
        return RecordEntry(name, Hash.parse(entry.hash) if entry.hash else None, entry.size)

    def finalize_installation(
        self, scheme: Scheme, record_file_path: str, records: Iterable[tuple[Scheme, RecordEntry]]
    ) -> None:
        root = self._folders[scheme]
        rows = []
        for kind, record in records:
            if self._is_left_out(self._path(kind, record.path)):
                continue
            # What lies outside is named relative to site-packages: ../../../bin/NAME.
            row = record.to_row()
            outside = self._folders[kind] != root
            rows.append((posixpath.relpath(self._path(kind, record.path), root), *row[1:]) if outside else row)
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(sorted(rows))
        self.placed = [file for file in self.placed if not self._is_left_out(file.path)]
        self._made(scheme, record_file_path, text.getvalue().encode(), executable=False)

    def _is_left_out(self, path: str) -> bool:
        """Whether another wheel brings this file; what tells of the distribution always stays."""
        own = f"{self._folders['purelib']}/{self._opened.dist_info}/"
        return not path.startswith(own) and self._left_out(path)

    def _made(self, scheme: str, path: str, data: bytes, *, executable: bool) -> RecordEntry:
        value = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        self.placed.append(Placed(self._path(scheme, path), self._opened, data, executable, f"sha256={value}"))
        return RecordEntry(path, Hash("sha256", value), len(data))

    def _path(self, scheme: str, path: str) -> str:
        return f"{self._folders[scheme]}/{path}"
