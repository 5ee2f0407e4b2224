import base64
import json
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from mealkit.errors import AuthenticationError, MealkitError, PermissionDeniedError, RegistryError, UsageError
from mealkit_builder.auth import Authenticator, parse_challenge
from mealkit_builder.credentials import Credentials, config_path, find_credentials
from mealkit_builder.reference import Reference
from mealkit_builder.registry import Repository
from mealkit_builder.testing import MemoryRegistry

SCOPE = "repository:team/x:pull,push"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def docker(folder: Path, config: object, **more: str) -> dict[str, str]:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return {"DOCKER_CONFIG": str(folder), "PATH": os.environ["PATH"]} | more


def helper(folder: Path, name: str, script: str) -> str:
    folder.mkdir(exist_ok=True)
    program = folder / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


# --- Docker's configuration file ---


@pytest.mark.parametrize(
    ("host", "config", "expected"),
    [
        ("x.io", {"auths": {"x.io": {"auth": encoded("ada:pass:word")}}}, Credentials("ada", "pass:word")),
        ("x.io", {"auths": {"https://x.io/v2/": {"username": "ada", "password": "p"}}}, Credentials("ada", "p")),
        ("x.io:5000", {"auths": {"x.io": {"auth": encoded("a:b")}}}, None),
        ("docker.io", {"auths": {"https://index.docker.io/v1/": {"auth": encoded("a:b")}}}, Credentials("a", "b")),
        ("docker.io", {"auths": {"registry-1.docker.io": {"auth": encoded("a:b")}}}, Credentials("a", "b")),
        ("x.io", {"auths": {"x.io": {"identitytoken": "t"}}}, Credentials(identity_token="t")),
        ("x.io", {"auths": {"x.io": {"registrytoken": "t"}}}, Credentials(registry_token="t")),
        ("x.io", {"auths": {"x.io": {}}}, None),
        ("x.io", {"auths": {"y.io": {"auth": encoded("a:b")}}}, None),
        ("x.io", {}, None),
    ],
)
def test_auths(tmp_path: Path, host: str, config: object, expected: Credentials | None) -> None:
    assert find_credentials(host, docker(tmp_path, config)) == expected


def test_no_configuration_is_no_credentials(tmp_path: Path) -> None:
    assert find_credentials("x.io", {"DOCKER_CONFIG": str(tmp_path / "none")}) is None
    assert config_path({"HOME": "/home/ada"}) == Path("/home/ada/.docker/config.json")


@pytest.mark.parametrize("text", ["not json", "[1]", '{"auths": {"x.io": {"auth": "%%%"}}}', '{"auths": {"x.io": 5}}'])
def test_a_damaged_configuration_is_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_credentials("x.io", docker(tmp_path, text))
    assert caught.value.where == str(tmp_path / "config.json")


def test_secrets_are_not_in_the_repr() -> None:
    assert "p4ss" not in repr(Credentials("ada", "p4ss", "p4ss", "p4ss"))


# --- credential helpers ---


def test_a_helper_of_the_host_comes_before_the_store_and_the_file(tmp_path: Path) -> None:
    path = helper(tmp_path / "bin", "mine", 'read host; echo "{\\"Username\\": \\"$host\\", \\"Secret\\": \\"s\\"}"')
    helper(tmp_path / "bin", "store", 'echo \'{"Username": "<token>", "Secret": "identity"}\'')
    config = {"credHelpers": {"x.io": "mine"}, "credsStore": "store", "auths": {"x.io": {"auth": encoded("a:b")}}}
    environment = docker(tmp_path / "docker", config, PATH=path)
    assert find_credentials("x.io", environment) == Credentials("x.io", "s")
    assert find_credentials("y.io", environment) == Credentials(identity_token="identity")


def test_a_helper_is_asked_for_docker_hub_by_its_old_name(tmp_path: Path) -> None:
    path = helper(tmp_path / "bin", "h", 'read host; echo "{\\"Username\\": \\"$host\\", \\"Secret\\": \\"s\\"}"')
    environment = docker(tmp_path / "docker", {"credsStore": "h"}, PATH=path)
    assert find_credentials("docker.io", environment) == Credentials("https://index.docker.io/v1/", "s")


