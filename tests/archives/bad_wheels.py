"""Wheels that must be refused, each made by a function whose docstring says what is wrong with it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

from zips import INFO, Item, archive, deflated, hashed, items, wheel, zeros

CASES: dict[str, tuple[Callable[[], bytes], str]] = {}
TWINS: dict[str, Callable[[], bytes]] = {}


def bad(why: str) -> Callable[[Callable[[], bytes]], Callable[[], bytes]]:
    """A case whose refusal must say ``why``."""

    def add(make: Callable[[], bytes]) -> Callable[[], bytes]:
        CASES[make.__name__] = (make, why)
        return make

    return add


def twin(make: Callable[[], bytes]) -> Callable[[], bytes]:
    """What looks like a case, and must be accepted."""
    TWINS[make.__name__] = make
    return make


def name_case(title: str, name: str | bytes, why: str, **changes: object) -> None:
    CASES[title] = (lambda: wheel(Item(name, **changes)), why)  # type: ignore[arg-type]


# Names that lead out, or mean another thing to another reader.
name_case("absolute_name", "/etc/cron.d/evil", "absolute")
name_case("traversal", "demo/../../../evil", "dotted")
name_case("traversal_at_the_start", "../evil", "dotted")
name_case("drive_letter", "C:/evil", "absolute")
name_case("drive_letter_without_slash", "c:evil", "absolute")
name_case("backslash_traversal", "demo\\..\\..\\evil", "backslash")
name_case("share_name", "\\\\server\\share\\evil", "backslash")
name_case("nul_in_a_name", "demo/a.py\0.txt", "control character")
name_case("newline_in_a_name", "demo/a\n.py", "control character")
name_case("escape_in_a_name", "demo/\x1b[2J.py", "control character")
name_case("right_to_left_name", "demo/\u202eyp.exe", "control character")
name_case("name_that_is_not_utf_8", b"demo/\xff\xfe.py", "not UTF-8", flags=0x800)
name_case("over_long_part", "demo/" + "a" * 256, "over-long")
name_case("over_long_name", "/".join(["demo"] + ["a" * 200] * 30), "over-long")
name_case("dot_part", "demo/./a.py", "dotted")
name_case("empty_part", "demo//a.py", "empty")
name_case("empty_name", "", "empty")
name_case("whiteout", "demo/.wh.__init__.py", "whiteout")
name_case("opaque_whiteout", "demo/.wh..wh..opq", "whiteout")
name_case("below_a_whiteout", ".wh.demo/a.py", "whiteout")
name_case("whiteout_in_a_data_folder", "demo-1.0.data/data/.wh.bin", "whiteout")
name_case("case_clash", "demo/__INIT__.py", "upper and lower case")
name_case("scheme_outside", "demo-1.0.data/secret/x", "valid .data")
name_case("replaces_the_interpreter", "demo-1.0.data/scripts/python", "the environment's own")
name_case("replaces_the_environment", "demo-1.0.data/data/pyvenv.cfg", "the environment's own")
name_case("replaces_the_runtime", "mealkit_runtime/__main__.py", "the environment's own")
name_case("second_dist_info", "other-1.0.dist-info/METADATA", "2 .dist-info")

# Kinds of files.
name_case("symbolic_link", "demo/link", "a link or a device", mode=0o120777, data=b"/etc/passwd")
name_case("device", "demo/null", "a link or a device", mode=0o020666)
name_case("block_device", "demo/sda", "a link or a device", mode=0o060660)
name_case("fifo", "demo/pipe", "a link or a device", mode=0o010644)
name_case("socket", "demo/socket", "a link or a device", mode=0o140644)
name_case("set_user_id", "demo/su", "another user", mode=0o104755)
name_case("set_group_id", "demo/sg", "another user", mode=0o102755)
name_case("folder_with_content", "demo/sub/", "a folder with content", record=False)
name_case("encrypted", "demo/a.py", "encrypted", flags=1)
name_case("strongly_encrypted", "demo/a.py", "encrypted", flags=0x41)
name_case("method_bzip2", "demo/a.py", "method 12", method=12)
name_case("method_lzma", "demo/a.py", "method 14", method=14)
name_case("method_zstd", "demo/a.py", "method 93", method=93)
name_case("method_unknown", "demo/a.py", "method 77", method=77)

# Contents that are not what is said of them.
name_case("wrong_crc", "demo/a.py", "CRC-32", crc=1)
name_case("longer_than_declared", "demo/a.py", "longer than", raw=deflated(b"x" * 999), size=6)
name_case("shorter_than_declared", "demo/a.py", "it has 999", size=999)
name_case("bytes_behind_the_content", "demo/a.py", "other bytes follow", raw=deflated(b"x = 1\n") + b"evil")
name_case("damaged_deflate", "demo/a.py", "damaged", raw=b"\xff\xff\xff\xff")
name_case("cut_deflate", "demo/a.py", "ends after", raw=deflated(bytes(range(256)))[:40], data=bytes(range(256)))
name_case("stored_with_two_sizes", "demo/a.py", "two sizes", method=0, size=9)


@bad("twice")
def same_name_twice() -> bytes:
    """Two entries of one name with other contents: readers take the first or the last."""
    return wheel(Item("demo/a.py", b"good"), Item("demo/a.py", b"evil", record=False))


@bad("upper and lower case")
def composed_and_decomposed() -> bytes:
    """Two names that some file systems take for one."""
    return wheel(Item("demo/\u00e9.py"), Item("demo/e\u0301.py"))


@bad("has another name")
def local_name_differs() -> bytes:
    """A reader that streams sees another file than one that reads the directory."""
    return wheel(Item("demo/a.py", local={"name": b"demo/b.py"}))


@bad("disagrees with the archive's directory")
def local_size_differs() -> bytes:
    """The local header tells another length."""
    return wheel(Item("demo/a.py", local={"size": 99}))


@bad("disagrees with the archive's directory")
def local_packed_size_differs() -> bytes:
    """The local header tells another packed length."""
    return wheel(Item("demo/a.py", local={"packed": 3}))


@bad("disagrees with the archive's directory")
def local_crc_differs() -> bytes:
    """The local header tells another CRC."""
    return wheel(Item("demo/a.py", local={"crc": 7}))


@bad("disagrees with the archive's directory")
def local_method_differs() -> bytes:
    """The local header says stored, the directory deflated."""
    return wheel(Item("demo/a.py", local={"method": 0}))


@bad("disagrees with the archive's directory")
def local_flags_differ() -> bytes:
    """The local header says encrypted."""
    return wheel(Item("demo/a.py", local={"flags": 1}))


@bad("data descriptor")
def descriptor_lies() -> bytes:
    """The data descriptor behind the content tells another CRC and length."""
    lie = b"PK\x07\x08" + struct.pack("<3L", 1, 2, 3)
    return wheel(Item("demo/a.py", flags=8, local={"crc": 0, "size": 0, "packed": 0}, descriptor=lie))


@bad("data descriptor")
def descriptor_missing() -> bytes:
    """The flags promise a data descriptor that is not there."""
    return wheel(Item("demo/a.py", flags=8, local={"crc": 0, "size": 0, "packed": 0}))


@bad("it overlaps")
def overlapping_entries() -> bytes:
    """Two lines of the directory that name one local header, as the better zip bombs do."""
    listed = items(Item("demo/a.py"), Item("demo/a.py", record=False))
    at = len(archive(listed[:1])) - 46 - 22 - len("demo/__init__.py")
    listed[1].offset = listed[2].offset = at
    return archive(listed)


@bad("belong to nothing")
def hidden_entry() -> bytes:
    """A whole local entry that the directory does not list: only a streaming reader sees it."""
    hidden = archive([Item("demo/evil.py")])
    hidden = hidden[: hidden.index(b"PK\x01\x02")]
    return wheel(Item("demo/a.py", before=hidden))


@bad("other bytes stand before")
def prefix_bytes() -> bytes:
    """A program before the archive, its offsets counted from the archive's start."""
    return wheel(prefix=b"#!/bin/sh\nevil\n", shift=False)


