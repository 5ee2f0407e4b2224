"""The recipe's own files: which of the author's are packed, and which must not be."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from mealkit.errors import ProjectError, SecretFoundError, storage_error
from mealkit.project import Project

from .own import DISTRIBUTIONS
from .secret import secret_in

NEVER = frozenset({"__pycache__", ".git", ".hg", ".svn", ".venv", "venv", ".mealkit", ".mypy_cache", ".ruff_cache",
                    ".pytest_cache", ".ipynb_checkpoints", ".DS_Store", "node_modules"})  # fmt: skip


def recipe_files(project: Project) -> dict[str, Path]:
    """The files of the recipe's packages by path below ``site-packages``, sorted.

    Left out: what ``.gitignore`` files from the project's folder downwards ignore, byte code, and tools' own folders.

    Raises:
        SecretFoundError: a credential file, a private key or an access token would be packed.
        ProjectError: a symbolic link leads out of the project or round in a circle, a file's name cannot be packed, or
            a package has the name of one of ours.
        StorageError: a file cannot be read.
    """
    for package in project.packages:
        if package in DISTRIBUTIONS.values():
            raise ProjectError(
                f"a recipe's package cannot be called {package!r}: the image has that from mealkit",
                where=f"{project.file}: tool.mealkit",
                hint="rename the package",
            )
    ignored = _ignored(project)
    found: dict[str, Path] = {}
    for package in project.packages:
        top = project.source / package
        try:
            for path in _walk(top, ignored, project) if top.is_dir() else [project.source / f"{package}.py"]:
                relative = _name(path, path.relative_to(project.source).as_posix())
                _check(path, relative, project)
                found[relative] = path
        except OSError as error:
            raise storage_error(error, "cannot read the recipe's files") from error
    return dict(sorted(found.items()))


def _walk(folder: Path, ignored: Callable[[Path, bool], bool], project: Project) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name in NEVER or path.suffix in (".pyc", ".pyo"):
            continue
        if path.is_dir():
            if not ignored(path, True):
                _check_link(path, project)
                yield from _walk(path, ignored, project)
        elif not ignored(path, False):
            yield path


def _ignored(project: Project) -> Callable[[Path, bool], bool]:
    """Whether a path is ignored by the ``.gitignore`` files between the project's folder and it."""
    files = [path for path in (project.root / ".gitignore", *_inner_ignore_files(project)) if path.is_file()]
    if not files:
        return lambda path, is_folder: False
    from pathspec import GitIgnoreSpec

    specs = [(file.parent, GitIgnoreSpec.from_lines(file.read_text(encoding="utf-8").splitlines())) for file in files]

    def ignored(path: Path, is_folder: bool) -> bool:
        for parent, spec in specs:
            if path.is_relative_to(parent):
                relative = path.relative_to(parent).as_posix() + ("/" if is_folder else "")
                if spec.match_file(relative):
                    return True
        return False

    return ignored


def _inner_ignore_files(project: Project) -> Iterator[Path]:
    for package in project.packages:
        yield from sorted((project.source / package).rglob(".gitignore"))


def _check_link(path: Path, project: Project) -> None:
    if not path.is_symlink():
        return
    real = path.resolve()
    if not real.is_relative_to(project.root.resolve()):
        raise ProjectError(
            "a symbolic link leads out of the project",
            where=str(path),
            hint="copy what it leads to into the project, or ignore it in .gitignore",
        )
    if path.parent.resolve().is_relative_to(real):
        raise ProjectError(
            "a symbolic link leads to a folder that it is in itself", where=str(path), hint="remove the link"
        )


def _name(path: Path, relative: str) -> str:
    """The name as UTF-8, whatever this machine's locale takes names for."""
    try:
        return os.fsencode(relative).decode()
    except UnicodeDecodeError:
        raise ProjectError(
            f"a file's name is not UTF-8: {relative!a}", where=ascii(str(path)), hint="rename or remove the file"
        ) from None


def _check(path: Path, relative: str, project: Project) -> None:
    _check_link(path, project)
    if any(part.startswith(".wh.") for part in relative.split("/")):
        raise ProjectError(
            "a container engine takes a file of this name for a removal (a whiteout)",
            where=str(path),
            hint="rename it, or ignore it in .gitignore",
        )
    if not path.is_file():
        raise ProjectError("only plain files can be packed", where=str(path), hint="ignore it in .gitignore")
    secret = secret_in(relative, path.read_bytes())
    if secret:
        raise SecretFoundError(
            f"{secret} stands among the recipe's files: {relative}",
            where=str(path),
            hint="move it out of the package, or add it to .gitignore; give secrets to a run by its environment",
        )
