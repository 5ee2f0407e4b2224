"""Keys: ECDSA on the curve P-256 in PEM files, the kind that cosign, OpenSSL and we sign and verify with."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mealkit.errors import UsageError, storage_error

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

PASSWORD_VARIABLE = "MEALKIT_KEY_PASSWORD"  # noqa: S105 - the name of a variable
_COSIGN = (b"ENCRYPTED SIGSTORE PRIVATE KEY", b"ENCRYPTED COSIGN PRIVATE KEY")

Ask = Callable[[str], str]
"""Asks a person for a password, with this prompt."""


@dataclass(frozen=True)
class PublicKey:
    """A key to verify with.

    Attributes:
        der: The key as a DER SubjectPublicKeyInfo.
        name: Where it came from, for messages.
    """

    der: bytes = field(repr=False)
    name: str = field(default="", compare=False)

    @property
    def id(self) -> str:
        """``sha256:HEX`` of the DER form: the same for all files that hold this key."""
        return "sha256:" + hashlib.sha256(self.der).hexdigest()

    @property
    def hint(self) -> str:
        """The same as a sigstore bundle writes it: base64."""
        return base64.b64encode(hashlib.sha256(self.der).digest()).decode()

    @property
    def pem(self) -> str:
        """The key as a PEM file."""
        text = base64.b64encode(self.der).decode()
        lines = [text[at : at + 64] for at in range(0, len(text), 64)]
        return "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""])

    def verifies(self, data: bytes, signature: bytes) -> bool:
        """Whether this key's owner made the signature (ECDSA with SHA-256, DER) of exactly these bytes."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import load_der_public_key

        key = load_der_public_key(self.der)
        assert isinstance(key, ec.EllipticCurvePublicKey)
        try:
            key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class PrivateKey:
    """A key to sign with; its representation tells nothing secret."""

    public: PublicKey
    _key: ec.EllipticCurvePrivateKey = field(repr=False, compare=False)

    def sign(self, data: bytes) -> bytes:
        """The signature of ``data``: ECDSA with SHA-256, DER; the same each time where OpenSSL can (RFC 6979)."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        try:
            algorithm = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
        except UnsupportedAlgorithm:
            algorithm = ec.ECDSA(hashes.SHA256())
        return self._key.sign(data, algorithm)


def generate_key(stem: Path, password: str) -> tuple[Path, Path]:
    """Make a pair of keys: ``STEM.key``, encrypted PKCS#8 that only its owner may read, and ``STEM.pub``.

    Raises:
        UsageError: one of the files is there, or the password is empty.
        StorageError: they cannot be written.
    """
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
    )

    if not password:
        raise UsageError(
            "a private key needs a password", where=f"{stem}.key", hint=f"type one, or set {PASSWORD_VARIABLE}"
        )
    private, public = stem.with_name(stem.name + ".key"), stem.with_name(stem.name + ".pub")
    for path in (private, public):
        if path.exists():
            raise UsageError("the file is there already", where=str(path), hint="choose another name; keys are kept")
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password.encode()))
    try:
        with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
        public.write_text(_wrap(key).public.pem)
    except OSError as error:
        with contextlib.suppress(OSError):
            private.unlink()
        raise storage_error(error, "cannot write the keys", private) from error
    return private, public


def load_private_key(name: str, environment: Mapping[str, str], ask: Ask | None = None) -> PrivateKey:
    """The private key in a PEM file, or in the environment variable of ``env://NAME``.

    Its password is taken from ``MEALKIT_KEY_PASSWORD``, else from the file that ``MEALKIT_KEY_PASSWORD_FILE`` names,
    else asked for.

    Raises:
        UsageError: there is no such key, it is of another kind, or the password is wrong or missing.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = _read(name, environment)
    if any(kind in data for kind in _COSIGN):
        raise UsageError(
            "the private key is encrypted in cosign's own way, which mealkit does not read",
            where=name,
            hint="make a key with `mealkit sign --generate-key NAME`; `cosign import-key-pair` takes it over",
        )
    password = None
    if b"ENCRYPTED" in data:
        password = find_password(environment, ask, f"password of {name}: ")
        if not password:
            raise UsageError("the private key needs its password", where=name, hint=f"set {PASSWORD_VARIABLE}")
    try:
        key = load_pem_private_key(data, password.encode() if password else None)
    except Exception as error:  # what cryptography raises for a broken file differs by version
        wrong = password is not None
        raise UsageError(
            "the private key cannot be opened: wrong password?" if wrong else "this is no private key in PEM",
            where=name,
            hint="try the password again" if wrong else "name the .key file of `mealkit sign --generate-key`",
        ) from error
    _check_kind(key, name)
    return _wrap(key)  # type: ignore[arg-type]  # checked


def load_public_key(name: str, environment: Mapping[str, str] | None = None) -> PublicKey:
    """The public key in a PEM file, or in the environment variable of ``env://NAME``.

    Raises:
        UsageError: there is no such key, or it is of another kind.
    """
    return parse_public_key(_read(name, environment or {}), name)


def parse_public_key(data: bytes, name: str) -> PublicKey:
    """The public key in PEM text.

    Raises:
        UsageError: it is none, or of another kind than ECDSA P-256.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

    if b"PRIVATE KEY" in data:
        raise UsageError("this is a private key", where=name, hint="name the .pub file beside it, and keep this one")
    try:
        key = load_pem_public_key(data)
    except Exception as error:  # what cryptography raises for a broken file differs by version
        raise UsageError("this is no public key in PEM", where=name, hint="name a .pub file") from error
    _check_kind(key, name)
    return PublicKey(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), name)


def find_password(environment: Mapping[str, str], ask: Ask | None, prompt: str) -> str:
    """A password from the environment, from the file that it names, or from a person; empty when there is none.

    Raises:
        UsageError: the file cannot be read.
    """
    if PASSWORD_VARIABLE in environment:
        return environment[PASSWORD_VARIABLE]
    file = environment.get(PASSWORD_VARIABLE + "_FILE")
    if file:
        try:
            return Path(file).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, ValueError) as error:
            raise UsageError(
                "the password's file cannot be read", where=file, hint=f"check {PASSWORD_VARIABLE}_FILE"
            ) from error
    return ask(prompt) if ask is not None else ""


def _read(name: str, environment: Mapping[str, str]) -> bytes:
    if name.startswith("env://"):
        variable = name.removeprefix("env://")
        if not environment.get(variable):
            raise UsageError("the variable with the key is not set", where=name, hint=f"set {variable} to the PEM text")
        return environment[variable].encode()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise UsageError(
            f"the key cannot be read: {error.strerror or error}", where=name, hint="check the file's name"
        ) from error


def _check_kind(key: object, name: str) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec

    if not isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise UsageError(
            "the key is not of the kind that mealkit signs with: ECDSA on P-256",
            where=name,
            hint="make one with `mealkit sign --generate-key NAME`",
        )


def _wrap(key: ec.EllipticCurvePrivateKey) -> PrivateKey:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return PrivateKey(PublicKey(der), key)
