"""Layers packed in other ways have the same diff IDs, and are read by whoever knows the way."""

from __future__ import annotations

import json
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from workshop import Workshop

from mealkit.errors import UsageError
from mealkit_builder import compression
from mealkit_builder.image import Image
from mealkit_builder.layer import GZIP_LAYER
from mealkit_builder.layout import Layout
from mealkit_builder.pull import pull_image
from mealkit_builder.testing import MemoryRegistry


@pytest.fixture
def memory() -> Iterator[MemoryRegistry]:
    with MemoryRegistry() as one:
        yield one


def image(layout: Layout, tag: str) -> Image:
    pulled = pull_image(layout, tag)
    assert pulled is not None
    return pulled.image


def own_layers(one: Image) -> list[bool]:
    return [layer.kind != "base" for layer in one.layers]


def members(data: bytes) -> int:
    count = 0
    while data:
        inflater = zlib.decompressobj(31)
        inflater.decompress(data)
        data, count = inflater.unused_data, count + 1
    return count


def test_each_way_gives_the_same_content_and_is_read(workshop: Workshop, tmp_path: Path) -> None:
    root = workshop.recipe()
    layout = Layout(tmp_path / "images")
    for way in ("splice", "gzip", "zstd"):
        workshop.build(root, f"oci:{layout.folder}:{way}", compression=way)
    spliced, gzip, zstd = (image(layout, way) for way in ("splice", "gzip", "zstd"))
    contents = [layer.diff_id for layer in spliced.layers]
    for one, media_type in ((gzip, GZIP_LAYER), (zstd, "application/vnd.oci.image.layer.v1.tar+zstd")):
        assert [layer.diff_id for layer in one.layers] == contents
        ours = [layer for layer, own in zip(one.layers, own_layers(one), strict=True) if own]
        assert {layer.media_type for layer in ours} == {media_type}
        assert not {layer.key for layer in ours} & {layer.key for layer in spliced.layers}
        assert not {layer.digest for layer in ours} & {layer.digest for layer in spliced.layers}
        assert one.config.label_map[compression.LABEL] in ("gzip", "zstd")
    assert compression.LABEL not in spliced.config.label_map
    for before, single, frame in zip(spliced.layers[1:], gzip.layers[1:], zstd.layers[1:], strict=True):
        data = [layout.get_blob(layer.digest) for layer in (before, single, frame)]
        plain = zlib.decompress(data[1], 31)
        assert members(data[1]) == 1 < members(data[0])
        assert zstandard.ZstdDecompressor().decompressobj().decompress(data[2]) == plain


def test_skopeo_and_umoci_read_one_gzip_member(workshop: Workshop, tmp_path: Path) -> None:
    root = workshop.recipe()
    folder = tmp_path / "images"
    for way in ("gzip", "zstd"):
        workshop.build(root, f"oci:{folder}:{way}", compression=way)
        # skopeo unpacks each layer for a folder, where its diff ID is its name; a docker archive cannot hold zstd.
        folder_way = ("--dest-decompress", f"oci:{folder}:{way}", f"dir:{tmp_path}/{way}")
        subprocess.run(["skopeo", "copy", "--quiet", *folder_way], check=True, timeout=60)
        for layer in image(Layout(folder), way).layers:
            assert (tmp_path / way / layer.diff_id.removeprefix("sha256:")).is_file()
    target = f"docker-archive:{tmp_path}/gzip.tar"
    subprocess.run(["skopeo", "copy", "--quiet", f"oci:{folder}:gzip", target], check=True, timeout=60)
    command = ["umoci", "unpack", "--rootless", "--image", f"{folder}:gzip", str(tmp_path / "bundle")]
    subprocess.run(command, check=True, timeout=60, capture_output=True)
    assert list((tmp_path / "bundle" / "rootfs").rglob("tiny/model.py"))


def test_known_layers_are_not_packed_again_and_ways_do_not_mix(workshop: Workshop, memory: MemoryRegistry) -> None:
    root = workshop.recipe()
    to = f"{memory.host}/team/tiny"
    spliced = workshop.build(root, to)
    packed = workshop.build(root, to, compression="gzip")
    assert packed.layers["uploaded"] == 4
    again = workshop.build(root, to, compression="gzip")
    assert (again.digest, again.layers["reused"]) == (packed.digest, 4)
    assert workshop.fresh().build(root, to, compression="gzip").digest == packed.digest
    assert workshop.fresh("third").build(root, to).digest == spliced.digest


def test_without_the_library_zstd_is_refused_with_a_hint(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    with pytest.raises(UsageError, match="zstandard") as caught:
        workshop.build(workshop.recipe(), compression="zstd")
    assert "mealkit-builder[zstd]" in str(caught.value.hint)


def test_the_command_takes_the_option(workshop: Workshop) -> None:
    root = workshop.recipe()
    done = workshop.mealkit("build", "--compression", "gzip", "--json", cwd=root)
    assert done.status == 0, done.err
    pulled = pull_image(Layout(root / ".mealkit" / "images"), json.loads(done.out)["url"].rpartition("@")[2])
    assert pulled is not None
    assert pulled.image.config.label_map[compression.LABEL] == "gzip"
