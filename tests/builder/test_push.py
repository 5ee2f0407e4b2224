import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import BinaryIO

import pytest
from images import Sample, sample
from services import RunningRegistry, missing

from mealkit.errors import MealkitError, PermissionDeniedError
from mealkit_builder.digest import digest_bytes
from mealkit_builder.image import INDEX, MANIFEST, config_bytes, index_bytes, manifest_bytes
from mealkit_builder.platform import Platform
from mealkit_builder.progress import Moving, Silent
from mealkit_builder.pull import pull_image
from mealkit_builder.push import Moves, push_image
from mealkit_builder.reference import Reference
from mealkit_builder.registry import Repository
from mealkit_builder.target import Moved
from mealkit_builder.testing import MemoryRegistry
from mealkit_builder.transport import Transport

AMD, ARM = Platform("linux", "amd64"), Platform("linux", "arm64")


def repository(host: str, name: str = "team/x", environment: dict[str, str] | None = None) -> Repository:
    reference = Reference(host, name)
    environment = environment or {"DOCKER_CONFIG": "/nonexistent"}
    transport = Transport(reference, environment, sleep=lambda seconds: None)
    return Repository(reference, environment, push=True, transport=transport)


class Counting(Silent):
    """A reporter that adds up what it is told."""

    def __init__(self) -> None:
        self.bytes = self.awaited = self.all_layers = 0
        self.ways: Counter[str] = Counter()
        self._lock = threading.Lock()

    def expect(self, what: Moving, size: int) -> None:
        with self._lock:
            self.awaited += size

    def moved(self, what: Moving, size: int) -> None:
        with self._lock:
            self.bytes += size

    def layers(self, count: int) -> None:
        self.all_layers += count

    def layer(self, way: Moved) -> None:
        with self._lock:
            self.ways[way] += 1


def no_layer(digest: str) -> BinaryIO:
    raise AssertionError(f"{digest} was opened")


def run(*command: str) -> str:
    reason = missing(command[0])
    if reason:
        pytest.skip(reason)
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


# --- a real registry ---


@pytest.mark.registry
def test_a_push_to_a_real_registry_and_the_opinion_of_skopeo(registry: RunningRegistry, tmp_path: Path) -> None:
    one = sample({"a": b"1", "b": os.urandom(400_000)})
    target = repository(registry.host, "push/one")
    report = push_image(one.image, target, one.open_layer, tags=["1", "latest"])
    assert report.digest == one.image.digest
    assert report.url == f"{registry.host}/push/one@{one.image.digest}"
    assert report.uploaded.count == 3
    assert report.platforms == ((AMD, one.image.digest),)
    assert target.list_tags() == ("1", "latest")
    said = json.loads(run("skopeo", "inspect", "--tls-verify=false", f"docker://{registry.host}/push/one:1"))
    assert said["Digest"] == one.image.digest
    assert said["Layers"] == [layer.digest for layer in one.image.layers]
    run(
        "skopeo",
        "copy",
        "--quiet",
        "--src-tls-verify=false",
        f"docker://{registry.host}/push/one@{one.image.digest}",
        f"oci:{tmp_path}/copy:1",
    )
    index = json.loads((tmp_path / "copy" / "index.json").read_text())
    assert index["manifests"][0]["digest"] == one.image.digest
    target.close()


@pytest.mark.registry
def test_the_second_push_uploads_nothing(registry: RunningRegistry) -> None:
    one = sample({"a": b"1", "b": os.urandom(1000)})
    target = repository(registry.host, "push/again")
    push_image(one.image, target, one.open_layer, tags=["1"])
    report = push_image(one.image, target, no_layer, tags=["1"])
    assert (report.reused.count, report.uploaded, report.mounted) == (3, Moves(), Moves())
    pulled = pull_image(target, "1")
    assert pulled is not None
    begin = target.transport.requests
    push_image(one.image, target, no_layer, tags=["1"], known=pulled.known)
    assert target.transport.requests - begin == 1
    target.close()


@pytest.mark.registry
def test_one_changed_layer_takes_seven_requests(registry: RunningRegistry) -> None:
    before = sample({"a": b"1", "b": b"2", "c": b"3"})
    after = sample({"a": b"1", "b": b"2", "c": b"4"})
    first = repository(registry.host, "push/changed")
    push_image(before.image, first, before.open_layer, tags=["1"])
    first.close()
    target = repository(registry.host, "push/changed")
    known = len(registry.requests())
    pulled = pull_image(target, "1")
    assert pulled is not None
    report = push_image(after.image, target, after.open_layer, tags=["1"], known=pulled.known)
    assert report.uploaded.count == 2
    assert report.reused.count == 2
    assert target.transport.requests == 7
    methods = sorted(line.split()[0] for line in registry.requests()[known:])
    assert methods == ["GET", "GET", "POST", "POST", "PUT", "PUT", "PUT"]
    target.close()


