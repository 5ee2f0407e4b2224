"""Reading an image from afar: its labels tell what it offers, without pulling a layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mealkit.errors import NotFoundError, ProjectError
from mealkit.spec import LABEL, RecipeSpec

from .location import open_location
from .platform import Platform, host_platform
from .pull import Pulled, pull_image


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


def inspect_image(url: str, environment: Mapping[str, str], platform: Platform | None = None) -> RemoteImage:
    """The recipe behind an image's URL: one request for the manifest, one for the config (and one for an index).

    Raises:
        NotFoundError: there is no such image.
        ProjectError: it is not a recipe's.
    """
    source, location = open_location(url, environment)
    try:
        pulled = pull_image(source, location.target, platform or host_platform())
        if pulled is None:
            raise NotFoundError(
                f"there is no image {location.target!r}",
                where=source.name,
                hint="check the tag or digest; was it pushed?",
            )
        label = pulled.image.config.label_map.get(LABEL)
        if label is None:
            raise ProjectError(
                "the image is not a recipe's: it has no label " + LABEL,
                where=source.url(pulled.digest),
                hint="name an image that mealkit built",
            )
        return RemoteImage(source.url(pulled.digest), RecipeSpec.from_json(label), pulled)
    finally:
        source.close()
