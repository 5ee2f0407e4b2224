"""The selection: which wheels of a lock an image of one platform and Python gets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mealkit.errors import BuildError, LockError, NoWheelError

from .lock import Lock
from .platform import Platform
from .store import Store
from .wheel import WheelFile

_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
"""PEP 600's aliases of older manylinux tags, by glibc minor version."""


def select_wheels(
    lock: Lock, minor: str, platform: Platform, libc: str, libc_version: tuple[int, int], store: Store
) -> tuple[WheelFile, ...]:
    """The wheels for one image, sorted by name; remembered by the lock's digest, for parsing takes a tenth of a second.

    Args:
        lock: The resolved requirements.
        minor: The image's Python, such as ``3.12``.
        platform: What the image runs on.
        libc: ``glibc`` or ``musl``.
        libc_version: Its version, such as ``(2, 36)``.
        store: Where to remember.

    Raises:
        NoWheelError: a requirement has no wheel that fits.
        LockError: the lock file is damaged, or does not allow this Python.
    """
    target = f"{minor}-{platform}-{libc}-{libc_version[0]}.{libc_version[1]}"
    key = f"1-{lock.digest.removeprefix('sha256:')}-{hashlib.sha256(target.encode()).hexdigest()[:16]}"
    known = store.read_fact("selections", key)
    if isinstance(known, list):
        return tuple(WheelFile(**{**value, "path": Path(value["path"]) if value["path"] else None}) for value in known)
    wheels = tuple(sorted(_select(lock, minor, platform, libc, libc_version), key=lambda wheel: wheel.name))
    store.write_fact("selections", key, [_to_json(wheel) for wheel in wheels])
    return wheels


def _to_json(wheel: WheelFile) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(wheel), "path": str(wheel.path) if wheel.path else None}


def _select(
    lock: Lock, minor: str, platform: Platform, libc: str, libc_version: tuple[int, int]
) -> Iterator[WheelFile]:
    import tomllib

    from packaging.pylock import PackageArchive, PackageWheel, Pylock, PylockSelectError, PylockValidationError

    try:
        pylock = Pylock.from_dict(tomllib.loads(lock.text))
    except (ValueError, PylockValidationError) as error:
        raise LockError(
            f"the lock is damaged: {error}", where=str(lock.path), hint="make it again: mealkit lock"
        ) from None
    tags = _tags(minor, platform, libc, libc_version)
    try:
        chosen = list(pylock.select(environment=_environment(minor, platform), tags=tags))  # type: ignore[arg-type]
    except PylockSelectError as error:
        raise NoWheelError(
            f"{error}, for Python {minor} on {platform} with {libc} {libc_version[0]}.{libc_version[1]}",
            where=str(lock.path),
            hint="choose another base or version of it, or lock versions that have wheels: mealkit lock --upgrade",
        ) from None
    for package, file in chosen:
        version = str(package.version)
        if isinstance(file, PackageArchive) and str(file.path or file.url or "").endswith(".whl"):
            pass  # a wheel named by address or path
        elif not isinstance(file, PackageWheel):
            what = "only a source distribution" if "sdist" in type(file).__name__.lower() else "no wheel"
            raise NoWheelError(
                f"{package.name} {version} has {what} for Python {minor} on {platform}",
                where=str(lock.path),
                hint=f"choose a version of {package.name} that has one, or build a wheel and name it by path",
            )
        hashed = dict(file.hashes).get("sha256")
        if hashed is None:
            raise LockError(
                f"{package.name} {version} has no sha256 in the lock", where=str(lock.path), hint="mealkit lock"
            )
        address, path = file.url, None
        if address is None and file.path is not None:
            path = (lock.path.parent / file.path).absolute()
            address = path.as_uri()
        if address is None:
            raise BuildError(
                f"{package.name} {version} has no address in the lock", where=str(lock.path), hint="mealkit lock"
            )
        filename = file.filename if isinstance(file, PackageWheel) else address.rpartition("/")[2]
        yield WheelFile(
            name=str(package.name),
            version=version,
            filename=filename,
            sha256=hashed,
            size=file.size or 0,
            path=path,
            url=address,
        )


def _environment(minor: str, platform: Platform) -> dict[str, str]:
    """The environment markers (PEP 508) of the image; nothing of the machine that builds it."""
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{minor}.0",
        "os_name": "posix",
        "platform_machine": platform.machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{minor}.0",
        "python_version": minor,
        "sys_platform": "linux",
    }


def _tags(minor: str, platform: Platform, libc: str, libc_version: tuple[int, int]) -> list[Any]:
    from packaging.tags import compatible_tags, cpython_tags

    major, _, number = minor.partition(".")
    version = (int(major), int(number))
    platforms = list(_platform_tags(platform, libc, libc_version))
    abi = f"cp{major}{number}"
    return [
        *cpython_tags(python_version=version, abis=[abi], platforms=platforms),
        *compatible_tags(python_version=version, interpreter=abi, platforms=platforms),
    ]


def _platform_tags(platform: Platform, libc: str, libc_version: tuple[int, int]) -> Iterator[str]:
    """Platform tags from the newest libc that the image has downwards (PEP 600, PEP 656)."""
    machine = platform.machine
    if libc == "musl":
        for number in range(libc_version[1], -1, -1):
            yield f"musllinux_{libc_version[0]}_{number}_{machine}"
    else:
        oldest = 5 if machine == "x86_64" else 17
        for number in range(libc_version[1], oldest - 1, -1):
            yield f"manylinux_{libc_version[0]}_{number}_{machine}"
            if number in _LEGACY:
                yield f"{_LEGACY[number]}_{machine}"
    yield f"linux_{machine}"
