"""Bytecode of an image's Python: compiled by an interpreter of its minor version, the same bytes every time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import MAGIC_NUMBER
from pathlib import Path, PurePosixPath

from mealkit.errors import BuildError

from .layer import Layer
from .layering import Group, merged_files, python_tag, site_packages
from .splice import Buffer, compressor
from .store import Store
from .tree import FileEntry, tree_layer

LAYOUT = 1
"""The version of what a bytecode layer depends on besides its key: raise it with every change that moves a digest."""

_WORKER = Path(__file__).with_name("_compile_worker.py")
_ABOUT_TIMEOUT, _COMPILE_TIMEOUT = 10.0, 900.0
_WORTH_A_PROCESS = 400_000  # bytes of source: about 20 ms, as long as a process takes to start


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
    def tag(self) -> str:
        """What bytecode depends on besides the source and its path: ``3531-3.12.1``."""
        return f"{self.magic}-{self.version}"


def find_interpreter(minor: str, environment: Mapping[str, str]) -> Interpreter | None:
    """A CPython of this minor version on this machine, proven by running it; None when there is none.

    This Python itself, else a ``python3.12`` on the ``PATH``, else one that pyenv or uv keeps; none is downloaded.
    """
    if minor == f"{sys.version_info[0]}.{sys.version_info[1]}" and sys.implementation.name == "cpython" and not (
        sys.abiflags
    ):
        magic = int.from_bytes(MAGIC_NUMBER[:2], "little")
        return Interpreter(Path(sys.executable), sys.version.split()[0], magic)
    for path in _candidates(minor, environment):
        found = inspect_interpreter(path)
        if found is not None and found.minor == minor:
            return found
    return None


def inspect_interpreter(path: Path) -> Interpreter | None:
    """What the program at ``path`` is, if it is a CPython with the usual build options."""
    try:
        answer = _frames(_run_worker(path, b"", _ABOUT_TIMEOUT))
        version, magic, flags, implementation = next(answer).decode().split()
    except (BuildError, ValueError, StopIteration):
        return None
    usual = implementation == "cpython" and flags == "-"
    return Interpreter(path, version, int(magic)) if usual else None


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


def bytecode_path(path: str, minor: str) -> str:
    """Where Python ``minor`` looks for the bytecode of the source at ``path`` (PEP 3147)."""
    source = PurePosixPath(path)
    return str(source.parent / "__pycache__" / f"{source.stem}.cpython-{minor.replace('.', '')}.pyc")


def bytecode_layer_key(group: Group, minor: str, interpreter: Interpreter) -> str:
    """What a group's bytecode layer is a pure function of; known before any wheel was fetched.

    The exact version of the compiler and a fingerprint of the zlib that packs it belong to it.
    """
    return f"bytecode/{LAYOUT}/{python_tag(minor)}/{interpreter.tag}/{compressor()}/{group.identity}"


def build_bytecode_layer(group: Group, minor: str, interpreter: Interpreter, store: Store) -> Layer | None:
    """The bytecode of a group's packages as a layer in ``store``; None when they have no Python source.

    Folders named ``test`` or ``tests`` are left out, and files that can't be compiled, as templates often can't.

    Raises:
        WheelError: a wheel is missing, broken, or collides with another of the group.
        BuildError: the interpreter fails.
        StorageError: the layer cannot be written.
    """
    root = f"{site_packages(minor)}/"
    files = {file.path: file for file in merged_files(group.wheels, minor) if _wanted(file.path, root)}
    compiled = compile_tree({path: file.read() for path, file in files.items()}, interpreter)
    if not compiled:
        return None
    return tree_layer(
        (FileEntry(path, data) for path, data in compiled.items()), kind="bytecode", store=store, compress=True,
        key=bytecode_layer_key(group, minor, interpreter), title=f"bytecode of {group.title}",
    )


def _wanted(path: str, root: str) -> bool:
    if not (path.startswith(root) and path.endswith(".py")):
        return False
    return not {"test", "tests"} & set(path[len(root) :].split("/")[:-1])


def compile_tree(
    files: Mapping[str, Buffer], interpreter: Interpreter, *, workers: int | None = None
) -> dict[str, bytes]:
    """Unchecked-hash bytecode (PEP 552) of sources.

    Args:
        files: Sources by their absolute path in the image, which tracebacks will show.
        interpreter: What compiles.
        workers: How many processes at most; as many as there are processors by default.

    Returns:
        Bytecode by its absolute path in the image, without the sources that can't be compiled.

    Raises:
        BuildError: the interpreter fails.
    """
    from concurrent.futures import ThreadPoolExecutor  # a build in which nothing changed compiles nothing

    most = min(workers or os.cpu_count() or 1, 1 + sum(map(len, files.values())) // _WORTH_A_PROCESS)
    # Dealt out by size, so that the processes end together; what each gets makes no difference to any result.
    order = sorted(files, key=lambda path: (-len(files[path]), path))
    hands = [order[start::most] for start in range(most)]
    with ThreadPoolExecutor(most, thread_name_prefix="compile") as pool:
        dealt = pool.map(lambda hand: _compile([(path, files[path]) for path in hand], interpreter), hands)
        results = {path: data for part in dealt for path, data in part}
    return {bytecode_path(path, interpreter.minor): results[path] for path in sorted(results)}


def _compile(sources: Sequence[tuple[str, Buffer]], interpreter: Interpreter) -> list[tuple[str, bytes]]:
    """``(path, .pyc)`` of what can be compiled, by one fresh process."""
    frames = [frame for path, source in sources for frame in (path.encode(), source)]
    request = b"".join(part for frame in frames for part in (len(frame).to_bytes(4, "little"), frame))
    answer = list(_frames(_run_worker(interpreter.path, request, _COMPILE_TIMEOUT)))
    about = [interpreter.version, str(interpreter.magic)]
    if len(answer) != len(sources) + 1 or answer[0].decode().split()[:2] != about:
        raise BuildError("the interpreter that compiles bytecode gave a wrong answer", where=str(interpreter.path))
    return [(path, data) for (path, _), data in zip(sources, answer[1:], strict=True) if data]


def _run_worker(path: Path, request: bytes, timeout: float) -> bytes:
    # -I -S and an environment of our own: nothing of the user's may be imported, or change how strings are shared.
    command = [str(path), "-I", "-S", "-B", "-X", "utf8", "-W", "ignore", str(_WORKER)]
    libraries = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    try:
        done = subprocess.run(command, input=request, capture_output=True, timeout=timeout, env=libraries, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        stderr = getattr(error, "stderr", None) or b""
        last = stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise BuildError(
            f"the interpreter that compiles bytecode failed: {last or error}", where=str(path),
            hint="build without bytecode, or put another interpreter of this version on the PATH",
        ) from error
    return done.stdout


def _frames(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        yield data[at + 4 : at + 4 + size]
        at += 4 + size
