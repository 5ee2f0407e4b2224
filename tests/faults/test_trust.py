"""TLS, passwords, tokens and proxies, with a real docker-registry behind them."""

import base64
import contextlib
import io
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from faults.certificate import Authority, make_authority
from services import PROGRAM, RunningRegistry, free_port, missing, running_registry

from mealkit.errors import MealkitError, RegistryError, RetryableError, UsageError
from mealkit_builder import trust
from mealkit_builder.auth import _Token
from mealkit_builder.detour import find_proxy
from mealkit_builder.digest import digest_bytes
from mealkit_builder.reference import Reference, uses_http
from mealkit_builder.registry import Repository
from mealkit_builder.transport import TRIES, Transport

pytestmark = [
    pytest.mark.registry,
    pytest.mark.skipif(missing(PROGRAM) is not None, reason="docker-registry is not installed"),
]

DATA = os.urandom(300_000)
DIGEST = digest_bytes(DATA)
NAME = "registry.mealkit.test"


def repository(host: str, environment: dict[str, str], name: str = "team/x") -> Repository:
    reference = Reference(host, name)
    return Repository(reference, environment, transport=Transport(reference, environment, sleep=lambda seconds: None))


def push_and_read(target: Repository) -> None:
    try:
        assert target.put_blob(DIGEST, len(DATA), lambda: io.BytesIO(DATA)) == "uploaded"
        with target.open_blob(DIGEST) as file:
            assert file.read() == DATA
    finally:
        target.close()


