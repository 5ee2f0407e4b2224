"""Each fault by itself, on chosen requests to a real registry: what mealkit does, request by request."""

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.proxy import FAILING, FAULTS, FaultProxy, can_meet
from faults.storage import Storage
from images import sample
from services import RunningRegistry

from mealkit.errors import RegistryError, RetryableError
from mealkit_builder.digest import digest_bytes
from mealkit_builder.image import MANIFEST
from mealkit_builder.push import push_image
from mealkit_builder.reference import Reference
from mealkit_builder.registry import Repository
from mealkit_builder.transport import TRIES, Transport

pytestmark = pytest.mark.registry


@pytest.fixture
def proxy(registry: RunningRegistry) -> Iterator[FaultProxy]:
    with FaultProxy(registry.host) as proxy:
        yield proxy


def repository(proxy: FaultProxy, name: str) -> Repository:
    reference = Reference(proxy.host, name)
    transport = Transport(reference, {"DOCKER_CONFIG": "/nonexistent"}, sleep=lambda seconds: None)
    return Repository(reference, {}, push=True, transport=transport)


def asked(proxy: FaultProxy) -> list[str]:
    """The requests so far: the method, or what an upload's begin is, and the fault that it met."""
    return [f"{request.method} {request.fault}".strip() for request in proxy.requests]


QUICK = sorted(FAILING - {"hang", "hang-answer", "cut-head"})


@pytest.mark.parametrize("fault", QUICK)
@pytest.mark.parametrize(("method", "contains"), [("HEAD", "/blobs/"), ("POST", "/uploads/"), ("PUT", "digest=")])
def test_a_blob_survives_a_fault_that_passes(
    proxy: FaultProxy, registry: RunningRegistry, fault: str, method: str, contains: str
) -> None:
    if (fault == "midway" or "within" in fault or "request" in fault) and method != "PUT":
        return  # these need a body, or an upload's bytes
    data = os.urandom(300_000)
    digest = digest_bytes(data)
    target = repository(proxy, f"each/{fault}")
    proxy.script(method, contains, fault, fault)
    moved: list[int] = []
    assert target.put_blob(digest, len(data), lambda: io.BytesIO(data), progress=moved.append) == "uploaded"
    target.close()
    assert Storage(registry.folder).has_blob(f"each/{fault}", digest)
    assert sum(moved) == len(data)
    assert proxy.longest_run()[0] <= TRIES


@pytest.mark.parametrize("fault", ["reset-after", "lost"])
def test_a_blob_whose_answer_was_lost_is_not_sent_again(proxy: FaultProxy, fault: str) -> None:
    data = os.urandom(300_000)
    target = repository(proxy, f"answer/{fault}")
    proxy.script("PUT", "digest=", fault)
    assert target.put_blob(digest_bytes(data), len(data), lambda: io.BytesIO(data)) == "uploaded"
    target.close()
    assert asked(proxy) == ["HEAD", "POST", f"PUT {fault}", "HEAD"]


@pytest.mark.parametrize("fault", ["status", "cut-request", "midway"])
def test_three_tries_then_an_error_that_names_the_blob(
    proxy: FaultProxy, registry: RunningRegistry, fault: str
) -> None:
    data = os.urandom(300_000)
    digest = digest_bytes(data)
    target = repository(proxy, "names/blob")
    proxy.script("PUT", "digest=", *[fault] * 9)
    with pytest.raises(RetryableError, match=f"cannot upload {digest}: ") as caught:
        target.put_blob(digest, len(data), lambda: io.BytesIO(data))
    target.close()
    assert [request.method for request in proxy.requests].count("PUT") == TRIES
    assert [request.method for request in proxy.requests].count("POST") == TRIES
    assert caught.value.where == f"{proxy.host}/names/blob@{digest}"
    assert caught.value.hint == "run the same command again: it sends only what is not there yet"
    assert not Storage(registry.folder).has_blob("names/blob", digest)


def test_opening_an_upload_has_three_tries_and_not_nine(proxy: FaultProxy) -> None:
    target = repository(proxy, "names/post")
    proxy.script("POST", "", *["status"] * 20)
    with pytest.raises(RetryableError, match="cannot upload sha256:"):
        target.put_blob(digest_bytes(b"x"), 1, lambda: io.BytesIO(b"x"), known_absent=True)
    target.close()
    assert asked(proxy) == ["POST status"] * TRIES


