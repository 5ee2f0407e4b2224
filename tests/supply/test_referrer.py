"""Referrers: on registries that list them, on those that do not, and in folders; nobody's document is lost."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from services import RunningRegistry
from supply_chain import at, digest_of, push

from mealkit.errors import NotFoundError, RetryableError
from mealkit_builder.companion import copy_companions
from mealkit_builder.digest import digest_bytes
from mealkit_builder.referrer import (
    Artifact,
    attach,
    find_subject,
    list_referrers,
    read_artifact,
    referrers_tag,
    update_tag,
)
from mealkit_builder.testing import MemoryRegistry

NOTE = "application/vnd.example.note+json"


@pytest.fixture(params=["lists", "old", "folder", "docker-registry"])
def place_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A place of each kind."""
    if request.param == "folder":
        yield f"oci:{tmp_path / 'layout'}"
    elif request.param == "docker-registry":
        registry: RunningRegistry = request.getfixturevalue("registry")
        yield f"{registry.host}/referrers/{tmp_path.name.lower().replace('_', '-').strip('-')}"
    else:
        with MemoryRegistry(referrers=request.param == "lists") as memory:
            yield f"{memory.host}/team/shop"


def note(text: str) -> Artifact:
    return Artifact(NOTE, json.dumps({"note": text}).encode(), {"com.example.about": text})


def test_what_is_attached_is_found_again(place_url: str) -> None:
    url = push(place_url + ":1")
    place = at(place_url)
    subject = find_subject(place, digest_of(url))
    made = attach(place, subject, [note("one"), note("two")])
    made += attach(place, subject, [note("three")])
    found = list_referrers(place, subject.digest)
    assert {one.digest for one in found} == set(made)
    assert {one.artifact_type for one in found} == {NOTE}
    assert {one.annotations["com.example.about"] for one in found} == {"one", "two", "three"}
    data = {read_artifact(place, one, subject.digest) for one in found}
    assert data == {b'{"note": "one"}', b'{"note": "two"}', b'{"note": "three"}'}


def test_attached_twice_is_there_once(place_url: str) -> None:
    url = push(place_url + ":1")
    place = at(place_url)
    subject = find_subject(place, digest_of(url))
    assert attach(place, subject, [note("one")]) == attach(place, subject, [note("one")])
    assert len(list_referrers(place, subject.digest)) == 1


def test_an_image_without_any_has_none(place_url: str) -> None:
    url = push(place_url + ":1")
    assert list_referrers(at(place_url), digest_of(url)) == ()
    with pytest.raises(NotFoundError):
        find_subject(at(place_url), "no-such-tag")


def test_the_image_and_its_tags_stay_as_they_are(place_url: str) -> None:
    url = push(place_url + ":1")
    place = at(place_url)
    before = place.get_manifest("1")
    attach(place, find_subject(place, digest_of(url)), [note("one")])
    assert place.get_manifest("1") == before


def test_the_tag_is_written_only_where_the_registry_lists_nothing(
    memory: MemoryRegistry, memory_of_old: MemoryRegistry
) -> None:
    for registry in (memory, memory_of_old):
        url = push(f"{registry.host}/shop:1")
        place = at(f"{registry.host}/shop")
        attach(place, find_subject(place, digest_of(url)), [note("one")])
    tag = referrers_tag(digest_of(url))
    assert memory.tags("shop") == {"1"}
    assert memory_of_old.tags("shop") == {"1", tag}
    index = json.loads(memory_of_old.manifests["shop"][memory_of_old.tag_digests["shop"][tag]][0])
    assert index["mediaType"] == "application/vnd.oci.image.index.v1+json"
    assert [entry["artifactType"] for entry in index["manifests"]] == [NOTE]


def test_a_long_list_comes_in_pages(memory: MemoryRegistry) -> None:
    url = push(f"{memory.host}/shop:1")
    place = at(f"{memory.host}/shop")
    attach(place, find_subject(place, digest_of(url)), [note(str(number)) for number in range(7)])
    memory.forget()
    assert len(list_referrers(place, digest_of(url))) == 7
    assert sum("/referrers/" in one.path for one in memory.seen) == 4


def test_many_writers_at_once_lose_nothing_in_a_registry_that_lists(memory: MemoryRegistry) -> None:
    _many_writers(f"{memory.host}/shop")


def _many_writers(url: str) -> None:
    digest = digest_of(push(url + ":1"))
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            place = at(url)
            attach(place, find_subject(place, digest), [note(str(number))])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert len(list_referrers(at(url), digest)) == 4


