import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from images import sample, tiny_layer

from mealkit.errors import BaseImageError
from mealkit_builder.digest import digest_bytes
from mealkit_builder.image import (
    INDEX,
    MANIFEST,
    Image,
    ImageConfig,
    annotate,
    append,
    config_bytes,
    index_bytes,
    manifest_bytes,
    set_env,
    set_labels,
)
from mealkit_builder.parse import (
    choose_platform,
    config_digest,
    image_from_manifest,
    is_index,
    linked_digests,
)
from mealkit_builder.platform import Platform

AMD, ARM = Platform("linux", "amd64"), Platform("linux", "arm64")
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,9}", fullmatch=True)


def again(image: Image) -> Image:
    return image_from_manifest(manifest_bytes(image), config_bytes(image))


def test_manifest_names_config_and_layers() -> None:
    image = sample({"a": b"1", "b": b"2"}).image
    manifest = json.loads(manifest_bytes(image))
    assert manifest["mediaType"] == MANIFEST
    assert manifest["config"]["digest"] == digest_bytes(config_bytes(image)) == config_digest(manifest_bytes(image))
    assert [layer["digest"] for layer in manifest["layers"]] == [layer.digest for layer in image.layers]
    assert manifest["layers"][0]["annotations"]["io.mealkit.layer.key"] == "test/a"
    assert set(linked_digests(manifest_bytes(image))) == {
        manifest["config"]["digest"],
        *(layer.digest for layer in image.layers),
    }
    assert image.digest == digest_bytes(manifest_bytes(image))


def test_config_follows_the_image_specification() -> None:
    config = json.loads(config_bytes(sample({"a": b"1"}).image))
    assert config["architecture"] == "amd64"
    assert config["os"] == "linux"
    assert config["created"] == "2026-01-02T03:04:05Z"
    assert config["config"] == {
        "Env": ["PATH=/usr/bin"],
        "Entrypoint": ["/bin/true"],
        "User": "65532",
        "WorkingDir": "/",
        "Labels": {"org.opencontainers.image.title": "sample"},
    }
    assert config["rootfs"]["type"] == "layers"
    assert config["history"] == [{"created_by": "mealkit: a"}]


def test_documents_are_canonical() -> None:
    image = sample({"a": b"1"}).image
    for data in (manifest_bytes(image), config_bytes(image), index_bytes([image])):
        assert data == json.dumps(json.loads(data), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    one = set_labels(image.config, {"b": "2", "a": "1"})
    assert one == set_labels(set_labels(image.config, {"a": "1"}), {"b": "2"})


def test_an_image_survives_the_way_to_json_and_back() -> None:
    image = annotate(sample({"a": b"1", "b": b"2"}).image, {"x": "y"})
    back = again(image)
    assert back.digest == image.digest
    assert again(back) == back


@given(
    env=st.dictionaries(NAMES, TEXT, max_size=4),
    labels=st.dictionaries(TEXT.filter(bool), TEXT, max_size=4),
    words=st.lists(TEXT, max_size=3),
    user=TEXT,
)
def test_any_config_survives(env: dict[str, str], labels: dict[str, str], words: list[str], user: str) -> None:
    config = set_labels(set_env(ImageConfig(cmd=tuple(words), user=user), env), labels)
    image = Image(AMD, config=config)
    assert again(image) == image


def docker_config(**more: object) -> bytes:
    layer, _ = tiny_layer("base", b"x")
    value: dict[str, object] = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2020-01-01T00:00:00Z",
        "docker_version": "20.10",
        "container": "f00",
        "container_config": {"Cmd": ["x"]},
        "author": "somebody",
        "config": {
            "Env": ["PATH=/bin", "EMPTY="],
            "Labels": {"base": "yes", "both": "base"},
            "Volumes": {"/data": {}},
            "Healthcheck": {"Test": ["NONE"]},
            "ArgsEscaped": True,
            "Cmd": ["python3"],
            "OnBuild": None,
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
        "history": [
            {"created": "2020-01-01T00:00:00Z", "created_by": "ADD rootfs"},
            {"created": "2020-01-01T00:00:00Z", "created_by": "CMD", "empty_layer": True},
        ],
    }
    return json.dumps(value | more).encode()


def docker_manifest(media_type: str = "application/vnd.docker.image.rootfs.diff.tar.gzip", layers: int = 1) -> bytes:
    layer, _ = tiny_layer("base", b"x")
    config = docker_config()
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "size": len(config),
                "digest": digest_bytes(config),
            },
            "layers": [{"mediaType": media_type, "size": layer.size, "digest": layer.digest}] * layers,
        }
    ).encode()


