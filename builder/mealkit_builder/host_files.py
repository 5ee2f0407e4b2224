"""The files of this machine's Python: its standard library, the shared libraries it needs, and where they all lie."""

from __future__ import annotations

import json
import os
import posixpath
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mealkit.errors import BaseImageError

from .tree import DirEntry, FileEntry, LinkEntry

Entry = FileEntry | LinkEntry | DirEntry

_SECONDS = 30
_PROBE = "import json, os, sys; print(json.dumps([sys.executable, os.__file__, sys.version.split()[0]]))"

_LEFT_OUT_FOLDERS = frozenset({"__pycache__", "test", "tests", "idlelib", "idle_test", "tkinter", "turtledemo",
                               "ensurepip", "site-packages", "dist-packages"})  # fmt: skip
_LEFT_OUT_FILES = re.compile(
    r"turtle\.py|EXTERNALLY-MANAGED|.*\.(?:a|o|pyc|pyo|exe)|(?:_tkinter|_ctypes_test|_test[a-z]*|_xxtestfuzz|xxlimited\w*)\..*"
)

# What wheels may expect of the system: the libraries that PEP 599 and PEP 600 name and that have no window in
# them, the C library's own plug-ins, and OpenMP, which some wheels (LightGBM's) leave to the system.
_EXPECTED = (
    "libc.so.6", "libm.so.6", "libdl.so.2", "librt.so.1", "libpthread.so.0", "libutil.so.1", "libresolv.so.2",
    "libnsl.so.1", "libanl.so.1", "libcrypt.so.1", "libgcc_s.so.1", "libstdc++.so.6", "libz.so.1", "libexpat.so.1",
    "libgomp.so.1", "libnss_files.so.2", "libnss_dns.so.2", "libnss_compat.so.2",
)  # fmt: skip

_ARROW = re.compile(r"\s*(\S+) => (/\S+)(?: \(0x[0-9a-f]+\))?\Z")
_DIRECT = re.compile(r"\s*(/\S+) \(0x[0-9a-f]+\)\Z")
_MISSING = re.compile(r"\s*(\S+) => not found\Z")


@dataclass(frozen=True)
class HostPython:
    """An interpreter of this machine.

    Attributes:
        executable: The program itself, behind all links and shims.
        stdlib: The folder of its standard library, behind all links.
        version: Such as ``3.12.1``.
    """

    executable: str
    stdlib: str
    version: str

    @property
    def minor(self) -> str:
        """Such as ``3.12``."""
        return self.version.rpartition(".")[0]

    @property
    def prefix(self) -> str:
        """The folder above ``bin`` and ``lib``."""
        return posixpath.dirname(posixpath.dirname(self.stdlib))

    @property
    def dynload(self) -> str:
        """The folder of its extension modules."""
        return f"{self.stdlib}/lib-dynload"


def host_python(named: str | None) -> HostPython:
    """This interpreter (behind its virtual environment), or the one at the path that the user names.

    Raises:
        BaseImageError: the named one does not run.
    """
    if named is None or os.path.realpath(named) == os.path.realpath(sys.executable):
        # Typeshed leaves _base_executable out; it is how venv itself finds the Python behind an environment.
        executable = getattr(sys, "_base_executable", None) or sys.executable
        return _found(executable, os.__file__, sys.version.split()[0])
    try:
        done = subprocess.run([named, "-I", "-S", "-c", _PROBE], capture_output=True, timeout=_SECONDS, check=True)
        executable, module, version = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise BaseImageError(
            f"{named} is not a Python of this machine that runs",
            where="base host",
            hint="correct [tool.mealkit.image] python, or leave it out: then the builder's own Python is taken",
        ) from error
    return _found(executable, module, version)


def _found(executable: str, os_module: str, version: str) -> HostPython:
    executable = os.path.realpath(executable)
    stdlib = posixpath.dirname(os.path.realpath(os_module))
    if re.fullmatch(r"(pypy|graalpy).*", posixpath.basename(executable)) or sys.implementation.name != "cpython":
        raise BaseImageError(f"{executable} is not CPython", where="base host", hint="run mealkit with CPython")
    # getpath.py searches from the executable upwards; the image has the same paths, so the same search must work.
    above = posixpath.dirname(posixpath.dirname(executable))
    if posixpath.dirname(posixpath.dirname(stdlib)) != above:
        raise BaseImageError(
            f"the Python {executable} has its standard library elsewhere, in {stdlib}",
            where="base host",
            hint="use another Python (uv python install 3.12), or a base from a registry",
        )
    return HostPython(executable, stdlib, version)


