"""Running an image: arguments and mounts, in a container, and by the process runner."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mealkit.errors import EngineError, NotFoundError, RegistryError, StorageError, UnreadableDataError, UsageError
from mealkit_builder import process
from mealkit_builder.container import LABEL, RunOptions, run_image
from mealkit_builder.digest import digest_bytes
from mealkit_builder.engine import engine_available
from mealkit_builder.layer import Layer
from mealkit_builder.mounts import make_outputs, plan_mounts
from mealkit_builder.process import run_process
from mealkit_builder.rootfs import inside, unpack_layer

Run = Callable[..., int]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with an input file."""
    (tmp_path / "in.csv").write_text("a,b\n")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/1.csv").write_text("a\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


class TestMounts:
    def test_inputs_and_outputs(self, folder: Path) -> None:
        arguments = ["--input", "in.csv", "--input", "products=parts", "--model=m", "--output", "out", "--result",
                     "res/r.json", "--set", "a=b", "--seed", "3"]  # fmt: skip
        mounted = plan_mounts("score", [part if part != "--model=m" else "--model=parts" for part in arguments], folder)
        assert mounted.arguments == (
            "--input", "/mnt/mealkit/input/0/in.csv", "--input", "products=/mnt/mealkit/input/1/parts",
            "--model", "/mnt/mealkit/input/1/parts", "--output", "/mnt/mealkit/output/2/out",
            "--result", "/mnt/mealkit/output/3/res/r.json", "--set", "a=b", "--seed", "3",
        )  # fmt: skip
        assert [(mount.source, mount.read_only, mount.folder) for mount in mounted.mounts] == [
            (folder / "in.csv", True, False), (folder / "parts", True, True), (folder / "out", False, True),
            (folder / "res", False, True),
        ]  # fmt: skip
        make_outputs(mounted.mounts)
        assert (folder / "out").is_dir()
        assert (folder / "res").is_dir()

    def test_train_writes_its_model(self, folder: Path) -> None:
        (mount,) = plan_mounts("train", ["--model", "model"], folder).mounts
        assert not mount.read_only
        with pytest.raises(UnreadableDataError):
            plan_mounts("score", ["--model", "model"], folder)

    def test_train_goes_on(self, folder: Path) -> None:
        arguments = [
            "--checkpoint-dir",
            "state",
            "--resume",
            "--warm-start",
            "parts",
            "--trial-storage",
            "shared/study",
        ]
        mounted = plan_mounts("train", arguments, folder)
        assert mounted.arguments == (
            "--checkpoint-dir", "/mnt/mealkit/output/0/state", "--resume", "--warm-start", "/mnt/mealkit/input/1/parts",
            "--trial-storage", "/mnt/mealkit/output/2/shared/study",
        )  # fmt: skip
        assert [(mount.source, mount.read_only) for mount in mounted.mounts] == [
            (folder / "state", False), (folder / "parts", True), (folder / "shared", False),
        ]  # fmt: skip
        database = ["--trial-storage", "postgresql://host/trials"]
        assert plan_mounts("train", database, folder).arguments == tuple(database)

    def test_bad_rows_are_kept(self, folder: Path) -> None:
        mounted = plan_mounts("evaluate", ["--on-bad-rows", "quarantine", "--quarantine", "bad"], folder)
        assert mounted.arguments[-1] == "/mnt/mealkit/output/0/bad"
        assert [(mount.source, mount.read_only) for mount in mounted.mounts] == [(folder / "bad", False)]

    def test_glob_brings_its_folder(self, folder: Path) -> None:
        mounted = plan_mounts("train", ["--input", "parts/*.csv"], folder)
        assert mounted.arguments == ("--input", "/mnt/mealkit/input/0/parts/*.csv")
        assert mounted.mounts[0].source == folder / "parts"

    def test_uris_stay(self, folder: Path) -> None:
        mounted = plan_mounts("train", ["--input", "s3://bucket/key", "--input", f"file://{folder}/in.csv"], folder)
        assert mounted.arguments[:2] == ("--input", "s3://bucket/key")
        assert mounted.arguments[3] == "/mnt/mealkit/input/0/in.csv"

    def test_delta_tables(self, folder: Path) -> None:
        for value, within in (
            ("delta:parts", "delta:/mnt/mealkit/input/0/parts"),
            ("parts@v3", "/mnt/mealkit/input/0/parts@v3"),
            ("delta:parts@2026-01-31T12:00:00Z", "delta:/mnt/mealkit/input/0/parts@2026-01-31T12:00:00Z"),
            ("delta:s3://bucket/parts@v3", "delta:s3://bucket/parts@v3"),
        ):
            mounted = plan_mounts("train", ["--input", value], folder)
            assert mounted.arguments == ("--input", within)
            assert [mount.source for mount in mounted.mounts] == [folder / "parts"] * ("s3:" not in value)

    def test_a_file_with_an_equals_sign(self, folder: Path) -> None:
        (folder / "day=1").mkdir()
        assert plan_mounts("train", ["--input", "day=1"], folder).mounts[0].source == folder / "day=1"

    def test_missing_input(self, folder: Path) -> None:
        with pytest.raises(UnreadableDataError) as caught:
            plan_mounts("train", ["--input", "nothing.csv"], folder)
        assert caught.value.where == "nothing.csv"

    def test_missing_value(self, folder: Path) -> None:
        with pytest.raises(UsageError):
            plan_mounts("train", ["--input"], folder)

    def test_output_that_is_a_delta_table(self, folder: Path) -> None:
        mounted = plan_mounts("score", ["--output", "delta:table"], folder)
        assert mounted.arguments == ("--output", "delta:/mnt/mealkit/output/0/table")
        assert [(mount.source, mount.read_only) for mount in mounted.mounts] == [(folder / "table", False)]
        far = plan_mounts("score", ["--output", "delta:s3://shop/table"], folder)
        assert (far.arguments, far.mounts) == (("--output", "delta:s3://shop/table"), ())

    def test_output_that_is_a_file(self, folder: Path) -> None:
        mounts = plan_mounts("score", ["--output", "in.csv"], folder).mounts
        with pytest.raises(StorageError):
            make_outputs(mounts)

    @given(st.lists(st.text(min_size=1).filter(lambda text: not text.startswith("--"))))
    def test_other_arguments_are_untouched(self, arguments: list[str]) -> None:
        assert plan_mounts("train", arguments, Path("/")).arguments == tuple(arguments)


