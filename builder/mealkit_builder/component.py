"""The components that a project names, looked for in its sources without importing any: a builder has no libraries."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from mealkit.errors import ProjectError
from mealkit.project import Project


def check_components(project: Project, files: Mapping[str, bytes]) -> None:
    """Refuse references to modules and classes that the recipe's packages do not have.

    Args:
        project: Names them.
        files: The recipe's files, by path below ``site-packages``.

    Raises:
        ProjectError: a module or class is not there, or a module is no Python.
    """
    named = {**project.components, **{f"inputs.{name}": reference for name, reference in project.inputs.items()}}
    trees: dict[str, ast.Module] = {}
    for role, reference in named.items():
        module, _, name = reference.partition(":")
        if module.partition(".")[0] not in project.packages:
            continue  # a library's; whether it has it, `mealkit check` tells where it is installed
        where = f"{project.file}: tool.mealkit.{role}"
        path = _module_file(module, files)
        if path is None:
            known = [_module_name(file) for file in files if file.endswith(".py")]
            near = difflib.get_close_matches(module, known, n=1)
            hint = f"did you mean {near[0]}:{name}?" if near else "add the file; is it left out by .gitignore?"
            raise ProjectError(f"there is no module {module!r} among the files to pack", where=where, hint=hint)
        try:
            tree = trees[path] = trees.get(path) or ast.parse(files[path], path)
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None) or 1
            raise ProjectError(
                f"module {module!r} is no Python: {getattr(error, 'msg', error)}",
                where=f"{project.source / path}:{line}",
                hint="mend it, then build again",
            ) from None
        defined = set(_defined(tree.body))
        if not defined & {name, "*", "__getattr__"}:
            near = difflib.get_close_matches(name, defined, n=1)
            hint = f"did you mean {module}:{near[0]}?" if near else f"write it in {project.source / path}"
            raise ProjectError(f"module {module!r} has no class {name!r}", where=where, hint=hint)


def check_names(project: Project, distributions: Iterable[str]) -> None:
    """Refuse a recipe, or a package of it, with the name of a distribution that it comes to stand beside.

    Its files would hide the other's in the image, and nobody would be told.

    Raises:
        ProjectError: a name is taken.
    """
    taken = {_normalised(name) for name in distributions}
    named = {package: str(project.source / package) for package in project.packages}
    for name, where in {**named, project.name: f"{project.file}: project.name"}.items():
        if _normalised(name) in taken:
            raise ProjectError(
                f"the recipe requires a distribution with its own name: {name!r}",
                where=where,
                hint="rename the recipe, or its package",
            )


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _module_file(module: str, files: Mapping[str, bytes]) -> str | None:
    path = module.replace(".", "/")
    return next((name for name in (f"{path}/__init__.py", f"{path}.py") if name in files), None)


def _module_name(file: str) -> str:
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _defined(body: Sequence[ast.stmt]) -> Iterator[str]:
    """The names that statements of a module may bind; ``*`` for those that cannot be known."""
    for statement in body:
        match statement:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                yield name
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                yield from (alias.asname or alias.name.partition(".")[0] for alias in aliases)
            case ast.Assign(targets=targets):
                yield from (node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name), value=value) if value is not None:
                yield name
            case ast.If() | ast.Try() | ast.With() | ast.For() | ast.While():
                for field in ("body", "orelse", "finalbody"):
                    yield from _defined(getattr(statement, field, []))
                for handler in getattr(statement, "handlers", []):
                    yield from _defined(handler.body)
