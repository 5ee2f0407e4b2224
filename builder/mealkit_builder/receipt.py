"""Receipts: the files that tell the next step of a pipeline what was built, as other build tools write them."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from mealkit.errors import storage_error

from .record import ImageRecord


def metadata(record: ImageRecord) -> dict[str, Any]:
    """What ``docker buildx build --metadata-file`` writes, as far as it is true here, and the whole record.

    ``containerimage.digest`` is the digest to record; ``image.name`` has the tagged names, separated by commas.
    """
    place = record.url.rpartition("@")[0]
    return {
        "containerimage.digest": record.digest,
        "image.name": ",".join(f"{place}:{tag}" for tag in record.tags) or record.url,
        "mealkit.record": json.loads(record.to_json()),
    }


def write_digest(record: ImageRecord, file: Path) -> None:
    """The digest alone, without a line's end, as kaniko's ``--digest-file`` and Tekton's results want it.

    Raises:
        StorageError: the file cannot be written; the image is built all the same.
    """
    _write(file, record.digest)


def write_metadata(record: ImageRecord, file: Path) -> None:
    """:func:`metadata` as JSON.

    Raises:
        StorageError: the file cannot be written; the image is built all the same.
    """
    _write(file, json.dumps(metadata(record), indent=2, sort_keys=True) + "\n")


def _write(file: Path, text: str) -> None:
    """Whole or not at all, but for what is no plain file, such as a pipe or ``/dev/termination-log``."""
    try:
        if file.exists() and not file.is_file():
            file.write_text(text, encoding="utf-8")
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=".mealkit-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as output:
                output.write(text)
            Path(temporary).chmod(0o644)
            Path(temporary).replace(file)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise storage_error(error, "the image is built, but what tells of it cannot be written", file) from error
