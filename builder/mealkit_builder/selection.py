"""The selection: which wheels of a lock an image of one platform and Python gets, and which must be built for it."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mealkit.errors import BuildError, LockError, NoWheelError

from .digest import is_digest
from .lock import Lock
from .note import Built, Notes
from .origin import Origin
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
        NoWheelError: a requirement has no wheel that fits, and no sources.
        LockError: the lock file is damaged, or does not allow this Python.
    """
    key = selection_key(lock, minor, platform, libc, libc_version)
    known = store.read_fact("selections", key)
    if isinstance(known, list):
        return tuple(map(_from_json, known))
    wheels = tuple(sorted(_select(lock, minor, platform, libc, libc_version), key=lambda wheel: wheel.name))
    store.write_fact("selections", key, [_to_json(wheel) for wheel in wheels])
    return wheels


def selection_key(lock: Lock, minor: str, platform: Platform, libc: str, libc_version: tuple[int, int]) -> str:
    """Names all that :func:`select_wheels` depends on; its answers are remembered under it."""
    target = f"{minor}-{platform}-{libc}-{libc_version[0]}.{libc_version[1]}"
    if "path = " in lock.text:  # relative to the lock: another checkout has it elsewhere
        target += f"-{lock.path.parent.absolute()}"
    return f"2-{lock.digest.removeprefix('sha256:')}-{hashlib.sha256(target.encode()).hexdigest()[:16]}"


def _to_json(wheel: WheelFile) -> dict[str, Any]:
    plain = {name: getattr(wheel, name) for name in ("name", "version", "filename", "sha256", "size", "url")}
    path, origin = wheel.path, wheel.origin
    return {**plain, "path": str(path) if path else None, "origin": origin.to_json() if origin else None}


def _from_json(value: dict[str, Any]) -> WheelFile:
    path, origin = value["path"], value["origin"]
    return WheelFile(**{**value, "path": Path(path) if path else None, "origin": Origin(**origin) if origin else None})


def _select(
    lock: Lock, minor: str, platform: Platform, libc: str, libc_version: tuple[int, int]
) -> Iterator[WheelFile]:
    import tomllib

    from packaging.pylock import PackageArchive, PackageWheel, Pylock, PylockSelectError, PylockValidationError

    try:
        pylock = Pylock.from_dict(tomllib.loads(lock.text))
    except (ValueError, PylockValidationError, RecursionError) as error:
        raise LockError(
            f"the lock is damaged: {error}", where=str(lock.path), hint="make it again: mealkit lock"
        ) from None
    tags = image_tags(minor, platform, libc, libc_version)
    try:
        chosen = list(pylock.select(environment=_environment(minor, platform), tags=tags))  # type: ignore[arg-type]
    except PylockSelectError as error:
        raise NoWheelError(
            f"{error}, for Python {minor} on {platform} with {libc} {libc_version[0]}.{libc_version[1]}",
            where=str(lock.path),
            hint="choose another base or version of it, or lock versions that have wheels: mealkit lock --upgrade",
        ) from None
    notes = lock.notes
    for package, file in chosen:
        name, version = str(package.name), str(package.version or "")
        if not isinstance(file, PackageWheel) and not (
            isinstance(file, PackageArchive) and _filename(file.path or file.url or "").endswith(".whl")
        ):
            origin = _origin(package, file, lock)
            built = _recorded(name, origin, notes, tags, f"{libc}-{libc_version[0]}.{libc_version[1]}")
            yield WheelFile(name, version, built.file, built.sha256, built.size, origin=origin)
            continue
        hashed = _sha256(name, version, file, lock)
        address, path = _address(name, version, file, lock)
        filename = file.filename if isinstance(file, PackageWheel) else _filename(address)
        yield WheelFile(
            name=name,
            version=version,
            filename=filename,
            sha256=hashed,
            size=file.size or notes.sizes.get(hashed, 0),
            path=path,
            url=address,
        )


def _filename(address: str) -> str:
    """The name of the file at an address; a local version's ``+`` is ``%2B`` there."""
    path = urlsplit(address).path if "://" in address else address
    return unquote(path.rpartition("/")[2])


def _sha256(name: str, version: str, file: Any, lock: Lock) -> str:
    hashed = dict(file.hashes).get("sha256")
    if hashed is None or not is_digest(f"sha256:{hashed}"):  # it becomes the name of a file
        raise LockError(f"{name} {version} has no sha256 in the lock", where=str(lock.path), hint="mealkit lock")
    return str(hashed)


def _address(name: str, version: str, file: Any, lock: Lock) -> tuple[str, Path | None]:
    """Where a file of the lock is: its URL, and its path if it is here."""
    if file.url is not None:
        return file.url, None
    if file.path is None:
        raise BuildError(f"{name} {version} has no address in the lock", where=str(lock.path), hint="mealkit lock")
    path = Path(os.path.normpath((lock.path.parent / file.path).absolute()))
    return path.as_uri(), path


def _origin(package: Any, file: Any, lock: Lock) -> Origin:
    """The sources that the lock names instead of a wheel."""
    from packaging.pylock import PackageDirectory, PackageVcs

    if isinstance(file, PackageDirectory):
        path = os.path.normpath((lock.path.parent / file.path).absolute())
        return Origin("folder", path, subdirectory=file.subdirectory or "")
    if isinstance(file, PackageVcs):
        if file.type != "git":
            raise LockError(
                f"{package.name} is in a repository of {file.type}, which mealkit cannot read",
                where=str(lock.path),
                hint="name a git repository, or build a wheel and name its file",
            )
        if not re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", file.commit_id):
            raise LockError(
                f"{package.name} is locked to {file.commit_id!r}, which is no commit",
                where=str(lock.path),
                hint="make the lock again: mealkit lock",
            )
        address = file.url or Path(os.path.normpath((lock.path.parent / str(file.path)).absolute())).as_uri()
        return Origin("git", address, file.commit_id, file.subdirectory or "")
    version = str(package.version or "")
    address, _ = _address(str(package.name), version, file, lock)
    hashed = _sha256(str(package.name), version, file, lock)
    return Origin("sdist", address, hashed, getattr(file, "subdirectory", None) or "", file.size or 0)


def _recorded(name: str, origin: Origin, notes: Notes, tags: Sequence[Any], libc: str) -> Built:
    """The wheel that the lock notes for these sources and this image; an empty note where there is none."""
    from packaging.utils import parse_wheel_filename

    for built in notes.built:
        if built.name == name and built.source == origin.name and built.file:
            try:
                fits = parse_wheel_filename(built.file)[3] & set(tags)
            except ValueError:
                continue
            if not is_digest(f"sha256:{built.sha256}"):  # it becomes the name of a file
                continue
            if fits and (not built.libc or runs_on(built.libc, libc)):
                return built
    return Built(name, origin.name, "")


def runs_on(needed: str, libc: str) -> bool:
    """Whether what needs ``glibc-2.36`` runs where ``libc`` is, such as ``glibc-2.41``."""

    def parts(text: str) -> tuple[str, tuple[int, ...]]:
        kind, _, version = text.partition("-")
        return kind, tuple(int(part) for part in version.split(".") if part.isdigit())

    return parts(needed)[0] == parts(libc)[0] and parts(needed)[1] <= parts(libc)[1]


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


def image_tags(minor: str, platform: Platform, libc: str, libc_version: tuple[int, int]) -> list[Any]:
    """The tags of the wheels that an image can use, the best first."""
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
