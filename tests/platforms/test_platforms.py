"""One index for two architectures on a base of Debian's packages, from a mirror, and both images run: for real.

The amd64 image runs in the engine. The arm64 image's own interpreter runs under qemu's user emulation, from the
unpacked image: no file of this machine takes part but the emulator and the data.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from docker.errors import ImageNotFound
from services import PROGRAM, RunningRegistry, missing, running_registry

from mealkit_builder.image import Image
from mealkit_builder.layering import VENV
from mealkit_builder.location import open_location
from mealkit_builder.platform import Platform
from mealkit_builder.pull import pull_image
from mealkit_builder.rootfs import unpack_image

REPOSITORY = Path(__file__).parents[2]
MEALKIT = str(Path(sys.executable).with_name("mealkit"))
AMD, ARM = Platform("linux", "amd64"), Platform("linux", "arm64")

# Two images of the whole stack are fetched, made and unpacked; the road, which comes later, finds the half of it made.
pytestmark = [pytest.mark.engine, pytest.mark.registry, pytest.mark.slow, pytest.mark.timeout(560)]

CHECK = """
import asyncio, bz2, ctypes, curses, decimal, hashlib, importlib.util, json, locale, lzma, os, pwd, readline, sqlite3
import ssl, subprocess, sys, uuid, zlib, zoneinfo
locale.setlocale(locale.LC_ALL, "C.UTF-8")
assert ssl.create_default_context().cert_store_stats()["x509_ca"] > 100
assert ssl.get_default_verify_paths().cafile == "/etc/ssl/certs/ca-certificates.crt"
assert zoneinfo.ZoneInfo("Europe/Berlin").key == "Europe/Berlin"
assert pwd.getpwuid(65532).pw_name == "mealkit"
assert sys.getfilesystemencoding() == "utf-8"
assert subprocess.check_output("cat /etc/debian_version | head -c 3", shell=True) == b"12."
assert all(os.path.exists(importlib.util.cache_from_source(module.__file__)) for module in (json, ssl, asyncio))
for name in ("libstdc++.so.6", "libgomp.so.1"):
    ctypes.CDLL(name)
