"""OCI image layout folders that must be refused when an image is read from them or copied."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bad_layers

from mealkit_builder.digest import digest_bytes

CASES: dict[str, tuple[Callable[[Path], None], str]] = {}
TWINS: dict[str, Callable[[Path], None]] = {}

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER, DATA = bad_layers.layer(bad_layers.GOOD + bad_layers.END)

Json = dict[str, Any]


class Folder:
    """A layout folder whose parts may lie."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "blobs/sha256").mkdir(parents=True)
        (root / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def blob(self, data: bytes) -> Json:
        digest = digest_bytes(data)
        self.path(digest).write_bytes(data)
        return {"digest": digest, "size": len(data)}

    def path(self, digest: str) -> Path:
        return self.root / "blobs/sha256" / digest.removeprefix("sha256:")

    def config(self, **changes: Any) -> Json:
        value = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [LAYER.diff_id]}}
        return {"mediaType": CONFIG, **self.blob(json.dumps(value | changes).encode())}

    def layer(self, **changes: Any) -> Json:
        return {"mediaType": LAYER.media_type, **self.blob(DATA)} | changes

    def manifest(self, text: bytes | None = None, **changes: Any) -> Json:
        value = {"schemaVersion": 2, "mediaType": MANIFEST} | changes
        if "config" not in value:
            value["config"] = self.config()
        if "layers" not in value:
            value["layers"] = [self.layer()]
        return {"mediaType": MANIFEST, **self.blob(json.dumps(value).encode() if text is None else text)}

    def index(self, *entries: Json, text: str | None = None) -> None:
        value = {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(entries)}
        (self.root / "index.json").write_text(json.dumps(value) if text is None else text)


def bad(why: str) -> Callable[[Callable[[Folder], None]], None]:
    def add(make: Callable[[Folder], None]) -> None:
        CASES[make.__name__] = (lambda path: make(Folder(path)), why)

    return add


def twin(make: Callable[[Folder], None]) -> None:
    TWINS[make.__name__] = lambda path: make(Folder(path))


def manifest_case(title: str, why: str, **changes: Any) -> None:
    CASES[title] = (lambda path: (one := Folder(path)).index(one.manifest(**changes)), why)


TRAVERSAL = "sha256:../../../../../../etc/passwd"
manifest_case("layer_digest_with_traversal", "no sha256 digest", layers=[{"digest": TRAVERSAL, "size": 1}])
manifest_case("config_digest_with_traversal", "names no config", config={"digest": TRAVERSAL, "size": 1})
manifest_case("digest_of_another_kind", "no sha256 digest", layers=[{"digest": "sha512:" + "0" * 128, "size": 1}])
manifest_case("upper_case_digest", "no sha256 digest", layers=[{"digest": "sha256:" + "A" * 64, "size": 1}])
manifest_case("size_as_text", "no size", layers=[{"digest": LAYER.digest, "size": "9"}])
manifest_case("negative_size", "no size", layers=[{"digest": LAYER.digest, "size": -1}])
manifest_case("endless_size", "no size", layers=[{"digest": LAYER.digest, "size": 1 << 70}])
manifest_case("layers_are_no_list", "layers", layers={"a": 1})
manifest_case("layers_are_no_objects", "no JSON object", layers=["evil"])
manifest_case("too_few_diff_ids", "layers, its config", layers=[])
manifest_case("missing_config", "no such blob", config={"digest": "sha256:" + "0" * 64, "size": 2})
manifest_case("config_is_null", "names no config", config=None)
CASES["unknown_layer_type"] = (
    lambda path: (one := Folder(path)).index(one.manifest(layers=[one.layer(mediaType="text/html")])),
    "cannot be packed again",
)
CASES["config_with_wrong_size"] = (
    lambda path: (one := Folder(path)).index(one.manifest(config=one.config() | {"size": 7})),
    "its manifest says 7",
)


def config_case(title: str, why: str, **changes: Any) -> None:
    CASES[title] = (lambda path: (one := Folder(path)).index(one.manifest(config=one.config(**changes))), why)