def test_a_helper_that_knows_nothing_leaves_it_to_the_file(tmp_path: Path) -> None:
    path = helper(tmp_path / "bin", "h", "echo credentials not found in native keychain; exit 1")
    config = {"credsStore": "h", "auths": {"x.io": {"auth": encoded("a:b")}}}
    assert find_credentials("x.io", docker(tmp_path / "docker", config, PATH=path)) == Credentials("a", "b")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo no >&2; exit 3", "status 3"),
        ("exec sleep 5", "no answer"),
        (None, "cannot be started"),
    ],
)
def test_a_failing_helper_is_told(tmp_path: Path, script: str | None, message: str) -> None:
    path = helper(tmp_path / "bin", "h", script) if script else os.environ["PATH"]
    with pytest.raises(AuthenticationError, match=message) as caught:
        find_credentials("x.io", docker(tmp_path / "docker", {"credsStore": "h"}, PATH=path), seconds=0.5)
    assert "docker-credential-h" in caught.value.message
    assert caught.value.hint


def test_a_helper_cannot_name_another_folder(tmp_path: Path) -> None:
    with pytest.raises(AuthenticationError):
        find_credentials("x.io", docker(tmp_path, {"credsStore": "../../bin/sh"}))


# --- challenges and tokens ---


@pytest.mark.parametrize(
    ("header", "scheme", "realm"),
    [
        ('Bearer realm="https://a/t",service="s",scope="r:x:pull,push"', "bearer", "https://a/t"),
        ('Basic realm="with \\"quotes\\", and comma"', "basic", 'with "quotes", and comma'),
        ("bearer realm=https://a/t", "bearer", "https://a/t"),
        ('Negotiate, Bearer realm="https://a/t", Basic realm="b"', "bearer", "https://a/t"),
        ("Digest nonce=1", "digest", ""),
        ("", "", ""),
    ],
)
def test_parse_challenge(header: str, scheme: str, realm: str) -> None:
    challenge = parse_challenge(header)
    assert (challenge.scheme, challenge.parameters.get("realm", "")) == (scheme, realm)


