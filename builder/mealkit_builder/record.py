"""The image record: what a build returns, prints and keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mealkit._value import asdict, dataclass, field
from mealkit.errors import storage_error


@dataclass(frozen=True)
class ImageRecord:
    """One image that was built and pushed.

    Attributes:
        url: The image by digest, ``host/repo@sha256:…`` or ``oci:DIR@sha256:…``: what to record and to run.
        tags: Names that it got in the repository.
        platforms: Manifest digest by platform.
        name: The recipe's name.
        version: The recipe's version.
        spec_digest: Digest of the recipe's specification.
        base: The base as it was named.
        base_digest: The base's manifest digest (by platform, when there are several).
        lock_digest: sha256 of the lock file.
        revision: The source's commit; None outside git.
        dirty: Whether the source differed from it.
        size: Bytes of all compressed layers, the base's included.
        layers: How many of the layers above the base were ``reused``, ``mounted`` and ``uploaded``.
        bytes_uploaded: Bytes that were sent.
        wheels_downloaded: How many wheels had to be downloaded.
        bytecode: Whether the packages' bytecode is in the image.
        seconds: From the build's start to its end.
        builder: The builder's version.
    """

    url: str
    tags: tuple[str, ...]
    platforms: Mapping[str, str]
    name: str
    version: str
    spec_digest: str
    base: str
    base_digest: Mapping[str, str]
    lock_digest: str
    revision: str | None
    dirty: bool
    size: int
    layers: Mapping[str, int] = field(default_factory=dict)
    bytes_uploaded: int = 0
    wheels_downloaded: int = 0
    bytecode: bool = True
    seconds: float = 0.0
    builder: str = ""

    @property
    def digest(self) -> str:
        """The digest in :attr:`url`."""
        return self.url.rpartition("@")[2]

    def to_json(self) -> str:
        """The record as one line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    def append_to(self, file: Path) -> None:
        """Add the record as a line to a JSON-lines file, which is made if needed."""
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a", encoding="utf-8") as lines:
                lines.write(self.to_json() + "\n")
        except OSError as error:
            raise storage_error(error, "the image is built, but its record cannot be written", file) from error


def history_file(root: Path) -> Path:
    """Where a project's records are kept."""
    return root / ".mealkit" / "images.jsonl"


def read_records(file: Path) -> Iterator[ImageRecord]:
    """The records of a JSON-lines file, oldest first; damaged lines are passed over."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            value: dict[str, Any] = json.loads(line)
            yield ImageRecord(**{**value, "tags": tuple(value["tags"])})
        except (ValueError, TypeError, KeyError):
            continue
