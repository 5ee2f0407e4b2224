"""Bases from registries and layout folders, and finding the Python in them."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from engine import BOOKWORM, write_layout

from mealkit.errors import BaseImageError, NotFoundError, UnreachableError
from mealkit.project import ImageSettings
from mealkit_builder.base import resolve_base
from mealkit_builder.digest import digest_bytes
from mealkit_builder.image import Image, ImageConfig, append
from mealkit_builder.layer import Layer
from mealkit_builder.layout import Layout
from mealkit_builder.platform import Platform, host_platform
from mealkit_builder.push import push_image
from mealkit_builder.python_in_base import find_python
from mealkit_builder.reference import parse_reference
from mealkit_builder.store import Store

GLIBC = b"\0GNU C Library (Debian GLIBC 2.36-9+deb12u9) stable release version 2.36.\n\0"
MUSL = b"\0\0001.2.5\0musl libc\0"
LINUX = Platform("linux", "amd64")


def tar(files: Mapping[str, bytes | str | None]) -> bytes:
    """A gzip layer: bytes are a file, text a link's target, None a folder."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            if content is None:
                member.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
            else:
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
    return out.getvalue()


def image(store: Store, *layers: Mapping[str, bytes | str | None], env: Mapping[str, str] | None = None,
          platform: Platform = LINUX) -> Image:  # fmt: skip
    made = Image(platform, config=ImageConfig(env=tuple((env or {}).items())))
    for files in layers:
        plain = tar(files)
        # Two members, as spliced layers have thousands of.
        packed = gzip.compress(plain[:100], mtime=0) + gzip.compress(plain[100:], mtime=0)
        store.add_blob(digest_bytes(packed), packed)
        made = append(made, Layer(digest_bytes(packed), len(packed), digest_bytes(plain)))
    return made


def find(made: Image, store: Store, named: str | None = None, *, promised: bool = False) -> Any:
    return find_python(made, lambda digest: store.blob_path(digest).open("rb"), named, "test", promised=promised)


DEBIAN = {
    "lib": "usr/lib", "bin": "usr/bin", "usr/lib/x86_64-linux-gnu/libc.so.6": GLIBC,
    "usr/bin/python3": "python3.11", "usr/bin/python3.11": b"elf", "usr/lib/python3.11/os.py": b"",
}  # fmt: skip


def test_debian_shape(tmp_path: Path) -> None:
    store = Store(tmp_path)
    python = find(image(store, DEBIAN), store)
    assert (python.minor, python.executable, python.libc, python.libc_version) == (
        "3.11", "/usr/bin/python3.11", "glibc", (2, 36))  # fmt: skip


def test_official_image_stops_at_the_c_library(tmp_path: Path) -> None:
    store = Store(tmp_path)
    env = {"PATH": "/usr/local/bin:/usr/bin", "PYTHON_VERSION": "3.12.7"}
    made = image(store, {"usr/lib/x86_64-linux-gnu/libc.so.6": GLIBC}, {"usr/local/bin/python3.12": b"elf"}, env=env)
    opened: list[str] = []

    def open_layer(digest: str) -> Any:
        opened.append(digest)
        return store.blob_path(digest).open("rb")

    python = find_python(made, open_layer, None, "test")
    assert (python.minor, python.version, python.executable) == ("3.12", "3.12.7", "/usr/local/bin/python3.12")
    assert opened == [made.layers[0].digest]


def test_musl(tmp_path: Path) -> None:
    store = Store(tmp_path)
    env = {"PATH": "/usr/local/bin:/usr/bin", "PYTHON_VERSION": "3.12.7"}
    python = find(image(store, {"lib/ld-musl-x86_64.so.1": MUSL}, env=env), store)
    assert (python.libc, python.libc_version) == ("musl", (1, 2))


