"""Reading an image from afar: two requests, no layer, and a clear answer when it is none of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from images import sample
from workshop import Workshop, make_base

from mealkit.errors import BaseImageError, NotFoundError, ProjectError
from mealkit_builder.digest import digest_bytes
from mealkit_builder.image import config_bytes, set_labels
from mealkit_builder.layout import Layout
from mealkit_builder.platform import Platform
from mealkit_builder.push import push_image
from mealkit_builder.remote import inspect_image
from mealkit_builder.testing import MemoryRegistry


@pytest.fixture(scope="module")
def memory() -> Iterator[MemoryRegistry]:
    with MemoryRegistry() as one:
        yield one


def test_an_image_tells_what_it_offers_without_being_pulled(shop: Workshop, memory: MemoryRegistry) -> None:
    record = shop.build(shop.recipe("remote"), f"{memory.host}/remote")
    memory.forget()
    found = inspect_image(record.url, shop.environment)
    assert found.url == record.url
    assert (found.spec.name, found.spec.version) == ("remote", "1.0.0")
    assert found.spec.input is not None
    layers = {layer.digest for layer in found.pulled.image.layers}
    assert memory.requests == 2
    assert not [one for one in memory.seen if any(digest in one.path for digest in layers)]
    assert memory.bytes_out < 20_000


def test_a_tag_is_told_by_its_digest(shop: Workshop, memory: MemoryRegistry) -> None:
    record = shop.build(shop.recipe("tagged"), f"{memory.host}/tagged")
    assert inspect_image(f"{memory.host}/tagged:1.0.0", shop.environment).url == record.url
    assert inspect_image(f"{memory.host}/tagged", shop.environment).url == record.url


def test_a_layout_folder_is_read_alike(shop: Workshop) -> None:
    record = shop.build(shop.recipe("in-a-folder"))
    assert inspect_image(record.url, shop.environment).url == record.url


def test_a_platform_is_chosen_from_several(shop: Workshop, memory: MemoryRegistry) -> None:
    for name in ("amd64", "arm64"):
        base = make_base(shop.folder / f"base-{name}", platforms=(name,))
        shop.build(shop.recipe(f"on-{name}", base=base), f"{memory.host}/on-{name}", platforms=(f"linux/{name}",))
    found = inspect_image(f"{memory.host}/on-arm64", shop.environment, Platform("linux", "arm64"))
    assert str(found.pulled.image.platform) == "linux/arm64"


@pytest.mark.parametrize("what", ["nothing:here", "nothing"])
def test_an_image_that_is_not_there_is_told(shop: Workshop, memory: MemoryRegistry, what: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        inspect_image(f"{memory.host}/{what}", shop.environment)
    assert memory.host in (caught.value.where or "")
    assert caught.value.hint


def push(layout: Layout, label: str | None) -> str:
    made = sample({"a": b"a"})
    labels = {} if label is None else {"io.mealkit.recipe": label}
    image = replace(made.image, config=set_labels(made.image.config, labels))
    return push_image(image, layout, made.open_layer, tags=("latest",)).url


@pytest.mark.parametrize("label", [None, "", "not json", "[]", "{}", json.dumps({"spec_version": 99})])
def test_an_image_of_somebody_else_is_told(shop: Workshop, label: str | None) -> None:
    url = push(Layout(shop.folder / f"other-{hash(label)}"), label)
    with pytest.raises(ProjectError) as caught:
        inspect_image(url, shop.environment)
    assert caught.value.where
    assert caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("content", [b"", b"not json", b"[]", b"{}", b'{"rootfs": 3}'])
def test_a_damaged_image_is_told(shop: Workshop, memory: MemoryRegistry, content: bytes) -> None:
    record = shop.build(shop.recipe(f"damaged-{content.hex() or 'empty'}"), f"{memory.host}/damaged")
    data, media_type = memory.manifests["damaged"][record.digest]
    manifest = json.loads(data)
    digest = digest_bytes(content)
    memory.blobs["damaged"][digest] = content
    manifest["config"] |= {"digest": digest, "size": len(content)}
    broken = json.dumps(manifest).encode()
    memory.manifests["damaged"][digest_bytes(broken)] = (broken, media_type)
    with pytest.raises(BaseImageError):
        inspect_image(f"{memory.host}/damaged@{digest_bytes(broken)}", shop.environment)


def test_the_config_is_what_the_image_says(shop: Workshop, memory: MemoryRegistry) -> None:
    record = shop.build(shop.recipe("config"), f"{memory.host}/config")
    found = inspect_image(record.url, shop.environment)
    assert memory.blobs["config"][found.pulled.config_digest] == config_bytes(found.pulled.image)
