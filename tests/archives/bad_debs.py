"""Debian packages that must be refused, each with what is wrong with it."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable

from bad_layers import END, block, pax
from debian import ar, control_text, deb

CASES: dict[str, tuple[Callable[[], bytes], str]] = {}
TWINS: dict[str, Callable[[], bytes]] = {}

CONTROL = control_text("pp", "1.0", "amd64")
HUGE = control_text("pp", "1.0", "amd64", **{"Installed-Size": "8000000"})
ROOT = block("./", kind=b"5", mode=0o755)
GOOD = ROOT + block("./etc/", kind=b"5", mode=0o755) + block("./etc/good", b"good")


def bad(title: str, why: str, *blocks: bytes, end: bytes = END, control: str = CONTROL) -> None:
    CASES[title] = (lambda: deb(control, ROOT + b"".join(blocks) + end), why)


def whole(title: str, why: str, make: Callable[[], bytes]) -> None:
    CASES[title] = (make, why)


bad("traversal", "outside", block("./../evil", b"1"))
bad("traversal_in_pax", "outside", pax({"path": "./../evil"}), block("./a", b"1"))
bad("absolute_name", "outside", block("/etc/evil", b"1"))
bad("nul_in_a_name", "outside", pax({"path": b"./a\0b"}), block("./a", b"1"))
bad("name_that_is_no_text", "no text", block(b"./\xff\xfe", b"1"))
bad("link_out", "leads outside", block("./l", kind=b"2", link="../../etc/passwd"))
bad("link_to_nothing", "leads nowhere", block("./l", kind=b"2"))
bad("hard_link_out", "outside", block("./l", kind=b"1", link="../../etc/passwd"))
bad("hard_link_to_the_machine", "outside", block("./l", kind=b"1", link="/etc/passwd"))
bad("hard_link_to_nothing", "no file before it", block("./l", kind=b"1", link="./gone"))
bad("through_a_link", "folder of the package", block("./l", kind=b"2", link="/tmp"), block("./l/evil", b"1"))
bad("file_as_a_folder", "folder of the package", block("./a", b"1"), block("./a/b", b"1"))
bad("same_name_twice", "there twice", block("./a", b"1"), block("./a", b"2"))
bad("device", "device", block("./null", kind=b"3"))
bad("block_device", "device", block("./sda", kind=b"4"))
bad("pipe", "device or a pipe", block("./pipe", kind=b"6"))
bad("unknown_kind", "device or a pipe", block("./x", b"", b"Z"))
bad("whiteout", "hide other files", block("./.wh.etc", b""))
bad("opaque_whiteout", "hide other files", block("./.wh..wh..opq", b""))
bad("sparse", "strange entry", pax({"GNU.sparse.map": "0,1", "GNU.sparse.size": "9"}), block("./a", b"1"))
bad("negative_size", "", block("./a", size_field=b"\xff" * 12), block("./b", b"1"))
bad("endless_size", "cut short", block("./a", size_field=b"\x80" + bytes(3) + b"\x7f" + b"\xff" * 7))
bad("pax_bomb", "longer than", block("PaxHeaders/x", b"9" * (4 << 20), b"x"), block("./a", b"1"), control=HUGE)
bad("pax_chain", "damaged", pax({"path": "x"}) * 900, block("./a", b"1"))
bad("gnu_name_bomb", "longer than", block("././@LongLink", b"a" * (4 << 20), b"L"), block("./a", b"1"), control=HUGE)
bad("global_header", "for all entries", pax({"path": "./evil"}, b"g"), block("./a", b"1"))
bad("damaged_checksum", "damaged", GOOD[512:], b"x" + block("./b", b"1")[1:])
bad("archive_behind_the_archive", "other data follow", END, block("./evil", b"1"))
bad("name_that_is_a_path", "names no package", control=control_text("../pp", "1.0", "amd64"))
bad("no_version", "one package", control="Package: pp\nArchitecture: amd64\n")
bad("two_packages", "one package", control=CONTROL + "\n" + CONTROL)
bad("no_control_text", "damaged", control="evil\n")


def zeros(size: int, form: int) -> bytes:
    """Zeros, packed."""
    if form == lzma.FORMAT_XZ:
        packer = lzma.LZMACompressor(preset=1)
        return b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)), packer.flush()])
    stream = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([*(stream.compress(bytes(1 << 20)) for _ in range(size >> 20)), stream.flush()])


def parts() -> list[tuple[str, bytes]]:
    """The members of a good package."""
    data = deb(CONTROL, GOOD + END)
    found, at = [], 8
    while at < len(data):
        name, size = data[at : at + 16].decode().rstrip(" /"), int(data[at + 48 : at + 58])
        found.append((name, data[at + 60 : at + 60 + size]))
        at += 60 + size + size % 2
    return found


def with_data(name: str, data: bytes) -> bytes:
    return ar([*parts()[:2], (name, data)])


whole("bomb_xz", "far larger", lambda: with_data("data.tar.xz", zeros(100 << 20, lzma.FORMAT_XZ)))
whole("bomb_gz", "far larger", lambda: with_data("data.tar.gz", zeros(100 << 20, 0)))
whole("unknown_compression", "cannot read", lambda: with_data("data.tar.lz4", b"x"))
whole("damaged_xz", "damaged", lambda: with_data("data.tar.xz", b"rubbish" * 99))
whole("cut_xz", "", lambda: with_data("data.tar.xz", parts()[2][1][:-20]))
whole("bytes_behind_the_xz", "other data", lambda: with_data("data.tar.xz", parts()[2][1] + b"evil"))
whole("no_archive", "no ar archive", lambda: b"<html>" * 99)
whole("empty", "no ar archive", lambda: b"")
whole("no_data", "exactly the members", lambda: ar(parts()[:2]))
whole("data_twice", "exactly the members", lambda: ar([*parts(), parts()[2]]))
whole("another_order", "belongs", lambda: ar([parts()[0], parts()[2], parts()[1]]))
whole("future_version", "another version", lambda: ar([("debian-binary", b"3.0\n"), *parts()[1:]]))
whole("many_members", "too many", lambda: ar([("debian-binary", b"2.0\n")] + [("_x", b"")] * 99))
whole("cut_member", "cut short", lambda: ar(parts())[:-30])
whole("negative_member", "damaged", lambda: ar(parts()).replace(b"4         `\n", b"-4        `\n", 1))

TWINS["plain"] = lambda: deb(CONTROL, GOOD + END)
TWINS["gzip"] = lambda: deb(CONTROL, GOOD + END, compress="gz")
TWINS["set_user_id"] = lambda: deb(CONTROL, ROOT + block("./su", b"1", mode=0o4755) + END)
TWINS["links_within"] = lambda: deb(
    CONTROL, GOOD + block("./etc/l", kind=b"2", link="../etc/good") + block("./h", kind=b"1", link="./etc/good") + END
)
TWINS["absolute_link"] = lambda: deb(CONTROL, ROOT + block("./l", kind=b"2", link="/etc/alternatives/x") + END)
TWINS["unknown_member_between"] = lambda: ar([parts()[0], ("_gpg", b"x"), *parts()[1:]])
