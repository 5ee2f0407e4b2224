"""Signatures of images in the two forms that cosign reads: under a tag ``sha256-HEX.sig``, and as a bundle."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .digest import digest_bytes
from .dsse import (
    BUNDLE,
    Malformed,
    Statement,
    bundle_bytes,
    bundle_envelope,
    decode,
    load_object,
    open_envelope,
    parse_statement,
    sign_envelope,
    statement_bytes,
)
from .image import canonical_json
from .key import PrivateKey, PublicKey
from .referrer import (
    Artifact,
    Place,
    Subject,
    attach,
    list_referrers,
    put_small_blob,
    read_artifact,
    read_blob,
    referrers_tag,
)
from .signature_tag import add_layers

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE_ANNOTATION = "dev.cosignproject.cosign/signature"
SIGNED = "https://sigstore.dev/cosign/sign/v1"
"""The predicate type of a statement that is a signature and says nothing else."""

_PAYLOAD_TYPE = "cosign container image signature"
_LIMIT = 100

Form = Literal["tag", "bundle"]


@dataclass(frozen=True)
class Signature:
    """A signature that one of the asked keys made, of whatever.

    Attributes:
        form: Where it was found.
        key: Who made it.
        digest: The image that it is of; empty where the payload is no signature of an image.
        identity: The repository that it was made for, as the signer named it; empty where it names none.
    """

    form: Form
    key: PublicKey
    digest: str
    identity: str


@dataclass(frozen=True)
class Attestation:
    """A statement about an image, and who signed it.

    Attributes:
        statement: What it says.
        key: Whose signature it has; None: it is not signed by an asked key.
    """

    statement: Statement
    key: PublicKey | None


@dataclass(frozen=True)
class Attached:
    """What was found attached to an image.

    Attributes:
        signatures: Those that the asked keys made; they may be of another image or repository.
        attestations: Statements about it, whoever signed them.
        documents: Plain documents by artifact type, such as an SBOM that nobody signed.
        strangers: How many signatures other keys made.
        broken: What could not be read, in words.
    """

    signatures: tuple[Signature, ...] = ()
    attestations: tuple[Attestation, ...] = ()
    documents: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)
    strangers: int = 0
    broken: tuple[str, ...] = ()


def simple_payload(identity: str, digest: str) -> bytes:
    """What the tag form signs: cosign's "simple signing" document."""
    critical = {
        "identity": {"docker-reference": identity},
        "image": {"docker-manifest-digest": digest},
        "type": _PAYLOAD_TYPE,
    }
    return canonical_json({"critical": critical, "optional": None})


def sign_image(place: Place, subject: Subject, identity: str, key: PrivateKey) -> None:
    """Sign an image in both forms; a signature that is there already is not made again.

    Args:
        place: Where the image is.
        subject: Its manifest or index.
        identity: The repository that it is for, ``host/repository``.
        key: Who signs.
    """
    there = {
        one.form
        for one in find_attached(place, subject.digest, (key.public,)).signatures
        if (one.digest, one.identity) == (subject.digest, identity)
    }
    if "tag" not in there:
        _sign_tag(place, subject.digest, identity, key)
    if "bundle" not in there:
        attach(place, subject, [signed_statement(Statement({subject.digest: identity}, SIGNED, {}), key)])


def signed_statement(statement: Statement, key: PrivateKey) -> Artifact:
    """A statement, signed, as a bundle to attach."""
    bundle = bundle_bytes(sign_envelope(statement_bytes(statement), key), key.public)
    annotations = {
        "dev.sigstore.bundle.content": "dsse-envelope",
        "dev.sigstore.bundle.predicateType": statement.predicate_type,
    }
    return Artifact(BUNDLE, bundle, annotations)


def find_attached(place: Place, digest: str, keys: Sequence[PublicKey]) -> Attached:
    """All signatures, statements and documents that are attached to a manifest or index.

    Nothing that an attacker may have written raises: what is damaged is told in :attr:`Attached.broken`.
    """
    signatures: list[Signature] = []
    attestations: list[Attestation] = []
    documents: list[tuple[str, bytes]] = []
    broken: list[str] = []
    strangers = 0
    for layer in _tag_layers(place, digest, broken):
        try:
            signature = _check_layer(place, layer, keys)
        except Malformed as error:
            broken.append(f"{referrers_tag(digest)}.sig: {error}")
            continue
        if signature is None:
            strangers += 1
        else:
            signatures.append(signature)
    for referrer in list_referrers(place, digest):
        data = read_artifact(place, referrer, digest)
        if data is None:
            broken.append(f"{referrer.digest}: missing, or attached to another image")
            continue
        if not referrer.artifact_type.startswith("application/vnd.dev.sigstore.bundle"):
            documents.append((referrer.artifact_type, data))
            continue
        try:
            payload, key = open_envelope(bundle_envelope(data), keys)
            statement = parse_statement(payload)
        except Malformed as error:
            broken.append(f"{referrer.digest}: {error}")
            continue
        if statement.predicate_type != SIGNED:
            attestations.append(Attestation(statement, key))
        elif key is None:
            strangers += 1
        else:
            of = digest if digest in statement.subjects else next(iter(statement.subjects))
            signatures.append(Signature("bundle", key, of, statement.subjects[of]))
    return Attached(tuple(signatures), tuple(attestations), tuple(documents), strangers, tuple(broken))


def _sign_tag(place: Place, digest: str, identity: str, key: PrivateKey) -> None:
    payload = simple_payload(identity, digest)
    layer = {
        "mediaType": SIMPLE_SIGNING,
        "digest": digest_bytes(payload),
        "size": len(payload),
        "annotations": {SIGNATURE_ANNOTATION: base64.b64encode(key.sign(payload)).decode()},
    }
    put_small_blob(place, payload)
    add_layers(place, referrers_tag(digest) + ".sig", [layer])


def _tag_layers(place: Place, digest: str, broken: list[str]) -> Iterator[dict[str, Any]]:
    tag = referrers_tag(digest) + ".sig"
    found = place.get_manifest(tag)
    if found is None:
        return
    try:
        layers = load_object(found[0], "manifest").get("layers")
    except Malformed as error:
        broken.append(f"{tag}: {error}")
        return
    for layer in layers[:_LIMIT] if isinstance(layers, list) else ():
        if isinstance(layer, dict) and layer.get("mediaType") == SIMPLE_SIGNING:
            yield layer


def _check_layer(place: Place, layer: dict[str, Any], keys: Sequence[PublicKey]) -> Signature | None:
    """The signature behind a layer of the tag form; None when none of the keys made it."""
    annotations = layer.get("annotations")
    signature = decode((annotations if isinstance(annotations, dict) else {}).get(SIGNATURE_ANNOTATION), "signature")
    payload = read_blob(place, str(layer.get("digest")))
    if payload is None:
        raise Malformed("the signed payload is missing or changed")
    key = next((key for key in keys if key.verifies(payload, signature)), None)
    if key is None:
        return None
    # Only now is it read: what an unknown hand wrote says nothing.
    document = load_object(payload, "payload")
    try:
        critical = document["critical"]
        image, identity = critical["image"]["docker-manifest-digest"], critical["identity"]["docker-reference"]
        if critical["type"] != _PAYLOAD_TYPE:
            raise Malformed("the payload is of another type")
    except (KeyError, TypeError) as error:
        raise Malformed("the payload is no signature of an image") from error
    return Signature("tag", key, str(image), str(identity))
