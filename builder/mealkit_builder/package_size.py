"""What each package weighs in an image: its files, their bytecode, and the layer that it came in."""

from __future__ import annotations

import csv
import io
import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from .image import Image
from .layer import Layer
from .listing import Listed, list_layer

OpenLayer = Callable[[str], BinaryIO]

_RECORD = re.compile(r"(?P<root>.*/site-packages)/(?P<name>[^/]+?)-(?P<version>[^-/]+)\.dist-info/RECORD\Z")
_CACHED = re.compile(r"(?P<folder>.*?)__pycache__/(?P<module>[^/]+?)\.[^./]+\.pyc\Z")
OURS = ("mealkit", "recipe")


@dataclass
class PackageSize:
    """A package in an image; sizes are unpacked bytes.

    Attributes:
        name: Of the distribution; of the layer for files that no distribution claims.
        version: Its version, or empty.
        kind: ``wheel``, ``mealkit``, ``recipe`` or ``other``.
        files: How many files, bytecode included.
        size: Bytes of its files.
        bytecode: Bytes of its bytecode, which are not in ``size``.
    """

    name: str
    version: str
    kind: str
    files: int = 0
    size: int = 0
    bytecode: int = 0

    @property
    def total(self) -> int:
        """All its bytes."""
        return self.size + self.bytecode


@dataclass(frozen=True)
class Weights:
    """What an image is made of.

    Attributes:
        packages: The heaviest first.
        base: Its layers, whose content is not looked into.
        base_size: Their compressed bytes.
        size: All compressed bytes.
    """

    packages: tuple[PackageSize, ...]
    base: int
    base_size: int
    size: int


def weigh(image: Image, open_layer: OpenLayer, on_layer: Callable[[Layer], None] = lambda layer: None) -> Weights:
    """The packages of an image; every layer above the base is read once.

    Args:
        image: What to weigh.
        open_layer: Opens a layer's compressed bytes.
        on_layer: Told of each layer before it is read.

    Raises:
        RegistryError: a layer is damaged.
    """
    base = [layer for layer in image.layers if layer.kind in ("", "base")]
    found: dict[tuple[str, str], PackageSize] = {}
    owners: dict[str, PackageSize] = {}
    entries: list[tuple[Layer, Listed]] = []
    for layer in image.layers:
        if layer in base:
            continue
        on_layer(layer)
        with open_layer(layer.digest) as file:
            for entry in list_layer(file, layer, lambda path: _RECORD.fullmatch(path) is not None):
                if entry.kind != "folder":
                    entries.append((layer, entry))
                if match := _RECORD.fullmatch(entry.path):
                    name, version = match["name"].replace("_", "-").lower(), match["version"]
                    kind = layer.kind if layer.kind in OURS else "wheel"
                    package = found.setdefault((name, version), PackageSize(name, version, kind))
                    owners |= dict.fromkeys(_recorded(entry.data, match["root"]), package)
    for layer, entry in entries:
        cached = _CACHED.fullmatch(entry.path)
        source = f"{cached['folder']}{cached['module']}.py" if cached else entry.path
        kind = layer.kind if layer.kind in OURS else "other"
        title = layer.title or layer.kind
        owner = owners.get(source) or found.setdefault((title, ""), PackageSize(title, "", kind))
        owner.files += 1
        if cached:
            owner.bytecode += entry.size
        else:
            owner.size += entry.size
    ordered = sorted(found.values(), key=lambda package: (-package.total, package.name))
    return Weights(tuple(ordered), len(base), sum(layer.size for layer in base), image.size)


def _recorded(record: bytes, root: str) -> Iterator[str]:
    """The paths in the image that a distribution's ``RECORD`` lists."""
    for row in csv.reader(io.StringIO(record.decode("utf-8", "replace"))):
        if row:
            yield posixpath.normpath(f"{root}/{row[0]}")
