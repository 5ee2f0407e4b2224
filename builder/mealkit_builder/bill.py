"""The bill of materials: what an image is made of, as values; the formats are in ``cyclonedx`` and ``spdx``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote, urlsplit

from mealkit.errors import UsageError
from mealkit.spec import LABEL

from .assembly import BASE_PYTHON_LABEL, PACKAGES_LABEL
from .image import Image
from .layer import Layer
from .reference import Reference, parse_location
from .wheel import WheelFile

Kind = Literal["recipe", "mealkit", "wheel", "python", "base", "debian"]

_TITLE = "org.opencontainers.image.title"
_VERSION = "org.opencontainers.image.version"


@dataclass(frozen=True)
class Component:
    """One thing in an image.

    Attributes:
        kind: What it is to the image.
        name: Its name.
        version: Its version; empty where it has none.
        purl: Its package URL.
        sha256: Of the wheel, or of the base's manifest, as 64 hexadecimal digits; empty where it is not known.
        licence: An SPDX expression, or the words of its metadata; empty where it is not known.
        layer: The digest of the layer that it is in; empty for what is in the base.
    """

    kind: Kind
    name: str
    version: str
    purl: str
    sha256: str = ""
    licence: str = ""
    layer: str = ""


@dataclass(frozen=True)
class Bill:
    """What an image of one platform is made of.

    Attributes:
        name: The recipe's name.
        version: Its version.
        digest: The image's manifest.
        platform: What it runs on.
        created: The image's time.
        builder: mealkit's version.
        components: Sorted; the base and Python first.
        complete: Whether what the base has was looked into.
    """

    name: str
    version: str
    digest: str
    platform: str
    created: str
    builder: str
    components: tuple[Component, ...] = field(default=(), repr=False)
    complete: bool = False


@dataclass(frozen=True)
class Debian:
    """A package of the base's distribution, as dpkg's status has it."""

    name: str
    version: str
    architecture: str
    distribution: str = "debian"
    release: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Known:
    """What a builder knows of a wheel beyond what its image tells.

    Attributes:
        sha256: Of the wheel file.
        licence: See :class:`Component`.
        purl: Its package URL, where it is not one of the index.
    """

    sha256: str = ""
    licence: str = ""
    purl: str = ""


def make_bill(
    image: Image,
    digest: str,
    *,
    wheels: Mapping[tuple[str, str], Known] | None = None,
    debian: Sequence[Debian] | None = None,
    python: str = "",
) -> Bill:
    """The bill of an image, from its config and its layers' annotations.

    Args:
        image: Its documents.
        digest: Of its manifest.
        wheels: By name and version, what is known of wheels.
        debian: The base's packages; None where nobody looked.
        python: The version of its Python, where the image itself does not tell.
    """
    labels = image.config.label_map
    components = [*_base(labels), *_python(image, labels, python)]
    components += [Component("debian", one.name, one.version, debian_purl(one), one.sha256) for one in debian or ()]
    components += _own(image, labels)
    components += _wheels(image, labels, wheels or {})
    order = ("base", "python", "debian", "mealkit", "recipe", "wheel")
    return Bill(
        name=labels.get(_TITLE) or "image",
        version=labels.get(_VERSION) or "",
        digest=digest,
        platform=str(image.platform),
        created=image.config.created,
        builder=labels.get("io.mealkit.version") or "",
        components=tuple(sorted(components, key=lambda one: (order.index(one.kind), one.name, one.version))),
        complete=debian is not None,
    )


def pypi_purl(name: str, version: str) -> str:
    """The package URL of a Python distribution."""
    return f"pkg:pypi/{quote(name.lower().replace('_', '-'), safe='')}@{quote(version, safe='.')}"


def wheel_purl(wheel: WheelFile) -> str:
    """The package URL of a wheel: of the index, of the git commit that it was built from, or of a folder's build."""
    origin = wheel.origin
    if origin is None or origin.kind == "sdist":
        return pypi_purl(wheel.name, wheel.version)
    if origin.kind == "folder":
        return f"pkg:generic/{quote(wheel.name, safe='')}@{quote(wheel.version, safe='.')}"
    address = plain_remote(origin.address)
    told = f"git+{address}@{origin.fixed}" if address else f"git+{origin.fixed}"
    return f"{pypi_purl(wheel.name, wheel.version)}?vcs_url={quote(told, safe='')}"


