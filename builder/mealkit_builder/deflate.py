"""DEFLATE in Python: packs small files to the same bytes on every machine, whatever zlib is installed there.

zlib's output is no promise: zlib-ng, and zlib's own next version, may choose other matches. This encoder is slow (about
a microsecond a byte), so it is for the few small files that change with every build, and its answers are kept.
"""

from __future__ import annotations

from collections import Counter
from heapq import heapify, heappop, heappush

_WINDOW = 1 << 15
_LONGEST = 258
_END = 256
_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)  # RFC 1951, 3.2.7

_Codes = dict[int, str]
_Token = tuple[int, int]  # (byte, 0) for a literal, (length, distance) for a copy


def _extra(value: int, bits: int) -> str:
    """Extra bits in the order they are sent, the least significant first."""
    return f"{value:0{bits}b}"[::-1] if bits else ""


def _length_rows() -> dict[int, tuple[int, str]]:
    """Symbol and extra bits of each length from 3 to 258 (RFC 1951, 3.2.5)."""
    rows = {}
    for length in range(3, _LONGEST):
        bits = max(0, (length - 3).bit_length() - 3)
        group = (length - 3) >> bits
        rows[length] = (257 + group + 4 * bits, _extra((length - 3) & ((1 << bits) - 1), bits))
    rows[_LONGEST] = (285, "")
    return rows


_LENGTHS = _length_rows()


def _distance(distance: int) -> tuple[int, str]:
    """Symbol and extra bits of a distance from 1 to 32768."""
    bits = max(0, (distance - 1).bit_length() - 2)
    return ((distance - 1) >> bits) + 2 * bits, _extra((distance - 1) & ((1 << bits) - 1), bits)


