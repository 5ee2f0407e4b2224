"""Libraries that are there as sources only: folders, archives and git repositories, whose build needs no network."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path

PYPROJECT = """\
[build-system]
requires = {requires}
build-backend = "backend"
backend-path = ["."]

[project]
name = "{name}"
version = "{version}"
dependencies = {dependencies}
"""

# A whole build backend (PEP 517); TAG is the wheel's tag, PLATFORM-dependent for compiled code.
BACKEND = """\
import os, pathlib, sys, time, zipfile

NAME, VERSION, TAG = {name!r}, {version!r}, {tag!r}


def build_wheel(folder, config_settings=None, metadata_directory=None):
    minor = "cp%d%d" % sys.version_info[:2]
    tag = TAG.replace("MINOR", minor)
    info = NAME + "-" + VERSION + ".dist-info"
    files = {{str(path): path.read_bytes() for path in pathlib.Path(NAME).rglob("*") if path.is_file()}}
    {extra}
    files[info + "/METADATA"] = ("Metadata-Version: 2.1\\nName: %s\\nVersion: %s\\n" % (NAME, VERSION)).encode()
    files[info + "/WHEEL"] = (
        "Wheel-Version: 1.0\\nGenerator: backend (%f)\\nRoot-Is-Purelib: true\\nTag: %s\\n" % (time.time(), tag)
    ).encode()
    files[info + "/RECORD"] = b""
    file = "%s-%s-%s.whl" % (NAME, VERSION, tag)
    with zipfile.ZipFile(os.path.join(folder, file), "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data in sorted(files.items(), key=lambda pair: os.urandom(4)):
            wheel.writestr(name, data)
    return file
"""


def library(
    folder: Path,
    name: str = "spice",
    version: str = "1.0",
    *,
    code: str = "HOT = True\n",
    tag: str = "py3-none-any",
    requires: str = "[]",
    dependencies: str = "[]",
    extra: str = "",
) -> Path:
    """A project's folder with a package and a backend of its own, whose wheels have another order and time each."""
    (folder / name).mkdir(parents=True)
    (folder / "pyproject.toml").write_text(
        PYPROJECT.format(name=name, version=version, requires=requires, dependencies=dependencies)
    )
    (folder / "backend.py").write_text(BACKEND.format(name=name, version=version, tag=tag, extra=extra))
    (folder / name / "__init__.py").write_text(code)
    return folder


def archive(project: Path, folder: Path, name: str = "spice", version: str = "1.0") -> Path:
    """The project as a source distribution in a folder."""
    path = folder / f"{name}-{version}.tar.gz"
    info = f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n".encode()
    with tarfile.open(path, "w:gz") as tar:
        tar.add(project, f"{name}-{version}")
        member = tarfile.TarInfo(f"{name}-{version}/PKG-INFO")
        member.size = len(info)
        tar.addfile(member, io.BytesIO(info))
    return path


def git(root: Path, *arguments: str) -> str:
    """Run git in a folder, as somebody."""
    command = ["git", "-C", str(root), "-c", "user.name=Ada", "-c", "user.email=ada@example.com", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


def repository(project: Path) -> str:
    """Make the folder a repository whose branch ``main`` has all of it; the commit."""
    git(project, "init", "-q", "-b", "main")
    return commit(project)


def commit(project: Path) -> str:
    """Commit all changes."""
    git(project, "add", ".")
    git(project, "commit", "-q", "-m", "a change")
    return git(project, "rev-parse", "HEAD")


def image_files(url: str) -> dict[str, bytes]:
    """The files of an image for one platform in a layout folder (``oci:DIR@sha256:…``), upper layers first."""
    folder, _, digest = url.removeprefix("oci:").rpartition("@")

    def blob(name: str) -> bytes:
        return (Path(folder) / "blobs" / name.replace(":", "/")).read_bytes()

    found: dict[str, bytes] = {}
    for layer in json.loads(blob(digest))["layers"]:
        with tarfile.open(fileobj=io.BytesIO(blob(layer["digest"]))) as tar:
            found |= {one.name: tar.extractfile(one).read() for one in tar if one.isfile()}  # type: ignore[union-attr]
    return found
