"""Reading images through faults: never a wrong byte, and what broke is read on where it broke."""

import io
import os
import random
from collections import Counter

import pytest
from faults.proxy import FaultProxy, Request, Seeded, can_meet
from images import sample
from services import RunningRegistry

from mealkit.errors import NotFoundError, RegistryError, RetryableError
from mealkit_builder.digest import digest_bytes
from mealkit_builder.pull import pull_image
from mealkit_builder.push import push_image
from mealkit_builder.reference import Reference
from mealkit_builder.registry import Repository
from mealkit_builder.testing import MemoryRegistry
from mealkit_builder.transport import Transport

PULLS = 60
WEIGHTS = {
    "status": 2, "busy": 1, "reset-before": 1, "reset-after": 1, "lost": 1, "cut-answer": 6, "cut-head": 2, "drip": 2,
    "twice": 2, "elsewhere": 4,
}  # fmt: skip


def repository(host: str, name: str) -> Repository:
    reference = Reference(host, name)
    return Repository(reference, {}, transport=Transport(reference, {}, sleep=lambda seconds: None))


@pytest.mark.registry
@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_never_a_wrong_byte(registry: RunningRegistry, rate: float) -> None:
    """Manifest, config and layers, as a build reads its base."""
    chance = random.Random(5)
    one = sample({f"file{number}": chance.randbytes(size) for number, size in enumerate((10, 40_000, 300_000))})
    target = repository(registry.host, "pulls/base")
    push_image(one.image, target, one.open_layer, tags=["1"])
    target.close()
    ended: Counter[str] = Counter()
    with FaultProxy(registry.host) as proxy:
        for number in range(PULLS):
            proxy.restart(Seeded(f"pull/{rate}/{number}", rate, WEIGHTS))
            source = repository(proxy.host, "pulls/base")
            try:
                pulled = pull_image(source, "1")
                assert pulled is not None
                assert pulled.digest == one.image.digest
                for layer in one.image.layers:
                    with source.open_blob(layer.digest) as file:
                        assert file.read() == one.blobs[layer.digest]
                ended["whole"] += 1
            except RetryableError as error:
                ended["failed"] += bool(error.hint)
            finally:
                source.close()
            assert all(not request.authorization for request in proxy.seen("elsewhere"))
            assert proxy.longest_run()[0] <= 3
    assert ended.total() == PULLS
    assert ended["failed"] <= (1 if rate < 0.1 else PULLS // 3), ended


@pytest.mark.registry
def test_a_broken_layer_is_asked_for_by_ranges(registry: RunningRegistry) -> None:
    data = os.urandom(1_000_000)
    digest = digest_bytes(data)
    with FaultProxy(registry.host) as proxy:
        target = repository(proxy.host, "pulls/ranges")
        target.put_blob(digest, len(data), lambda: io.BytesIO(data))
        proxy.restart(proxy.plan)
        proxy.script("GET", "", "cut-answer", "cut-answer")
        with target.open_blob(digest) as file:
            assert file.read() == data
        target.close()
        assert len(proxy.requests) == 3


def test_a_registry_that_knows_no_ranges_or_sends_another() -> None:
    data = os.urandom(300_000)
    digest = digest_bytes(data)
    with MemoryRegistry() as memory, FaultProxy(memory.host) as proxy:
        memory.blobs["team/x"] = {digest: data}
        target = repository(proxy.host, "team/x")

        for begin in (0, 10_000):
            original = target.transport.request

            def request(*args: object, begin: int = begin, original: object = original, **more: object) -> object:
                headers = dict(more.get("headers") or {})  # type: ignore[call-overload]
                if "Range" in headers:
                    headers["Range"] = f"bytes={begin}-" if begin else "bytes"
                return original(*args, **(more | {"headers": headers}))  # type: ignore[operator]

            target.transport.request = request  # type: ignore[assignment, method-assign]
            proxy.script("GET", "", "cut-answer")
            with target.open_blob(digest) as file:
                assert file.read() == data
            target.transport.request = original  # type: ignore[method-assign]
        target.close()


def test_a_blob_that_is_not_there_is_not_asked_for_again() -> None:
    with MemoryRegistry() as memory:
        target = repository(memory.host, "team/x")
        with pytest.raises(NotFoundError):
            target.open_blob("sha256:" + "0" * 64)
        assert memory.requests == 1
        target.close()


def test_bytes_that_are_changed_on_the_way_are_refused_after_three_tries() -> None:
    digest = digest_bytes(b"what was asked for")
    with MemoryRegistry() as memory:
        memory.blobs["team/x"] = {digest: b"what came instead!"}
        target = repository(memory.host, "team/x")
        with pytest.raises(RegistryError, match="do not have its digest"):
            target.get_blob(digest)
        assert memory.requests == 3
        target.close()


def test_the_plan_respects_what_a_request_can_meet() -> None:
    get = Request(0, "GET", "/v2/x/blobs/sha256:0", "GET /v2/x/blobs/sha256:0", 0, "registry", "", 0)
    assert can_meet(get, "elsewhere")
    assert not can_meet(get, "midway")
    assert not can_meet(get, "cut-request")