@pytest.fixture
def name_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a name lead to this machine: its addresses themselves are spoken to by http."""
    ask = socket.getaddrinfo

    def answer(host: str, *rest: object, **more: object) -> object:
        return ask("127.0.0.1" if host == NAME else host, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("socket.getaddrinfo", answer)


@contextlib.contextmanager
def tls_registry(folder: Path, authority: Authority, **tls: object) -> Iterator[str]:
    """A docker-registry that speaks TLS under our name; gives ``name:port``."""
    certificate, key = authority.issue("server", NAME)
    settings = {"certificate": str(certificate), "key": str(key), **tls}
    with running_registry(folder, http={"tls": settings}) as registry:
        yield f"{NAME}:{registry.host.rpartition(':')[2]}"


@pytest.mark.usefixtures("name_of_our_own")
def test_an_authority_that_nobody_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, other = make_authority(tmp_path / "ca"), make_authority(tmp_path / "other")
    with tls_registry(tmp_path / "registry", authority) as host:
        for environment in ({}, {"SSL_CERT_FILE": str(other.file)}):
            with pytest.raises(RegistryError, match="no trusted TLS connection") as caught:
                repository(host, environment).has_blob(DIGEST)
            assert "SSL_CERT_FILE" in str(caught.value.hint)
            assert not isinstance(caught.value, RetryableError)
        push_and_read(repository(host, {"SSL_CERT_FILE": str(authority.file)}))
        # As Docker and podman have it: a folder of certificates for each registry.
        monkeypatch.setattr(trust, "_SYSTEM", (tmp_path / "certs.d",))
        (tmp_path / "certs.d" / host).mkdir(parents=True)
        (tmp_path / "certs.d" / host / "ours.crt").write_bytes(authority.file.read_bytes())
        push_and_read(repository(host, {}, "team/certs"))
        # A certificate for another name, and one that was promised and is not there.
        wrong = f"localhost.{NAME}"
        assert not uses_http(wrong, {})
        with pytest.raises(UsageError, match="cannot be read"):
            repository(host, {"SSL_CERT_FILE": str(tmp_path / "nothing.pem")}).has_blob(DIGEST)


@pytest.mark.usefixtures("name_of_our_own")
def test_a_certificate_for_another_name(tmp_path: Path) -> None:
    authority = make_authority(tmp_path / "ca")
    certificate, key = authority.issue("server", "other.mealkit.test")
    with running_registry(tmp_path / "r", http={"tls": {"certificate": str(certificate), "key": str(key)}}) as registry:
        host = f"{NAME}:{registry.host.rpartition(':')[2]}"
        with pytest.raises(RegistryError, match="no trusted TLS connection"):
            repository(host, {"SSL_CERT_FILE": str(authority.file)}).has_blob(DIGEST)


@pytest.mark.usefixtures("name_of_our_own")
def test_a_registry_that_wants_a_certificate_of_ours(tmp_path: Path) -> None:
    authority = make_authority(tmp_path / "ca")
    with tls_registry(tmp_path / "registry", authority, clientcas=[str(authority.file)]) as host:
        with pytest.raises(MealkitError):
            repository(host, {"SSL_CERT_FILE": str(authority.file)}).has_blob(DIGEST)
        place = tmp_path / "home" / ".config" / "docker" / "certs.d" / host
        place.mkdir(parents=True)
        for path in (*authority.issue("client"), authority.file):
            (place / path.name).write_bytes(path.read_bytes())
        environment = {"HOME": str(tmp_path / "home")}
        push_and_read(repository(host, environment))
        (place / "client.key").unlink()
        with pytest.raises(UsageError, match="client certificate"):
            repository(host, environment).has_blob(DIGEST)


@pytest.mark.usefixtures("name_of_our_own")
def test_plain_http_is_for_this_machine_and_for_whom_one_names(registry: RunningRegistry) -> None:
    host = f"{NAME}:{registry.host.rpartition(':')[2]}"
    with pytest.raises(RegistryError, match="no trusted TLS connection") as caught:
        repository(host, {}).has_blob(DIGEST)
    assert "MEALKIT_INSECURE_REGISTRIES" in str(caught.value.hint)
    push_and_read(repository(host, {"MEALKIT_INSECURE_REGISTRIES": f"other,{host}"}, "trust/insecure"))


# --- proxies ---


class Tunnel(ThreadingHTTPServer):
    """A proxy that opens tunnels (CONNECT) to this machine, for who knows the password."""

    daemon_threads = True

    def __init__(self, login: str) -> None:
        super().__init__(("127.0.0.1", 0), _TunnelHandler)
        self.expected = "Basic " + base64.b64encode(login.encode()).decode()
        self.asked: list[str] = []

    def __enter__(self) -> "Tunnel":
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *ignored: object) -> None:
        self.shutdown()
        self.server_close()


class _TunnelHandler(BaseHTTPRequestHandler):
    server: Tunnel

    def log_message(self, *args: object) -> None:
        pass

    def do_CONNECT(self) -> None:
        self.server.asked.append(self.path)
        if self.headers.get("Proxy-Authorization") != self.server.expected:
            self.send_error(407)
            return
        with socket.create_connection(("127.0.0.1", int(self.path.rpartition(":")[2]))) as there:
            self.send_response_only(200)
            self.end_headers()
            self.wfile.flush()
            back = threading.Thread(target=_carry, args=(there, self.connection), daemon=True)
            back.start()
            _carry(self.connection, there)
            back.join(5)


def _carry(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while block := source.recv(1 << 16):
            target.sendall(block)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@pytest.mark.usefixtures("name_of_our_own")
def test_a_proxy_with_a_password_tunnels_tls(tmp_path: Path) -> None:
    authority = make_authority(tmp_path / "ca")
    with tls_registry(tmp_path / "registry", authority) as host, Tunnel("ada:p@ss word") as tunnel:
        port = tunnel.server_address[1]
        environment = {
            "SSL_CERT_FILE": str(authority.file),
            "HTTPS_PROXY": f"http://ada:p%40ss%20word@127.0.0.1:{port}",
        }
        push_and_read(repository(host, environment))
        assert set(tunnel.asked) == {host}
        tunnel.asked.clear()
        push_and_read(repository(host, environment | {"NO_PROXY": NAME}, "team/direct"))
        assert tunnel.asked == []
        wrong = environment | {"HTTPS_PROXY": f"http://ada:secret-word@127.0.0.1:{port}"}
        with pytest.raises(RetryableError, match="the proxy gives no way") as caught:
            repository(host, wrong).has_blob(DIGEST)
        assert "407" in caught.value.message
        assert "secret-word" not in caught.value.render()


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        ("https://r.example/v2/", {}, None),
        ("https://r.example/v2/", {"HTTPS_PROXY": "http://p:3128"}, ("http://p:3128", "")),
        ("https://r.example/v2/", {"https_proxy": "p:3128"}, ("http://p:3128", "")),
        ("https://r.example/v2/", {"HTTP_PROXY": "http://p:3128"}, None),
        ("https://r.example/v2/", {"ALL_PROXY": "https://p"}, ("https://p", "")),
        ("https://r.example/v2/", {"HTTPS_PROXY": "http://a:b%3A@p:1"}, ("http://p:1", "Basic YTpiOg==")),
        ("https://r.example/v2/", {"HTTPS_PROXY": "p", "NO_PROXY": "example"}, None),
        ("https://r.example/v2/", {"HTTPS_PROXY": "p", "NO_PROXY": " .r.example"}, None),
        ("https://r.example/v2/", {"HTTPS_PROXY": "p", "no_proxy": "*.example"}, None),
        ("https://r.example/v2/", {"HTTPS_PROXY": "p", "NO_PROXY": "*"}, None),
        ("https://bar.example/", {"HTTPS_PROXY": "p", "NO_PROXY": "r.example,,"}, ("http://p", "")),
        ("https://r.example:5000/", {"HTTPS_PROXY": "p", "NO_PROXY": "r.example:5000"}, None),
        ("https://r.example/", {"HTTPS_PROXY": "p", "NO_PROXY": "r.example:5000"}, ("http://p", "")),
        ("https://10.1.2.3/", {"HTTPS_PROXY": "p", "NO_PROXY": "10.0.0.0/8"}, None),
        ("https://11.1.2.3/", {"HTTPS_PROXY": "p", "NO_PROXY": "10.0.0.0/8"}, ("http://p", "")),
        ("https://[fd00::1]/", {"HTTPS_PROXY": "p", "NO_PROXY": "fd00::/8"}, None),
        ("http://127.0.0.1:5000/", {"HTTP_PROXY": "p"}, None),
        ("http://localhost:5000/", {"HTTP_PROXY": "p"}, None),
    ],
)
def test_proxies_by_host(url: str, environment: dict[str, str], expected: tuple[str, str] | None) -> None:
    assert find_proxy(url, environment) == expected


def test_a_proxy_that_cannot_be_spoken_to() -> None:
    with pytest.raises(UsageError, match="socks5"):
        find_proxy("https://r.example/", {"ALL_PROXY": "socks5://p:1080"})


# --- tokens ---


class TokenServer(ThreadingHTTPServer):
    """Gives signed tokens (RFC 7519) as a docker-registry wants them."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(("127.0.0.1", port), _TokenHandler)
        self.authority = make_authority(folder)
        self.given = 0
        self.failures = 0
        self.asked = 0

    def __enter__(self) -> "TokenServer":
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *ignored: object) -> None:
        self.shutdown()
        self.server_close()

    def token(self, scopes: list[str]) -> str:
        self.given += 1
        now = int(time.time())
        access = [dict(zip(("type", "name", "actions"), scope.split(":"), strict=True)) for scope in scopes]
        claims = {
            "iss": "test", "sub": "ada", "aud": "test", "exp": now + 300, "nbf": now - 60, "iat": now,
            "jti": secrets.token_hex(8), "access": [{**one, "actions": one["actions"].split(",")} for one in access],
        }  # fmt: skip
        certificate = x509.load_pem_x509_certificate(self.authority.file.read_bytes())
        chain = [base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()]
        head = {"typ": "JWT", "alg": "ES256", "x5c": chain}
        text = b".".join(_base64(json.dumps(part).encode()) for part in (head, claims))
        r, s = utils.decode_dss_signature(self.authority.key.sign(text, ec.ECDSA(hashes.SHA256())))
        return b".".join([text, _base64(r.to_bytes(32) + s.to_bytes(32))]).decode()


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


