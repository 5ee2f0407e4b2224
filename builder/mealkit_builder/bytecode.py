"""Bytecode of an image's Python: compiled by an interpreter of its minor version, the same bytes every time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from .inflate import Buffer
from .interpreter import Interpreter
from .layer import Layer, layer_key
from .layering import Group, merged_files, placed_files, python_tag, site_packages
from .splice import compressor
from .store import Store
from .tree import file_node, write_layer
from .wheel import WheelFile

if TYPE_CHECKING:
    from .spool import Spool
    from .wheel_reader import OpenWheel

LAYOUT = 1
"""The version of what a bytecode layer depends on besides its key: raise it with every change that moves a digest."""


def bytecode_path(path: str, minor: str) -> str:
    """Where Python ``minor`` looks for the bytecode of the source at ``path`` (PEP 3147)."""
    source = PurePosixPath(path)
    return str(source.parent / "__pycache__" / f"{source.stem}.cpython-{minor.replace('.', '')}.pyc")


def bytecode_layer_key(group: Group, minor: str, interpreter: Interpreter) -> str:
    """What a group's bytecode layer is a pure function of; known before any wheel was fetched.

    The exact version of the compiler and the name of what packs it belong to it.
    """
    return layer_key("bytecode", str(LAYOUT), python_tag(minor), interpreter.tag, compressor(), group.identity)


def build_bytecode_layer(
    group: Group, minor: str, interpreter: Interpreter, store: Store, *, anew: bool = False
) -> Layer | None:
    """The bytecode of a group's packages as a layer in ``store``; None when they have no Python source.

    Folders named ``test`` or ``tests`` are left out, and files that can't be compiled, as templates often can't.

    Args:
        group: The wheels.
        minor: Of the image's Python.
        interpreter: What compiles.
        store: Where the layer goes; keeps the bytecode of wheels that share a layer.
        anew: Compile all of it, whatever is kept.

    Raises:
        WheelError: a wheel is missing, broken, or collides with another of the group.
        BuildError: the interpreter fails.
        StorageError: the layer cannot be written.
    """
    from .spool import Spool

    merged_files(group.wheels, minor)  # raises what is wrong with them
    with Spool(store) as spool:
        _fill(spool, group.wheels, minor, interpreter, store, keep=len(group.wheels) > 1, anew=anew)
        if not spool.sizes:
            return None
        return write_layer(
            [file_node(path, size, partial(spool.body, path)) for path, size in spool.sizes.items()],
            kind="bytecode",
            key=bytecode_layer_key(group, minor, interpreter),
            title=f"bytecode of {group.title}",
            store=store,
            compress=True,
        )


def _fill(
    spool: Spool,
    wheels: Iterable[WheelFile],
    minor: str,
    interpreter: Interpreter,
    store: Store,
    *,
    keep: bool,
    anew: bool,
) -> None:
    """The bytecode of wheels, of which some may be kept; what two of them bring alike is there once."""
    from .compiled import compiled_key, keep_compiled, read_compiled
    from .compiler import Source, compile_each

    made_by = (str(LAYOUT), python_tag(minor), interpreter.tag)
    sources: dict[str, Source] = {}
    new: dict[str, list[str]] = {}
    opened: list[OpenWheel] = []
    for wheel in wheels:
        key = compiled_key(Group((wheel,)).identity, *made_by)
        kept = read_compiled(store, key) if keep and not anew else None
        if kept is not None:
            for path, data in kept.items():
                if path not in spool.sizes:
                    spool.add(path, data)
            continue
        placed = placed_files(wheel, minor)
        found = [file for file in placed if _wanted(file.path, f"{site_packages(minor)}/")]
        sources |= {file.path: Source(file.path, file.size, file.read) for file in found}
        opened += [file.source for file in placed[:1]]
        new[key] = [bytecode_path(file.path, minor) for file in found]
    left = [source for path, source in sources.items() if bytecode_path(path, minor) not in spool.sizes]
    try:
        compile_each(left, interpreter, lambda path, data: spool.add(bytecode_path(path, minor), data))
    finally:
        for one in opened:
            one.pages.forget()
    if keep:
        for key, paths in new.items():
            keep_compiled(store, key, {path: spool.read(path) for path in paths if path in spool.sizes})


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
    from .compiler import Source, compile_each  # naming a layer compiles nothing

    results: dict[str, bytes] = {}
    sources = [Source(path, len(data), lambda data=data: data) for path, data in files.items()]  # type: ignore[misc]
    compile_each(sources, interpreter, results.__setitem__, workers=workers)
    return {bytecode_path(path, interpreter.minor): results[path] for path in sorted(results)}
