"""The inventory: what is in the cache is told by kind, and what goes is what was used longest ago."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import pytest
from workshop import Workshop

from mealkit.errors import RegistryError, RetryableError
from mealkit_builder.build import build
from mealkit_builder.digest import digest_bytes
from mealkit_builder.inventory import UNFINISHED_SECONDS, list_items, prune
from mealkit_builder.layer import Layer
from mealkit_builder.progress import Silent
from mealkit_builder.rootfs import using
from mealkit_builder.store import Store
from mealkit_builder.testing import MemoryRegistry

NOW = 2_000_000_000.0
DAY = 86_400.0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def put(store: Store, data: bytes, days: float = 0, kind: str = "") -> Path:
    """A blob that was used so many days ago."""
    digest = digest_bytes(data)
    path = store.add_blob(digest, data)
    if kind:
        store.remember(Layer(digest, len(data), digest, kind=kind, key=f"{kind}/{digest}"))
    os.utime(path, (NOW - days * DAY, NOW - days * DAY))
    return path


def unpacked(store: Store, name: str, days: float) -> Path:
    root = store.root / "rootfs" / name
    (root / "usr").mkdir(parents=True)
    (root / "usr" / "file").write_bytes(b"x" * 100)
    (root / ".mealkit-unpacked").write_bytes(b"")
    for path in (root / ".mealkit-unpacked", root):
        os.utime(path, (NOW - days * DAY, NOW - days * DAY))
    return root


def test_everything_is_told_by_its_kind(store: Store) -> None:
    put(store, b"PK\x03\x04 a wheel")
    put(store, b"\x1f\x8b of wheels", kind="wheels")
    put(store, b"\x1f\x8b of nobody knows")
    put(store, b'{"mediaType": "x"}')
    put(store, b"!<arch>\n")
    put(store, b"?")
    (store.blob_path("sha256:a").parent / ".tmp-abc").write_bytes(b"half")
    unpacked(store, "image", 1)
    kinds = Counter(item.kind for item in list_items(store))
    expected = ("wheel file", "layer of wheels", "layer", "document", "Debian package", "other", "unfinished")
    assert kinds == {**dict.fromkeys(expected, 1), "unpacked image": 1, "note": 1}
    assert next(item.size for item in list_items(store) if item.kind == "unpacked image") == 100


def test_a_builds_cache_has_no_other_kind(workshop: Workshop) -> None:
    workshop.build(workshop.recipe())
    kinds = Counter(item.kind for item in list_items(workshop.store))
    assert kinds["wheel file"] == 6
    assert {kind for kind in kinds if kind.startswith("layer")} == {
        "layer of wheels", "layer of bytecode", "layer of mealkit", "layer of recipe",
    }  # fmt: skip
    assert not kinds.keys() & {"other", "unfinished"}


def test_what_was_not_used_for_so_long_goes(store: Store) -> None:
    old, new = put(store, b"old", 31), put(store, b"new", 29)
    gone = prune(store, NOW, older_than=30 * DAY)
    assert [item.path for item in gone.items] == [old]
    assert (gone.freed, gone.kept) == (3, 3)
    assert new.exists()
    assert not old.exists()


def test_what_was_used_longest_ago_goes_until_it_fits(store: Store) -> None:
    paths = [put(store, bytes([number]) * 100, days=10 - number) for number in range(10)]
    gone = prune(store, NOW, max_size=250)
    assert [item.path for item in gone.items] == paths[:8]
    assert gone.kept == 200
    assert [path.exists() for path in paths] == [False] * 8 + [True] * 2


def test_a_dry_run_removes_nothing_and_tells_the_same(store: Store) -> None:
    put(store, b"old", 31)
    said = prune(store, NOW, older_than=30 * DAY, dry_run=True)
    assert not store.pruned_since(0)
    assert said == prune(store, NOW, older_than=30 * DAY)
    assert store.pruned_since(0)


def test_a_blob_that_another_folder_has_too_frees_nothing(store: Store, tmp_path: Path) -> None:
    path = put(store, b"shared", 40)
    os.link(path, tmp_path / "elsewhere")
    gone = prune(store, NOW, older_than=DAY)
    assert (len(gone.items), gone.freed) == (1, 0)
    assert (tmp_path / "elsewhere").read_bytes() == b"shared"


def test_what_is_being_written_stays_and_what_was_left_goes(store: Store) -> None:
    folder = put(store, b"x").parent
    now = time.time()
    fresh, left = folder / ".tmp-fresh", folder / ".tmp-left"
    for path in (fresh, left):
        path.write_bytes(b"half")
    os.utime(left, (now - UNFINISHED_SECONDS - 60,) * 2)
    prune(store, now, everything=True)
    assert fresh.exists()
    assert not left.exists()


def test_an_unpacked_image_that_runs_stays(store: Store) -> None:
    root = unpacked(store, "image", 40)
    with using(root):
        os.utime(root / ".mealkit-unpacked", (NOW - 40 * DAY,) * 2)
        assert prune(store, NOW, everything=True).items == ()
        assert root.exists()
    assert prune(store, NOW, everything=True).freed == 100
    assert not root.exists()
    with pytest.raises(RetryableError, match="removed just now"), using(root):
        pass


def test_using_notes_the_use(store: Store) -> None:
    root = unpacked(store, "image", 40)
    with using(root):
        pass
    assert prune(store, time.time(), older_than=DAY).items == ()


def test_a_build_uses_what_it_takes_from_the_cache(workshop: Workshop) -> None:
    root = workshop.recipe()
    workshop.build(root)
    for path in workshop.store.blob_path("x").parent.iterdir():
        os.utime(path, (1, 1))
    workshop.build(root, f"oci:{workshop.folder / 'elsewhere'}")
    used = {item.kind for item in list_items(workshop.store) if item.used > 1}
    assert {"layer of wheels", "layer of bytecode", "layer of mealkit", "layer of recipe"} <= used
    assert "wheel file" not in used  # its layer was there, so it was not needed


class Pruning(Silent):
    """A reporter in whose company the whole cache vanishes, once, when it is told a certain thing."""

    def __init__(self, store: Store, when: str) -> None:
        self.store, self.when, self.pruned, self.notes = store, when, 0, list[str]()

    def _maybe(self, what: str) -> None:
        if what == self.when and not self.pruned:
            self.pruned += 1
            prune(self.store, time.time(), everything=True)

    def stage(self, text: str) -> None:
        self._maybe(text)

    def expect(self, what: str, size: int) -> None:  # type: ignore[override]
        self._maybe(f"expect {what}")

    def moved(self, what: str, size: int) -> None:  # type: ignore[override]
        self._maybe(f"moved {what}")

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.mark.parametrize("when", ["making layers", "expect download", "moved upload", "expect upload", "pushing"])
def test_a_build_outlives_a_pruning_at_any_moment(workshop: Workshop, when: str) -> None:
    with MemoryRegistry() as memory:
        root = workshop.recipe()
        expected = workshop.build(root, f"oci:{workshop.folder / 'images'}").digest
        reporter = Pruning(workshop.store, when)
        record = build(workshop.request(root, f"{memory.host}/team/tiny"), reporter)
        assert reporter.pruned == 1
        assert record.digest == expected
        assert len(reporter.notes) <= 1
        assert memory.tags("team/tiny") == {"1.0.0", "latest"}


def test_a_failure_without_a_pruning_is_not_tried_again(workshop: Workshop) -> None:
    root = workshop.recipe()
    workshop.build(root)
    for path in workshop.store.blob_path("x").parent.iterdir():
        if path.read_bytes()[:2] == b"\x1f\x8b":
            path.write_bytes(b"")  # a layer on a broken disk
    stages: list[str] = []

    class Noting(Silent):
        def stage(self, text: str) -> None:
            stages.append(text)

    with MemoryRegistry() as memory, pytest.raises(RegistryError, match="a blob ended after 0 of"):
        build(workshop.request(root, f"{memory.host}/team/tiny"), Noting())
    assert stages.count("making layers") == 1