def test_a_docker_base_keeps_what_it_says_and_becomes_oci() -> None:
    base = image_from_manifest(docker_manifest(), docker_config())
    ours, _ = tiny_layer("recipe", b"y")
    image = append(base, ours)
    image = Image(image.platform, image.layers, set_env(set_labels(image.config, {"both": "ours"}), {"PATH": "/opt"}))
    manifest, config = json.loads(manifest_bytes(image)), json.loads(config_bytes(image))
    assert {layer["mediaType"] for layer in manifest["layers"]} == {"application/vnd.oci.image.layer.v1.tar+gzip"}
    assert config["config"]["Labels"] == {"base": "yes", "both": "ours"}
    assert config["config"]["Env"] == ["PATH=/opt", "EMPTY="]
    assert config["config"]["Volumes"] == {"/data": {}}
    assert config["config"]["Healthcheck"] == {"Test": ["NONE"]}
    assert config["author"] == "somebody"
    assert not {"container", "container_config", "docker_version"} & set(config)
    assert [line["created_by"] for line in config["history"]] == ["ADD rootfs", "CMD", "mealkit: recipe"]


@pytest.mark.parametrize("history", [[], [{"created_by": "a"}] * 3, None])
def test_history_always_fits_the_layers(history: object) -> None:
    base = image_from_manifest(docker_manifest(), docker_config(history=history))
    assert sum(not line.empty_layer for line in base.config.history) == 1


def test_index_for_two_platforms() -> None:
    arm, amd = sample({"a": b"1"}, ARM).image, sample({"a": b"1"}, AMD).image
    data = index_bytes([arm, amd])
    assert data == index_bytes([amd, arm])
    index = json.loads(data)
    assert index["mediaType"] == INDEX
    assert is_index(INDEX)
    assert choose_platform(data, ARM) == arm.digest
    assert choose_platform(data, AMD) == amd.digest


def test_choose_platform_takes_arm64_v8_and_leaves_attestations_out() -> None:
    digest = "sha256:" + "a" * 64
    index = json.dumps(
        {
            "manifests": [
                {"digest": "sha256:" + "b" * 64, "platform": {"os": "unknown", "architecture": "unknown"}},
                {"digest": digest, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
            ]
        }
    ).encode()
    assert choose_platform(index, ARM) == digest
    with pytest.raises(BaseImageError) as caught:
        choose_platform(index, AMD)
    assert caught.value.hint == "it is for linux/arm64"


@pytest.mark.parametrize(
    ("manifest", "config"),
    [
        (b"not json", b"{}"),
        (b"[]", b"{}"),
        (b"{}", b"{}"),
        (docker_manifest(layers=2), docker_config()),
        (docker_manifest("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"), docker_config()),
        (docker_manifest(), b'{"rootfs": {"diff_ids": ["md5:1"]}}'),
        (docker_manifest(), docker_config(config=7)),
        (docker_manifest(), docker_config(history=5)),
    ],
)
def test_damaged_documents_are_refused(manifest: bytes, config: bytes) -> None:
    with pytest.raises(BaseImageError) as caught:
        image_from_manifest(manifest, config)
    assert caught.value.hint


def test_an_old_schema_names_no_config() -> None:
    with pytest.raises(BaseImageError):
        config_digest(b'{"schemaVersion": 1}')
