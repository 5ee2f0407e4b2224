"""Places: what this machine remembers of repositories."""

from __future__ import annotations

from pathlib import Path

from mealkit_builder.place import Places
from mealkit_builder.reference import Reference
from mealkit_builder.store import Store

ONE, OTHER = Reference("127.0.0.1:5000", "team/one"), Reference("127.0.0.1:5000", "team/other")


def test_another_repository_of_the_same_registry_is_told(tmp_path: Path) -> None:
    places = Places(Store(tmp_path))
    places.note(ONE, ["sha256:a", "sha256:b"])
    assert places.others(OTHER) == {"sha256:a": "team/one", "sha256:b": "team/one"}
    assert places.others(ONE) == {}
    assert places.others(Reference("another.host", "team/other")) == {}


def test_what_is_known_is_not_written_again(tmp_path: Path) -> None:
    places = Places(Store(tmp_path))
    places.note(ONE, ["sha256:a", "sha256:b"])
    (file,) = (tmp_path / "places").iterdir()
    before = file.stat()
    places.note(ONE, ["sha256:b"])
    assert file.stat().st_ino == before.st_ino
    places.note(ONE, ["sha256:c"])
    assert list(places.others(OTHER)) == ["sha256:a", "sha256:b", "sha256:c"]


def test_two_names_that_make_one_file_name_do_not_mix(tmp_path: Path) -> None:
    places = Places(Store(tmp_path))
    places.note(Reference("h.io", "a/b_c"), ["sha256:a"])
    places.note(Reference("h.io", "a_b/c"), ["sha256:b"])
    assert places.others(Reference("h.io", "x")) == {"sha256:b": "a_b/c"}


def test_a_damaged_note_is_passed_over(tmp_path: Path) -> None:
    places = Places(Store(tmp_path))
    places.note(ONE, ["sha256:a"])
    for number, text in enumerate((b"", b"[]", b'{"repository": "127.0.0.1:5000/x"}', b"\xff")):
        (tmp_path / "places" / f"{number}.json").write_bytes(text)
    assert places.others(OTHER) == {"sha256:a": "team/one"}


def test_the_oldest_layers_are_forgotten(tmp_path: Path) -> None:
    places = Places(Store(tmp_path))
    places.note(ONE, [f"sha256:{number}" for number in range(1999)])
    places.note(ONE, ["sha256:x", "sha256:y"])
    told = places.others(OTHER)
    assert len(told) == 2000
    assert "sha256:0" not in told
    assert {"sha256:1", "sha256:x", "sha256:y"} <= told.keys()
