"""Python in a base image: which interpreter it has and which C library, from its config and its layers' files."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, Literal

from mealkit._value import dataclass, field
from mealkit.errors import BaseImageError

from .image import Image
from .layer import GZIP_LAYER, Layer

if TYPE_CHECKING:
    from .tar_reader import Member  # brings tarfile along, which a base that is known does not need

OLDEST = (3, 11)
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_VERSIONED = re.compile(r"python(3\.\d+)\Z")
_FULL_VERSION = re.compile(r"(3\.\d+)\.\d+\Z")  # a release; "3.14.0rc1" is looked at as the minor it is not yet
_LIBC_FILE = re.compile(r"(?:.*/)?lib(?:32|64)?/(?:[^/]+/)?(?:libc\.so\.6|libc-2\.\d+\.so)\Z")
_MUSL_FILE = re.compile(r"(?:.*/)?lib/ld-musl-[^/]+\.so\.1\Z")
_GLIBC_VERSION = re.compile(rb"GNU C Library [^\n\0]*release version (\d+)\.(\d+)")
_MUSL_VERSION = re.compile(rb"\0(1)\.(\d+)\.\d+\0")
_LIBC_LIMIT = 32 << 20
_LONGEST_TREE = 96 << 20  # characters of names, and as many bytes for each as a dictionary takes
_ENTRY_COST = 150

Libc = Literal["glibc", "musl"]


@dataclass(frozen=True)
class BasePython:
    """The interpreter of a base; with the platform it decides which wheels fit.

    Attributes:
        minor: Such as ``3.12``.
        executable: Its absolute path in the image, links resolved as far as they are known.
        libc: ``glibc`` or ``musl``.
        libc_version: Such as ``(2, 36)``.
        version: Such as ``3.12.1``; None where the base does not tell.
    """

    minor: str
    executable: str
    libc: Libc
    libc_version: tuple[int, int]
    version: str | None = None


def find_python(
    image: Image, open_layer: Callable[[str], BinaryIO], named: str | None, where: str, *, promised: bool = False
) -> BasePython:
    """The interpreter of an image.

    An official Python image says in its config what it has; then layers are read, from the lowest on, only until
    the C library is met. (A later layer may renew that, but hardly ever by an older one.) Any other image's layers
    are read once, for the names in them.

    Args:
        image: The base.
        open_layer: Opens a layer's compressed bytes by digest.
        named: The interpreter's path in the image, where the user names it.
        where: The base as the user wrote it, for errors.
        promised: A step of a Dockerfile brings the named interpreter, such as ``/usr/bin/python3.11``, if the base
            does not have it.

    Raises:
        BaseImageError: there is no Python of version 3.11 or newer, or no C library, or a layer cannot be read.
    """
    environment = image.config.environment
    told = None if named else _official(environment)
    libc, tree = _read_layers(image.layers, open_layer, everything=told is None, where=where)
    if libc is None:
        raise BaseImageError(
            "the base has neither glibc nor musl, so no wheel with compiled code can run on it",
            where=where,
            hint="use a base made from a Linux distribution, such as python:3.12-slim",
        )
    if told is not None:
        version, executable = told
        minor = version.rpartition(".")[0]
    else:
        brought = _VERSIONED.search(named) if promised and named else None
        if named and brought and tree.resolve(named) is None:
            executable, minor = named, brought[1]
        else:
            executable, minor = _search(tree, environment.get("PATH") or DEFAULT_PATH, named, where)
        version = None
    check_minor(minor, where)
    return BasePython(minor, executable, libc[0], libc[1], version)


def check_minor(minor: str, where: str) -> None:
    """Refuse a Python that mealkit's runtime cannot run on.

    Raises:
        BaseImageError: it is older than 3.11.
    """
    if tuple(int(part) for part in minor.split(".")) < OLDEST:
        raise BaseImageError(
            f"the base's Python is {minor}; a recipe needs 3.11 or newer",
            where=where,
            hint='use a newer base, or name another interpreter in it: [tool.mealkit.image] python = "/path/in/image"',
        )


def _official(environment: dict[str, str]) -> tuple[str, str] | None:
    """``(version, executable)`` as the official images tell it: PYTHON_VERSION, installed below /usr/local."""
    match = _FULL_VERSION.match(environment.get("PYTHON_VERSION", ""))
    if match and (environment.get("PATH") or "").split(":")[0] == "/usr/local/bin":
        return match[0], f"/usr/local/bin/python{match[1]}"
    return None


def _read_layers(
    layers: tuple[Layer, ...], open_layer: Callable[[str], BinaryIO], *, everything: bool, where: str
) -> tuple[tuple[Libc, tuple[int, int]] | None, _Tree]:
    from .tar_reader import TAR_LAYER, BadLayer, read_layer

    tree = _Tree()
    found: dict[Libc, tuple[int, int]] = {}
    for layer in layers:
        try:
            with open_layer(layer.digest) as file:
                for member in read_layer(file, layer):
                    tree.add(member)
                    libc = _libc(member)
                    if libc is not None:
                        found[libc[0]] = libc[1]
                        if libc[0] == "glibc" and not everything:
                            return libc, tree
        except BadLayer as error:
            packed = layer.media_type not in (GZIP_LAYER, TAR_LAYER)
            raise BaseImageError(
                f"a layer of the base cannot be read: {error}",
                where=f"{where}: {layer.digest}" + (f": {error.entry}" if error.entry else ""),
                hint="use a base whose layers are gzip, or convert it with skopeo copy"
                if packed
                else "do not use this base, or pull or push it again",
            ) from error
        tree.end_layer()
        if found and not everything:
            break
    # A musl loader may stand beside glibc (Debian's package "musl"), hardly ever the other way round.
    for name in ("glibc", "musl"):
        if name in found:
            return (name, found[name]), tree
    return None, tree


def _libc(member: Member) -> tuple[Libc, tuple[int, int]] | None:
    if not member.info.isreg():
        return None
    name = "/" + "/".join(member.parts)
    for kind, file, version in (("glibc", _LIBC_FILE, _GLIBC_VERSION), ("musl", _MUSL_FILE, _MUSL_VERSION)):
        if file.match(name):
            match = version.search(_start(member)) if member.info.size else None
            if match:
                return ("glibc" if kind == "glibc" else "musl"), (int(match[1]), int(match[2]))
    return None


def _start(member: Member) -> bytes:
    """The first part of a file's content, which has all of a C library."""
    pieces: list[bytes] = []
    for block in member.blocks():
        pieces.append(block)
        if len(pieces) << 20 >= _LIBC_LIMIT:
            break
    return b"".join(pieces)


