"""Images into the local engine: pulled from a registry, or brought from a layout folder or a store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from mealkit.errors import EngineError, NotFoundError, RegistryError, UnreachableError

from . import entry
from .digest import digest_bytes
from .engine import engine_errors, registry_error
from .image import Image, config_bytes, manifest_bytes
from .layer import Layer
from .layout import Layout
from .loopback import offer_image
from .platform import Platform, host_platform
from .pull import pull_image
from .reference import EngineLocation, HostLocation, LayoutLocation, Location, Reference

if TYPE_CHECKING:
    from docker import DockerClient

Report = Callable[[str], None]
_BLOCK = 1 << 20


def ensure_image(client: DockerClient, location: Location, report: Report) -> str:
    """What the engine knows the image by, once it has it: pulled or loaded if it is not there.

    Args:
        client: The engine.
        location: A registry's image (by digest, if it shall be the same one tomorrow), a layout's, or the engine's.
        report: Told what is done, in lines for a person.

    Raises:
        NotFoundError: there is no such image.
        EngineError: the engine fails or refuses.
    """
    if isinstance(location, EngineLocation):
        if not has_image(client, location.image):
            raise NotFoundError("the engine has no such image", where=str(location), hint="docker images lists them")
        return location.image
    if isinstance(location, Reference):
        name = str(location if location.digest else Reference(location.host, location.repository, location.target))
        if not (location.digest and has_image(client, name)):
            _pull(client, location, name, report)
        return name
    if isinstance(location, LayoutLocation):
        layout = Layout(location.folder)
        pulled = pull_image(layout, location.target, host_platform())
        if pulled is None:
            raise NotFoundError(
                "the layout folder has no such image", where=str(location), hint="check the tag or digest"
            )
        # The layout's own config, to its last byte: its digest is the image's name in the engine.
        config = layout.get_blob(pulled.config_digest)
        found = layout.get_manifest(pulled.manifest_digest)
        manifest = None if found is None else found[0]
        return load_image(client, pulled.image, layout.open_blob, report, config=config, manifest=manifest)
    assert isinstance(location, HostLocation)
    raise NotFoundError("'host' is a base, not an image to run", where="host", hint="build a recipe on it first")


def has_image(client: DockerClient, name: str) -> bool:
    """Whether the engine has an image of this name or ID."""
    from docker.errors import ImageNotFound

    with engine_errors("cannot ask the engine for an image", name):
        api: Any = client.api  # types-docker leaves many of its methods untyped
        try:
            api.inspect_image(name)
        except ImageNotFound:
            return False
    return True


def _pull(client: DockerClient, location: Reference, name: str, report: Report) -> None:
    report(f"pulling {name}")
    doing = "the engine cannot pull the image"
    with engine_errors(doing, name, registry=True):
        lines: Iterator[dict[str, Any]] = client.api.pull(
            location.name, tag=location.target, stream=True, decode=True, platform=_engine_platform(client)
        )
        for line in lines:
            if line.get("error"):
                raise registry_error(doing, str(line["error"]), name)
            if str(line.get("status", "")).startswith(("Status:", "Digest:")):
                report(str(line["status"]))


def _engine_platform(client: DockerClient) -> str:
    version: dict[str, str] = client.api.version()
    return str(Platform(version.get("Os", "linux"), version.get("Arch", host_platform().architecture)))


def load_image(
    client: DockerClient,
    image: Image,
    open_layer: Callable[[str], BinaryIO],
    report: Report,
    *,
    config: bytes | None = None,
    manifest: bytes | None = None,
) -> str:
    """The engine's ID of an image, brought to it unless it has it; layers that it has do not move.

    The engine pulls from a registry on this machine's loopback, and so asks only for layers that it lacks. One that
    does not reach the loopback, because it runs on another machine or in a network of its own, is sent the whole.

    Args:
        client: The engine.
        image: What to load.
        open_layer: Opens a layer's compressed bytes.
        report: Told when it has to be loaded.
        config: The config document as it stands somewhere; by default made from ``image``.
        manifest: The manifest likewise.

    Raises:
        EngineError: the engine refuses it.
    """
    config = config_bytes(image) if config is None else config
    manifest = manifest_bytes(image) if manifest is None else manifest
    digest = digest_bytes(manifest)
    # An engine with containerd's image store names an image by its manifest's digest instead.
    for known in (digest_bytes(config), digest):
        if has_image(client, known):
            return known
    tag = f"mealkit:{digest.removeprefix('sha256:')[:12]}"  # not <none>: that is what `docker image prune` takes
    report(f"loading {tag} into the engine")
    try:
        _pull_from_loopback(client, image, open_layer, tag, config, manifest)
    except (UnreachableError, NotFoundError, EngineError):
        _send_archive(client, image, open_layer, tag, config)
    api: Any = client.api
    with engine_errors("the engine cannot load the image", tag):
        found: dict[str, Any] = api.inspect_image(tag)
    if found["RootFS"]["Layers"] != [layer.diff_id for layer in image.layers]:
        raise EngineError("the engine has other layers than were loaded", where=tag, hint=f"docker rmi {tag}")
    return str(found["Id"])


def _pull_from_loopback(
    client: DockerClient,
    image: Image,
    open_layer: Callable[[str], BinaryIO],
    tag: str,
    config: bytes,
    manifest: bytes,
) -> None:
    """Let the engine pull the image from this process; its name there is gone afterwards, only ``tag`` stays."""
    digest, doing = digest_bytes(manifest), "the engine cannot load the image"
    sizes = {layer.digest: layer.size for layer in image.layers}
    api: Any = client.api
    with offer_image(manifest, digest, (digest_bytes(config), config), open_layer, sizes) as repository:
        name = f"{repository}@{digest}"
        with engine_errors(doing, tag, registry=True):
            for line in api.pull(repository, tag=digest, stream=True, decode=True, auth_config={}):
                if line.get("error"):
                    raise registry_error(doing, str(line["error"]), tag)
            api.tag(name, *tag.split(":"))
            api.remove_image(name, noprune=True)


def _send_archive(
    client: DockerClient, image: Image, open_layer: Callable[[str], BinaryIO], tag: str, config: bytes
) -> None:
    """Send the whole image, as ``docker load`` does."""
    api: Any = client.api
    with engine_errors("the engine cannot load the image", tag):
        for line in api.load_image(_archive(image, config, tag, open_layer)):
            if line.get("error"):
                raise EngineError(
                    f"the engine cannot load the image: {line['error']}", where=tag, hint="is its disk full?"
                )


def name_image(client: DockerClient, image: str, repository: str, tags: Iterable[str]) -> tuple[str, ...]:
    """Give an image of the engine names; returns them.

    Raises:
        EngineError: the engine refuses a name.
    """
    api: Any = client.api
    with engine_errors("the engine cannot name the image", repository):
        for tag in tags:
            api.tag(image, repository, tag, force=True)
    return tuple(f"{repository}:{tag}" for tag in tags)


def _archive(image: Image, config: bytes, tag: str, open_layer: Callable[[str], BinaryIO]) -> Iterator[bytes]:
    """The image as the tar that every engine loads (docker-archive), in pieces; layers stay compressed."""
    # By the diff ID: an engine that keeps what it loaded looks layers up by their plain bytes.
    names = [f"{layer.diff_id.removeprefix('sha256:')}/layer.tar" for layer in image.layers]
    config_name = f"{digest_bytes(config).removeprefix('sha256:')}.json"
    listing = json.dumps([{"Config": config_name, "RepoTags": [tag], "Layers": names}]).encode()
    for name, data in (("manifest.json", listing), (config_name, config)):
        yield entry.file_header(name, len(data)) + data + entry.padding(len(data))
    for name, layer in dict(zip(names, image.layers, strict=True)).items():
        yield entry.file_header(name, layer.size)
        with open_layer(layer.digest) as file:
            yield from _checked(file, layer)
        yield entry.padding(layer.size)
    yield entry.END_OF_ARCHIVE


def _checked(file: BinaryIO, layer: Layer) -> Iterator[bytes]:
    """A layer's bytes, no more than its size: what is too long would be read as further files of the archive."""
    state, left = hashlib.sha256(), layer.size
    while block := file.read(_BLOCK):
        state.update(block)
        left -= len(block)
        if left < 0:
            break
        yield block
    if left or "sha256:" + state.hexdigest() != layer.digest:
        raise RegistryError(
            "a layer's bytes do not have its digest", where=layer.digest, hint="build or fetch the image again"
        )
