"""The scaffold: a new recipe rendered from a template into a folder."""

from __future__ import annotations

import keyword
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import mealkit
from mealkit.errors import UsageError, storage_error

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\Z")


@dataclass(frozen=True)
class Scaffold:
    """What was made."""

    name: str
    files: int
    next_steps: tuple[str, ...]


def make_recipe(folder: Path, name: str, kind: str) -> Scaffold:
    """Render the recipe template into ``folder``, which must be missing or empty; all files appear at once.

    Raises:
        UsageError: the name cannot be a distribution's and a package's, or the folder has files.
        StorageError: the folder cannot be written.
    """
    package = name.replace("-", "_")
    if not _NAME.match(name) or keyword.iskeyword(package):
        raise UsageError(
            f"not a recipe's name: {name!r}",
            where="--name",
            hint="use lower-case letters, digits and dashes: my-recipe",
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError("the folder is not empty", where=str(folder), hint="name a new folder")
    from jinja2 import Environment, StrictUndefined

    from mealkit_templates import files

    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701
    values = {
        "name": name,
        "package": package,
        "kind": kind,
        "mealkit_version": mealkit.__version__,
        "python_requires": ">=3.11",
    }
    count = 0
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".mealkit-init-") as scratch:
            made = Path(scratch) / "recipe"
            for relative, text in files("recipe"):
                path = made / environment.from_string(relative).render(values).removesuffix(".jinja")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(environment.from_string(text).render(values), encoding="utf-8")
                count += 1
            if folder.is_dir():
                folder.rmdir()
            shutil.move(made, folder)
    except OSError as error:
        raise storage_error(error, "cannot make the recipe's folder", folder) from error
    data = next(iter(sorted(path.relative_to(folder).as_posix() for path in folder.glob("data/*"))), "data.csv")
    return Scaffold(name, count, ("mealkit check", f"mealkit train --input {data} --model model/", "mealkit build"))