def test_whiteouts_hide_a_python(tmp_path: Path) -> None:
    store = Store(tmp_path)
    newer = {"usr/local/bin/python3.12": b"elf", "usr/local/bin/python3": "python3.12",
             "usr/local/lib/python3.12/os.py": b""}  # fmt: skip
    path = {"PATH": "/usr/local/bin:/usr/bin"}
    assert find(image(store, DEBIAN, newer, env=path), store).minor == "3.12"
    assert find(image(store, DEBIAN, newer, {"usr/local/.wh.bin": b""}, env=path), store).minor == "3.11"
    gone = {"usr/local/bin/.wh..wh..opq": b"", "usr/local/bin/other": b""}
    assert find(image(store, DEBIAN, newer, gone, env=path), store).minor == "3.11"
    with pytest.raises(BaseImageError, match="no Python"):
        find(image(store, DEBIAN, {"usr/bin/.wh.python3": b"", "usr/bin/.wh.python3.11": b""}), store)


def test_named_interpreter(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = image(store, DEBIAN, {"opt/py/bin/python": b"elf", "opt/py/lib/python3.13/os.py": b""})
    assert find(made, store, "/opt/py/bin/python").minor == "3.13"
    assert find(made, store, "/bin/python3").executable == "/usr/bin/python3.11"
    with pytest.raises(BaseImageError) as caught:
        find(made, store, "/opt/nothing")
    assert caught.value.hint
    assert "python" in caught.value.hint


def test_an_interpreter_that_a_step_will_bring(tmp_path: Path) -> None:
    """As for a base for GPUs, which has none: its name tells the version, and only a full one does."""
    store = Store(tmp_path)
    made = image(store, {"usr/lib/x86_64-linux-gnu/libc.so.6": GLIBC})
    found = find(made, store, "/usr/bin/python3.12", promised=True)
    assert (found.minor, found.executable, found.version) == ("3.12", "/usr/bin/python3.12", None)
    for named, promised in (("/usr/bin/python3.12", False), ("/usr/bin/python3", True), (None, True)):
        with pytest.raises(BaseImageError, match="no Python"):
            find(made, store, named, promised=promised)
    there = image(store, DEBIAN)
    assert find(there, store, "/usr/bin/python3", promised=True).executable == "/usr/bin/python3.11"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"usr/lib/x86_64-linux-gnu/libc.so.6": GLIBC}, "no Python"),
        ({"usr/bin/python3": "python3.11", "usr/bin/python3.11": b"", "usr/lib/python3.11/os.py": b""}, "neither"),
        ({"lib/libc.so.6": GLIBC, "usr/bin/python3": "python3.9", "usr/bin/python3.9": b"",
          "usr/lib/python3.9/os.py": b""}, "3.9"),
        ({"lib/libc.so.6": GLIBC, "usr/bin/python3": "python3", "usr/lib/python3.11/os.py": b""}, "no Python"),
    ],
)  # fmt: skip
def test_unusable(tmp_path: Path, files: dict[str, bytes | str | None], message: str) -> None:
    store = Store(tmp_path)
    with pytest.raises(BaseImageError, match=message) as caught:
        find(image(store, files), store)
    assert caught.value.hint
    assert caught.value.where


