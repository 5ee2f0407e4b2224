"""The kitchen: makes only what nobody has, sends only what is not there, and stops at the first error."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from mealkit.errors import WheelError
from mealkit_builder.ingredient import Ingredient
from mealkit_builder.kitchen import Tally, cook
from mealkit_builder.layer import Layer
from mealkit_builder.layout import Layout
from mealkit_builder.progress import Silent
from mealkit_builder.store import Store
from mealkit_builder.tree import FileEntry, tree_layer
from mealkit_builder.wheel import WheelFile


class Counting(Silent):
    """A reporter that adds up."""

    def __init__(self) -> None:
        self.expected = {"download": 0, "upload": 0}
        self.came = {"download": 0, "upload": 0}
        self.lock = threading.Lock()

    def expect(self, what: str, size: int) -> None:  # type: ignore[override]
        with self.lock:
            self.expected[what] += size

    def moved(self, what: str, size: int) -> None:  # type: ignore[override]
        with self.lock:
            self.came[what] += size


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


@pytest.fixture
def target(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "images")


def ingredient(
    store: Store,
    name: str,
    made: list[str] | None = None,
    *,
    compiles: bool = False,
    wheels: Sequence[WheelFile] = (),
    make: Callable[[], None] = lambda: None,
) -> Ingredient:
    key = f"test/{name}"

    def making(fetched: Sequence[WheelFile]) -> Layer:
        assert all(wheel.path is not None and wheel.path.is_file() for wheel in fetched)
        make()
        if made is not None:
            made.append(name)
        return tree_layer([FileEntry(f"/{name}", name.encode())], kind="recipe", key=key, title=name, store=store)

    return Ingredient(key, name, tuple(wheels), making, compiles)


def names(layers: Sequence[Layer]) -> list[str]:
    return [layer.title for layer in layers]


def test_layers_come_in_the_order_of_their_ingredients(store: Store, target: Layout) -> None:
    made: list[str] = []
    several = [ingredient(store, name, made, compiles=name in "bd") for name in "abcdef"]
    several[0] = ingredient(store, "a", made, make=lambda: time.sleep(0.05))
    tally = Tally()
    layers = cook(several, {}, target, store, Silent(), tally)
    assert names(layers) == list("abcdef")
    assert sorted(made) == list("abcdef")
    assert all(target.has_blob(layer.digest) for layer in layers)
    assert tally.ways == {"reused": 0, "mounted": 0, "uploaded": 6}
    assert tally.sent == sum(layer.size for layer in layers)


def test_what_the_target_has_is_neither_made_nor_sent(store: Store, target: Layout) -> None:
    one = ingredient(store, "a")
    layers = cook([one], {}, target, store, Silent(), Tally())
    made: list[str] = []
    tally = Tally()
    again = cook([ingredient(store, "a", made)], {layers[0].key: layers[0]}, target, store, Silent(), tally)
    assert again == layers
    assert made == []
    assert tally.ways == {"reused": 1, "mounted": 0, "uploaded": 0}


def test_what_the_cache_has_is_sent_without_being_made(store: Store, target: Layout, tmp_path: Path) -> None:
    layers = cook([ingredient(store, name) for name in "ab"], {}, target, store, Silent(), Tally())
    elsewhere = Layout(tmp_path / "elsewhere")
    made: list[str] = []
    tally = Tally()
    assert cook([ingredient(store, name, made) for name in "ab"], {}, elsewhere, store, Silent(), tally) == layers
    assert made == []
    assert tally.ways["uploaded"] == 2
    assert all(elsewhere.has_blob(layer.digest) for layer in layers)


def test_without_the_cache_all_is_made_anew(store: Store, target: Layout) -> None:
    first = cook([ingredient(store, "a")], {}, target, store, Silent(), Tally())
    made: list[str] = []
    tally = Tally()
    assert cook([ingredient(store, "a", made)], {}, target, store, Silent(), tally, use_cache=False) == first
    assert made == ["a"]
    assert tally.ways["reused"] == 1  # the target has the bytes, however they were made


def test_a_remembered_layer_whose_bytes_are_gone_is_made_again(store: Store, target: Layout, tmp_path: Path) -> None:
    (layer,) = cook([ingredient(store, "a")], {}, target, store, Silent(), Tally())
    store.blob_path(layer.digest).unlink()
    made: list[str] = []
    assert cook([ingredient(store, "a", made)], {}, Layout(tmp_path / "x"), store, Silent(), Tally()) == (layer,)
    assert made == ["a"]


def test_one_change_needs_no_thread(store: Store, target: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    before = cook([ingredient(store, name) for name in "ab"], {}, target, store, Silent(), Tally())
    known = {layer.key: layer for layer in before}
    monkeypatch.setattr("mealkit_builder.kitchen.ThreadPoolExecutor", None)
    after = cook([ingredient(store, name) for name in "abc"], known, target, store, Silent(), Tally())
    assert names(after) == ["a", "b", "c"]


def test_the_reporter_hears_of_every_byte(store: Store, target: Layout) -> None:
    reporter = Counting()
    layers = cook([ingredient(store, name) for name in "abc"], {}, target, store, reporter, Tally())
    assert reporter.came["upload"] == reporter.expected["upload"] == sum(layer.size for layer in layers)
    again = Counting()
    cook([ingredient(store, name) for name in "abc"], {}, target, store, again, Tally())
    assert again.expected["upload"] == again.came["upload"] == 0


@pytest.mark.parametrize("compiles", [False, True])
def test_an_error_is_told_and_leaves_the_rest_undone(store: Store, target: Layout, compiles: bool) -> None:
    def fail() -> None:
        raise WheelError("it is rotten", where="b", hint="throw it away")

    made: list[str] = []
    several = [ingredient(store, "a", made), ingredient(store, "b", made, make=fail, compiles=compiles)]
    several += [ingredient(store, f"c{n}", made, make=lambda: time.sleep(0.03), compiles=compiles) for n in range(20)]
    with pytest.raises(WheelError, match="rotten"):
        cook(several, {}, target, store, Silent(), Tally())
    assert len(made) < 21
    assert store.known_layer("test/b") is None
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mealkit-")]


def test_wheels_are_there_before_their_layer_is_made(store: Store, target: Layout, tmp_path: Path) -> None:
    data, path = b"a wheel", tmp_path / "a.whl"
    path.write_bytes(data)
    wheel = WheelFile("a", "1", path.name, hashlib.sha256(data).hexdigest(), len(data), None, path.as_uri())
    tally, reporter = Tally(), Counting()
    cook(
        [ingredient(store, "a", wheels=[wheel]), ingredient(store, "b", wheels=[wheel], compiles=True)],
        {},
        target,
        store,
        reporter,
        tally,
    )
    assert tally.downloaded == 1
    assert reporter.came["download"] == reporter.expected["download"] == len(data)
