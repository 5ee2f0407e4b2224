"""What is spliced can be read by everybody, and is the same bytes whoever splices."""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import sys
import tarfile
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mealkit_builder import entry, splice

RUNS = st.lists(st.tuples(st.integers(0, 255), st.integers(1, 700)), max_size=20).map(
    lambda runs: b"".join(bytes([byte]) * count for byte, count in runs)
)


def inflate(data: bytes) -> bytes:
    inflater = zlib.decompressobj(-15)
    plain = inflater.decompress(data)
    assert inflater.eof
    assert not inflater.unused_data
    return plain


def deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(6, zlib.DEFLATED, -15)
    return stream.compress(data) + stream.flush()


@given(RUNS | st.binary(max_size=3000))
@example(b"")
@example(bytes(1536))
@example(bytes(range(256)) * 3)
def test_fixed_codes_are_inflated_to_what_they_were(data: bytes) -> None:
    assert inflate(splice.fixed(data)) == data


@pytest.mark.parametrize("count", [*range(1, 600), 1024, 65536])
def test_every_length_of_a_run(count: int) -> None:
    assert inflate(splice.fixed(b"\xf0" * count)) == b"\xf0" * count


@given(st.binary(max_size=500), st.integers(0, 400))
def test_stored_blocks_are_inflated_to_what_they_were(data: bytes, times: int) -> None:
    assert inflate(b"".join(splice.stored(data * times))) == data * times


@pytest.mark.parametrize("size", [65534, 65535, 65536, 131070, 131071])
def test_stored_blocks_around_their_limit(size: int) -> None:
    data = b"x" * size
    assert inflate(b"".join(splice.stored(data))) == data


def test_the_encoding_of_a_header_never_changes() -> None:
    packed = splice.fixed(entry.file_header("/opt/mealkit/venv/lib/python3.12/site-packages/numpy/__init__.py", 25000))
    assert len(packed) == 134
    assert hashlib.sha256(packed).hexdigest() == GOLDEN


GOLDEN = "204d56218d4b4718431ea82af713e6c2b9a72bd4793c05efb4f1a1db8363fb7e"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda raw: raw[:-3], "ends after"),
        (lambda raw: raw + b"x", "other bytes follow"),
        (lambda raw: b"\xff" + raw, "damaged"),
        (lambda raw: deflate(b"hello" * 101), "longer than"),
        (lambda raw: deflate(b"hello" * 99), "ends after"),
        (lambda raw: deflate(b"jello" * 100), "CRC-32"),
        (lambda raw: deflate(bytes(100_000_000)), "longer than"),
    ],
)
def test_a_broken_stream_is_told_from_a_good_one(change: Callable[[bytes], bytes], why: str) -> None:
    plain = b"hello" * 100
    assert bytes(splice.spliced_body(deflate(plain), 500, zlib.crc32(plain)).plain) == plain
    with pytest.raises(splice.Broken, match=why):
        splice.spliced_body(change(deflate(plain)), 500, zlib.crc32(plain))


def test_a_stream_whose_end_mark_comes_after_a_full_buffer() -> None:
    # 16 KiB and its multiples fill zlib's output buffer just when the content, but not the stream, is at its end.
    for size in (1, 16384, 32768, 65536, 262144):
        for level in (0, 1, 9):
            stream = zlib.compressobj(level, zlib.DEFLATED, -15)
            raw = stream.compress(b"\x07" * size) + stream.flush()
            assert len(splice.spliced_body(raw, size, zlib.crc32(b"\x07" * size)).plain) == size


def layer(bodies: list[tuple[str, splice.Body | None]]) -> tuple[bytes, splice.Written]:
    file = io.BytesIO()
    writer = splice.LayerWriter(file)
    for name, body in bodies:
        writer.add(entry.file_header(name, len(body.plain) if body else 0), body)
    return file.getvalue() if (written := writer.finish()) else b"", written


@given(st.lists(st.tuples(st.sampled_from("scf"), st.binary(max_size=2000)), max_size=30))
def test_a_layer_is_a_gzip_file_of_a_tar(contents: list[tuple[str, bytes]]) -> None:
    pack: dict[str, Callable[[bytes], splice.Body]] = {
        "s": splice.stored_body,
        "c": splice.compressed_body,
        "f": lambda data: splice.spliced_body(deflate(data), len(data), zlib.crc32(data)),
    }
    data, written = layer([(f"{number:03}", pack[how](content)) for number, (how, content) in enumerate(contents)])
    plain = gzip.decompress(data)
    assert written.digest == "sha256:" + hashlib.sha256(data).hexdigest()
    assert written.diff_id == "sha256:" + hashlib.sha256(plain).hexdigest()
    assert written.size == len(data)
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        assert [tar.extractfile(member).read() for member in tar] == [content for _, content in contents]  # type: ignore[union-attr]
    assert plain.endswith(bytes(1024))
    assert len(plain) % 512 == 0


def test_every_file_is_a_gzip_member_of_its_own() -> None:
    raw = deflate(b"content" * 50)
    data, _ = layer(
        [
            ("a", splice.spliced_body(raw, 350, zlib.crc32(b"content" * 50))),
            ("empty", None),
            ("b", splice.stored_body(b"B" * 10_000)),
        ]
    )
    members = []
    while data:
        inflater = zlib.decompressobj(31)
        members.append(inflater.decompress(data))
        data = inflater.unused_data
    assert [len(member) for member in members] == [512, 350, (512 - 350) + 1024, 10_000, 240 + 1024]
    assert members[1] == b"content" * 50


def test_thousands_of_entries_without_content_take_no_quadratic_time() -> None:
    _, written = layer([(f"{number:06}", None) for number in range(20_000)])
    assert written.size < 20_000 * 90


def test_gzip_and_tar_programs_read_a_layer(tmp_path: Path) -> None:
    data, _ = layer([("d/a", splice.stored_body(b"A" * 70_000)), ("d/e", None), ("d/f", splice.compressed_body(b"f"))])
    path = tmp_path / "layer.tar.gz"
    path.write_bytes(data)
    subprocess.run(["gzip", "-t", path], check=True, timeout=20)
    subprocess.run(["tar", "-xzf", path, "-C", tmp_path], check=True, timeout=20)
    assert (tmp_path / "d/a").read_bytes() == b"A" * 70_000
    assert (tmp_path / "d/e").read_bytes() == b""


def test_ahead_keeps_the_order_and_bounds_what_waits() -> None:
    alive, most, lock = 0, 0, threading.Lock()

    def make(number: int) -> int:
        nonlocal alive, most
        with lock:
            alive += 1
            most = max(most, alive)
        return number

    result = []
    for number in splice.ahead(((2 << 20, lambda n=n: make(n)) for n in range(50)), window=8 << 20):  # type: ignore[misc]
        with lock:
            alive -= 1
        result.append(number)
    assert result == list(range(50))
    assert most <= 6


def test_ahead_raises_what_a_maker_raises_and_leaves_no_thread() -> None:
    def fail() -> int:
        raise splice.Broken("here")

    makers: list[tuple[int, Callable[[], int]]] = [(1 << 20, lambda: 1), (1 << 20, fail), (1 << 20, lambda: 3)]
    with pytest.raises(splice.Broken, match="here"):
        list(splice.ahead(makers))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("splice")]


def test_the_compressor_has_one_name_in_every_process() -> None:
    code = "from mealkit_builder.splice import compressor; print(compressor())"
    named = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=20, text=True)
    assert named.stdout.strip() == splice.compressor()
    assert splice.compressor().startswith("zlib6.")
