"""A wheel is taken only when all that it says of itself is true; otherwise nothing is written."""

from __future__ import annotations

import stat
import struct
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from wheels_for_tests import contents, make_wheel, patched, record_hash, wheel_file

from mealkit.errors import WheelError
from mealkit_builder.layering import Group, build_wheel_layer
from mealkit_builder.store import Store
from mealkit_builder.wheel import WheelFile
from mealkit_builder.wheel_reader import open_wheel

Maker = Callable[[Path], WheelFile]
GOOD = {"demo/__init__.py": "x = 1\n", "demo/data.bin": bytes(1000) + b"DATA"}
RECORD = "demo-1.0.dist-info/RECORD"


def info(name: str, *, mode: int = 0o100644, system: int = 3) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo("placeholder")
    made.filename = made.orig_filename = name
    made.external_attr = mode << 16
    made.create_system = system
    return made


def named(name: str, *, mode: int = 0o100644) -> Maker:
    return lambda folder: make_wheel(folder, files=GOOD, infos=[(info(name, mode=mode), b"evil")])


def demo(**arguments: object) -> Maker:
    return lambda folder: make_wheel(folder, **{"files": GOOD, **arguments})  # type: ignore[arg-type]


def encrypted(folder: Path) -> WheelFile:
    wheel = make_wheel(folder, files=GOOD)
    data = bytearray(wheel.path.read_bytes())  # type: ignore[union-attr]
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + offset] |= 1
    wheel.path.write_bytes(data)  # type: ignore[union-attr]
    return wheel_file(wheel.path)  # type: ignore[arg-type]


def central(folder: Path, entry: str, offset: int, value: bytes) -> WheelFile:
    """A wheel with bytes of an entry's line in the central directory changed."""
    wheel = make_wheel(folder, files=GOOD)
    data = bytearray(wheel.path.read_bytes())  # type: ignore[union-attr]
    at = data.rindex(entry.encode()) - 46
    assert data[at : at + 4] == b"PK\x01\x02"
    data[at + offset : at + offset + len(value)] = value
    wheel.path.write_bytes(data)  # type: ignore[union-attr]
    return wheel_file(wheel.path)  # type: ignore[arg-type]


def both_headers(folder: Path, entry: str, local: int, directory: int, value: bytes) -> WheelFile:
    wheel = central(folder, entry, directory, value)
    data = bytearray(wheel.path.read_bytes())  # type: ignore[union-attr]
    at = data.index(entry.encode()) - 30
    data[at + local : at + local + len(value)] = value
    wheel.path.write_bytes(data)  # type: ignore[union-attr]
    return wheel_file(wheel.path)  # type: ignore[arg-type]


def overlapping(folder: Path) -> WheelFile:
    """Two lines of the directory with one content, the trick of the better zip bombs."""
    wheel = make_wheel(folder, files={"demo/a.py": "same", "demo/b.py": "same"})
    with zipfile.ZipFile(wheel.path) as archive:  # type: ignore[arg-type]
        first = archive.getinfo("demo/a.py").header_offset
    data = bytearray(wheel.path.read_bytes())  # type: ignore[union-attr]
    line = data.rindex(b"demo/b.py") - 46
    # The second's header is put into the first's content, which starts where its own would.
    nested = first + 30 + len("demo/a.py")
    second = data.index(b"demo/b.py") - 30
    data[line + 42 : line + 46] = struct.pack("<L", nested)
    data[nested : nested + 39] = data[second : second + 39]
    wheel.path.write_bytes(data)  # type: ignore[union-attr]
    return wheel_file(wheel.path)  # type: ignore[arg-type]