class TokenServer:
    def __init__(self, *answers: tuple[int, object]) -> None:
        self.answers, self.now = list(answers), 0.0
        self.asked: list[tuple[str, str, Mapping[str, str], bytes | None]] = []

    def __call__(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> tuple[int, bytes]:
        self.asked.append((method, url, headers, body))
        status, answer = self.answers.pop(0)
        return status, answer if isinstance(answer, bytes) else json.dumps(answer).encode()

    def authenticator(self, credentials: Credentials | None, origin: str = "https://x.io") -> Authenticator:
        return Authenticator("x.io", origin, lambda: credentials, self, lambda: self.now)


BEARER = 'Bearer realm="https://auth.example.com/token",service="x.io"'


def test_a_token_is_asked_for_once_per_scope_and_again_before_it_ends() -> None:
    server = TokenServer(
        (200, {"token": "one", "expires_in": 100}), (200, {"access_token": "other"}), (200, {"token": "two"})
    )
    authenticator = server.authenticator(Credentials("ada", "p"))
    assert authenticator.header(SCOPE) is None
    assert authenticator.answer(BEARER, SCOPE, None) == "Bearer one"
    assert authenticator.header(SCOPE) == "Bearer one"
    assert authenticator.header("repository:y:pull") == "Bearer other"
    server.now = 89
    assert authenticator.header(SCOPE) == "Bearer one"
    server.now = 91
    assert authenticator.header(SCOPE) == "Bearer two"
    method, url, headers, body = server.asked[0]
    assert (method, body) == ("GET", None)
    assert url == "https://auth.example.com/token?service=x.io&scope=repository%3Ateam%2Fx%3Apull%2Cpush&account=ada"
    assert headers["Authorization"] == Credentials("ada", "p").basic()


def test_an_identity_token_is_exchanged() -> None:
    server = TokenServer((200, {"access_token": "one"}))
    assert server.authenticator(Credentials(identity_token="refresh")).answer(BEARER, SCOPE, None) == "Bearer one"
    method, url, headers, body = server.asked[0]
    assert (method, url) == ("POST", "https://auth.example.com/token")
    assert "Authorization" not in headers
    assert body is not None
    assert b"refresh_token=refresh" in body
    assert b"grant_type=refresh_token" in body


def test_a_registry_token_is_sent_as_it_is() -> None:
    server = TokenServer()
    assert server.authenticator(Credentials(registry_token="t")).answer(BEARER, SCOPE, None) == "Bearer t"
    with pytest.raises(AuthenticationError):
        server.authenticator(Credentials(registry_token="t")).answer(BEARER, SCOPE, "Bearer t")


def test_a_refused_token_is_renewed_once() -> None:
    server = TokenServer((200, {"token": "one"}), (200, {"token": "two"}), (200, {"token": "two"}))
    authenticator = server.authenticator(Credentials("ada", "p"))
    one = authenticator.answer(BEARER, SCOPE, None)
    two = authenticator.answer(BEARER, SCOPE, one)
    assert (one, two) == ("Bearer one", "Bearer two")
    with pytest.raises(PermissionDeniedError):
        authenticator.answer(BEARER, SCOPE, two)


@pytest.mark.parametrize(
    ("realm", "origin"),
    [
        ("http://auth.example.com/token", "https://x.io"),
        ("http://x.io/token", "https://x.io"),
        ("http://evil.com/token", "http://127.0.0.1:5000"),
        ("ftp://x.io/", "http://x.io"),
        ("/token", "https://x.io"),
        ("", "https://x.io"),
    ],
)
def test_credentials_go_to_no_unsafe_token_server(realm: str, origin: str) -> None:
    server = TokenServer()
    with pytest.raises(AuthenticationError, match="not safe"):
        server.authenticator(Credentials("ada", "p"), origin).answer(f'Bearer realm="{realm}"', SCOPE, None)
    assert server.asked == []


@pytest.mark.parametrize(
    ("status", "answer", "error"),
    [
        (401, {}, AuthenticationError),
        (403, {}, AuthenticationError),
        (500, {}, RegistryError),
        (200, b"x", RegistryError),
        (200, {"token": 5}, RegistryError),
        (200, {"token": "a b\r\n"}, RegistryError),
        (200, [], RegistryError),
        (200, {"token": "t", "expires_in": "soon"}, RegistryError),
    ],
)
def test_bad_token_servers(status: int, answer: object, error: type[MealkitError]) -> None:
    with pytest.raises(error) as caught:
        TokenServer((status, answer)).authenticator(Credentials("ada", "p4ss")).answer(BEARER, SCOPE, None)
    assert "p4ss" not in caught.value.render()
    assert caught.value.hint


def test_without_credentials_the_hint_says_how_to_log_in() -> None:
    with pytest.raises(AuthenticationError, match="none are known") as caught:
        TokenServer().authenticator(None).answer('Basic realm="x"', SCOPE, None)
    assert caught.value.hint == "docker login x.io"
    with pytest.raises(AuthenticationError, match="ntlm"):
        TokenServer().authenticator(None).answer("NTLM", SCOPE, None)


def test_threads_share_one_token() -> None:
    server = TokenServer((200, {"token": "one", "expires_in": 100}))
    authenticator = server.authenticator(Credentials("ada", "p"))
    got: list[str] = []
    threads = [threading.Thread(target=lambda: got.append(authenticator.answer(BEARER, SCOPE, None))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert got == ["Bearer one"] * 8


# --- the dance with a registry over HTTP ---


def repository(registry: MemoryRegistry, folder: Path, login: str = "ada:p", **entry: str) -> Repository:
    environment = docker(folder, {"auths": {registry.host: entry or {"auth": encoded(login)}}})
    return Repository(Reference(registry.host, "team/x"), environment)


def test_the_whole_dance(tmp_path: Path) -> None:
    with MemoryRegistry(users={"ada": "p"}, auth="bearer") as registry:
        target = repository(registry, tmp_path)
        assert target.list_tags() == ()
        assert [(seen.method, seen.status) for seen in registry.seen] == [("GET", 401), ("GET", 200), ("GET", 404)]
        target.get_manifest("1")
        assert registry.requests == 4
        registry.tokens.clear()  # the server forgets: the next request asks again, once
        target.get_manifest("1")
        assert registry.requests == 7
        target.close()


def test_the_dance_with_an_identity_token(tmp_path: Path) -> None:
    with MemoryRegistry(users={"ada": "p"}, auth="bearer") as registry:
        registry.refresh_tokens["refresh"] = "ada"
        target = repository(registry, tmp_path, identitytoken="refresh")
        assert target.get_manifest("1") is None
        target.close()


def test_a_token_that_ends_at_once_is_renewed(tmp_path: Path) -> None:
    with MemoryRegistry(users={"ada": "p"}, auth="bearer", token_seconds=1) as registry:
        target = repository(registry, tmp_path)
        assert target.get_manifest("1") is None
        time.sleep(1.1)
        assert target.get_manifest("1") is None
        target.close()


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_a_wrong_password(tmp_path: Path, auth: str) -> None:
    with MemoryRegistry(users={"ada": "p"}, auth="bearer" if auth == "bearer" else "basic") as registry:
        target = repository(registry, tmp_path, "ada:wr0ng")
        with pytest.raises(AuthenticationError, match="refused the credentials of ada") as caught:
            target.get_manifest("1")
        assert caught.value.hint == f"docker login {registry.host}"
        assert "wr0ng" not in caught.value.render()
        target.close()


def test_credentials_are_not_read_before_they_are_asked_for(tmp_path: Path) -> None:
    with MemoryRegistry() as registry:
        target = Repository(Reference(registry.host, "team/x"), docker(tmp_path, "damaged"))
        assert target.get_manifest("1") is None
        target.close()
