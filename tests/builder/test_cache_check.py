"""``--verify-cache`` and ``--no-cache``: whoever says what is not so is found out, by layer, file and field."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import asdict, replace

import pytest
from workshop import Workshop

from mealkit_builder.build import build
from mealkit_builder.cache_check import CacheDiffersError
from mealkit_builder.cache_tag import cache_manifest, is_cache_tag, layer_tag, lock_tag, read_cache_manifest
from mealkit_builder.digest import digest_bytes
from mealkit_builder.image import MANIFEST, canonical_json
from mealkit_builder.layer import Layer
from mealkit_builder.progress import Silent
from mealkit_builder.testing import MemoryRegistry

WHERE = "team/tiny"


@pytest.fixture
def memory() -> Iterator[MemoryRegistry]:
    with MemoryRegistry() as one:
        yield one


class Noting(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def known(workshop: Workshop, kind: str = "wheels") -> Layer:
    """A layer in this machine's index."""
    (layer,) = (layer for layer in workshop.store.layers() if layer.kind == kind)
    return layer


def tampered(workshop: Workshop, kind: str = "wheels") -> tuple[Layer, bytes]:
    """A layer with the same key, in which a module says something else."""
    layer = known(workshop, kind)
    plain = gzip.decompress(workshop.store.blob_path(layer.digest).read_bytes())
    changed = plain.replace(b"NAME = 'pandas'", b"NAME = 'Pandas'")
    assert changed != plain
    data = gzip.compress(changed, mtime=0)
    return replace(layer, digest=digest_bytes(data), size=len(data), diff_id=digest_bytes(changed)), data


def put_into_the_last_image(memory: MemoryRegistry, layer: Layer, data: bytes) -> None:
    """Make the tag name an image in which the layer of this key is another one."""
    tag = memory.tag_digests[WHERE]
    document = json.loads(memory.manifests[WHERE][tag["latest"]][0])
    blobs = memory.blobs[WHERE]
    config = json.loads(blobs[document["config"]["digest"]])
    for place, one in enumerate(document["layers"]):
        if one.get("annotations", {}).get("io.mealkit.layer.key") == layer.key:
            document["layers"][place] = layer.descriptor()
            config["rootfs"]["diff_ids"][place] = layer.diff_id
    settings = canonical_json(config)
    document["config"] |= {"digest": digest_bytes(settings), "size": len(settings)}
    manifest = canonical_json(document)
    blobs |= {layer.digest: data, digest_bytes(settings): settings}
    memory.manifests[WHERE][digest_bytes(manifest)] = (manifest, MANIFEST)
    tag |= dict.fromkeys(("1.0.0", "latest"), digest_bytes(manifest))


def put_into_cache_tags(memory: MemoryRegistry, layer: Layer, data: bytes) -> None:
    memory.blobs[WHERE][layer.digest] = data
    for tag, digest in list(memory.tag_digests[WHERE].items()):
        if is_cache_tag(tag):
            told = read_cache_manifest(memory.manifests[WHERE][digest][0])
            if layer.key in told:
                manifest = cache_manifest((told | {layer.key: layer}).values())
                memory.manifests[WHERE][digest_bytes(manifest)] = (manifest, MANIFEST)
                memory.tag_digests[WHERE][tag] = digest_bytes(manifest)


def test_a_sound_cache_is_used_after_it_was_compared(workshop: Workshop, memory: MemoryRegistry) -> None:
    root, reporter = workshop.recipe(), Noting()
    first = workshop.build(root, f"{memory.host}/{WHERE}")
    record = build(workshop.request(root, f"{memory.host}/{WHERE}", verify_cache=True), reporter)
    assert record.digest == first.digest
    assert record.layers["reused"] == 4
    assert reporter.notes == ["4 known layers were made anew and compared: the same bytes"]
    assert not [path for path in workshop.store.root.iterdir() if path.name.startswith("checking-")]
    workshop.fresh().build(root, f"{memory.host}/{WHERE}", verify_cache=True)  # fetches the wheels for it


