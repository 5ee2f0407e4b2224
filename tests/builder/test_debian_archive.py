"""Packages are read with suspicion: what they hold comes out, and what none should hold is refused."""

from __future__ import annotations

import io
import lzma
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from debian import ar, control_text, deb, package, tar
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mealkit.errors import BaseImageError, MealkitError
from mealkit_builder.debian.archive import open_deb
from mealkit_builder.debian.control import parse_stanzas

CONTROL = control_text("pp", "1.0", "amd64")


def write(folder: Path, data: bytes) -> Path:
    path = folder / "p.deb"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("compress", ["xz", "gz", ""])
def test_read(tmp_path: Path, compress: str) -> None:
    big = b"0123456789abcdef" * 100_000
    files = {"usr/bin/a": b"A", "usr/lib/big": big, "usr/bin/b": "a", "usr/bin/c": ("hard", "usr/bin/a"), "etc": None}
    path = write(tmp_path, package("pp", files, modes={"usr/bin/a": 0o4755}, compress=compress))  # type: ignore[arg-type]
    with open_deb(path, "p", tmp_path) as found:
        by_path = {one.path: one for one in found.entries}
        assert found.control["package"] == "pp"
        assert found.md5sums.count("\n") == 2
        assert set(by_path) == {"/etc", "/usr", "/usr/bin", "/usr/lib", *(f"/{name}" for name in files)}
        assert (by_path["/usr/bin/a"].kind, by_path["/usr/bin/a"].mode) == ("file", 0o4755)
        assert (by_path["/usr/bin/b"].kind, by_path["/usr/bin/b"].target) == ("link", "a")
        assert (by_path["/usr/bin/c"].kind, by_path["/usr/bin/c"].target) == ("hardlink", "/usr/bin/a")
        assert found.read(by_path["/usr/lib/big"]) == big
        assert b"".join(found.blocks(by_path["/usr/lib/big"], 1000)) == big
    assert list(tmp_path.iterdir()) == [path]


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", data: bytes = b"") -> bytes:
    """A tar archive whose one entry is anything."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size = kind, target, len(data)
        archive.addfile(info, io.BytesIO(data))
    return raw.getvalue()


def twice() -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("./a"))
        archive.addfile(tarfile.TarInfo("./a"))
    return raw.getvalue()


def through_a_link() -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        link = tarfile.TarInfo("./a")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("./a/passwd"))
    return raw.getvalue()


def damaged_header() -> bytes:
    data = bytearray(tar({"a": b"1", "b": b"2"}))
    data[512 * 4 + 100] ^= 1  # the header of the last file: tarfile would take it for the end
    assert data[512 * 3 : 512 * 3 + 3] == b"./b"
    data[512 * 3 + 100] ^= 1
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (entry("./../etc/passwd"), "outside of the image"),
        (entry("/etc/passwd"), "outside of the image"),
        (entry("a/../../b"), "outside of the image"),
        (entry("./a", tarfile.SYMTYPE, "../../../etc/passwd"), "leads outside"),
        (entry("./a", tarfile.SYMTYPE, ""), "leads nowhere"),
        (entry("./a", tarfile.LNKTYPE, "./missing"), "hard link"),
        (entry("./a", tarfile.LNKTYPE, "../../etc/passwd"), "outside of the image"),
        (entry("./a", tarfile.CHRTYPE), "device"),
        (entry("./a", tarfile.BLKTYPE), "device"),
        (entry("./a", tarfile.FIFOTYPE), "pipe"),
        (entry("./.wh.etc"), "hide other files"),
        (entry("./a/b"), "does not lie in a folder"),
        (entry("./"), "its root is no folder"),
        (twice(), "there twice"),
        (through_a_link(), "does not lie in a folder"),
        (damaged_header(), "damaged"),
        (tar({"a": b"1"}) + b"more", "damaged, or other data follow"),
        (tar({"a": b"1" * 2000})[:2000], "cut short|damaged"),
        (b"no archive" * 100, "damaged"),
    ],
)
def test_bad_files(tmp_path: Path, data: bytes, said: str) -> None:
    path = write(tmp_path, deb(CONTROL, data, compress="gz"))
    with pytest.raises(BaseImageError, match=said) as caught:
        open_deb(path, "p 1.0", tmp_path)
    assert caught.value.hint
    assert caught.value.where == "p 1.0"
    assert list(tmp_path.iterdir()) == [path]


def whole() -> list[tuple[str, bytes]]:
    return [("debian-binary", b"2.0\n"), ("control.tar.xz", lzma.compress(tar({"control": CONTROL.encode()}))),
            ("data.tar.xz", lzma.compress(tar({"a": b"1"})))]  # fmt: skip


def replaced(name: str, data: bytes, new: str = "") -> bytes:
    return ar([(new or one, data) if one == name else (one, content) for one, content in whole()])


def two_streams() -> bytes:
    return replaced("data.tar.xz", lzma.compress(tar({"a": b"1"})) + lzma.compress(b"x"))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no ar archive"),
        (b"!<arch>\n", "has not exactly"),
        (ar(whole())[:-30], "cut short"),
        (ar(whole()).replace(b"`\n", b"  ", 1), "header of its ar"),
        (ar(whole()[:2]), "has not exactly"),
        (ar([*whole(), ("data.tar", b"")]), "has not exactly"),
        (ar([whole()[0], whole()[2], whole()[1]]), "has data.tar.xz where control.tar belongs"),
        (replaced("debian-binary", b"3.0\n"), "another version"),
        (replaced("data.tar.xz", b"\x28\xb5\x2f\xfd", "data.tar.zst"), "cannot read"),
        (replaced("data.tar.xz", b"junk" * 20), "damaged"),
        (replaced("data.tar.xz", lzma.compress(tar({"a": b"1" * 9999}))[:-20]), "cut short"),
        (two_streams(), "other data follow"),
        (replaced("control.tar.xz", lzma.compress(tar({"other": b""}))), "no control file"),
        (replaced("control.tar.xz", lzma.compress(tar({"control": b"Package: p\n"}))), "does not describe"),
        (replaced("control.tar.xz", lzma.compress(tar({"control": b"no field\n"}))), "not a field"),
        (replaced("control.tar.xz", lzma.compress(tar({"control": b"\xff\xfe"}))), "no text"),
        (replaced("control.tar.xz", lzma.compress(tar({"control": "/etc/passwd"}))), "strange control"),
        (replaced("control.tar.xz", lzma.compress(bytes(17 << 20))), "far larger"),
    ],
)
def test_bad_archives(tmp_path: Path, data: bytes, said: str) -> None:
    path = write(tmp_path, data)
    with pytest.raises(BaseImageError, match=said):
        open_deb(path, "p", tmp_path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("compress", ["xz", "gz"])
def test_a_bomb_fills_neither_memory_nor_disk(tmp_path: Path, compress: str) -> None:
    control = control_text("pp", "1.0", "amd64", Installed_Size="10")
    path = write(tmp_path, deb(control, bytes(20 << 20), compress=compress))
    tracemalloc.start()
    try:
        with pytest.raises(BaseImageError, match="far larger"):
            open_deb(path, "p", tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 12 << 20
    finally:
        tracemalloc.stop()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10_000), byte=st.integers(0, 255), length=st.integers(0, 40))
@pytest.mark.parametrize("compress", ["", "xz"])
def test_damage_is_refused_or_harmless(tmp_path: Path, compress: str, at: int, byte: int, length: int) -> None:
    data = bytearray(package("pp", {"usr/a": b"A" * 700, "usr/b": "a"}, compress=compress))
    at %= len(data)
    data[at : at + length] = bytes([byte]) * length
    try:
        with open_deb(write(tmp_path, bytes(data)), "p", tmp_path) as found:
            for one in found.entries:
                assert one.path.startswith("/")
                assert ".." not in one.path.split("/")
                found.read(one)
    except MealkitError:
        pass


def test_stanzas() -> None:
    text = "# comment\nA: 1\nB:\n two\n .\n\n\nA: 2\n"
    assert parse_stanzas(text) == [{"a": "1", "b": "\n two\n ."}, {"a": "2"}]
    for wrong in (" first\n", "A: 1\na: 2\n", "no colon\n", ": x\n"):
        with pytest.raises(ValueError, match="field"):
            parse_stanzas(wrong)
