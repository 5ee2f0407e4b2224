"""Silence is noticed, thin lines are not taken for it, and leaving a registry does not wait for it."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.proxy import FaultProxy
from faults.storage import Storage
from images import sample
from services import RunningRegistry

from mealkit.errors import PermissionDeniedError, Stopped, UnreachableError
from mealkit_builder import transport
from mealkit_builder.digest import digest_bytes
from mealkit_builder.location import open_location
from mealkit_builder.push import push_image
from mealkit_builder.reference import Reference
from mealkit_builder.registry import Repository
from mealkit_builder.testing import MemoryRegistry

pytestmark = pytest.mark.registry

DATA = os.urandom(300_000)
DIGEST = digest_bytes(DATA)


@pytest.fixture
def proxy(registry: RunningRegistry) -> Iterator[FaultProxy]:
    with FaultProxy(registry.host) as proxy:
        yield proxy


def repository(host: str, name: str) -> Repository:
    reference = Reference(host, name)
    spoken = transport.Transport(reference, {}, sleep=lambda seconds: None)
    return Repository(reference, {}, push=True, transport=spoken)


def put(target: Repository, data: bytes = DATA) -> None:
    target.put_blob(digest_bytes(data), len(data), lambda: io.BytesIO(data))


def test_a_silent_host_is_noticed_within_thirty_seconds() -> None:
    assert transport.CONNECT_SECONDS + transport.STALL_SECONDS <= 30


@pytest.mark.parametrize(("method", "fault"), [("HEAD", "hang"), ("POST", "hang"), ("PUT", "hang")])
def test_a_registry_that_has_answered_is_asked_again(
    proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, method: str, fault: str
) -> None:
    monkeypatch.setattr(transport, "STALL_SECONDS", 2.0)
    target = repository(proxy.host, f"silence/{method.lower()}")
    assert not target.has_blob(digest_bytes(b"other"))
    proxy.script(method, "/blobs/", fault)
    begin = time.monotonic()
    put(target)
    assert 2 <= time.monotonic() - begin < 20
    target.close()


def test_one_that_never_answered_is_not(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "STALL_SECONDS", 0.5)
    target = repository(proxy.host, "silence/never")
    proxy.script("", "", *["hang"] * 9)
    with pytest.raises(UnreachableError, match=r"gave no answer for 0\.5 s"):
        target.get_manifest("1")
    assert len(proxy.requests) == 1
    target.close()


def test_an_upload_that_nobody_takes(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "STALL_SECONDS", 2.0)
    proxy.slow_rate = 1000
    target = repository(proxy.host, "silence/taken")
    data = bytes(16 << 20)  # more than the kernels on the way hold
    proxy.script("PUT", "digest=", *["slow"] * 9)
    with pytest.raises(UnreachableError, match=f"cannot upload {digest_bytes(data)}: .* gave no answer"):
        put(target, data)
    target.close()


def test_a_thin_line_is_not_a_dead_one(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "CONNECT_SECONDS", 0.3)
    monkeypatch.setattr(transport, "STALL_SECONDS", 3.0)
    proxy.slow_rate = 500_000
    data = os.urandom(1_500_000)
    target = repository(proxy.host, "silence/thin")
    proxy.script("PUT", "digest=", "slow")
    begin = time.monotonic()
    put(target, data)
    assert time.monotonic() - begin > 2
    assert [request.method for request in proxy.requests] == ["HEAD", "POST", "PUT"]
    target.close()


def test_a_layer_is_read_on_where_it_stopped(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "STALL_SECONDS", 2.0)
    target = repository(proxy.host, "silence/read")
    put(target)
    proxy.restart(proxy.plan)
    proxy.script("GET", "/blobs/", "hang-answer", "cut-answer")
    with target.open_blob(DIGEST) as file:
        assert file.read() == DATA
    assert [request.fault for request in proxy.requests] == ["hang-answer", "cut-answer", ""]
    target.close()


# --- leaving ---


def test_a_refused_blob_does_not_wait_for_one_that_hangs(proxy: FaultProxy) -> None:
    """With the shipped patience of 25 s: the error must not wait for it."""
    one = sample({"hangs": os.urandom(300_000), "refused": os.urandom(200_000)})
    first, second = sorted(one.image.layers, key=lambda layer: -layer.size)
    proxy.script("PUT", first.digest.removeprefix("sha256:"), "hang")
    target = repository(proxy.host, "silence/refused")

    def open_layer(digest: str) -> io.BytesIO:
        if digest == second.digest:
            deadline = time.monotonic() + 10
            while not any(request.fault == "hang" for request in proxy.seen()) and time.monotonic() < deadline:
                time.sleep(0.01)
            raise PermissionDeniedError("not this one", hint="none")
        return io.BytesIO(one.blobs[digest])

    begin = time.monotonic()
    with pytest.raises(PermissionDeniedError):
        push_image(one.image, target, open_layer, tags=["1"])
    assert time.monotonic() - begin < 15
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mealkit-push")]
    target.close()


def test_closing_ends_a_request_and_a_pause_of_another_thread(proxy: FaultProxy) -> None:
    for fault in ("hang", "busy"):
        reference = Reference(proxy.host, "silence/closed")
        target = Repository(reference, {})
        proxy.retry_after = "20"
        proxy.script("HEAD", "", fault)
        errors: list[Exception] = []

        def ask(target: Repository = target, errors: list[Exception] = errors) -> None:
            try:
                target.has_blob(DIGEST)
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=ask)
        came = len(proxy.seen())
        thread.start()
        deadline = time.monotonic() + 10
        while len(proxy.seen()) == came and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)  # the answer of "busy" is on its way
        target.close()
        thread.join(10)
        assert not thread.is_alive()
        assert isinstance(errors[0], Stopped), errors
        assert not target.has_blob(DIGEST)  # it can be used again
        target.close()


def test_control_c_ends_a_push_at_once_and_leaves_no_tag(
    proxy: FaultProxy, registry: RunningRegistry, tmp_path: Path
) -> None:
    one = sample({f"file{number}": os.urandom(300_000) for number in range(4)})
    layout, _ = open_location(f"oci:{tmp_path}/images", {}, push=True)
    push_image(one.image, layout, one.open_layer, tags=["1"])
    proxy.script("PUT", "digest=", *["hang"] * 9)
    command = [str(Path(sys.executable).with_name("mealkit")), "push", f"oci:{tmp_path}/images:1"]
    with subprocess.Popen(
        [*command, "--to", f"{proxy.host}/silence/control-c:1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        deadline = time.monotonic() + 30
        while not any(request.fault for request in proxy.seen()) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        begin = time.monotonic()
        _, told = process.communicate(timeout=60)
        assert time.monotonic() - begin < 15  # and not the 25 s of a silence
    assert process.returncode == 130
    assert told.split() == [b"stopped"]
    assert Storage(registry.folder).tags("silence/control-c") == {}


def test_no_thread_of_a_push_is_left() -> None:
    one = sample({f"file{number}": os.urandom(1000) for number in range(8)})
    with MemoryRegistry() as memory:
        memory.fail_next(403, times=1, method="PUT")
        target = repository(memory.host, "x/y")
        with pytest.raises(PermissionDeniedError):
            push_image(one.image, target, one.open_layer, tags=["1"])
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("mealkit-")]
        target.close()