def test_what_nobody_knows_is_not_compared(workshop: Workshop, memory: MemoryRegistry) -> None:
    reporter = Noting()
    build(workshop.request(workshop.recipe(), f"{memory.host}/{WHERE}", verify_cache=True), reporter)
    assert reporter.notes[0].startswith("1 known layers")  # the recipe's, made just ahead


@pytest.mark.parametrize("where", ["index", "last", "tag"])
def test_a_layer_that_is_not_what_its_wheels_give_is_told_with_file_and_field(
    workshop: Workshop, memory: MemoryRegistry, where: str
) -> None:
    root = workshop.recipe()
    to = f"{memory.host}/{WHERE}"
    workshop.build(root, to)
    layer, data = tampered(workshop)
    honest = workshop
    if where == "index":
        workshop.store.add_blob(layer.digest, data)
        workshop.store.write_fact("layers", layer.key, asdict(layer))
    elif where == "last":
        put_into_the_last_image(memory, layer, data)
        honest = workshop.fresh()
    else:
        put_into_cache_tags(memory, layer, data)
        honest = workshop.fresh()
    tags = {"tags": ("branch",)} if where == "tag" else {}
    with pytest.raises(CacheDiffersError) as caught:
        honest.build(root, to, verify_cache=True, **tags)
    said = caught.value.message
    who = {"index": "this machine's index", "last": "the last image", "tag": "a cache tag"}[where]
    assert said.startswith(f"{who} has another layer '6 small packages' than its inputs give: the content of ")
    assert "/site-packages/pandas.py is " in said
    assert caught.value.where == layer.digest
    assert caught.value.exit_code == 6
    assert caught.value.hint
    assert memory.tags(WHERE) == {"1.0.0", "latest"}  # nothing was pushed


def test_a_layer_whose_bytes_on_the_disk_were_changed_is_told(workshop: Workshop) -> None:
    root = workshop.recipe()
    workshop.build(root)
    path = workshop.store.blob_path(known(workshop).digest)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    path.write_bytes(data)
    with pytest.raises(CacheDiffersError, match="does not have the bytes of its digest") as caught:
        workshop.build(root, f"oci:{workshop.folder / 'other'}", verify_cache=True)
    assert caught.value.where == str(path)


def test_a_wrong_diff_id_is_told(workshop: Workshop) -> None:
    root = workshop.recipe()
    workshop.build(root)
    layer = replace(known(workshop), diff_id=digest_bytes(b"something else"))
    workshop.store.write_fact("layers", layer.key, asdict(layer))
    with pytest.raises(CacheDiffersError, match="the diff ID is sha256:"):
        workshop.build(root, f"oci:{workshop.folder / 'other'}", verify_cache=True)


def test_without_the_cache_nothing_is_believed_and_the_tags_are_put_right(
    workshop: Workshop, memory: MemoryRegistry
) -> None:
    root = workshop.recipe()
    to = f"{memory.host}/{WHERE}"
    first = workshop.build(root, to)
    layer, data = tampered(workshop)
    put_into_the_last_image(memory, layer, data)
    put_into_cache_tags(memory, layer, data)
    workshop.store.add_blob(layer.digest, data)
    workshop.store.write_fact("layers", layer.key, asdict(layer))
    memory.forget()
    record = workshop.build(root, to, use_cache=False)
    assert record.digest == first.digest
    assert not [one for one in memory.seen if one.method == "GET"]
    assert workshop.store.known_layer(layer.key) != layer
    locked = [known(workshop, kind) for kind in ("wheels", "bytecode")]
    for tag, layers in ((layer_tag(layer.key), locked[:1]), (lock_tag(one.key for one in locked), locked)):
        told = read_cache_manifest(memory.manifests[WHERE][memory.tag_digests[WHERE][tag]][0])
        assert told == {one.key: one for one in layers}


def test_the_command_tells_the_two_apart(shop: Workshop) -> None:
    root = shop.recipe("compared")
    assert shop.mealkit("build", "-C", root).status == 0
    done = shop.mealkit("build", "-C", root, "--verify-cache")
    assert done.status == 0
    assert "known layers were made anew and compared: the same bytes" in done.err
    done = shop.mealkit("build", "-C", root, "--verify-cache", "--no-cache")
    assert done.status == 2
    assert "exclude each other" in done.err
