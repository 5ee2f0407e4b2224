"""Certificates for tests: an authority, and what it signs."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Authority:
    """A certificate authority with its files in ``folder``: ``ca.crt`` and what it issued."""

    folder: Path
    name: x509.Name
    key: ec.EllipticCurvePrivateKey

    @property
    def file(self) -> Path:
        return self.folder / "ca.crt"

    def issue(self, name: str, *hosts: str) -> tuple[Path, Path]:
        """A certificate for hosts, and its key: the files ``NAME.cert`` and ``NAME.key``."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = []
        for host in hosts:
            bare = host.replace(".", "").isdigit()
            names.append(x509.IPAddress(ipaddress.ip_address(host)) if bare else x509.DNSName(host))
        builder = _builder(_name(name), self.name, key)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        paths = self.folder / f"{name}.cert", self.folder / f"{name}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(_pem(key))
        return paths


def make_authority(folder: Path) -> Authority:
    """A new authority."""
    folder.mkdir(parents=True, exist_ok=True)
    key, name = ec.generate_private_key(ec.SECP256R1()), _name("authority of a test")
    extension = x509.BasicConstraints(ca=True, path_length=None)
    certificate = _builder(name, name, key).add_extension(extension, critical=True).sign(key, hashes.SHA256())
    authority = Authority(folder, name, key)
    authority.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return authority


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    begin = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=36500))
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
