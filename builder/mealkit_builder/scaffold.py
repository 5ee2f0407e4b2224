"""The scaffold: a new recipe rendered from a template into a folder."""

from __future__ import annotations

import keyword
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import mealkit
from mealkit.errors import UsageError, storage_error

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\Z")
_TAKEN = sys.stdlib_module_names | {"mealkit", "mealkit_runtime", "numpy", "pandas", "sklearn", "tests", "data"}
"""Names that the recipe's package would hide from the recipe, or that its folder has already."""


@dataclass(frozen=True)
class Scaffold:
    """What was made."""

    name: str
    files: int
    next_steps: tuple[str, ...]


def make_recipe(folder: Path, name: str, kind: str) -> Scaffold:
    """Render the recipe template into ``folder``, which must be missing or empty; nothing appears before all is made.

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
    if package in _TAKEN:
        raise UsageError(
            f"a recipe called {name!r} would hide the module {package!r}, which it needs itself",
            where="--name",
            hint=f"choose another name: {name}-recipe",
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
            if folder.is_dir():  # into it, not in its place: it may be the folder that the user's shell is in
                for path in made.iterdir():
                    shutil.move(path, folder)
            else:
                shutil.move(made, folder)
    except OSError as error:
        raise storage_error(error, "cannot make the recipe's folder", folder) from error
    data = next(iter(sorted(path.relative_to(folder).as_posix() for path in folder.glob("data/*"))), "data.csv")
    return Scaffold(name, count, ("mealkit check", f"mealkit train --input {data} --model model/", "mealkit build"))
