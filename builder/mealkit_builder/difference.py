"""The difference of two images: settings, specification, layers, packages and files, and nothing else opened."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from mealkit.spec import LABEL

from .image import Image, ImageConfig
from .layer import Layer
from .listing import Listed, list_layer, merge

OpenLayer = Callable[[str], BinaryIO]

_DIST_INFO = re.compile(r".*/site-packages/([^/]+?)-([^-/]+)\.dist-info/METADATA\Z")


@dataclass(frozen=True)
class Change:
    """One thing that differs; None on the side that has it not."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class FileChange:
    """A path that differs.

    Attributes:
        path: In the image.
        fields: What differs of an entry that both have, such as ``content`` or ``mode``; a lone ``path`` where only
            one side has it.
        owner: Whose file it is: the title of its layer.
    """

    path: str
    fields: tuple[Change, ...]
    owner: str


@dataclass(frozen=True)
class Difference:
    """What one image has otherwise than another.

    Attributes:
        settings: Fields of the configs: environment, entrypoint, user, labels …
        spec: Fields of the recipes' specifications, by dotted path.
        layers: Layers by title; sizes in bytes say how big each side's is.
        packages: Versions of Python distributions.
        files: Paths in the layers that only one of the images has.
        same_layers: How many layers both have.
        same_size: The bytes of those.
    """

    settings: tuple[Change, ...]
    spec: tuple[Change, ...]
    layers: tuple[Change, ...]
    packages: tuple[Change, ...]
    files: tuple[FileChange, ...]
    same_layers: int
    same_size: int

    @property
    def empty(self) -> bool:
        """Whether the images do not differ."""
        return not (self.settings or self.spec or self.layers or self.packages or self.files)

    def to_json(self) -> dict[str, Any]:
        """All of it, for machines."""
        return {"same": self.empty, **asdict(self)}


def compare_images(before: Image, after: Image, open_before: OpenLayer, open_after: OpenLayer) -> Difference:
    """Compare two images; only the layers that one of them has are opened.

    Args:
        before: One image.
        after: The other.
        open_before: Opens a layer of the one.
        open_after: Opens a layer of the other.

    Raises:
        RegistryError: a layer is damaged.
    """
    mine, theirs = {layer.digest for layer in before.layers}, {layer.digest for layer in after.layers}
    old = [(layer, open_before) for layer in before.layers if layer.digest not in theirs]
    new = [(layer, open_after) for layer in after.layers if layer.digest not in mine]
    old_tree, old_owner = _tree(old)
    new_tree, new_owner = _tree(new)
    same = [layer for layer in before.layers if layer.digest in theirs]
    settings = (
        [Change("platform", str(before.platform), str(after.platform))] if before.platform != after.platform else []
    )
    return Difference(
        settings=(*settings, *_changes(_settings(before.config), _settings(after.config))),
        spec=tuple(_changes(_spec(before.config), _spec(after.config))),
        layers=tuple(_changes(_titles([layer for layer, _ in old]), _titles([layer for layer, _ in new]))),
        packages=tuple(_changes(_packages(old_tree), _packages(new_tree))),
        files=tuple(_files(old_tree, new_tree, {**old_owner, **new_owner})),
        same_layers=len(same),
        same_size=sum(layer.size for layer in same),
    )


def first_difference(
    before: Image, after: Image, open_before: OpenLayer, open_after: OpenLayer
) -> tuple[str, str, Change]:
    """The first thing that makes two images differ, which are known to: ``(layer, path, field)``.

    Layers are compared in their order, entries in the order of the archives, and an entry's place counts too; what
    stands in the config alone comes last, with an empty layer and path.
    """
    pairs = [*zip(before.layers, after.layers, strict=False)]
    for one, other in pairs:
        if one.digest == other.digest:
            continue
        title = one.title or one.kind or one.digest
        if one.diff_id == other.diff_id:
            return title, "", Change("compression", one.digest, other.digest)
        if (one.title, one.kind) != (other.title, other.kind):
            return title, "", Change("title", one.title or one.kind, other.title or other.kind)
        with open_before(one.digest) as file, open_after(other.digest) as second:
            found = _first_entry([*list_layer(file, one)], [*list_layer(second, other)])
        return title, *(found or ("", Change("archive", one.diff_id, other.diff_id)))
    if len(before.layers) != len(after.layers):
        return "", "", Change("layers", str(len(before.layers)), str(len(after.layers)))
    for one, other in pairs:
        for change in _changes(_annotations(one), _annotations(other)):
            return one.title or one.digest, "", change
    settings = [*_changes(_settings(before.config), _settings(after.config))]
    settings += [*_changes(_spec(before.config), _spec(after.config))]
    settings.sort(key=lambda change: change.name in _DERIVED)
    return "", "", settings[0] if settings else Change("manifest", before.digest, after.digest)


