"""The plainest way without a daemon: ``pip install`` into a folder, one tar of it, zlib, and a push beside the base.

As a program (``python -m bench.plain BASE TARGET CONTEXT``) it is that way; as a module it is a side of the benchmark.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zlib
from dataclasses import replace
from pathlib import Path

from .registry import Place
from .side import Built
from .source import ROOT, Source
from .timing import run

_LEVEL = 6
_BLOCK = 1 << 20


class Plain:
    """See the module; nothing is kept from one build to the next."""

    name = "pip + tar + zlib"
    keeps = False

    def __init__(self, source: Source, folder: Path) -> None:
        self.source = source
        self.folder = folder

    def forget(self, *, keep_wheels: bool = False) -> None:
        """There is nothing to forget."""

    def build(self, place: Place, *, fresh: bool = False) -> Built:
        """Run it in a process of its own, which prints the URL."""
        self.folder.mkdir(parents=True, exist_ok=True)
        to = f"{place.host}/bench/plain-pip"
        environment = {**self.source.environment, "TMPDIR": str(self.folder)}
        command = [sys.executable, "-m", "bench.plain", place.base, to, str(self.source.context)]
        timed = run(command, environment, ROOT)
        return Built(timed, timed.output.strip())

    def first_is_there(self, place: Place) -> None:
        """Nothing is to be done."""


class _Packed:
    """A file of gzip's kind that knows the digests of what it holds."""

    def __init__(self, path: Path) -> None:
        self.plain, self.packed, self.size = hashlib.sha256(), hashlib.sha256(), 0
        self._file = path.open("wb")
        self._stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, 31)

    def write(self, data: bytes) -> int:
        self.plain.update(data)
        self._keep(self._stream.compress(data))
        return len(data)

    def close(self) -> None:
        self._keep(self._stream.flush())
        self._file.close()

    def _keep(self, data: bytes) -> None:
        self.packed.update(data)
        self.size += len(data)
        self._file.write(data)


def main(base: str, target: str, context: str) -> None:
    """Install, pack, push, print the URL."""
    from mealkit_builder.image import append
    from mealkit_builder.layer import Layer
    from mealkit_builder.location import open_location
    from mealkit_builder.platform import host_platform
    from mealkit_builder.pull import pull_image
    from mealkit_builder.push import push_image

    with tempfile.TemporaryDirectory(prefix="plain-") as name:
        folder = Path(name)
        site = folder / "site"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
        pins = str(Path(context) / "requirements.txt")
        subprocess.run([*pip, "--no-deps", "--target", str(site), "-r", pins], check=True)
        for part in ("mealkit", "recipe"):
            shutil.copytree(Path(context) / part, site, dirs_exist_ok=True)
        packed = _Packed(folder / "layer")
        with tarfile.open(fileobj=packed, mode="w|", bufsize=_BLOCK) as archive:  # type: ignore[call-overload]
            archive.add(site, "opt/site-packages")
        packed.close()
        layer = Layer(
            f"sha256:{packed.packed.hexdigest()}", packed.size, f"sha256:{packed.plain.hexdigest()}", kind="recipe"
        )
        source, found = open_location(base, {})
        where, _ = open_location(target, {}, push=True)
        try:
            pulled = pull_image(source, found.target, host_platform())
            if pulled is None:
                raise SystemExit(f"there is no {base}")
            config = replace(pulled.image.config, env=(*pulled.image.config.env, ("PYTHONPATH", "/opt/site-packages")))
            image = append(replace(pulled.image, config=config), layer)
            mounts = {one.digest: base.partition("/")[2].rpartition(":")[0] for one in pulled.image.layers}
            report = push_image(
                image, where, lambda digest: (folder / "layer").open("rb"), tags=("latest",), mount_from=mounts
            )
        finally:
            source.close()
            where.close()
    sys.stdout.write(report.url + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
