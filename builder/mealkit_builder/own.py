"""Our own distributions: ``mealkit`` and ``mealkit-runtime`` as they stand in the builder's environment."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.util
import io
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import mealkit
from mealkit.errors import BuildError

DISTRIBUTIONS = {"mealkit": "mealkit", "mealkit-runtime": "mealkit_runtime"}
"""Distribution name to import name of what every image gets from us; they are on no index."""

_SKIPPED = ("__pycache__",)


def own_files() -> dict[str, Path]:
    """The files of our packages by their path below ``site-packages``, sorted; the same for any way of installing."""
    found: dict[str, Path] = {}
    for package in DISTRIBUTIONS.values():
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise BuildError(
                f"{package!r} is not installed beside the builder",
                hint=f"install {package.replace('_', '-')}=={mealkit.__version__}",
            )
        folder = Path(spec.origin).parent
        for where, folders, names in os.walk(folder):  # in a third of the time that pathlib takes
            folders[:] = [name for name in folders if name not in _SKIPPED]
            above = Path(where)
            inside = above.relative_to(folder.parent).as_posix()
            found |= {f"{inside}/{name}": above / name for name in names if (above / name).is_file()}
    return dict(sorted(found.items()))


def own_requirements() -> tuple[str, ...]:
    """The requirements that our distributions bring into an image, without each other; sorted.

    Read from their METADATA as text: importing ``importlib.metadata`` costs as much as all the rest of a warm build's
    look at the lock.

    Raises:
        BuildError: one of them is not installed in the builder's version.
    """
    texts = {text for name in DISTRIBUTIONS for text in _requirements(name)}
    return tuple(sorted(text for text in texts if not is_own(text)))


def _requirements(name: str) -> list[str]:
    folder = f"{name.replace('-', '_')}-{mealkit.__version__}.dist-info"
    for place in sys.path:
        try:
            head = (Path(place) / folder / "METADATA").read_text(encoding="utf-8").partition("\n\n")[0]
        except OSError:
            continue
        fields = [
            line.removeprefix("Requires-Dist: ") for line in head.splitlines() if line.startswith("Requires-Dist: ")
        ]
        return [text for text in fields if "extra ==" not in text]
    raise BuildError(
        f"{name} {mealkit.__version__} is not installed beside the builder",
        hint=f"install {name}=={mealkit.__version__}; all of mealkit's distributions have one version",
    )


def is_own(requirement: str) -> bool:
    """Whether a requirement names one of our distributions."""
    match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", requirement)
    return bool(match) and re.sub(r"[-_.]+", "-", match[1]).lower() in DISTRIBUTIONS  # type: ignore[index]


def check_records(files: Mapping[str, Path]) -> None:
    """Refuse to pack an installed file that is not what its distribution's RECORD says.

    An editable checkout has no such record of its files, and is packed as it is.

    Raises:
        BuildError: a file was changed after it was installed.
    """
    from importlib.metadata import distribution

    for name in DISTRIBUTIONS:
        for entry in distribution(name).files or ():
            path = files.get(entry.as_posix())
            if path is None or entry.hash is None or entry.hash.mode != "sha256":
                continue
            if entry.hash.value != record_hash(path.read_bytes()):
                raise BuildError(
                    f"{name} was changed after it was installed",
                    where=str(path),
                    hint=f"install {name}=={mealkit.__version__} again, or work from an editable checkout",
                )


def metadata_files(
    name: str,
    version: str,
    summary: str,
    requires_python: str,
    requirements: Iterator[str] | tuple[str, ...],
    files: Mapping[str, bytes],
) -> dict[str, bytes]:
    """A ``.dist-info`` folder for ``files`` (path below site-packages to content): METADATA, INSTALLER, RECORD.

    Written by us rather than by a build backend, so that no backend's version changes an image.
    """
    folder = f"{re.sub(r'[-_.]+', '_', name)}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Summary: {' '.join(summary.split())}"] if summary else []  # one line: a second would be a header
    lines += [f"Requires-Python: {requires_python}", *(f"Requires-Dist: {text}" for text in requirements)]
    made = {
        f"{folder}/METADATA": ("\n".join(lines) + "\n").encode(),
        f"{folder}/INSTALLER": b"mealkit\n",
    }
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    for path, data in sorted({**files, **made}.items()):
        writer.writerow((path, f"sha256={record_hash(data)}", len(data)))
    writer.writerow((f"{folder}/RECORD", "", ""))
    return {**made, f"{folder}/RECORD": table.getvalue().encode()}


def record_hash(data: bytes) -> str:
    """A sha256 as RECORD files write it: URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