config_case("no_diff_ids", "damaged", rootfs={})
config_case("too_many_diff_ids", "layers, its config", rootfs={"diff_ids": [LAYER.diff_id] * 3})
config_case("diff_id_is_none", "no sha256 digest", rootfs={"diff_ids": ["../../etc/passwd"]})
config_case("variable_without_a_name", "damaged", config={"Env": ["=x"]})
config_case("variable_with_a_nul", "damaged", config={"Env": ["A=b\0c"]})
config_case("labels_are_a_list", "damaged", config={"Labels": ["a"]})
config_case("history_of_numbers", "damaged", history=[1, 2])
config_case("config_is_a_list", "damaged", config=["a"])
config_case("deep_config", "too deep", config={"Labels": json.loads("[" * 200 + "]" * 200)})


def text_case(title: str, why: str, text: bytes) -> None:
    CASES[title] = (lambda path: (one := Folder(path)).index(one.manifest(text)), why)


text_case("manifest_is_no_json", "not JSON", b"<html>")
text_case("manifest_is_not_utf_8", "not JSON", b'{"a": "\xff"}')
text_case("manifest_is_a_list", "not a JSON object", b"[]")
text_case("deep_manifest", "too deep", b"[" * 200_000)
text_case("deep_manifest_that_ends", "too deep", b'{"layers":' + b"[" * 500 + b"]" * 500 + b"}")
text_case("key_twice", "twice", b'{"config": {}, "layers": [], "layers": []}')
text_case("key_twice_but_for_case", "twice", b'{"config": {}, "layers": [], "Layers": []}')
text_case("endless_number", "not JSON", b'{"size": ' + b"1" * 9000 + b"}")
text_case("schema_1", "names no config", b'{"schemaVersion": 1, "fsLayers": [], "history": []}')


@bad("do not have its digest")
def changed_manifest(one: Folder) -> None:
    """The manifest's bytes are not those of its name."""
    entry = one.manifest()
    one.path(entry["digest"]).write_text("{}" + " " * (entry["size"] - 2))
    one.index(entry)


@bad("do not have its digest")
def changed_config(one: Folder) -> None:
    """The config's bytes are not those of its name."""
    config = one.config()
    one.path(config["digest"]).write_text("{}")
    one.index(one.manifest(config=config))


@bad("index.json says")
def manifest_with_wrong_size(one: Folder) -> None:
    """index.json tells another size of the manifest."""
    one.index(one.manifest() | {"size": 7})


@bad("no sha256 digest")
def index_digest_with_traversal(one: Folder) -> None:
    """index.json names a file of the machine."""
    one.index(one.manifest() | {"digest": TRAVERSAL})


@bad("no sha256 digest")
def index_entry_without_digest(one: Folder) -> None:
    """An entry of index.json names nothing."""
    one.index({"mediaType": MANIFEST, "size": 3})


@bad("is damaged")
def index_entries_are_text(one: Folder) -> None:
    """The entries of index.json are no descriptors."""
    one.index(text='{"manifests": ["evil"]}')


@bad("is damaged")
def deep_index(one: Folder) -> None:
    """index.json is nested two hundred thousand times."""
    one.index(text="[" * 200_000)


@bad("is damaged")
def index_is_no_json(one: Folder) -> None:
    """index.json is cut off."""
    one.index(text='{"manifests": [')


@bad("which is not known")
def layout_of_the_future(one: Folder) -> None:
    """A version of the layout that nobody knows yet."""
    one.index(one.manifest())
    (one.root / "oci-layout").write_text('{"imageLayoutVersion":"2.0.0"}')


@bad("leads out")
def blob_as_a_link_out(one: Folder) -> None:
    """The manifest is a link to a file of the machine."""
    entry = one.manifest()
    one.path(entry["digest"]).unlink()
    one.path(entry["digest"]).symlink_to("/etc/passwd")
    one.index(entry)


@bad("leads out")
def blobs_as_a_link_out(one: Folder) -> None:
    """The whole folder of blobs is elsewhere."""
    entry = one.manifest()
    (one.root / "blobs").rename(one.root.with_name(one.root.name + "-elsewhere"))
    (one.root / "blobs").symlink_to(one.root.with_name(one.root.name + "-elsewhere"))
    one.index(entry)