def plain_remote(remote: str) -> str:
    """A remote's address without user, password, query and fragment; empty for a path of this machine."""
    remote = remote.strip().removeprefix("git+")
    head, colon, path = remote.partition(":")
    if colon and "@" in head and "/" not in head and not path.startswith("//"):
        remote = f"ssh://{head.rpartition('@')[2]}/{path}"  # git@host:team/recipe.git
    try:
        parts = urlsplit(remote)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return ""
    if parts.scheme not in ("https", "http", "ssh", "git") or not parts.hostname:
        return ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"


def oci_purl(name: str, digest: str) -> str:
    """The package URL of an image (purl specification, "oci"); a base that is in no registry is a generic one."""
    try:
        location = parse_location(name)
    except UsageError:
        location = None
    if not isinstance(location, Reference):
        return f"pkg:generic/{quote(name.partition(':')[0] or 'base', safe='')}?checksum={digest}"
    tag = f"&tag={location.tag}" if location.tag else ""
    short = location.repository.rpartition("/")[2].lower()
    return f"pkg:oci/{short}@{quote(digest, safe='')}?repository_url={quote(location.name, safe='/')}{tag}"


def _base(labels: Mapping[str, str]) -> Iterator[Component]:
    name = labels.get("org.opencontainers.image.base.name")
    digest = labels.get("org.opencontainers.image.base.digest", "")
    if name:
        yield Component("base", name, "", oci_purl(name, digest), digest.removeprefix("sha256:"))


def _python(image: Image, labels: Mapping[str, str], known: str) -> Iterator[Component]:
    try:
        told = json.loads(labels.get(BASE_PYTHON_LABEL, ""))
        version = str(told.get("version") or told["minor"])
    except (ValueError, KeyError, AttributeError):
        version = known or image.config.environment.get("PYTHON_VERSION", "")
    if version:
        yield Component("python", "python", version, f"pkg:generic/python@{version}")


def _own(image: Image, labels: Mapping[str, str]) -> Iterator[Component]:
    builder = labels.get("io.mealkit.version")
    layers = {layer.kind: layer.digest for layer in image.layers}
    if builder:
        for name in ("mealkit", "mealkit-runtime"):
            yield Component("mealkit", name, builder, f"pkg:generic/{name}@{builder}", layer=layers.get("mealkit", ""))
    name, version = labels.get(_TITLE, ""), labels.get(_VERSION, "")
    if name and LABEL in labels:
        purl = f"pkg:generic/{quote(name, safe='')}" + (f"@{quote(version, safe='.')}" if version else "")
        yield Component("recipe", name, version, purl, layer=layers.get("recipe", ""))


def _wheels(
    image: Image,
    labels: Mapping[str, str],
    wheels: Mapping[tuple[str, str], Known],
) -> Iterator[Component]:
    own = {layer.title: layer for layer in image.layers if layer.kind == "wheel"}
    rest = next((layer.digest for layer in image.layers if layer.kind == "wheels"), "")
    for name, version in installed(labels, image.layers):
        layer = own.get(f"{name} {version}")
        known = wheels.get((name, version), Known())
        purl = known.purl or pypi_purl(name, version)
        where = layer.digest if layer is not None else rest
        yield Component("wheel", name, version, purl, known.sha256, known.licence, where)


def installed(labels: Mapping[str, str], layers: Iterable[Layer] = ()) -> tuple[tuple[str, str], ...]:
    """Names and versions of an image's wheels: by its label, else only those that have a layer of their own."""
    if PACKAGES_LABEL in labels:
        pairs = [text.partition("==") for text in labels[PACKAGES_LABEL].split()]
    else:
        pairs = [layer.title.partition(" ") for layer in layers if layer.kind == "wheel"]
    return tuple((name, version) for name, _, version in pairs)


def debian_purl(package: Debian) -> str:
    """The package URL of a package of the distribution."""
    purl = f"pkg:deb/{package.distribution}/{quote(package.name, safe='')}@{quote(package.version, safe='.')}"
    purl += f"?arch={package.architecture}"
    return purl + (f"&distro={package.distribution}-{package.release}" if package.release else "")
