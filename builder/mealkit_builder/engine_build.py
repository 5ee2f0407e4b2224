"""The engine ``docker``: an assembled image built from a Dockerfile by the engine, and brought to its target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mealkit.errors import UsageError, storage_error
from mealkit.project import Project

from .base import Base
from .buildkit import build_with_buildkit
from .credentials import find_credentials
from .dockerfile import (
    DockerfilePlan,
    base_in_engine,
    build_context,
    build_with_engine,
    context_files,
    plan_dockerfile,
    push_with_engine,
)
from .engine import connect, engine_address, engine_errors
from .engine_base import engine_image
from .image import MANIFEST, Image
from .push import Moves, PushReport, push_image
from .reference import LayoutLocation

if TYPE_CHECKING:
    from docker import DockerClient

    from .order import Order


def build_in_engine(order: Order, image: Image, base: Base) -> PushReport:
    """Build a Dockerfile that unpacks the image's own layers on the base, and push what the engine made of it.

    The engine makes layers of its own from them, and so another digest, with its own times: two builds differ.

    Raises:
        EngineError: no engine answers, or it fails.
        BuildError: a step of the Dockerfile failed.
        RegistryError: the registry refused.
    """
    location, store, report = order.location, order.store, order.reporter.stage
    client = connect(order.environment)
    try:
        from_name = base_in_engine(client, base, report)
        plan = plan_dockerfile(image, base.image, from_name, order.project.image.apt, tuple(order.request.secrets))
        files = context_files(plan, store.blob_path)
        platform = str(image.platform)
        if order.request.secrets:
            made = _with_secrets(order, client, plan, files, platform)
        else:
            made = build_with_engine(
                plan, files, client, template=_template(order.project), platform=platform, report=report,
                use_cache=order.request.use_cache,
            )  # fmt: skip
        if isinstance(location, LayoutLocation):
            built = engine_image(made, store, order.environment)
            return push_image(built, order.target, lambda digest: store.blob_path(digest).open("rb"), tags=order.tags)
        credentials = find_credentials(location.host, order.environment)
        digest = push_with_engine(client, made, location, order.tags, credentials, report)
    finally:
        client.close()
    return PushReport(
        digest=digest,
        url=order.target.url(digest),
        media_type=MANIFEST,
        tags=order.tags,
        platforms=((image.platform, digest),),
        reused=Moves(),
        mounted=Moves(),
        uploaded=Moves(),
    )


def _with_secrets(
    order: Order, client: DockerClient, plan: DockerfilePlan, files: Mapping[str, Path], platform: str
) -> str:
    """The image's ID, built by BuildKit, which alone can lend a step a secret."""
    address = engine_address(order.environment)
    assert address is not None  # it has just answered
    api: Any = client.api
    name = None
    if plan.base.startswith("sha256:"):  # BuildKit takes an ID for a repository's name
        name = f"mealkit-base:{plan.base.removeprefix('sha256:')[:12]}"
        with engine_errors("the engine cannot name the base", plan.base):
            api.tag(plan.base, *name.split(":"))
        plan = replace(plan, base=name)
    try:
        return build_with_buildkit(
            build_context(plan, files, _template(order.project)),
            order.request.secrets,
            order.environment,
            address,
            title=plan.title,
            platform=platform,
            report=order.reporter.stage,
            use_cache=order.request.use_cache,
        )
    finally:
        if name is not None:
            with engine_errors("the engine cannot forget the base's name", name):
                api.remove_image(name, noprune=True)


def check_engine_settings(project: Project, engine: str, platforms: int, base: str) -> None:
    """Refuse what only one of the engines can do.

    Raises:
        UsageError: packages (but on a base ``deb:``, where they are unpacked) or a Dockerfile with the engine ``oci``,
            or several platforms or a base ``deb:`` with ``docker``.
    """
    unpacked = base.startswith("deb:")
    if engine == "docker" and unpacked:
        raise UsageError(
            "the engine docker cannot start from packages",
            where=base,
            hint="build with the engine oci, or on an image of Debian's from a registry, such as debian:bookworm",
        )
    if engine == "oci" and ((project.image.apt and not unpacked) or project.image.dockerfile):
        key = "dockerfile" if project.image.dockerfile else "apt"
        raise UsageError(
            f"{key} needs the engine docker: mealkit's own engine runs nothing in the image",
            where=f"{project.file}: tool.mealkit.image.{key}",
            hint="build with --engine docker, or use a base that has the packages, or one made of them: deb:bookworm",
        )
    if engine == "docker" and platforms > 1:
        raise UsageError(
            "the engine docker builds for one platform at a time",
            where=f"{project.file}: tool.mealkit.image.platforms",
            hint="name one with --platform, or use the engine oci",
        )


def _template(project: Project) -> str | None:
    if project.image.dockerfile is None:
        return None
    path = project.root / project.image.dockerfile
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(
            "there is no such Dockerfile template", where=str(path), hint="mend [tool.mealkit.image] dockerfile"
        ) from None
    except OSError as error:
        raise storage_error(error, "cannot read the Dockerfile template") from error
