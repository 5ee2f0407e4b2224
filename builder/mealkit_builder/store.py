"""The local store: blobs by digest, and small facts by key, in the user's cache folder."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from mealkit._value import asdict
from mealkit.errors import storage_error

from .layer import Layer


class Store:
    """Blobs and facts under one folder; every write is a rename, so a killed process leaves no half file.

    Args:
        root: The folder; made when first written to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def blob_path(self, digest: str) -> Path:
        """Where the blob of this digest is, or would be."""
        return self.root / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def has_blob(self, digest: str) -> bool:
        """Whether the blob's bytes are here."""
        return self.blob_path(digest).is_file()

    def add_blob(self, digest: str, data: bytes) -> Path:
        """Keep ``data`` under its ``digest`` (which the caller has computed)."""
        path = self.blob_path(digest)
        if not path.is_file():
            with self.writing(path) as file:
                file.write(data)
        return path

    @contextlib.contextmanager
    def writing(self, path: Path) -> Iterator[BinaryIO]:
        """A file that appears at ``path`` only when the block ends without an error.

        Raises:
            StorageError: the disk is full, read-only or failing; nothing is left behind.
        """
        temporary: str | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
            with os.fdopen(handle, "wb") as file:
                yield file
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
            temporary = None
        except OSError as error:
            raise storage_error(error, "cannot write to mealkit's cache", self.root) from error
        finally:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    Path(temporary).unlink()

    def temporary_blob(self) -> Path:
        """A fresh path inside the store for a blob whose digest is not known yet; see :meth:`adopt`."""
        folder = self.root / "blobs" / "sha256"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=folder, prefix=".tmp-")
            os.close(handle)
        except OSError as error:
            raise storage_error(error, "cannot write to mealkit's cache") from error
        return Path(name)

    def adopt(self, temporary: Path, digest: str) -> Path:
        """Give a finished :meth:`temporary_blob` its name."""
        temporary.chmod(0o644)
        path = self.blob_path(digest)
        temporary.replace(path)
        return path

    def _fact_path(self, kind: str, key: str) -> Path:
        return self.root / kind / (key.replace(":", "-").replace("/", "_") + ".json")

    def read_fact(self, kind: str, key: str) -> Any | None:
        """The JSON value kept under ``kind`` and ``key``; None when there is none or it is damaged."""
        try:
            return json.loads(self._fact_path(kind, key).read_bytes())
        except (OSError, ValueError):
            return None

    def write_fact(self, kind: str, key: str, value: object) -> None:
        """Keep a JSON value under ``kind`` and ``key``."""
        with self.writing(self._fact_path(kind, key)) as file:
            file.write(json.dumps(value, sort_keys=True).encode())

    def layer(self, key: str, make: Callable[[], Layer]) -> Layer:
        """The layer of this key: from the index when its blob is here too, else made and remembered."""
        known = self.known_layer(key)
        if known is not None and self.has_blob(known.digest):
            self.use(known.digest)
            return known
        made = make()
        self.remember(made)
        return made

    def known_layer(self, key: str) -> Layer | None:
        """The layer that this key names, if the index knows; its blob may be gone."""
        value = self.read_fact("layers", key)
        return Layer(**value) if isinstance(value, dict) else None

    def layers(self) -> Iterator[Layer]:
        """All layers in the index, whether their blobs are here or not."""
        for path in sorted((self.root / "layers").glob("*.json")):
            with contextlib.suppress(OSError, ValueError, TypeError):
                yield Layer(**json.loads(path.read_bytes()))

    def use(self, digest: str) -> None:
        """Note that a blob is used now: what was not used for longest is pruned first."""
        with contextlib.suppress(OSError):
            os.utime(self.blob_path(digest))

    def note_pruning(self) -> None:
        """Leave word, before blobs are removed, for builds that may miss one."""
        self.write_fact("prunings", "last", True)

    def pruned_since(self, moment: float) -> bool:
        """Whether blobs may have been removed since then (seconds since 1970)."""
        try:
            # File systems' clocks tick more slowly than time.time().
            return self._fact_path("prunings", "last").stat().st_mtime >= moment - 1
        except OSError:
            return False

    def remember(self, layer: Layer) -> None:
        """Add a layer to the index under its key."""
        self.write_fact("layers", layer.key, asdict(layer))


def default_store_root(environment: dict[str, str] | os._Environ[str]) -> Path:
    """``$MEALKIT_CACHE``, else ``$XDG_CACHE_HOME/mealkit``, else ``~/.cache/mealkit``."""
    if environment.get("MEALKIT_CACHE"):
        return Path(environment["MEALKIT_CACHE"])
    if environment.get("XDG_CACHE_HOME"):
        return Path(environment["XDG_CACHE_HOME"]) / "mealkit"
    return Path.home() / ".cache" / "mealkit"
