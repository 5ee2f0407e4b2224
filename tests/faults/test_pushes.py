"""Five hundred pushes to a real registry, through a proxy that breaks a share of the requests."""

import base64
import json
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from faults.proxy import FAULTS, FaultProxy, Seeded
from faults.storage import Storage
from faults.workload import Push, Workload
from services import RunningRegistry, missing

from mealkit.errors import MealkitError, RetryableError
from mealkit_builder.pull import pull_image
from mealkit_builder.push import push_image
from mealkit_builder.reference import Reference
from mealkit_builder.registry import Repository
from mealkit_builder.transport import Transport

PUSHES = 250  # for each rate

WEIGHTS = {  # what hangs costs time
    "status": 8, "busy": 6, "reset-before": 6, "reset-within": 6, "reset-after": 6, "lost": 6, "cut-request": 6,
    "cut-answer": 6, "cut-head": 6, "slow": 2, "drip": 4, "hang": 1, "hang-answer": 1, "twice": 6, "midway": 8,
    "phantom": 12, "elsewhere": 8,
}  # fmt: skip


def repository(host: str, name: str, environment: dict[str, str]) -> Repository:
    """As a build opens one, but without the pauses between tries."""
    reference = Reference(host, name)
    transport = Transport(reference, environment, sleep=lambda seconds: None)
    return Repository(reference, environment, push=True, transport=transport)


def push(one: Push, target: Repository) -> str:
    """As a build does: read the last image, send what it lacks."""
    previous = pull_image(target, one.tags[0])
    known = previous.known if previous else frozenset()
    report = push_image(one.image, target, one.open_layer, tags=one.tags, known=known, mount_from=one.mounts)
    return report.digest


@pytest.mark.registry
@pytest.mark.parametrize(("rate", "failures"), [(0.05, PUSHES // 100), (0.2, PUSHES)])
def test_pushes_through_faults(
    auth_registry: RunningRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: float, failures: int
) -> None:
    monkeypatch.setattr("mealkit_builder.transport.STALL_SECONDS", 2.0)
    storage = Storage(auth_registry.folder)
    work = Workload(seed=3, prefix=f"faults{rate}")
    login = f"{auth_registry.username}:{auth_registry.password}"
    basic = "Basic " + base64.b64encode(login.encode()).decode()
    met: Counter[str] = Counter()
    failed: list[MealkitError] = []
    with FaultProxy(auth_registry.host, storage_authorization=basic, slow_rate=8 << 20) as proxy:
        environment = RunningRegistry(proxy.host, tmp_path, 0, *login.split(":")).environment(tmp_path)
        for number in range(PUSHES):
            one = work.next()
            before = storage.tags(one.repository)
            proxy.restart(Seeded(f"{rate}/{number}", rate, WEIGHTS))
            target = repository(proxy.host, one.repository, environment)
            try:
                assert push(one, target) == one.image.digest
                for tag in one.tags:
                    assert storage.tags(one.repository)[tag] == one.image.digest
            except RetryableError as error:
                failed.append(error)
            finally:
                target.close()
            # No tag whose blobs are missing or damaged, and no tag that this push had no business with.
            assert storage.problems(one.repository) == []
            for tag, digest in storage.tags(one.repository).items():
                assert digest in {one.image.digest if tag in one.tags else "", before.get(tag)}
            tries, key = proxy.longest_run()
            assert tries <= 3, key
            assert all(request.authorization in ("", basic) for request in proxy.seen())
            assert [request.authorization for request in proxy.seen("elsewhere") if request.authorization] == []
            met.update(request.fault for request in proxy.requests)
    for error in failed:  # each names the blob or the manifest, and says what to do
        assert error.message.startswith("cannot "), error.render()
        assert "sha256:" in error.message or work.prefix in error.message, error.render()
        assert error.hint
    assert len(failed) <= failures, [error.render() for error in failed]
    assert len(failed) < PUSHES / 5
    assert set(WEIGHTS) <= set(met)  # each fault was met, and about as many as the rate says
    assert 0.7 * rate < 1 - met[""] / met.total() < 1.3 * rate
    _ask_skopeo(auth_registry, storage, work, login)


def _ask_skopeo(registry: RunningRegistry, storage: Storage, work: Workload, login: str) -> None:
    """An image that mealkit pushed, read and checked by another program."""
    reason = missing("skopeo")
    if reason:
        pytest.skip(reason)
    for name in work.repositories[:2]:
        tag, digest = sorted(storage.tags(name).items())[0]
        folder, place = registry.folder / "skopeo" / name, f"docker://{registry.host}/{name}:{tag}"
        folder.mkdir(parents=True)
        subprocess.run(
            [
                "skopeo",
                "copy",
                "-q",
                "--preserve-digests",
                "--src-tls-verify=false",
                "--src-creds",
                login,
                place,
                f"oci:{folder}:1",
            ],
            check=True,
            timeout=60,
            capture_output=True,
        )
        assert json.loads((folder / "index.json").read_text())["manifests"][0]["digest"] == digest


def test_the_same_seed_breaks_the_same_requests(auth_registry: RunningRegistry, tmp_path: Path) -> None:
    def run(seed: int) -> list[tuple[str, str]]:
        one = Workload(seed=1, prefix="same").next()
        with FaultProxy(auth_registry.host, Seeded(seed, 0.3, WEIGHTS)) as proxy:
            target = repository(proxy.host, one.repository, {})
            for reference in "abcdefgh":
                try:
                    target.get_manifest(reference)
                except MealkitError:
                    continue
            target.close()
            return [(request.key, request.fault) for request in proxy.requests]

    assert run(1) == run(1) != run(2)
    assert set(WEIGHTS) <= set(FAULTS)