@bad("belong to nothing")
def prefix_bytes_counted() -> bytes:
    """A program before the archive, which the offsets count in."""
    return wheel(prefix=b"#!/bin/sh\nevil\n")


@bad("follow the archive's end")
def bytes_behind_the_end() -> bytes:
    """A second archive behind the first's end, cut so that it has none of its own."""
    return wheel(suffix=b"PK\x03\x04 and so on")


@bad("is not where its end says")
def two_archives() -> bytes:
    """One archive behind another: readers from the front and from the back see two wheels."""
    return wheel() + wheel(Item("demo/evil.py"))


@bad("is not where its end says")
def end_in_the_comment() -> bytes:
    """A comment that holds a second end: which is taken depends on where a reader looks first."""
    return wheel(comment=b"PK\x05\x06" + bytes(18))


@bad("other bytes follow")
def comment_too_short() -> bytes:
    """The comment's length is a lie."""
    return wheel() + b"!"


@bad("another length")
def more_lines_than_counted() -> bytes:
    """The end counts fewer entries than the directory has."""
    return wheel(Item("demo/evil.py"), count=4)


@bad("directory is cut off")
def fewer_lines_than_counted() -> bytes:
    """The end counts more entries than there are."""
    return wheel(count=9)


@bad("not where its end says")
def directory_elsewhere() -> bytes:
    """The end names another place for the directory."""
    return wheel(directory_start=3)