def overlapping_next(folder: Path) -> WheelFile:
    """A stored entry that is declared so long that it swallows the next one's header."""
    wheel = make_wheel(folder, files={"demo/a.py": "a" * 40, "demo/b.py": "b" * 40}, method=zipfile.ZIP_STORED)
    long = struct.pack("<LL", 90, 90)
    data = bytearray(wheel.path.read_bytes())  # type: ignore[union-attr]
    for magic, at in ((b"PK\x03\x04", data.index(b"demo/a.py") - 30), (b"PK\x01\x02", data.rindex(b"demo/a.py") - 46)):
        assert data[at : at + 4] == magic
        place = at + (18 if magic == b"PK\x03\x04" else 20)
        data[place : place + 8] = long
    wheel.path.write_bytes(data)  # type: ignore[union-attr]
    return wheel_file(wheel.path)  # type: ignore[arg-type]


def twice(folder: Path) -> WheelFile:
    return patched(make_wheel(folder, files={"demo/aa.py": "1", "demo/bb.py": "2"}), b"demo/bb.py", b"demo/aa.py", 9)


def other_name_inside(folder: Path) -> WheelFile:
    return patched(make_wheel(folder, files=GOOD), b"demo/data.bin", b"demo/data.bxn")


def bomb(folder: Path) -> WheelFile:
    """60 MB of zeros that claim to be 1,004 bytes."""
    zeros = bytes(60_000_000)
    line = f"demo/data.bin,{record_hash(zeros)},1004"
    wheel = make_wheel(folder, files={"demo/data.bin": zeros}, record={"demo/data.bin": line})
    data = wheel.path.read_bytes()  # type: ignore[union-attr]
    wheel.path.write_bytes(data.replace(struct.pack("<L", 60_000_000), struct.pack("<L", 1004)))  # type: ignore[union-attr]
    return wheel_file(wheel.path)  # type: ignore[arg-type]


def lzma(folder: Path) -> WheelFile:
    return make_wheel(folder, files=GOOD, method=zipfile.ZIP_LZMA)


def truncated(folder: Path) -> WheelFile:
    wheel = make_wheel(folder, files=GOOD)
    wheel.path.write_bytes(wheel.path.read_bytes()[:-40])  # type: ignore[union-attr]
    return wheel_file(wheel.path)  # type: ignore[arg-type]


def empty(folder: Path) -> WheelFile:
    folder.mkdir()
    path = folder / "demo-1.0-py3-none-any.whl"
    path.write_bytes(b"")
    return wheel_file(path)


