"""The base ``docker:NAME``: an image of the local engine as an OCI image, its layers compressed once."""

from __future__ import annotations

import contextlib
import json
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mealkit.errors import BaseImageError, NotFoundError, storage_error

from .ahead import ahead
from .digest import digest_bytes
from .image import CONFIG, MANIFEST, Image, canonical_json
from .layer import Layer
from .parse import image_from_manifest
from .splice import GZIP_HEADER, Body, compressed_body, compressor
from .store import Store

if TYPE_CHECKING:
    from docker import DockerClient

_PIECE = 4 << 20


def engine_image(name: str, store: Store, environment: Mapping[str, str]) -> Image:
    """An image of the engine, its layers gzip-compressed in ``store``; done once for each layer's content.

    Raises:
        NotFoundError: the engine has no image of this name.
        EngineError: no engine answers, or it fails.
        BaseImageError: what it saves is damaged.
        StorageError: the layers cannot be written.
    """
    from .engine import connect, engine_errors

    client = connect(environment)
    where = f"docker:{name}"
    try:
        from docker.errors import ImageNotFound

        with engine_errors("cannot ask the engine for the base", where):
            try:
                api: Any = client.api  # types-docker leaves many of its methods untyped
                found: dict[str, Any] = api.inspect_image(name)
            except ImageNotFound:
                raise NotFoundError(
                    "the engine has no such image",
                    where=where,
                    hint=f"docker pull {name}, or leave out docker: to use the registry's",
                ) from None
        known = _known(str(found["Id"]), store)
        if known is not None:
            return known
        config, layers = _convert(client, str(found["Id"]), store, where)
    finally:
        client.close()
    image = _image(config, layers)
    # The engine's name of the image vouches for its config and its layers' content.
    fact = {"config": config.decode(), "layers": [asdict(layer) for layer in layers]}
    store.write_fact("engine", _key(str(found["Id"])), fact)
    return image


def _key(image_id: str) -> str:
    return f"{image_id}-{compressor()}"


def _known(image_id: str, store: Store) -> Image | None:
    fact = store.read_fact("engine", _key(image_id))
    if not isinstance(fact, dict):
        return None
    layers = [Layer(**value) for value in fact["layers"]]
    return _image(fact["config"].encode(), layers) if all(store.has_blob(layer.digest) for layer in layers) else None


def _image(config: bytes, layers: list[Layer]) -> Image:
    """The image as if a registry had it; so a base reads alike from everywhere."""
    described = {"mediaType": CONFIG, "digest": digest_bytes(config), "size": len(config)}
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": described,
        "layers": [layer.descriptor() for layer in layers],
    }
    return image_from_manifest(canonical_json(document), config)


def _convert(client: DockerClient, image_id: str, store: Store, where: str) -> tuple[bytes, list[Layer]]:
    """The config, and the layers in their order."""
    from .engine import engine_errors

    temporary = store.temporary_blob()
    try:
        # Layers stand in any order in what the engine saves, after or before their list: keep it, then look.
        with temporary.open("wb") as file, engine_errors("the engine cannot save the base", where):
            for block in client.api.get_image(image_id, chunk_size=1 << 20):
                file.write(block)
        with tarfile.open(temporary) as archive:
            listed = json.loads(_read(archive, "manifest.json"))[0]
            config = _read(archive, listed["Config"])
            diff_ids = json.loads(config)["rootfs"]["diff_ids"]
            layers = [
                _layer(archive, name, diff_id, store) for name, diff_id in zip(listed["Layers"], diff_ids, strict=True)
            ]
    except OSError as error:
        raise storage_error(error, "cannot keep the base's layers") from error
    except (tarfile.TarError, KeyError, ValueError, IndexError) as error:
        raise BaseImageError("what the engine saved cannot be read", where=where, hint="pull the base again") from error
    finally:
        temporary.unlink(missing_ok=True)
    return config, layers


def _open(archive: tarfile.TarFile, name: str) -> BinaryIO:
    # Engines up to 24 save a layer that occurs twice as a link to its first copy; extractfile follows it.
    file = archive.extractfile(name)
    if file is None:
        raise KeyError(name)
    return file  # type: ignore[return-value]


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    with _open(archive, name) as file:
        return file.read()


def _layer(archive: tarfile.TarFile, name: str, diff_id: str, store: Store) -> Layer:
    key = f"engine/{compressor()}/{diff_id}"

    def make() -> Layer:
        with _open(archive, name) as file:
            return pack_layer(_plain(file), diff_id, key, store)

    return store.layer(key, make)


def _plain(file: BinaryIO) -> BinaryIO:
    """The layer's tar; engines with containerd's image store save layers compressed as they are."""
    magic = file.read(2)
    file.seek(0)
    if magic == GZIP_HEADER[:2]:
        import gzip

        return gzip.GzipFile(fileobj=file)  # type: ignore[return-value]
    return file


def pack_layer(file: BinaryIO, diff_id: str, key: str, store: Store) -> Layer:
    """A tar as a gzip layer in ``store``, compressed by several threads, a gzip member for each 4 MiB.

    Raises:
        BaseImageError: the tar does not have this diff ID.
    """
    import hashlib

    plain, packed, size = hashlib.sha256(), hashlib.sha256(), 0
    temporary = store.temporary_blob()
    try:
        with temporary.open("wb") as output, contextlib.closing(ahead(_pieces(file))) as bodies:
            for body in bodies:
                member = b"".join((GZIP_HEADER, *body.deflate, body.crc.to_bytes(4, "little"),
                                   len(body.plain).to_bytes(4, "little")))  # fmt: skip
                plain.update(body.plain)
                packed.update(member)
                output.write(member)
                size += len(member)
        if f"sha256:{plain.hexdigest()}" != diff_id:
            raise BaseImageError(
                "a layer of the base is not what its config says", where=diff_id, hint="pull the base again"
            )
        digest = f"sha256:{packed.hexdigest()}"
        store.adopt(temporary, digest)
    except zlib.error as error:
        raise BaseImageError(f"a layer of the base is damaged: {error}", where=diff_id, hint="pull it again") from error
    finally:
        Path(temporary).unlink(missing_ok=True)
    return Layer(digest, size, diff_id, kind="base", key=key)


def _pieces(file: BinaryIO) -> Iterator[tuple[int, Callable[[], Body]]]:
    while piece := file.read(_PIECE):
        yield len(piece), lambda piece=piece: compressed_body(piece)  # type: ignore[misc]
