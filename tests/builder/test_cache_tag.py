"""Cache tags: names that follow from keys, manifests that come back as they went, nothing believed that is damaged."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mealkit_builder.cache_tag import (
    CACHE_CONFIG,
    CACHE_CONFIG_DIGEST,
    CACHE_TYPE,
    cache_manifest,
    is_cache_tag,
    is_shared,
    layer_tag,
    lock_tag,
    read_cache_manifest,
)
from mealkit_builder.digest import digest_bytes
from mealkit_builder.layer import Layer

LETTER = "wheel/1/cp312/" + "a" * 64
DIGESTS = st.binary(min_size=1, max_size=4).map(digest_bytes)
LAYERS = st.builds(
    Layer,
    digest=DIGESTS,
    size=st.integers(1, 1 << 40),
    diff_id=DIGESTS,
    kind=st.sampled_from(["wheel", "wheels", "bytecode", "mealkit"]),
    key=st.text(min_size=1, max_size=30),
    title=st.text(max_size=30),
)


def test_names_are_tags_that_tell_themselves_from_users() -> None:
    for name in (layer_tag(LETTER), lock_tag([LETTER])):
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", name)
        assert is_cache_tag(name)
    for name in ("latest", "1.0.0", "mealkit-cache", "mealkit-cache-lock-x", layer_tag(LETTER) + "0"):
        assert not is_cache_tag(name)


def test_names_are_pinned_because_other_versions_of_mealkit_ask_for_them() -> None:
    assert layer_tag(LETTER) == "mealkit-cache-layer-ac4e524eacddf0407111653150ddbb095d674345"
    assert lock_tag([LETTER]) == "mealkit-cache-lock-ac4e524eacddf0407111653150ddbb095d674345"


def test_a_lock_is_named_by_its_wheels_in_any_order_whoever_compiled_them() -> None:
    keys = ["wheel/1/cp312/a", "wheels/1/cp312/b"]
    compiled = ["bytecode/1/cp312/3.12.1/zlib6.1/a", "bytecode/1/cp312/3.12.9/zlib6.2/b"]
    assert lock_tag(keys) == lock_tag([*reversed(keys), *compiled, "mealkit/1/x", "recipe/1/y"])
    assert lock_tag(keys) != lock_tag(keys[:1])
    assert lock_tag(keys) != lock_tag(["wheel/1/cp313/a", "wheels/1/cp313/b"])


def test_a_recipes_own_layer_is_nobody_elses() -> None:
    assert is_shared(LETTER)
    assert is_shared("mealkit/1/cp312/x")
    assert not is_shared("recipe/1/cp312/x")
    assert not is_shared("")


@given(st.lists(LAYERS, max_size=5, unique_by=lambda layer: layer.key))
def test_layers_come_back_as_they_went(layers: list[Layer]) -> None:
    data = cache_manifest(layers)
    assert read_cache_manifest(data) == {layer.key: layer for layer in layers}
    assert cache_manifest(reversed(layers)) == data


def test_a_manifest_names_a_config_that_exists() -> None:
    config = json.loads(cache_manifest([]))["config"]
    assert config == {"mediaType": CACHE_TYPE, "digest": CACHE_CONFIG_DIGEST, "size": len(CACHE_CONFIG)}
    assert digest_bytes(CACHE_CONFIG) == CACHE_CONFIG_DIGEST


GOOD = Layer(digest_bytes(b"a"), 7, digest_bytes(b"b"), kind="wheel", key=LETTER, title="a 1")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("digest",), "sha256:short"),
        (("digest",), None),
        (("size",), "many"),
        (("size",), 0),
        (("size",), -5),
        (("mediaType",), "application/x-sh"),
        (("annotations",), []),
        (("annotations",), None),
        (("annotations", "io.mealkit.layer.diff-id"), "sha256:"),
        (("annotations", "io.mealkit.layer.key"), ""),
    ],
)
def test_a_damaged_entry_tells_nothing(path: tuple[str, ...], value: object) -> None:
    document = json.loads(cache_manifest([GOOD]))
    place = document["layers"][0]
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert read_cache_manifest(json.dumps(document).encode()) == {}


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"config": null}', b'{"config": {"mediaType": "x"}, "layers": []}']
)
def test_what_is_no_cache_manifest_tells_nothing(data: bytes) -> None:
    assert read_cache_manifest(data) == {}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["config", "layers", "mediaType", "annotations", "digest", "size"]), inner
            )
        ),
    )
)
def test_any_document_is_read_without_an_error(value: object) -> None:
    document = {"config": {"mediaType": CACHE_TYPE}, "layers": value}
    assert isinstance(read_cache_manifest(json.dumps(document).encode()), dict)