@bad("several parts")
def several_disks() -> bytes:
    """The archive is said to go on in another file."""
    return wheel(disk=1)


@bad("two ends that disagree")
def zip64_end_lies() -> bytes:
    """A ZIP64 end that tells another directory than the plain end does."""
    body = archive(items())
    start = body.index(b"PK\x01\x02")
    size = len(body) - 22 - start
    wide = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, size, start)
    wide += struct.pack("<4sLQL", b"PK\x06\x07", 0, len(body) - 22, 1)
    return body[:-22] + wide + body[-22:]


@bad("locator")
def zip64_locator_lies() -> bytes:
    """A ZIP64 locator that names the inside of another file."""
    return wheel(before_end=struct.pack("<4sLQL", b"PK\x06\x07", 0, 30, 1))


@bad("ZIP64 field")
def zip64_field_missing() -> bytes:
    """A size that says to look into a ZIP64 field, and no such field."""
    return wheel(Item("demo/a.py", size=0xFFFFFFFF))


@bad("ZIP64 field disagrees")
def zip64_field_lies() -> bytes:
    """A ZIP64 field that tells other sizes than the header it stands in."""
    return wheel(Item("demo/a.py", extra=struct.pack("<2H2Q", 1, 16, 1 << 40, 1 << 40)))


@bad("lies outside")
def zip64_size_beyond_the_file() -> bytes:
    """A packed size of four exabytes, by a ZIP64 field."""
    wide = struct.pack("<2H2Q", 1, 16, 6, 1 << 62)
    return wheel(Item("demo/a.py", packed=0xFFFFFFFF, size=0xFFFFFFFF, extra=wide, local_extra=wide))


@bad("second name")
def unicode_name_field() -> bytes:
    """A second name in an extra field, which only some readers take."""
    name = b"demo/evil.py"
    field = struct.pack("<BL", 1, zlib.crc32(b"demo/a.py")) + name
    return wheel(Item("demo/a.py", extra=struct.pack("<2H", 0x7075, len(field)) + field))


@bad("extra fields")
def extra_field_too_long() -> bytes:
    """An extra field whose length leads beyond all of them."""
    return wheel(Item("demo/a.py", extra=struct.pack("<2H", 0x9999, 500)))


