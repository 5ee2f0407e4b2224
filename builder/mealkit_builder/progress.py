"""Who is told how far a build is; the command line shows it, a test counts it."""

from __future__ import annotations

from typing import Literal, Protocol

from .target import Moved

Moving = Literal["download", "upload"]


class Reporter(Protocol):
    """Told of a build's stages and bytes; called from several threads."""

    def stage(self, text: str) -> None:
        """A new stage begins."""

    def expect(self, what: Moving, size: int) -> None:
        """So many more bytes will move."""

    def moved(self, what: Moving, size: int) -> None:
        """So many bytes just moved; negative when a try is taken back."""

    def layers(self, count: int) -> None:
        """So many more layers will come to their place."""

    def layer(self, way: Moved) -> None:
        """A layer is at its place, in this way."""

    def restart(self) -> None:
        """The build begins anew: what was told of bytes and layers no longer counts."""

    def note(self, text: str) -> None:
        """Something that the user should know, though nothing failed."""


class Silent:
    """A reporter that says nothing."""

    def stage(self, text: str) -> None:
        """Nothing."""

    def expect(self, what: Moving, size: int) -> None:
        """Nothing."""

    def moved(self, what: Moving, size: int) -> None:
        """Nothing."""

    def layers(self, count: int) -> None:
        """Nothing."""

    def layer(self, way: Moved) -> None:
        """Nothing."""

    def restart(self) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""