BAD: dict[str, tuple[Maker, str]] = {
    "encrypted": (encrypted, "encrypted"),
    "absolute": (named("/etc/passwd"), "absolute"),
    "drive": (named("C:/x.py"), "absolute"),
    "parent": (named("demo/../../x.py"), "dotted"),
    "parent at the start": (named("../x.py"), "dotted"),
    "dot": (named("demo/./x.py"), "dotted"),
    "empty part": (named("demo//x.py"), "empty"),
    "backslash": (named("demo\\x.py"), "backslash"),
    "newline": (named("demo/x\n.py"), "control character"),
    "over-long part": (named("demo/" + "x" * 256), "over-long"),
    "link": (named("demo/link", mode=stat.S_IFLNK | 0o777), "a link or a device"),
    "device": (named("demo/null", mode=stat.S_IFCHR | 0o666), "a link or a device"),
    "fifo": (named("demo/fifo", mode=stat.S_IFIFO | 0o666), "a link or a device"),
    "folder without a slash": (named("demo/d", mode=stat.S_IFDIR | 0o755), "a link or a device"),
    "twice": (twice, "twice"),
    "lzma": (lzma, "method 14"),
    "overlap": (overlapping, "it overlaps demo/a.py"),
    "overlap with the next": (overlapping_next, "overlaps"),
    "other name in the local header": (other_name_inside, "local header has another name"),
    "other size in the local header": (lambda folder: central(folder, "demo/data.bin", 24, b"\x01\0\0\0"), "disagrees"),
    "other method in the local header": (lambda folder: central(folder, "demo/data.bin", 10, b"\0\0"), "disagrees"),
    "offset outside": (lambda folder: central(folder, "demo/data.bin", 42, b"\xf0\xff\xff\0"), "outside"),
    "bomb": (bomb, "longer than"),
    "wrong CRC": (lambda folder: both_headers(folder, "demo/data.bin", 14, 16, b"abcd"), "CRC-32"),
    "wrong hash in RECORD": (
        demo(record={"demo/data.bin": "demo/data.bin,sha256=" + "A" * 43 + ",1004"}),
        "not the one in",
    ),
    "wrong size in RECORD": (demo(record={"demo/data.bin": "demo/data.bin,sha256=" + "A" * 43 + ",9"}), "RECORD says"),
    "weak hash in RECORD": (
        demo(record={"demo/data.bin": "demo/data.bin,md5=" + "A" * 22 + ",1004"}),
        "no usable hash",
    ),
    "no hash in RECORD": (demo(record={"demo/data.bin": "demo/data.bin,,"}), "no usable hash"),
    "not in RECORD": (demo(record={"demo/data.bin": ""}), "does not list"),
    "only in RECORD": (demo(record={"x": "demo/x.py,sha256=" + "A" * 43 + ",9"}), "but it is missing"),
    "twice in RECORD": (demo(record={"x": "demo/data.bin,sha256=" + "A" * 43 + ",9"}), "lists it twice"),
    "two fields in RECORD": (demo(record={"x": "demo/data.bin,sha256"}), "2 fields"),
    "another dist-info": (demo(files={**GOOD, "other-1.0.dist-info/METADATA": "x"}), "2 .dist-info"),
    "another distribution": (demo(filename="other-1.0-py3-none-any.whl"), "disagrees with the file name"),
    "another version": (demo(filename="demo-1.1-py3-none-any.whl"), "disagrees with the file name"),
    "another name in METADATA": (
        demo(metadata="Metadata-Version: 2.1\nName: other\nVersion: 1.0\n"),
        "metadata of other",
    ),
    "another version in METADATA": (
        demo(metadata="Metadata-Version: 2.1\nName: demo\nVersion: 2\n"),
        "metadata of demo 2",
    ),
    "no version in METADATA": (demo(metadata="Metadata-Version: 2.1\nName: demo\n"), "metadata of demo None"),
    "no METADATA": (demo(metadata=""), "it is missing"),
    "another data folder": (demo(files={"other-1.0.data/scripts/x": "x"}), "disagrees with the .dist-info"),
    "unknown scheme": (demo(files={"demo-1.0.data/secret/x": "x"}), "not contained in a valid"),
    "wheel of the future": (demo(wheel="Wheel-Version: 2.0\nRoot-Is-Purelib: true\n"), "Wheel-Version"),
    "script outside": (demo(entry_points="[console_scripts]\n../../x = demo:main\n"), "no name of a script"),
    "script without a function": (demo(entry_points="[console_scripts]\nx = demo\n"), "AssertionError"),
    "script with code": (demo(entry_points="[console_scripts]\nx = demo:main();evil\n"), "AssertionError"),
    "broken entry points": (demo(entry_points="console_scripts\n"), "MissingSectionHeaderError"),
    "the environment's python": (demo(entry_points="[console_scripts]\npython = demo:main\n"), "the environment's own"),
    "the environment's settings": (demo(files={"demo-1.0.data/data/pyvenv.cfg": "home = /"}), "the environment's own"),
    "one place twice": (demo(files={"demo/x.py": "1", "demo-1.0.data/purelib/demo/x.py": "2"}), "two of its files"),
    "a file as a folder": (
        demo(files={"demo/x": "1", "demo-1.0.data/purelib/demo/x/y.py": "2"}),
        "a file and a folder",
    ),
    "truncated": (truncated, "cannot be read"),
    "empty": (empty, "cannot be read"),
    "not fetched": (lambda folder: replace(make_wheel(folder), path=None), "not fetched"),
    "gone": (lambda folder: replace(make_wheel(folder), path=folder / "gone"), "cannot be read"),
    "another sha256": (lambda folder: replace(make_wheel(folder), sha256="0" * 64), "not the locked one"),
    "another size": (lambda folder: replace(make_wheel(folder), size=7), "were expected"),
    "another lock name": (lambda folder: replace(make_wheel(folder), name="else"), "its file name says"),
}


