import io
import json
import os
import subprocess
import threading
from pathlib import Path

import pytest
from images import Sample, sample
from services import missing

from mealkit.errors import MealkitError, NotFoundError, RegistryError, RetryableError, StorageError, UsageError
from mealkit_builder.digest import digest_bytes
from mealkit_builder.image import INDEX, MANIFEST, index_bytes, manifest_bytes
from mealkit_builder.layout import Layout
from mealkit_builder.platform import Platform
from mealkit_builder.pull import pull_image
from mealkit_builder.push import push_image
from mealkit_builder.target import MissingBlobError

DATA = os.urandom(100_000)
DIGEST = digest_bytes(DATA)
ONE, TWO = sample({"a": b"1", "b": b"2"}), sample({"a": b"1", "c": b"3"})


def push(one: Sample, layout: Layout, *tags: str) -> str:
    return push_image(one.image, layout, one.open_layer, tags=tags).digest


def index(layout: Layout) -> list[tuple[str, str]]:
    entries = json.loads((layout.folder / "index.json").read_text())["manifests"]
    return [
        (entry.get("annotations", {}).get("org.opencontainers.image.ref.name", ""), entry["digest"])
        for entry in entries
    ]


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if ".tmp" in path.name]


def test_an_image_goes_in_and_comes_back(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "images")
    assert layout.get_manifest("1") is None
    assert layout.list_tags() == ()
    assert push(ONE, layout, "1", "latest") == ONE.image.digest
    assert layout.list_tags() == ("1", "latest")
    assert layout.get_manifest("1") == (manifest_bytes(ONE.image), MANIFEST, ONE.image.digest)
    assert layout.get_manifest(ONE.image.digest) == layout.get_manifest("latest")
    pulled = pull_image(layout, "1")
    assert pulled is not None
    assert pulled.image.digest == ONE.image.digest
    assert layout.url(pulled.digest) == f"oci:{tmp_path}/images@{ONE.image.digest}"
    assert not leftovers(tmp_path)
    assert json.loads((layout.folder / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}


def test_the_second_push_moves_nothing(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    push(ONE, layout, "1")
    report = push_image(ONE.image, layout, ONE.open_layer, tags=["1"])
    assert (report.reused.count, report.uploaded.count) == (3, 0)
    assert index(layout) == [("1", ONE.image.digest)]


def test_a_tag_moves_to_the_new_image(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    push(ONE, layout, "1", "latest")
    push(TWO, layout, "2", "latest")
    assert dict(index(layout)) == {"1": ONE.image.digest, "2": TWO.image.digest, "latest": TWO.image.digest}
    assert len(index(layout)) == 3


def test_an_image_without_a_tag_is_listed_until_it_gets_one(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    push(ONE, layout)
    push(ONE, layout)
    assert index(layout) == [("", ONE.image.digest)]
    assert layout.get_manifest("latest") == layout.get_manifest(ONE.image.digest)
    push(ONE, layout, "1")
    push(ONE, layout)
    assert index(layout) == [("1", ONE.image.digest)]
    assert layout.get_manifest("latest") is None


def test_an_index_takes_the_place_of_its_images(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    arm = sample({"a": b"1"}, Platform("linux", "arm64"))
    amd = sample({"a": b"1"}, Platform("linux", "amd64"))
    report = push_image([arm.image, amd.image], layout, arm.open_layer, tags=["1"])
    assert report.media_type == INDEX
    assert report.digest == digest_bytes(index_bytes([arm.image, amd.image]))
    assert index(layout) == [("1", report.digest)]
    pulled = pull_image(layout, "1", Platform("linux", "arm64"))
    assert pulled is not None
    assert pulled.image.digest == arm.image.digest
    assert (pulled.digest, pulled.manifest_digest) == (report.digest, arm.image.digest)


def test_a_blob_of_the_same_disk_is_linked_not_copied(tmp_path: Path) -> None:
    source = tmp_path / "blob"
    source.write_bytes(DATA)
    layout = Layout(tmp_path / "images")
    moved: list[int] = []
    assert layout.put_blob(DIGEST, len(DATA), lambda: source.open("rb"), progress=moved.append) == "uploaded"
    held = layout.folder / "blobs" / "sha256" / DIGEST.removeprefix("sha256:")
    assert held.samefile(source)
    assert moved == [len(DATA)]
    assert layout.put_blob(DIGEST, len(DATA), lambda: source.open("rb")) == "reused"
    assert not leftovers(tmp_path)


def test_a_blob_is_copied_where_it_cannot_be_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object) -> None:
        raise OSError(18, "another file system")

    monkeypatch.setattr("os.link", refuse)
    source = tmp_path / "blob"
    source.write_bytes(DATA)
    layout = Layout(tmp_path / "images")
    layout.put_blob(DIGEST, len(DATA), lambda: source.open("rb"))
    with layout.open_blob(DIGEST) as file:
        assert file.read() == DATA
    assert not (layout.folder / "blobs" / "sha256" / DIGEST.removeprefix("sha256:")).samefile(source)


@pytest.mark.parametrize("link", [True, False])
def test_changed_bytes_do_not_get_in(tmp_path: Path, link: bool) -> None:
    source = tmp_path / "blob"
    source.write_bytes(b"other")
    layout = Layout(tmp_path / "images")
    with pytest.raises(RegistryError, match="do not have its digest"):
        layout.put_blob(DIGEST, 5, lambda: source.open("rb") if link else io.BytesIO(b"other"))
    assert not layout.has_blob(DIGEST)
    assert not leftovers(tmp_path)


def test_bytes_that_were_changed_later_do_not_get_out(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    push(ONE, layout, "1")
    (tmp_path / "blobs" / "sha256" / ONE.image.digest.removeprefix("sha256:")).write_bytes(b"{}")
    with pytest.raises(RegistryError, match="do not have its digest"):
        layout.get_manifest("1")


def test_a_manifest_without_its_blobs_gets_no_tag(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    with pytest.raises(MissingBlobError):
        layout.put_manifest(manifest_bytes(ONE.image), MANIFEST, "1")
    assert not (tmp_path / "index.json").exists()
    with pytest.raises(NotFoundError):
        layout.open_blob(DIGEST)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UsageError) as caught:
        push(ONE, Layout(tmp_path), "1")
    assert caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("index.json", "{"),
        ("index.json", "[]"),
        ("oci-layout", "[]"),
        ("oci-layout", '{"imageLayoutVersion": "9"}'),
    ],
)
def test_a_damaged_folder_is_told(tmp_path: Path, name: str, text: str) -> None:
    layout = Layout(tmp_path)
    push(ONE, layout, "1")
    (tmp_path / name).write_text(text)
    with pytest.raises(RegistryError) as caught:
        layout.get_manifest("1")
    assert caught.value.where == str(tmp_path)


def test_many_writers_lose_no_tag(tmp_path: Path) -> None:
    failed: list[Exception] = []

    def write(number: int) -> None:
        try:
            push(ONE if number % 2 else TWO, Layout(tmp_path), f"t{number}")
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failed == []
    assert Layout(tmp_path).list_tags() == tuple(sorted(f"t{number}" for number in range(16)))
    assert not leftovers(tmp_path)


def test_the_wait_for_another_writer_is_bounded(tmp_path: Path) -> None:
    import fcntl

    push(ONE, Layout(tmp_path), "1")
    with (tmp_path / ".mealkit.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RetryableError) as caught:
            push(ONE, Layout(tmp_path, lock_seconds=0.1), "2")
    assert caught.value.hint
    assert Layout(tmp_path).list_tags() == ("1",)


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")

    class Full(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            with Path("/dev/full").open("wb", buffering=0) as full:
                full.write(b"x")
            return b""

    layout = Layout(tmp_path / "images")
    with pytest.raises(StorageError) as caught:
        layout.put_blob(DIGEST, 1, Full)
    assert "the disk is full" in caught.value.message
    assert caught.value.hint
    assert not leftovers(tmp_path)
    assert not layout.has_blob(DIGEST)


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(MealkitError) as caught:
        push(ONE, Layout(tmp_path / "file"), "1")
    assert caught.value.code in ("storage", "usage")


# --- second opinions ---


def run(*command: str) -> str:
    reason = missing(command[0])
    if reason:
        pytest.skip(reason)
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_skopeo_reads_the_layout(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "images")
    push(ONE, layout, "1")
    push(TWO, layout, "2")
    said = json.loads(run("skopeo", "inspect", f"oci:{layout.folder}:1"))
    assert said["Digest"] == ONE.image.digest
    assert said["Layers"] == [layer.digest for layer in ONE.image.layers]
    assert said["Labels"] == {"org.opencontainers.image.title": "sample"}
    run("skopeo", "copy", "--quiet", f"oci:{layout.folder}:2", f"dir:{tmp_path}/copy")
    assert digest_bytes((tmp_path / "copy" / "manifest.json").read_bytes()) == TWO.image.digest


def test_umoci_unpacks_the_layout(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "images")
    push(ONE, layout, "1")
    run("umoci", "unpack", "--rootless", "--image", f"{layout.folder}:1", str(tmp_path / "bundle"))
    assert (tmp_path / "bundle" / "rootfs" / "a").read_bytes() == b"1"
    assert (tmp_path / "bundle" / "rootfs" / "b").read_bytes() == b"2"
    stat = json.loads(run("umoci", "stat", "--image", f"{layout.folder}:1", "--json"))
    assert [line["layer"]["digest"] for line in stat["history"]] == [layer.digest for layer in ONE.image.layers]


def test_we_read_what_skopeo_writes(tmp_path: Path) -> None:
    push(ONE, Layout(tmp_path / "images"), "1")
    run("skopeo", "copy", "--quiet", f"oci:{tmp_path}/images:1", f"oci:{tmp_path}/theirs:1")
    pulled = pull_image(Layout(tmp_path / "theirs"), "1")
    assert pulled is not None
    assert pulled.digest == ONE.image.digest
    push(TWO, Layout(tmp_path / "theirs"), "2")
    assert Layout(tmp_path / "theirs").list_tags() == ("1", "2")
