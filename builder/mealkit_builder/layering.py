"""From wheels and files to layers: what goes together, under which key, and where in the image."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, NoReturn

from mealkit._value import dataclass
from mealkit.errors import WheelError

from .layer import Layer, layer_key
from .store import Store
from .tree import DirEntry, FileEntry, LinkEntry, file_node, tree_layer, write_layer
from .wheel import WheelFile

if TYPE_CHECKING:
    from .placement import Placed

__all__ = [
    "LAYOUT",
    "MOST_GROUPS",
    "OWN_LAYER",
    "VENV",
    "DirEntry",
    "FileEntry",
    "Group",
    "LinkEntry",
    "build_wheel_layer",
    "check_conflicts",
    "group",
    "merged_files",
    "python_tag",
    "site_packages",
    "tree_layer",
    "wheel_layer_key",
]

VENV = "/opt/mealkit/venv"

LAYOUT = 1
"""The version of all that a wheel's layer depends on besides the wheel: paths, headers, scripts, member layout.

Raise it with every change that moves a digest; the golden digests of the tests notice one.
"""

OWN_LAYER = 1 << 20
MOST_GROUPS = 29


def site_packages(minor: str) -> str:
    """The folder that Python ``minor`` (such as ``3.12``) imports the environment's packages from."""
    return f"{VENV}/lib/python{minor}/site-packages"


@dataclass(frozen=True)
class Group:
    """Wheels that make one layer together, and one layer of bytecode, in the order of their names."""

    wheels: tuple[WheelFile, ...]

    @property
    def kind(self) -> str:
        """``wheel`` or ``wheels``."""
        return "wheel" if len(self.wheels) == 1 else "wheels"

    @property
    def title(self) -> str:
        """What a person would call it, such as ``numpy 2.4.6``."""
        one = self.wheels[0]
        return f"{one.name} {one.version}" if len(self.wheels) == 1 else f"{len(self.wheels)} small packages"

    @property
    def identity(self) -> str:
        """64 hexadecimal digits that name exactly these wheels."""
        names = sorted(_identity(wheel) for wheel in self.wheels)
        return names[0] if len(names) == 1 else hashlib.sha256("\n".join(names).encode()).hexdigest()


def _identity(wheel: WheelFile) -> str:
    """The wheel's sha256; another name for it when some of its files are left out."""
    if not wheel.left_out:
        return wheel.sha256
    return hashlib.sha256("\n".join((wheel.sha256, *sorted(wheel.left_out))).encode()).hexdigest()


def group(wheels: Iterable[WheelFile]) -> tuple[Group, ...]:
    """One group for each wheel of 1 MiB or more, and a last one for all the smaller.

    Overlay file systems stop at 127 layers: where there are more large wheels than groups, the largest have their own.
    """
    ordered = sorted(wheels, key=lambda wheel: (wheel.name, wheel.version, wheel.sha256))
    by_size = sorted((wheel for wheel in ordered if wheel.size >= OWN_LAYER), key=lambda wheel: -wheel.size)
    own = set(by_size[: MOST_GROUPS - 1])
    rest = tuple(wheel for wheel in ordered if wheel not in own)
    return tuple(Group((wheel,)) for wheel in ordered if wheel in own) + ((Group(rest),) if rest else ())


def python_tag(minor: str) -> str:
    """``3.12`` as tags have it: ``cp312``."""
    return "cp" + minor.replace(".", "")


def wheel_layer_key(group: Group, minor: str) -> str:
    """What the wheels' layer is a pure function of; known before any wheel was fetched."""
    return layer_key(group.kind, str(LAYOUT), python_tag(minor), group.identity)


def check_conflicts(wheels: Iterable[WheelFile], minor: str) -> None:
    """Refuse wheels that bring different files to the same place; only directories of archives are read.

    Wheels that are not on this machine are passed over: nothing is fetched to look at it.

    Raises:
        WheelError: two of the wheels disagree about a path; it names both.
    """
    merged_files([wheel for wheel in wheels if wheel.path is not None], minor)


def build_wheel_layer(group: Group, minor: str, store: Store) -> Layer:
    """The layer of a group's wheels, its bytes in ``store``; depends on nothing but the wheels and ``minor``.

    Raises:
        WheelError: a wheel is missing or broken, holds what it must not, or collides with another of the group.
        StorageError: the layer cannot be written.
    """
    files = merged_files(group.wheels, minor)
    opened = {file.source.wheel: file.source for file in files}
    try:
        return write_layer(
            (file_node(file.path, file.size, file.body, executable=file.executable) for file in files),
            kind=group.kind,
            key=wheel_layer_key(group, minor),
            title=group.title,
            store=store,
            checks=[wheel.check_sha256 for wheel in opened.values()],
        )
    finally:
        # What was read last of each wheel would stay as long as the wheel is remembered.
        for wheel in opened.values():
            wheel.pages.forget()


def merged_files(wheels: Iterable[WheelFile], minor: str) -> list[Placed]:
    """The files of several wheels in one environment of Python ``minor``; what two bring alike is there once.

    Raises:
        WheelError: a wheel is missing, is broken, holds what it must not, or disagrees with another about a path.
    """
    tree: dict[str, Placed] = {}
    for file in (file for wheel in wheels for file in placed_files(wheel, minor)):
        other = tree.get(file.path)
        if other is not None and not _same(other, file):
            _conflict(other, file, f"different files at {file.path}")
        if other is None or file.executable > other.executable:
            tree[file.path] = file
    folders: dict[str, Placed] = {}
    for file in tree.values():
        above = file.path.rpartition("/")[0]
        while above and above not in folders:
            folders[above] = file
            above = above.rpartition("/")[0]
    for path in sorted(folders.keys() & tree.keys()):
        _conflict(tree[path], folders[path], f"a file and a folder at {path}")
    return list(tree.values())


def placed_files(wheel: WheelFile, minor: str) -> tuple[Placed, ...]:
    """The files of one wheel in an environment of Python ``minor``.

    Raises:
        WheelError: the wheel is missing, is broken, or holds what it must not.
    """
    return _placed(wheel, _stamp(wheel), minor)


@functools.lru_cache(maxsize=128)
def _placed(wheel: WheelFile, stamp: tuple[int, ...], minor: str) -> tuple[Placed, ...]:
    """A wheel's files; remembered, for its layer, its bytecode and the search for conflicts all begin with them."""
    from .placement import place  # brings installer along, which naming layers does not need
    from .wheel_reader import open_wheel

    return place(open_wheel(wheel), minor)


def _stamp(wheel: WheelFile) -> tuple[int, ...]:
    """What changes when another file takes the wheel's place."""
    try:
        state = wheel.path.stat() if wheel.path else None
    except OSError:
        state = None
    return () if state is None else (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)


def _same(one: Placed, other: Placed) -> bool:
    if one.hash.partition("=")[0] == other.hash.partition("=")[0] != "":
        return one.hash == other.hash
    return one.size == other.size and one.read() == other.read()


def _conflict(one: Placed, other: Placed, what: str) -> NoReturn:
    first, second = one.source.wheel, other.source.wheel
    short = _short(one.path)
    raise WheelError(
        f"{first.name} {first.version} and {second.name} {second.version} bring {what}",
        where=f"{first.filename}, {second.filename}",
        hint="require versions that don't collide; or say in pyproject.toml whose file the image shall not have: "
        f'[tool.mealkit.image.leave-out] {second.name} = ["{short}"]',
    )


def _short(path: str) -> str:
    """A path as ``leave-out`` names it."""
    inside = path.removeprefix(f"{VENV}/")
    return inside.partition("/site-packages/")[2] or inside