def deflate(data: bytes) -> bytes:
    """``data`` as one raw DEFLATE stream: a block of dynamic or of fixed Huffman codes, whichever is shorter.

    A pure function of ``data``: integers and bytes alone decide, never a hash's seed or a library.
    """
    tokens = _tokens(data)
    symbols: list[tuple[int, str, int, str]] = []  # literal or length with extra bits, distance with extra bits
    for value, distance in tokens:
        if distance:
            symbols.append((*_LENGTHS[value], *_distance(distance)))
        else:
            symbols.append((value, "", -1, ""))
    symbols.append((_END, "", -1, ""))
    literals = Counter(symbol[0] for symbol in symbols)
    distances = Counter(symbol[2] for symbol in symbols if symbol[2] >= 0)
    dynamic = _dynamic(literals, distances)
    shortest = min((_FIXED, dynamic), key=lambda codes: _cost(codes, literals, distances))
    header, lengths, far = shortest
    parts = [header]
    for symbol, extra, other, more in symbols:
        parts.append(lengths[symbol])
        if other >= 0:
            parts.append(extra + far[other] + more)
    bits = "".join(parts)
    return int(bits[::-1], 2).to_bytes((len(bits) + 7) // 8, "little")


def _cost(codes: tuple[str, _Codes, _Codes], literals: Counter[int], distances: Counter[int]) -> int:
    """Bits that a block takes, but for the extra bits, which are the same for all codes."""
    header, lengths, far = codes
    near = sum(len(lengths[symbol]) * count for symbol, count in literals.items())
    return len(header) + near + sum(len(far[symbol]) * count for symbol, count in distances.items())


def _tokens(data: bytes) -> list[_Token]:
    """Literals and copies: at each place the longer of two candidates, unless the next place has a better one."""
    size = len(data)
    # Each place's last earlier place with the same next three bytes, and with the same next six; -1: there is none.
    near = _earlier(data, 3)
    far = _earlier(data, 6)
    tokens: list[_Token] = []
    at = 0
    held = (0, 0)  # the copy found for the place ``at``, when it was looked at already
    end = size - 2
    while at < end:
        if near[at] < 0:
            tokens.append((data[at], 0))
            at += 1
            continue
        length, distance = held if held[0] else _copy(data, at, near[at], far[at], size)
        held = (0, 0)
        if length < 3:
            tokens.append((data[at], 0))
            at += 1
            continue
        if length < 32 and at + 1 < end and near[at + 1] >= 0:
            later = _copy(data, at + 1, near[at + 1], far[at + 1], size)
            if later[0] > length:
                tokens.append((data[at], 0))
                at += 1
                held = later
                continue
        tokens.append((length, distance))
        at += length
    tokens.extend((byte, 0) for byte in data[at:])
    return tokens


def _earlier(data: bytes, width: int) -> list[int]:
    seen: dict[bytes, int] = {}
    last = seen.get
    found = []
    for at in range(len(data)):
        key = data[at : at + width]
        found.append(last(key, -1))
        seen[key] = at
    return found


def _copy(data: bytes, at: int, near: int, far: int, size: int) -> tuple[int, int]:
    """The longest copy that one of two earlier places gives; a short one from afar costs more than it saves."""
    best = (0, 0)
    for start in (far, near) if far >= 0 and far != near else (near,):
        distance = at - start
        if distance > _WINDOW:
            continue
        length = _common(data, start, at, size)
        if length > best[0] and (length > 3 or distance <= 4096):
            best = (length, distance)
    return best


def _common(data: bytes, one: int, other: int, size: int) -> int:
    """How many bytes from ``one`` and from ``other`` on are the same, 258 at most."""
    room = min(_LONGEST, size - other)
    for width in (min(16, room), room):
        differ = int.from_bytes(data[one : one + width], "little") ^ int.from_bytes(
            data[other : other + width], "little"
        )
        if differ:
            return ((differ & -differ).bit_length() - 1) >> 3
    return room


def _dynamic(literals: Counter[int], distances: Counter[int]) -> tuple[str, _Codes, _Codes]:
    """The header of a dynamic block and its codes (RFC 1951, 3.2.7)."""
    near = _code_lengths(literals, 15)
    far = _code_lengths(distances, 15) or {0: 1}  # one code of one bit, where no distance is used
    sizes = [near.get(symbol, 0) for symbol in range(max(near) + 1)]
    sizes += [0] * (257 - len(sizes))
    count = len(sizes)
    sizes += [far.get(symbol, 0) for symbol in range(max(far) + 1)]
    runs = _runs(sizes)
    widths = _code_lengths(Counter(symbol for symbol, _ in runs), 7)
    codes = _codes(widths)
    listed = [widths.get(symbol, 0) for symbol in _ORDER]
    while len(listed) > 4 and not listed[-1]:
        listed.pop()
    header = "101"  # BFINAL=1, BTYPE=10, the least significant bit first
    header += _extra(count - 257, 5) + _extra(len(sizes) - count - 1, 5) + _extra(len(listed) - 4, 4)
    header += "".join(_extra(width, 3) for width in listed)
    header += "".join(codes[symbol] + extra for symbol, extra in runs)
    return header, _codes(near), _codes(far)


def _runs(sizes: list[int]) -> list[tuple[int, str]]:
    """Code lengths with their repetitions as symbols 16, 17 and 18."""
    found: list[tuple[int, str]] = []
    at = 0
    while at < len(sizes):
        value, stop = sizes[at], at
        while stop < len(sizes) and sizes[stop] == value:
            stop += 1
        left = stop - at
        if value:
            found.append((value, ""))
            left -= 1
        while left >= 3:
            most = 6 if value else 138 if left >= 11 else 10
            take = min(left, most)
            symbol, least, bits = (16, 3, 2) if value else (18, 11, 7) if take >= 11 else (17, 3, 3)
            found.append((symbol, _extra(take - least, bits)))
            left -= take
        found += [(value, "")] * left
        at = stop
    return found


def _code_lengths(counts: Counter[int], limit: int) -> dict[int, int]:
    """Huffman code lengths, ``limit`` at most: counts are flattened until they fit."""
    if len(counts) == 1:
        # A code of one symbol would leave the tree incomplete, which some readers refuse: it gets a neighbour.
        return dict.fromkeys(sorted({*counts, 0 if 0 not in counts else 1}), 1)
    flat = dict(counts)
    while True:
        heap: list[tuple[int, int, tuple[int, ...]]] = [(count, symbol, (symbol,)) for symbol, count in flat.items()]
        heapify(heap)
        depths = dict.fromkeys(flat, 0)
        while len(heap) > 1:
            one, other = heappop(heap), heappop(heap)
            members = one[2] + other[2]
            for symbol in members:
                depths[symbol] += 1
            heappush(heap, (one[0] + other[0], min(one[1], other[1]), members))
        if not depths or max(depths.values()) <= limit:
            return depths
        flat = {symbol: (count + 1) // 2 for symbol, count in flat.items()}


def _codes(lengths: dict[int, int]) -> _Codes:
    """The canonical code of each symbol (RFC 1951, 3.2.2)."""
    codes: _Codes = {}
    code = width = 0
    for symbol in sorted(lengths, key=lambda one: (lengths[one], one)):
        if lengths[symbol]:
            code <<= lengths[symbol] - width
            width = lengths[symbol]
            codes[symbol] = f"{code:0{width}b}"
            code += 1
    return codes


_FIXED_LENGTHS = {symbol: 8 + (144 <= symbol < 256) - (256 <= symbol < 280) for symbol in range(288)}
_FIXED = ("110", _codes(_FIXED_LENGTHS), _codes(dict.fromkeys(range(30), 5)))  # BFINAL=1, BTYPE=01
