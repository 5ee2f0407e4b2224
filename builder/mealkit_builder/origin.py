"""The origin of a wheel that no index has: a source distribution, a git commit, or a folder on this machine."""

from __future__ import annotations

from typing import Any, Literal

from mealkit._value import asdict, dataclass


@dataclass(frozen=True)
class Origin:
    """Sources that a wheel is built from.

    Attributes:
        kind: ``sdist``, ``git`` or ``folder``.
        address: Its URL; for a folder its absolute path.
        fixed: What pins the sources: the archive's sha256, the commit; empty for a folder, which is taken as it is.
        subdirectory: Where in the sources the project is.
        size: Length of the archive in bytes; 0 where that is not known.
    """

    kind: Literal["sdist", "git", "folder"]
    address: str
    fixed: str = ""
    subdirectory: str = ""
    size: int = 0

    @property
    def name(self) -> str:
        """What a lock notes it by: the same on every machine, whatever the address is."""
        tail = f"#{self.subdirectory}" if self.subdirectory else ""
        return f"{'sha256' if self.kind == 'sdist' else self.kind}:{self.fixed}{tail}"

    def to_json(self) -> dict[str, Any]:
        """As a JSON object; ``Origin(**value)`` is the inverse."""
        return asdict(self)
