"""Receipts: the digest and metadata files that a pipeline's next step reads."""

from __future__ import annotations

import json
import os
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from workshop import Workshop

from mealkit.errors import StorageError
from mealkit_builder.receipt import metadata, write_digest, write_metadata


def test_the_files_tell_digest_names_and_record(shop: Workshop, tmp_path: Path) -> None:
    root = shop.recipe("receipt")
    digest, told = tmp_path / "new" / "digest", tmp_path / "metadata.json"
    done = shop.mealkit(
        "build", "-q", "-C", root, "-t", "a", "-t", "b", "--digest-file", digest, "--metadata-file", told
    )
    place, _, expected = done.out.strip().rpartition("@")
    assert digest.read_text() == expected
    value = json.loads(told.read_text())
    assert value["containerimage.digest"] == expected
    assert value["image.name"] == f"{place}:a,{place}:b"
    assert value["mealkit.record"]["url"] == done.out.strip()
    assert stat.S_IMODE(told.stat().st_mode) == 0o644
    assert list(digest.parent.iterdir()) == [digest]


def test_an_image_without_tags_is_named_by_its_digest(shop: Workshop) -> None:
    record = replace(shop.build(shop.recipe("nameless")), tags=())
    assert metadata(record)["image.name"] == record.url


def test_a_pipe_is_written_to(shop: Workshop, tmp_path: Path) -> None:
    record, pipe, seen = shop.build(shop.recipe("pipe")), tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: seen.append(pipe.read_text()))
    reader.start()
    write_digest(record, pipe)
    reader.join(10)
    assert seen == [record.digest]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_file_that_cannot_be_written_is_told(shop: Workshop, tmp_path: Path) -> None:
    record = shop.build(shop.recipe("unwritten"))
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="the image is built"):
        write_metadata(record, tmp_path / "file" / "metadata.json")
