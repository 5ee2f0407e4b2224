"""The cache tags of a repository: listed and removed."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from mealkit._value import dataclass
from mealkit.errors import UsageError

from .cache_tag import is_cache_tag, read_cache_manifest
from .layer import Layer
from .location import open_location
from .registry import Repository

_WORKERS = 8


@dataclass(frozen=True)
class CacheTag:
    """A cache tag as it was found.

    Attributes:
        tag: Its name.
        digest: Of its manifest.
        layers: What it tells, by title.
    """

    tag: str
    digest: str
    layers: tuple[Layer, ...]

    @property
    def size(self) -> int:
        """Bytes of its layers."""
        return sum(layer.size for layer in self.layers)


def list_cache_tags(url: str, environment: Mapping[str, str]) -> tuple[CacheTag, ...]:
    """The cache tags of a repository, sorted by name.

    Raises:
        UsageError: the place is no repository.
        RegistryError: it cannot be read.
    """
    repository = _open(url, environment, push=False)
    try:
        return _list(repository)
    finally:
        repository.close()


def prune_cache_tags(url: str, environment: Mapping[str, str], *, dry_run: bool = False) -> tuple[str, ...]:
    """Remove all cache tags of a repository; returns their names.

    Raises:
        UsageError: the place is no repository.
        RegistryError: the registry does not allow it.
    """
    repository = _open(url, environment, push=True)
    try:
        found = _list(repository)
        if not dry_run:
            # By digest, which every registry that deletes at all can do; a user's tag never names such a manifest.
            for digest in dict.fromkeys(one.digest for one in found):
                repository.delete_manifest(digest)
        return tuple(one.tag for one in found)
    finally:
        repository.close()


def _open(url: str, environment: Mapping[str, str], *, push: bool) -> Repository:
    repository, _ = open_location(url, environment, push=push)
    if not isinstance(repository, Repository):
        raise UsageError(
            "a layout folder has no cache tags: its images themselves tell their layers",
            where=url,
            hint="name a repository (host/repo)",
        )
    return repository


def _list(repository: Repository) -> tuple[CacheTag, ...]:
    def read(tag: str) -> CacheTag | None:
        found = repository.get_manifest(tag)
        if found is None:
            return None
        layers = sorted(read_cache_manifest(found[0]).values(), key=lambda layer: layer.title)
        return CacheTag(tag, found[2], tuple(layers))

    names = [tag for tag in repository.list_tags() if is_cache_tag(tag)]
    with ThreadPoolExecutor(_WORKERS, "mealkit-cache") as pool:
        return tuple(one for one in pool.map(read, names) if one is not None)