assert os.stat("/tmp").st_mode & 0o7777 == 0o1777
print(sys.version_info[:2], sys.prefix, os.getuid())
"""


@dataclass(frozen=True)
class Both:
    """An image for two platforms, and its data."""

    url: str
    record: dict[str, Any]
    pins: str
    images: dict[Platform, Image]
    roots: dict[Platform, Path]
    training: Path
    scoring: Path
    environment: dict[str, str]

    def mealkit(self, *arguments: object) -> None:
        done = subprocess.run(
            [MEALKIT, *map(str, arguments)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"

    def emulated(self, *arguments: object) -> None:
        """Run the arm64 image's entrypoint, with the interpreter, loader and libraries of the image itself."""
        root = self.roots[ARM]
        image = self.images[ARM]
        entrypoint = image.config.entrypoint
        interpreter = os.path.realpath(root / str((root / entrypoint[0][1:]).readlink())[1:])
        assert interpreter.startswith(str(root))
        variables = {name: value for name, value in image.config.env if name not in ("PATH", "SSL_CERT_FILE")}
        # -L: what the program opens is looked for in the image first; -0: what the program takes for its own name.
        command = [
            shutil.which("qemu-aarch64") or "",
            "-L",
            str(root),
            "-0",
            entrypoint[0],
            interpreter,
            *entrypoint[1:],
        ]
        done = subprocess.run(
            [*command, *map(str, arguments)], env={**variables, "PATH": "/nowhere"}, capture_output=True, text=True,
            timeout=200, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """One that nobody else pushes to: uploads are counted, and what another repository has is mounted instead."""
    if reason := missing(PROGRAM):
        pytest.skip(reason)
    with running_registry(tmp_path_factory.mktemp("platforms-registry")) as one:
        yield one


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, registry: RunningRegistry, engine: Any) -> Iterator[Both]:
    if reason := missing("qemu-aarch64") or missing("apt-get"):
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("platforms")
    project = folder / "project"
    ignored = shutil.ignore_patterns(".mealkit", "pylock.toml", "base.lock.toml", "__pycache__")
    shutil.copytree(REPOSITORY / "sample_recipe", project, ignore=ignored)
    training, scoring = folder / "training.csv", folder / "scoring.csv"
    for path, seed in ((training, 7), (scoring, 8)):
        command = [sys.executable, "-m", "propensity.simulate", "--visitors", "250", "--seed", str(seed)]
        subprocess.run([*command, "--output", str(path)], cwd=project, check=True, timeout=60, capture_output=True)
    environment = {
        **os.environ,
        # The same as that of the road, whose wheels for amd64 are these.
        "MEALKIT_CACHE": str(tmp_path_factory.getbasetemp() / "road-cache"),
        "UV_CONSTRAINT": str(REPOSITORY / ".ci" / "requirements.txt"),
    }
    command = [MEALKIT, "build", "--project", str(project), "--to", f"{registry.host}/platforms/sample", "--json"]
    command += ["--base", "deb:bookworm", "--platform", "linux/amd64", "--platform", "linux/arm64"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    source, location = open_location(record["url"], environment)
    images, roots = {}, {}
    try:
        for platform in (AMD, ARM):
            pulled = pull_image(source, location.target, platform)
            assert pulled is not None
            images[platform] = pulled.image
            roots[platform] = unpack_image(pulled.image, pulled.manifest_digest, source.open_blob, folder / "roots")
    finally:
        source.close()
    pins = (project / "base.lock.toml").read_text()
    yield Both(record["url"], record, pins, images, roots, training, scoring, environment)
    with contextlib.suppress(ImageNotFound):
        engine.images.remove(record["url"], force=True)


def test_what_is_alike_is_there_once(both: Both, registry: RunningRegistry) -> None:
    amd, arm = both.images[AMD], both.images[ARM]
    assert set(both.record["platforms"]) == {"linux/amd64", "linux/arm64"}
    assert [layer.kind for layer in amd.layers] == [layer.kind for layer in arm.layers]
    shared = {layer.digest for layer in amd.layers} & {layer.digest for layer in arm.layers}
    titles = {layer.title for layer in amd.layers if layer.digest in shared}
    # Bytecode is that of the sources, which are the same; only what is compiled differs.
    assert "bytecode of Python 3.11" in titles
    assert {layer.kind for layer in amd.layers if layer.digest in shared} >= {"bytecode", "mealkit", "recipe"}
    puts = [one for one in registry.requests() if one.startswith("PUT") and "/platforms/sample/blobs/uploads/" in one]
    for layer in {*amd.layers, *arm.layers}:
        assert len([one for one in puts if one.endswith(layer.digest.replace(":", "%3A"))]) == 1, layer.title


def test_the_base_is_small(both: Both) -> None:
    for image in both.images.values():
        base = [layer for layer in image.layers if layer.kind == "base" or layer.title == "bytecode of Python 3.11"]
        assert sum(layer.size for layer in base) < 40 << 20
        assert len(base) < 15
    assert "://" not in both.pins


def test_dpkg_finds_what_was_installed(both: Both) -> None:
    for root in both.roots.values():
        command = ["dpkg-query", f"--admindir={root}/var/lib/dpkg", "--show", "--showformat=${Package} ${Version}\\n"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()
        names = {line.split()[0] for line in listed}
        assert {"libc6", "python3.11-minimal", "libssl3", "ca-certificates", "tzdata"} <= names
        assert "perl-base" not in names
        # Every file that dpkg knows a checksum of is there, with that checksum.
        verified = subprocess.run(
            ["dpkg", f"--root={root}", "--verify"], capture_output=True, text=True, check=False, timeout=60
        )
        assert (verified.returncode, verified.stdout) == (0, "")


@pytest.mark.parametrize("user", ["0:0", "12345:1"])
def test_the_base_in_a_container(both: Both, engine: Any, user: str) -> None:
    engine.images.pull(both.url)
    said = engine.containers.run(
        both.url, ["-I", "-W", "error::DeprecationWarning", "-c", CHECK], entrypoint=f"{VENV}/bin/python", user=user,
        read_only=True, network_mode="none", cap_drop=["ALL"], remove=True, stderr=True,
    )  # fmt: skip
    assert said.decode().split("\n")[0] == f"(3, 11) {VENV} {user.partition(':')[0]}"


def test_both_train_and_score_alike(both: Both, engine: Any, tmp_path: Path) -> None:
    def modes(run: Any, name: str, prefix: tuple[str, ...]) -> tuple[dict[str, float], pd.DataFrame]:
        folder = tmp_path / name
        model, result, scores = folder / "model", folder / "result.json", folder / "scores"
        folder.mkdir()
        run(*prefix, "train", "--input", both.training, "--model", model, "--result", result, "--set", "trees=40")
        run(*prefix, "score", "--input", both.scoring, "--model", model, "--output", scores)
        told = json.loads(result.read_text())
        files = sorted(scores.rglob("*.parquet"))
        assert files
        frame = pd.concat(pd.read_parquet(file) for file in files).sort_values(["visitor_id", "session_id"])
        return {one["name"]: one["value"] for one in told["metrics"]["metrics"]}, frame.reset_index(drop=True)

    metrics, scores = modes(both.mealkit, "amd64", ("run", both.url))
    emulated, other = modes(both.emulated, "arm64", ())
    assert emulated == pytest.approx(metrics, abs=1e-6)
    assert len(scores) > 100
    pd.testing.assert_frame_equal(scores, other, rtol=1e-6)
