"""Platforms: what an image runs on, in the words of the OCI image index."""

from __future__ import annotations

import platform as _host

from mealkit._value import dataclass
from mealkit.errors import UsageError

_MACHINES = {
    "x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64", "ppc64le": "ppc64le",
    "s390x": "s390x", "riscv64": "riscv64", "i386": "386", "i686": "386", "armv7l": "arm", "armv8l": "arm",
}  # fmt: skip
_KERNEL = {"amd64": "x86_64", "arm64": "aarch64", "386": "i686", "arm": "armv7l"}
_KNOWN = ("amd64", "arm64", "arm", "386", "ppc64le", "s390x", "riscv64")


@dataclass(frozen=True)
class Platform:
    """An operating system and an architecture, such as ``linux/amd64``."""

    os: str = "linux"
    architecture: str = "amd64"
    variant: str = ""

    def __lt__(self, other: Platform) -> bool:
        return (self.os, self.architecture, self.variant) < (other.os, other.architecture, other.variant)

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @property
    def machine(self) -> str:
        """The architecture as the kernel and wheel tags write it: ``x86_64``, ``aarch64``, ``armv7l``."""
        return _KERNEL.get(self.architecture, self.architecture)

    def to_json(self) -> dict[str, str]:
        """The platform as an image index's ``platform`` object."""
        value = {"architecture": self.architecture, "os": self.os}
        return value | {"variant": self.variant} if self.variant else value


def parse_platform(text: str) -> Platform:
    """``linux/arm64`` as a :class:`Platform`.

    Raises:
        UsageError: it is none that wheels are made for; ``linux/amd64`` and ``linux/arm64`` have most of them.
    """
    parts = text.strip().lower().split("/")
    variant = parts[2] if len(parts) == 3 else ""
    if parts[1:] == ["arm"]:
        variant = "v7"
    elif parts[1:] == ["arm64", "v8"]:
        variant = ""
    usual = "v7" if parts[1:2] == ["arm"] else ""
    if len(parts) not in (2, 3) or parts[0] != "linux" or parts[1] not in _KNOWN or variant != usual:
        known = ", ".join(f"linux/{name}{'/v7' if name == 'arm' else ''}" for name in _KNOWN)
        raise UsageError(f"unknown platform {text!r}", hint=f"use one of {known}")
    return Platform(parts[0], parts[1], variant)


def host_platform() -> Platform:
    """The platform of this machine, as a container on it would see it."""
    machine = _host.machine().lower()
    name = _MACHINES.get(machine, machine)
    return Platform("linux", name, "v7" if name == "arm" else "")
