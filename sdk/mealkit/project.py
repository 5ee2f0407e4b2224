"""The project: what a recipe's ``pyproject.toml`` says, read without importing any of its code."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mealkit._value import dataclass, field

from .errors import ProjectError

KINDS = ("classification", "regression", "clustering", "ranking", "custom")
ROLES = ("hyperparameters", "input", "output", "loader", "trainer", "evaluator", "scorer", "saver")
_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*\Z")
_ITSELF = re.compile(r"\s*([A-Za-z0-9._-]+)\s*\[([^\]]*)\]\s*")
_RECIPE_KEYS = (
    *(*ROLES, "kind", "target", "time", "keys", "inputs", "metrics", "objective", "resources", "image", "packages"),
)
_IMAGE_KEYS = (
    *("base", "repository", "cache", "platforms", "python", "user", "env", "apt", "dockerfile"),
    *("extras", "leave-out", "wheels", "attest"),
)


@dataclass(frozen=True)
class ImageSettings:
    """``[tool.mealkit.image]``.

    Attributes:
        base: A registry reference, ``oci:DIR[:TAG]``, ``docker:NAME``, ``deb:SUITE`` or ``host``.
        repository: Where the image is pushed: ``host/repo``, or ``oci:DIR``; None: must be given to the build.
        cache: The repository of cache tags, for several recipes on one registry; ``off`` for no tags; None: each
            image's own.
        platforms: Such as ``linux/amd64``; empty: this machine's.
        python: The interpreter's path in the base, where it cannot be found out.
        user: Who runs it, ``UID[:GID]`` or ``root``.
        env: Further environment variables of the image.
        apt: Packages of the base's distribution; need the engine ``docker``, or a base ``deb:SUITE``.
        dockerfile: A jinja2 template that extends mealkit's own; needs the engine ``docker``.
        extras: Which of the recipe's optional dependencies the image gets.
        leave_out: By distribution, files that the image gets from another one: globs of paths below ``site-packages``,
            or below the environment, such as ``bin/NAME``.
        wheels: The folder that wheels built from sources are kept in, to be committed; None: only the cache.
        attest: Whether every build attaches an SBOM and provenance to the image.
    """

    base: str = "host"
    repository: str | None = None
    cache: str | None = None
    platforms: tuple[str, ...] = ()
    python: str | None = None
    user: str = "65532:65532"
    env: Mapping[str, str] = field(default_factory=dict)
    apt: tuple[str, ...] = ()
    dockerfile: str | None = None
    extras: tuple[str, ...] = ()
    leave_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    wheels: str | None = None
    attest: bool = False


@dataclass(frozen=True)
class Project:
    """A recipe's project folder.

    Attributes:
        root: The folder of ``pyproject.toml``.
        name: The distribution's name.
        version: Its version.
        summary: One line about it.
        requires_python: Version specifier.
        dependencies: Requirements, as written (PEP 508), those of the image's extras included.
        kind: One of :data:`KINDS`.
        target: The name of what is predicted.
        keys: Columns carried from input to output.
        components: References by role.
        inputs: References to row schemas of further datasets, by name.
        metrics: Directions of metrics of the recipe's own evaluator.
        objective: The metric that trials are compared by; None: that of the kind.
        resources: What a run wants.
        packages: The import packages (or single modules) that make up the recipe.
        source: The folder that the packages stand in: ``root`` or ``root/src``.
        image: The settings of the image.
        uv: What of ``[tool.uv]`` says where requirements come from: ``sources`` and ``index``.
        time: The column that time windows (``--since``, ``--until``) are of.
    """

    root: Path
    name: str
    version: str
    summary: str
    requires_python: str
    dependencies: tuple[str, ...]
    kind: str
    target: str | None
    keys: tuple[str, ...]
    components: Mapping[str, str]
    inputs: Mapping[str, str]
    metrics: Mapping[str, str]
    resources: Mapping[str, Any]
    packages: tuple[str, ...]
    source: Path
    image: ImageSettings
    uv: Mapping[str, Any] = field(default_factory=dict)
    time: str | None = None
    objective: str | None = None

    @property
    def file(self) -> Path:
        """The path of ``pyproject.toml``."""
        return self.root / "pyproject.toml"


def read_project(root: Path) -> Project:
    """Read the recipe in this folder.

    Raises:
        ProjectError: there is no ``pyproject.toml``, it is not a recipe's, or a setting is wrong.
    """
    root = root.absolute()
    file = root / "pyproject.toml"
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ProjectError(
            "there is no recipe here: no pyproject.toml",
            where=str(root),
            hint="go to the recipe's folder, name it with --project, or make one with `mealkit init`",
        ) from None
    except (OSError, ValueError) as error:
        raise ProjectError(
            f"cannot read pyproject.toml: {error}", where=str(file), hint="mend it, then try again"
        ) from None
    project, tools = document.get("project", {}), document.get("tool", {})
    recipe = tools.get("mealkit") if isinstance(tools, dict) else None
    if not isinstance(recipe, dict):
        raise ProjectError(
            "pyproject.toml has no [tool.mealkit] table",
            where=str(file),
            hint="see `mealkit init --help` for a recipe to start from",
        )
    uv = tools.get("uv", {})
    return _Reader(file, project, recipe, uv if isinstance(uv, dict) else {}).project()


class _Reader:
    """Checks one document; every error names the file and the key."""

    def __init__(
        self, file: Path, project: Mapping[str, Any], recipe: Mapping[str, Any], uv: Mapping[str, Any]
    ) -> None:
        self.file = file
        self.metadata = project
        self.recipe = recipe
        self.uv = uv

    def project(self) -> Project:
        self._table("project", self.metadata)
        self._known("tool.mealkit", self.recipe, _RECIPE_KEYS)
        components = {role: self._reference(role) for role in ROLES if role in self.recipe}
        if "trainer" not in components:
            raise self._error(
                "tool.mealkit.trainer", "a recipe needs a trainer", 'set trainer = "package.module:Class"'
            )
        inputs = self._table("tool.mealkit.inputs", self.recipe.get("inputs", {}))
        for name, reference in inputs.items():
            self._check_reference(f"tool.mealkit.inputs.{name}", reference)
        kind = self.recipe.get("kind", "custom")
        if kind not in KINDS:
            raise self._error("tool.mealkit.kind", f"unknown kind {kind!r}", f"use one of {', '.join(KINDS)}")
        source, packages = self._packages([*components.values(), *inputs.values()])
        name = self._text("name", self.metadata, "project")
        image = self._image(self.recipe.get("image", {}))
        return Project(
            root=self.file.parent,
            name=name,
            version=self._text("version", self.metadata, "project"),
            summary=self._optional("description", self.metadata, "project") or "",
            requires_python=self._optional("requires-python", self.metadata, "project") or ">=3.11",
            dependencies=(
                *self._texts("dependencies", self.metadata, "project"),
                *self._of_extras(name, list(image.extras)),
            ),
            kind=kind,
            target=self._optional("target", self.recipe, "tool.mealkit"),
            time=self._optional("time", self.recipe, "tool.mealkit"),
            keys=self._texts("keys", self.recipe, "tool.mealkit"),
            components=components,
            inputs=dict(inputs),
            metrics=self._metrics(),
            objective=self._optional("objective", self.recipe, "tool.mealkit"),
            resources=dict(self._table("tool.mealkit.resources", self.recipe.get("resources", {}))),
            packages=packages,
            source=source,
            image=image,
            uv={key: self.uv[key] for key in ("sources", "index") if self.uv.get(key)},
        )

    def _of_extras(self, name: str, waiting: list[str]) -> tuple[str, ...]:
        """The requirements of the recipe's extras; one may name others, as ``recipe[other]``."""
        table = self._table("project.optional-dependencies", self.metadata.get("optional-dependencies", {}))
        known = {_canonical(extra): extra for extra in table}
        found: dict[str, None] = {}
        seen: set[str] = set()
        while waiting:
            extra = waiting.pop(0)
            if _canonical(extra) in seen:
                continue
            seen.add(_canonical(extra))
            if _canonical(extra) not in known:
                hint = f"known: {', '.join(table)}" if table else f"write {extra} under [project.optional-dependencies]"
                raise self._error("tool.mealkit.image.extras", f"the recipe has no extra {extra!r}", hint)
            for text in self._texts(known[_canonical(extra)], table, "project.optional-dependencies"):
                match = _ITSELF.fullmatch(text)
                if match and _canonical(match[1]) == _canonical(name):
                    waiting += [one.strip() for one in match[2].split(",")]
                else:
                    found[text] = None
        return tuple(found)

    def _image(self, image: Mapping[str, Any]) -> ImageSettings:
        self._known("tool.mealkit.image", image, _IMAGE_KEYS)
        user = str(image.get("user", ImageSettings.user))
        if user != "root" and not re.fullmatch(r"\d+(:\d+)?", user):
            raise self._error(
                "tool.mealkit.image.user", f"not a numeric user: {user!r}", 'use "UID", "UID:GID" or "root"'
            )
        attest = image.get("attest", False)
        if not isinstance(attest, bool):
            raise self._error("tool.mealkit.image.attest", "attest must be true or false", "write attest = true")
        return ImageSettings(
            attest=attest,
            base=self._optional("base", image, "tool.mealkit.image") or ImageSettings.base,
            repository=self._optional("repository", image, "tool.mealkit.image"),
            cache=self._optional("cache", image, "tool.mealkit.image"),
            platforms=self._texts("platforms", image, "tool.mealkit.image"),
            python=self._optional("python", image, "tool.mealkit.image"),
            user=user,
            env={
                str(key): str(value)
                for key, value in self._table("tool.mealkit.image.env", image.get("env", {})).items()
            },
            apt=self._texts("apt", image, "tool.mealkit.image"),
            dockerfile=self._optional("dockerfile", image, "tool.mealkit.image"),
            extras=self._texts("extras", image, "tool.mealkit.image"),
            leave_out=self._leave_out(image.get("leave-out", {})),
            wheels=self._optional("wheels", image, "tool.mealkit.image"),
        )

    def _leave_out(self, table: object) -> dict[str, tuple[str, ...]]:
        where = "tool.mealkit.image.leave-out"
        named = self._table(where, table)
        return {_canonical(name): tuple(sorted(set(self._texts(name, named, where)))) for name in sorted(named)}

    def _packages(self, references: list[str]) -> tuple[Path, tuple[str, ...]]:
        root = self.file.parent
        named = self._texts("packages", self.recipe, "tool.mealkit")
        for top in named:
            if not top.isidentifier():
                hint = "name top-level packages or modules, such as my_recipe"
                raise self._error("tool.mealkit.packages", f"not a package's name: {top!r}", hint)
        tops = named or tuple(sorted({reference.partition(":")[0].partition(".")[0] for reference in references}))
        for source in (root / "src", root):
            if all((source / top).is_dir() or (source / f"{top}.py").is_file() for top in tops):
                return source, tops
        missing = next(
            top
            for top in tops
            if not any((s / top).is_dir() or (s / f"{top}.py").is_file() for s in (root / "src", root))
        )
        raise self._error(
            "tool.mealkit",
            f"the recipe has no package or module {missing!r}",
            f"make the folder {missing}/ with an __init__.py beside pyproject.toml (or in src/), or mend the reference",
        )

    def _metrics(self) -> dict[str, str]:
        metrics = self._table("tool.mealkit.metrics", self.recipe.get("metrics", {}))
        for name, direction in metrics.items():
            if direction not in ("maximize", "minimize"):
                raise self._error(
                    f"tool.mealkit.metrics.{name}", f"unknown direction {direction!r}", "use maximize or minimize"
                )
        return dict(metrics)

    def _reference(self, role: str) -> str:
        return self._check_reference(f"tool.mealkit.{role}", self.recipe[role])

    def _check_reference(self, key: str, value: object) -> str:
        if not isinstance(value, str) or not _REFERENCE.match(value):
            raise self._error(key, f"not a reference: {value!r}", 'write it as "package.module:Class"')
        return value

    def _known(self, table: str, values: object, known: tuple[str, ...]) -> None:
        for key in self._table(table, values):
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
                raise self._error(f"{table}.{key}", f"unknown key {key!r}", hint)

    def _table(self, name: str, value: object) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            raise self._error(name, "must be a table", f"write it as [{name}]")
        return value

    def _optional(self, key: str, values: Mapping[str, Any], table: str) -> str | None:
        value = values.get(key)
        if value is not None and not isinstance(value, str):
            raise self._error(f"{table}.{key}", f"{key} must be a string", f'write {key} = "…" under [{table}]')
        return value

    def _text(self, key: str, values: Mapping[str, Any], table: str) -> str:
        value = values.get(key)
        if not isinstance(value, str) or not value:
            raise self._error(f"{table}.{key}", f"{key} is missing", f'write {key} = "…" under [{table}]')
        return value

    def _texts(self, key: str, values: Mapping[str, Any], table: str) -> tuple[str, ...]:
        value = values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._error(f"{table}.{key}", f"{key} must be a list of strings", f'write {key} = ["…"]')
        return tuple(value)

    def _error(self, key: str, message: str, hint: str) -> ProjectError:
        return ProjectError(message, where=f"{self.file}: {key}", hint=hint)


def _canonical(name: str) -> str:
    """A distribution's or an extra's name in the one spelling of PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()
