"""The finishing of a selection: wheels that must be built are built, sizes that no index told are found out.

What was found out goes into the lock, so that the next machine builds nothing anew to know which layers there are.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from mealkit.errors import LockError, NoWheelError
from mealkit.project import Project

from .lock import Lock, lowest_python, write_notes
from .note import Built, merged
from .platform import Platform, host_platform, parse_platform
from .selection import image_tags, runs_on, select_wheels
from .store import Store, default_store_root
from .wheel import WheelFile

if TYPE_CHECKING:
    from .wheelwright import Wheelwright


@dataclass(frozen=True)
class Target:
    """What an image's wheels must fit.

    Attributes:
        minor: Its Python, such as ``3.12``.
        platform: What it runs on.
        libc: ``glibc`` or ``musl``.
        libc_version: Its version, such as ``(2, 36)``.
    """

    minor: str
    platform: Platform
    libc: str
    libc_version: tuple[int, int]

    def fits(self, built: Built) -> bool:
        """Whether a wheel that was built here runs there."""
        from packaging.utils import parse_wheel_filename

        tags = parse_wheel_filename(built.file)[3]
        if built.libc and (self.platform != host_platform() or not runs_on(built.libc, str(self).split()[-1])):
            return False
        return bool(tags & set(image_tags(self.minor, self.platform, self.libc, self.libc_version)))

    def __str__(self) -> str:
        return f"Python {self.minor} on {self.platform} with {self.libc}-{'.'.join(map(str, self.libc_version))}"


def finish(
    wheels: Sequence[WheelFile],
    lock: Lock,
    project: Project,
    target: Target,
    environment: Mapping[str, str],
    store: Store,
    *,
    locked: bool = False,
    new: bool = False,
) -> tuple[tuple[WheelFile, ...], Lock]:
    """The selection with nothing left open, and the lock that notes what was found out.

    Args:
        wheels: What was selected.
        lock: What it was selected from.
        project: The recipe.
        target: What the image is.
        environment: The process' environment.
        store: Where wheels are kept.
        locked: Refuse what the lock would have to note, instead of noting it.
        new: The lock was made just now. Sizes are noted in such a one only: they are the same for everyone who asks,
            and no reason to change a file that is committed.

    Raises:
        NoWheelError: sources give no wheel that fits the image.
        LockError: the lock notes no wheel for some sources, and is not to be changed.
        MealkitError: a build fails; see :meth:`Wheelwright.build`.
    """
    maker = _wheelwright(project, environment, store) if any(wheel.origin for wheel in wheels) else None
    notes = lock.notes
    pins = {(one.name, one.source): one for one in notes.built}
    made: list[Built] = []
    done: list[WheelFile] = []
    for wheel in wheels:
        if wheel.origin is None or maker is None:
            done.append(wheel)
            continue
        pinned = pins.get((wheel.name, wheel.origin.name))
        if wheel.sha256:
            record = next(one for one in notes.built if one.sha256 == wheel.sha256)
            done.append(replace(wheel, make=_maker(maker, record)))
            continue
        if locked and pinned is None:
            raise LockError(
                f"the lock notes no wheel that is built from the sources of {wheel.name}",
                where=str(lock.path),
                hint="run `mealkit lock`, and commit pylock.toml",
            )
        requires = pinned.requires if pinned else None
        built = maker.build(wheel.name, wheel.version, wheel.origin, target.minor, requires)
        if not target.fits(built):
            raise _unfit(wheel, built, target)
        if wheel.origin.kind == "folder":
            made.append(Built(wheel.name, wheel.origin.name, built.python, built.requires))
        elif locked:
            raise LockError(
                f"the lock notes no wheel of {wheel.name} {wheel.version} for {target}",
                where=str(lock.path),
                hint="run `mealkit build` once without --locked, and commit pylock.toml",
            )
        else:
            made.append(built)
            maker.keep(built)
        path = store.blob_path(built.sha256)
        version = wheel.version or built.file.split("-")[1]
        done.append(
            replace(wheel, version=version, filename=built.file, sha256=built.sha256, size=built.size, path=path)
        )
    sizes = find_sizes([wheel for wheel in done if not wheel.size], store)
    finished = tuple(replace(one, size=sizes[one.sha256]) if not one.size else one for one in done)
    built_now = merged(notes.built, made)
    if not locked and (built_now != notes.built or (sizes and new)):
        lock = write_notes(lock, replace(notes, built=built_now, sizes={**notes.sizes, **sizes}))
    return finished, lock


def complete_lock(lock: Lock, project: Project, environment: Mapping[str, str]) -> Lock:
    """The lock with notes of what an image on a machine like this one needs; a build for another adds its own.

    Raises:
        MealkitError: a wheel cannot be built.
    """
    from packaging.specifiers import SpecifierSet

    store = Store(default_store_root(dict(environment)))
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    minor = here if SpecifierSet(project.requires_python).contains(f"{here}.99") else lowest_python(project)
    glibc = platform.libc_ver()[1].split(".")
    libc = ("glibc", (int(glibc[0]), int(glibc[1]))) if len(glibc) > 1 else ("musl", (1, 2))
    for one in [parse_platform(text) for text in project.image.platforms] or [host_platform()]:
        try:
            wheels = select_wheels(lock, minor, one, *libc, store)
        except NoWheelError:
            continue  # the image's base may have another Python
        if any(wheel.origin is not None or not wheel.size for wheel in wheels):
            try:
                _, lock = finish(wheels, lock, project, Target(minor, one, *libc), environment, store, new=True)
            except NoWheelError:
                if one == host_platform():
                    raise
    return lock


def _wheelwright(project: Project, environment: Mapping[str, str], store: Store) -> Wheelwright:
    from .wheelwright import Wheelwright

    kept = project.root / project.image.wheels if project.image.wheels else None
    return Wheelwright(project.root, environment, store, kept)


def _maker(maker: Wheelwright, record: Built) -> Callable[[WheelFile], Path]:
    return lambda wheel: maker.find(wheel, record.python, record.requires)


def _unfit(wheel: WheelFile, built: Built, target: Target) -> NoWheelError:
    return NoWheelError(
        f"{wheel.name} {wheel.version} has only sources for {target}, and they build {built.file} here",
        where=wheel.filename or wheel.name,
        hint="compiled code must be built where it runs: choose a version that has wheels, build on such a machine "
        "and note the wheel in the lock, or take the image's Python and platform from this machine",
    )


def find_sizes(wheels: Sequence[WheelFile], store: Store) -> dict[str, int]:
    """The lengths of wheels that no index told, by sha256: from what is here, else by asking for their headers."""
    with ThreadPoolExecutor(8, "mealkit-size") as executor:
        return dict(executor.map(lambda wheel: (wheel.sha256, _size(wheel, store)), wheels))


def _size(wheel: WheelFile, store: Store) -> int:
    from .download import Fetch, remote_size

    for path in (store.blob_path(wheel.sha256), wheel.path or _local(wheel)):
        if path is not None and path.is_file():
            return path.stat().st_size
    known = store.read_fact("sizes", wheel.sha256)
    size = known if isinstance(known, int) else remote_size(wheel)
    if size is None:  # a server that tells no length: it must come anyway
        fetch = Fetch([wheel], store)
        try:
            got = fetch.get(wheel).path
        finally:
            fetch.close()
        size = Path(str(got)).stat().st_size
    store.write_fact("sizes", wheel.sha256, size)
    return size


def _local(wheel: WheelFile) -> Path | None:
    """The file that an address names, if it names one."""
    address = wheel.url or ""
    return Path(unquote(urlsplit(address).path)) if address.startswith("file:") else None