@dataclass
class _Tree:
    """The names in an image: path to a link's target, or None for anything else (OCI image spec, "Whiteouts")."""

    below: dict[str, str | None] = field(default_factory=dict)
    layer: dict[str, str | None] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    emptied: set[str] = field(default_factory=set)
    length: int = 0

    def add(self, member: Member) -> None:
        """An entry of the layer that is being read.

        Raises:
            BadLayer: the names are more than any image has.
        """
        from .tar_reader import OPAQUE, BadLayer

        folder = "".join(f"/{part}" for part in member.parts[:-1])
        if member.removes == OPAQUE:
            self.emptied.add(folder)
        elif member.removes:
            self.hidden.add(f"{folder}/{member.removes}")
        elif member.parts:
            path = f"{folder}/{member.parts[-1]}"
            target = member.info.linkname if member.info.issym() else None
            self.layer[path] = target
            self.length += _ENTRY_COST + len(path) + len(target or "")
            if self.length > _LONGEST_TREE:
                raise BadLayer("the image has more names than can be looked through")

    def end_layer(self) -> None:
        """The layer is over: hide what it removes of those below, wherever in it that stood, and add what it brings."""
        if self.hidden or self.emptied:
            self.below = {path: target for path, target in self.below.items() if not self._gone(path)}
        self.below |= self.layer
        self.layer, self.hidden, self.emptied = {}, set(), set()

    def _gone(self, path: str) -> bool:
        if path in self.hidden:
            return True
        while path:
            path = path.rpartition("/")[0]
            if path in self.hidden or path in self.emptied:
                return True
        return False

    def resolve(self, path: str) -> str | None:
        """The path behind all links, or None where nothing is."""
        done, rest, hops = "", [part for part in path.split("/") if part], 0
        while rest:
            part = rest.pop(0)
            if part == "..":
                done = done.rpartition("/")[0]
                continue
            here = f"{done}/{part}"
            target = self.below.get(here)
            if target is None:
                done = here
                continue
            hops += 1
            if hops > 40:
                return None
            rest = [piece for piece in target.split("/") if piece not in ("", ".")] + rest
            if target.startswith("/"):
                done = ""
        return done if done in self.below else None


def _search(tree: _Tree, path: str, named: str | None, where: str) -> tuple[str, str]:
    """``(executable, minor)``: the one that is named, else the first on PATH."""
    if named:
        found = tree.resolve(named)
        minor = found and _minor(tree, found)
        if found and minor:
            return found, minor
        raise BaseImageError(
            f"there is no Python at {named} in the base",
            where=where,
            hint="correct [tool.mealkit.image] python, or leave it out: the interpreter is searched for on PATH",
        )
    names = ("python3", "python", *(f"python3.{number}" for number in range(40, OLDEST[1] - 1, -1)))
    for folder in path.split(":"):
        for name in names:
            found = tree.resolve(f"{folder}/{name}")
            minor = found and _minor(tree, found)
            if found and minor:
                return found, minor
    raise BaseImageError(
        "the base has no Python",
        where=where,
        hint='use a base with Python, such as python:3.12-slim, or name it: [tool.mealkit.image] python = "/path"',
    )


def _minor(tree: _Tree, executable: str) -> str | None:
    """The minor version of an interpreter by its name and by the standard library beside it."""
    match = _VERSIONED.search(executable)
    prefix = posixpath.dirname(posixpath.dirname(executable))
    wanted = [match[1]] if match else [f"3.{number}" for number in range(40, 5, -1)]
    for minor in wanted:
        if any(tree.resolve(f"{prefix}/{lib}/python{minor}/os.py") for lib in ("lib", "lib64")):
            return minor
    return None
