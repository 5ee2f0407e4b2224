"""The base ``deb:SUITE``: its packages asked for and pinned, its Python told from them, its layers as ingredients."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from mealkit.errors import BaseImageError, LockError, UsageError
from mealkit_builder.digest import digest_bytes
from mealkit_builder.image import Image, ImageConfig
from mealkit_builder.ingredient import Ingredient
from mealkit_builder.interpreter import Interpreter
from mealkit_builder.platform import Platform
from mealkit_builder.progress import Reporter, Silent
from mealkit_builder.python_in_base import DEFAULT_PATH, BasePython, check_minor
from mealkit_builder.store import Store

from .package import Group, build_layer, group
from .pin import PINS_NAME, Pin, Pins, read_pins, write_pins
from .system import CA_BUNDLE, build_system_layer, system_key

if TYPE_CHECKING:
    from .source import AptSource

ALONE = ("base-files", "base-passwd", "ca-certificates", "dash", "netbase", "python3-minimal", "tzdata")
"""Taken without what they need: that is for their scripts, which are not run."""

NEEDED = ("coreutils", "libc-bin", "libgomp1", "libpython3-stdlib", "libstdc++6")
"""Taken with all that they need, beside the interpreter itself: what Python, wheels and small scripts expect."""

ASSUMED = ("debconf", "dpkg")
"""Count as installed unless the project asks for them: they are needed for scripts only, and none is run."""

_ARCHITECTURES = {
    "amd64": "amd64", "arm64": "arm64", "arm/v7": "armhf", "arm/v5": "armel", "386": "i386", "ppc64le": "ppc64el",
    "s390x": "s390x", "riscv64": "riscv64", "mips64le": "mips64el", "loong64": "loong64",
}  # fmt: skip
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(?:=[A-Za-z0-9][A-Za-z0-9.+~:-]*)?\Z")
_WORKERS = 4


def debian_architecture(platform: Platform) -> str:
    """A platform in Debian's words, such as ``armhf`` for ``linux/arm/v7``.

    Raises:
        BaseImageError: Debian has none for it.
    """
    name = str(platform).removeprefix("linux/")
    if name not in _ARCHITECTURES:
        raise BaseImageError(
            f"Debian has no packages for {platform}",
            where="base deb:…",
            hint=f"use one of {', '.join(f'linux/{known}' for known in _ARCHITECTURES)}",
        )
    return _ARCHITECTURES[name]


def pins_inputs(suite: str, packages: Sequence[str]) -> str:
    """Names what is asked of apt; pins for other questions do not fit."""
    question = [suite, ALONE, NEEDED, ASSUMED, sorted(packages)]
    return "sha256:" + hashlib.sha256(json.dumps(question).encode()).hexdigest()


def find_pins(
    suite: str,
    platforms: Sequence[Platform],
    packages: Sequence[str],
    root: Path,
    environment: Mapping[str, str],
    *,
    upgrade: bool = False,
    locked: bool = False,
    report: Callable[[str], None] = lambda text: None,
) -> Pins:
    """The pins of a project's base, completed by apt where they are missing or do not fit, and then written.

    Args:
        suite: Of Debian.
        platforms: What images are made for.
        packages: Further packages that the project wants.
        root: The project's folder.
        environment: The process' environment.
        upgrade: Forget older pins.
        locked: Ask nobody: refuse where pins are missing.
        report: Told when apt is asked.

    Raises:
        LockError: the pins are damaged, or ``locked`` and they are missing.
        UsageError: a package's name is none.
        BaseImageError: apt is missing, or there is no such suite or package.
        UnreachableError: the mirror gave no answer.
    """
    for name in packages:
        if not _PACKAGE.match(name):
            raise UsageError(
                f"{name!r} is not a package's name",
                where=f"{root / 'pyproject.toml'}: tool.mealkit.image.apt",
                hint="write NAME or NAME=VERSION",
            )
    path = root / PINS_NAME
    inputs = pins_inputs(suite, packages)
    known = None if upgrade and not locked else read_pins(path)
    there = dict(known.packages) if known is not None and (known.suite, known.inputs) == (suite, inputs) else {}
    architectures = dict.fromkeys(debian_architecture(platform) for platform in platforms)
    missing = [name for name in architectures if name not in there]
    if missing and locked:
        raise LockError(
            f"the pins of the base deb:{suite} are missing or do not fit, for {', '.join(missing)}",
            where=str(path),
            hint="run `mealkit lock`, and commit the file",
        )
    for architecture in missing:
        report(f"asking apt for {suite} {architecture}")
        there[architecture] = ask_apt(suite, architecture, packages, environment)
    pins = Pins(suite, inputs, there)
    if missing:
        write_pins(pins, path)
    return pins


def ask_apt(suite: str, architecture: str, packages: Sequence[str], environment: Mapping[str, str]) -> tuple[Pin, ...]:
    """The packages of a base, as apt resolves them today.

    Raises:
        BaseImageError: apt is missing, or there is no such suite or package.
        UnreachableError: the mirror gave no answer.
    """
    from .apt import opened_apt
    from .source import apt_sources

    asked = {name.partition("=")[0] for name in packages}
    assumed = [name for name in ASSUMED if name not in asked]
    with opened_apt(suite, architecture, apt_sources(suite, environment), environment, assumed) as apt:
        alone = apt.alone(ALONE)
        python = next((pin.version for pin in alone if pin.name == "python3-minimal"), "")
        match = re.match(r"(3\.\d+)\.", python)
        if match is None:
            raise BaseImageError(
                f"the suite's Python cannot be told: python3-minimal {python!r}",
                where=f"deb:{suite}",
                hint="use another suite, such as deb:bookworm or deb:trixie",
            )
        check_minor(match[1], f"deb:{suite}")
        closure = apt.closure([*NEEDED, f"python{match[1]}-minimal", *packages])
    found = {pin.name: pin for pin in alone} | {pin.name: pin for pin in closure}
    return tuple(sorted(found.values()))


def python_of(pins: Sequence[Pin], suite: str) -> BasePython:
    """The interpreter of a base, from its packages' names and versions alone.

    Raises:
        LockError: they have no Python or no C library.
    """
    versions = {pin.name: pin.version.rpartition(":")[2] for pin in pins}
    name = next((name for name in versions if re.fullmatch(r"python3\.\d+-minimal", name)), "")
    version = re.match(r"3\.\d+\.\d+", versions.get(name, ""))
    libc = re.match(r"(\d+)\.(\d+)", versions.get("libc6", versions.get("libc6.1", "")))
    if version is None or libc is None:
        raise LockError(
            f"the pins of the base deb:{suite} have no Python or no C library",
            where=PINS_NAME,
            hint="make them again: mealkit lock --upgrade",
        )
    minor = name.removeprefix("python").removesuffix("-minimal")
    return BasePython(minor, f"/usr/bin/python{minor}", "glibc", (int(libc[1]), int(libc[2])), version[0])


def debian_image(platform: Platform, python: BasePython) -> Image:
    """The image of such a base without its layers."""
    env = (
        ("PATH", DEFAULT_PATH),
        ("LANG", "C.UTF-8"),
        ("SSL_CERT_FILE", CA_BUNDLE),
        ("PYTHON_VERSION", python.version or python.minor),
    )
    return Image(platform, config=ImageConfig(env=env))


class DebianSource:
    """The packages of a base, fetched when a layer is to be made of them; several threads may ask."""

    def __init__(self, suite: str, pins: Sequence[Pin], store: Store, environment: Mapping[str, str]) -> None:
        self.pins = tuple(sorted(pins))
        self._suite = suite
        self._store = store
        self._environment = environment
        self._locks = {pin.sha256: threading.Lock() for pin in pins}
        self._opening = threading.Lock()
        self._expected: set[str] = set()
        self._sources: tuple[AptSource, ...] | None = None
        self.reporter: Reporter = Silent()

    def get(self, pins: Sequence[Pin]) -> list[Path]:
        """The packages' files, downloaded side by side where the store has them not.

        Raises:
            BaseImageError: a package is no longer in the mirror, or has other bytes.
            UnreachableError: the mirror gave no answer.
        """
        missing = [pin for pin in pins if not self._store.has_blob(pin.sha256)]
        self.reporter.expect("download", sum(pin.size for pin in missing if pin.sha256 not in self._expected))
        self._expected |= {pin.sha256 for pin in missing}
        with ThreadPoolExecutor(_WORKERS, "mealkit-deb") as executor:
            return list(executor.map(self._one, pins))

    def _one(self, pin: Pin) -> Path:
        path = self._store.blob_path(pin.sha256)
        with self._locks[pin.sha256]:
            if not path.is_file():
                self._fetch(pin)
        return path

    def _fetch(self, pin: Pin) -> None:
        from .apt import download, settings_folder
        from .source import apt_sources

        with self._opening:
            if self._sources is None:
                self._sources = apt_sources(self._suite, self._environment)
        with settings_folder(self._sources, pin.architecture) as folder:
            target = folder / "package.deb"
            download(pin, target, folder, self._sources, self._environment)
            data = target.read_bytes()
        if digest_bytes(data) != f"sha256:{pin.sha256}":
            raise BaseImageError("a package has other bytes than its pin", where=pin.name, hint="try again")
        self._store.add_blob(pin.sha256, data)
        self.reporter.moved("download", len(data))

    def ingredients(self, interpreter: Interpreter | None, store: Store) -> tuple[Ingredient, ...]:
        """The layers of the base: its packages, the system's files, and the bytecode of its standard library."""
        from .bytecode import bytecode_ingredient

        found = [self._packages(one, store) for one in group(self.pins)]
        found.append(
            Ingredient(
                key=system_key(self.pins),
                title="Debian's system files",
                wheels=(),
                make=lambda _: build_system_layer(self.pins, self.get(self.pins), store),
            )
        )
        if interpreter is not None:
            found.append(bytecode_ingredient(self.pins, interpreter, self.get, store))
        return tuple(found)

    def _packages(self, one: Group, store: Store) -> Ingredient:
        return Ingredient(
            key=one.key,
            title=one.title,
            wheels=(),
            make=lambda _: build_layer(one, self.get(one.pins), store),
        )
