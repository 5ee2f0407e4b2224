"""The pushes of the fault tests: small random images that share layers, move tags and mount from one another."""

from __future__ import annotations

import io
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from mealkit_builder.digest import digest_bytes
from mealkit_builder.image import Image, ImageConfig, append
from mealkit_builder.layer import Layer
from mealkit_builder.platform import Platform

_TAGS = ("latest", "1", "2")


@dataclass(frozen=True)
class Push:
    """One push of a workload.

    Attributes:
        repository: Where to.
        image: What.
        tags: Which names it gets.
        mounts: For a layer's digest, another repository that may have it.
        blobs: The bytes of the layers.
    """

    repository: str
    image: Image
    tags: tuple[str, ...]
    mounts: Mapping[str, str]
    blobs: Mapping[str, bytes]

    def open_layer(self, digest: str) -> BinaryIO:
        return io.BytesIO(self.blobs[digest])


class Workload:
    """A source of pushes; the same seed gives the same ones.

    Attributes:
        prefix: The first part of the repositories' names.
        repositories: Where the pushes go.
    """

    def __init__(self, seed: int, prefix: str) -> None:
        self.prefix = prefix
        self.repositories = tuple(f"{prefix}/recipe{number}" for number in range(4))
        self._random = random.Random(seed)
        self._made: list[Layer] = []
        self._blobs: dict[str, bytes] = {}
        self._where: dict[str, str] = {}

    def next(self) -> Push:
        """The next push: one to three layers, old and new, on one to two tags."""
        chance = self._random
        repository = chance.choice(self.repositories)
        old = chance.sample(self._made, min(len(self._made), chance.randint(0, 2)))
        layers = [*old, *(self._layer() for _ in range(chance.randint(1, 2)))]
        mounts = {}
        for layer in layers:
            # Most mounts name a repository that had the layer; some one that never did.
            source = self._where.get(layer.digest) if chance.random() < 0.8 else chance.choice(self.repositories)
            if source and source != repository:
                mounts[layer.digest] = source
            self._where[layer.digest] = repository
        config = ImageConfig(env=(("N", str(chance.random())),), entrypoint=("/bin/true",))
        image = append(Image(Platform("linux", "amd64"), config=config), *layers)
        tags = tuple(chance.sample(_TAGS, chance.randint(1, 2)))
        return Push(repository, image, tags, mounts, self._blobs)

    def _layer(self) -> Layer:
        """A new layer: mostly small, now and then more than what a socket buffers or a push sends unasked."""
        size = self._random.choice((1, 700, 5_000, 20_000, 20_000, 400_000))
        data = self._random.randbytes(size)
        digest = digest_bytes(data)
        layer = Layer(digest, size, digest, kind="recipe", key=f"test/{digest}", title="random")
        self._blobs[digest] = data
        self._made.append(layer)
        return layer
