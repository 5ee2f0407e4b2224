"""Bytecode of an image's Python: compiled by an interpreter of its minor version, the same bytes every time."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from mealkit.errors import BuildError

from .inflate import Buffer
from .interpreter import Interpreter, frames, run_worker
from .layer import Layer, layer_key
from .layering import Group, merged_files, python_tag, site_packages
from .splice import compressor
from .store import Store
from .tree import FileEntry, tree_layer

LAYOUT = 1
"""The version of what a bytecode layer depends on besides its key: raise it with every change that moves a digest."""

_COMPILE_TIMEOUT = 900.0  # seconds
_WORTH_A_PROCESS = 400_000  # bytes of source: about 20 ms, as long as a process takes to start


def bytecode_path(path: str, minor: str) -> str:
    """Where Python ``minor`` looks for the bytecode of the source at ``path`` (PEP 3147)."""
    source = PurePosixPath(path)
    return str(source.parent / "__pycache__" / f"{source.stem}.cpython-{minor.replace('.', '')}.pyc")


def bytecode_layer_key(group: Group, minor: str, interpreter: Interpreter) -> str:
    """What a group's bytecode layer is a pure function of; known before any wheel was fetched.

    The exact version of the compiler and a fingerprint of the zlib that packs it belong to it.
    """
    return layer_key("bytecode", str(LAYOUT), python_tag(minor), interpreter.tag, compressor(), group.identity)


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
        (FileEntry(path, data) for path, data in compiled.items()),
        kind="bytecode",
        store=store,
        compress=True,
        key=bytecode_layer_key(group, minor, interpreter),
        title=f"bytecode of {group.title}",
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
    parts = [part for path, source in sources for part in (path.encode(), source)]
    request = b"".join(piece for part in parts for piece in (len(part).to_bytes(4, "little"), part))
    answer = list(frames(run_worker(interpreter.path, request, _COMPILE_TIMEOUT)))
    about = [interpreter.version, str(interpreter.magic)]
    if len(answer) != len(sources) + 1 or answer[0].decode().split()[:2] != about:
        raise BuildError("the interpreter that compiles bytecode gave a wrong answer", where=str(interpreter.path))
    return [(path, data) for (path, _), data in zip(sources, answer[1:], strict=True) if data]
