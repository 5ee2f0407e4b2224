"""The engine ``docker``: the same layers on the same base, but built by a Docker engine from a Dockerfile.

For what only an engine can do: packages of the base's distribution, a company's own steps. The image gets the
same files at the same paths, entrypoint, environment, labels and user as from mealkit's own engine, because the
Dockerfile unpacks the very layers that engine would push. Settings of package indexes never come near it: all
wheels are in the layers already.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mealkit.errors import BuildError, EngineError, UsageError, storage_error

from . import entry
from .digest import is_digest
from .engine import engine_errors, registry_error
from .image import Image, Pairs
from .layer import Layer
from .reference import EngineLocation, Reference, parse_location

if TYPE_CHECKING:
    from docker import DockerClient

    from .base import Base
    from .credentials import Credentials

TEMPLATE = "Dockerfile.jinja"
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(?::[a-z0-9]+)?(?:=[A-Za-z0-9.+:~-]+)?\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\Z")
_SIGNAL = re.compile(r"(?:SIG[A-Z0-9+-]+|\d+)\Z")
_BLOCK = 1 << 20
_SAID_LINES = 20


@dataclass(frozen=True)
class ContextLayer:
    """A layer as a file of the build's context."""

    name: str
    layer: Layer


@dataclass(frozen=True)
class DockerfilePlan:
    """All that the Dockerfile says.

    Attributes:
        title: What is built, for a comment.
        base: What ``FROM`` names.
        layers: In the order in which they are unpacked.
        env: Variables that the base does not set so.
        labels: Labels likewise.
        user: ``UID[:GID]``.
        entrypoint: The program and its fixed arguments.
        apt: Packages of the base's distribution, ``NAME`` or ``NAME=VERSION``.
        secrets: IDs of secrets that steps may mount.
        working_dir: Where the program starts.
        stop_signal: What asks it to stop.
    """

    title: str
    base: str
    layers: tuple[ContextLayer, ...]
    env: Pairs
    labels: Pairs
    user: str
    entrypoint: tuple[str, ...]
    apt: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    working_dir: str = "/"
    stop_signal: str = "SIGTERM"


def plan_dockerfile(
    image: Image, base: Image, from_name: str, apt: Sequence[str] = (), secrets: Sequence[str] = ()
) -> DockerfilePlan:
    """The Dockerfile that makes an assembled image; pure.

    Args:
        image: As :func:`.assembly.assemble` made it on ``base``.
        base: What it was made on.
        from_name: The base in the engine's words; see :func:`base_in_engine`.
        apt: Packages to install before the recipe's layers.
        secrets: IDs of the secrets that steps may mount.

    Raises:
        UsageError: a package's or variable's name is none.
    """
    for package in apt:
        if not _PACKAGE.match(package):
            raise UsageError(f"{package!r} is not a package's name", where="apt", hint="write NAME or NAME=VERSION")
    above = image.layers[len(base.layers) :]
    layers = tuple(
        ContextLayer(f"layers/{number:02}-{_slug(layer.title or layer.kind)}.tar.gz", layer)
        for number, layer in enumerate(above, 1)
    )
    env = tuple((name, value) for name, value in image.config.env if base.config.environment.get(name) != value)
    for name, _ in env:
        if not _VARIABLE.match(name):
            raise UsageError(f"{name!r} is not a variable's name", where="[tool.mealkit.image.env]", hint="rename it")
    signal = image.config.stop_signal or "SIGTERM"
    if not _SIGNAL.match(signal):
        raise UsageError(f"{signal!r} is not a signal", hint="write it as SIGTERM")
    known = base.config.label_map
    return DockerfilePlan(
        title=" ".join(image.config.label_map.get(f"org.opencontainers.image.{name}", "") for name in
                       ("title", "version")).strip() or "recipe",
        base=from_name,
        layers=layers,
        env=env,
        labels=tuple((name, value) for name, value in image.config.labels if known.get(name) != value),
        user=image.config.user or "0:0",
        entrypoint=image.config.entrypoint,
        apt=tuple(apt),
        secrets=tuple(sorted(secrets)),
        working_dir=image.config.working_dir or "/",
        stop_signal=signal,
    )  # fmt: skip


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-")


def render_dockerfile(plan: DockerfilePlan, template: str | None = None) -> str:
    """The Dockerfile's text.

    Args:
        plan: What it says.
        template: Another jinja2 template's text; it may extend ``Dockerfile.jinja``.

    Raises:
        BuildError: the template is wrong.
        UsageError: a value cannot be written in a Dockerfile.
    """
    import jinja2

    own = jinja2.PackageLoader("mealkit_templates", "dockerfile")
    loader = jinja2.ChoiceLoader([jinja2.DictLoader({} if template is None else {"own": template}), own])
    # It is no HTML: the filter `quoted` escapes, by a Dockerfile's rules.
    environment = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701
    environment.filters["quoted"] = quoted
    try:
        text = environment.get_template(TEMPLATE if template is None else "own").render(
            title=" ".join(plan.title.split()), base=plan.base, layers=plan.layers, env=plan.env, labels=plan.labels,
            user=plan.user, entrypoint=json.dumps(plan.entrypoint), apt=plan.apt, secrets=plan.secrets,
            working_dir=plan.working_dir, stop_signal=plan.stop_signal,
        )  # fmt: skip
    except jinja2.TemplateError as error:
        raise BuildError(
            f"the Dockerfile's template is wrong: {error}",
            where=getattr(error, "name", None) or "own template",
            hint=f"extend {TEMPLATE}, and change its blocks stages, system, recipe and last",
        ) from error
    return text.rstrip() + "\n"


