"""Packing small files with our own DEFLATE encoder, whose answers are kept in the store."""

from __future__ import annotations

import hashlib
import zlib

from mealkit.errors import StorageError

from .splice import Body, stored_body
from .store import Store
from .tree import Packing

DEFLATE = 1
"""The version of the bytes that :func:`.deflate.deflate` gives: raise it with every change of them."""

WORTH = 128 << 10
"""Bytes that the encoder is given at most for one layer: it takes a tenth of a second for them."""

_KEPT = 512  # bytes; what is shorter is packed again sooner than it is read


def small_files(store: Store) -> Packing:
    """How a layer of small files is packed: to the same bytes on every machine.

    A content that was packed before, in whichever layer, is not packed again.
    """
    from .deflate import deflate  # not needed to name layers, which must start fast

    def pack(data: bytes) -> Body:
        stored = stored_body(data)
        if len(data) > WORTH:
            return stored
        raw = _packed(data, store) if len(data) >= _KEPT else deflate(data)
        return Body(data, (raw,), stored.crc) if len(raw) < sum(map(len, stored.deflate)) else stored

    return Packing(pack, deflate)


def _packed(data: bytes, store: Store) -> bytes:
    path = store.root / "packed" / f"{DEFLATE}-{hashlib.sha256(data).hexdigest()}"
    try:
        raw = path.read_bytes()
        # The cache may be damaged: inflating takes microseconds, and a wrong layer is told only where it is unpacked.
        if zlib.decompress(raw, -15, len(data)) == data:
            return raw
    except (OSError, zlib.error):
        pass
    from .deflate import deflate

    raw = deflate(data)
    try:
        with store.writing(path) as file:
            file.write(raw)
    except StorageError:
        pass  # the layer itself will tell, if it cannot be written either
    return raw
