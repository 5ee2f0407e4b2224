"""Packages as layers: which of a package's files an image gets, where and with which modes; a pure function of the deb.

The rules, all of them (``docs/concepts/debian.md`` says the same to users):

- Left out: documentation but for ``copyright`` files, manual and info pages, translations, and what only desktops,
  Debian's developers or its bug reports use; of the time zones ``posix`` and ``right``.
- ``/bin``, ``/sbin``, ``/lib`` and their likes are links into ``/usr``: files below them go there.
- Owners are root's. Set-user-ID and set-group-ID bits are dropped.
- ``/var/lib/dpkg/info`` gets the list and the checksums of the files that are there, and no scripts: none is run.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from mealkit.errors import BaseImageError
from mealkit_builder import entry
from mealkit_builder.inflate import LARGE
from mealkit_builder.layer import Layer
from mealkit_builder.splice import Body, Stream, compressed_body, compressed_stream, compressor
from mealkit_builder.store import Store
from mealkit_builder.tree import FileEntry, LinkEntry, Node, file_node, node_of, write_layer

from .archive import Deb, DebEntry, open_deb
from .pin import Pin

LAYOUT = 1
"""The version of these rules; raise it with every change that moves a layer's digest."""

MERGED = ("bin", "lib", "lib32", "lib64", "libo32", "libx32", "sbin")
"""Folders of the root that are links into ``/usr``."""

_LEFT_OUT = re.compile(
    r"/usr/share/(?:man|info|locale|lintian|linda|bug|doc-base|menu|applications|icons|pixmaps|bash-completion|"
    r"zsh|fish|gcc|apport|metainfo|polkit-1)(?:/|\Z)|/usr/share/zoneinfo/(?:posix|right)(?:/|\Z)|"
    r"/usr/share/doc(?:/[^/]+/(?!copyright\Z).*)?\Z"
)


@dataclass(frozen=True)
class Group:
    """Packages that make one layer together, in the order of their names."""

    pins: tuple[Pin, ...]

    @property
    def title(self) -> str:
        """What a person would call it."""
        one = self.pins[0]
        return f"{one.name} {one.version}" if len(self.pins) == 1 else f"{len(self.pins)} small Debian packages"

    @property
    def key(self) -> str:
        """What the layer is a pure function of."""
        names = sorted(pin.sha256 for pin in self.pins)
        identity = names[0] if len(names) == 1 else hashlib.sha256("\n".join(names).encode()).hexdigest()
        return f"deb/{LAYOUT}/{compressor()}/{identity}"


OWN_LAYER = 1 << 20
MOST_GROUPS = 20


def group(pins: Iterable[Pin]) -> tuple[Group, ...]:
    """One group for each package of 1 MiB or more, and a first one for all the smaller."""
    ordered = sorted(pins)
    large = sorted((pin for pin in ordered if pin.size >= OWN_LAYER), key=lambda pin: (-pin.size, pin.name))
    own = frozenset(large[: MOST_GROUPS - 1])
    rest = tuple(pin for pin in ordered if pin not in own)
    return ((Group(rest),) if rest else ()) + tuple(Group((pin,)) for pin in ordered if pin in own)


def installed(deb: Deb) -> Iterator[DebEntry]:
    """The entries of a package that an image gets, at the paths where they go."""
    kept: set[str] = set()
    for one in deb.entries:
        if _LEFT_OUT.match(one.path) or one.path.lstrip("/") in MERGED:
            continue
        if one.kind == "hardlink" and merged(one.target) not in kept:
            continue  # to a file that is left out
        kept.add(merged(one.path))
        yield replace(one, path=merged(one.path), target=merged(one.target) if one.kind == "hardlink" else one.target)


def merged(path: str) -> str:
    """Where a path lies when ``/bin`` and its likes are links into ``/usr``."""
    top = path.split("/", 2)[1]
    return f"/usr{path}" if top in MERGED and path.count("/") > 1 else path


def build_layer(one: Group, debs: Sequence[Path], store: Store) -> Layer:
    """The layer of a group's packages, its bytes in ``store``.

    Args:
        one: The packages.
        debs: Their files, in the same order.
        store: Where the bytes go.

    Raises:
        BaseImageError: a package is broken, holds what it must not, or two bring one path.
        StorageError: the disk is full.
    """
    with ExitStack() as stack:
        opened = [
            stack.enter_context(open_deb(path, package_name(pin), store.root))
            for pin, path in zip(one.pins, debs, strict=True)
        ]
        for pin, deb in zip(one.pins, opened, strict=True):
            check_identity(pin, deb)
        check_collisions(opened)
        return write_layer(_nodes(opened), kind="base", key=one.key, title=one.title, store=store, compress=True)


