"""Listing: the entries of a layer's archive, each with the fields that can make one layer differ from another."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, BinaryIO, cast

from mealkit.errors import RegistryError, UsageError

from .layer import GZIP_LAYER, Layer

_TAR_LAYER = "application/vnd.oci.image.layer.v1.tar"
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
        RegistryError: the layer is damaged.
        UsageError: its compression cannot be read here.
    """
    try:
        with tarfile.open(fileobj=inflated(file, layer), mode="r|") as archive:
            for member in archive:
                path = member.name.removeprefix("./").strip("/")
                content = archive.extractfile(member) if member.isreg() else None
                data = content.read() if content is not None and keep(path) else None
                yield Listed(
                    path=path,
                    kind=_KINDS.get(member.type, "other"),
                    size=member.size if member.isreg() else 0,
                    mode=member.mode & 0o7777,
                    uid=member.uid,
                    gid=member.gid,
                    mtime=member.mtime,
                    link=member.linkname,
                    content="" if content is None else _sha256(content if data is None else io.BytesIO(data)),
                    data=data or b"",
                )
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise RegistryError(f"a layer is damaged: {error}", where=layer.digest, hint="build it again") from error


def inflated(file: BinaryIO, layer: Layer) -> BinaryIO:
    """A layer's archive as a stream.

    Raises:
        UsageError: its compression cannot be read here.
    """
    if layer.media_type == GZIP_LAYER:
        # GzipFile, not tarfile's own reader: that one stops at the first member of a gzip file.
        return cast(BinaryIO, gzip.GzipFile(fileobj=file))
    if layer.media_type == _TAR_LAYER:
        return file
    raise UsageError(
        f"cannot look into a layer of the type {layer.media_type}",
        where=layer.digest,
        hint="only plain and gzip-compressed layers can be listed",
    )


def merge(listings: Iterable[Iterable[Listed]]) -> dict[str, Listed]:
    """What a file system of these layers, lowest first, has by path; whiteouts are kept as entries."""
    tree: dict[str, Listed] = {}
    for listing in listings:
        for entry in listing:
            tree[entry.path] = entry
    return tree


def _sha256(content: IO[bytes]) -> str:
    state = hashlib.sha256()
    while block := content.read(1 << 20):
        state.update(block)
    return state.hexdigest()
