"""A guess: that a base has the Python that it had in the last build, so that what needs it can begin at once."""

from __future__ import annotations

import hashlib

from mealkit._value import asdict

from .base import BasePython
from .platform import Platform
from .store import Store


class Guess:
    """What a base's name meant when this machine built on it last; what comes of a wrong guess is not used.

    Args:
        base_name: As the user names the base.
        platform: What the image shall run on.
        store: Where guesses are remembered.
    """

    def __init__(self, base_name: str, platform: Platform, store: Store) -> None:
        self._key = hashlib.sha256(f"{base_name} {platform}".encode()).hexdigest()[:32]
        self.python: BasePython | None = None
        known = store.read_fact("guesses", self._key)
        if isinstance(known, dict):
            self.python = BasePython(**{**known, "libc_version": tuple(known["libc_version"])})

    def note(self, python: BasePython, store: Store) -> None:
        """Remember what the base has, where that was not guessed."""
        if python != self.python:
            store.write_fact("guesses", self._key, asdict(python))
