"""Platforms: what an image runs on, in the words of the OCI image index."""

from __future__ import annotations

import platform as _host

from mealkit._value import dataclass
from mealkit.errors import UsageError

_MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True, order=True)
class Platform:
    """An operating system and an architecture, such as ``linux/amd64``."""

    os: str = "linux"
    architecture: str = "amd64"
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @property
    def machine(self) -> str:
        """The architecture as the kernel and wheel tags write it: ``x86_64``, ``aarch64``."""
        return {"amd64": "x86_64", "arm64": "aarch64"}.get(self.architecture, self.architecture)

    def to_json(self) -> dict[str, str]:
        """The platform as an image index's ``platform`` object."""
        value = {"architecture": self.architecture, "os": self.os}
        return value | {"variant": self.variant} if self.variant else value


def parse_platform(text: str) -> Platform:
    """``linux/arm64`` as a :class:`Platform`.

    Raises:
        UsageError: it is not ``linux/amd64`` or ``linux/arm64``; mealkit packs Python for these.
    """
    parts = text.strip().lower().split("/")
    if len(parts) not in (2, 3) or parts[0] != "linux" or parts[1] not in ("amd64", "arm64"):
        raise UsageError(f"unknown platform {text!r}", hint="use linux/amd64 or linux/arm64")
    variant = parts[2] if len(parts) == 3 and (parts[1], parts[2]) != ("arm64", "v8") else ""
    return Platform(parts[0], parts[1], variant)


def host_platform() -> Platform:
    """The platform of this machine, as a container on it would see it."""
    machine = _host.machine().lower()
    return Platform("linux", _MACHINES.get(machine, machine))
