"""Licences of wheels, from their METADATA: an SPDX expression where there is one, else its own words."""

from __future__ import annotations

import re

_CLASSIFIER = re.compile(r"License ::.*::")
_LONGEST = 100  # characters; some packages have their licence's whole text in this field


def licence_of(metadata: str) -> str:
    """The licence in a METADATA file's text; empty where it tells none.

    ``License-Expression`` (PEP 639) is taken before ``License`` when that is short, and this before a classifier.
    """
    head = re.split(r"\r?\n\r?\n", metadata, maxsplit=1)[0]
    fields: dict[str, list[str]] = {}
    # A field whose value goes on in further lines is a licence's whole text, and names none.
    for name, value, more in re.findall(r"^([\w-]+):[ \t]*([^\r\n]*)((?:\r?\n[ \t]+[^\r\n]*)*)", head, re.MULTILINE):
        if not more:
            fields.setdefault(name.lower(), []).append(value.strip())
    for name in ("license-expression", "license"):
        for value in fields.get(name, ()):
            if value and len(value) <= _LONGEST and value.upper() != "UNKNOWN":
                return canonical(value) or value
    named = [text.split("::")[-1].strip() for text in fields.get("classifier", ()) if _CLASSIFIER.match(text)]
    return named[0] if len(named) == 1 else ""


def canonical(text: str) -> str:
    """An SPDX licence expression in its canonical spelling; empty where the text is none."""
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    try:
        return str(canonicalize_license_expression(text))
    except (InvalidLicenseExpression, ValueError):
        return ""


def is_expression(text: str) -> bool:
    """Whether this is an SPDX licence expression without names of its own."""
    return canonical(text) == text and "LicenseRef-" not in text
