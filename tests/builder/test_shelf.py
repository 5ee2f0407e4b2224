"""Plain indexes: sizes that they do not tell are found out, and their passwords stay out of everything."""

from __future__ import annotations

import gzip
import json
import random
import re
from pathlib import Path

import pytest
from shelf import Shelf, shelf
from workshop import Workshop

from mealkit.errors import LockError, UnreachableError
from mealkit.project import read_project
from mealkit_builder.finishing import complete_lock
from mealkit_builder.lock import LOCK_NAME, make_lock, read_lock
from mealkit_builder.record import ImageRecord
from mealkit_builder.requirement import check_no_secret, without_credentials

SECRET = "s3cr3t-canary"
LARGE = random.Random(7).randbytes((1 << 20) + 5)


def own_layers(record: ImageRecord) -> set[str]:
    """The titles of the layers of wheels."""
    folder, _, digest = record.url.removeprefix("oci:").rpartition("@")
    manifest = json.loads((Path(folder) / "blobs" / digest.replace(":", "/")).read_text())
    return {
        layer["annotations"]["org.opencontainers.image.title"]
        for layer in manifest["layers"]
        if layer.get("annotations", {}).get("io.mealkit.layer.key", "").startswith("wheel")
    }


def without_links(workshop: Workshop, served: Shelf, index: str | None = None) -> Workshop:
    """The workshop with this index alone."""
    return workshop.online(index or served.index).having(UV_FIND_LINKS="")


@pytest.mark.parametrize("heads", [True, False])
def test_sizes_are_found_out_and_noted(workshop: Workshop, heads: bool) -> None:
    workshop.wheel("bulk", files={"bulk.bin": LARGE})
    with shelf(workshop.index, workshop.pantry, heads=heads) as served:
        online = without_links(workshop, served)
        root = workshop.recipe(dependencies=["bulk"])
        record = online.build(root, bytecode=False)
        assert "bulk 1.0" in own_layers(record)
        text = (root / LOCK_NAME).read_text()
        assert "size = " not in text.partition("[tool.mealkit]")[0]
        assert f"size = {(workshop.index / 'bulk-1.0-py3-none-any.whl').stat().st_size} }}" in text
        # Another machine has them from the lock.
        served.asked.clear()
        other = online.fresh().build(root, f"oci:{workshop.folder}/other", bytecode=False, locked=True)
        assert other.digest == record.digest
        assert not [line for line in served.asked if line.startswith("HEAD")]
        # Without the note it asks, and comes to the same image; a committed lock is left as it is.
        bare = re.sub(r"sizes = \[.*?\]\n", "", text, flags=re.DOTALL)
        (root / LOCK_NAME).write_text(bare)
        third = online.fresh("third").build(root, f"oci:{workshop.folder}/third-images", bytecode=False)
        assert own_layers(third) == own_layers(record)
        assert (root / LOCK_NAME).read_text() == bare
        asked = len(served.asked)
        online.fresh("third").build(root, f"oci:{workshop.folder}/third-images", bytecode=False)
        assert len(served.asked) == asked


def test_an_indexs_password_is_in_no_lock(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    workshop.wheel("salt")
    with shelf(workshop.index, workshop.pantry, password=SECRET) as served:
        address = served.with_password("ada", SECRET)
        online = without_links(workshop, served, address)
        root = workshop.recipe(dependencies=["salt"])
        monkeypatch.setenv("UV_INDEX_URL", address)  # where the download looks
        project = read_project(root)
        complete_lock(make_lock(project, online.environment), project, online.environment)
        record = online.build(root, bytecode=False)
    assert SECRET not in (root / LOCK_NAME).read_text()
    assert_nowhere(record)


def test_a_password_in_a_requirement_is_in_no_lock_and_no_layer(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    workshop.wheel("salt")
    with shelf(workshop.index, workshop.pantry, password=SECRET) as served:
        file = served.with_password("ada", SECRET, "/files/salt-1.0-py3-none-any.whl")
        online = without_links(workshop, served, served.with_password("ada", SECRET))
        root = workshop.recipe(dependencies=[f"salt @ {file}"])
        make_lock(read_project(root), online.environment)
        text = (root / LOCK_NAME).read_text()
        assert "@127.0.0.1" not in text
        assert SECRET not in text
        assert read_lock(read_project(root)) is not None
        (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login ada password {SECRET}\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        record = online.build(root, bytecode=False)
    assert_nowhere(record)


def assert_nowhere(record: ImageRecord) -> None:
    folder = Path(record.url.removeprefix("oci:").rpartition("@")[0])
    blobs = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert len(blobs) > 4
    for data in blobs:
        assert SECRET.encode() not in (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)


def test_an_address_with_a_token_is_refused(workshop: Workshop) -> None:
    workshop.wheel("salt")
    with shelf(workshop.index, workshop.pantry) as served:
        root = workshop.recipe(dependencies=[f"salt @ {served.address}/files/salt-1.0-py3-none-any.whl"])
        project = read_project(root)
        lock = make_lock(project, without_links(workshop, served).environment)
    check_no_secret(lock.text, project)
    for query in (f"token={SECRET}", f"x=1&X-Amz-Signature={SECRET}", f"sig={SECRET}", f"private_token={SECRET}"):
        with pytest.raises(LockError, match="holds a secret") as caught:
            check_no_secret(lock.text.replace(".whl", f".whl?{query}"), project)
        assert SECRET not in str(caught.value)
        assert "netrc" in str(caught.value.hint)


def test_errors_tell_no_password(workshop: Workshop) -> None:
    address = f"http://ada:{SECRET}@127.0.0.1:1"
    root = workshop.recipe(dependencies=[f"salt @ {address}/salt-1.0-py3-none-any.whl"])
    with pytest.raises(UnreachableError) as caught:
        make_lock(read_project(root), workshop.online(f"{address}/simple").environment)
    error = caught.value
    assert SECRET not in f"{error.message} {error.where} {error.hint}"
    bad = workshop.recipe("bad", dependencies=[f"salt @ {address}/salt.zip#not", "nonsense!"])
    with pytest.raises(LockError) as refused:
        make_lock(read_project(bad), workshop.environment)
    assert SECRET not in f"{refused.value.message} {refused.value.where}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a @ https://u:p@h/x.whl", "a @ https://h/x.whl"),
        ("a @ git+https://TOKEN@h/r.git@main", "a @ git+https://h/r.git@main"),
        ("a @ git+ssh://git@h/r.git@v1", "a @ git+ssh://git@h/r.git@v1"),
        ("a @ git+ssh://git:pw@h/r.git", "a @ git+ssh://git@h/r.git"),
        ('url = "https://u@h/a", b = "https://h/c@d"', 'url = "https://h/a", b = "https://h/c@d"'),
        ("https://h/path/with@sign", "https://h/path/with@sign"),
        ("a>=1; extra == 'x@y'", "a>=1; extra == 'x@y'"),
    ],
)
def test_credentials_are_taken_out_of_addresses(text: str, expected: str) -> None:
    assert without_credentials(text) == expected
    assert without_credentials(expected) == expected
