"""DSSE: signed envelopes around in-toto statements, and the sigstore bundles that carry them."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .image import canonical_json
from .key import PrivateKey, PublicKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"


class Malformed(ValueError):
    """A document that came from afar is not what it should be; the message says why."""


@dataclass(frozen=True)
class Statement:
    """What an in-toto statement says, of which things.

    Attributes:
        subjects: Digest (``sha256:HEX``) to the name that the signer gave the thing; empty when it gave none.
        predicate_type: What is said, as a URI.
        predicate: The rest.
    """

    subjects: Mapping[str, str]
    predicate_type: str
    predicate: Mapping[str, Any]


def statement_bytes(statement: Statement) -> bytes:
    """The statement as canonical JSON."""
    subjects = [
        ({"name": name} if name else {}) | {"digest": {"sha256": digest.removeprefix("sha256:")}}
        for digest, name in statement.subjects.items()
    ]
    return canonical_json(
        {
            "_type": STATEMENT,
            "subject": subjects,
            "predicateType": statement.predicate_type,
            "predicate": dict(statement.predicate),
        }
    )


def parse_statement(payload: bytes) -> Statement:
    """The statement in an envelope's payload.

    Raises:
        Malformed: it is none.
    """
    document = load_object(payload, "statement")
    if document.get("_type") != STATEMENT:
        raise Malformed(f"not an in-toto statement: {str(document.get('_type'))[:80]!r}")
    subjects: dict[str, str] = {}
    for subject in _list(document.get("subject")):
        digest = subject.get("digest") if isinstance(subject, dict) else None
        if not isinstance(digest, dict) or not isinstance(digest.get("sha256"), str):
            raise Malformed("a subject of the statement has no sha256")
        subjects["sha256:" + digest["sha256"]] = str(subject.get("name") or "")
    predicate_type, predicate = document.get("predicateType"), document.get("predicate")
    if not isinstance(predicate_type, str) or not isinstance(predicate, dict | None):
        raise Malformed("the statement has no predicate")
    return Statement(subjects, predicate_type, predicate or {})


def pre_authentication(payload_type: str, payload: bytes) -> bytes:
    """The bytes that a DSSE signature is of (PAE): the type is signed with the payload, so neither can be swapped."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign_envelope(payload: bytes, key: PrivateKey) -> dict[str, Any]:
    """An envelope with one signature around an in-toto statement."""
    signature = key.sign(pre_authentication(PAYLOAD_TYPE, payload))
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"sig": base64.b64encode(signature).decode()}],
    }


def open_envelope(envelope: object, keys: Sequence[PublicKey]) -> tuple[bytes, PublicKey | None]:
    """The payload, and the first of the keys that signed it; None when none of them did.

    Raises:
        Malformed: it is no envelope around an in-toto statement.
    """
    if not isinstance(envelope, dict):
        raise Malformed("there is no DSSE envelope")
    if envelope.get("payloadType") != PAYLOAD_TYPE:
        raise Malformed(f"the envelope's payload is of another type: {str(envelope.get('payloadType'))[:80]!r}")
    payload = decode(envelope.get("payload"), "payload")
    message = pre_authentication(PAYLOAD_TYPE, payload)
    signatures = [
        decode(one.get("sig") if isinstance(one, dict) else None, "signature")
        for one in _list(envelope.get("signatures"))
    ]
    return payload, next((key for key in keys for one in signatures if key.verifies(message, one)), None)


def bundle_bytes(envelope: Mapping[str, Any], key: PublicKey) -> bytes:
    """A sigstore bundle of version 0.3 around an envelope that a local key signed."""
    return canonical_json(
        {
            "mediaType": BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": key.hint}, "tlogEntries": []},
            "dsseEnvelope": dict(envelope),
        }
    )


def bundle_envelope(data: bytes) -> object:
    """The envelope in a bundle, unverified.

    Raises:
        Malformed: it is no bundle, or holds a signature of another kind.
    """
    document = load_object(data, "bundle")
    if not str(document.get("mediaType")).startswith("application/vnd.dev.sigstore.bundle"):
        raise Malformed("not a sigstore bundle")
    if "dsseEnvelope" not in document:
        raise Malformed("the bundle has no DSSE envelope")
    return document["dsseEnvelope"]


def load_object(data: bytes, what: str) -> dict[str, Any]:
    """The JSON object in bytes from afar.

    Raises:
        Malformed: it is none.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"the {what} is not JSON") from error
    if not isinstance(value, dict):
        raise Malformed(f"the {what} is not a JSON object")
    return value


def decode(text: object, what: str) -> bytes:
    """Base64 from afar.

    Raises:
        Malformed: it is none.
    """
    if not isinstance(text, str) or not text:
        raise Malformed(f"the {what} is missing")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed(f"the {what} is not base64") from error


def _list(value: object) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise Malformed("a list that must not be empty is")
    return value