def package_name(pin: Pin) -> str:
    """What errors call a package."""
    return f"{pin.name} {pin.version} ({pin.architecture})"


def check_identity(pin: Pin, deb: Deb) -> None:
    """Refuse a package that is another one than its pin says."""
    control = deb.control
    told = (control["package"], control["version"])
    if told != (pin.name, pin.version) or control["architecture"] not in (pin.architecture, "all"):
        raise BaseImageError(
            f"the pinned file is another package: {' '.join(told)} for {control['architecture']}",
            where=package_name(pin),
            hint="make the pins again: mealkit lock --upgrade",
        )


def check_collisions(debs: Iterable[Deb]) -> None:
    """Refuse packages that bring different things to one path; folders may be many's.

    Raises:
        BaseImageError: two of them do; it names both and the path.
    """
    owners: dict[str, tuple[str, bool]] = {}
    for deb in debs:
        for one in installed(deb):
            folder = one.kind == "folder"
            name, was_folder = owners.setdefault(one.path, (deb.control["package"], folder))
            if name != deb.control["package"] and not (folder and was_folder):
                raise BaseImageError(
                    f"the packages {name} and {deb.control['package']} both bring {one.path}",
                    where=one.path,
                    hint="an image without dpkg can have only one of them: leave one out, or use --engine docker",
                )


def _nodes(debs: Sequence[Deb]) -> Iterator[Node]:
    folders: dict[str, int] = {}
    for deb in debs:
        entries = list(installed(deb))
        for one in entries:
            if one.kind == "folder":
                folders[one.path] = max(folders.get(one.path, 0), folder_mode(one))
        yield from _contents(deb, entries)
        yield from map(node_of, _information(deb, entries))
    for path, mode in folders.items():
        yield Node(path, lambda size, path=path, mode=mode: entry.directory_header(path, mode=mode), folder=True)  # type: ignore[misc]


def folder_mode(one: DebEntry) -> int:
    """A folder's mode in the image: set-group-ID is dropped, the sticky bit is not."""
    return one.mode & 0o1777


def _contents(deb: Deb, entries: Iterable[DebEntry]) -> Iterator[Node]:
    # A hard link must follow what it names, but a layer is in the order of the paths: the first path has the content.
    linked: dict[str, list[str]] = {}
    files: dict[str, DebEntry] = {}
    for one in entries:
        if one.kind == "link":
            yield node_of(LinkEntry(one.path, one.target))
        elif one.kind == "file":
            files[one.path] = one
            linked.setdefault(one.path, []).append(one.path)
        elif one.kind == "hardlink":
            linked[one.target].append(one.path)
    for path, one in files.items():
        first, *others = sorted(linked[path], key=str.encode)
        mode = one.mode & 0o777
        yield file_node(first, one.size, lambda one=one: _packed(deb, one), mode=mode)  # type: ignore[misc]
        yield from (_hard_link(other, first, mode) for other in others)


def _packed(deb: Deb, one: DebEntry) -> Body | Stream:
    """A file's content; in pieces if it is large."""
    if one.size > LARGE:
        return compressed_stream(one.size, deb.blocks(one, LARGE))
    return compressed_body(deb.read(one))


def _hard_link(path: str, target: str, mode: int) -> Node:
    return Node(path, lambda size: entry.hard_link_header(path, target, mode=mode))


def _information(deb: Deb, entries: Iterable[DebEntry]) -> Iterator[FileEntry]:
    """What dpkg keeps of a package below ``/var/lib/dpkg/info``; scanners and ``dpkg -L`` read it."""
    name = deb.control["package"]
    if deb.control.get("multi-arch") == "same":
        name += f":{deb.control['architecture']}"
    there = {one.path for one in entries}
    paths = ["/.", *(one.path for one in deb.entries if merged(one.path) in there)]
    yield FileEntry(f"/var/lib/dpkg/info/{name}.list", "".join(f"{path}\n" for path in paths).encode())
    sums = [
        line for line in deb.md5sums.splitlines() if merged("/" + line.partition("  ")[2].removeprefix("./")) in there
    ]
    if sums:
        yield FileEntry(f"/var/lib/dpkg/info/{name}.md5sums", "".join(f"{line}\n" for line in sums).encode())
