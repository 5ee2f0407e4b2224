"""What a lock notes beside PEP 751, in its ``[tool.mealkit]`` table: built wheels, sizes, what it was resolved from."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

from mealkit._value import asdict, dataclass, field

_INPUTS = re.compile(r'^inputs = "(sha256:[0-9a-f]{64})"$', re.MULTILINE)
_TABLE = "\n[tool.mealkit]\n"


@dataclass(frozen=True)
class Built:
    """A wheel that was built from sources.

    Attributes:
        name: The distribution's name, as the lock writes it.
        source: :attr:`.origin.Origin.name` of the sources; for a folder ``folder:``, and what follows is empty.
        python: The minor version that built it.
        requires: The build requirements that were there, pinned.
        file: The wheel's file name; empty for a folder, whose wheel is another after every change.
        sha256: Of the wheel.
        size: Of the wheel, in bytes.
        libc: What compiled code needs at least, such as ``glibc-2.36``; empty for a pure wheel.
    """

    name: str
    source: str
    python: str
    requires: tuple[str, ...] = ()
    file: str = ""
    sha256: str = ""
    size: int = 0
    libc: str = ""


@dataclass(frozen=True)
class Notes:
    """All that a lock notes.

    Attributes:
        inputs: Names what the lock was resolved from.
        built: Wheels that were built from sources.
        sizes: Lengths of wheels by sha256, where the index tells none.
    """

    inputs: str = ""
    built: tuple[Built, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)

    def to_toml(self) -> str:
        """The table; ``inputs`` is its last line, where it is found without parsing all of the lock."""
        lines = [_TABLE.rstrip("\n")]
        if self.built:
            lines += ["built = [", *(f"    {_inline(asdict(one))}," for one in sorted(self.built, key=_order)), "]"]
        if self.sizes:
            pairs = sorted(self.sizes.items())
            lines += ["sizes = [", *(f"    {_inline({'sha256': name, 'size': size})}," for name, size in pairs), "]"]
        return "\n".join((*lines, f'inputs = "{self.inputs}"')) + "\n"


def _order(built: Built) -> tuple[str, ...]:
    return (built.name, built.source, built.python, built.file, built.sha256)


def _inline(value: Mapping[str, Any]) -> str:
    pairs = (f"{key} = {json.dumps(one, ensure_ascii=False)}" for key, one in value.items() if one)
    return "{ " + ", ".join(pairs) + " }"


def noted_inputs(text: str) -> str | None:
    """What a lock says that it was resolved from."""
    found = _INPUTS.search(text[-400:])
    return found[1] if found else None


def read_notes(text: str) -> Notes:
    """What a lock's text notes; nothing where it is damaged or older than a note."""
    start = text.rfind(_TABLE)
    try:
        table = tomllib.loads(text[start:] if start >= 0 else "").get("tool", {}).get("mealkit", {})
        built = tuple(Built(**{**one, "requires": tuple(one.get("requires", ()))}) for one in table.get("built", ()))
        sizes = {str(one["sha256"]): int(one["size"]) for one in table.get("sizes", ())}
    except (ValueError, TypeError, KeyError, AttributeError):
        return Notes(noted_inputs(text) or "")
    return Notes(noted_inputs(text) or "", built, sizes)


def with_notes(text: str, notes: Notes) -> str:
    """A lock's text with these notes in place of its own; those about nothing in the lock are dropped."""
    start = text.rfind(_TABLE)
    body = (text if start < 0 else text[:start]).rstrip() + "\n"
    built = tuple(one for one in notes.built if _is_in(one, body))
    sizes = {name: size for name, size in notes.sizes.items() if name in body}
    return body + Notes(notes.inputs, built, sizes).to_toml()


def _is_in(built: Built, body: str) -> bool:
    kind, _, fixed = built.source.partition("#")[0].partition(":")
    return f'name = "{built.name}"' in body and (fixed in body if fixed else f"{kind}:" == "folder:")


def merged(one: Iterable[Built], other: Iterable[Built]) -> tuple[Built, ...]:
    """Both, each once; of two about the same sources, Python and platform the later counts."""
    found = {(b.name, b.source, b.python if b.libc or not b.file else "", b.file): b for b in (*one, *other)}
    return tuple(found.values())
