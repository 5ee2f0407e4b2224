"""Trust: which certificates a registry may show, and which one we show it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path

from mealkit.errors import UsageError

_SYSTEM = (Path("/etc/docker/certs.d"), Path("/etc/containers/certs.d"))
_USER = (".config/docker/certs.d", ".docker/certs.d", ".config/containers/certs.d")


def tls_context(host: str, environment: Mapping[str, str]) -> ssl.SSLContext:
    """What a connection to a registry by https trusts, and shows.

    Trusted is what the machine trusts; or the file ``SSL_CERT_FILE`` and the folder ``SSL_CERT_DIR`` instead. Further,
    as for Docker and podman, each ``*.crt`` in ``certs.d/HOST`` (below ``/etc/docker``, ``/etc/containers`` and the
    user's own folders); a ``*.cert`` with its ``*.key`` there is shown to the registry.

    Args:
        host: ``host[:port]``, as the user wrote it; empty for another host than the registry's own.
        environment: For the two variables, and ``HOME``.

    Raises:
        UsageError: a file is missing or no certificate.
    """
    context = ssl.create_default_context()
    file, folder = environment.get("SSL_CERT_FILE"), environment.get("SSL_CERT_DIR")
    if file or folder:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _load(context, "SSL_CERT_FILE", file or None, folder or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for place in _places(host, environment) if host else ():
        for authority in sorted(place.glob("*.crt")):
            _load(context, str(authority), str(authority), None)
        for certificate in sorted(place.glob("*.cert")):
            try:
                context.load_cert_chain(certificate, certificate.with_suffix(".key"))
            except (OSError, ssl.SSLError) as error:
                raise UsageError(
                    f"a client certificate cannot be used: {error}",
                    where=str(certificate),
                    hint="beside NAME.cert there must be its key, NAME.key, without a password",
                ) from error
    return context


def _places(host: str, environment: Mapping[str, str]) -> Iterator[Path]:
    home = Path(environment.get("HOME") or Path.home())
    for folder in (*_SYSTEM, *(home / name for name in _USER)):
        if (folder / host).is_dir():
            yield folder / host


def _load(context: ssl.SSLContext, where: str, file: str | None, folder: str | None) -> None:
    try:
        context.load_verify_locations(file, folder)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"certificates cannot be read: {error}", where=where, hint="name a file of certificates in PEM form"
        ) from error
