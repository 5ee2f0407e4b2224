"""The templates that mealkit renders with jinja2: recipes, a Dockerfile, pipelines. Data, and what finds it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files as _files
from importlib.resources.abc import Traversable

__all__ = ["files", "names"]


def names() -> tuple[str, ...]:
    """The templates that there are."""
    return tuple(sorted(folder.name for folder in _files(__name__).iterdir() if _is_template(folder)))


def files(template: str) -> Iterator[tuple[str, str]]:
    """``(path, text)`` of a template's files, in order of their paths.

    Both are jinja2 templates. Paths are relative, with ``/``, may hold ``{{package}}``, and end in ``.jinja``.

    Raises:
        LookupError: there is no template of this name.
    """
    folder = _files(__name__) / template
    if template not in names():
        raise LookupError(f"no template {template!r}; there are {', '.join(names())}")
    yield from sorted(_walk(folder, ""))


def _is_template(folder: Traversable) -> bool:
    return folder.is_dir() and not folder.name.startswith(("_", "."))


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, str]]:
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name != "__pycache__":
            yield from _walk(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".jinja"):
            yield prefix + entry.name, entry.read_text(encoding="utf-8")