@pytest.mark.registry
def test_two_platforms_in_a_real_registry(registry: RunningRegistry) -> None:
    arm, amd = sample({"a": b"1", "b": b"arm"}, ARM), sample({"a": b"1", "b": b"amd"}, AMD)
    target = repository(registry.host, "push/two")
    both = Sample(amd.image, {**arm.blobs, **amd.blobs})
    report = push_image([arm.image, amd.image], target, both.open_layer, tags=["1"])
    assert report.media_type == INDEX
    assert report.digest == digest_bytes(index_bytes([arm.image, amd.image]))
    assert report.uploaded.count == 5
    for platform, one in ((ARM, arm), (AMD, amd)):
        pulled = pull_image(target, "1", platform)
        assert pulled is not None
        assert pulled.image.digest == one.image.digest
    where = f"docker://{registry.host}/push/two:1"
    raw = json.loads(run("skopeo", "inspect", "--tls-verify=false", "--raw", where))
    assert [entry["platform"]["architecture"] for entry in raw["manifests"]] == ["amd64", "arm64"]
    said = json.loads(run("skopeo", "inspect", "--tls-verify=false", "--override-arch", "arm64", where))
    assert said["Architecture"] == "arm64"
    target.close()


@pytest.mark.registry
def test_blobs_that_the_registry_has_lost_are_sent_again(registry: RunningRegistry) -> None:
    one = sample({"a": b"lost", "b": os.urandom(1000)})
    target = repository(registry.host, "push/lost")
    push_image(one.image, target, one.open_layer, tags=["1"])
    pulled = pull_image(target, "1")
    assert pulled is not None
    other = repository(registry.host, "push/fresh")  # has none of the blobs, though the caller believes so
    report = push_image(one.image, other, one.open_layer, tags=["1"], known=pulled.known)
    assert report.uploaded.count == 3
    assert other.list_tags() == ("1",)
    target.close()
    other.close()


@pytest.mark.registry
def test_mounts_from_the_base_in_a_real_registry(registry: RunningRegistry) -> None:
    base = sample({"base": os.urandom(500_000)})
    first = repository(registry.host, "push/base")
    push_image(base.image, first, base.open_layer, tags=["1"])
    ours = sample({"recipe": b"x"})
    from mealkit_builder.image import append

    image = append(base.image, *ours.image.layers)
    target = repository(registry.host, "push/onbase")
    mounts = {layer.digest: "push/base" for layer in base.image.layers}
    report = push_image(image, target, ours.open_layer, tags=["1"], mount_from=mounts)
    assert (report.mounted.count, report.uploaded.count) == (1, 2)
    first.close()
    target.close()


@pytest.mark.registry
def test_a_real_registry_with_a_password(auth_registry: RunningRegistry, tmp_path: Path) -> None:
    one = sample({"a": b"1"})
    target = repository(auth_registry.host, "push/auth", auth_registry.environment(tmp_path))
    report = push_image(one.image, target, one.open_layer, tags=["1"])
    assert target.get_manifest("1") is not None
    login = f"{auth_registry.username}:{auth_registry.password}"
    said = run(
        "skopeo", "inspect", "--tls-verify=false", "--creds", login, f"docker://{auth_registry.host}/push/auth:1"
    )
    assert json.loads(said)["Digest"] == report.digest
    target.close()


_PUSH_AND_HANG = r"""
import io, os, sys, time
from mealkit_builder.push import push_image
from mealkit_builder.reference import Reference
from mealkit_builder.registry import Repository
from images import sample

one = sample({"a": b"interrupted", "b": os.urandom(3 << 20)})

class Slow(io.BytesIO):
    def read(self, size=-1):
        os.write(1, b"reading\n")
        time.sleep(0.5)
        return super().read(min(size, 1 << 16))

target = Repository(Reference(sys.argv[1], sys.argv[2]))
push_image(one.image, target, lambda digest: Slow(one.blobs[digest]), tags=["1"])
"""


