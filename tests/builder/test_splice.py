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
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mealkit.errors import BuildError
from mealkit_builder import entry, splice
from mealkit_builder import gunzip as gunzipping
from mealkit_builder import inflate as inflating
from mealkit_builder.ahead import ahead, beside, flow

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


def zlib_alone(wbits: int = -15) -> tuple[Callable[[], object], type[Exception]]:
    return lambda: zlib.decompressobj(wbits), zlib.error


@pytest.fixture(params=["isal", "zlib"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both inflaters, on a machine that has both."""
    if request.param == "zlib":
        monkeypatch.setattr(inflating, "inflater", zlib_alone)
        monkeypatch.setattr(gunzipping, "inflater", zlib_alone)
    else:
        assert inflating.inflater()[1] is not zlib.error
    return str(request.param)


BROKEN: list[tuple[Callable[[bytes], bytes], str]] = [
    (lambda raw: raw[:-3], "ends after"),
    (lambda raw: raw + b"x", "other bytes follow"),
    (lambda raw: b"\xff" + raw, "damaged"),
    (lambda raw: deflate(b"hello" * 300_001), "longer than"),
    (lambda raw: deflate(b"hello" * 299_999), "ends after"),
    (lambda raw: deflate(b"jello" * 300_000), "CRC-32"),
    (lambda raw: deflate(bytes(100_000_000)), "longer than"),
    (lambda raw: b"", "ends after"),
    (lambda raw: raw + bytes(200_000), "other bytes follow"),
]


@pytest.mark.parametrize(("change", "why"), BROKEN)
def test_a_broken_stream_is_told_from_a_good_one(change: Callable[[bytes], bytes], why: str, library: str) -> None:
    plain = b"hello" * 300_000
    good, crc = deflate(plain), zlib.crc32(plain)
    assert splice.spliced_body(good, len(plain), crc).plain == plain
    assert b"".join(piece for _, piece in inflating.inflate_pieces(memoryview(good), len(plain), crc)) == plain
    with pytest.raises(inflating.Broken, match=why):
        splice.spliced_body(change(good), len(plain), crc)
    with pytest.raises(inflating.Broken, match=why):
        list(inflating.inflate_pieces(memoryview(change(good)), len(plain), crc))


@given(
    st.binary(max_size=300), st.integers(0, 4000), st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=2)
)
def test_nothing_that_one_inflater_takes_is_different_for_the_other(
    seed: bytes, times: int, changes: list[tuple[int, int]]
) -> None:
    plain = seed * times
    raw = bytearray(deflate(plain))
    for at, value in changes:
        raw[at % len(raw)] = value
    crc = zlib.crc32(plain)
    for whole in (True, False):
        try:
            if whole:
                got: bytes = inflating.inflate(raw, len(plain), crc)
            else:
                got = b"".join(piece for _, piece in inflating.inflate_pieces(memoryview(raw), len(plain), crc))
        except inflating.Broken:
            continue
        assert got == plain
        assert zlib.decompress(raw, -15) == plain


@pytest.mark.parametrize("size", [1, 16384, 32768, 65536, 262144, 512 << 10, 1 << 20, 3 << 20])
def test_a_stream_whose_end_mark_comes_after_a_full_buffer(size: int, library: str) -> None:
    # 16 KiB and its multiples fill zlib's output buffer just when the content, but not the stream, is at its end.
    for level in (0, 1, 9):
        stream = zlib.compressobj(level, zlib.DEFLATED, -15)
        raw = stream.compress(b"\x07" * size) + stream.flush()
        crc = zlib.crc32(b"\x07" * size)
        assert len(splice.spliced_body(raw, size, crc).plain) == size
        pieces = list(inflating.inflate_pieces(memoryview(raw), size, crc))
        assert sum(len(plain) for _, plain in pieces) == size
        assert b"".join(packed for packed, _ in pieces) == raw


def test_all_members_of_a_gzip_file_are_read_and_checked(library: str) -> None:
    parts = [b"", b"a" * 3_000_000, bytes(range(256)) * 1000, b"x"]
    packed = b"".join(gzip.compress(part) for part in parts)
    for data in (packed, packed + bytes(1000), packed + bytes(300_000) + gzip.compress(b"")):
        assert gunzipping.gunzip(io.BytesIO(data)).read() == b"".join(parts)
    assert gunzipping.gunzip(io.BytesIO(b"")).read() == b""
    for damaged in (
        packed + b"\1",
        packed[:100] + b"\xff" * 50 + packed[150:],
        packed[:-8] + bytes(8),
        b"\x1f\x8c" + packed,
    ):
        with pytest.raises((zlib.error, EOFError)):
            gunzipping.gunzip(io.BytesIO(damaged)).read()
    for cut in (1, 9, len(packed) - 4, len(packed) - 1, len(gzip.compress(b"")) + 5):
        with pytest.raises(EOFError):
            gunzipping.gunzip(io.BytesIO(packed[:cut])).read()


@pytest.mark.parametrize("size", [1, 65535, 65536, 8 * 65535, 8 * 65535 + 1, 2_000_000])
@pytest.mark.parametrize("block", [1000, 65535, 1 << 20])
def test_a_content_in_pieces_gives_the_bytes_that_it_gives_whole(size: int, block: int) -> None:
    data = (b"".join(hashlib.sha256(bytes([n])).digest() * 3 for n in range(200)) * (size // 19200 + 1))[:size]
    blocks = [data[at : at + block] for at in range(0, size, block)]
    parts = [data[at : at + splice.PART] for at in range(0, size, splice.PART)]
    for pieces, whole in (
        (splice.stored_stream(size, blocks), b"".join(splice.stored(data))),
        (splice.compressed_stream(size, blocks), b"".join(splice.deflated(part) for part in parts)),
    ):
        found = list(pieces.pieces)
        assert b"".join(plain for plain, _ in found) == data
        assert b"".join(part for _, parts in found for part in parts) == whole
    for wrong in (size - 1, size + 1):
        with pytest.raises(inflating.Broken):
            list(splice.stored_stream(wrong, blocks).pieces)
        with pytest.raises(inflating.Broken):
            list(splice.compressed_stream(wrong, blocks).pieces)


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
    for number in ahead(((2 << 20, lambda n=n: make(n)) for n in range(50)), window=8 << 20):  # type: ignore[misc]
        with lock:
            alive -= 1
        result.append(number)
    assert result == list(range(50))
    assert most <= 6


def test_ahead_raises_what_a_maker_raises_and_leaves_no_thread() -> None:
    def fail() -> int:
        raise inflating.Broken("here")

    makers: list[tuple[int, Callable[[], int]]] = [(1 << 20, lambda: 1), (1 << 20, fail), (1 << 20, lambda: 3)]
    with pytest.raises(inflating.Broken, match="here"):
        list(ahead(makers))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("splice")]


def test_what_flows_comes_in_order_and_a_few_pieces_ahead() -> None:
    made = []

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    taken = []
    for number in flow(items()):
        taken.append(number)
        assert len(made) - len(taken) <= 5
    assert taken == list(range(100))


def test_who_gives_up_a_flow_leaves_no_thread() -> None:
    endless = flow(iter(int, 1))
    assert next(endless) == 0
    endless.close()

    def fail() -> Iterator[int]:
        yield 1
        raise inflating.Broken("here")

    with pytest.raises(inflating.Broken, match="here"):
        list(flow(fail()))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("splice")]


def test_an_error_of_what_runs_beside_goes_first() -> None:
    def fail() -> None:
        raise KeyError("beside")

    with pytest.raises(KeyError, match="beside"), beside([fail]):
        raise ValueError("the block's own")
    with pytest.raises(KeyError, match="beside"), beside([lambda: None, fail]):
        pass
    with pytest.raises(ValueError, match="own"), beside([lambda: None]):
        raise ValueError("the block's own")


def test_the_compressor_has_one_name_in_every_process() -> None:
    code = "from mealkit_builder.splice import compressor; print(compressor())"
    named = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=20, text=True)
    assert named.stdout.strip() == splice.compressor()
    assert splice.compressor() == f"libdeflate6.{version('deflate')}"


def test_another_libdeflate_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import deflate

    splice._encoder.cache_clear()
    monkeypatch.setattr(deflate, "__version__", "9.9")
    with pytest.raises(BuildError, match=r"is here as 9\.9"):
        splice.deflated(b"")


def test_what_libdeflate_makes_is_golden() -> None:
    """Seen alike on x86-64 and on AArch64 (under qemu)."""
    seed = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(64))
    words = [seed[at : at + 3 + seed[at] % 9] for at in range(0, 2000, 5)]
    sample = b" ".join(words[seed[at % 2048] + seed[at // 7 % 2048] % 144] for at in range(8192))
    assert hashlib.sha256(splice.deflated(sample)).hexdigest()[:16] == "535b27c98423ece2"


@given(st.binary(max_size=5000))
def test_what_libdeflate_makes_is_deflate(data: bytes) -> None:
    assert zlib.decompress(splice.deflated(data), -15) == data
    assert zlib.decompress(splice.deflated(memoryview(data)), -15) == data
