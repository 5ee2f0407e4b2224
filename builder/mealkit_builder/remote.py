"""Reading an image from afar: its labels tell what it offers, without pulling a layer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from mealkit.errors import ProjectError
from mealkit.spec import LABEL, RecipeSpec

from .layout import Layout
from .location import open_location
from .platform import Platform, host_platform
from .pull import Pulled, find_image
from .registry import Repository
from .store import Store


@dataclass(frozen=True)
class RemoteImage:
    """An image that was read, not pulled.

    Attributes:
        url: By digest.
        spec: What the recipe offers.
        pulled: The image's documents.
    """

    url: str
    spec: RecipeSpec
    pulled: Pulled


@dataclass(frozen=True)
class OpenImage:
    """An image at the place where it is.

    Attributes:
        url: By digest.
        pulled: The image's documents.
        source: Where its layers are.
        store: Where some of them may be too.
    """

    url: str
    pulled: Pulled
    source: Repository | Layout
    store: Store | None = None

    def open_layer(self, digest: str) -> BinaryIO:
        """A layer's compressed bytes, from this machine when it has them."""
        if self.store is not None and self.store.has_blob(digest):
            return self.store.blob_path(digest).open("rb")
        return self.source.open_blob(digest)


@contextlib.contextmanager
def open_image(
    url: str, environment: Mapping[str, str], platform: Platform | None = None, store: Store | None = None
) -> Iterator[OpenImage]:
    """The image of a URL, any tool's: one request for the manifest, one for the config (and one for an index).

    Raises:
        NotFoundError: there is no such image.
    """
    source, location = open_location(url, environment)
    try:
        pulled = find_image(source, location.target, platform or host_platform(), source.name)
        yield OpenImage(source.url(pulled.digest), pulled, source, store)
    finally:
        source.close()


def inspect_image(url: str, environment: Mapping[str, str], platform: Platform | None = None) -> RemoteImage:
    """The recipe behind an image's URL, without its layers.

    Raises:
        NotFoundError: there is no such image.
        ProjectError: it is not a recipe's.
    """
    with open_image(url, environment, platform) as found:
        label = found.pulled.image.config.label_map.get(LABEL)
        if label is None:
            raise ProjectError(
                "the image is not a recipe's: it has no label " + LABEL,
                where=found.url,
                hint="name an image that mealkit built",
            )
        return RemoteImage(found.url, RecipeSpec.from_json(label), found.pulled)
