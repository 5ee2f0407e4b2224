"""The base image of the benchmark: Debian with Python and pip, and what official Python images say of themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import click

from .engine import Engine
from .registry import Place

CACHE = Path("/var/tmp/mealkit-tests/base-bench.tar")
PACKAGES = "python3,python3-pip,ca-certificates"

_DOCKERFILE = """\
FROM mealkit-bench/raw
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
RUN minor=$(python3 -c 'import sys; print(*sys.version_info[:2], sep=".")') && cd /usr/local/bin \\
 && ln -s /usr/bin/python$minor python$minor && ln -s python$minor python3 && ln -s python$minor python
"""
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def push_base(place: Place, engine: Engine, folder: Path) -> str:
    """Make the base, push it, forget it in the engine; returns its Python's version, such as ``3.11.2``.

    The machine's own certificates go in, so that pip in a container reaches the index where a proxy stands between.
    """
    folder.mkdir()
    engine.docker("import", str(_tar()), "mealkit-bench/raw")
    lowest = engine.docker("image", "inspect", "--format", "{{index .RootFS.Layers 0}}", "mealkit-bench/raw")
    version = engine.docker("run", "--rm", "mealkit-bench/raw", "python3", "-V").split()[-1]
    shutil.copyfile(_CERTIFICATES, folder / "ca-certificates.crt")
    path = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
    (folder / "Dockerfile").write_text(f"{_DOCKERFILE}ENV PATH={path} PYTHON_VERSION={version} LANG=C.UTF-8\n")
    engine.docker("build", "-q", "-t", place.base, str(folder))
    engine.docker("push", "-q", place.base)
    engine.forget_all()
    holders = engine.holders(lowest)
    if holders:
        raise click.ClickException(
            f"other images hold the base's layers, so nothing would be cold: {' '.join(holders)}"
        )
    return version


def _tar() -> Path:
    """Debian's files as a tar; kept between runs, for making it takes half a minute."""
    if CACHE.is_file():
        return CACHE
    if shutil.which("mmdebstrap") is None:
        raise click.ClickException("mmdebstrap is not installed; it makes the base image")
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    part = CACHE.with_name(f".base-bench-{os.getpid()}.tar")
    try:
        subprocess.run(
            ["mmdebstrap", "-q", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(part)],
            check=True,
            timeout=600,
        )
        part.replace(CACHE)
    except subprocess.SubprocessError as error:
        raise click.ClickException(f"the base image could not be made: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    return CACHE
