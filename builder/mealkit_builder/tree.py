"""A tree of files as a layer: entries in, from memory or from a disk, a blob in the store out."""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from mealkit._value import dataclass
from mealkit.errors import BuildError, storage_error

from . import entry
from .ahead import ahead, beside
from .inflate import LARGE, Buffer
from .layer import Layer
from .splice import (
    Body,
    LayerWriter,
    Stream,
    compressed_body,
    compressed_stream,
    content_size,
    deflated,
    fixed,
    stored_body,
    stored_stream,
)
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
        compress: Deflate contents and headers. Otherwise contents are stored as they are.

    Raises:
        BuildError: two entries have one path, one lies below a file or a link, or a file cannot be read.
        StorageError: the layer cannot be written.
    """
    nodes = (node_of(item, compress=compress) for item in files)
    return write_layer(nodes, kind=kind, key=key, title=title, store=store, compress=compress)


@dataclass(frozen=True)
class Node:
    """One entry on its way into a layer: its header, given the content's length, and the maker of its content."""

    path: str
    header: Callable[[int], bytes]
    cost: int = 0
    body: Callable[[], Body | Stream] | None = None
    folder: bool = False


def file_node(
    path: str, cost: int, body: Callable[[], Body | Stream], *, executable: bool = False, mode: int | None = None
) -> Node:
    """A regular file whose content ``body`` makes, in a thread and once; ``cost`` is about how many bytes.

    What is made in pieces costs nothing ahead of its time.
    """
    return Node(
        path, lambda size: entry.file_header(path, size, executable, mode=mode), 0 if cost > LARGE else cost, body
    )


def node_of(item: FileEntry | LinkEntry | DirEntry, *, compress: bool = True) -> Node:
    """An entry as it goes into a layer.

    Raises:
        BuildError: its path is not absolute and plain, or its file cannot be read.
    """
    path = item.path.rstrip("/")
    # normpath keeps two slashes at the start, which POSIX lets mean something else.
    if not path.startswith("/") or path.startswith("//") or "\0" in path or posixpath.normpath(path) != path:
        raise BuildError("not an absolute, plain path for a file in an image", where=item.path)
    if isinstance(item, LinkEntry):
        return Node(path, lambda size: entry.symlink_header(path, item.target))
    if isinstance(item, DirEntry):
        return Node(path, lambda size: entry.directory_header(path, mode=item.mode), folder=True)
    data = item.data
    size = len(data) if isinstance(data, bytes) else _size(data)
    return file_node(
        path, size, lambda: _packed(data, size, compress=compress), executable=item.executable, mode=item.mode
    )


def _packed(data: bytes | Path, size: int, *, compress: bool) -> Body | Stream:
    """A content from memory or from a disk; in pieces if it is large."""
    if size > LARGE:
        blocks = _blocks(data, size)
        return compressed_stream(size, blocks) if compress else stored_stream(size, blocks)
    whole = data if isinstance(data, bytes) else b"".join(_blocks(data, size))
    return compressed_body(whole) if compress else stored_body(whole)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise BuildError(f"a file to pack cannot be read: {error.strerror}", where=str(path)) from error


def _blocks(data: bytes | Path, size: int) -> Iterator[Buffer]:
    """A content's bytes, in blocks; as many as its header will say.

    Raises:
        BuildError: the file cannot be read, or has another size than a moment ago.
    """
    if isinstance(data, bytes):
        view = memoryview(data)
        yield from (view[at : at + LARGE] for at in range(0, size, LARGE))
        return
    done = 0
    try:
        with data.open("rb") as file:
            while block := file.read(LARGE):
                done += len(block)
                yield block
    except OSError as error:
        raise BuildError(f"a file to pack cannot be read: {error.strerror}", where=str(data)) from error
    if done != size:
        raise BuildError(
            "a file to pack changed while it was read", where=str(data), hint="build again when nothing writes to it"
        )


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
    checks: Sequence[Callable[[], None]] = (),
    compress: bool = False,
) -> Layer:
    """Write a tree into the store.

    Args:
        nodes: What the layer has; folders above are added.
        kind: See :class:`Layer`; so are ``key`` and ``title``.
        key: What the layer is a pure function of.
        title: What a person would call it.
        store: Where the bytes go.
        checks: Run beside the writing; if one raises, nothing is kept, and its error goes before any other.
        compress: Deflate the headers too, which is for layers that :func:`.splice.compressor` decides over anyway.

    Raises:
        BuildError: two nodes have one path, or one lies below a file or a link.
        StorageError: the layer cannot be written.
    """
    ordered = _with_folders(nodes)
    bodies = ahead((node.cost, node.body) for node in ordered if node.body)
    temporary = store.temporary_blob()
    try:
        with beside(checks), temporary.open("wb") as file, contextlib.closing(bodies):
            writer = LayerWriter(file, deflated if compress else fixed)
            for node in ordered:
                body = next(bodies) if node.body else None
                writer.add(node.header(content_size(body)), body)
            written = writer.finish()
        store.adopt(temporary, written.digest)
    except OSError as error:
        raise storage_error(error, "cannot write a layer to mealkit's cache", store.root) from error
    finally:
        temporary.unlink(missing_ok=True)
    return Layer(written.digest, written.size, written.diff_id, kind=kind, key=key, title=title)
