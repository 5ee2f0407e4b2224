"""Locations opened: from what a user writes to the target or source behind it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mealkit.errors import UsageError

from .layout import Layout
from .progress import Reporter
from .reference import LayoutLocation, Reference, parse_location, parse_reference
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


def open_cache(
    setting: str | None,
    location: Reference | LayoutLocation,
    environment: Mapping[str, str],
    reporter: Reporter,
) -> tuple[Repository | None, bool]:
    """The repository for cache tags that a project names (None: the image's own), and whether there are any at all.

    Layers are mounted from it, which a registry does only within itself: for another registry's images, the
    image's own repository holds the tags.

    Raises:
        UsageError: it is not a repository's name.
    """
    if setting is None or setting == "off" or not isinstance(location, Reference):
        return None, setting != "off"
    named = parse_reference(setting)
    if named.name == location.name:
        return None, True
    if named.host != location.host:
        reporter.note(f"the cache {setting} is on another registry than {location.host}: not used")
        return None, True
    return Repository(named, environment, push=True), True


def tag_of(text: str) -> str:
    """The tag in what a user writes for a place; empty when it names none."""
    location = parse_location(text)
    return location.tag if isinstance(location, Reference | LayoutLocation) else ""
