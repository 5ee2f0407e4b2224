"""Debian's control format: stanzas of fields, as packages, indexes and apt's source entries write them."""

from __future__ import annotations

Stanza = dict[str, str]
"""Fields by name in lower case; lines after a value's first keep their indentation."""


def parse_stanzas(text: str) -> list[Stanza]:
    """The stanzas of a text (deb822(5)); lines that start with ``#`` are comments.

    Raises:
        ValueError: a line is no field, or a field is there twice; the message names it.
    """
    stanzas: list[Stanza] = []
    current: Stanza = {}
    last = ""
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        if not line.strip():
            if current:
                stanzas.append(current)
            current, last = {}, ""
        elif line[0] in " \t":
            if not last:
                raise ValueError(f"a line continues no field: {line.strip()[:60]!r}")
            current[last] += "\n" + line
        else:
            name, colon, value = line.partition(":")
            last = name.lower()
            if not colon or not name or name != name.strip() or not name.isascii():
                raise ValueError(f"not a field: {line[:60]!r}")
            if last in current:
                raise ValueError(f"the field {name} is there twice")
            current[last] = value.strip()
    if current:
        stanzas.append(current)
    return stanzas
