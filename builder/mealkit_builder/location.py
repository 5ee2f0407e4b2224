"""Locations opened: from what a user writes to the target or source behind it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mealkit.errors import UsageError

from .layout import Layout
from .reference import LayoutLocation, Reference, parse_location
from .registry import Repository


def open_location(
    text: str, environment: Mapping[str, str], *, push: bool = False
) -> tuple[Repository | Layout, Reference | LayoutLocation]:
    """The repository or layout folder that ``text`` names, and the parsed name; does no I/O.

    Raises:
        UsageError: it names neither.
    """
    location = parse_location(text)
    if isinstance(location, Reference):
        return Repository(location, environment, push=push), location
    if isinstance(location, LayoutLocation):
        return Layout(Path(location.folder).absolute()), location
    raise UsageError(
        f"{text!r} is no place for images",
        where=text,
        hint="name a repository (host/repo) or a layout folder (oci:DIR)",
    )


def tag_of(text: str) -> str:
    """The tag in what a user writes for a place; empty when it names none."""
    location = parse_location(text)
    return location.tag if isinstance(location, Reference | LayoutLocation) else ""
