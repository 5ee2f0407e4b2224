"""Images brought to a real engine: only what it lacks moves, whole where it cannot reach us, and named as asked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, BinaryIO

import pytest
import urllib3
from workshop import Workshop

from mealkit.errors import MealkitError, UnreachableError
from mealkit_builder import engine_load
from mealkit_builder.base import Base
from mealkit_builder.digest import digest_bytes
from mealkit_builder.engine_load import load_image
from mealkit_builder.image import Image, append, config_bytes, manifest_bytes
from mealkit_builder.loopback import offer_image
from mealkit_builder.store import Store
from mealkit_builder.tree import FileEntry, tree_layer


@pytest.fixture
def opened() -> list[str]:
    return []


@pytest.fixture
def forget(engine: Any) -> Iterator[list[str]]:
    """Images that the engine forgets when the test is over."""
    names: list[str] = []
    yield names
    for name in names:
        engine.images.remove(name, force=True)


def grown(base: Base, store: Store, text: str) -> Image:
    layer = tree_layer([FileEntry("/opt/grown", text.encode())], kind="recipe", key=text, title=text, store=store)
    return append(base.image, layer)


def opener(base: Base, store: Store, opened: list[str]) -> Any:
    def open_layer(digest: str) -> BinaryIO:
        opened.append(digest)
        return store.blob_path(digest).open("rb") if store.has_blob(digest) else base.open_layer(digest)

    return open_layer


@pytest.mark.engine
def test_only_what_the_engine_lacks_moves(
    engine: Any, host: Base, shared_store: Store, opened: list[str], forget: list[str]
) -> None:
    first, second = (grown(host, shared_store, text) for text in ("first", "second"))
    said: list[str] = []
    forget.append(load_image(engine, first, opener(host, shared_store, opened), said.append))
    opened.clear()
    forget.append(load_image(engine, second, opener(host, shared_store, opened), said.append))
    assert opened == [second.layers[-1].digest]
    assert forget[1] == digest_bytes(config_bytes(second))
    opened.clear()
    said.clear()
    assert load_image(engine, second, opener(host, shared_store, opened), said.append) == forget[1]
    assert (opened, said) == ([], [])
    attributes = engine.images.get(forget[1]).attrs
    assert [name.partition(":")[0] for name in attributes["RepoTags"]] == ["mealkit"]
    assert not [name for name in attributes["RepoDigests"] or () if "127.0.0.1" in name]


@pytest.mark.engine
def test_an_engine_that_does_not_reach_us_is_sent_the_whole(
    engine: Any, host: Base, shared_store: Store, opened: list[str], forget: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*arguments: object) -> None:
        raise UnreachableError("connection refused")

    monkeypatch.setattr(engine_load, "_pull_from_loopback", unreachable)
    image = grown(host, shared_store, "sent whole")
    forget.append(load_image(engine, image, opener(host, shared_store, opened), lambda line: None))
    assert set(opened) == {layer.digest for layer in image.layers}
    assert forget == [digest_bytes(config_bytes(image))]


@pytest.mark.engine
def test_a_damaged_layer_is_not_taken(engine: Any, host: Base, shared_store: Store) -> None:
    image = grown(host, shared_store, "damaged")
    wrong = replace(image.layers[-1], digest=host.image.layers[0].digest, size=host.image.layers[0].size)
    image = replace(image, layers=(*image.layers[:-1], wrong))
    with pytest.raises(MealkitError, match=r"cannot load|other layers"):
        load_image(engine, image, opener(host, shared_store, []), lambda line: None)


@pytest.mark.engine
def test_a_build_is_loaded_under_its_names(engine: Any, workshop: Workshop, forget: list[str]) -> None:
    root = workshop.recipe("loaded")
    done = workshop.mealkit("build", "-C", root, "--load", "--tag", "a", "--tag", "b")
    assert done.status == 0, done.err
    forget += ["loaded:a", "loaded:b"]
    assert re.search(r"^loaded +loaded:a, loaded:b$", done.out, re.MULTILINE)
    one, other = engine.images.get("loaded:a"), engine.images.get("loaded:b")
    assert one.id == other.id
    assert json.loads(one.labels["io.mealkit.recipe"])["name"] == "loaded"
    forget.append(one.id)


def test_nobody_writes_to_what_is_offered(host: Base, shared_store: Store) -> None:
    image = grown(host, shared_store, "offered")
    manifest, config = manifest_bytes(image), config_bytes(image)
    digest, layer = digest_bytes(manifest), image.layers[-1]
    sizes = {one.digest: one.size for one in image.layers}
    with offer_image(manifest, digest, (digest_bytes(config), config), opener(host, shared_store, []), sizes) as place:
        address, _, name = place.partition("/")

        def ask(method: str, path: str) -> urllib3.BaseHTTPResponse:
            return urllib3.request(method, f"http://{address}/v2/{path}", retries=False, timeout=10)

        assert ask("GET", "").status == 200
        assert ask("GET", f"{name}/manifests/{digest}").data == manifest
        assert ask("HEAD", f"{name}/manifests/{digest}").headers["Docker-Content-Digest"] == digest
        assert digest_bytes(ask("GET", f"{name}/blobs/{layer.digest}").data) == layer.digest
        for path in (
            f"{name}/blobs/sha256:{'0' * 64}",
            f"{name}/manifests/latest",
            f"other/manifests/{digest}",
            "../x",
        ):
            assert ask("GET", path).status == 404
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert ask(method, f"{name}/blobs/uploads/").status == 501
    with pytest.raises(urllib3.exceptions.HTTPError):
        ask("GET", "")
