"""Other compressions of layers than splicing, for consumers that cannot read a gzip file of many members.

A layer is spliced as always and then packed again, so the diff ID is that of the spliced layer. Its digest hangs on the
compressor, whose version its key names: it is promised for one compressor, and not for another.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from mealkit._value import replace
from mealkit.errors import BuildError, UsageError, storage_error

from .gunzip import gunzip
from .inflate import crc32
from .ingredient import Ingredient
from .layer import GZIP_LAYER, Layer, layer_key
from .splice import GZIP_HEADER, LEVEL, trailer
from .store import Store

if TYPE_CHECKING:
    from .wheel import WheelFile

Compression = Literal["splice", "gzip", "zstd"]
COMPRESSIONS: tuple[str, ...] = get_args(Compression)
LABEL = "io.mealkit.compression"
"""Says how an image's layers are compressed, where they are not spliced."""

_ZSTD_LAYER = "application/vnd.oci.image.layer.v1.tar+zstd"
_ZSTD_LEVEL = 3  # zstd's own default
_BLOCK = 1 << 20


class _Packer(Protocol):
    def pack(self, data: bytes) -> bytes: ...
    def end(self) -> bytes: ...


class _Gzip:
    """One ordinary gzip member."""

    def __init__(self) -> None:
        self._stream = zlib.compressobj(LEVEL, zlib.DEFLATED, -15)
        self._head, self._crc, self._size = GZIP_HEADER, 0, 0

    def pack(self, data: bytes) -> bytes:
        self._crc, self._size = crc32(data, self._crc), self._size + len(data)
        head, self._head = self._head, b""
        return head + self._stream.compress(data)

    def end(self) -> bytes:
        return self._head + self._stream.flush() + trailer(self._crc, self._size)


class _Zstd:
    """One zstd frame."""

    def __init__(self) -> None:
        self._stream = _zstandard().ZstdCompressor(level=_ZSTD_LEVEL).compressobj()

    def pack(self, data: bytes) -> bytes:
        return bytes(self._stream.compress(data))

    def end(self) -> bytes:
        return bytes(self._stream.flush())


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise UsageError(
            "zstd needs the package zstandard", hint="pip install 'mealkit-builder[zstd]', or use --compression gzip"
        ) from error
    return zstandard


@functools.cache
def _zlib() -> str:
    """A short name of how this zlib deflates: two zlibs of one name gave the same bytes for a varied sample."""
    seed = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(64))
    words = [seed[at : at + 3 + seed[at] % 9] for at in range(0, 2000, 5)]
    sample = b" ".join(words[seed[at % 2048] + seed[at // 7 % 2048] % 144] for at in range(8192))
    packer = _Gzip()
    return f"zlib{LEVEL}." + hashlib.sha256(packer.pack(sample) + packer.end()).hexdigest()[:8]


def _zstd() -> str:
    return f"zstd{_ZSTD_LEVEL}." + ".".join(map(str, _zstandard().ZSTD_VERSION))


def recompressed(ingredients: Sequence[Ingredient], compression: Compression, store: Store) -> tuple[Ingredient, ...]:
    """The same ingredients, whose layers are packed again after they were made.

    Raises:
        UsageError: what packs is not installed.
    """
    if compression == "splice":
        return tuple(ingredients)
    name = _zlib() if compression == "gzip" else _zstd()
    return tuple(_ingredient(one, compression, name, store) for one in ingredients)


def _ingredient(one: Ingredient, compression: Compression, name: str, store: Store) -> Ingredient:
    key = layer_key(one.key.partition("/")[0], name, one.key)

    def make(fetched: Sequence[WheelFile]) -> Layer:
        spliced = store.layer(one.key, lambda: one.make(fetched))
        return _pack(spliced, compression, key, store)

    return replace(one, key=key, make=make)


def _pack(layer: Layer, compression: Compression, key: str, store: Store) -> Layer:
    packer: _Packer = _Gzip() if compression == "gzip" else _Zstd()
    plain, packed, size = hashlib.sha256(), hashlib.sha256(), 0
    temporary = store.temporary_blob()
    try:
        with temporary.open("wb") as file, store.blob_path(layer.digest).open("rb") as spliced:

            def write(data: bytes) -> None:
                nonlocal size
                packed.update(data)
                file.write(data)
                size += len(data)

            with contextlib.closing(gunzip(spliced)) as content:
                while block := content.read(_BLOCK):
                    plain.update(block)
                    write(packer.pack(block))
            write(packer.end())
        if f"sha256:{plain.hexdigest()}" != layer.diff_id:
            raise BuildError(
                "a layer of mealkit's cache is damaged", where=layer.digest, hint="remove it: mealkit cache prune"
            )
        digest = f"sha256:{packed.hexdigest()}"
        store.adopt(temporary, digest)
    except (zlib.error, EOFError) as error:
        raise BuildError(
            f"a layer of mealkit's cache is damaged: {error}", where=layer.digest, hint="remove it: mealkit cache prune"
        ) from error
    except OSError as error:
        raise storage_error(error, "cannot write a layer to mealkit's cache", store.root) from error
    finally:
        temporary.unlink(missing_ok=True)
    media_type = GZIP_LAYER if compression == "gzip" else _ZSTD_LAYER
    return Layer(digest, size, layer.diff_id, media_type, layer.kind, key, layer.title)
