"""Writes one Parquet file of a batch, and knows its size, digest and rows when it is closed."""

from __future__ import annotations

import contextlib
import hashlib
from typing import Any, Protocol

from .batch_record import Part


class Sink(Protocol):
    """A file that is being written: a local one, or an upload."""

    def write(self, data: Any, /) -> Any:
        """Add bytes."""

    def close(self) -> None:
        """The file is whole: force it to the disk, or complete the upload.

        Raises:
            OSError: the disk is full or failed.
        """

    def discard(self) -> None:
        """The file is not wanted: leave nothing behind."""


class PartWriter:
    """Writes Arrow tables of one schema into a sink.

    Args:
        name: The file's name within its batch.
        sink: Takes the bytes.
        schema: The Arrow schema of the file.
        options: Further options of :class:`pyarrow.parquet.ParquetWriter`.
    """

    def __init__(self, name: str, sink: Sink, schema: Any, **options: Any) -> None:
        import pyarrow.parquet as pq

        self.name = name
        self.rows = 0
        self.schema = schema
        self._sink = sink
        self._file = _Hashed(sink)
        # Scores and keys hardly repeat: a dictionary of them is built in vain, and takes as long as all the rest.
        texts = [field.name for field in schema if _is_text(field.type)]
        self._writer = pq.ParquetWriter(self._file, schema, compression="zstd", use_dictionary=texts, **options)

    def write(self, table: Any) -> None:
        """Add rows."""
        self._writer.write_table(table)
        self.rows += len(table)

    def close(self) -> Part:
        """Complete the file."""
        self._writer.close()
        self._sink.close()
        return Part(self.name, self._file.size, self._file.digest.hexdigest(), self.rows)

    def discard(self) -> None:
        """Give the file up."""
        with contextlib.suppress(OSError):
            self._writer.close()
        self._sink.discard()


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


class _Hashed:
    """A file for pyarrow that counts and hashes what passes through it, so that nothing is read again."""

    def __init__(self, sink: Sink) -> None:
        self.size = 0
        self.digest = hashlib.sha256()
        self.closed = False
        self._sink = sink

    def write(self, data: Any) -> int:
        self._sink.write(data)
        self.digest.update(data)
        self.size += len(data)
        return len(data)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False