class TestRootfs:
    def layer(self, files: dict[str, bytes | str | None]) -> io.BytesIO:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                if content is None:
                    member.type, member.mode = tarfile.DIRTYPE, 0o500
                elif isinstance(content, str):
                    member.type, member.linkname = tarfile.SYMTYPE, content
                else:
                    member.size = len(content)
                archive.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
        return io.BytesIO(out.getvalue())

    def unpack(self, root: Path, *layers: dict[str, bytes | str | None]) -> None:
        for files in layers:
            file = self.layer(files)
            digest = digest_bytes(file.getvalue())
            layer = Layer(digest, len(file.getvalue()), digest, "application/vnd.oci.image.layer.v1.tar")
            unpack_layer(file, layer, root)

    def test_whiteouts(self, tmp_path: Path) -> None:
        self.unpack(
            tmp_path, {"a/1": b"1", "a/2": b"2", "b/1": b"1", "b/c/1": b"", "link": "a"},
            {"a/.wh.1": b"", "b/c/2": b"2", "b/.wh..wh..opq": b"", "b/2": b"2", ".wh.link": b""},
        )  # fmt: skip
        found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
        assert found == ["a/2", "b/2", "b/c/2"]
        assert not (tmp_path / "link").is_symlink()

    def test_a_link_cannot_lead_out(self, tmp_path: Path) -> None:
        root, outside = tmp_path / "root", tmp_path / "outside"
        root.mkdir()
        outside.mkdir()
        self.unpack(root, {"out": str(outside), "up": "../../../../.."}, {"out/evil": b"1", "up/tmp/evil": b"2"})
        assert not list(outside.iterdir())
        assert (root / str(outside).lstrip("/") / "evil").read_bytes() == b"1"
        assert (root / "tmp/evil").read_bytes() == b"2"

    @pytest.mark.parametrize("name", ["../evil", "a/../../evil"])
    def test_a_name_cannot_lead_out(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(RegistryError, match="outside"):
            self.unpack(tmp_path, {name: b""})

    def test_a_link_is_replaced_not_followed(self, tmp_path: Path) -> None:
        self.unpack(tmp_path, {"real": b"1", "link": "real"}, {"link": b"2"})
        assert (tmp_path / "real").read_bytes() == b"1"
        assert (tmp_path / "link").read_bytes() == b"2"

    def test_folders_stay_writable(self, tmp_path: Path) -> None:
        self.unpack(tmp_path, {"closed": None, "closed/file": b""})
        shutil.rmtree(tmp_path / "closed")

    def test_circle(self, tmp_path: Path) -> None:
        self.unpack(tmp_path, {"a": "b", "b": "a"})
        with pytest.raises(RegistryError):
            inside(tmp_path, "a/c")

    def test_damaged(self, tmp_path: Path) -> None:
        with pytest.raises(RegistryError, match="damaged"):
            unpack_layer(io.BytesIO(b"\x1f\x8b rubbish"), Layer("sha256:x", 10, ""), tmp_path)


def relocated(url: str, mode: str, arguments: list[str], **options: Any) -> int:
    """The process runner where users have no namespaces."""
    before = process._namespaces_work
    process._namespaces_work = lambda *_: False
    try:
        return run_process(url, mode, arguments, **options)
    finally:
        process._namespaces_work = before


def container(url: str, mode: str, arguments: list[str], **options: Any) -> int:
    if not engine_available():
        pytest.skip("no container engine answers")
    return run_image(url, mode, arguments, **options)


@pytest.fixture
def run_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all these tests unpack images."""
    folder = tmp_path_factory.getbasetemp() / "run-cache"
    monkeypatch.setenv("MEALKIT_CACHE", str(folder))
    return folder


@pytest.fixture(params=[pytest.param(container, marks=pytest.mark.engine), run_process, relocated])
def run(request: pytest.FixtureRequest, run_cache: Path) -> Run:
    """Each of the three ways to run an image."""
    way: Run = request.param
    return way


def test_exit_status_and_streams(run: Run, probe_url: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(probe_url, "fail", ["7"]) == 7
    said = capfd.readouterr()
    assert "to stdout" in said.out
    assert "to stderr" in said.err
    assert "to stderr" not in said.out


def test_files(run: Run, probe_url: str, folder: Path) -> None:
    assert run(probe_url, "score", ["--input", "in.csv", "--output", "new/out", "--result", "res/r.json"]) == 0
    assert (folder / "new/out/scores.txt").read_text() == "A,B\n"
    assert (folder / "new/out/scores.txt").stat().st_uid == os.getuid()
    told = json.loads((folder / "res/r.json").read_text())
    assert Path(told["input"]).name == "in.csv"
    assert told["wrote_input"] == (run is relocated)  # nothing is closed off there, and it says so


def test_worker_processes(run: Run, probe_url: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(probe_url, "workers", []) == 0
    assert capfd.readouterr().out.strip().endswith("45")


def test_missing_image(run: Run, tmp_path: Path) -> None:
    with pytest.raises((NotFoundError, RegistryError)):
        run(f"oci:{tmp_path}/nothing", "describe", [])


def describe(run: Run, url: str, capfd: pytest.CaptureFixture[str], **options: Any) -> dict[str, Any]:
    assert run(url, "describe", ["--set", "a=b"], **options) == 0
    lines = capfd.readouterr().out.strip().splitlines()
    told: dict[str, Any] = json.loads(lines[-1])
    assert told["arguments"] == ["--set", "a=b"]
    assert told["environment"]["MEALKIT_IMAGE"] == url
    assert told["environment"]["PROBE"] == "1"
    return told


@pytest.mark.engine
def test_container_is_closed_off(engine: Any, probe_url: str, capfd: pytest.CaptureFixture[str]) -> None:
    told = describe(run_image, probe_url, capfd, options=RunOptions(env={"MORE": "x"}, user="12345:678"))
    assert (told["uid"], told["gid"]) == (12345, 678)
    assert told["pid"] == 1
    assert told["capabilities"] == 0
    assert told["no_new_privileges"] == "1"
    assert not told["root_writable"]
    assert told["tmp_writable"]
    assert told["interfaces"] == ["lo"]
    assert told["shm"] == 256 << 20
    assert told["environment"]["MORE"] == "x"
    assert told["prefix"] == "/opt/mealkit/venv"
    assert not engine.containers.list(all=True, filters={"label": f"{LABEL}={probe_url}"})


@pytest.mark.engine
def test_container_runs_as_the_caller(engine: Any, probe_url: str, capfd: pytest.CaptureFixture[str]) -> None:
    told = describe(run_image, probe_url, capfd, options=RunOptions(network="bridge", shm_size="64m"))
    assert (told["uid"], told["gid"]) == (os.getuid(), os.getgid())
    assert len(told["interfaces"]) > 1
    assert told["shm"] == 64 << 20


@pytest.mark.engine
def test_memory_limit(engine: Any, probe_url: str) -> None:
    said: list[str] = []
    assert run_image(probe_url, "eat", [], RunOptions(memory="128m", cpus=0.5), report=said.append) == 137
    assert any("128m" in line for line in said)


@pytest.mark.engine
@pytest.mark.registry
def test_pulled_from_a_registry(engine: Any, registry: Any, probe_url: str, capfd: pytest.CaptureFixture[str]) -> None:
    digest = probe_url.split("@")[1]
    subprocess.run(["skopeo", "copy", "-q", "--dest-tls-verify=false", "--preserve-digests",
                    f"oci:{probe_url.split('@')[0].removeprefix('oci:')}:latest",
                    f"docker://{registry.host}/team/probe:1"], check=True, timeout=60)  # fmt: skip
    url = f"{registry.host}/team/probe@{digest}"
    said: list[str] = []
    describe(run_image, url, capfd, report=said.append)
    assert said[0] == f"pulling {url}"
    said.clear()
    describe(run_image, url, capfd, report=said.append)
    assert not said
    with pytest.raises(NotFoundError):
        run_image(f"{registry.host}/team/probe@sha256:{'0' * 64}", "describe", [])


@pytest.mark.engine
def test_images_of_the_engine(engine: Any, bookworm: str) -> None:
    with pytest.raises(NotFoundError):
        run_image("docker:mealkit-test/nothing", "describe", [])
    with pytest.raises(EngineError):  # it has no program called "describe"
        run_image(f"docker:{bookworm}", "describe", [])
    assert not engine.containers.list(all=True, filters={"label": f"{LABEL}=docker:{bookworm}"})


STOP = """
import sys
from mealkit_builder.container import run_image
from mealkit_builder.process import run_process
import mealkit_builder.process as process
way = sys.argv[1]
if way == "relocated":
    process._namespaces_work = lambda *_: False
sys.exit((run_image if way == "container" else run_process)(sys.argv[2], "wait", []))
"""


@pytest.mark.parametrize("way", [pytest.param("container", marks=pytest.mark.engine), "process", "relocated"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop(way: str, number: int, probe_url: str, request: pytest.FixtureRequest, run_cache: Path) -> None:
    if way == "container":
        request.getfixturevalue("engine")
    command = [sys.executable, "-c", STOP, way, probe_url]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert running.stdout is not None
        assert running.stdout.readline() == b"waiting\n"
        start = time.monotonic()
        # A terminal's Ctrl-C goes to all processes of the group.
        (os.killpg if number == signal.SIGINT and way != "container" else os.kill)(running.pid, number)
        out, _ = running.communicate(timeout=20)
        assert running.returncode == (143 if number == signal.SIGTERM or way == "container" else 130)
        assert (b"stopping" in out) == (running.returncode == 143)
        assert time.monotonic() - start < 15
    finally:
        if running.poll() is None:
            running.kill()
            running.communicate()


def test_process_is_closed_off(
    probe_url: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, run_cache: Path
) -> None:
    monkeypatch.setenv("A_SECRET_OF_THIS_MACHINE", "x")
    said: list[str] = []
    told = describe(run_process, probe_url, capfd, report=said.append)
    assert "A_SECRET_OF_THIS_MACHINE" not in told["environment"]
    if "relocated" in said[-1]:
        pytest.skip("this machine gives its users no namespaces")
    assert "no network" in said[-1]
    assert not told["root_writable"]
    assert told["tmp_writable"]
    assert told["prefix"] == "/opt/mealkit/venv"


def test_relocated_says_so(
    probe_url: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, run_cache: Path
) -> None:
    monkeypatch.setenv("A_SECRET_OF_THIS_MACHINE", "x")
    said: list[str] = []
    told = describe(relocated, probe_url, capfd, report=said.append)
    assert "nothing closed off" in said[-1]
    assert "A_SECRET_OF_THIS_MACHINE" not in told["environment"]
    root = str(run_cache / "rootfs")
    assert told["base_prefix"].startswith(root)
    assert told["executable"].startswith(root)
    assert told["environment"]["MEALKIT_RECIPE"].startswith(root)


def test_process_runner_has_no_limits(probe_url: str) -> None:
    with pytest.raises(UsageError, match="engine"):
        run_process(probe_url, "describe", [], RunOptions(memory="1g"))


def test_no_engine(tmp_path: Path, probe_url: str) -> None:
    environment = {"DOCKER_HOST": f"unix://{tmp_path}/nothing.sock"}
    assert not engine_available(environment)
    with pytest.raises(EngineError) as caught:
        run_image(probe_url, "describe", [], environment=environment)
    assert caught.value.where == environment["DOCKER_HOST"]
    assert caught.value.hint


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "unix:///dev/null", "nonsense", "tcp://[::1"])
def test_addresses_without_an_engine(address: str) -> None:
    assert not engine_available({"DOCKER_HOST": address})