@pytest.mark.parametrize("case", BAD)
def test_refused_and_nothing_written(case: str, tmp_path: Path) -> None:
    make, why = BAD[case]
    wheel = make(tmp_path / "wheels")
    store = Store(tmp_path / "store")
    with pytest.raises(WheelError) as caught:
        build_wheel_layer(Group((wheel,)), "3.12", store)
    assert why in caught.value.message
    assert wheel.filename in str(caught.value.where)
    assert caught.value.hint
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_good_wheel_is_read(tmp_path: Path, method: int) -> None:
    opened = open_wheel(make_wheel(tmp_path, files=GOOD, method=method))
    assert opened.dist_info == "demo-1.0.dist-info"
    assert opened.read(opened.entries["demo/data.bin"]) == GOOD["demo/data.bin"]


def test_sizes_after_the_content(tmp_path: Path) -> None:
    """Wheels written to a pipe have data descriptors, and local headers without sizes."""
    source = make_wheel(tmp_path, files=GOOD)
    path = tmp_path / "streamed" / source.filename
    path.parent.mkdir()

    class Pipe:
        def __init__(self) -> None:
            self.data = b""

        def write(self, data: bytes) -> int:
            self.data += data
            return len(data)

        def flush(self) -> None:
            pass

    pipe = Pipe()
    with zipfile.ZipFile(source.path) as old, zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as new:  # type: ignore[arg-type, call-overload]
        for item in old.infolist():
            new.writestr(item.filename, old.read(item))
    path.write_bytes(pipe.data)
    store = Store(tmp_path / "store")
    files = contents(store, build_wheel_layer(Group((wheel_file(path),)), "3.12", store))
    assert files["/opt/mealkit/venv/lib/python3.12/site-packages/demo/data.bin"] == GOOD["demo/data.bin"]


def test_zip64_headers(tmp_path: Path) -> None:
    source = make_wheel(tmp_path, files=GOOD)
    path = tmp_path / "zip64" / source.filename
    path.parent.mkdir()
    with zipfile.ZipFile(source.path) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:  # type: ignore[arg-type]
        for item in old.infolist():
            with new.open(item.filename, "w", force_zip64=True) as stream:
                stream.write(old.read(item))
    opened = open_wheel(wheel_file(path))
    assert opened.read(opened.entries["demo/data.bin"]) == GOOD["demo/data.bin"]


def test_names_are_compared_as_names(tmp_path: Path) -> None:
    """PEP 503 and PEP 440 know several spellings of one name and version."""
    wheel = make_wheel(
        tmp_path, "My_Demo", "1.0.0+Cpu.1", {"my/x.py": "x"}, filename="my_demo-1.0+cpu.1-py3-none-any.whl"
    )
    assert open_wheel(replace(wheel, name="my-demo", version="1.0+cpu.1")).dist_info == "My_Demo-1.0.0+Cpu.1.dist-info"


def test_bytecode_and_signatures_in_a_wheel(tmp_path: Path) -> None:
    """Bytecode that came in the wheel could be of other source: it is left out; signatures need no line in RECORD."""
    wheel = make_wheel(
        tmp_path / "w",
        files={**GOOD, "demo/__pycache__/x.cpython-312.pyc": b"evil", "demo-1.0.dist-info/RECORD.jws": "{}"},
        record={
            "demo/__pycache__/x.cpython-312.pyc": "demo/__pycache__/x.cpython-312.pyc,,",
            "demo-1.0.dist-info/RECORD.jws": "",
        },
    )
    store = Store(tmp_path / "store")
    names = contents(store, build_wheel_layer(Group((wheel,)), "3.12", store))
    assert not [name for name in names if "__pycache__" in name]
    assert [name for name in names if name.endswith("RECORD.jws")]
