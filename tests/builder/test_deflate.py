"""Our DEFLATE encoder: zlib reads back all that it writes, and its bytes stay what they are."""

import hashlib
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mealkit_builder import deflate as module
from mealkit_builder.deflate import deflate
from mealkit_builder.packing import WORTH, small_files
from mealkit_builder.store import Store

# Texts that repeat themselves from near and from afar, as sources do, beside arbitrary bytes.
words = st.lists(
    st.sampled_from([b"def ", b"return ", b"self.", b"\n    ", b"x", b"\0\0\0\0", b"abcabcabd"]), max_size=400
)
contents = st.one_of(
    st.binary(max_size=600),
    words.map(b"".join),
    st.tuples(st.binary(min_size=1, max_size=40), st.integers(1, 2000)).map(lambda pair: pair[0] * pair[1]),
)


def inflated(raw: bytes) -> bytes:
    """By zlib, which must find one stream and nothing after it."""
    inflater = zlib.decompressobj(-15)
    plain = inflater.decompress(raw) + inflater.flush()
    assert inflater.eof
    assert not inflater.unused_data
    return plain


@settings(max_examples=150)
@given(contents)
def test_zlib_reads_what_was_written(data: bytes) -> None:
    assert inflated(deflate(data)) == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"a",
        b"ab" * 70_000,
        bytes(range(256)) * 3,
        b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(1200)) * 2,
        # Counts like Fibonacci's numbers ask for codes of more than 15 bits.
        b"".join(bytes([65 + at]) * count for at, count in enumerate([1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233])),
    ],
    ids=["empty", "one byte", "one distance", "every byte", "copies from beyond the window", "skew"],
)
def test_corners(data: bytes) -> None:
    assert inflated(deflate(data)) == data


def test_codes_are_never_longer_than_the_format_allows() -> None:
    counts = module.Counter(dict(enumerate(_fibonacci(30))))
    for limit in (7, 15):
        if limit == 7:
            counts = module.Counter(dict(list(counts.items())[:19]))
        lengths = module._code_lengths(counts, limit)
        assert max(lengths.values()) <= limit
        assert sum(2.0**-length for length in lengths.values()) == 1
    assert module._code_lengths(module.Counter(), 15) == {}


def _fibonacci(count: int) -> list[int]:
    found = [1, 1]
    while len(found) < count:
        found.append(found[-1] + found[-2])
    return found


SAMPLE = b"".join(b"%d:%s\n" % (number, b"spam and eggs"[: number % 13]) for number in range(700))
GOLDEN = "d13118a68fda7ad006bc11c57ce2807c1103214116a681aa35c2f179e5f2d788"


def test_the_bytes_are_for_ever() -> None:
    """A change of them is a new :data:`.packing.DEFLATE`, or machines would make different layers of one key."""
    assert hashlib.sha256(deflate(SAMPLE)).hexdigest() == GOLDEN


def test_no_seed_counts() -> None:
    code = "import sys; from mealkit_builder.deflate import deflate; i, o = sys.stdin, sys.stdout; "
    code += "o.buffer.write(deflate(i.buffer.read()))"
    told = {
        subprocess.run(
            [sys.executable, "-c", code], input=SAMPLE, capture_output=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert told == {deflate(SAMPLE)}


def test_it_packs_about_as_well_as_zlib() -> None:
    stream = zlib.compressobj(6, zlib.DEFLATED, -15)
    data = Path(module.__file__).read_bytes()
    assert len(deflate(data)) < 1.06 * len(stream.compress(data) + stream.flush())


def test_a_packed_file_is_kept_and_a_damaged_answer_is_not_used(tmp_path: Path) -> None:
    pack = small_files(Store(tmp_path)).body
    first = pack(SAMPLE)
    (kept,) = (tmp_path / "packed").iterdir()
    assert kept.read_bytes() == b"".join(first.deflate)
    for damage in (b"", b"\xff" * 20, deflate(SAMPLE + b"!"), deflate(b"")):
        kept.write_bytes(damage)
        assert pack(SAMPLE) == first
        assert kept.read_bytes() == b"".join(first.deflate)


def test_what_cannot_be_packed_or_is_large_is_stored(tmp_path: Path) -> None:
    pack = small_files(Store(tmp_path)).body
    noise = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(64))
    large = b"a" * (WORTH + 1)
    for data in (noise, large, b"x"):
        body = pack(data)
        assert inflated(b"".join(body.deflate)) == data
        assert body.crc == zlib.crc32(data)
        assert sum(map(len, body.deflate)) <= len(data) + 5 * (1 + len(data) // 65535)


def test_a_store_that_cannot_be_written_to_packs_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "packed").write_text("in the way of the folder")
    assert inflated(b"".join(small_files(Store(tmp_path)).body(SAMPLE).deflate)) == SAMPLE
