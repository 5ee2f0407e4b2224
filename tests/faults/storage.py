"""What a docker-registry has on its disk, read without mealkit and without HTTP: the fault tests' second opinion."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path


class Storage:
    """The storage folder of a docker-registry.

    Args:
        folder: The registry's folder, as :func:`services.running_registry` was given.
    """

    def __init__(self, folder: Path) -> None:
        self._root = folder / "storage" / "docker" / "registry" / "v2"
        self._checked: set[str] = set()

    def tags(self, repository: str) -> dict[str, str]:
        """Tag to digest."""
        tags = self._root / "repositories" / repository / "_manifests" / "tags"
        return {link.parts[-3]: link.read_text() for link in tags.glob("*/current/link")}

    def problems(self, repository: str) -> list[str]:
        """What is wrong with the images that the repository's tags name: each manifest, config and layer is read."""
        wrong: list[str] = []
        for tag, digest in self.tags(repository).items():
            data = self._blob(digest)
            if data is None:
                wrong.append(f"{tag}: its manifest {digest} is missing or damaged")
                continue
            manifest = json.loads(data)
            for blob in [manifest["config"], *manifest["layers"]]:
                hexadecimal = blob["digest"].removeprefix("sha256:")
                link = self._root / "repositories" / repository / "_layers" / "sha256" / hexadecimal / "link"
                if not link.exists():
                    wrong.append(f"{tag}: {blob['digest']} is not in the repository")
                elif self._blob(blob["digest"]) is None:
                    wrong.append(f"{tag}: {blob['digest']} is missing or damaged")
        return wrong

    def has_blob(self, repository: str, digest: str) -> bool:
        """Whether a repository has a blob, whole."""
        link = self._root / "repositories" / repository / "_layers" / "sha256" / digest.removeprefix("sha256:") / "link"
        return link.exists() and self._blob(digest) is not None

    def _blob(self, digest: str) -> bytes | None:
        """A blob's bytes if they have the digest; a blob once found whole is not hashed again."""
        hexadecimal = digest.removeprefix("sha256:")
        try:
            data = (self._root / "blobs" / "sha256" / hexadecimal[:2] / hexadecimal / "data").read_bytes()
        except FileNotFoundError:
            return None
        if digest not in self._checked:
            if hashlib.sha256(data).hexdigest() != hexadecimal:
                return None
            self._checked.add(digest)
        return data
