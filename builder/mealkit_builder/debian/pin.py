"""Pins: the packages of a base by sha256, in a file of the project that is committed and names no host."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mealkit.errors import LockError, storage_error

PINS_NAME = "base.lock.toml"

_FORMAT = 1
_FIELDS = {
    "name": re.compile(r"[a-z0-9][a-z0-9+.-]+\Z"),
    "version": re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~:-]*\Z"),
    "file": re.compile(r"(?!/)(?!(?:.*/)?\.\.?/)[A-Za-z0-9_.+~:%/-]+\.deb\Z"),
    "sha256": re.compile(r"[0-9a-f]{64}\Z"),
}
_HEAD = """\
# The Debian packages of the image's base, pinned by `mealkit lock`. Commit it: the same pins give the same image.
"""


@dataclass(frozen=True, order=True)
class Pin:
    """One package of a base.

    Attributes:
        name: Such as ``libc6``.
        version: Such as ``2.36-9+deb12u10``.
        architecture: The image's, in Debian's words; the package itself may be for all.
        file: Its path in the archive.
        size: Bytes of the ``.deb``.
        sha256: Of the ``.deb``; 64 hexadecimal digits.
    """

    name: str
    version: str
    architecture: str
    file: str
    size: int
    sha256: str

    @property
    def built_for(self) -> str:
        """The package's own architecture, which may be ``all``."""
        return "all" if self.file.endswith("_all.deb") else self.architecture


@dataclass(frozen=True)
class Pins:
    """The pins of a base for some architectures.

    Attributes:
        suite: Of Debian, such as ``bookworm``.
        inputs: Names what was asked for; other questions need other pins.
        packages: By architecture, sorted by name.
    """

    suite: str
    inputs: str
    packages: Mapping[str, tuple[Pin, ...]]

    def digest(self, architecture: str) -> str:
        """``sha256:HEX`` that names exactly one architecture's packages."""
        lines = [f"{pin.name}={pin.version} {pin.sha256}" for pin in self.packages[architecture]]
        return "sha256:" + hashlib.sha256("\n".join((architecture, *lines)).encode()).hexdigest()

    def text(self) -> str:
        """As a file."""
        lines = [_HEAD, f"format = {_FORMAT}", f"suite = {_quoted(self.suite)}", f"inputs = {_quoted(self.inputs)}"]
        for architecture in sorted(self.packages):
            for pin in self.packages[architecture]:
                lines += [
                    "",
                    "[[package]]",
                    f"name = {_quoted(pin.name)}",
                    f"version = {_quoted(pin.version)}",
                    f"architecture = {_quoted(architecture)}",
                    f"file = {_quoted(pin.file)}",
                    f"size = {pin.size}",
                    f"sha256 = {_quoted(pin.sha256)}",
                ]
        return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    # What JSON writes for plain ASCII is a basic string of TOML.
    return json.dumps(text)


def read_pins(path: Path) -> Pins | None:
    """The pins in a file; None when there is none.

    Raises:
        LockError: it is damaged.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        if document["format"] != _FORMAT:
            raise ValueError(f"its format is {document['format']}, this mealkit knows {_FORMAT}")
        packages: dict[str, list[Pin]] = {}
        for item in document.get("package", []):
            for name, pattern in _FIELDS.items():
                if not pattern.match(item[name]):
                    raise ValueError(f"not a {name}: {item[name]!r}")
            if not isinstance(item["size"], int) or not re.fullmatch(r"[a-z0-9]+", item["architecture"]):
                raise ValueError(f"the size or architecture of {item['name']} is none")
            packages.setdefault(item["architecture"], []).append(Pin(**item))
        return Pins(
            str(document["suite"]),
            str(document["inputs"]),
            {name: tuple(sorted(pins)) for name, pins in packages.items()},
        )
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_error(error, "cannot read the pins of the base", path) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LockError(
            f"the pins of the base are damaged: {error}",
            where=str(path),
            hint="make them again: mealkit lock --upgrade",
        ) from None


def write_pins(pins: Pins, path: Path) -> None:
    """Write the file; an older one stays as it is if that fails.

    Raises:
        StorageError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_text(pins.text(), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise storage_error(error, "cannot write the pins of the base", path) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
