import io
import itertools
import logging
import os
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal

import pytest
from images import Sample, sample
from services import RunningRegistry

from mealkit.errors import (
    AuthenticationError,
    MealkitError,
    NotFoundError,
    PermissionDeniedError,
    RegistryError,
    RetryableError,
    UnreachableError,
)
from mealkit_builder.digest import digest_bytes
from mealkit_builder.image import MANIFEST, config_bytes, manifest_bytes
from mealkit_builder.reference import Reference, parse_reference
from mealkit_builder.registry import Repository
from mealkit_builder.target import MissingBlobError
from mealkit_builder.testing import MemoryRegistry
from mealkit_builder.transport import LONGEST_WAIT, Transport

DATA = os.urandom(3 << 20)
DIGEST = digest_bytes(DATA)


class Waits(list[float]):
    """Stands for ``time.sleep``: notes how long it should have been."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


_opened: list[Repository] = []


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


def repository(
    host: str, name: str = "team/x", waits: Waits | None = None, environment: dict[str, str] | None = None
) -> Repository:
    """A repository that does not really wait between tries; closed when the test ends."""
    reference = Reference(host, name)
    environment = {"DOCKER_CONFIG": "/nonexistent"} if environment is None else environment
    transport = Transport(reference, environment, sleep=Waits() if waits is None else waits)
    _opened.append(Repository(reference, environment, transport=transport))
    return _opened[-1]


def read() -> BinaryIO:
    return io.BytesIO(DATA)


@pytest.fixture
def memory() -> Iterator[MemoryRegistry]:
    with MemoryRegistry() as registry:
        yield registry


# --- a real registry ---


@pytest.mark.registry
def test_blobs_and_manifests_of_a_real_registry(registry: RunningRegistry) -> None:
    target = repository(registry.host, "real/blobs")
    assert target.get_manifest("1") is None
    assert target.list_tags() == ()
    assert not target.has_blob(DIGEST)
    moved: list[int] = []
    assert target.put_blob(DIGEST, len(DATA), read, progress=moved.append) == "uploaded"
    assert sum(moved) == len(DATA)
    assert target.put_blob(DIGEST, len(DATA), read) == "reused"
    with target.open_blob(DIGEST) as file:
        assert file.read() == DATA
    one = sample({"a": b"1"})
    for digest, data in one.blobs.items():
        target.put_blob(digest, len(data), partial(io.BytesIO, data))
    config = config_bytes(one.image)
    target.put_blob(digest_bytes(config), len(config), lambda: io.BytesIO(config))
    for tag in ("1", "2"):
        assert target.put_manifest(manifest_bytes(one.image), MANIFEST, tag) == one.image.digest
    assert target.get_manifest("1") == (manifest_bytes(one.image), MANIFEST, one.image.digest)
    assert target.get_manifest(one.image.digest) == target.get_manifest("2")
    assert target.get_blob(digest_bytes(config)) == config
    assert target.list_tags() == ("1", "2")
    assert target.url(one.image.digest) == f"{registry.host}/real/blobs@{one.image.digest}"


@pytest.mark.registry
def test_mounts_in_a_real_registry(registry: RunningRegistry) -> None:
    source, target = repository(registry.host, "real/source"), repository(registry.host, "real/mounted")
    source.put_blob(DIGEST, len(DATA), read)
    assert target.put_blob(DIGEST, len(DATA), read, mount_from="real/source") == "mounted"
    assert target.has_blob(DIGEST)
    other = b"other"
    kind = target.put_blob(digest_bytes(other), len(other), lambda: io.BytesIO(other), mount_from="real/source")
    assert kind == "uploaded"


@pytest.mark.registry
def test_a_manifest_without_its_blobs_is_refused_by_a_real_registry(registry: RunningRegistry) -> None:
    target = repository(registry.host, "real/absent")
    with pytest.raises(MissingBlobError):
        target.put_manifest(manifest_bytes(sample({"a": b"1"}).image), MANIFEST, "1")
    with pytest.raises(NotFoundError):
        target.get_blob("sha256:" + "0" * 64)


@pytest.mark.registry
def test_a_real_registry_that_asks_for_a_password(auth_registry: RunningRegistry, tmp_path: Path) -> None:
    good = repository(auth_registry.host, environment=auth_registry.environment(tmp_path))
    assert good.put_blob(DIGEST, len(DATA), read) == "uploaded"
    with pytest.raises(AuthenticationError, match="none are known") as caught:
        repository(auth_registry.host).has_blob(DIGEST)
    assert caught.value.hint == f"docker login {auth_registry.host}"
    wrong = RunningRegistry(auth_registry.host, tmp_path, 0, "ada", "wrong").environment(tmp_path / "wrong")
    with pytest.raises(AuthenticationError, match="refused the credentials of ada"):
        repository(auth_registry.host, environment=wrong).put_blob(DIGEST, len(DATA), read)


# --- faults ---


@pytest.mark.parametrize(
    ("method", "failure"),
    [
        *itertools.product(["HEAD", "POST", "PUT"], [408, 429, 499, 500, 502, 503, 504, 522, "reset"]),
        ("POST", "truncate"),
        ("PUT", "truncate"),
    ],
)
def test_a_passing_fault_is_survived(memory: MemoryRegistry, failure: int, method: str) -> None:
    waits = Waits()
    target = repository(memory.host, waits=waits)
    memory.fail_next(failure, times=2, method=method)
    moved: list[int] = []
    assert target.put_blob(DIGEST, len(DATA), read, progress=moved.append) == "uploaded"
    assert memory.blobs["team/x"][DIGEST] == DATA
    assert sum(moved) == len(DATA)
    assert len(waits) == 2
    assert waits[1] > waits[0] > 0


@pytest.mark.parametrize("failure", [500, "reset"])
def test_tries_are_bounded(memory: MemoryRegistry, failure: int) -> None:
    waits = Waits()
    target = repository(memory.host, waits=waits)
    memory.fail_next(failure, times=9)
    with pytest.raises(RetryableError) as caught:
        target.get_manifest("1")
    assert memory.requests == 3
    assert len(waits) == 2
    assert caught.value.exit_code == 75
    assert caught.value.hint


@pytest.mark.parametrize("status", [400, 404, 416])
def test_an_upload_that_is_refused_midway_begins_afresh(memory: MemoryRegistry, status: int) -> None:
    target = repository(memory.host)
    memory.fail_next(status, method="PUT")
    target.put_blob(DIGEST, len(DATA), read)
    assert [seen.method for seen in memory.seen] == ["HEAD", "POST", "PUT", "POST", "PUT"]


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("3", 3, 3),
        ("0", 0, 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        ("soon", 0.01, 1),
    ],
)
def test_retry_after_is_honoured(memory: MemoryRegistry, value: str, low: float, high: float) -> None:
    waits = Waits()
    target = repository(memory.host, waits=waits)
    memory.fail_next(429, retry_after=value)
    assert target.get_manifest("1") is None
    assert low <= waits[0] <= high


def test_a_long_retry_after_ends_the_push(memory: MemoryRegistry) -> None:
    target = repository(memory.host)
    memory.fail_next(429, retry_after=str(int(LONGEST_WAIT) + 1))
    with pytest.raises(RetryableError, match="429"):
        target.get_manifest("1")
    assert memory.requests == 1


def test_a_broken_download_is_taken_up_where_it_broke(memory: MemoryRegistry) -> None:
    memory.blobs["team/x"] = {DIGEST: DATA}
    target = repository(memory.host)
    memory.fail_next("truncate", method="GET")
    with target.open_blob(DIGEST) as file:
        assert file.read() == DATA
    assert memory.requests == 2
    assert memory.bytes_out == len(DATA) // 2
    memory.fail_next("truncate", method="GET")
    assert target.get_blob(DIGEST) == DATA


def test_changed_bytes_are_refused(memory: MemoryRegistry) -> None:
    memory.blobs["team/x"] = {DIGEST: b"other"}
    other = "sha256:" + "0" * 64
    memory.manifests["team/x"] = {other: (b"{}", MANIFEST)}
    memory.tag_digests["team/x"] = {"1": other}
    target = repository(memory.host)
    with pytest.raises(RegistryError, match="do not have its digest"):
        target.get_blob(DIGEST)
    with target.open_blob(DIGEST) as file, pytest.raises(RegistryError, match="do not have its digest"):
        file.read()
    for reference in ("1", other):
        with pytest.raises(RegistryError, match="do not have its digest"):
            target.get_manifest(reference)


def test_a_half_read_stream_spoils_no_connection(memory: MemoryRegistry) -> None:
    memory.blobs["team/x"] = {DIGEST: DATA}
    target = repository(memory.host)
    with target.open_blob(DIGEST) as file:
        file.read(10)
    assert target.get_blob(DIGEST) == DATA


@pytest.mark.timeout(30)
def test_nobody_listens() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    begin = time.monotonic()
    with pytest.raises(UnreachableError, match="no connection") as caught:
        repository(f"127.0.0.1:{port}").get_manifest("1")
    assert time.monotonic() - begin < 2
    assert caught.value.exit_code == 75
    assert caught.value.hint == "is the registry running, and its name right?"


def test_a_name_that_does_not_resolve() -> None:
    with pytest.raises(UnreachableError):
        repository("registry.invalid:5000").get_manifest("1")


def test_silence_is_not_waited_for_longer_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mealkit_builder.transport.STALL_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(UnreachableError, match="no answer"):
        repository(f"127.0.0.1:{silent.getsockname()[1]}").get_manifest("1")


def test_what_is_no_registry_at_all() -> None:
    import threading

    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(3):
                connection, _address = server.accept()
                connection.recv(1000)
                connection.sendall(b"SSH-2.0-OpenSSH\r\n")
                connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with pytest.raises(MealkitError) as caught:
            repository(f"127.0.0.1:{server.getsockname()[1]}").get_manifest("1")
        assert caught.value.hint
        thread.join(5)


# --- rights, and where credentials go ---


def login(folder: Path, host: str, user: str = "ada", password: str = "p") -> dict[str, str]:
    return RunningRegistry(host, folder, 0, user, password).environment(folder)


def test_a_reader_may_not_push(tmp_path: Path) -> None:
    auths: tuple[Literal["basic", "bearer"], ...] = ("basic", "bearer")
    for auth in auths:
        with MemoryRegistry(users={"ada": "p"}, readers=["ada"], auth=auth) as memory:
            memory.blobs["team/x"] = {DIGEST: DATA}
            target = repository(memory.host, environment=login(tmp_path, memory.host))
            assert target.get_blob(DIGEST) == DATA
            with pytest.raises(PermissionDeniedError) as caught:
                target.put_blob("sha256:" + "0" * 64, len(DATA), read)
            assert caught.value.hint == "ask for push rights, or set another repository="


def test_a_redirect_to_another_host_gets_no_credentials(tmp_path: Path) -> None:
    with MemoryRegistry() as storage, MemoryRegistry(users={"ada": "p"}, redirect_blobs_to=storage.origin) as memory:
        for held in (memory, storage):
            held.blobs["team/x"] = {DIGEST: DATA}
        target = repository(memory.host, environment=login(tmp_path, memory.host))
        assert target.get_blob(DIGEST) == DATA
        with target.open_blob(DIGEST) as file:
            assert file.read() == DATA
        assert [seen.authorization for seen in storage.seen] == ["", ""]
        assert memory.seen[-1].authorization


def test_an_upload_to_another_host_gets_no_credentials(tmp_path: Path) -> None:
    with MemoryRegistry() as storage, MemoryRegistry(users={"ada": "p"}, upload_origin=storage.origin) as memory:
        storage.uploads = memory.uploads
        target = repository(memory.host, environment=login(tmp_path, memory.host))
        target.put_blob(DIGEST, len(DATA), read)
        assert storage.blobs["team/x"][DIGEST] == DATA
        assert [seen.authorization for seen in storage.seen] == [""]


def test_another_host_that_asks_for_a_password_gets_none(tmp_path: Path) -> None:
    with (
        MemoryRegistry(users={"ada": "p"}) as storage,
        MemoryRegistry(users={"ada": "p"}, redirect_blobs_to=storage.origin) as memory,
    ):
        memory.blobs["team/x"] = {DIGEST: DATA}
        target = repository(memory.host, environment=login(tmp_path, memory.host))
        with pytest.raises(AuthenticationError):
            target.get_blob(DIGEST)
        assert {seen.authorization for seen in storage.seen} == {""}


def test_a_redirect_from_https_to_http_is_refused() -> None:
    transport = Transport(parse_reference("registry.example.com/x"), {})
    for location in ("http://registry.example.com/y", "file:///etc/passwd", ""):
        with pytest.raises(RegistryError, match="not safe"):
            transport.resolve("/v2/", location)
    assert transport.resolve("/v2/x/", "/y?z=1") == "https://registry.example.com/y?z=1"


def test_endless_redirects_end(memory: MemoryRegistry) -> None:
    memory.blobs["team/x"] = {DIGEST: DATA}
    memory.redirect_blobs_to = memory.origin
    with pytest.raises(RegistryError, match="circle"):
        repository(memory.host).get_blob(DIGEST)


def test_logs_carry_no_secret(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with MemoryRegistry(users={"ada": "p4ssw0rd"}, auth="bearer") as memory, caplog.at_level(logging.DEBUG):
        target = repository(memory.host, environment=login(tmp_path, memory.host, password="p4ssw0rd"))
        target.put_blob(DIGEST, len(DATA), read)
        secrets = [*memory.tokens, "p4ssw0rd", *(seen.authorization for seen in memory.seen if seen.authorization)]
        ours = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("mealkit"))
    assert "PUT" in ours
    assert not [secret for secret in secrets if secret in ours]
    assert "_state=***" in ours


# --- mounts, limits, pages ---


def test_a_phantom_mount_is_found_out(memory: MemoryRegistry) -> None:
    memory.mounts = "phantom"
    memory.blobs["team/base"] = {DIGEST: DATA}
    target = repository(memory.host)
    assert target.put_blob(DIGEST, len(DATA), read, mount_from="team/base") == "uploaded"
    assert memory.blobs["team/x"][DIGEST] == DATA


def test_a_refused_mount_goes_on_with_the_upload_that_it_opened(memory: MemoryRegistry) -> None:
    memory.mounts = "no"
    target = repository(memory.host)
    assert target.put_blob(DIGEST, len(DATA), read, mount_from="team/base") == "uploaded"
    assert [seen.method for seen in memory.seen] == ["HEAD", "POST", "PUT"]


@pytest.mark.parametrize("status", [403, 404, 405])
def test_a_mount_that_is_not_allowed_falls_back(memory: MemoryRegistry, status: int) -> None:
    memory.fail_next(status, path_contains="mount=")
    target = repository(memory.host)
    assert target.put_blob(DIGEST, len(DATA), read, mount_from="team/base", known_absent=True) == "uploaded"
    assert [seen.method for seen in memory.seen] == ["POST", "POST", "PUT"]


def test_tags_come_in_pages(memory: MemoryRegistry) -> None:
    memory.tag_digests["team/x"] = {f"t{number:04}": DIGEST for number in range(2500)}
    target = repository(memory.host)
    assert len(target.list_tags()) == 2500
    assert memory.requests == 3


def test_a_huge_manifest_is_not_read_into_memory(memory: MemoryRegistry) -> None:
    memory.manifests["team/x"] = {DIGEST: (b" " * (5 << 20), MANIFEST)}
    with pytest.raises(RegistryError, match="more than"):
        repository(memory.host).get_manifest(DIGEST)


def test_a_blob_that_is_shorter_than_it_should_be_is_our_own_fault(memory: MemoryRegistry) -> None:
    target = repository(memory.host)
    with pytest.raises(RegistryError, match="ended after"):
        target.put_blob(DIGEST, len(DATA) + 1, read)
    assert [seen.method for seen in memory.seen].count("PUT") <= 1


def test_a_failure_to_read_a_blob_is_not_taken_for_one_of_the_network(memory: MemoryRegistry) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise NotFoundError("gone", hint="look elsewhere")

    target = repository(memory.host)
    with pytest.raises(NotFoundError, match="gone"):
        target.put_blob(DIGEST, len(DATA), Broken)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, AuthenticationError),
        (403, PermissionDeniedError),
        (405, RegistryError),
        (413, RegistryError),
        (418, RegistryError),
    ],
)
def test_refusals_are_told_apart(memory: MemoryRegistry, status: int, error: type[RegistryError]) -> None:
    target = repository(memory.host)
    memory.fail_next(status, times=3, method="PUT")
    with pytest.raises(error) as caught:
        target.put_manifest(b"{}", MANIFEST, "1")
    assert caught.value.hint
    assert caught.value.where


def test_proxies_are_taken_from_the_environment() -> None:
    with MemoryRegistry() as proxy:
        environment = {
            "HTTP_PROXY": proxy.host,
            "NO_PROXY": "other.example",
            "DOCKER_CONFIG": "/none",
            "MEALKIT_INSECURE_REGISTRIES": "registry.example",
        }
        target = repository("registry.example", environment=environment)
        assert target.get_manifest("1") is None
        assert proxy.seen[0].path == "http://registry.example/v2/team/x/manifests/1"


def test_a_sample_is_deterministic() -> None:
    one, two = sample({"a": b"1"}), sample({"a": b"1"})
    assert isinstance(one, Sample)
    assert one.image.digest == two.image.digest