def _annotations(layer: Layer) -> dict[str, str]:
    return {"key": layer.key, "kind": layer.kind, "title": layer.title, "media type": layer.media_type}


_DERIVED = ("label io.mealkit.recipe.source", "label io.mealkit.selection")
"""Settings that name others: where they differ, another tells more."""


def _first_entry(before: list[Listed], after: list[Listed]) -> tuple[str, Change] | None:
    other = {entry.path: entry for entry in after}
    mine = {entry.path for entry in before}
    for entry in before:
        if entry.path not in other:
            return entry.path, Change("path", entry.kind, None)
        for change in _changes(entry.fields(), other[entry.path].fields()):
            return entry.path, change
    for entry in after:
        if entry.path not in mine:
            return entry.path, Change("path", None, entry.kind)
    for place, (one, two) in enumerate(zip(before, after, strict=False)):
        if one.path != two.path:
            return one.path, Change("order", f"entry {place}: {one.path}", f"entry {place}: {two.path}")
    return None


def _tree(layers: list[tuple[Layer, OpenLayer]]) -> tuple[dict[str, Listed], dict[str, str]]:
    """Entries by path, and by path the title of the layer that they are of."""
    owners: dict[str, str] = {}

    def entries(layer: Layer, opened: OpenLayer) -> Iterator[Listed]:
        with opened(layer.digest) as file:
            for entry in list_layer(file, layer):
                owners[entry.path] = layer.title or layer.kind or layer.digest
                yield entry

    return merge(entries(layer, opened) for layer, opened in layers), owners


def _files(before: dict[str, Listed], after: dict[str, Listed], owners: Mapping[str, str]) -> Iterator[FileChange]:
    for path in sorted(before.keys() | after.keys()):
        one, other = before.get(path), after.get(path)
        if one is None or other is None:
            lone = Change("path", one.kind if one else None, other.kind if other else None)
            yield FileChange(path, (lone,), owners[path])
        elif changes := tuple(_changes(one.fields(), other.fields())):
            yield FileChange(path, changes, owners[path])


def _packages(tree: Mapping[str, Listed]) -> dict[str, str]:
    found = (_DIST_INFO.match(path) for path in tree)
    return {match[1].replace("_", "-").lower(): match[2] for match in found if match}


def _titles(layers: list[Layer]) -> dict[str, str]:
    """Layers by what they are, version left out, so that both sides' meet."""
    named: dict[str, str] = {}
    for layer in layers:
        title = layer.title or layer.kind or layer.digest[:19]
        name = re.sub(r"\b[0-9]+ small packages", "small packages", title)
        name = re.sub(r" [0-9][^ ]*\Z", "", name)
        while name in named:
            name += "'"
        named[name] = f"{title} ({layer.digest[:19]}, {layer.size:,} bytes)"
    return named


def _settings(config: ImageConfig) -> dict[str, str]:
    """The config's fields as text, the specification left out."""
    values = {f"env {name}": text for name, text in config.env}
    values |= {f"label {name}": text for name, text in config.labels if name != LABEL}
    for name in ("entrypoint", "cmd", "user", "working_dir", "stop_signal", "exposed_ports", "created"):
        value = getattr(config, name)
        if value:
            values[name.replace("_", " ")] = value if isinstance(value, str) else json.dumps(value)
    return values


def _spec(config: ImageConfig) -> dict[str, str]:
    text = config.label_map.get(LABEL)
    try:
        return dict(_flat("", json.loads(text))) if text else {}
    except ValueError:
        return {"": text or ""}


def _flat(name: str, value: object) -> Iterator[tuple[str, str]]:
    """A JSON value's leaves by dotted path."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}".lstrip("."), inner)
    elif isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value):
        for place, inner in enumerate(value):
            yield from _flat(f"{name}[{place}]", inner)
    else:
        yield name, json.dumps(value, ensure_ascii=False)


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Change]:
    """What differs between two mappings, in the order of the first, then of the second."""
    for name in dict.fromkeys((*before, *after)):
        one, other = before.get(name), after.get(name)
        if one != other:
            yield Change(name, one, other)
