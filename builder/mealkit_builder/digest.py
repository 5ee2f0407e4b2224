"""Digests: the names of bytes, as the OCI image specification writes them (``sha256:HEX``)."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


def digest_bytes(data: bytes) -> str:
    """The digest of ``data``."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """The digest of a file's bytes; memory does not grow with the file."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def is_digest(text: str) -> bool:
    """Whether ``text`` is a well-formed sha256 digest."""
    return _DIGEST.match(text) is not None
