"""Interpreters: the CPythons of this machine that can compile bytecode, and talking to one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.util import MAGIC_NUMBER
from pathlib import Path

from mealkit._value import dataclass
from mealkit.errors import BuildError

from .store import Store

_WORKER = Path(__file__).with_name("_compile_worker.py")
_ABOUT_TIMEOUT = 10.0  # seconds


@dataclass(frozen=True)
class Interpreter:
    """A CPython that can compile.

    Attributes:
        path: The program.
        version: Its exact version: the compilers of 3.11.2 and 3.11.7 disagree about 6 of 1,882 files, at one magic.
        magic: The magic number of its bytecode.
    """

    path: Path
    version: str
    magic: int

    @property
    def minor(self) -> str:
        """Such as ``3.12``."""
        return ".".join(self.version.split(".")[:2])

    @property
    def patch(self) -> tuple[int, ...]:
        """The version as numbers, to compare."""
        return tuple(int(part) for part in self.version.split(".") if part.isdigit())

    @property
    def tag(self) -> str:
        """What bytecode depends on besides the source and its path: ``3531-3.12.1``."""
        return f"{self.magic}-{self.version}"


def find_interpreter(minor: str, environment: Mapping[str, str], version: str | None = None) -> Interpreter | None:
    """A CPython of this minor version on this machine, proven by running it; None when there is none.

    Looked at are this Python itself, a ``python3.12`` in any folder of the ``PATH``, and those that pyenv and uv keep;
    none is downloaded. With ``version`` the one of exactly this version is taken, else the highest: so the choice, on
    which bytecode depends, does not hang on which Python the builder itself runs on. Without it the first one is.
    """
    here = _this(minor)
    if here is not None and version in (None, here.version):
        return here
    others: list[Interpreter] = [] if here is None else [here]
    for path in _likely_first(_candidates(minor, environment), version):
        found = inspect_interpreter(path)
        if found is None or found.minor != minor:
            continue
        if version in (None, found.version):
            return found
        others.append(found)
    return max(others, key=lambda one: one.patch, default=None)


def remembered_interpreter(
    minor: str, environment: Mapping[str, str], version: str, store: Store
) -> Interpreter | None:
    """:func:`find_interpreter`, without running any where one of exactly this version was found before."""
    here = _this(minor)
    if here is not None and here.version == version:
        return here
    known = store.read_fact("interpreters", version)
    if isinstance(known, dict) and _stamp(Path(known["path"])) == known["stamp"]:
        return Interpreter(Path(known["path"]), version, known["magic"])
    found = find_interpreter(minor, environment, version)
    if found is not None and found.version == version:
        fact = {"path": str(found.path), "magic": found.magic, "stamp": _stamp(found.path)}
        store.write_fact("interpreters", version, fact)
    return found


def _this(minor: str) -> Interpreter | None:
    """This Python itself, if it is of the minor version."""
    if minor != f"{sys.version_info[0]}.{sys.version_info[1]}" or sys.implementation.name != "cpython" or sys.abiflags:
        return None
    return Interpreter(Path(sys.executable), sys.version.split()[0], int.from_bytes(MAGIC_NUMBER[:2], "little"))


def _stamp(path: Path) -> list[int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return [state.st_size, state.st_mtime_ns]


def inspect_interpreter(path: Path) -> Interpreter | None:
    """What the program at ``path`` is, if it is a CPython with the usual build options."""
    try:
        answer = frames(run_worker(path, b"", _ABOUT_TIMEOUT))
        version, magic, flags, implementation = next(answer).decode().split()
    except (BuildError, ValueError, StopIteration):
        return None
    usual = implementation == "cpython" and flags == "-"
    return Interpreter(path, version, int(magic)) if usual else None


def _likely_first(paths: Iterator[Path], version: str | None) -> Iterator[Path]:
    """Those whose folder names another version come last: running one costs as much as all else that is asked."""
    late = []
    for path in paths:
        named = path.parts[-3] if len(path.parts) > 3 else ""
        if version is not None and named[:1].isdigit() and named != version:
            late.append(path)
        else:
            yield path
    yield from late


def _candidates(minor: str, environment: Mapping[str, str]) -> Iterator[Path]:
    name = f"python{minor}"
    folders = [Path(folder) for folder in environment.get("PATH", os.defpath).split(os.pathsep) if folder]
    for folder in folders:
        versions = folder.parent / "versions"
        if folder.name == "shims" and versions.is_dir():
            # pyenv: a shim is a slow shell script, and fails unless its version is the chosen one.
            yield from sorted(versions.glob(f"{minor}.*/bin/{name}"), key=_patch, reverse=True)
        elif os.access(folder / name, os.X_OK):
            yield folder / name
    uv = shutil.which("uv", path=environment.get("PATH")) or str(Path(sys.executable).with_name("uv"))
    command = [uv, "python", "find", "--managed-python", "--no-python-downloads", "--no-project", minor]
    try:
        found = subprocess.run(command, capture_output=True, timeout=_ABOUT_TIMEOUT, env=dict(environment), check=True)
    except (OSError, subprocess.SubprocessError):
        return
    yield Path(found.stdout.decode().strip())


def _patch(path: Path) -> int:
    digits = path.parts[-3].rpartition(".")[2]
    return int(digits) if digits.isdigit() else -1


def worker_command(path: Path) -> tuple[list[str], dict[str, str]]:
    """How the program at ``path`` runs the compiling worker: command and environment.

    -I -S and an environment of our own: nothing of the user's may be imported, or change how strings are shared.
    """
    command = [str(path), "-I", "-S", "-B", "-X", "utf8", "-W", "ignore", str(_WORKER)]
    return command, {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}


def run_worker(path: Path, request: bytes, timeout: float) -> bytes:
    """What the compiling worker answers when the program at ``path`` runs it in a fresh process.

    Raises:
        BuildError: the program is missing, failed, or took longer than ``timeout`` seconds.
    """
    command, environment = worker_command(path)
    try:
        done = subprocess.run(command, input=request, capture_output=True, timeout=timeout, env=environment, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        stderr = getattr(error, "stderr", None) or b""
        last = stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise worker_failed(path, last or str(error)) from error
    return done.stdout


def worker_failed(path: Path, why: str) -> BuildError:
    """The error of an interpreter that does not compile."""
    return BuildError(
        f"the interpreter that compiles bytecode failed: {why}",
        where=str(path),
        hint="build without bytecode, or put another interpreter of this version on the PATH",
    )


def frames(data: bytes) -> Iterator[bytes]:
    """The parts of the worker's answer."""
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        yield data[at + 4 : at + 4 + size]
        at += 4 + size
