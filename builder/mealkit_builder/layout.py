"""An OCI image layout folder as a target: an image repository that is just files."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from mealkit.errors import (
    BaseImageError,
    MealkitError,
    NotFoundError,
    RegistryError,
    RetryableError,
    UsageError,
    storage_error,
)

from .digest import digest_bytes, digest_file, is_digest
from .image import INDEX, MANIFEST, canonical_json
from .parse import checked_descriptor, json_object, linked_digests
from .target import MissingBlobError, Moved, Progress

REF_NAME = "org.opencontainers.image.ref.name"
_VERSION = "1.0.0"
_LOCK = ".mealkit.lock"
_UPDATE_LOCK = ".mealkit.update.lock"
_LOCK_SECONDS = 30.0
_BLOCK = 1 << 20
_ATTACHED = re.compile(r"sha256-[0-9a-f]{64}(\.\w+)?\Z")
"""Tags that hold what belongs to an image: its referrers, its signatures."""
_LONGEST_DOCUMENT = 32 << 20  # as from a registry; all that is no layer is read whole


class Layout:
    """A folder as a :class:`~mealkit_builder.target.Target`; made when first written to.

    Every file appears by a rename, and ``index.json`` changes under a lock, so that several processes may push
    to one folder and a killed one leaves nothing half-written.

    Args:
        folder: The folder.
        lock_seconds: How long to wait for another process that writes.
    """

    def __init__(self, folder: Path, lock_seconds: float = _LOCK_SECONDS) -> None:
        self.folder = folder
        self._lock_seconds = lock_seconds

    @property
    def name(self) -> str:
        """``oci:DIR``."""
        return f"oci:{self.folder}"

    def url(self, digest: str) -> str:
        """``oci:/absolute/DIR@sha256:…``."""
        return f"oci:{self.folder.absolute()}@{digest}"

    def close(self) -> None:
        """Nothing is held open."""

    def get_manifest(self, reference: str) -> tuple[bytes, str, str] | None:
        """``(bytes, media type, digest)`` of a tag's or digest's manifest or index; None when there is none.

        The tag ``latest`` also finds the only image of a folder that has no tags.

        Raises:
            RegistryError: the folder is no layout, or the bytes were changed.
        """
        media_type, size = "", None
        digest = reference
        if not is_digest(reference):
            found = self._find(reference)
            if found is None:
                return None
            digest, size = checked_descriptor(found)
            media_type = str(found.get("mediaType") or "")
        try:
            data = self.get_blob(digest)
        except NotFoundError:
            return None
        if size is not None and size != len(data):
            raise RegistryError(
                f"the manifest has {len(data)} bytes, index.json says {size}",
                where=str(self._blob(digest)),
                hint="the folder is damaged: make it again",
            )
        return data, str(json_object(data, "manifest").get("mediaType") or media_type or MANIFEST), digest

    def get_blob(self, digest: str) -> bytes:
        """A small blob whole, checked against its digest."""
        with self.open_blob(digest) as file:
            data = file.read(_LONGEST_DOCUMENT + 1)
        if len(data) > _LONGEST_DOCUMENT:
            raise RegistryError(
                f"a manifest or config has more than {_LONGEST_DOCUMENT} bytes",
                where=str(self._blob(digest)),
                hint="this is no image that mealkit can use",
            )
        if digest_bytes(data) != digest:
            raise RegistryError(
                "a blob's bytes do not have its digest",
                where=str(self._blob(digest)),
                hint="the file was changed: remove it and push again",
            )
        return data

    def open_blob(self, digest: str) -> BinaryIO:
        """A blob as an open file.

        Raises:
            NotFoundError: it is not here.
        """
        path = self._blob(digest)
        try:
            self._check_file(path)
            return path.open("rb")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFoundError(
                "the layout folder has no such blob", where=str(path), hint="check the folder's name and the digest"
            ) from error
        except OSError as error:
            raise storage_error(error, "cannot read the layout folder") from error

    def has_blob(self, digest: str, size: int | None = None) -> bool:
        """Whether the blob is here; one of another size than is asked for is not that blob."""
        path = self._blob(digest)
        return path.is_file() and (size is None or path.stat().st_size == size)

    def put_blob(
        self,
        digest: str,
        size: int,
        read: Callable[[], BinaryIO],
        *,
        mount_from: str | None = None,
        progress: Progress | None = None,
        known_absent: bool = False,
    ) -> Moved:
        """Bring a blob here unless it is here: by a hard link where the file system allows, else by a copy.

        Raises:
            RegistryError: the bytes are not those of the digest; nothing is left here.
            StorageError: the disk is full or read-only; nothing is left here.
        """
        path = self._blob(digest)
        if path.is_file():
            return "reused"
        try:
            self._prepare()
            with read() as source:
                if not self._link(source, path, digest):
                    self._copy(source, path, digest)
        except OSError as error:
            raise storage_error(error, "cannot write to the layout folder", self.folder) from error
        if progress:
            progress(size)
        return "uploaded"

    def named_digest(self, reference: str) -> str:
        """The digest of what a tag names; empty when it names nothing."""
        found = self.get_manifest(reference)
        return "" if found is None else found[2]

    def put_manifest(self, data: bytes, media_type: str, reference: str) -> str:
        """Write a manifest or index under a tag or its digest; returns its digest.

        A tag that named another image names this one from now on. Written by digest alone, the image is listed
        without a name, until an index that holds it, or a tag, names it.

        Raises:
            MissingBlobError: something that it names is not here.
        """
        digest = digest_bytes(data)
        for needed in linked_digests(data):
            if not self.has_blob(needed):
                raise MissingBlobError(
                    "the layout folder lacks a blob of the manifest",
                    where=str(self._blob(needed)),
                    hint="push the image again",
                )
        entry: dict[str, Any] = {"mediaType": media_type, "digest": digest, "size": len(data)}
        if not is_digest(reference):
            entry["annotations"] = {REF_NAME: reference}
        try:
            self._prepare()
            if not self.has_blob(digest):
                self._write(self._blob(digest), data)
            with self._locked():
                index = self._index() or {"schemaVersion": 2, "mediaType": INDEX}
                index["manifests"] = _listed(index.get("manifests") or [], entry, frozenset(linked_digests(data)))
                self._write(self.folder / "index.json", canonical_json(index))
        except OSError as error:
            raise storage_error(error, "cannot write to the layout folder", self.folder) from error
        return digest

    def put_referrer(self, data: bytes, media_type: str, subject: str) -> bool:
        """Write a manifest that refers to another one; False, for a folder keeps the list of these under a tag."""
        self.put_manifest(data, media_type, digest_bytes(data))
        return False

    def get_referrers(self, digest: str) -> list[object] | None:
        """None: a folder keeps the list under a tag."""
        return None

    def list_tags(self) -> tuple[str, ...]:
        """All tags in the folder, sorted."""
        index = self._index() or {}
        return tuple(sorted({tag for entry in index.get("manifests") or [] if (tag := _tag(entry))}))

    def _check_file(self, path: Path) -> None:
        """Refuse what is no file of this folder: a link could name any file of this machine, a pipe never ends."""
        if not path.exists():
            return
        inside = path.resolve().is_relative_to(self.folder.resolve())
        if not inside or not path.is_file():
            raise RegistryError(
                "a blob of the layout folder is no file in it" if inside else "a link leads out of the layout folder",
                where=str(path),
                hint="copy the folder with what its links name: cp -rL" if not inside else "make the folder again",
            )

    def _blob(self, digest: str) -> Path:
        if not is_digest(digest):
            raise RegistryError(
                "the layout folder names a blob by what is no sha256 digest",
                where=f"{self.folder}: {digest[:100]!a}",
                hint="do not use this folder",
            )
        return self.folder / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def _find(self, tag: str) -> dict[str, Any] | None:
        entries = (self._index() or {}).get("manifests") or []
        for entry in entries:
            if _tag(entry) == tag:
                return dict(entry)
        images = [entry for entry in entries if not _ATTACHED.match(_tag(entry))]
        return dict(images[0]) if tag == "latest" and len(images) == 1 and not _tag(images[0]) else None

    def _index(self) -> dict[str, Any] | None:
        """``index.json``, or None when the folder is empty or not there."""
        try:
            version = self._document("oci-layout")["imageLayoutVersion"]
            index = self._document("index.json")
            listed = index.get("manifests") or []
            if not all(isinstance(one, dict) and isinstance(one.get("annotations") or {}, dict) for one in listed):
                raise ValueError("manifests")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, KeyError, TypeError, BaseImageError) as error:
            raise RegistryError(
                "the layout folder is damaged", where=str(self.folder), hint="remove it and push again"
            ) from error
        except OSError as error:
            raise storage_error(error, "cannot read the layout folder") from error
        if not str(version).startswith("1.") or not isinstance(index, dict):
            raise RegistryError(
                f"the layout folder has version {version}, which is not known",
                where=str(self.folder),
                hint="use an OCI image layout of version 1",
            )
        return index

    def _document(self, name: str) -> dict[str, Any]:
        """One of the folder's two JSON files."""
        path = self.folder / name
        self._check_file(path)
        with path.open("rb") as file:
            return json_object(file.read(_LONGEST_DOCUMENT), name)

    def _prepare(self) -> None:
        """Make the folder a layout; refuse one that holds something else."""
        marker = self.folder / "oci-layout"
        if marker.is_file():
            (self.folder / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
            return
        strange = self.folder.exists() and any(
            path.name not in ("blobs", _LOCK) and not path.name.startswith(".tmp-") for path in self.folder.iterdir()
        )
        if strange and not marker.is_file():  # another writer may just have made it
            raise UsageError(
                "the folder is not empty and no OCI image layout",
                where=str(self.folder),
                hint="name a new or empty folder after oci:",
            )
        (self.folder / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        self._write(marker, canonical_json({"imageLayoutVersion": _VERSION}))

    def _link(self, source: BinaryIO, path: Path, digest: str) -> bool:
        """Give the source's own file a second name here; False where that cannot be."""
        name = getattr(source, "name", None)
        if not isinstance(name, str) or not Path(name).is_file():
            return False
        if digest_file(Path(name)) != digest:
            raise _changed(name)
        temporary = path.with_name(f".tmp-{os.getpid()}-{time.monotonic_ns()}-{path.name[:12]}")
        try:
            os.link(name, temporary)
        except OSError:
            return False  # another file system, or a file of another user
        # A rename between two names of one file does nothing and leaves both (POSIX), so remove what is left.
        temporary.replace(path)
        temporary.unlink(missing_ok=True)
        return True

    def _copy(self, source: BinaryIO, path: Path, digest: str) -> None:
        check = hashlib.sha256()
        with self._writing(path) as file:
            while block := source.read(_BLOCK):
                check.update(block)
                file.write(block)
            if "sha256:" + check.hexdigest() != digest:
                raise _changed(path.name)

    def _write(self, path: Path, data: bytes) -> None:
        with self._writing(path) as file:
            file.write(data)

    @contextlib.contextmanager
    def _writing(self, path: Path) -> Iterator[BinaryIO]:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    @contextlib.contextmanager
    def updating(self) -> Iterator[None]:
        """Keep other processes from reading a tag's document, changing it and writing it at the same time."""
        try:
            self._prepare()
            with self._locked(_UPDATE_LOCK):
                yield
        except OSError as error:
            raise storage_error(error, "cannot write to the layout folder", self.folder) from error

    @contextlib.contextmanager
    def _locked(self, name: str = _LOCK) -> Iterator[None]:
        with (self.folder / name).open("ab") as lock:
            ends = time.monotonic() + self._lock_seconds
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > ends:
                        raise RetryableError(
                            "another process is writing to the layout folder",
                            where=str(self.folder),
                            hint="wait for it to end, then push again",
                        ) from None
                    time.sleep(0.02)
            yield


def _tag(entry: dict[str, Any]) -> str:
    return str((entry.get("annotations") or {}).get(REF_NAME) or "")


def _listed(entries: list[dict[str, Any]], new: dict[str, Any], inner: frozenset[str]) -> list[dict[str, Any]]:
    """The entries of an index.json with one more: a tag names one image, and nothing is listed twice."""
    tag = _tag(new)
    if not tag and any(entry["digest"] == new["digest"] for entry in entries):
        return entries
    kept = [
        entry
        for entry in entries
        if (_tag(entry) != tag if _tag(entry) else entry["digest"] != new["digest"] and entry["digest"] not in inner)
    ]
    return [*kept, new]


def _changed(where: str) -> MealkitError:
    return RegistryError(
        "a blob's bytes do not have its digest",
        where=where,
        hint="mealkit's cache was changed: remove it and build again",
    )
