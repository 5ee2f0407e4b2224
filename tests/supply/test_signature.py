"""Signatures: in both forms that cosign reads, byte for byte as it expects them, and right for OpenSSL too."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from pathlib import Path

import pytest
from services import RunningRegistry
from supply_chain import Pair, at, digest_of, openssl_verifies, push

from mealkit.errors import UsageError
from mealkit_builder.companion import copy_companions
from mealkit_builder.dsse import Statement, pre_authentication
from mealkit_builder.referrer import attach, find_subject, list_referrers, read_artifact
from mealkit_builder.signature import find_attached, signed_statement
from mealkit_builder.signing import sign_url
from mealkit_builder.testing import MemoryRegistry


def test_the_tag_form_is_what_cosign_reads(memory: MemoryRegistry, team: Pair, tmp_path: Path) -> None:
    url = push(f"{memory.host}/team/shop:1")
    signed = sign_url(f"{memory.host}/team/shop:1", team.key, {})
    assert signed.url == url
    assert signed.identity == f"{memory.host}/team/shop"
    tag = digest_of(url).replace(":", "-") + ".sig"
    manifest = json.loads(memory.manifests["team/shop"][memory.tag_digests["team/shop"][tag]][0])
    (layer,) = manifest["layers"]
    assert layer["mediaType"] == "application/vnd.dev.cosign.simplesigning.v1+json"
    payload = memory.blobs["team/shop"][layer["digest"]]
    assert payload.decode() == (
        f'{{"critical":{{"identity":{{"docker-reference":"{memory.host}/team/shop"}},'
        f'"image":{{"docker-manifest-digest":"{digest_of(url)}"}},'
        '"type":"cosign container image signature"},"optional":null}'
    )
    signature = base64.b64decode(layer["annotations"]["dev.cosignproject.cosign/signature"])
    assert openssl_verifies(team.public, payload, signature, tmp_path)
    config = json.loads(memory.blobs["team/shop"][manifest["config"]["digest"]])
    assert config["rootfs"]["diff_ids"] == [layer["digest"]]


def test_the_bundle_is_what_cosign_reads(memory: MemoryRegistry, team: Pair, tmp_path: Path) -> None:
    url = push(f"{memory.host}/team/shop:1")
    sign_url(url, team.key, {})
    place = at(f"{memory.host}/team/shop")
    (referrer,) = list_referrers(place, digest_of(url))
    assert referrer.artifact_type == "application/vnd.dev.sigstore.bundle.v0.3+json"
    assert referrer.annotations == {
        "dev.sigstore.bundle.content": "dsse-envelope",
        "dev.sigstore.bundle.predicateType": "https://sigstore.dev/cosign/sign/v1",
    }
    data = read_artifact(place, referrer, digest_of(url))
    assert data is not None
    bundle = json.loads(data)
    der = base64.b64decode("".join(team.public.read_text().splitlines()[1:-1]))
    assert bundle["mediaType"] == referrer.artifact_type
    assert (
        bundle["verificationMaterial"]["publicKey"]["hint"] == base64.b64encode(hashlib.sha256(der).digest()).decode()
    )
    envelope = bundle["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"])
    assert json.loads(payload) == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": f"{memory.host}/team/shop", "digest": {"sha256": digest_of(url).partition(":")[2]}}],
        "predicateType": "https://sigstore.dev/cosign/sign/v1",
        "predicate": {},
    }
    assert pre_authentication("a", b"bc") == b"DSSEv1 1 a 2 bc"
    message = b"DSSEv1 28 application/vnd.in-toto+json %d %b" % (len(payload), payload)
    assert openssl_verifies(team.public, message, base64.b64decode(envelope["signatures"][0]["sig"]), tmp_path)


@pytest.mark.registry
def test_a_real_registry_keeps_both_forms(registry: RunningRegistry, team: Pair, stranger: Pair) -> None:
    place_url = f"{registry.host}/signed/shop"
    url = push(place_url + ":1")
    sign_url(url, team.key, {})
    sign_url(url, stranger.key, {})
    found = find_attached(at(place_url), digest_of(url), (team.key.public,))
    assert {(one.form, one.digest, one.identity) for one in found.signatures} == {
        ("tag", digest_of(url), place_url),
        ("bundle", digest_of(url), place_url),
    }
    assert found.strangers == 2
    assert found.broken == ()
    # skopeo reads the tag as the image that it is.
    tag = digest_of(url).replace(":", "-") + ".sig"
    raw = subprocess.run(
        ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{place_url}:{tag}"],
        check=True, capture_output=True, timeout=60,
    ).stdout  # fmt: skip
    assert len(json.loads(raw)["layers"]) == 2


def test_signing_again_changes_nothing(memory: MemoryRegistry, team: Pair) -> None:
    url = push(f"{memory.host}/shop:1")
    sign_url(url, team.key, {})
    tags, manifests = dict(memory.tag_digests["shop"]), set(memory.manifests["shop"])
    memory.forget()
    sign_url(url, team.key, {})
    assert (tags, manifests) == (memory.tag_digests["shop"], set(memory.manifests["shop"]))
    assert {one.method for one in memory.seen} == {"GET"}


def test_an_index_is_signed_and_its_images_only_when_asked_for(memory: MemoryRegistry, team: Pair) -> None:
    url = push(f"{memory.host}/shop:1", several=True)
    inner = [entry["digest"] for entry in json.loads(memory.manifests["shop"][digest_of(url)][0])["manifests"]]
    place = at(f"{memory.host}/shop")
    sign_url(url, team.key, {})
    assert [len(find_attached(place, one, (team.key.public,)).signatures) for one in inner] == [0, 0]
    signed = sign_url(url, team.key, {}, recursive=True)
    assert set(signed.digests) == {digest_of(url), *inner}
    assert [len(find_attached(place, one, (team.key.public,)).signatures) for one in inner] == [2, 2]


def test_an_image_in_a_folder_is_signed_for_where_it_will_be(
    memory: MemoryRegistry, team: Pair, tmp_path: Path
) -> None:
    url = push(f"oci:{tmp_path / 'layout'}:1")
    with pytest.raises(UsageError, match="no name that a signature") as caught:
        sign_url(url, team.key, {})
    assert "--identity" in str(caught.value.hint)
    repository = f"{memory.host}/team/shop"
    assert sign_url(url, team.key, {}, identity=repository).identity == repository
    assert digest_of(push(repository + ":1")) == digest_of(url)
    copy_companions(at(f"oci:{tmp_path / 'layout'}"), at(repository), [digest_of(url)])
    found = find_attached(at(repository), digest_of(url), (team.key.public,))
    assert {(one.form, one.identity) for one in found.signatures} == {("tag", repository), ("bundle", repository)}


def test_an_image_whose_signature_was_half_removed_is_signed_again(
    memory: MemoryRegistry, team: Pair, stranger: Pair
) -> None:
    url = push(f"{memory.host}/shop:1")
    sign_url(url, stranger.key, {}, identity="registry.example.com/other")
    manifest = memory.manifests["shop"][memory.tag_digests["shop"][digest_of(url).replace(":", "-") + ".sig"]][0]
    del memory.blobs["shop"][json.loads(manifest)["layers"][0]["digest"]]
    sign_url(url, team.key, {})
    found = find_attached(at(f"{memory.host}/shop"), digest_of(url), (team.key.public,))
    assert {one.form for one in found.signatures} == {"tag", "bundle"}
    assert found.broken == ()


def test_what_strangers_attach_raises_nothing(memory: MemoryRegistry, team: Pair) -> None:
    url = push(f"{memory.host}/shop:1")
    place = at(f"{memory.host}/shop")
    sign_url(url, team.key, {})
    attach(
        place, find_subject(place, digest_of(url)), [signed_statement(Statement({"sha256:00": ""}, "x", {}), team.key)]
    )
    manifests = memory.manifests["shop"]
    tag = digest_of(url).replace(":", "-") + ".sig"
    first = manifests[memory.tag_digests["shop"][tag]][0]
    layer = json.loads(first)["layers"][0]
    bad: list[object] = [
        {**layer, "annotations": None},
        {**layer, "annotations": {"dev.cosignproject.cosign/signature": "%%%"}},
        {**layer, "annotations": {"dev.cosignproject.cosign/signature": ""}},
        {**layer, "digest": "sha256:" + "0" * 64},
        {**layer, "digest": "../../etc/passwd"},
        {**layer, "digest": 7},
        {**layer, "mediaType": "text/plain"},
        "text",
        None,
    ]
    for broken in bad:
        document = {**json.loads(first), "layers": [broken, layer]}
        data = json.dumps(document).encode()
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        manifests[digest] = (data, "application/vnd.oci.image.manifest.v1+json")
        memory.tag_digests["shop"][tag] = digest
        found = find_attached(place, digest_of(url), (team.key.public,))
        assert len(found.signatures) == 2  # the good one counts, whatever stands beside it
    for data in (b"", b"[]", b"{}", b"\xff", b'{"layers": 7}', b'{"layers": {}}'):
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        manifests[digest] = (data, "application/vnd.oci.image.manifest.v1+json")
        memory.tag_digests["shop"][tag] = digest
        found = find_attached(place, digest_of(url), (team.key.public,))
        assert [one.form for one in found.signatures] == ["bundle"]
