"""Headers say what they should, to Python's tarfile and to GNU tar, and the same in every circumstance."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mealkit_builder import entry

PART = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=120).filter(
    lambda part: part not in (".", "..")
)
PATH = st.lists(PART, min_size=1, max_size=6).map(lambda parts: "/".join(parts))


def read_one(data: bytes) -> tarfile.TarInfo:
    with tarfile.open(fileobj=io.BytesIO(data + entry.END_OF_ARCHIVE)) as tar:
        (member,) = tar.getmembers()
        return member


@given(PATH, st.integers(0, 40), st.booleans())
def test_a_file_is_read_back(path: str, size: int, executable: bool) -> None:
    member = read_one(entry.file_header("/" + path, size, executable) + bytes(size) + entry.padding(size))
    assert member.isreg()
    assert (member.name, member.size, member.mode) == (path, size, 0o755 if executable else 0o644)
    assert (member.uid, member.gid, member.uname, member.gname, member.mtime) == (0, 0, "", "", 315532800)


@given(PATH)
def test_a_directory_is_read_back(path: str) -> None:
    member = read_one(entry.directory_header(f"/{path}/"))
    assert member.isdir()
    assert (member.name, member.mode, member.size) == (path.rstrip("/"), 0o755, 0)


@given(PATH, PATH)
def test_a_link_is_read_back(path: str, target: str) -> None:
    member = read_one(entry.symlink_header(path, "../" + target))
    assert member.issym()
    assert (member.name, member.linkname) == (path, "../" + target)


@pytest.mark.parametrize("length", [99, 100, 101, 155, 156, 255, 256, 257, 300, 1000])
def test_lengths_around_the_limits(length: int) -> None:
    for name in ("n" * length, ("d" * 30 + "/") * (length // 31) + "n" * (length % 31 or 1)):
        assert read_one(entry.file_header(name, 0)).name == name


def test_a_name_that_fits_needs_no_extended_header() -> None:
    assert len(entry.file_header("d" * 155 + "/" + "n" * 100, 0)) == 512
    assert len(entry.file_header("d" * 156 + "/" + "n" * 100, 0)) == 1536


def test_a_size_of_8_gib_and_more() -> None:
    assert len(entry.file_header("big", 8**11 - 1)) == 512
    header = entry.file_header("big", 8**11)
    assert b"19 size=8589934592\n"[3:] in header
    assert tarfile.TarInfo.frombuf(header[:512], "utf-8", "strict").type == tarfile.XHDTYPE


def test_a_special_mode() -> None:
    assert read_one(entry.directory_header("/tmp", mode=0o1777)).mode == 0o1777
    assert read_one(entry.file_header("/etc/x", 0, mode=0o600)).mode == 0o600


@pytest.mark.parametrize("path", ["", "/", "a\0b"])
def test_a_path_that_no_archive_can_hold(path: str) -> None:
    with pytest.raises(ValueError, match="not a path"):
        entry.file_header(path, 0)


def test_the_bytes_of_a_header_are_fixed() -> None:
    header = entry.file_header("/opt/x.py", 5)
    assert (
        header[:160]
        == (
            b"opt/x.py".ljust(100, b"\0")
            + b"0000644\0"
            + b"0000000\0"
            + b"0000000\0"
            + b"00000000005\0"
            + b"02263523000\0"
            + b"010652\0 "
            + b"0"
        ).ljust(160, b"\0")[:160]
    )
    assert header[257:265] == b"ustar\x0000"


def test_gnu_tar_reads_them(tmp_path: Path) -> None:
    long = "/".join([f"directory-number-{number:02}" for number in range(20)]) + "/ünï"
    archive = tmp_path / "x.tar"
    archive.write_bytes(
        entry.directory_header("/a")
        + entry.file_header("/a/b", 3, True)
        + b"abc"
        + entry.padding(3)
        + entry.symlink_header("/a/c", "b")
        + entry.file_header("/" + long, 0)
        + entry.END_OF_ARCHIVE
    )
    listed = subprocess.run(
        ["tar", "--numeric-owner", "--full-time", "--utc", "--quoting-style=literal", "-tvf", archive],
        capture_output=True,
        check=True,
        timeout=20,
        env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
    )
    assert listed.stderr == b""
    lines = [line.split(maxsplit=5) for line in listed.stdout.decode().splitlines()]
    assert [(line[0], line[1], line[3], line[5]) for line in lines] == [
        ("drwxr-xr-x", "0/0", "1980-01-01", "a/"),
        ("-rwxr-xr-x", "0/0", "1980-01-01", "a/b"),
        ("lrwxrwxrwx", "0/0", "1980-01-01", "a/c -> b"),
        ("-rw-r--r--", "0/0", "1980-01-01", long),
    ]