def test_damaged_layer(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add_blob("sha256:" + "0" * 64, gzip.compress(tar(DEBIAN))[:80])
    made = Image(LINUX, (Layer("sha256:" + "0" * 64, 80, "sha256:" + "1" * 64),))
    with pytest.raises(BaseImageError, match="cannot be read"):
        find(made, store)


def test_layout_base(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    url = write_layout(image(store, DEBIAN), store, tmp_path / "layout")
    fresh = Store(tmp_path / "fresh")
    base = resolve_base(f"oci:{tmp_path / 'layout'}:latest", LINUX, ImageSettings(), fresh)
    assert base.reference == url
    assert url.endswith(base.digest)
    assert base.python.minor == "3.11"
    assert base.image.layers[0].kind == "base"
    assert base.mounts(parse_reference("localhost:5000/a")) == {}
    with base.open_layer(base.image.layers[0].digest) as file:
        assert digest_bytes(file.read()) == base.image.layers[0].digest
    # What was learned is kept: no layer is read again.
    blob = tmp_path / "layout/blobs/sha256" / base.image.layers[0].digest.removeprefix("sha256:")
    blob.unlink()
    assert resolve_base(f"oci:{tmp_path / 'layout'}:latest", LINUX, ImageSettings(), fresh).python == base.python


def test_missing_base(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        resolve_base(f"oci:{tmp_path / 'nothing'}", LINUX, ImageSettings(), Store(tmp_path / "store"))
    assert caught.value.where


def test_platforms(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    both = [image(store, DEBIAN), image(store, DEBIAN, platform=Platform("linux", "arm64"))]
    target = Layout(tmp_path / "layout")
    push_image(both, target, lambda digest: store.blob_path(digest).open("rb"), tags=["two"])
    name = f"oci:{tmp_path / 'layout'}:two"
    assert resolve_base(name, Platform("linux", "arm64"), ImageSettings(), store).platform.architecture == "arm64"
    with pytest.raises(BaseImageError) as caught:
        resolve_base(name, Platform("linux", "s390x"), ImageSettings(), store)
    assert "linux/amd64, linux/arm64" in str(caught.value.hint)
    assert caught.value.where == name
    single = write_layout(both[0], store, tmp_path / "single")
    with pytest.raises(BaseImageError, match="for linux/amd64, not for linux/arm64"):
        resolve_base(single, Platform("linux", "arm64"), ImageSettings(), store)


def test_unreachable_registry(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError):
        resolve_base("127.0.0.1:9/base:1", LINUX, ImageSettings(), Store(tmp_path))


@pytest.mark.registry
def test_registry_base(registry: Any, tmp_path: Path) -> None:
    from mealkit_builder.registry import Repository

    store = Store(tmp_path / "store")
    made = image(store, DEBIAN)
    reference = parse_reference(f"{registry.host}/bases/debian:12")
    target = Repository(reference, {}, push=True)
    push_image(made, target, lambda digest: store.blob_path(digest).open("rb"), tags=["12"])
    target.close()
    fresh = Store(tmp_path / "fresh")
    before = len(registry.requests())
    base = resolve_base(str(reference), LINUX, ImageSettings(), fresh)
    base.close()
    cold = registry.requests()[before:]
    assert base.reference == f"{registry.host}/bases/debian@{made.digest}"
    assert base.python.executable == "/usr/bin/python3.11"
    assert base.mounts(parse_reference(f"{registry.host}/team/recipe")) == {made.layers[0].digest: "bases/debian"}
    assert base.mounts(parse_reference("example.com/team/recipe")) == {}
    assert len(cold) == 3  # manifest, config, one layer
    before = len(registry.requests())
    resolve_base(str(reference), LINUX, ImageSettings(), fresh).close()
    assert len(registry.requests()) == before + 1  # what the tag names now; all else is known


@pytest.mark.engine
def test_engine_base(engine: Any, bookworm: str, shared_store: Store) -> None:
    base = resolve_base(f"docker:{BOOKWORM}", host_platform(), ImageSettings(), shared_store)
    assert (base.python.minor, base.python.libc, base.python.libc_version) == ("3.11", "glibc", (2, 36))
    assert base.python.executable == "/usr/bin/python3.11"
    inspected = engine.api.inspect_image(bookworm)
    assert [layer.diff_id for layer in base.image.layers] == inspected["RootFS"]["Layers"]
    for layer in base.image.layers:
        with base.open_layer(layer.digest) as file:
            packed = file.read()
        assert digest_bytes(packed) == layer.digest
        assert digest_bytes(gzip.decompress(packed)) == layer.diff_id
    again = resolve_base(f"docker:{BOOKWORM}", host_platform(), ImageSettings(), shared_store)
    assert again == base


@pytest.mark.engine
def test_missing_engine_base(engine: Any, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        resolve_base("docker:mealkit-test/nothing:1", LINUX, ImageSettings(), Store(tmp_path))
    assert caught.value.where == "docker:mealkit-test/nothing:1"
