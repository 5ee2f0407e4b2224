"""The layer: one immutable tar of files, known by its digest; its bytes may be anywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from mealkit._value import dataclass

GZIP_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

KEY_ANNOTATION = "io.mealkit.layer.key"
KIND_ANNOTATION = "io.mealkit.layer.kind"
TITLE_ANNOTATION = "org.opencontainers.image.title"


@dataclass(frozen=True)
class Layer:
    """A layer by name: where its bytes are is the business of a store, a registry or a layout folder.

    Attributes:
        digest: sha256 of the compressed bytes, ``sha256:HEX``.
        size: Length of the compressed bytes.
        diff_id: sha256 of the uncompressed tar, ``sha256:HEX``.
        media_type: The OCI media type of the compressed bytes.
        kind: ``base``, ``wheel``, ``wheels``, ``bytecode``, ``mealkit`` or ``recipe``.
        key: What the layer is a pure function of; equal keys mean equal bytes. Empty: not known by a key.
        title: What a person would call it, such as ``numpy 2.4.6``.
    """

    digest: str
    size: int
    diff_id: str
    media_type: str = GZIP_LAYER
    kind: str = ""
    key: str = ""
    title: str = ""

    def descriptor(self) -> dict[str, object]:
        """The layer as a descriptor in an OCI manifest; key, kind and title become annotations."""
        annotations = {
            name: value
            for name, value in (
                (KEY_ANNOTATION, self.key),
                # A key that layer_key made tells the kind: a manifest is to be short.
                (KIND_ANNOTATION, "" if self.key.startswith(f"{self.kind}/") else self.kind),
                (TITLE_ANNOTATION, self.title),
            )
            if value
        }
        value: dict[str, object] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        return value | {"annotations": annotations} if annotations else value


def layer_key(kind: str, *parts: str) -> str:
    """The key of a layer of ``kind`` that is a pure function of ``parts``: ``KIND/`` and 32 hexadecimal digits.

    Short, because a manifest has a key for each layer, and moves three times in the smallest build.
    """
    return f"{kind}/{hashlib.sha256('/'.join(parts).encode()).hexdigest()[:32]}"


def layer_from_descriptor(descriptor: Mapping[str, object], diff_id: str) -> Layer:
    """The inverse of :meth:`Layer.descriptor`; ``diff_id`` comes from the image's config."""
    annotations = descriptor.get("annotations") or {}
    assert isinstance(annotations, Mapping)
    key = str(annotations.get(KEY_ANNOTATION, ""))
    return Layer(
        digest=str(descriptor["digest"]),
        size=int(str(descriptor["size"])),
        diff_id=diff_id,
        media_type=str(descriptor.get("mediaType", GZIP_LAYER)),
        kind=str(annotations.get(KIND_ANNOTATION) or (key.partition("/")[0] if "/" in key else "")),
        key=key,
        title=str(annotations.get(TITLE_ANNOTATION, "")),
    )
