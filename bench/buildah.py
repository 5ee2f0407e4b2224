"""buildah as a side: it builds docker's Dockerfile without a daemon, and pushes what it committed."""

from __future__ import annotations

import shutil
from pathlib import Path

from .registry import Place
from .side import Built
from .source import Source
from .timing import Timed, run


class Buildah:
    """``buildah bud`` and ``buildah push``, in a storage of its own that lies on overlay.

    Chroot isolation, the host's network and kept layers: the quickest that it offers to root.
    """

    name = "buildah"
    keeps = True

    def __init__(self, source: Source, folder: Path) -> None:
        self.source = source
        self.folder = folder
        self.repository = "bench/buildah"

    def forget(self, *, keep_wheels: bool = False) -> None:
        """Remove images, the base too, and working containers."""
        if self.folder.exists():
            self._run("rm", "-a")
            self._run("rmi", "-a", "-f")
            shutil.rmtree(self.folder, ignore_errors=True)

    def build(self, place: Place, *, fresh: bool = False) -> Built:
        """Build, push, and read the digest from the file that the push writes."""
        name, digest = "localhost/bench", self.folder / "digest"
        self.folder.mkdir(parents=True, exist_ok=True)
        timed = self._run(
            "bud", "-q", "--isolation", "chroot", "--layers", "--network", "host", "--tls-verify=false",
            "--build-arg", f"BASE={place.base}", "-t", name, ".",
        )  # fmt: skip
        to = f"docker://{place.host}/{self.repository}:latest"
        timed += self._run("push", "-q", "--tls-verify=false", "--digestfile", str(digest), name, to)
        return Built(timed, f"{place.host}/{self.repository}@{digest.read_text().strip()}")

    def first_is_there(self, place: Place) -> None:
        """Nothing is to be done."""

    def _run(self, *arguments: str) -> Timed:
        storage = ["--root", str(self.folder / "root"), "--runroot", str(self.folder / "run")]
        command = ["buildah", *storage, "--storage-driver", "overlay", *arguments]
        return run(command, self.source.environment, self.source.context)
