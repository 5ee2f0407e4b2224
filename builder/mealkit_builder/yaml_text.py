"""Plain values as YAML text that every parser reads back as the same values, whatever the texts among them hold."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

# What YAML 1.1 and 1.2 both take for a text. All else is quoted: numbers, dates, `a: b`, `- a`, `#`, `{{`, …
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9._/-]*\Z")
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "y", "n", "null"})
_ESCAPED = re.compile(r'[^ !#-\[\]-~]|"')


def to_yaml(documents: Sequence[Mapping[str, Any]]) -> str:
    """Documents made of mappings, lists, texts, whole numbers and truth values, as ASCII text."""
    return "---\n".join("".join(f"{line}\n" for line in _lines(document)) for document in documents)


def _lines(value: object) -> list[str]:
    lines: list[str] = []
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            inner = _lines(item)
            if isinstance(item, Mapping | list | tuple) and item:
                lines += [f"{_text(key)}:", *(f"  {line}" for line in inner)]
            else:
                lines.append(f"{_text(key)}: {inner[0]}")
    elif isinstance(value, list | tuple) and value:
        for item in value:
            first, *rest = _lines(item)
            lines += [f"- {first}", *(f"  {line}" for line in rest)]
    else:
        lines.append(_scalar(value))
    return lines


def _scalar(value: object) -> str:
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, list | tuple):
        return "[]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else _text(str(value))


def _text(text: str) -> str:
    if _PLAIN.match(text) and text.lower() not in _WORDS:
        return text
    return f'"{_ESCAPED.sub(_escape, text)}"'


def _escape(match: re.Match[str]) -> str:
    """A character as in JSON, but one beyond 16 bits: two surrogates, as JSON writes it, are no text in YAML."""
    character = match[0]
    if character in '"\\':
        return f"\\{character}"
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
