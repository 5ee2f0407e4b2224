"""Places: which repositories have which layers, as far as this machine brought them there; to mount from."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from .reference import Reference
from .store import Store

_KIND = "places"
_MOST_LAYERS = 2000  # a repository; the newest are kept
_MOST_REPOSITORIES = 64  # a host; those written last are asked


class Places:
    """What is remembered of repositories; a registry may have forgotten it since, so it is only ever tried."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def note(self, here: Reference, digests: Iterable[str]) -> None:
        """Remember that a repository has these layers; writes nothing when that is known."""
        known = self._read(here)
        new = [digest for digest in dict.fromkeys(digests) if digest not in known]
        if new:
            kept = [*known, *new][-_MOST_LAYERS:]
            self._store.write_fact(_KIND, here.name, {"repository": here.name, "layers": kept})

    def known(self, here: Reference) -> frozenset[str]:
        """The layers that a repository had."""
        return frozenset(self._read(here))

    def others(self, here: Reference) -> dict[str, str]:
        """Layer digest to another repository of the same registry that had it."""
        found: dict[str, str] = {}
        for path in self._files()[:_MOST_REPOSITORIES]:
            try:
                value = json.loads(path.read_bytes())
                host, _, repository = str(value["repository"]).partition("/")
                layers = [str(digest) for digest in value["layers"]]
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if host == here.host and repository and repository != here.repository:
                for digest in layers:
                    found.setdefault(digest, repository)
        return found

    def _read(self, here: Reference) -> dict[str, None]:
        value = self._store.read_fact(_KIND, here.name)
        if not isinstance(value, dict) or value.get("repository") != here.name:
            return {}
        return dict.fromkeys(map(str, value.get("layers") or ()))

    def _files(self) -> list[Path]:
        """The newest first."""
        try:
            dated = [(path.stat().st_mtime_ns, path) for path in (self._store.root / _KIND).glob("*.json")]
        except OSError:
            return []
        return [path for _, path in sorted(dated, reverse=True)]
