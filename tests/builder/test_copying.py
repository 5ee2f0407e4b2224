"""Copying an image: the same bytes elsewhere, nothing twice, and no tag when it fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from services import RunningRegistry
from workshop import Workshop, make_base, uploads

from mealkit.errors import NotFoundError, RegistryError, RetryableError, UsageError
from mealkit_builder.copying import Copied, copy_image
from mealkit_builder.layout import Layout
from mealkit_builder.progress import Silent
from mealkit_builder.record import ImageRecord
from mealkit_builder.testing import MemoryRegistry


@pytest.fixture
def memory() -> Iterator[MemoryRegistry]:
    with MemoryRegistry() as one:
        yield one


@pytest.fixture
def built(shop: Workshop, tmp_path: Path) -> ImageRecord:
    return shop.build(shop.recipe(within=tmp_path))


def copy(shop: Workshop, url: str, to: str, *tags: str) -> Copied:
    return copy_image(url, to, tags, shop.environment, Silent())


def test_a_copy_has_the_same_digest(shop: Workshop, built: ImageRecord, memory: MemoryRegistry) -> None:
    copied = copy(shop, built.url, f"{memory.host}/copy", "1.0.0", "latest")
    assert copied.url == f"{memory.host}/copy@{built.digest}"
    assert copied.tags == ("1.0.0", "latest")
    assert memory.tags("copy") == {"1.0.0", "latest"}
    assert copied.uploaded == sum(map(len, memory.blobs["copy"].values()))
    assert copied.reused == 0


def test_a_second_copy_moves_nothing(shop: Workshop, built: ImageRecord, memory: MemoryRegistry) -> None:
    first = copy(shop, built.url, f"{memory.host}/copy", "a")
    memory.forget()
    again = copy(shop, built.url, f"{memory.host}/copy", "b")
    assert (again.uploaded, again.url) == (0, first.url)
    assert again.reused == 6
    assert uploads(memory) == []
    assert memory.tags("copy") == {"a", "b"}


def test_a_copy_goes_back_the_same(shop: Workshop, built: ImageRecord, memory: MemoryRegistry, tmp_path: Path) -> None:
    there = copy(shop, built.url, f"{memory.host}/copy:x")
    back = copy(shop, there.url, f"oci:{tmp_path / 'back'}:y")
    assert back.url.endswith(built.digest)
    found = Layout(tmp_path / "back").get_manifest("y")
    assert found is not None
    assert found[0] == memory.manifests["copy"][built.digest][0]


def test_without_a_tag_it_is_there_by_digest(shop: Workshop, built: ImageRecord, memory: MemoryRegistry) -> None:
    copied = copy(shop, built.url, f"{memory.host}/copy")
    assert copied.tags == ()
    assert memory.tags("copy") == set()
    assert built.digest in memory.manifests["copy"]


def test_an_index_is_copied_with_all_its_images(shop: Workshop, memory: MemoryRegistry, tmp_path: Path) -> None:
    base = make_base(tmp_path / "two", platforms=("amd64", "arm64"))
    root = shop.recipe("several", base=base, within=tmp_path, image='platforms = ["linux/amd64", "linux/arm64"]')
    record = shop.build(root)
    copied = copy(shop, record.url, f"{memory.host}/copy", "latest")
    assert copied.url.endswith(record.digest)
    index = json.loads(memory.manifests["copy"][record.digest][0])
    assert {entry["digest"] for entry in index["manifests"]} < set(memory.manifests["copy"])


@pytest.mark.registry
def test_a_real_registry_takes_it(shop: Workshop, built: ImageRecord, registry: RunningRegistry) -> None:
    copied = copy(shop, built.url, f"{registry.host}/copy/tiny", "1.0.0")
    assert copied.url == f"{registry.host}/copy/tiny@{built.digest}"
    assert copy(shop, built.url, f"{registry.host}/copy/tiny", "1.0.0").uploaded == 0


def test_an_image_that_is_not_there_is_told(shop: Workshop, memory: MemoryRegistry) -> None:
    for url in (f"{memory.host}/none:1", f"oci:{shop.folder}/no-such-folder"):
        with pytest.raises(NotFoundError) as caught:
            copy(shop, url, f"{memory.host}/copy", "latest")
        assert caught.value.hint
    assert memory.tags("copy") == set()


def test_what_is_no_place_is_told(shop: Workshop, built: ImageRecord) -> None:
    with pytest.raises(UsageError, match="no place for images"):
        copy(shop, built.url, "docker:name")


@pytest.mark.parametrize(("method", "path"), [("POST", "/blobs/uploads/"), ("PUT", "/manifests/")])
def test_a_copy_that_fails_leaves_no_tag(
    shop: Workshop, built: ImageRecord, memory: MemoryRegistry, method: str, path: str
) -> None:
    memory.fail_next(400, times=99, method=method, path_contains=path)
    with pytest.raises(RegistryError):
        copy(shop, built.url, f"{memory.host}/copy", "latest")
    assert memory.tags("copy") == set()


def test_a_damaged_source_is_not_copied(
    shop: Workshop, built: ImageRecord, memory: MemoryRegistry, tmp_path: Path
) -> None:
    folder = Path(built.url.removeprefix("oci:").rpartition("@")[0])
    found = Layout(folder).get_manifest(built.digest)
    assert found is not None
    largest = max(json.loads(found[0])["layers"], key=lambda layer: layer["size"])
    blob = folder / "blobs" / "sha256" / largest["digest"].removeprefix("sha256:")
    data = blob.read_bytes()
    blob.unlink()  # the cache has the same file by a hard link
    blob.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(RetryableError, match="another digest") as caught:  # the wire may have done it
        copy(shop, built.url, f"{memory.host}/copy", "latest")
    assert caught.value.where
    assert caught.value.hint
    assert memory.tags("copy") == set()
    with pytest.raises(RegistryError):
        copy(shop, built.url, f"oci:{tmp_path / 'elsewhere'}", "latest")
    assert Layout(tmp_path / "elsewhere").list_tags() == ()
    blob.unlink()
    with pytest.raises(NotFoundError):
        copy(shop, built.url, f"{memory.host}/copy", "latest")
