"""``mealkit run --kubernetes``: manifests on standard output and nothing else, images by digest, mistakes told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from workshop import Workshop

from mealkit_builder.cli import main
from mealkit_builder.testing import MemoryRegistry


@pytest.fixture(scope="module")
def memory() -> Iterator[MemoryRegistry]:
    with MemoryRegistry() as one:
        yield one


@pytest.fixture(scope="module")
def url(shop: Workshop, memory: MemoryRegistry) -> str:
    """An image by digest."""
    return shop.build(shop.recipe("clustered"), f"{memory.host}/team/clustered", tags=("stable",)).url


Fails = Callable[..., tuple[int, str]]

CLUSTER = ("run", "--kubernetes", "--dry-run")
TRAIN = ("train", "--input", "s3://shop/visits", "--model", "/data/model")


def test_manifests_are_printed_and_nothing_else(shop: Workshop, url: str) -> None:
    done = shop.mealkit(*CLUSTER, "--volume", "shop:/data", "-e", "REGION=here", "--retries", "1", url, *TRAIN)
    assert done.status == 0, done.err
    job = yaml.safe_load(done.out)
    kubernetes_validate.validate(job, "1.31", strict=True)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["image"] == url
    assert container["args"] == list(TRAIN)
    assert {"name": "REGION", "value": "here"} in container["env"]
    assert job["spec"]["backoffLimit"] == 1
    assert done.err == f"job {job['metadata']['name']}, run id {job['metadata']['name']}\n"
    assert shop.mealkit(*CLUSTER, "--volume", "shop:/data", "-e", "REGION=here", "--retries", "1", url, *TRAIN) == done


def test_a_tag_becomes_a_digest(shop: Workshop, url: str) -> None:
    done = shop.mealkit(*CLUSTER, f"{url.partition('@')[0]}:stable", *TRAIN[:3])
    job = yaml.safe_load(done.out)
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == url


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fails:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            main(arguments)
        out, err = capsys.readouterr()
        assert out == ""
        assert "hint: " in err
        return int(end.value.code or 0), err

    return run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--kubernetes",), "mealkit run --kubernetes --dry-run … | kubectl apply -f -"),
        (("--dry-run",), "add --kubernetes"),
        (("--volume", "a:/data"), "--volume is for a run on a cluster"),
        (("--retries", "3"), "--retries is for a run on a cluster"),
        (("--kubernetes", "--dry-run", "--runner", "auto"), "--runner is for a run on this machine"),
        (("--kubernetes", "--dry-run", "--network", "none"), "--network is for a run on this machine"),
        (("--kubernetes", "--dry-run", "--volume", "data"), "not a claim and a path"),
        (("--kubernetes", "--dry-run"), "does not see this machine's /data/model"),
        (("--kubernetes", "--dry-run", "-e", "DB_PASSWORD=hunter22"), "--env-from SECRET"),
        (("--kubernetes", "--dry-run", "--dask-workers", "0"), "--dask-workers"),
        (("--kubernetes", "--dry-run", "--dask-workers", "2", "--volume", "shop:/data"), "the image has no Dask"),
    ],
)
def test_mistakes_are_told(arguments: tuple[str, ...], message: str, url: str, fails: Fails) -> None:
    status, err = fails("run", *arguments, url, *TRAIN)
    assert status == 2
    assert message in err
    assert "hunter22" not in err


def test_a_secret_of_this_machine_stays_here(url: str, fails: Fails, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAREHOUSE_TOKEN", "c4nary-0123456789")
    status, err = fails(*CLUSTER, "-e", "WAREHOUSE_TOKEN", url, "describe")
    assert status == 2
    assert "at: --env WAREHOUSE_TOKEN" in err
    assert "c4nary" not in err


def test_images_that_a_cluster_cannot_have(shop: Workshop, memory: MemoryRegistry, fails: Fails) -> None:
    record = shop.build(shop.recipe("unclustered"))
    assert "mealkit push" in fails(*CLUSTER, record.url, "describe")[1]
    assert fails(*CLUSTER, f"{memory.host}/team/none:1", "describe")[0] == 7
    with MemoryRegistry() as gone:
        host = gone.host
    status, err = fails(*CLUSTER, f"{host}/team/clustered:stable", "describe")
    assert status == 75
    assert "error[unreachable]" in err
