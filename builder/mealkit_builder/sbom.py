"""The SBOM of an image that is somewhere: the attached one if there is one, else what its documents tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mealkit.errors import UsageError

from .bill import make_bill
from .cyclonedx import from_cyclonedx, to_cyclonedx
from .dsse import Malformed
from .evidence import CYCLONEDX, SPDX
from .location import open_location
from .platform import Platform, host_platform
from .pull import find_image
from .referrer import Place, list_referrers, read_artifact
from .spdx import to_spdx

Format = Literal["cyclonedx", "spdx"]


@dataclass(frozen=True)
class Sbom:
    """An SBOM as bytes.

    Attributes:
        url: The image by digest.
        data: The JSON document.
        attached: Whether it is, or was made from, the one that is attached to the image.
    """

    url: str
    data: bytes
    attached: bool


def read_sbom(
    url: str, environment: Mapping[str, str], form: Format = "cyclonedx", platform: Platform | None = None
) -> Sbom:
    """The SBOM of an image in a registry or layout folder; no layer is pulled.

    An attached document is told as it is, whoever attached it: check it with ``mealkit verify`` before you trust it.

    Args:
        url: The image.
        environment: For credentials.
        form: The format.
        platform: Which image of an index; this machine's by default.

    Raises:
        NotFoundError: there is no such image.
        UsageError: the image has no list of packages that could be told: it is not one of ours.
    """
    place, location = open_location(url, environment)
    try:
        pulled = find_image(place, location.target, platform or host_platform(), place.name)
        where = place.url(pulled.manifest_digest)
        attached = _attached(place, pulled.manifest_digest)
        wanted = {"cyclonedx": CYCLONEDX, "spdx": SPDX}[form]
        if wanted in attached:
            return Sbom(where, attached[wanted], True)
        if form == "spdx" and CYCLONEDX in attached:
            try:
                return Sbom(where, to_spdx(from_cyclonedx(attached[CYCLONEDX])), True)
            except Malformed:
                pass  # another tool's document is not translated
        if "io.mealkit.version" not in pulled.image.config.label_map:
            raise UsageError(
                "the image has no SBOM, and is not one that mealkit built", where=where, hint="attach one, or scan it"
            )
        bill = make_bill(pulled.image, pulled.manifest_digest)
        return Sbom(where, to_spdx(bill) if form == "spdx" else to_cyclonedx(bill), False)
    finally:
        place.close()


def _attached(place: Place, digest: str) -> dict[str, bytes]:
    """The first attached document of each format."""
    found: dict[str, bytes] = {}
    for referrer in list_referrers(place, digest):
        if referrer.artifact_type in (CYCLONEDX, SPDX) and referrer.artifact_type not in found:
            data = read_artifact(place, referrer, digest)
            if data is not None:
                found[referrer.artifact_type] = data
    return found
