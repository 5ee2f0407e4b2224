"""A full disk, wherever it is: told as one, with its place, and nothing half-written stays."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from workshop import Done, Workshop

from mealkit_builder.layout import Layout

Disk = Callable[[str, str], Path]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Makes file systems of a given size; skips where this user cannot."""
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only root can mount a file system that is small enough to fill")
    with contextlib.ExitStack() as mounted:

        def make(name: str, size: str) -> Path:
            path = tmp_path / "disks" / name
            path.mkdir(parents=True)
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", str(path)],
                capture_output=True,
                text=True,
                timeout=10,
            )
            if done.returncode != 0:
                pytest.skip(f"this machine lets nobody mount a file system: {done.stderr.strip()}")
            mounted.callback(subprocess.run, ["umount", str(path)], capture_output=True, timeout=10, check=True)
            return path

        yield make


def refused(done: Done, where: Path | str) -> None:
    assert done.status == 8, f"{done.out}\n{done.err}"
    error = json.loads(done.out)["error"]
    assert error["code"] == "storage"
    assert "the disk is full" in error["message"]
    assert str(where) in error["where"]
    assert "free some space" in error["hint"]
    assert "Traceback" not in done.err


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("size", ["4k", "32k", "256k", "300k"])
def test_a_full_cache(workshop: Workshop, disk: Disk, size: str) -> None:
    root, cache = workshop.recipe(), disk("cache", size)
    small = workshop.having(MEALKIT_CACHE=str(cache))
    images = workshop.folder / "images"
    refused(small.mealkit("build", "-C", root, "--to", f"oci:{images}", "--json"), cache)
    assert not [name for name in files(cache) if ".tmp-" in name]
    assert not (root / ".mealkit").exists()
    assert Layout(images).list_tags() == ()


@pytest.mark.parametrize("size", ["4k", "32k", "256k", "300k"])
def test_a_full_layout_folder(workshop: Workshop, disk: Disk, size: str) -> None:
    root, images = workshop.recipe(), disk("images", size)
    refused(workshop.mealkit("build", "-C", root, "--to", f"oci:{images}", "--json"), images)
    assert not [name for name in files(images) if ".tmp-" in name]
    assert Layout(images).list_tags() == ()
    assert not (root / ".mealkit").exists()
    # The same command goes on where there is room again.
    subprocess.run(["mount", "-o", "remount,size=8m", str(images)], check=True, timeout=10)
    assert workshop.mealkit("build", "-C", root, "--to", f"oci:{images}").status == 0
    assert Layout(images).list_tags() == ("1.0.0", "latest")


def test_a_disk_that_is_too_full_for_the_lock(workshop: Workshop, disk: Disk) -> None:
    home = disk("home", "64k")
    root = workshop.recipe(within=home)
    before = (root / "pylock.toml").read_bytes()
    text = (root / "pyproject.toml").read_text()
    (root / "pyproject.toml").write_text(text.replace("dependencies = []", 'dependencies = ["pandas"]'))
    fill(home)
    refused(workshop.mealkit("lock", "-C", root, "--json"), root / "pylock.toml")
    assert (root / "pylock.toml").read_bytes() == before
    assert sorted(path.name for path in root.iterdir()) == ["pylock.toml", "pyproject.toml", "tiny"]


def test_a_full_disk_of_the_resolver(workshop: Workshop, disk: Disk) -> None:
    root, folder = workshop.recipe(lock=False), disk("scratch", "4k")
    fill(folder)
    done = workshop.having(UV_CACHE_DIR=str(folder)).mealkit("lock", "-C", root, "--json")
    refused(done, "")
    assert not (root / "pylock.toml").exists()


def test_a_disk_that_is_too_full_for_the_record(workshop: Workshop, disk: Disk) -> None:
    home = disk("home", "64k")
    root = workshop.recipe(within=home)
    images = workshop.folder / "images"
    fill(home)
    done = workshop.mealkit("build", "-C", root, "--to", f"oci:{images}", "--json")
    refused(done, root / ".mealkit")
    assert "the image is built, but its record cannot be written" in done.err
    assert Layout(images).list_tags() == ("1.0.0", "latest")


def test_a_disk_that_is_too_full_for_a_new_recipe(workshop: Workshop, disk: Disk) -> None:
    home = disk("home", "8k")
    done = workshop.mealkit("init", home / "shop")
    assert done.status == 8, done.err
    assert "error[storage]: cannot make the recipe's folder: the disk is full" in done.err
    assert f"at: {home / 'shop'}" in done.err
    assert list(home.iterdir()) == []


def fill(folder: Path) -> None:
    """Leave no room."""
    with (folder / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 1024)