class _TokenHandler(BaseHTTPRequestHandler):
    server: TokenServer

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked += 1
        status, body = 200, b""
        if self.server.failures:
            self.server.failures -= 1
            status = 503
        elif self.headers.get("Authorization") != "Basic " + base64.b64encode(b"ada:p").decode():
            status = 401
        else:
            token = self.server.token(parse_qs(urlsplit(self.path).query).get("scope", []))
            body = json.dumps({"token": token, "expires_in": 300}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_tokens_that_end_in_the_middle(tmp_path: Path) -> None:
    """The registry is started again with another authority: every token given so far has ended, whatever it says."""
    host = f"127.0.0.1:{free_port()}"
    login = RunningRegistry(host, tmp_path, 0, "ada", "p").environment(tmp_path / "docker")
    target = repository(host, login)
    with TokenServer(tmp_path / "ca", free_port()) as server:

        def settings() -> dict[str, object]:
            realm = f"http://127.0.0.1:{server.server_address[1]}/token"
            bundle = str(server.authority.file)
            return {"auth": {"token": {"realm": realm, "service": "test", "issuer": "test", "rootcertbundle": bundle}}}

        with running_registry(tmp_path / "registry", host=host, settings=settings()):
            push_and_read(target)
            given = server.given
            assert not target.has_blob(digest_bytes(b"other"))
            assert server.given == given  # a token is kept
        server.authority = make_authority(tmp_path / "other")
        with running_registry(tmp_path / "registry", host=host, settings=settings()):
            data = os.urandom(300_000)

            def read() -> io.BytesIO:
                """Between the begin of the upload and its bytes, the tokens end."""
                target.transport._authenticator._tokens = dict.fromkeys(target.transport._authenticator._tokens, old)
                return io.BytesIO(data)

            assert target.has_blob(DIGEST)  # with a new token, after a 401
            old = _Token("Bearer " + "x" * 20, float("inf"))
            assert target.put_blob(digest_bytes(data), len(data), read) == "uploaded"
            server.failures, server.asked = 2, 0
            other = repository(host, login, "team/faulty")
            push_and_read(other)
            server.failures, server.asked = 99, 0
            with pytest.raises(RetryableError, match=r"the token server of .* failed: .* answered 503"):
                repository(host, login, "team/failed").has_blob(DIGEST)
            assert server.asked == TRIES
            server.failures = 0
        target.close()