def stdlib_files(python: HostPython) -> Iterator[os.DirEntry[str]]:
    """The files and links of the standard library that an image gets, in no particular order.

    Left out: tests, IDLE, Tk, turtle, ensurepip, installed packages, static libraries, bytecode.
    """
    folders = [python.stdlib]
    while folders:
        with os.scandir(folders.pop()) as listing:
            for item in listing:
                if item.is_dir(follow_symlinks=False):
                    if item.name not in _LEFT_OUT_FOLDERS and not item.name.startswith("config-"):
                        folders.append(item.path)
                elif not _LEFT_OUT_FILES.fullmatch(item.name):
                    yield item


def expected_libraries() -> tuple[str, ...]:
    """Where the libraries that wheels may expect would be on this machine; some are not there."""
    machine = os.uname().machine
    folders = (f"/usr/lib/{machine}-linux-gnu", f"/lib/{machine}-linux-gnu", "/usr/lib64", "/lib64", "/usr/lib", "/lib")
    found = [next((path for folder in folders if Path(path := f"{folder}/{name}").exists()), "") for name in _EXPECTED]
    return tuple(path or f"{folders[0]}/{name}" for path, name in zip(found, _EXPECTED, strict=True))


@dataclass(frozen=True)
class Closure:
    """What the loader would load.

    Attributes:
        libraries: Name to path of each shared library, the loader itself included (by its path).
        broken: Of the files asked about, those that lack a library, with its name.
    """

    libraries: dict[str, str]
    broken: dict[str, str]


def closure(files: Iterable[str]) -> Closure:
    """The shared libraries of programs and libraries, as this machine's loader finds them.

    Raises:
        BaseImageError: there is no ``ldd``, or it fails.
    """
    # Without LD_LIBRARY_PATH and LD_PRELOAD: a container would not have them either.
    environment = {"LC_ALL": "C", "PATH": os.environ.get("PATH", "/usr/bin:/bin")}
    command = ["ldd", *sorted(files)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, env=environment, text=True, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BaseImageError(
            "the base 'host' needs the program ldd to find the libraries of this machine's Python",
            where="base host",
            hint="install it (it comes with the C library), or use a base from a registry",
        ) from error
    libraries: dict[str, str] = {}
    broken: dict[str, str] = {}
    # ldd prints a heading only when it is asked about several files.
    subject = command[1] if len(command) == 2 else ""
    for line in done.stdout.splitlines():
        if line.startswith("/") and line.endswith(":"):
            subject = line[:-1]
        elif match := _ARROW.match(line):
            libraries.setdefault(match[1], posixpath.normpath(_plain(match[2])))
        elif match := _DIRECT.match(line):
            libraries.setdefault(match[1], match[1])
        elif match := _MISSING.match(line):
            broken[subject] = match[1]
    if not libraries:
        raise BaseImageError(
            "ldd names no libraries for this machine's Python: it is linked statically, or ldd failed",
            where="base host",
            hint="use another Python (uv python install 3.12), or a base from a registry",
        )
    return Closure(libraries, broken)


def _plain(path: str) -> str:
    """The library that every processor can run, rather than the variant for this one (glibc-hwcaps)."""
    plain = re.sub(r"/glibc-hwcaps/[^/]+/", "/", path)
    return plain if Path(plain).exists() else path


@dataclass
class HostTree:
    """Files of this machine collected for an image, with every symbolic link on the way to them."""

    entries: dict[str, Entry] = field(default_factory=dict)
    _targets: dict[str, str | None] = field(default_factory=dict)

    def put(self, entry: Entry) -> None:
        """An entry of our own making; it stays if one of this path is there."""
        self.entries.setdefault(entry.path, entry)

    def add(self, path: str, *, executable: bool = False) -> str:
        """The file at ``path``, where it really lies, and the links that lead to it; returns the real path."""
        done, rest, hops = "", [part for part in path.split("/") if part not in ("", ".")], 0
        while rest:
            part = rest.pop(0)
            if part == "..":
                done = done.rpartition("/")[0]
                continue
            here = f"{done}/{part}"
            target = self._target(here)
            if target is None:
                done = here
                continue
            hops += 1
            if hops > 40:
                raise BaseImageError("too many symbolic links", where=path, hint="use a base from a registry")
            self.put(LinkEntry(here, target))
            rest = [piece for piece in target.split("/") if piece not in ("", ".")] + rest
            if target.startswith("/"):
                done = ""
        self.put(FileEntry(done, Path(done), executable=executable))
        return done

    def _target(self, path: str) -> str | None:
        if path not in self._targets:
            self._targets[path] = str(here.readlink()) if (here := Path(path)).is_symlink() else None
        return self._targets[path]

    def add_folder(self, folder: str, without: frozenset[str] = frozenset()) -> None:
        """All files below a folder, which may be missing."""
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file() and not without & set(path.relative_to(folder).parts):
                self.add(str(path))