def quoted(value: str) -> str:
    """A value in double quotes, in which a Dockerfile's builder expands nothing.

    Raises:
        UsageError: it has a line break, which a Dockerfile cannot hold.
    """
    if "\n" in value or "\r" in value or "\0" in value:
        raise UsageError(
            "a label or variable has a line break, which a Dockerfile cannot hold",
            where=value[:60],
            hint="put it on one line, or use the engine oci",
        )
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$") + '"'


def context_files(plan: DockerfilePlan, blob_path: Callable[[str], Path]) -> dict[str, Path]:
    """The files of the build's context by name: where the layers' bytes are."""
    return {layer.name: blob_path(layer.layer.digest) for layer in plan.layers}


def base_in_engine(client: DockerClient, base: Base, report: Callable[[str], None]) -> str:
    """What ``FROM`` can name: a registry's base by digest, the engine's own by ID, any other loaded into it.

    Raises:
        EngineError: the engine fails.
    """
    if base.repository is not None:
        return str(base.repository.at(base.digest))
    location = parse_location(base.name)
    if isinstance(location, EngineLocation):
        api: Any = client.api
        with engine_errors("cannot ask the engine for the base", base.name):
            return str(api.inspect_image(location.image)["Id"])
    from .engine_load import load_image

    return load_image(client, base.image, base.open_layer, report)


def build_with_engine(
    plan: DockerfilePlan,
    context_files: Mapping[str, Path],
    client: DockerClient,
    *,
    template: str | None = None,
    platform: str | None = None,
    report: Callable[[str], None] = lambda line: None,
    use_cache: bool = True,
) -> str:
    """Build with the engine; returns the image's ID.

    Args:
        plan: What to build.
        context_files: The context: name to file.
        client: The engine.
        template: See :func:`render_dockerfile`.
        platform: Such as ``linux/arm64``; the engine needs emulation for another than its own.
        report: Told the engine's lines.
        use_cache: Whether steps that the engine ran before are taken from its cache.

    Raises:
        BuildError: a step failed; the hint has its last lines.
        EngineError: the engine fails.
        StorageError: a file of the context cannot be read.
    """
    context = _context(render_dockerfile(plan, template), context_files)
    said: list[str] = []
    image = ""
    api: Any = client.api  # types-docker leaves many of its methods untyped
    with engine_errors("the engine cannot build the image", plan.base, registry=True):
        for line in api.build(fileobj=context, custom_context=True, rm=True, forcerm=True, decode=True,
                              platform=platform, nocache=not use_cache):  # fmt: skip
            text = str(line.get("stream", "")).rstrip()
            if text:
                said = [*said, text][-_SAID_LINES:]
                report(text)
            if line.get("error"):
                raise BuildError(
                    f"a step of the Dockerfile failed: {line['error']}",
                    where=plan.title,
                    hint="it said:\n" + "\n".join(said),
                )
            image = str((line.get("aux") or {}).get("ID") or image)
    if not image:
        raise EngineError("the engine built, but names no image", where=plan.title, hint="see the engine's log")
    return image


def build_context(plan: DockerfilePlan, files: Mapping[str, Path], template: str | None = None) -> Iterator[bytes]:
    """The context as a tar in pieces: the Dockerfile and ``files``.

    Raises:
        BuildError: the template is wrong.
        StorageError: a file cannot be read.
    """
    return _context(render_dockerfile(plan, template), files)


def _context(dockerfile: str, files: Mapping[str, Path]) -> Iterator[bytes]:
    """The context as a tar, the same bytes for the same files, in pieces: nothing is copied to a disk first."""
    data = dockerfile.encode()
    yield entry.file_header("Dockerfile", len(data)) + data + entry.padding(len(data))
    for name, path in sorted(files.items()):
        try:
            with path.open("rb") as file:
                size = path.stat().st_size
                yield entry.file_header(name, size)
                while block := file.read(_BLOCK):
                    yield block
        except OSError as error:
            raise storage_error(error, "cannot read a layer") from error
        yield entry.padding(size)
    yield entry.END_OF_ARCHIVE


def push_with_engine(
    client: DockerClient,
    image_id: str,
    target: Reference,
    tags: Sequence[str],
    credentials: Credentials | None,
    report: Callable[[str], None] = lambda line: None,
) -> str:
    """Push an image of the engine under tags; returns the digest of its manifest.

    Args:
        client: The engine.
        image_id: What :func:`build_with_engine` returned.
        target: The repository.
        tags: At least one.
        credentials: For the registry; None: what the docker SDK finds itself.
        report: Told of each tag.

    Raises:
        AuthenticationError: the registry asks for other credentials.
        UnreachableError: the engine does not reach the registry.
        EngineError: the engine fails.
    """
    digest = ""
    api: Any = client.api
    doing = "the engine cannot push the image"
    with engine_errors(doing, target.name, registry=True):
        for tag in tags:
            report(f"pushing {target.name}:{tag}")
            api.tag(image_id, target.name, tag, force=True)
            for line in api.push(target.name, tag=tag, stream=True, decode=True, auth_config=_auth(credentials)):
                if line.get("error"):
                    raise registry_error(doing, str(line["error"]), target.name)
                digest = str((line.get("aux") or {}).get("Digest") or digest)
    if not is_digest(digest):
        raise EngineError("the engine pushed, but names no digest", where=target.name, hint="see the engine's log")
    return digest


def _auth(credentials: Credentials | None) -> dict[str, str] | None:
    if credentials is None:
        return None
    if credentials.registry_token:
        return {"registrytoken": credentials.registry_token}
    if credentials.identity_token:
        return {"identitytoken": credentials.identity_token}
    return {"username": credentials.username, "password": credentials.password}
