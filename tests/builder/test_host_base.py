"""The base ``host``: this machine's Python as an image."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
from engine import push_probe

from mealkit.errors import BaseImageError
from mealkit_builder.base import Base
from mealkit_builder.host_base import host_base
from mealkit_builder.host_files import HostTree, closure, host_python
from mealkit_builder.platform import Platform, host_platform
from mealkit_builder.store import Store
from mealkit_builder.tree import FileEntry, LinkEntry

BUILD = """
import sys
from pathlib import Path
from mealkit_builder.host_base import host_base
from mealkit_builder.platform import host_platform
from mealkit_builder.store import Store
print(host_base(host_platform(), sys.argv[2] if len(sys.argv) > 2 else None, Store(Path(sys.argv[1])))[0].digest)
"""


def names(base: Base, store: Store) -> dict[str, tarfile.TarInfo]:
    found: dict[str, tarfile.TarInfo] = {}
    for layer in base.image.layers:
        data = gzip.decompress(store.blob_path(layer.digest).read_bytes())
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            found |= {"/" + member.name: member for member in archive}
    return found


def test_what_is_in_it(host: Base, shared_store: Store) -> None:
    found = names(host, shared_store)
    assert host.python.executable in found
    assert host.python.minor == f"{sys.version_info[0]}.{sys.version_info[1]}"
    stdlib = str(Path(os.__file__).resolve().parent)
    assert f"{stdlib}/json/decoder.py" in found
    assert f"{stdlib}/json/__pycache__/decoder.{sys.implementation.cache_tag}.pyc" in found
    left_out = ("/test/", "/idlelib/", "/tkinter/", "/site-packages/", "/dist-packages/", "/ensurepip/", "_tkinter.")
    assert not [name for name in found if any(part in name for part in left_out)]
    assert found["/tmp"].mode == 0o1777
    for program in ("/bin/sh", "/bin/cat"):
        assert found[os.path.realpath(program)].mode == 0o755
    assert {"/etc/passwd", "/etc/group", "/etc/nsswitch.conf"} <= set(found)
    for member in found.values():
        assert (member.uid, member.gid) == (0, 0)
        if member.isdir():
            assert member.mode in (0o755, 0o1777)
        elif member.isreg():
            assert member.mode in (0o644, 0o755)
    assert len(host.image.layers) == 2
    assert host.image.size < 60 << 20


def test_every_link_leads_somewhere(host: Base, shared_store: Store) -> None:
    from mealkit_builder.python_in_base import _Tree
    from mealkit_builder.tar_reader import read_layer

    tree = _Tree()
    found = names(host, shared_store)
    for layer in host.image.layers:
        with shared_store.blob_path(layer.digest).open("rb") as file:
            for member in read_layer(file, layer):
                tree.add(member)
        tree.end_layer()
    dangling = [name for name, member in found.items() if member.issym() and tree.resolve(name) is None]
    assert not dangling


def test_warm_is_fast(host: Base, shared_store: Store) -> None:
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        image, python = host_base(host_platform(), None, shared_store)
        taken.append(time.perf_counter() - start)
        assert (image, python) == (host.image, host.python)
    assert min(taken) < 0.05


def test_lost_blob_is_made_again(host: Base, shared_store: Store) -> None:
    digest = host.image.layers[0].digest
    shared_store.blob_path(digest).unlink()
    assert host_base(host_platform(), None, shared_store)[0] == host.image
    assert shared_store.has_blob(digest)


@pytest.mark.slow
def test_deterministic(host: Base, tmp_path: Path) -> None:
    environment = {**os.environ, "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7", "LC_ALL": "C"}
    done = subprocess.run([sys.executable, "-c", BUILD, str(tmp_path / "other")], env=environment, umask=0o077,
                          capture_output=True, text=True, check=True, timeout=120)  # fmt: skip
    assert done.stdout.strip() == host.image.digest


def test_other_platform_is_refused(tmp_path: Path) -> None:
    other = Platform("linux", "arm64" if host_platform().architecture == "amd64" else "amd64")
    with pytest.raises(BaseImageError, match="cannot become an image for") as caught:
        host_base(other, None, Store(tmp_path))
    assert caught.value.hint
    assert str(host_platform()) in caught.value.hint


def test_not_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(BaseImageError, match="needs Linux"):
        host_base(host_platform(), None, Store(tmp_path))


def test_musl_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "confstr", lambda name: (_ for _ in ()).throw(OSError("unknown")))
    monkeypatch.setattr("platform.libc_ver", lambda *a: ("", ""))
    with pytest.raises(BaseImageError, match="glibc"):
        host_base(host_platform(), None, Store(tmp_path))


def test_no_ldd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BaseImageError, match="ldd") as caught:
        host_base(host_platform(), None, Store(tmp_path / "store"))
    assert caught.value.hint


def test_static_program() -> None:
    with pytest.raises(BaseImageError, match="statically"):
        closure([__file__])


@pytest.mark.parametrize("named", ["/no/such/python", "/bin/false", "/bin/echo"])
def test_named_python_that_is_none(named: str) -> None:
    with pytest.raises(BaseImageError) as caught:
        host_python(named)
    assert caught.value.hint


def test_old_python_is_refused(tmp_path: Path) -> None:
    old = tmp_path / "bin/python3.9"
    (tmp_path / "lib/python3.9").mkdir(parents=True)
    old.parent.mkdir()
    answer = json.dumps([str(old), str(tmp_path / "lib/python3.9/os.py"), "3.9.18"])
    old.write_text(f"#!/bin/sh\necho '{answer}'\n")
    old.chmod(0o755)
    with pytest.raises(BaseImageError, match=r"3\.9"):
        host_base(host_platform(), str(old), Store(tmp_path / "store"))


def test_links_on_the_way(tmp_path: Path) -> None:
    real = tmp_path.resolve()
    (real / "usr/lib").mkdir(parents=True)
    (real / "usr/lib/libx.so.1.2").write_bytes(b"elf")
    (real / "usr/lib/libx.so.1").symlink_to("libx.so.1.2")
    (real / "lib").symlink_to("usr/lib")
    (real / "absolute").symlink_to(real / "lib")
    tree = HostTree()
    assert tree.add(f"{real}/absolute/libx.so.1") == f"{real}/usr/lib/libx.so.1.2"
    links = {entry.path: entry.target for entry in tree.entries.values() if isinstance(entry, LinkEntry)}
    assert links == {f"{real}/absolute": f"{real}/lib", f"{real}/lib": "usr/lib",
                     f"{real}/usr/lib/libx.so.1": "libx.so.1.2"}  # fmt: skip
    assert [entry.path for entry in tree.entries.values() if isinstance(entry, FileEntry)] == [
        f"{real}/usr/lib/libx.so.1.2"]  # fmt: skip


def test_circular_link(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(BaseImageError, match="symbolic links"):
        HostTree().add(str(tmp_path / "a"))


CHECK = """
import asyncio, bz2, ctypes, decimal, hashlib, importlib.util, json, locale, lzma, multiprocessing, os, pwd, sqlite3
import ssl, sys, zlib, zoneinfo
locale.setlocale(locale.LC_ALL, "")
assert ssl.create_default_context().cert_store_stats()["x509_ca"] or not os.path.exists("/etc/ssl/certs")
assert pwd.getpwuid(65532).pw_name == "mealkit"
assert sys.getfilesystemencoding() == "utf-8"
assert os.system("cat /etc/passwd >/dev/null") == 0
assert all(os.path.exists(importlib.util.cache_from_source(module.__file__)) for module in (json, ssl, asyncio))
ctypes.CDLL("libstdc++.so.6")
print(sys.version_info[:2])
"""


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.parametrize("named", [None, "/usr/bin/python3"])
@pytest.mark.parametrize("user", ["0:0", "12345:1"])
def test_in_a_container(engine: Any, host: Base, shared_store: Store, named: str | None, user: str) -> None:
    from mealkit_builder.engine_load import load_image

    if named is not None and not Path(named).exists():
        pytest.skip(f"this machine has no {named}")
    try:
        image, python = host_base(host_platform(), named, shared_store)
    except BaseImageError as error:
        pytest.skip(f"this machine's {named} cannot be a base: {error}")
    loaded = load_image(engine, image, lambda digest: shared_store.blob_path(digest).open("rb"), lambda line: None)
    said = engine.containers.run(
        loaded, [python.executable, "-I", "-W", "error", "-c", CHECK], user=user, read_only=True, network_mode="none",
        cap_drop=["ALL"], remove=True, stderr=True,
    )  # fmt: skip
    assert said.decode().strip() == str(tuple(int(part) for part in python.minor.split(".")))


def test_probe_image_is_the_same_again(host: Base, shared_store: Store, probe_url: str, tmp_path: Path) -> None:
    assert push_probe(host, shared_store, tmp_path / "again").split("@")[1] == probe_url.split("@")[1]