@pytest.mark.parametrize("fault", QUICK)
def test_a_manifest_that_cannot_be_written_leaves_the_tag(
    proxy: FaultProxy, registry: RunningRegistry, fault: str
) -> None:
    if fault == "midway":
        return  # it is about uploads
    name = f"manifest/{fault}"
    old, new = sample({"a": b"old"}), sample({"a": b"new"})
    target = repository(proxy, name)
    push_image(old.image, target, old.open_layer, tags=["1"])
    proxy.script("PUT", "/manifests/", *[fault] * TRIES)
    with pytest.raises(RetryableError, match=f"cannot write {proxy.host}/{name}:1: "):
        push_image(new.image, target, new.open_layer, tags=["1"])
    storage = Storage(registry.folder)
    assert storage.problems(name) == []
    done = fault in ("reset-after", "lost", "cut-answer")  # the registry did it, and nobody could know
    assert storage.tags(name) == {"1": new.image.digest if done else old.image.digest}
    push_image(new.image, target, new.open_layer, tags=["1"])
    target.close()
    assert storage.tags(name) == {"1": new.image.digest}


def test_a_mount_that_was_not_done_becomes_an_upload(proxy: FaultProxy, registry: RunningRegistry) -> None:
    one = sample({"a": os.urandom(1000)})
    target = repository(proxy, "mount/phantom")
    source = repository(proxy, "mount/source")
    push_image(one.image, source, one.open_layer, tags=["1"])
    layer = one.image.layers[0]
    proxy.script("POST", "mount=", "phantom")
    moved = target.put_blob(layer.digest, layer.size, lambda: one.open_layer(layer.digest), mount_from="mount/source")
    assert moved == "uploaded"
    assert Storage(registry.folder).has_blob("mount/phantom", layer.digest)
    other = repository(proxy, "mount/failed")
    proxy.script("POST", "mount=", *["status"] * TRIES)  # a mount only spares an upload: it may fail
    moved = other.put_blob(layer.digest, layer.size, lambda: one.open_layer(layer.digest), mount_from="mount/source")
    assert moved == "uploaded"
    for one_of in (target, source, other):
        one_of.close()


def test_answers_that_come_twice_are_not_taken_for_others(proxy: FaultProxy, registry: RunningRegistry) -> None:
    one = sample({f"file{number}": os.urandom(300_000) for number in range(4)})
    target = repository(proxy, "twice/all")
    proxy.plan = lambda request: "twice"
    report = push_image(one.image, target, one.open_layer, tags=["1", "2"])
    target.close()
    storage = Storage(registry.folder)
    assert report.uploaded.count == 5
    assert storage.problems("twice/all") == []
    assert storage.tags("twice/all") == {"1": one.image.digest, "2": one.image.digest}


def test_answers_about_another_blob_are_not_believed(registry: RunningRegistry) -> None:
    """As behind a proxy whose answers are shifted by one: not the status counts, but what it is about."""
    from mealkit_builder.transport import Reply

    asked_for, other = (digest_bytes(text) for text in (b"asked", b"other"))
    target = Repository(Reference(registry.host, "shifted/x"), {})
    replies = 0

    def send(method: str, url: str, **ignored: object) -> Reply:
        nonlocal replies
        replies += 1
        status = {"HEAD": 200, "PUT": 201, "GET": 200}[method]
        return Reply(status, {"Docker-Content-Digest": other}, b"other", url)

    target.transport.send = send  # type: ignore[method-assign]
    target.transport._sleep = lambda seconds: None
    for doing in (
        lambda: target.has_blob(asked_for),
        lambda: target.get_blob(asked_for),
        lambda: target.get_manifest(asked_for),
        lambda: target.put_manifest(b"asked", MANIFEST, "1"),
    ):
        replies = 0
        with pytest.raises(RegistryError):
            doing()
        assert replies == TRIES
    target.close()


def test_another_host_gets_the_bytes_and_no_credential(auth_registry: RunningRegistry, tmp_path: Path) -> None:
    one = sample({"a": os.urandom(300_000)})
    layer = one.image.layers[0]
    basic = "Basic YWRhOmNvcnJlY3QgaG9yc2U="
    with FaultProxy(auth_registry.host, storage_authorization=basic) as proxy:
        login = RunningRegistry(proxy.host, tmp_path, 0, auth_registry.username, auth_registry.password)
        reference, environment = Reference(proxy.host, "elsewhere/x"), login.environment(tmp_path)
        target = Repository(reference, environment, push=True)
        proxy.plan = lambda one: "elsewhere" if one.authorization and can_meet(one, "elsewhere") else ""
        push_image(one.image, target, one.open_layer, tags=["1"])
        with target.open_blob(layer.digest) as file:
            assert digest_bytes(file.read()) == layer.digest
        target.close()
        came = proxy.seen("elsewhere")
        assert sorted(request.method for request in came) == ["GET", "PUT", "PUT"]
        assert {request.authorization for request in came} == {""}
        assert basic in {request.authorization for request in proxy.seen()}


def test_the_table_of_the_documentation_names_every_fault() -> None:
    page = Path(__file__).parents[2] / "docs" / "concepts" / "registry.md"
    text = page.read_text(encoding="utf-8")
    for name, what in FAULTS.items():
        assert f"| `{name}` | {what} |" in text, name