@bad("lies outside")
def offset_outside() -> bytes:
    """An entry whose header would lie behind the file's end."""
    return wheel(Item("demo/a.py", offset=1 << 30))


@bad("overlaps the archive's directory")
def content_into_the_directory() -> bytes:
    """A stored content so long that the directory is part of it."""
    listed = items()
    listed[-1] = Item(f"{INFO}/RECORD", b"", method=0, size=60, packed=60)
    return archive(listed)


@bad("no zip archive ends")
def truncated() -> bytes:
    """The download was cut off."""
    return wheel()[:-30]


@bad("cannot be read")
def empty_file() -> bytes:
    """Nothing at all."""
    return b""


@bad("no zip archive ends")
def not_an_archive() -> bytes:
    """A page of the index's error instead of a wheel."""
    return b"<html>503 Service Unavailable</html>" * 99


@bad("a bomb")
def bomb_by_ratio() -> bytes:
    """100 MiB of zeros in 100 KB, declared honestly."""
    raw, crc = zeros(100 << 20)
    lines = f"demo/zeros.bin,sha256={'A' * 43},{100 << 20}\n"
    return wheel(Item("demo/zeros.bin", b"", raw=raw, crc=crc, size=100 << 20, record=False), lines=lines)


@bad("longer than")
def bomb_with_a_small_size() -> bytes:
    """100 MiB of zeros that claim to be six bytes."""
    return wheel(Item("demo/zeros.bin", raw=zeros(100 << 20)[0]))


@bad("a bomb")
def bomb_of_many() -> bytes:
    """Forty files of 4 MiB of zeros, none of them a bomb by itself."""
    raw, crc = zeros(4 << 20)
    many = [Item(f"demo/{n}.bin", b"", raw=raw, crc=crc, size=4 << 20, record=False) for n in range(40)]
    return wheel(*many, lines="".join(f"demo/{n}.bin,sha256={'A' * 43},{4 << 20}\n" for n in range(40)))


@bad("a bomb")
def huge_declared_size() -> bytes:
    """A file that is said to have 4 GiB less two bytes."""
    return wheel(Item("demo/a.py", size=0xFFFFFFFE))


@bad("too long for a file about the wheel")
def metadata_bomb() -> bytes:
    """METADATA of 48 MiB of zeros."""
    raw, crc = zeros(48 << 20)
    listed = items()
    listed[1] = Item(f"{INFO}/METADATA", b"", raw=raw, crc=crc, size=48 << 20)
    return archive(listed)


@bad("more than a wheel may have")
def too_many_entries() -> bytes:
    """120,000 entries, by a ZIP64 end: each costs a reader far more memory than the archive."""
    line = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    size = len(line) * 120_000
    wide = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 120_000, 120_000, size, 0)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, size, 1)
    return line * 120_000 + wide + locator + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, *[0xFFFF] * 2, size, 0, 0)


# RECORD.
CASES["record_missing"] = (lambda: archive(items()[:-1]), "it is missing")
CASES["record_is_not_utf_8"] = (lambda: _record(b"\xff\xfe,,\n"), "can't decode")
CASES["record_lacks_a_file"] = (lambda: wheel(Item("demo/a.py", record=False)), "does not list it")
CASES["record_lists_too_much"] = (lambda: wheel(lines=f"demo/gone.py,{hashed(b'')},0\n"), "but it is missing")
CASES["record_lists_twice"] = (lambda: wheel(lines=f"demo/__init__.py,{hashed(b'')},0\n"), "lists it twice")
CASES["record_with_two_fields"] = (lambda: wheel(lines="demo/x.py,sha256\n"), "2 fields")
CASES["record_with_open_quotes"] = (lambda: wheel(lines='"demo/x.py,a,1\n'), "RECORD")


def _record(data: bytes) -> bytes:
    listed = items()
    listed[-1] = Item(f"{INFO}/RECORD", data)
    return archive(listed)