@pytest.mark.registry
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_push_leaves_no_tag(registry: RunningRegistry, sent: signal.Signals) -> None:
    name = f"push/killed-{sent.name.lower()}"
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    with subprocess.Popen(
        [sys.executable, "-c", _PUSH_AND_HANG, registry.host, name],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=dict(os.environ) | {"PYTHONPATH": paths},
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"reading\n"
            process.send_signal(sent)
            if sent == signal.SIGINT:
                time.sleep(0.2)
        finally:
            process.kill()
            process.wait(10)
    target = repository(registry.host, name)
    assert target.list_tags() == ()
    assert target.get_manifest("1") is None
    target.close()


# --- faults ---


@pytest.mark.parametrize("failure", [500, 429, "reset"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_push_survives_passing_faults(failure: int, times: int) -> None:
    one = sample({"a": b"1", "b": os.urandom(1000)})
    with MemoryRegistry() as memory:
        target = repository(memory.host)
        memory.fail_next(failure, times=times, method="PUT", path_contains="manifests")
        memory.fail_next(failure, times=times, method="POST")
        push_image(one.image, target, one.open_layer, tags=["1"])
        assert memory.tags("team/x") == {"1"}
        target.close()


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT"])
def test_a_push_that_fails_writes_no_manifest(method: str) -> None:
    one = sample({f"file{number}": os.urandom(500) for number in range(12)})
    with MemoryRegistry() as memory:
        target = repository(memory.host)
        memory.fail_next(500, times=99, method=method)
        with pytest.raises(MealkitError) as caught:
            push_image(one.image, target, one.open_layer, tags=["1"])
        assert caught.value.retryable
        assert memory.tags("team/x") == set()
        assert memory.manifests == {}
        target.close()


def test_a_failure_ends_the_other_uploads() -> None:
    """A refused blob must not wait for gigabytes that are on their way beside it."""
    one = sample({"small": b"1", "big": os.urandom(6 << 20)})
    read = 0

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            nonlocal read
            time.sleep(0.05)
            block = super().read(1 << 16)
            read += len(block)
            return block

    def open_layer(digest: str) -> BinaryIO:
        return Slow(one.blobs[digest]) if digest == one.image.layers[1].digest else one.open_layer(digest)

    with MemoryRegistry() as memory:
        target = repository(memory.host)
        memory.fail_next(403, times=1, path_contains=digest_bytes(config_bytes(one.image)))
        with pytest.raises(PermissionDeniedError):
            push_image(one.image, target, open_layer, tags=["1"])
        assert read < 3 << 20
        assert memory.tags("team/x") == set()
        target.close()


def test_a_forbidden_repository(tmp_path: Path) -> None:
    one = sample({"a": b"1"})
    with MemoryRegistry(users={"ada": "p"}, readers=["ada"]) as memory:
        environment = RunningRegistry(memory.host, tmp_path, 0, "ada", "p").environment(tmp_path)
        target = repository(memory.host, "secret/repository", environment)
        with pytest.raises(PermissionDeniedError) as caught:
            push_image(one.image, target, one.open_layer, tags=["1"])
        assert caught.value.hint == "ask for push rights, or set another repository="
        assert memory.blobs == {}
        target.close()


def test_blobs_go_side_by_side_on_few_connections() -> None:
    one = sample({f"file{number}": os.urandom(50_000) for number in range(20)})
    busy, most, lock = 0, 0, threading.Lock()

    class Slow(io.BytesIO):
        def __init__(self, data: bytes) -> None:
            super().__init__(data)
            nonlocal busy, most
            with lock:
                busy += 1
                most = max(most, busy)
            time.sleep(0.01)

        def close(self) -> None:
            nonlocal busy
            if not self.closed:
                with lock:
                    busy -= 1
            super().close()

    with MemoryRegistry() as memory:
        target = repository(memory.host)
        counted = Counting()
        push_image(one.image, target, lambda digest: Slow(one.blobs[digest]), tags=["1"], reporter=counted)
        assert 2 <= most <= 4
        sent = sum(len(data) for data in memory.blobs["team/x"].values())
        assert (counted.bytes, counted.awaited) == (sent, sent)
        assert (counted.ways, counted.all_layers) == ({"uploaded": 20}, 20)
        target.close()


def test_a_push_without_tags_is_by_digest() -> None:
    one = sample({"a": b"1"})
    with MemoryRegistry() as memory:
        target = repository(memory.host)
        report = push_image(one.image, target, one.open_layer)
        assert report.tags == ()
        assert memory.tags("team/x") == set()
        assert memory.manifests["team/x"].keys() == {one.image.digest}
        assert target.get_manifest(report.digest) == (manifest_bytes(one.image), MANIFEST, report.digest)
        target.close()


def test_a_layer_of_two_images_is_sent_once() -> None:
    arm, amd = sample({"a": b"1"}, ARM), sample({"a": b"1"}, AMD)
    opened: list[str] = []

    def open_layer(digest: str) -> BinaryIO:
        opened.append(digest)
        return arm.open_layer(digest)

    with MemoryRegistry() as memory:
        target = repository(memory.host)
        push_image([arm.image, amd.image], target, open_layer, tags=["1"])
        assert len(opened) == 1
        target.close()


def test_a_push_of_nothing_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="no image"):
        push_image([], repository("x.io"), no_layer)


def test_importing_what_pushes_imports_no_http_client() -> None:
    """A push to a folder, and a command's --help, must not pay for urllib3."""
    modules = "mealkit_builder.push, mealkit_builder.pull, mealkit_builder.registry, mealkit_builder.layout"
    assert run(sys.executable, "-c", f"import sys, {modules}; print('urllib3' in sys.modules)") == "False\n"


def test_docker_is_told_apart_from_a_missing_program() -> None:
    assert missing("no-such-program-at-all") == "the program no-such-program-at-all is not installed"
    assert (missing("skopeo") is None) == (shutil.which("skopeo") is not None)
