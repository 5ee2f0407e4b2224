"""Rebuilding: makes an image again from what it records of its inputs, and tells whether the bytes are the same."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import mealkit
from mealkit.errors import BuildError, NotFoundError, UsageError
from mealkit.spec import LABEL

from .build import BuildRequest, build
from .compression import COMPRESSIONS, Compression
from .compression import LABEL as COMPRESSION_LABEL
from .debian.pin import PINS_NAME
from .difference import Change, first_difference
from .image import Image
from .layout import Layout
from .lock import LOCK_NAME
from .parse import is_index, json_object
from .platform import Platform, parse_platform
from .progress import Reporter, Silent
from .pull import Pulled, pull_image
from .reference import LayoutLocation, Reference, parse_location
from .remote import open_image

_DIRTY = "-dirty"


class NotReproducedError(BuildError):
    """The image was made again from its recorded inputs, and came out otherwise."""

    code = "not-reproduced"


@dataclass(frozen=True)
class Rebuilt:
    """What a rebuild found.

    Attributes:
        url: The image that was checked.
        digest: Its digest.
        rebuilt: The digest that came out.
        revision: The commit that it was rebuilt from; empty: the folder as it is.
        notes: What could not be taken from the record, and so was taken from here.
        platform: The first platform whose image differs; empty when all are the same.
        layer: The first layer that differs; empty when only the image's settings do.
        path: The first file in it.
        change: The field of it, with both values.
    """

    url: str
    digest: str
    rebuilt: str
    revision: str
    notes: tuple[str, ...] = ()
    platform: str = ""
    layer: str = ""
    path: str = ""
    change: Change | None = None

    @property
    def same(self) -> bool:
        """Whether the digests are the same."""
        return self.digest == self.rebuilt

    def to_json(self) -> dict[str, Any]:
        """All of it, for machines."""
        return {"same": self.same, **asdict(self)}

    def check(self) -> None:
        """Do nothing when the bytes are the same.

        Raises:
            NotReproducedError: they are not; it names the first layer, file and field.
        """
        if self.same:
            return
        assert self.change is not None
        place = " of ".join(part for part in (self.path, self.layer and f"layer {self.layer!r}") if part)
        raise NotReproducedError(
            f"rebuilding gives {self.rebuilt}, not {self.digest}: the first difference is the "
            f"{self.change.name} of {place or 'the image'}: {self.change.before} there, {self.change.after} here",
            where=self.url,
            hint="; ".join(self.notes) or "the image was not made from these inputs, or not by this version of mealkit",
        )


def verify_rebuild(url: str, folder: Path, environment: Mapping[str, str], reporter: Reporter | None = None) -> Rebuilt:
    """Make an image again and compare its digest; where it differs, find the first layer, file and field.

    The inputs are those that the image records: the commit of its source, which is checked out of the git repository
    that ``folder`` is in, its time, the base by its digest, the platforms, and whether it has bytecode. The lock is the
    commit's; where it has none, the folder's. An image of no commit, or of changed files, is made from the folder as it
    is. No layer is taken from a cache.

    Args:
        url: The image.
        folder: The recipe's project.
        environment: For credentials, caches and git.
        reporter: Told of stages.

    Raises:
        NotFoundError: there is no such image, or the commit is not in the repository.
        UsageError: the image was not built by mealkit.
        MealkitError: what a build raises.
    """
    reporter = reporter or Silent()
    url, digest, pulled = _platforms(url, environment)
    folder = folder.resolve()
    image = pulled[0].image
    labels = image.config.label_map
    if LABEL not in labels:
        raise UsageError("the image was not built by mealkit: it has no recipe", where=url, hint="name another image")
    notes = _version_notes(labels)
    with tempfile.TemporaryDirectory(prefix="mealkit-rebuild-") as temporary:
        reporter.stage("checking out the source")
        with _source(folder, labels, Path(temporary), environment, notes) as (source, revision):
            request = BuildRequest(
                project=source,
                to=f"oci:{temporary}/image",
                tags=("rebuilt",),
                base_pin=_pinned(labels),
                base=labels.get("org.opencontainers.image.base.name"),
                platforms=tuple(str(one.image.platform) for one in pulled),
                bytecode=labels.get("io.mealkit.bytecode") == "true",
                compression=_compression(labels),
                use_cache=False,
                keep_record=False,
                environment={**environment, "SOURCE_DATE_EPOCH": _epoch(image)},
            )
            made = build(request, reporter)
        found = Rebuilt(url, digest, made.digest, revision, tuple(notes))
        if found.same:
            return found
        return _explain(found, pulled, Layout(Path(temporary) / "image"), url, environment)


def _compression(labels: Mapping[str, str]) -> Compression:
    """How the image says that its layers are compressed."""
    told = labels.get(COMPRESSION_LABEL, "splice")
    if told not in COMPRESSIONS:
        raise UsageError(f"the image's layers are compressed in an unknown way: {told}", hint="use a newer mealkit")
    return cast("Compression", told)


def _explain(
    found: Rebuilt, pulled: list[Pulled], rebuilt: Layout, url: str, environment: Mapping[str, str]
) -> Rebuilt:
    """The first difference, platform by platform."""
    for one in pulled:
        platform = one.image.platform
        other = pull_image(rebuilt, found.rebuilt, platform)
        if other is None or other.manifest_digest == one.manifest_digest:
            continue
        with open_image(url, environment, platform) as there:
            layer, path, change = first_difference(
                one.image, other.image, there.open_layer, rebuilt.open_blob
            )  # fmt: skip
        return replace(found, platform=str(platform), layer=layer, path=path, change=change)
    # Every platform's image is the same, and so only the document around them can differ.
    return replace(found, change=Change("index", found.digest, found.rebuilt))


def _platforms(url: str, environment: Mapping[str, str]) -> tuple[str, str, list[Pulled]]:
    """The URL by digest, the digest that it names, and the image of each of its platforms."""
    from .location import open_location

    source, location = open_location(url, environment)
    try:
        document = source.get_manifest(location.target)
        if document is None:
            raise NotFoundError(
                f"there is no image {location.target!r}",
                where=source.name,
                hint="check the tag or digest; was it pushed?",
            )
        data, media_type, digest = document
        platforms: list[Platform | None] = [None]
        if is_index(media_type):
            platforms = [
                parse_platform("/".join(entry["platform"][name] for name in _FIELDS if entry["platform"].get(name)))
                for entry in json_object(data, "index")["manifests"]
                if (entry.get("platform") or {}).get("os") == "linux"
            ]
        pulled = [pull_image(source, digest, platform) for platform in platforms]
        return source.url(digest), digest, [one for one in pulled if one is not None]
    finally:
        source.close()


_FIELDS = ("os", "architecture", "variant")


def _version_notes(labels: Mapping[str, str]) -> list[str]:
    version = labels.get("io.mealkit.version", "an unknown version")
    if version == mealkit.__version__:
        return []
    return [f"the image was built by mealkit {version}, this is {mealkit.__version__}"]


def _epoch(image: Image) -> str:
    return str(int(datetime.fromisoformat(image.config.created).timestamp()))


def _pinned(labels: Mapping[str, str]) -> str | None:
    """The recorded base by its digest; None where a base has no digest that one could ask for."""
    name, digest = labels.get("org.opencontainers.image.base.name"), labels.get("org.opencontainers.image.base.digest")
    if not name or not digest:
        return None
    location = parse_location(name)
    if isinstance(location, Reference | LayoutLocation):
        return str(replace(location, tag="", digest=digest))
    return None


@contextlib.contextmanager
def _source(
    folder: Path, labels: Mapping[str, str], temporary: Path, environment: Mapping[str, str], notes: list[str]
) -> Iterator[tuple[Path, str]]:
    """The recipe's folder as it was when the image was made, and its commit.

    Raises:
        NotFoundError: the commit is not in the repository.
    """
    recorded = labels.get("org.opencontainers.image.revision", "")
    if not recorded or recorded.endswith(_DIRTY):
        why = "records no commit" if not recorded else f"was made from changed files (of {recorded[:12]})"
        notes.append(f"the image {why}: rebuilt from {folder} as it is")
        yield folder, ""
        return
    top = _git(folder, environment, "rev-parse", "--show-toplevel")
    if top is None:
        notes.append(f"{folder} is in no git repository: the image's commit {recorded[:12]} cannot be checked out")
        yield folder, ""
        return
    repository = Path(top)
    checkout = temporary / "source"
    # A clone that shares the objects: the user's own working tree and index stay untouched.
    for arguments in (
        ("clone", "--quiet", "--shared", "--no-checkout", str(repository), str(checkout)),
        ("-C", str(checkout), "-c", "advice.detachedHead=false", "checkout", "--quiet", recorded),
    ):
        if _git(None, environment, *arguments) is None:
            raise NotFoundError(
                f"the commit {recorded[:12]} that the image was made from is not in the repository",
                where=str(repository),
                hint="fetch it (git fetch --all), or go to the recipe's repository",
            )
    inner = checkout / folder.resolve().relative_to(repository.resolve())
    for name in (LOCK_NAME, PINS_NAME):
        lock = inner / name
        if not lock.is_file() and (folder / name).is_file():
            lock.write_bytes((folder / name).read_bytes())
            notes.append(f"the commit has no {name}: the folder's was used")
            with (checkout / ".git" / "info" / "exclude").open("a") as exclude:
                exclude.write(f"{name}\n")
    yield inner, recorded


def _git(folder: Path | None, environment: Mapping[str, str], *arguments: str) -> str | None:
    """What git printed; None when it failed."""
    place = () if folder is None else ("-C", str(folder))
    try:
        done = subprocess.run(
            ["git", *place, *arguments], env=dict(environment), capture_output=True, text=True, timeout=120, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
