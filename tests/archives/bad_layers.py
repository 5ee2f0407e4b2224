"""Layers that must be refused when they are unpacked or looked through, each with what is wrong with it."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Callable

from mealkit_builder.digest import digest_bytes
from mealkit_builder.layer import Layer

CASES: dict[str, tuple[Callable[[], tuple[Layer, bytes]], str]] = {}
TWINS: dict[str, Callable[[], tuple[Layer, bytes]]] = {}

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"


def layer(plain: bytes, packed: bytes | None = None) -> tuple[Layer, bytes]:
    """A gzip layer of a tar."""
    data = gzip.compress(plain, 6, mtime=0) if packed is None else packed
    return Layer(digest_bytes(data), len(data), digest_bytes(plain)), data


def block(
    name: str | bytes, data: bytes = b"", kind: bytes = b"0", link: str | bytes = b"", *, size: int | None = None,
    size_field: bytes | None = None, mode: int = 0o644, magic: bytes = b"ustar\x0000",
) -> bytes:  # fmt: skip
    """A header and its content, written byte by byte."""
    raw = name.encode() if isinstance(name, str) else name
    target = link.encode() if isinstance(link, str) else link
    length = len(data) if size is None else size
    field = size_field or b"%011o\0" % length
    front = raw.ljust(100, b"\0")[:100] + b"%07o\0" % mode + b"0000000\0" * 2 + field + b"%011o\0" % 0
    back = kind + target.ljust(100, b"\0")[:100] + magic + bytes(64) + b"0000000\0" * 2 + bytes(167)
    check = b"%06o\0 " % (sum(front) + sum(back) + 256)
    return front + check + back + data + bytes(-len(data) % 512)


def pax(records: dict[str, str | bytes], kind: bytes = b"x") -> bytes:
    """An extended header."""
    data = b""
    for key, value in records.items():
        raw = value.encode() if isinstance(value, str) else value
        rest = len(key) + len(raw) + 3
        length = rest + len(str(rest + len(str(rest))))
        data += b"%d %s=%s\n" % (length, key.encode(), raw)
    return block("PaxHeaders/x", data, kind)


END = bytes(1024)


def bad(title: str, why: str, *blocks: bytes, end: bytes = END) -> None:
    CASES[title] = (lambda: layer(b"".join(blocks) + end), why)


def twin(title: str, *blocks: bytes, end: bytes = END) -> None:
    TWINS[title] = lambda: layer(b"".join(blocks) + end)


def made(title: str, why: str) -> Callable[[Callable[[], tuple[Layer, bytes]]], None]:
    def add(make: Callable[[], tuple[Layer, bytes]]) -> None:
        CASES[title] = (make, why)

    return add


GOOD = block("etc/", kind=b"5", mode=0o755) + block("etc/good", b"good")

bad("traversal", "outside", block("../evil", b"1"))
bad("traversal_within", "outside", block("etc/../../evil", b"1"))
bad("traversal_in_pax", "outside", pax({"path": "../evil"}), block("harmless", b"1"))
bad("traversal_in_gnu_name", "outside", block("././@LongLink", b"../evil\0", b"L"), block("harmless", b"1"))
bad("hard_link_out", "outside", block("passwd", kind=b"1", link="../../../etc/passwd"))
bad("hard_link_to_the_machine", "no file", block("passwd", kind=b"1", link="/etc/passwd"))
bad("hard_link_to_nothing", "no file", GOOD, block("x", kind=b"1", link="gone"))
bad("hard_link_to_a_folder", "no file", GOOD, block("x", kind=b"1", link="etc"))
bad("hard_link_without_target", "link to nothing", block("x", kind=b"1"))
bad("link_without_target", "link to nothing", block("x", kind=b"2"))
bad("nul_in_pax_name", "NUL", pax({"path": b"a\0b"}), block("x", b"1"))
bad("nul_in_pax_link", "NUL", pax({"linkpath": b"a\0b"}), block("x", kind=b"2", link="y"))
bad("over_long_part", "too long", pax({"path": "a" * 300}), block("x", b"1"))
bad("over_long_name", "too long", pax({"path": "/".join(["a" * 100] * 60)}), block("x", b"1"))
bad("too_deep", "too deep", pax({"path": "/".join("a" * 400)}), block("x", b"1"))
bad("too_deep_by_a_link", "too deep", pax({"path": "/".join("a" * 200)}), block("x", kind=b"5", mode=0o755),
    pax({"linkpath": "/".join("a" * 200)}), block("l", kind=b"2", link="a"),
    pax({"path": "l/" + "/".join("b" * 200)}), block("x", b"1"))  # fmt: skip
bad("circle_of_links", "symbolic links", block("a", kind=b"2", link="b"), block("b", kind=b"2", link="a"),
    block("a/evil", b"1"))  # fmt: skip
bad("file_as_a_folder", "cannot be", block("a", b"1"), block("a/evil", b"1"))
bad("no_name", "no name", block("./", b"1"))
bad("whiteout_of_the_parent", "whiteout", block(".wh..."))
bad("whiteout_of_the_folder_itself", "whiteout", block("etc/.wh.."))
bad("whiteout_of_nothing", "whiteout", block(".wh."))
bad("whiteout_of_a_whiteout", "whiteout", block(".wh..wh.x"))
bad("below_a_whiteout", "below a whiteout", block(".wh.etc/evil", b"1"))
bad("whiteout_that_leads_out", "outside", block("../../.wh.etc"))
bad("our_own_mark", "mealkit uses", block(".mealkit-unpacked", kind=b"2", link="/tmp/evil"))
bad("our_own_environment", "mealkit uses", block(".mealkit-venv", kind=b"2", link="/tmp/evil"))
bad("our_own_mark_by_a_link", "mealkit uses", block("l", kind=b"2", link="."), block("l/.mealkit-unpacked", b"1"))
bad("mount_point_as_a_link", "no folder", block("tmp", kind=b"2", link="/home"))
bad("negative_size", "negative size", block("a", size_field=b"\xff" * 11 + b"\x00"), block("b", b"1"))
bad("endless_size", "cut off", block("a", size_field=b"\x80" + bytes(3) + b"\x7f" + b"\xff" * 7))
bad("pax_size_lies", "cut off", pax({"size": str(1 << 40)}), block("a", b"1"))
bad("pax_length_lies", "", block("PaxHeaders/x", b"999 path=x\n", b"x"), block("a", b"1"))
bad("pax_without_entry", "", pax({"path": "x"}))
bad("pax_chain", "damaged", pax({"path": "x"}) * 900, block("a", b"1"))
bad("pax_bomb", "longer than", block("PaxHeaders/x", b"9" * (2 << 20), b"x"), block("a", b"1"))
bad("pax_bomb_declared", "longer than", block("PaxHeaders/x", b"", b"x", size=1 << 32))
bad("gnu_name_bomb", "longer than", block("././@LongLink", b"a" * (2 << 20), b"L"), block("a", b"1"))
bad("global_header", "for all entries", pax({"path": "evil"}, b"g"), block("a", b"1"))
bad("sparse_pax", "sparse", pax({"GNU.sparse.map": "0,1", "GNU.sparse.size": str(1 << 60)}), block("a", b"1"))
bad("sparse_pax_damaged", "", pax({"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.size": "9"}),
    block("a", b"x" * 512))  # fmt: skip
bad("sparse_gnu", "sparse", block("a", b"", b"S", magic=b"ustar  \0"))
bad("unknown_kind", "unknown", block("a", b"1", b"Z"))
bad("volume_header", "unknown", block("a", b"", b"V"))
bad("damaged_checksum", "damaged", GOOD, b"x" + block("a", b"1")[1:])
bad("cut_in_a_header", "cut off", GOOD, block("a", b"1")[:300], end=b"")
bad("cut_in_a_file", "cut off", GOOD, block("a", b"1" * 5000)[:2000], end=b"")
bad("archive_behind_the_archive", "follow the archive's end", GOOD, END, block("evil", b"1"))
bad("rubbish", "damaged", b"rubbish" * 999, end=b"")


@made("wrong_diff_id", "diff ID")
def _() -> tuple[Layer, bytes]:
    one, data = layer(GOOD + END)
    return Layer(one.digest, one.size, "sha256:" + "0" * 64), data


@made("wrong_digest", "digest")
def _() -> tuple[Layer, bytes]:
    one, data = layer(GOOD + END)
    return Layer("sha256:" + "0" * 64, one.size, one.diff_id), data


@made("longer_than_declared", "longer than")
def _() -> tuple[Layer, bytes]:
    one, data = layer(GOOD + END)
    return Layer(one.digest, one.size - 1, one.diff_id), data


@made("shorter_than_declared", "shorter than")
def _() -> tuple[Layer, bytes]:
    one, data = layer(GOOD + END)
    return Layer(one.digest, one.size + 1, one.diff_id), data


@made("cut_gzip", "damaged")
def _() -> tuple[Layer, bytes]:
    return layer(GOOD + END, gzip.compress(GOOD + END, mtime=0)[:-20])


@made("wrong_gzip_crc", "damaged")
def _() -> tuple[Layer, bytes]:
    data = bytearray(gzip.compress(GOOD + END, mtime=0))
    data[-5] ^= 1
    return layer(GOOD + END, bytes(data))


@made("rubbish_behind_the_gzip", "damaged")
def _() -> tuple[Layer, bytes]:
    return layer(GOOD + END, gzip.compress(GOOD + END, mtime=0) + b"evil")


@made("unknown_compression", "cannot read")
def _() -> tuple[Layer, bytes]:
    one, data = layer(GOOD + END)
    return Layer(one.digest, one.size, one.diff_id, "application/vnd.oci.image.layer.v1.tar+brotli"), data


@made("bomb", "a bomb")
def _() -> tuple[Layer, bytes]:
    """150 MiB of zeros in 150 KB."""
    stream = zlib.compressobj(9, zlib.DEFLATED, 31)
    size = 150 << 20
    header = block("zeros", b"", size_field=b"%011o\0" % size)
    piece = bytes(1 << 20)
    data = b"".join([stream.compress(header), *(stream.compress(piece) for _ in range(150)), stream.flush()])
    return Layer(digest_bytes(data), len(data), "sha256:" + "0" * 64), data


twin("plain", GOOD)
twin("without_an_end", GOOD, end=b"")
twin("padded_end", GOOD, end=bytes(10240))
twin("absolute_name", block("/etc/hosts", b"1"))
twin("absolute_link", block("out", kind=b"2", link="/etc"), block("etc/x", b"1"), block("out/y", b"1"))
twin("link_upwards", block("up", kind=b"2", link="../../../../.."), block("up/inside", b"1"))
twin("hard_link", GOOD, block("x", kind=b"1", link="etc/good"), block("y", kind=b"1", link="./etc/good"))
twin("same_name_twice", block("a", b"1"), block("a", b"2"))
twin("folder_over_a_link", block("a", kind=b"2", link="/etc"), block("a/", kind=b"5"), block("a/b", b"1"))
twin("device_and_pipe", block("dev/null", kind=b"3"), block("dev/sda", kind=b"4"), block("run/pipe", kind=b"6"))
twin("set_user_id", block("bin/su", b"1", mode=0o4755), block("d/", kind=b"5", mode=0o6755))
twin("whiteouts", GOOD, block("etc/.wh.gone"), block("etc/.wh..wh..opq"), block(".wh.elsewhere"))
twin("pax_name", pax({"path": "etc/" + "é" * 100, "mtime": "1.5", "comment": "x"}), block("x", b"1"))
twin("global_comment", pax({"comment": "a commit"}, b"g"), block("x", b"1"))
twin("gnu_name", block("././@LongLink", b"a/" * 60 + b"b\0", b"L", magic=b"ustar  \0"), block("x", b"1"))
twin("name_that_is_not_utf_8", block(b"etc/\xff\xfe", b"1"))


def many(count: int) -> tuple[Layer, bytes]:
    """Many empty files, and a whiteout for each."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1, mtime=0) as file:
        plain = hashlib.sha256()
        for number in range(count):
            for data in (block(f"d/{number}"), block(f"d/.wh.{number}")):
                plain.update(data)
                file.write(data)
        plain.update(END)
        file.write(END)
    data = out.getvalue()
    return Layer(digest_bytes(data), len(data), "sha256:" + plain.hexdigest()), data
