"""The requirements of a recipe as the resolver is given them: its own, its chosen extras, and where uv's sources point.

``[tool.uv.sources]`` says of a requirement that it stands in a folder, a git repository, a file or a named index. uv
reads that table in a ``pyproject.toml`` only, so a recipe that has one is resolved from a small ``pyproject.toml`` made
of its requirements and sources, with nothing of mealkit in it and every path made absolute.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mealkit.errors import LockError, ProjectError
from mealkit.project import Project

from .own import is_own

_USERINFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)([^/@\s\"':]*)(:[^/@\s\"']*)?@")
_TELLING = (  # compiled by re when a lock is made, which is seldom
    r"(?i)[a-z+]+://[^\s\"']*"
    r"[?&]([\w.-]*(?:token|signature|\bsig|secret|password|credential|auth|api_?key)[\w.-]*)=[^&\s\"']"
)


def requirements(project: Project) -> tuple[str, ...]:
    """The recipe's own, without mealkit: that is packed from the builder's environment, and is on no index."""
    return tuple(text for text in project.dependencies if not is_own(text))


def without_credentials(text: str) -> str:
    """``text`` without users and passwords in addresses; a user of ssh is a name, no secret, and stays."""

    def bare(match: re.Match[str]) -> str:
        scheme, user = match[1], match[2]
        return f"{scheme}{user}@" if scheme.lower().endswith("ssh://") and user else scheme

    return _USERINFO.sub(bare, text)


def check_no_secret(text: str, project: Project) -> None:
    """Refuse a lock in which an address carries a secret that cannot be taken out of it.

    Raises:
        LockError: an address has a query like ``?token=…``.
    """
    found = re.search(_TELLING, text)
    if found:
        raise LockError(
            f"a requirement's address holds a secret ({found[1]}=…), which the lock file would tell to everyone",
            where=f"{project.file}: project.dependencies",
            hint="name the file without it, and put user and password into ~/.netrc",
        )


def write_input(project: Project, folder: Path) -> str:
    """Write what uv shall resolve into a folder; the file's name.

    Raises:
        ProjectError: a source names a workspace that has no such member.
    """
    texts = requirements(project)
    sources = absolute_sources(project)
    if not sources:
        name = f"{project.name}.in"
        (folder / name).write_text("\n".join(texts) + "\n", encoding="utf-8")
        return name
    lines = ["[project]", f"name = {_toml(project.name)}", 'version = "0"', f"dependencies = {_toml(list(texts))}"]
    lines += [f"requires-python = {_toml(project.requires_python)}", "[tool.uv]"]
    lines += [f"{key} = {_toml(value)}" for key, value in {"sources": sources, **_indexes(project)}.items()]
    (folder / "pyproject.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return "pyproject.toml"


def _indexes(project: Project) -> dict[str, Any]:
    """The named indexes that sources may refer to."""
    return {"index": project.uv["index"]} if "index" in project.uv else {}


def absolute_sources(project: Project) -> dict[str, Any]:
    """``[tool.uv.sources]`` without ours, paths made absolute, workspace members told by their folder."""
    result: dict[str, Any] = {}
    for name, value in project.uv.get("sources", {}).items():
        if not is_own(name):
            several = value if isinstance(value, list) else [value]
            made = [_absolute(project, name, one) if isinstance(one, Mapping) else one for one in several]
            result[name] = made if isinstance(value, list) else made[0]
    return result


def _absolute(project: Project, name: str, source: Mapping[str, Any]) -> dict[str, Any]:
    if source.get("workspace") is True:
        rest = {key: value for key, value in source.items() if key != "workspace"}
        return {**rest, "path": str(_member(project, name)), "editable": True}
    if isinstance(source.get("path"), str):
        return {**source, "path": os.path.normpath(project.root / source["path"])}
    return dict(source)


def _member(project: Project, name: str) -> Path:
    """The folder of a member of the uv workspace that the recipe stands in."""
    for root in (project.root, *project.root.parents):
        workspace = _document(root).get("tool", {}).get("uv", {}).get("workspace")
        if not isinstance(workspace, dict):
            continue
        for pattern in workspace.get("members", []):
            for folder in sorted(root.glob(pattern)):
                if _canonical(str(_document(folder).get("project", {}).get("name", ""))) == _canonical(name):
                    return folder
        break
    raise ProjectError(
        f"no workspace above the recipe has a member {name!r}",
        where=f"{project.file}: tool.uv.sources.{name}",
        hint=f'name its folder: {name} = {{ path = "../{name}", editable = true }}',
    )


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _document(folder: Path) -> dict[str, Any]:
    """The ``pyproject.toml`` in a folder; empty where there is none that can be read."""
    try:
        return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _folders(sources: Mapping[str, Any]) -> Iterator[Path]:
    for value in sources.values():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, Mapping) and isinstance(one.get("path"), str) and Path(one["path"]).is_dir():
                yield Path(one["path"])


def source_folders(project: Project) -> tuple[Path, ...]:
    """The folders that the recipe's requirements stand in."""
    if "sources" not in project.uv:
        return ()
    return tuple(dict.fromkeys(_folders(absolute_sources(project))))


def source_inputs(project: Project) -> list[Any]:
    """What a resolution depends on besides the requirements' texts; empty for a recipe without sources.

    Of a folder that is its metadata: what it requires, not what its modules say.
    """
    sources = project.uv.get("sources")
    if not sources:
        return []
    texts: list[Any] = [json.loads(without_credentials(json.dumps([sources, _indexes(project)], sort_keys=True)))]
    waiting, seen = list(_folders(absolute_sources(project))), set[Path]()
    while waiting:
        folder = waiting.pop(0)
        if folder in seen:
            continue
        seen.add(folder)
        texts.append(_metadata(folder))
        further = _document(folder).get("tool", {}).get("uv", {}).get("sources", {})
        for value in further.values() if isinstance(further, dict) else ():
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, dict) and isinstance(one.get("path"), str):
                    waiting.append(Path(os.path.normpath(folder / one["path"])))
    return texts


def _metadata(folder: Path) -> object:
    """What a folder requires, to run and to be built, or a hash of the files that may say so."""
    document = _document(folder)
    project = document.get("project")
    if isinstance(project, dict) and not set(project.get("dynamic", ())) - {"version"}:
        return json.loads(json.dumps([project, document.get("build-system")], sort_keys=True, default=str))
    state = hashlib.sha256()
    for name in ("pyproject.toml", "setup.cfg", "setup.py"):
        file = folder / name
        state.update(file.read_bytes() if file.is_file() else b"\0")
    return state.hexdigest()


def relative_paths(text: str, project: Project) -> str:
    """A lock's text with the paths of sources written as the recipe writes them, relative to the lock."""
    for name, value in absolute_sources(project).items():
        given = project.uv["sources"][name]
        pairs = zip(
            value if isinstance(value, list) else [value], given if isinstance(given, list) else [given], strict=True
        )
        for one, as_given in pairs:
            path = one.get("path") if isinstance(one, Mapping) else None
            if path and not Path(str(as_given.get("path", "."))).is_absolute():
                text = text.replace(f"path = {_toml(path)}", f"path = {_toml(os.path.relpath(path, project.root))}")
    return text


def _toml(value: object) -> str:
    """A value as TOML writes it, on one line."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_toml(str(key))} = {_toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (str, int, float)) else json.dumps(str(value))
