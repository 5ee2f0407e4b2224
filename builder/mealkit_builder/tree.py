"""A tree of files as a layer: entries in, from memory or from a disk, a blob in the store out."""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mealkit.errors import BuildError, storage_error

from . import entry
from .layer import Layer
from .splice import Body, LayerWriter, ahead, compressed_body, stored_body
from .store import Store


@dataclass(frozen=True)
class FileEntry:
    """A file to put into a layer, from memory or from a disk.

    Attributes:
        path: Absolute path in the image.
        data: The content, or the file that has it.
        executable: Mode 0755 rather than 0644.
        mode: Another mode.
    """

    path: str
    data: bytes | Path
    executable: bool = False
    mode: int | None = None


@dataclass(frozen=True)
class LinkEntry:
    """A symbolic link at the absolute ``path`` in the image, to ``target``, absolute or relative."""

    path: str
    target: str


@dataclass(frozen=True)
class DirEntry:
    """A directory; only needed where it is empty or its mode is not 0755."""

    path: str
    mode: int = 0o755


def tree_layer(
    files: Iterable[FileEntry | LinkEntry | DirEntry],
    *,
    kind: str,
    key: str,
    title: str,
    store: Store,
    compress: bool = False,
) -> Layer:
    """A layer of any files, its bytes in ``store``; the order of ``files`` does not matter.

    Args:
        files: What the layer has; folders above are added with mode 0755.
        kind: See :class:`Layer`.
        key: What the layer is a pure function of. With ``compress`` it ought to hold :func:`.splice.compressor`.
        title: See :class:`Layer`.
        store: Where the bytes go.
        compress: Deflate contents with zlib, for large trees. Otherwise they are stored as they are, which gives
            the same digest whatever zlib this Python has.

    Raises:
        BuildError: two entries have one path, one lies below a file or a link, or a file cannot be read.
        StorageError: the layer cannot be written.
    """
    pack = compressed_body if compress else stored_body
    return write_layer((_node(item, pack) for item in files), kind=kind, key=key, title=title, store=store)


@dataclass(frozen=True)
class Node:
    """One entry on its way into a layer: its header, given the content's length, and the maker of its content."""

    path: str
    header: Callable[[int], bytes]
    cost: int = 0
    body: Callable[[], Body] | None = None
    folder: bool = False


def file_node(
    path: str, cost: int, body: Callable[[], Body], *, executable: bool = False, mode: int | None = None
) -> Node:
    """A regular file whose content ``body`` makes, in a thread and once; ``cost`` is about how many bytes."""
    return Node(path, lambda size: entry.file_header(path, size, executable, mode=mode), cost, body)


def _node(item: FileEntry | LinkEntry | DirEntry, pack: Callable[[bytes], Body]) -> Node:
    path = item.path.rstrip("/")
    # normpath keeps two slashes at the start, which POSIX lets mean something else.
    if not path.startswith("/") or path.startswith("//") or "\0" in path or posixpath.normpath(path) != path:
        raise BuildError("not an absolute, plain path for a file in an image", where=item.path)
    if isinstance(item, LinkEntry):
        return Node(path, lambda size: entry.symlink_header(path, item.target))
    if isinstance(item, DirEntry):
        return Node(path, lambda size: entry.directory_header(path, mode=item.mode), folder=True)
    data = item.data
    if isinstance(data, bytes):
        return file_node(path, len(data), lambda: pack(data), executable=item.executable, mode=item.mode)
    return file_node(path, _size(data), lambda: pack(_read(data)), executable=item.executable, mode=item.mode)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise BuildError(f"a file to pack cannot be read: {error.strerror}", where=str(path)) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BuildError(f"a file to pack cannot be read: {error.strerror}", where=str(path)) from error


def _with_folders(nodes: Iterable[Node]) -> list[Node]:
    """The nodes and the folders above them, in the order of their paths as bytes: a folder before what it holds."""
    tree: dict[str, Node] = {}
    for node in nodes:
        if "/.wh." in node.path:
            raise BuildError("an engine would take a file of this name for a removal (a whiteout)", where=node.path)
        if tree.setdefault(node.path, node) is not node:
            raise BuildError("two files to pack have one path", where=node.path)
    for node in list(tree.values()):
        above = node.path.rpartition("/")[0]
        while above and above not in tree:
            tree[above] = Node(above, partial(_folder_header, above), folder=True)
            above = above.rpartition("/")[0]
        if above and not tree[above].folder:
            raise BuildError(f"a file to pack lies below {above}, which is no folder", where=node.path)
    return [tree[path] for path in sorted(tree, key=str.encode)]


def _folder_header(path: str, size: int) -> bytes:
    return entry.directory_header(path)


def write_layer(
    nodes: Iterable[Node],
    *,
    kind: str,
    key: str,
    title: str,
    store: Store,
    checks: Iterable[tuple[int, Callable[[], None]]] = (),
) -> Layer:
    """Write a tree into the store.

    Args:
        nodes: What the layer has; folders above are added.
        kind: See :class:`Layer`; so are ``key`` and ``title``.
        key: What the layer is a pure function of.
        title: What a person would call it.
        store: Where the bytes go.
        checks: ``(bytes it reads, check)`` pairs that run beside the writing; if one raises, nothing is kept.

    Raises:
        BuildError: two nodes have one path, or one lies below a file or a link.
        StorageError: the layer cannot be written.
    """
    ordered = _with_folders(nodes)
    before: list[tuple[int, Callable[[], Body | None]]] = [*checks]
    bodies = ahead(before + [(node.cost, node.body) for node in ordered if node.body])
    temporary = store.temporary_blob()
    try:
        with temporary.open("wb") as file, contextlib.closing(bodies):
            for _ in before:
                next(bodies)
            writer = LayerWriter(file)
            for node in ordered:
                body = next(bodies) if node.body else None
                writer.add(node.header(len(body.plain) if body else 0), body)
            written = writer.finish()
        store.adopt(temporary, written.digest)
    except OSError as error:
        raise storage_error(error, "cannot write a layer to mealkit's cache", store.root) from error
    finally:
        temporary.unlink(missing_ok=True)
    return Layer(written.digest, written.size, written.diff_id, kind=kind, key=key, title=title)
