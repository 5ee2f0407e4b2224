"""Ingredients: the layers that an image needs above its base, named by key before any of them is made."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import mealkit
from mealkit._value import dataclass
from mealkit.project import Project

from .component import check_components
from .layer import Layer, layer_key
from .layering import (
    VENV,
    DirEntry,
    FileEntry,
    Group,
    LinkEntry,
    build_wheel_layer,
    group,
    python_tag,
    site_packages,
    tree_layer,
    wheel_layer_key,
)
from .own import DISTRIBUTIONS, check_records, metadata_files, own_files, own_requirements
from .requirement import requirements, without_credentials
from .source import recipe_files
from .splice import compressor
from .store import Store
from .wheel import WheelFile

if TYPE_CHECKING:
    from .interpreter import Interpreter

RECIPE_FILE = "/opt/mealkit/recipe.json"
"""Where the runtime finds the recipe's specification in an image."""

Entry = FileEntry | LinkEntry | DirEntry

_LARGE = 2 << 10
_APART = 6


@dataclass(frozen=True)
class Ingredient:
    """A layer to be.

    Attributes:
        key: What it is a pure function of.
        title: What a person would call it.
        wheels: The wheels that must be here before it can be made.
        make: Makes it from those wheels, which then have paths; its bytes go to the store.
        compiles: Whether it starts processes of its own, and so is better made alone.
    """

    key: str
    title: str
    wheels: tuple[WheelFile, ...]
    make: Callable[[Sequence[WheelFile]], Layer]
    compiles: bool = False


def wheel_ingredients(
    wheels: Sequence[WheelFile], minor: str, interpreter: Interpreter | None, store: Store, *, anew: bool = False
) -> tuple[Ingredient, ...]:
    """The layers of the wheels, then those of their bytecode (when there is an interpreter that can compile it).

    With ``anew`` all of it is compiled, whatever bytecode the store keeps.
    """
    from .bytecode import bytecode_layer_key

    groups = group(wheels)
    packages = [
        Ingredient(
            key=wheel_layer_key(one, minor),
            title=one.title,
            wheels=one.wheels,
            make=lambda fetched: build_wheel_layer(Group(tuple(fetched)), minor, store),
        )
        for one in groups
    ]
    if interpreter is None:
        return tuple(packages)
    program = interpreter
    compiled = [
        Ingredient(
            key=bytecode_layer_key(one, minor, program),
            title=f"bytecode of {one.title}",
            wheels=one.wheels,
            make=lambda fetched: _bytecode(Group(tuple(fetched)), minor, program, store, anew),
            compiles=True,
        )
        for one in groups
    ]
    return (*packages, *compiled)


def _bytecode(one: Group, minor: str, interpreter: Interpreter, store: Store, anew: bool) -> Layer:
    from .bytecode import build_bytecode_layer, bytecode_layer_key

    made = build_bytecode_layer(one, minor, interpreter, store, anew=anew)
    if made is not None:
        return made
    # Wheels without Python source: an empty layer, so that its key alone tells the next build so.
    key = bytecode_layer_key(one, minor, interpreter)
    return tree_layer((), kind="bytecode", key=key, title=f"bytecode of {one.title}", store=store)


def own_ingredient(
    minor: str, executable: str, version: str, interpreter: Interpreter | None, store: Store
) -> Ingredient:
    """The virtual environment itself, with mealkit and its runtime."""
    paths = own_files()
    files = {name: path.read_bytes() for name, path in paths.items()}
    for name, package in DISTRIBUTIONS.items():
        inside = {path: data for path, data in files.items() if path.startswith(package + "/")}
        wanted = own_requirements() if name == "mealkit-runtime" else ()
        files |= metadata_files(name, mealkit.__version__, "", ">=3.11", wanted, inside)
    home = str(PurePosixPath(executable).parent)
    settings = f"home = {home}\ninclude-system-site-packages = false\nversion = {version}\n"
    skeleton: list[Entry] = [
        FileEntry(f"{VENV}/pyvenv.cfg", settings.encode()),
        LinkEntry(f"{VENV}/bin/python", executable),
        LinkEntry(f"{VENV}/bin/python3", "python"),
        LinkEntry(f"{VENV}/bin/python{minor}", "python"),
        LinkEntry(f"{VENV}/lib64", "lib"),
    ]
    title = f"mealkit {mealkit.__version__}"
    compiler = None if interpreter is None else _Compiler(_sources(files, minor), interpreter)
    return _tree("mealkit", title, files, skeleton, minor, compiler, store, before=lambda: check_records(paths))