def _line(line: str) -> bytes:
    return wheel(Item("demo/a.py", record=False), lines=line + "\n")


for title, line, why in (
    ("record_wrong_hash", f"demo/a.py,{hashed(b'other')},6", "not the one in RECORD"),
    ("record_wrong_size", f"demo/a.py,{hashed(b'x = 1' + bytes([10]))},7", "it has 6"),
    ("record_without_hash", "demo/a.py,,", "no usable hash"),
    ("record_with_md5", "demo/a.py,md5=AAAAAAAAAAAAAAAAAAAAAA,6", "no usable hash"),
    ("record_with_empty_hash", "demo/a.py,sha256=,6", "no usable hash"),
    ("record_with_another_separator", f"demo\\a.py,{hashed(b'x')},6", "does not list it"),
):
    CASES[title] = (lambda line=line: _line(line), why)  # type: ignore[misc]


@bad("metadata of other")
def another_distribution() -> bytes:
    """METADATA of another distribution than the file's name."""
    return wheel(metadata=b"Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")


@bad("no name of a script")
def script_outside() -> bytes:
    """A console script whose name leads out of the folder of scripts."""
    return wheel(Item(f"{INFO}/entry_points.txt", b"[console_scripts]\n../../../evil = demo:main\n"))


@bad("no name of a script")
def script_as_whiteout() -> bytes:
    """A console script that would hide another one."""
    return wheel(Item(f"{INFO}/entry_points.txt", b"[console_scripts]\n.wh.python = demo:main\n"))


@bad("AssertionError")
def script_with_code() -> bytes:
    """A console script whose function is a statement."""
    return wheel(Item(f"{INFO}/entry_points.txt", b"[console_scripts]\nx = demo:main();import evil\n"))


# Twins: near to the above, and right.
@twin
def plain() -> bytes:
    """Nothing special."""
    return wheel()


@twin
def stored_and_executable() -> bytes:
    """A stored file that may be executed."""
    return wheel(Item("demo/tool.sh", method=0, mode=0o100755))


@twin
def with_a_comment() -> bytes:
    """A comment that holds no second end."""
    return wheel(comment=b"made by a build")


@twin
def with_folders() -> bytes:
    """Folders have entries of their own."""
    return wheel(Item("demo/sub/", b"", method=0, mode=0o042755), Item("demo/sub/a.py"))


@twin
def with_descriptors() -> bytes:
    """Written to a pipe: sizes follow the content."""
    item = Item("demo/a.py", flags=8, local={"crc": 0, "size": 0, "packed": 0})
    item.descriptor = b"PK\x07\x08" + struct.pack("<3L", zlib.crc32(item.data), len(item.content), len(item.data))
    bare = Item("demo/b.py", flags=8, local={"crc": 0, "size": 0, "packed": 0})
    bare.descriptor = struct.pack("<3L", zlib.crc32(bare.data), len(bare.content), len(bare.data))
    return wheel(item, bare)


@twin
def with_zip64_fields() -> bytes:
    """Sizes in ZIP64 fields, though they would fit."""
    item = Item("demo/a.py", size=0xFFFFFFFF, packed=0xFFFFFFFF)
    item.extra = item.local_extra = struct.pack("<2H2Q", 1, 16, len(item.data), len(item.content))
    return wheel(item)


@twin
def unicode_names() -> bytes:
    """Names outside of ASCII, and such as Windows would not have."""
    return wheel(Item("demo/\u00e9\u4e2d.txt"), Item("demo/aux.py"), Item("demo/a b,c.txt"), Item("demo/x:y"))


@twin
def many_zeros() -> bytes:
    """Zeros, but no more than any wheel may have."""
    return wheel(Item("demo/zeros.bin", bytes(4 << 20)))


@twin
def an_archive_in_it() -> bytes:
    """A wheel among the data: nobody opens it, so it may be as bad as it likes."""
    return wheel(Item("demo/inner.zip", wheel(prefix=b"x"), method=0))
