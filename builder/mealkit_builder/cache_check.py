"""The check of the cache: makes layers anew that somebody says to know, and tells the first that is otherwise."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from mealkit._value import dataclass
from mealkit.errors import BuildError, MealkitError, NotFoundError, storage_error

from .difference import first_difference
from .digest import digest_file
from .download import Fetch
from .image import Image
from .ingredient import Ingredient
from .kitchen import Tally, cook
from .layer import Layer
from .platform import Platform
from .progress import Reporter
from .store import Store


class CacheDiffersError(BuildError):
    """A layer that a cache knows is not what its wheels or files give."""

    code = "cache-differs"


@dataclass(frozen=True)
class Claim:
    """What somebody says a key's layer is; ``by`` says who, as in *the last image says*."""

    by: str
    layer: Layer


def check_claims(
    claims: Mapping[str, Sequence[Claim]],
    gather: Callable[[Store], Sequence[Ingredient]],
    store: Store,
    open_elsewhere: Callable[[str], BinaryIO],
    reporter: Reporter,
) -> int:
    """Make every layer that is claimed to be known once more, from wheels and files alone, and compare.

    Args:
        claims: By key.
        gather: The image's ingredients, made in another store than the usual.
        store: The usual one: has wheels, and the layers of this machine's index.
        open_elsewhere: Opens a layer that is in the target.
        reporter: Told of downloads.

    Returns:
        How many layers were compared.

    Raises:
        CacheDiffersError: a layer differs; it names the layer, the file and the field.
        MealkitError: what making a layer raises.
    """
    try:
        store.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=store.root, prefix="checking-") as folder:
            return _check(claims, gather, store, Store(Path(folder)), open_elsewhere, reporter)
    except OSError as error:
        raise storage_error(error, "cannot check mealkit's cache", store.root) from error


def _check(
    claims: Mapping[str, Sequence[Claim]],
    gather: Callable[[Store], Sequence[Ingredient]],
    store: Store,
    scratch: Store,
    open_elsewhere: Callable[[str], BinaryIO],
    reporter: Reporter,
) -> int:
    wanted = [one for one in gather(scratch) if claims.get(one.key)]
    wheels = {wheel.sha256: wheel for one in wanted for wheel in one.wheels}
    fetch = Fetch(tuple(wheels.values()), store, lambda wheel, size: reporter.moved("download", size))
    reporter.expect("download", fetch.total)
    try:
        for wheel in wheels.values():
            path = scratch.blob_path(wheel.sha256)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(fetch.get(wheel).path or "")
    finally:
        fetch.close()
    layers = cook(wanted, {}, None, scratch, reporter, Tally(), use_cache=False)
    for made in layers:
        for claim in claims[made.key]:
            _compare(claim, made, store, scratch, open_elsewhere)
    return len(layers)


def _compare(
    claim: Claim, made: Layer, store: Store, scratch: Store, open_elsewhere: Callable[[str], BinaryIO]
) -> None:
    told, here = claim.layer, store.blob_path(claim.layer.digest)
    if (told.digest, told.size, told.diff_id) == (made.digest, made.size, made.diff_id):
        if claim.by == _INDEX and here.is_file() and digest_file(here) != told.digest:
            raise CacheDiffersError(
                f"the layer {made.title!r} in mealkit's cache does not have the bytes of its digest",
                where=str(here),
                hint="remove the file; is the disk sound?",
            )
        return
    if told.digest == made.digest:
        field, path, before, after = (
            ("size", "", str(told.size), str(made.size))
            if told.size != made.size
            else ("diff ID", "", told.diff_id, made.diff_id)
        )
    else:
        field, path, before, after = _difference(told, made, store, scratch, open_elsewhere)
    place = f"the {field}{f' of {path}' if path else ''}"
    raise CacheDiffersError(
        f"{claim.by} has another layer {made.title!r} than its inputs give: "
        f"{place} is {before} there, {after} made anew",
        where=told.digest,
        hint="build with --no-cache, which puts it right; then ask who may write there",
    )


def _difference(
    told: Layer, made: Layer, store: Store, scratch: Store, open_elsewhere: Callable[[str], BinaryIO]
) -> tuple[str, str, str, str]:
    """``(field, path, there, made anew)`` of the first thing that differs."""

    def open_told(digest: str) -> BinaryIO:
        return store.blob_path(digest).open("rb") if store.has_blob(digest) else open_elsewhere(digest)

    def alone(layer: Layer) -> Image:
        named = Layer(layer.digest, layer.size, layer.diff_id, layer.media_type, made.kind, made.key, made.title)
        return Image(Platform(), (named,))

    try:
        _, path, change = first_difference(
            alone(told), alone(made), open_told, lambda digest: scratch.blob_path(digest).open("rb")
        )
    except (MealkitError, OSError) as error:
        why = "is not there" if isinstance(error, NotFoundError | FileNotFoundError) else f"cannot be read ({error})"
        return "digest", "", f"{told.digest}, which {why}", made.digest
    return change.name, path, str(change.before), str(change.after)


_INDEX = "this machine's index"


def claims_of(
    ingredients: Sequence[Ingredient],
    last: Mapping[str, Layer],
    told: Mapping[str, tuple[Layer, str]],
    store: Store,
) -> dict[str, list[Claim]]:
    """Who says to know which of the ingredients.

    Args:
        ingredients: All that the image needs.
        last: The layers of the last image.
        told: What cache tags, or other images of a folder, tell.
        store: Has this machine's index.
    """
    claims: dict[str, list[Claim]] = {}
    for one in ingredients:
        found = [Claim("the last image", last[one.key])] if one.key in last else []
        if one.key in told:
            layer, by = told[one.key]
            found.append(Claim(f"a {by}" if by == "cache tag" else "another image of the folder", layer))
        known = store.known_layer(one.key)
        if known is not None:
            found.append(Claim(_INDEX, known))
        if found:
            claims[one.key] = found
    return claims