def recipe_ingredients(
    project: Project,
    spec: str,
    minor: str,
    interpreter: Interpreter | None,
    store: Store,
    there: Collection[str] = (),
) -> tuple[Ingredient, ...]:
    """The recipe's package, as it would be installed, and its specification: the larger files, then the rest.

    A file of 2 KiB or more is a layer with its bytecode (the six largest are), so that an edit moves the file that was
    edited and leaves the others, above all data, where they are. What has the key of a layer that is ``there`` need
    not be made, and is compiled only when it is.

    Raises:
        SecretFoundError: a credential file or a private key would be packed.
        ProjectError: a file cannot be packed, or the project names a module or class that is not there.
    """
    files = {name: path.read_bytes() for name, path in recipe_files(project).items()}
    wanted = tuple(without_credentials(text) for text in requirements(project))
    own = metadata_files(project.name, project.version, project.summary, project.requires_python, wanted, files)
    by_size = sorted((name for name, data in files.items() if len(data) >= _LARGE), key=lambda name: -len(files[name]))
    large = sorted(by_size[:_APART])
    rest = {name: data for name, data in files.items() if name not in large} | own
    further: list[Entry] = [FileEntry(RECIPE_FILE, spec.encode())]
    title = f"{project.name} {project.version}"
    compiler = None if interpreter is None else _Compiler(_sources(files, minor), interpreter)
    made = (
        *(_tree("recipe", name, {name: files[name]}, (), minor, compiler, store) for name in large),
        _tree("recipe", title, rest, further, minor, compiler, store),
    )
    if compiler is not None:
        left = [name for name, one in zip(large, made, strict=False) if one.key in there or _here(one, store)]
        compiler.leave(f"{site_packages(minor)}/{name}" for name in left)
    if (
        made[-1].key not in there and store.known_layer(made[-1].key) is None
    ):  # it was right when it was made, and is the same
        check_components(project, files)
    return made


def _here(one: Ingredient, store: Store) -> bool:
    layer = store.known_layer(one.key)
    return layer is not None and store.has_blob(layer.digest)


def _sources(files: Mapping[str, bytes], minor: str) -> dict[str, bytes]:
    root = site_packages(minor)
    return {f"{root}/{path}": data for path, data in files.items() if path.endswith(".py")}


class _Compiler:
    """Compiles sources when the first of their layers is made, all at once: a process costs more than a file."""

    def __init__(self, sources: Mapping[str, bytes], interpreter: Interpreter) -> None:
        self.interpreter = interpreter
        self._sources = sources
        self._lock = threading.Lock()
        self._left: set[str] = set()
        self._asked: set[str] = set()
        self._compiled: dict[str, bytes] = {}

    def leave(self, paths: Iterable[str]) -> None:
        """Compile these only when they are asked for: their layers are here."""
        self._left.update(paths)

    def bytecode(self, paths: Iterable[str]) -> Iterator[FileEntry]:
        """The bytecode of those of our sources that have one, as files of an image."""
        from .bytecode import bytecode_path, compile_tree

        wanted = [path for path in paths if path in self._sources]
        with self._lock:
            if not self._asked.issuperset(wanted):
                now = {path: data for path, data in self._sources.items() if path in wanted or path not in self._left}
                now = {path: data for path, data in now.items() if path not in self._asked}
                self._asked.update(now)
                self._compiled |= compile_tree(now, self.interpreter)
        for path in wanted:
            name = bytecode_path(path, self.interpreter.minor)
            if name in self._compiled:
                yield FileEntry(name, self._compiled[name])


def _tree(
    kind: str,
    title: str,
    files: Mapping[str, bytes],
    further: Sequence[Entry],
    minor: str,
    compiler: _Compiler | None,
    store: Store,
    before: Callable[[], None] = lambda: None,
) -> Ingredient:
    """A layer of files below site-packages with their bytecode, and of further entries."""
    root = site_packages(minor)
    state = hashlib.sha256()
    for path, data in sorted(files.items()):
        state.update(f"{path}\0{hashlib.sha256(data).hexdigest()}\0".encode())
    for entry in further:
        state.update(repr(entry).encode())
    compiled = "" if compiler is None else f"+{compiler.interpreter.tag}"
    key = layer_key(kind, "3", compressor(), python_tag(minor) + compiled, state.hexdigest())

    def make(fetched: Sequence[WheelFile]) -> Layer:
        before()
        entries: list[Entry] = [*further, *(FileEntry(f"{root}/{path}", data) for path, data in files.items())]
        if compiler is not None:
            entries += compiler.bytecode(f"{root}/{path}" for path in files)
        return tree_layer(entries, kind=kind, key=key, title=title, store=store, compress=True)

    return Ingredient(key, title, (), make)
