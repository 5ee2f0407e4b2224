"""Source trees: a source distribution unpacked, a commit checked out, or a folder copied, ready to be built."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mealkit.errors import BuildError, LockError, MealkitError, UnreachableError, WheelError, storage_error
from mealkit.redact import redact

from .origin import Origin
from .source import NEVER
from .store import Store
from .wheel import WheelFile

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

_GIT_TIMEOUT = 900  # seconds
_MOST_BYTES = 8 << 30
_LEFTOVERS = ("build", "dist")
"""What building in place leaves beside a project's sources; also ``*.egg-info``."""


def bring_sources(name: str, origin: Origin, folder: Path, environment: Mapping[str, str], store: Store) -> Path:
    """Put the sources of ``origin`` into an empty folder; the project's own folder in it.

    Raises:
        WheelError: the archive is not what the lock says, or holds what it must not.
        BuildError: git refuses, or there is no project.
        UnreachableError: a host gave no answer.
    """
    if origin.kind == "folder":
        tree = _copied(Path(origin.address), folder / "sources")
    elif origin.kind == "git":
        tree = _checked_out(name, origin, folder / "sources", environment)
    else:
        tree = _unpacked(name, origin, folder / "sources", store)
    inner = tree / origin.subdirectory
    if not inner.resolve().is_relative_to(tree.resolve()) or not any(
        (inner / file).is_file() for file in ("pyproject.toml", "setup.py")
    ):
        raise BuildError(
            f"the sources of {name} have no pyproject.toml",
            where=redact(origin.address) + (f"#{origin.subdirectory}" if origin.subdirectory else ""),
            hint="name the folder of the project: subdirectory = …",
        )
    return inner


def folder_files(root: Path) -> dict[str, Path]:
    """The files of a project's folder by path, sorted: all but ignored ones (``.gitignore``) and tools' own.

    Raises:
        LockError: there is no such folder.
        StorageError: it cannot be read.
    """
    if not root.is_dir():
        raise LockError("a required folder is not there", where=str(root), hint="bring it back, or lock again")
    try:
        return dict(sorted((path.relative_to(root).as_posix(), path) for path in _walk(root, root, [])))
    except OSError as error:
        raise storage_error(error, "cannot read a required folder", root) from error


def fingerprint(root: Path) -> str:
    """sha256 over the names, the contents and whether they may be executed, of all files of a project's folder."""
    state = hashlib.sha256()
    for name, path in folder_files(root).items():
        if path.is_symlink():
            state.update(f"{name}\0link\0{path.readlink()}\0".encode())
            continue
        data = hashlib.sha256(path.read_bytes()).hexdigest()
        state.update(f"{name}\0{os.access(path, os.X_OK):d}\0{data}\0".encode())
    return state.hexdigest()


def _walk(root: Path, folder: Path, above: list[tuple[Path, GitIgnoreSpec]]) -> Iterator[Path]:
    specs = [*above, *_ignore_file(folder)]
    for path in sorted(folder.iterdir()):
        is_folder = path.is_dir() and not path.is_symlink()
        if path.name in NEVER or path.suffix in (".pyc", ".pyo", ".egg-info"):
            continue
        if folder == root and is_folder and path.name in _LEFTOVERS and not (path / "__init__.py").exists():
            continue
        if any(spec.match_file(path.relative_to(start).as_posix() + "/" * is_folder) for start, spec in specs):
            continue
        if is_folder:
            yield from _walk(root, path, specs)
        elif path.is_file() or path.is_symlink():
            yield path


def _ignore_file(folder: Path) -> list[tuple[Path, GitIgnoreSpec]]:
    file = folder / ".gitignore"
    if not file.is_file():
        return []
    from pathspec import GitIgnoreSpec

    return [(folder, GitIgnoreSpec.from_lines(file.read_text(encoding="utf-8").splitlines()))]


def _copied(root: Path, tree: Path) -> Path:
    """Just the files that the fingerprint is of: what is built is what was hashed."""
    for name, path in folder_files(root).items():
        target = tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target, follow_symlinks=False)
    tree.mkdir(exist_ok=True)
    return tree


def _checked_out(name: str, origin: Origin, tree: Path, environment: Mapping[str, str]) -> Path:
    """All of a repository at one commit: backends that take the version from tags need the history."""
    quiet = {**environment, "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_COUNT": "1", "GIT_ADVICE": "0"}
    quiet |= {"GIT_CONFIG_KEY_0": "protocol.ext.allow", "GIT_CONFIG_VALUE_0": "never"}
    for arguments in (
        ("clone", "--quiet", "--no-checkout", "--", origin.address, str(tree)),
        ("-C", str(tree), "checkout", "--quiet", "--detach", origin.fixed),
        ("-C", str(tree), "submodule", "--quiet", "update", "--init", "--recursive"),
    ):
        try:
            done = subprocess.run(
                ["git", *arguments], capture_output=True, text=True, timeout=_GIT_TIMEOUT, env=quiet, check=False
            )
        except FileNotFoundError:
            raise BuildError(f"{name} is in a git repository, and git is not installed", hint="install git") from None
        except subprocess.TimeoutExpired:
            raise _unreachable(name, origin, f"no end after {_GIT_TIMEOUT} s") from None
        if done.returncode:
            said = redact(done.stderr.strip())
            if "Could not resolve host" in said or "Connection" in said or "timed out" in said:
                raise _unreachable(name, origin, said)
            raise BuildError(
                f"git does not give {name} at {origin.fixed[:12]}: {said.splitlines()[-1] if said else 'no reason'}",
                where=redact(origin.address),
                hint="is the commit still there, and may this user read it (~/.netrc, a credential helper, ssh)?",
            )
    return tree


def _unreachable(name: str, origin: Origin, said: str) -> MealkitError:
    return UnreachableError(
        f"the repository of {name} gave no answer: {said.splitlines()[-1]}",
        where=redact(origin.address),
        hint="check the network, then run the same command again",
    )


def _unpacked(name: str, origin: Origin, tree: Path, store: Store) -> Path:
    from .download import Fetch

    archive = WheelFile(name, "", origin.address.rpartition("/")[2], origin.fixed, origin.size, None, origin.address)
    fetch = Fetch([archive], store)
    try:
        path = fetch.get(archive).path
    finally:
        fetch.close()
    assert path is not None
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as zipped:
                _check_size(archive, sum(info.file_size for info in zipped.infolist()))
                zipped.extractall(tree)  # noqa: S202 - drops leading slashes and dots of names by itself
        else:
            with tarfile.open(path) as tar:
                _check_size(archive, sum(member.size for member in tar))
                tar.extractall(tree, filter="data")
    except (OSError, tarfile.TarError, zipfile.BadZipFile, ValueError, EOFError) as error:
        if isinstance(error, OSError) and error.errno in (28, 30, 122):
            raise storage_error(error, "cannot unpack a source distribution", tree) from error
        raise _broken(archive, str(error)) from None
    inner = [path for path in tree.iterdir() if path.is_dir()]
    if len(inner) != 1:
        raise _broken(archive, f"it has {len(inner)} folders at its top instead of one")
    return inner[0]


def _check_size(archive: WheelFile, size: int) -> None:
    if size > _MOST_BYTES:
        raise _broken(archive, f"it would unpack to {size >> 30} GiB")


def _broken(archive: WheelFile, why: str) -> WheelError:
    return WheelError(
        f"the source distribution of {archive.name} cannot be used: {why}",
        where=archive.filename,
        hint=f"choose another version of {archive.name}, or tell its authors",
    )
