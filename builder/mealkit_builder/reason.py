"""The reason for a layer: what changed since the last image, so that it has to move."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import BinaryIO

import mealkit
from mealkit.errors import MealkitError

from .assembly import BASE_PYTHON_LABEL, PACKAGES_LABEL
from .image import Image
from .ingredient import RECIPE_FILE, Ingredient
from .layer import Layer
from .listing import list_layer

OpenLayer = Callable[[str], BinaryIO]

_MOST_NAMED = 4
_MOST_READ = 8 << 20  # bytes of a recipe's old layer that are read to tell what changed
_SITE = re.compile(r".*/site-packages/")


class Reasons:
    """Tells why an image needs a layer that the last one does not have.

    Args:
        last: The last image; None: there is none.
        packages: Those of the new image, as ``name==version``.
        python: The version of the new base's Python, as the label of the last image has it.
        open_old: Opens a layer of the last image.
        open_new: Opens a layer that was made here.
    """

    def __init__(
        self,
        last: Image | None,
        packages: Sequence[str],
        python: str,
        open_old: OpenLayer,
        open_new: OpenLayer,
    ) -> None:
        self._last = last
        self._labels = last.config.label_map if last is not None else {}
        self._old = _packages(self._labels.get(PACKAGES_LABEL, "").split())
        self._new = _packages(packages)
        self._python = python
        self._open_old, self._open_new = open_old, open_new

    def why(self, one: Ingredient, made: Layer | None) -> str:
        """Why an ingredient is not in the last image; ``made`` is its layer, if that is known."""
        if self._last is None:
            return "no earlier image"
        kind = one.key.partition("/")[0]
        if kind == "recipe":
            return self._recipe(one, made)
        if kind == "mealkit":
            before = self._labels.get("io.mealkit.version", "")
            if before != mealkit.__version__:
                return f"mealkit {before or '?'} → {mealkit.__version__}"
            return self._other_python() or "mealkit's own files changed"
        if kind not in ("wheel", "wheels", "bytecode"):
            return "the base's packages changed"
        return self._packages(one)

    def base(self, name: str, digest: str) -> str:
        """Why a layer of the base is not there."""
        if self._last is None:
            return "no earlier image"
        before = self._labels.get("org.opencontainers.image.base.digest", "")
        if before == digest:
            return "the repository lacks it"
        other = self._labels.get("org.opencontainers.image.base.name", "")
        named = f"{other} → {name}" if other != name else f"{name} is another image now"
        return f"base changed: {named} ({before[:19] or 'none'} → {digest[:19]})"

    def _other_python(self) -> str:
        before = self._labels.get(BASE_PYTHON_LABEL, "")
        return "the base's Python changed" if before and before != self._python else ""

    def _packages(self, one: Ingredient) -> str:
        """What changed among some wheels."""
        if not self._old:
            return "the last image does not tell its packages"
        changes = []
        for wheel in one.wheels:
            before = self._old.get(wheel.name)
            if before is None:
                changes.append(f"new wheel: {wheel.name} {wheel.version}")
            elif before != wheel.version:
                changes.append(f"{wheel.name} {before} → {wheel.version}")
        if len(one.wheels) > 1 or not changes:
            changes += [f"no longer: {name} {version}" for name, version in self._old.items() if name not in self._new]
        if changes:
            return _few(changes)
        if self._other_python():
            return self._other_python()
        if one.compiles:
            return "another Python compiles it, or another libdeflate packs it"
        return "other files of the same versions, or other settings for them"

    def _recipe(self, one: Ingredient, made: Layer | None) -> str:
        """Which files of the recipe changed."""
        assert self._last is not None
        old = [layer for layer in self._last.layers if layer.kind == "recipe"]
        if "/" in one.title or one.title.endswith(".py"):  # a layer of one file
            return f"{'source changed' if any(o.title == one.title for o in old) else 'new file'}: {one.title}"
        name = one.title.rpartition(" ")[0]
        before = next((layer for layer in old if layer.title.rpartition(" ")[0] == name), None)
        if before is None:
            return "another recipe"
        if before.title != one.title:
            return f"version {before.title.rpartition(' ')[2]} → {one.title.rpartition(' ')[2]}"
        if made is None or before.size > _MOST_READ:
            return "source changed"
        try:
            with self._open_old(before.digest) as file:
                there = _contents(file, before)
            with self._open_new(made.digest) as file:
                here = _contents(file, made)
        except (MealkitError, OSError):
            return "source changed"
        changes = [
            f"{'new file' if path not in there else 'source changed' if path in here else 'file removed'}: {path}"
            for path in sorted({*there, *here})
            if there.get(path) != here.get(path)
        ]
        specified = RECIPE_FILE.strip("/")
        plain = [text for text in changes if not text.endswith(specified) and ".dist-info/" not in text]
        if any(text.endswith(specified) for text in changes):
            plain.append("the specification changed")
        if not plain and changes:
            listed = all(text.endswith(".dist-info/RECORD") for text in changes)
            return "its RECORD lists what changed" if listed else "the metadata changed"
        if not plain:
            return "it is compiled or packed in another way"
        return _few(plain)


def _contents(file: BinaryIO, layer: Layer) -> dict[str, str]:
    """Hashes of a recipe's files by path below ``site-packages``; what is made of them is left out."""
    found = {_SITE.sub("", entry.path): entry.content for entry in list_layer(file, layer) if entry.kind == "file"}
    return {path: content for path, content in found.items() if not path.endswith(".pyc")}


def _packages(texts: Iterable[str]) -> dict[str, str]:
    parted = (text.partition("==") for text in texts)
    return {name: version for name, _, version in parted}


def _few(changes: Sequence[str]) -> str:
    more = len(changes) - _MOST_NAMED
    return ", ".join(changes[:_MOST_NAMED]) + (f", and {more} more" if more > 0 else "")
