"""Listing: the entries of a layer's archive, each with the fields that can make one layer differ from another."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from mealkit.errors import RegistryError

from .layer import Layer
from .tar_reader import BadLayer, read_layer

_KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.CONTTYPE: "file",
    tarfile.LNKTYPE: "hard link",
    tarfile.SYMTYPE: "link",
    tarfile.DIRTYPE: "folder",
    tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "device",
    tarfile.FIFOTYPE: "pipe",
}


@dataclass(frozen=True)
class Listed:
    """One entry of a layer.

    Attributes:
        path: Without a leading slash.
        kind: ``file``, ``folder``, ``link``, ``hard link``, ``device``, ``pipe`` or ``other``.
        size: Bytes of its content.
        mode: Permission bits.
        uid: The owner's number.
        gid: The group's number.
        mtime: Seconds since 1970.
        link: Where a link leads.
        content: sha256 of the content of a file, in hexadecimal digits; empty for anything else.
        data: The content itself, where it was asked for.
    """

    path: str
    kind: str
    size: int = 0
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: float = 0
    link: str = ""
    content: str = ""
    data: bytes = field(default=b"", repr=False, compare=False)

    def fields(self) -> Mapping[str, str]:
        """What can differ between two entries of one path, as text."""
        names = ("kind", "size", "mode", "uid", "gid", "mtime", "link", "content")
        return {name: f"{self.mode:04o}" if name == "mode" else str(getattr(self, name)) for name in names}


def list_layer(file: BinaryIO, layer: Layer, keep: Callable[[str], bool] = lambda path: False) -> Iterator[Listed]:
    """The entries of a layer in the order of its archive, read as a stream.

    Args:
        file: The layer's compressed bytes.
        layer: What they are.
        keep: For a path, whether the file's content is wanted too.

    Raises:
        RegistryError: the layer is damaged, or compressed in a way that cannot be read here.
    """
    try:
        for member in read_layer(file, layer):
            info, path = member.info, "/".join(member.parts)
            state, data = hashlib.sha256(), b""
            if info.isreg():
                wanted = keep(path)
                for block in member.blocks():
                    state.update(block)
                    if wanted:
                        data += block
            yield Listed(
                path=path,
                kind=_KINDS.get(info.type, "other"),
                size=info.size if info.isreg() else 0,
                mode=info.mode & 0o7777,
                uid=info.uid,
                gid=info.gid,
                mtime=info.mtime,
                link=info.linkname,
                content=state.hexdigest() if info.isreg() else "",
                data=data,
            )
    except BadLayer as error:
        where = f"{layer.digest}: {error.entry}" if error.entry else layer.digest
        raise RegistryError(f"a layer cannot be read: {error}", where=where, hint="build it again") from error


def merge(listings: Iterable[Iterable[Listed]]) -> dict[str, Listed]:
    """What a file system of these layers, lowest first, has by path; whiteouts are kept as entries."""
    tree: dict[str, Listed] = {}
    for listing in listings:
        for entry in listing:
            tree[entry.path] = entry
    return tree