@bad("leads out")
def endless_blob(one: Folder) -> None:
    """The manifest is a link to zeros without end."""
    entry = one.manifest()
    one.path(entry["digest"]).unlink()
    one.path(entry["digest"]).symlink_to("/dev/zero")
    one.index(entry)


@bad("no file in it")
def blob_as_a_pipe(one: Folder) -> None:
    """The manifest is a pipe into which nobody writes."""
    entry = one.manifest()
    one.path(entry["digest"]).unlink()
    os.mkfifo(one.path(entry["digest"]))
    one.index(entry)


@bad("no file in it")
def blob_as_a_folder(one: Folder) -> None:
    """The manifest is a folder."""
    entry = one.manifest()
    one.path(entry["digest"]).unlink()
    one.path(entry["digest"]).mkdir()
    one.index(entry)


@bad("leads out")
def index_as_a_link_out(one: Folder) -> None:
    """index.json is a link to a file of the machine."""
    (one.root / "index.json").symlink_to("/etc/passwd")


@bad("more than")
def giant_manifest(one: Folder) -> None:
    """A manifest of 400 MiB, which a sparse file costs nothing."""
    entry = one.manifest()
    with one.path(entry["digest"]).open("r+b") as file:
        file.truncate(400 << 20)
    one.index(entry)


@bad("more than")
def giant_config(one: Folder) -> None:
    """A config of 400 MiB."""
    config = one.config()
    with one.path(config["digest"]).open("r+b") as file:
        file.truncate(400 << 20)
    one.index(one.manifest(config=config))


def _index_of(one: Folder, *entries: Json) -> Json:
    text = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": list(entries)}).encode()
    return {"mediaType": INDEX, **one.blob(text)}


AMD64 = {"platform": {"os": "linux", "architecture": "amd64"}}


@bad("names no config")
def index_of_indexes(one: Folder) -> None:
    """An index whose entry for this platform is an index again, and so on."""
    entry = one.manifest() | AMD64
    for _ in range(50):
        entry = _index_of(one, *[entry] * 5) | AMD64
    one.index(entry)


@bad("do not have its digest")
def index_that_names_itself(one: Folder) -> None:
    """An index stored under the digest that it names; only a wrong digest can do so."""
    digest = "sha256:" + "0" * 64
    text = json.dumps({"mediaType": INDEX, "manifests": [{"digest": digest, "size": 1} | AMD64]})
    one.path(digest).write_text(text)
    one.index({"mediaType": INDEX, "digest": digest, "size": len(text)})


@bad("is not for linux/amd64")
def index_without_platforms(one: Folder) -> None:
    """An index that does not say what its images are for."""
    one.index(_index_of(one, one.manifest()))


@twin
def plain(one: Folder) -> None:
    """Nothing special."""
    one.index(one.manifest())


@twin
def several_platforms(one: Folder) -> None:
    """An index with this platform, and an attestation beside it."""
    strange = one.manifest() | {"platform": {"os": "unknown", "architecture": "unknown"}}
    one.index(_index_of(one, strange, one.manifest() | AMD64))


@twin
def docker_types(one: Folder) -> None:
    """Docker's own media types."""
    layer = one.layer(mediaType="application/vnd.docker.image.rootfs.diff.tar.gzip")
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    one.index(one.manifest(mediaType=kind, layers=[layer]) | {"mediaType": kind})


@twin
def links_within(one: Folder) -> None:
    """Blobs that are links to files of the same folder."""
    entry = one.manifest()
    (one.root / "pool").mkdir()
    path = one.path(entry["digest"])
    path.rename(one.root / "pool" / path.name)
    path.symlink_to(f"../../pool/{path.name}")
    one.index(entry)


@twin
def unknown_keys(one: Folder) -> None:
    """Keys that nobody knows, and labels that differ in case."""
    config = one.config(config={"Labels": {"Size": "1", "other": "2"}}, future={"deep": [[1]]})
    one.index(one.manifest(config=config, future=1, annotations={"Size": "1"}))
