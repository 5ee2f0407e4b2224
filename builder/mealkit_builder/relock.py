"""Locking again after a small change: what the resolver's cache alone can answer as well as the index could.

With the older lock's pins as preferences, asking the index anew brings nothing unless a package is new to the lock and
its version is open: then a newer one may be out. A requirement such as ``tabulate==0.10.0`` leaves no choice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_PACKAGE = re.compile(r'^\[\[packages\]\]\nname = "([^"\n]+)"\nversion = "([^"\n]+)"$', re.MULTILINE)
_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*(.*)", re.DOTALL)
_EXACT = re.compile(r"==\s*([A-Za-z0-9.!+_-]+)\s*(?:;.*)?", re.DOTALL)


def worth_a_try(old: str, requirements: Iterable[str]) -> bool:
    """Whether a resolution without the index may be taken, as far as the requirements tell."""
    known = {name for name, _ in _PACKAGE.findall(old)}
    pins = _pins(requirements)
    return bool(known) and all(name in known or version is not None for name, version in pins.items())


def is_settled(old: str, new: str, requirements: Iterable[str]) -> bool:
    """Whether a lock that was made from the cache has no package that the index could have a newer version of."""
    before = set(_PACKAGE.findall(old))
    pins = _pins(requirements)
    packages = _PACKAGE.findall(new)
    return new.count("[[packages]]") == len(packages) and all(
        (name, version) in before or pins.get(name) == version for name, version in packages
    )


def _pins(requirements: Iterable[str]) -> dict[str, str | None]:
    """Each required name with the exact version, if its requirement leaves no other."""
    pins: dict[str, str | None] = {}
    for text in requirements:
        match = _NAME.fullmatch(text)
        if match is None:
            continue
        exact = _EXACT.fullmatch(match[2])
        name = re.sub(r"[-_.]+", "-", match[1]).lower()
        pins[name] = exact[1] if exact else pins.get(name)
    return pins
