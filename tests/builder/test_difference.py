"""The difference of two images: what is told, and what is not opened for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest
from images import sample
from workshop import Workshop

from mealkit.errors import RegistryError
from mealkit_builder.difference import Change, Difference, compare_images, first_difference
from mealkit_builder.image import Image
from mealkit_builder.layer import Layer
from mealkit_builder.listing import Listed, list_layer, merge
from mealkit_builder.remote import open_image
from mealkit_builder.store import Store
from mealkit_builder.tree import DirEntry, FileEntry, LinkEntry, tree_layer


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def opener(store: Store) -> Callable[[str], BinaryIO]:
    return lambda digest: store.blob_path(digest).open("rb")


def layer(store: Store, files: dict[str, bytes | str], *, title: str = "shop 1.0", kind: str = "recipe") -> Layer:
    """A layer; text is a link's target, bytes a file's content, and an empty text a folder."""
    entries = [
        FileEntry(path, value) if isinstance(value, bytes) else LinkEntry(path, value) if value else DirEntry(path)
        for path, value in files.items()
    ]
    return tree_layer(entries, kind=kind, key=f"{kind}/{title}/{sorted(files.items())}", title=title, store=store)


def image(*layers: Layer) -> Image:
    return replace(sample({}).image, layers=layers)


def compare(store: Store, one: Image, other: Image) -> Difference:
    return compare_images(one, other, opener(store), opener(store))


def test_a_listing_has_every_field(store: Store) -> None:
    made = layer(store, {"/a/tool": b"data", "/a/link": "tool", "/b": ""})
    with store.blob_path(made.digest).open("rb") as file:
        listed = merge([list_layer(file, made)])
    assert listed["a/tool"] == Listed(
        "a/tool",
        "file",
        4,
        0o644,
        0,
        0,
        315532800,
        "",
        "3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7",
    )
    assert (listed["a/link"].kind, listed["a/link"].link) == ("link", "tool")
    assert listed["b"].kind == "folder"


def test_content_is_kept_where_it_is_wanted(store: Store) -> None:
    made = layer(store, {"/a": b"one", "/b": b"two"})
    with store.blob_path(made.digest).open("rb") as file:
        assert [entry.data for entry in list_layer(file, made, lambda path: path == "b")] == [b"", b"two"]


def test_a_damaged_layer_is_told(store: Store, tmp_path: Path) -> None:
    made = layer(store, {"/a": b"one" * 1000})
    broken = tmp_path / "broken"
    broken.write_bytes(store.blob_path(made.digest).read_bytes()[:600])
    with broken.open("rb") as file, pytest.raises(RegistryError, match="cannot be read"):
        list(list_layer(file, made))


def test_a_compression_that_is_not_known_is_told(store: Store) -> None:
    made = replace(layer(store, {"/a": b"one"}), media_type="application/vnd.oci.image.layer.v1.tar+brotli")
    with store.blob_path(made.digest).open("rb") as file, pytest.raises(RegistryError, match="brotli"):
        list(list_layer(file, made))


def test_the_same_image_has_no_difference_and_is_not_opened(store: Store) -> None:
    one = image(layer(store, {"/a": b"one"}))

    def never(digest: str) -> BinaryIO:
        raise AssertionError(digest)

    found = compare_images(one, one, never, never)
    assert found.empty
    assert found.same_layers == 1


def test_files_are_told_with_their_fields(store: Store) -> None:
    same = layer(store, {"/base": b"base"}, title="base", kind="base")
    before = image(same, layer(store, {"/app/kept": b"1", "/app/changed": b"1", "/app/gone": b"1", "/app/kind": b"1"}))
    after = image(same, layer(store, {"/app/kept": b"1", "/app/changed": b"22", "/app/new": b"1", "/app/kind": "kept"}))
    found = {change.path: change.fields for change in compare(store, before, after).files}
    assert set(found) == {"app/changed", "app/gone", "app/new", "app/kind"}
    assert found["app/gone"] == (Change("path", "file", None),)
    assert found["app/new"] == (Change("path", None, "file"),)
    assert [change.name for change in found["app/changed"]] == ["size", "content"]
    assert "kind" in [change.name for change in found["app/kind"]]


def test_packages_are_told_by_their_versions(store: Store) -> None:
    root = "/opt/mealkit/venv/lib/python3.11/site-packages"

    def wheels(**versions: str) -> Layer:
        files: dict[str, bytes | str] = {f"{root}/{name}-{v}.dist-info/METADATA": b"" for name, v in versions.items()}
        return layer(store, files, title=f"{len(versions)} small packages", kind="wheels")

    found = compare(store, image(wheels(a="1", b_c="1", gone="1")), image(wheels(a="2", b_c="1", new="3", more="1")))
    assert found.packages == (
        Change("a", "1", "2"),
        Change("gone", "1", None),
        Change("more", None, "1"),
        Change("new", None, "3"),
    )
    (change,) = found.layers
    assert change.name == "small packages"


def test_settings_and_the_specification_are_told_by_name(shop: Workshop) -> None:
    root = shop.recipe("settings")
    one = shop.build(root)
    project = root / "pyproject.toml"
    project.write_text(
        project.read_text()
        .replace("1.0.0", "1.1.0")
        .replace("[tool.mealkit.image]", '[tool.mealkit.image]\nenv = {A = "b"}')
    )
    settings = root / "settings" / "settings.py"
    settings.write_text(settings.read_text().replace("le=1", "le=2"))
    other = shop.build(root)
    with open_image(one.url, shop.environment) as before, open_image(other.url, shop.environment) as after:
        found = compare_images(before.pulled.image, after.pulled.image, before.open_layer, after.open_layer)
    assert Change("env A", None, "b") in found.settings
    assert Change("version", '"1.0.0"', '"1.1.0"') in found.spec
    assert [change for change in found.spec if change.name.endswith("rate.maximum")]
    assert Change("settings", "1.0.0", "1.1.0") in found.packages
    assert json.loads(json.dumps(found.to_json()))["same"] is False


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"/a": b"1", "/b": b"1"}, {"/a": b"1", "/b": b"2"}, ("b", "content")),
        ({"/a": b"1", "/b": b"1"}, {"/a": b"1", "/b": b"22"}, ("b", "size")),
        ({"/a": b"1", "/b": b"1"}, {"/a": b"1"}, ("b", "path")),
        ({"/a": b"1"}, {"/a": b"1", "/b": b"1"}, ("b", "path")),
        ({"/a": "x"}, {"/a": "y"}, ("a", "link")),
        ({"/a": b""}, {"/a": ""}, ("a", "kind")),
    ],
)
def test_the_first_difference_names_layer_file_and_field(
    store: Store, before: dict[str, bytes | str], after: dict[str, bytes | str], expected: tuple[str, str]
) -> None:
    one, other = image(layer(store, before)), image(layer(store, after))
    title, path, change = first_difference(one, other, opener(store), opener(store))
    assert (title, path, change.name) == ("shop 1.0", *expected)


def test_the_first_difference_of_two_configs(store: Store) -> None:
    one = image(layer(store, {"/a": b"1"}))
    other = replace(one, config=replace(one.config, user="7"))
    title, path, change = first_difference(one, other, opener(store), opener(store))
    assert (title, path, change) == ("", "", Change("user", one.config.user or None, "7"))


def test_another_compression_of_the_same_archive_is_told(store: Store) -> None:
    made = layer(store, {"/a": b"1"})
    title, path, change = first_difference(
        image(made), image(replace(made, digest="sha256:" + "1" * 64)), opener(store), opener(store)
    )
    assert (title, path, change.name) == ("shop 1.0", "", "compression")


def test_one_layer_less_is_told(store: Store) -> None:
    made = layer(store, {"/a": b"1"})
    found = first_difference(image(made), image(), opener(store), opener(store))
    assert found == ("", "", Change("layers", "1", "0"))
