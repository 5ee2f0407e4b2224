"""Small images for tests, made of tar layers by the standard library."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from mealkit_builder.digest import digest_bytes
from mealkit_builder.image import Image, ImageConfig, append
from mealkit_builder.layer import Layer
from mealkit_builder.platform import Platform


@dataclass(frozen=True)
class Sample:
    """An image and the bytes of its layers."""

    image: Image
    blobs: Mapping[str, bytes]

    def open_layer(self, digest: str) -> BinaryIO:
        return io.BytesIO(self.blobs[digest])


def tiny_layer(name: str, data: bytes, kind: str = "recipe") -> tuple[Layer, bytes]:
    """A layer of one file."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    compressed = gzip.compress(raw.getvalue(), 6, mtime=0)
    layer = Layer(
        digest_bytes(compressed),
        len(compressed),
        digest_bytes(raw.getvalue()),
        kind=kind,
        key=f"test/{name}",
        title=name,
    )
    return layer, compressed


def sample(files: Mapping[str, bytes], platform: Platform | None = None) -> Sample:
    """An image with one layer a file."""
    made = [tiny_layer(name, data) for name, data in files.items()]
    config = ImageConfig(
        env=(("PATH", "/usr/bin"),),
        entrypoint=("/bin/true",),
        user="65532",
        working_dir="/",
        labels=(("org.opencontainers.image.title", "sample"),),
        created="2026-01-02T03:04:05Z",
    )
    image = append(Image(platform or Platform("linux", "amd64"), config=config), *(layer for layer, _ in made))
    return Sample(image, {layer.digest: data for layer, data in made})