class Meddled:
    """A place in which somebody else writes the same tag right after us."""

    name = "meddled"

    def __init__(self, times: int) -> None:
        self.times = times
        self.value: dict[str, object] | None = None
        self.written = 0

    def get_manifest(self, reference: str) -> tuple[bytes, str, str] | None:
        return None if self.value is None else (json.dumps(self.value).encode(), "", "sha256:" + "0" * 64)

    def put_manifest(self, data: bytes, media_type: str, reference: str) -> str:
        self.written += 1
        self.value = {"ours": False} if self.written <= self.times else json.loads(data)
        return ""


def test_what_another_overwrites_is_written_again() -> None:
    place = Meddled(2)
    update_tag(place, "t", "", lambda old: None if old and old.get("ours") else {**(old or {}), "ours": True})  # type: ignore[arg-type]
    assert place.value == {"ours": True}
    assert place.written == 3
    with pytest.raises(RetryableError, match="others keep writing") as caught:
        update_tag(Meddled(99), "t", "", lambda old: None if old and old.get("ours") else {"ours": True})  # type: ignore[arg-type]
    assert caught.value.hint


def test_many_writers_of_a_folder_lose_nothing(tmp_path: Path) -> None:
    _many_writers(f"oci:{tmp_path / 'layout'}")


@pytest.mark.parametrize("index", [b"[]", b"{}", b'{"manifests": 7}', b'{"manifests": [7, {"digest": "x"}]}', b"no"])
def test_a_damaged_list_is_an_empty_one_and_is_mended(memory_of_old: MemoryRegistry, index: bytes) -> None:
    digest = digest_of(push(f"{memory_of_old.host}/shop:1"))
    name = digest_bytes(index)
    memory_of_old.manifests["shop"][name] = (index, "application/vnd.oci.image.index.v1+json")
    memory_of_old.tag_digests["shop"][referrers_tag(digest)] = name
    place = at(f"{memory_of_old.host}/shop")
    assert list_referrers(place, digest) == ()
    attach(place, find_subject(place, digest), [note("one")])
    assert len(list_referrers(place, digest)) == 1


def test_a_list_that_names_removed_documents_is_mended(memory_of_old: MemoryRegistry, tmp_path: Path) -> None:
    for url in (f"{memory_of_old.host}/shop", f"oci:{tmp_path / 'layout'}"):
        digest = digest_of(push(url + ":1"))
        place = at(url)
        subject = find_subject(place, digest)
        gone, stays = attach(place, subject, [note("gone"), note("stays")])
        if url.startswith("oci:"):
            (tmp_path / "layout" / "blobs" / "sha256" / gone.removeprefix("sha256:")).unlink()
        else:
            del memory_of_old.manifests["shop"][gone]
        (new,) = attach(place, subject, [note("new")])
        assert {one.digest for one in list_referrers(place, digest)} == {stays, new}


def test_a_document_of_another_image_is_not_read(memory_of_old: MemoryRegistry) -> None:
    place = at(f"{memory_of_old.host}/shop")
    one, other = (digest_of(push(f"{memory_of_old.host}/shop:{text}", text, tags=(text,))) for text in ("a", "b"))
    attach(place, find_subject(place, one), [note("one")])
    tags = memory_of_old.tag_digests["shop"]
    tags[referrers_tag(other)] = tags[referrers_tag(one)]
    moved = list_referrers(place, other)
    assert len(moved) == 1
    assert read_artifact(place, moved[0], other) is None
    assert read_artifact(place, moved[0], one) is not None


def test_the_only_image_of_a_folder_stays_its_latest(tmp_path: Path) -> None:
    url = push(f"oci:{tmp_path}", tags=())
    place = at(f"oci:{tmp_path}")
    attach(place, find_subject(place, digest_of(url)), [note("one")])
    found = place.get_manifest("latest")
    assert found is not None
    assert found[2] == digest_of(url)


def test_companions_go_along_and_join_what_is_there(place_url: str, tmp_path: Path) -> None:
    source = f"oci:{tmp_path / 'source'}"
    digest = digest_of(push(source + ":1"))
    assert digest_of(push(place_url + ":1")) == digest
    here, there = at(source), at(place_url)
    attach(here, find_subject(here, digest), [note("one"), note("two")])
    attach(there, find_subject(there, digest), [note("two"), note("three")])
    assert copy_companions(here, there, [digest]) == 2
    assert copy_companions(here, there, [digest]) == 2
    about = {one.annotations["com.example.about"] for one in list_referrers(there, digest)}
    assert about == {"one", "two", "three"}
