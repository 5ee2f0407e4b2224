"""A prefix in object storage as a shelf: ``s3://``, ``gs://``, ``az://`` and the like, by the package ``obstore``.

Settings and credentials are those of the clouds' own tools, from the environment (``AWS_ENDPOINT_URL``,
``AWS_ACCESS_KEY_ID``, ``GOOGLE_APPLICATION_CREDENTIALS``, ``AZURE_STORAGE_ACCOUNT_NAME``, …).
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, BinaryIO, cast

from mealkit.errors import MealkitError, SettingsError, StorageError, UnreachableError, UsageError

from .part import Sink


class CloudShelf:
    """Files below a URI.

    Args:
        uri: Such as ``s3://bucket/folder``.

    Raises:
        SettingsError: there is no such storage.
        UsageError: the package ``obstore`` is missing.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        try:
            import obstore
            import obstore.exceptions
            import obstore.store
        except ImportError:
            raise UsageError(
                "writing to object storage needs the package obstore, which is not here",
                where=f"output {uri}",
                hint="add obstore to the recipe's dependencies",
            ) from None
        self._obstore: Any = obstore
        self._refuses = False
        options: dict[str, Any] = {"retry_config": {"max_retries": 4, "retry_timeout": timedelta(seconds=60)}}
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        if endpoint and uri.startswith("s3"):
            options["endpoint"] = endpoint if "://" in endpoint else f"https://{endpoint}"
            options["client_options"] = {"allow_http": endpoint.startswith("http://")}
        try:
            self._store: Any = obstore.store.from_url(uri.replace("gcs://", "gs://", 1), **options)
        except (ValueError, obstore.exceptions.BaseError) as error:
            raise SettingsError(
                f"the output cannot be written: {_first_line(error)}",
                where=f"output {uri}",
                hint="use a local path, s3://, gs:// or az://",
            ) from None

    def create(self, name: str, data: bytes) -> bool:
        """As :meth:`Shelf.create`: put with ``If-None-Match: *``.

        Raises:
            StorageError: the store overwrites all the same, as some that only resemble S3 do.
        """
        if not self._put(name, data):
            self._refuses = True
            return False
        if not self._refuses and self._put(name, data):
            raise StorageError(
                "the store overwrites a file although it is asked not to, so of two runs both could win",
                where=self.uri,
                hint="write to a store that knows conditional requests (If-None-Match), or to a local folder",
            )
        self._refuses = True
        return True

    def _put(self, name: str, data: bytes) -> bool:
        with self._telling("writing", name):
            try:
                self._obstore.put(self._store, name, data, mode="create", use_multipart=False)
            except self._obstore.exceptions.AlreadyExistsError:
                return False
        return True

    def sink(self, name: str) -> Sink:
        """As :meth:`Shelf.sink`; the file appears when it is closed."""
        return _Upload(self, name)

    def read(self, name: str) -> bytes | None:
        """As :meth:`Shelf.read`."""
        with self._telling("reading", name):
            try:
                return bytes(self._obstore.get(self._store, name).bytes())
            except FileNotFoundError:
                return None

    def open(self, name: str) -> BinaryIO:
        """As :meth:`Shelf.open`."""
        with self._telling("reading", name):
            return cast(BinaryIO, io.BufferedReader(_Raw(self._obstore.open_reader(self._store, name)), 1 << 20))

    def names(self, prefix: str) -> list[str]:
        """As :meth:`Shelf.names`."""
        with self._telling("listing", prefix):
            pages = self._obstore.list(self._store, prefix=prefix or None)
            return sorted(str(item["path"]) for page in pages for item in page)

    def size(self, name: str) -> int:
        """As :meth:`Shelf.size`."""
        facts = self._head(name)
        return 0 if facts is None else int(facts["size"])

    def age(self, name: str, now: float) -> float:
        """As :meth:`Shelf.age`, by the store's clock."""
        facts = self._head(name)
        return 0.0 if facts is None else max(0.0, now - facts["last_modified"].timestamp())

    def remove(self, name: str) -> None:
        """As :meth:`Shelf.remove`."""
        with self._telling("removing", name), contextlib.suppress(FileNotFoundError):
            self._obstore.delete(self._store, name)

    def _head(self, name: str) -> Any:
        with self._telling("reading", name):
            try:
                return self._obstore.head(self._store, name)
            except FileNotFoundError:
                return None

    @contextlib.contextmanager
    def _telling(self, doing: str, name: str) -> Iterator[None]:
        """What the store refused, or that it did not answer, as an error of ours."""
        try:
            yield
        except FileNotFoundError:
            raise
        except (self._obstore.exceptions.BaseError, OSError) as error:
            raise self._error(error, doing, name) from None

    def _error(self, error: Exception, doing: str, name: str) -> MealkitError:
        known = self._obstore.exceptions
        where = f"{self.uri.rstrip('/')}/{name}"
        if isinstance(error, (known.PermissionDeniedError, known.UnauthenticatedError)):
            return StorageError(
                f"{doing}: the store does not allow it",
                where=where,
                hint="check the credentials in the environment, and what they may do",
            )
        line = _first_line(error)
        if "NoSuchBucket" in str(error):
            return StorageError(f"{doing}: there is no such bucket", where=where, hint="make it, or mend the URI")
        return UnreachableError(
            f"{doing}: the store did not answer as it should: {line}",
            where=where,
            hint="check the endpoint and the network, then run the same command again",
        )


class _Upload:
    """A file that is uploaded in pieces while it is written."""

    def __init__(self, shelf: CloudShelf, name: str) -> None:
        self.shelf = shelf
        self.name = name
        self._file: Any = shelf._obstore.open_writer(shelf._store, name)

    def write(self, data: Any, /) -> int:
        with self.shelf._telling("writing", self.name):
            return int(self._file.write(bytes(data)))

    def close(self) -> None:
        with self.shelf._telling("writing", self.name):
            self._file.close()

    def discard(self) -> None:
        """Forget the pieces: the upload is never completed, so no file appears; the store's life cycle frees them."""
        self._file = None


class _Raw(io.RawIOBase):
    """obstore's reader as one of Python's."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = bytes(self._file.read(len(buffer)))
        buffer[: len(data)] = data
        return len(data)


def _first_line(error: BaseException) -> str:
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return line[:200]
