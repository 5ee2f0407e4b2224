"""The image record: one line of JSON that comes back as it was."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mealkit.errors import StorageError
from mealkit_builder.record import ImageRecord, history_file, read_records

DIGEST = "sha256:" + "a" * 64
TEXT = st.text(min_size=1, max_size=20)
COUNTS = st.integers(0, 2**40)


def record(url: str = f"127.0.0.1:5000/shop@{DIGEST}", **changes: object) -> ImageRecord:
    values: dict[str, object] = {
        "url": url,
        "tags": ("1.0", "latest"),
        "platforms": {"linux/amd64": DIGEST},
        "name": "shop",
        "version": "1.0",
        "spec_digest": DIGEST,
        "base": "host",
        "base_digest": {"linux/amd64": DIGEST},
        "lock_digest": DIGEST,
        "revision": None,
        "dirty": False,
        "size": 10,
        "layers": {"reused": 1, "mounted": 0, "uploaded": 2},
    }
    return ImageRecord(**{**values, **changes})  # type: ignore[arg-type]


RECORDS = st.builds(
    record,
    tags=st.lists(TEXT, max_size=3).map(tuple),
    name=TEXT,
    version=TEXT,
    revision=st.none() | TEXT,
    size=COUNTS,
    platforms=st.dictionaries(TEXT, TEXT, max_size=2),
    layers=st.dictionaries(TEXT, COUNTS, max_size=3),
    dirty=st.booleans(),
    bytecode=st.booleans(),
    seconds=st.floats(0, 1e6),
    base=TEXT,
)


@given(st.lists(RECORDS, max_size=4))
def test_records_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, records: list[ImageRecord]) -> None:
    file = tmp_path_factory.mktemp("records") / "deep" / "images.jsonl"
    for one in records:
        one.append_to(file)
    assert list(read_records(file)) == records


def test_a_record_is_one_line_that_others_can_read() -> None:
    text = record(name="line\nbreak ").to_json()
    assert len(text.splitlines()) == 1
    assert json.loads(text)["url"] == record().url


def test_the_digest_is_that_of_the_url() -> None:
    assert record().digest == DIGEST
    assert record(f"oci:/a@b/images@{DIGEST}").digest == DIGEST


def test_damaged_lines_are_passed_over(tmp_path: Path) -> None:
    file = history_file(tmp_path)
    record().append_to(file)
    with file.open("a") as lines:
        lines.write('not json\n{"url": "x"}\n[1]\n3\n{"tags": []}\n\n')
    record(version="2.0").append_to(file)
    with file.open("a") as lines:
        lines.write(record().to_json()[:40])
    assert [one.version for one in read_records(file)] == ["1.0", "2.0"]


def test_a_file_that_is_no_text_has_no_records(tmp_path: Path) -> None:
    file = tmp_path / "images.jsonl"
    file.write_bytes(b"\xff\xfe\0\n")
    assert list(read_records(file)) == []
    assert list(read_records(tmp_path / "missing.jsonl")) == []


def test_a_record_that_cannot_be_kept_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="the image is built, but its record cannot be written") as caught:
        record().append_to(tmp_path / "file" / "images.jsonl")
    assert str(tmp_path / "file") in (caught.value.where or "")
    if os.path.exists("/dev/full"):  # noqa: PTH110
        with pytest.raises(StorageError, match="the disk is full") as caught:
            record().append_to(Path("/dev/full"))
        assert caught.value.where == "/dev/full"
