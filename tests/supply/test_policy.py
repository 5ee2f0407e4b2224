"""The policy: what it does not allow is refused, whatever a stranger attaches, moves or changes."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from supply_chain import Pair, at, digest_of, openssl_verifies, push

from mealkit.errors import MealkitError, PolicyError, RefusedError, RegistryError, VerificationError
from mealkit_builder.admission import Admitted, admit, admit_by_policy
from mealkit_builder.digest import digest_bytes
from mealkit_builder.dsse import BUNDLE, Statement, statement_bytes
from mealkit_builder.evidence import CYCLONEDX, IN_TOTO, PREDICATES, PROVENANCE
from mealkit_builder.image import INDEX, Image, ImageConfig, append, canonical_json
from mealkit_builder.platform import Platform
from mealkit_builder.policy import matches, read_policy
from mealkit_builder.policy_file import find_policy
from mealkit_builder.provenance import BUILDER
from mealkit_builder.push import push_image
from mealkit_builder.referrer import Artifact, attach, find_subject, referrers_tag
from mealkit_builder.signature import SIGNATURE_ANNOTATION, signed_statement, simple_payload
from mealkit_builder.signature_tag import add_layers
from mealkit_builder.signing import sign_url
from mealkit_builder.testing import MemoryRegistry

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
LABELS = {
    "io.mealkit.packages": "numpy==2.4.6 requests==2.31.0",
    "io.mealkit.recipe": '{"kind":"classification"}',
    "io.mealkit.version": "0.1.0",
    "org.opencontainers.image.base.digest": "sha256:" + "b" * 64,
    "org.opencontainers.image.base.name": "python:3.12-slim",
}
ALLOW = """
[[allow]]
repositories = ["127.0.0.1:*/team/*"]
keys = ["{public}"]
"""


@dataclass
class Bench:
    """A registry with one image, and the hands that touch it."""

    registry: MemoryRegistry
    team: Pair
    stranger: Pair
    folder: Path

    def __post_init__(self) -> None:
        self.url = self.image("shop", "hello")
        self.digest = digest_of(self.url)
        self.asked = self.url
        self.policy = ALLOW.format(public=self.team.public)

    @property
    def repository(self) -> str:
        return f"{self.registry.host}/team/shop"

    def image(self, name: str, text: str, tag: str = "1") -> str:
        image = append(Image(Platform(), config=ImageConfig(labels=tuple(LABELS.items()), env=(("TEXT", text),))))
        place = at(f"{self.registry.host}/team/{name}")
        return push_image(image, place, lambda digest: pytest.fail(digest), tags=(tag,)).url

    def sign(self, pair: Pair | None = None, url: str = "", identity: str | None = None) -> None:
        sign_url(url or self.url, (pair or self.team).key, {}, identity=identity)

    def attach(self, *artifacts: Artifact, digest: str = "") -> None:
        place = at(self.repository)
        attach(place, find_subject(place, digest or self.digest), artifacts)

    def statement(self, kind: str, pair: Pair | None = None, digest: str = "", predicate: object = None) -> Artifact:
        made = Statement({digest or self.digest: self.repository}, PREDICATES[kind][0], predicate or {})  # type: ignore[arg-type]
        return signed_statement(made, (pair or self.team).key)

    def tag_layer(self, payload: bytes, signature: bytes, digest: str = "") -> None:
        """Put a payload and a signature into the tag form, as somebody with push rights can."""
        place = at(self.repository)
        name = "sha256:" + hashlib.sha256(payload).hexdigest()
        self.registry.blobs["team/shop"][name] = payload
        annotations = {SIGNATURE_ANNOTATION: base64.b64encode(signature).decode()}
        layer = {"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "digest": name,
                 "size": len(payload), "annotations": annotations}  # fmt: skip
        add_layers(place, referrers_tag(digest or self.digest) + ".sig", [layer])

    def check(self) -> Admitted:
        file = self.folder / "policy.toml"
        file.write_text(self.policy)
        return admit(self.asked, {}, policy=read_policy(file))


@pytest.fixture(params=[True, False], ids=["referrers", "tags"])
def bench(request: pytest.FixtureRequest, team: Pair, stranger: Pair, tmp_path: Path) -> object:
    with MemoryRegistry(referrers=request.param) as registry:
        yield Bench(registry, team, stranger, tmp_path)


def unsigned(bench: Bench) -> None:
    pass


def by_another_key(bench: Bench) -> None:
    bench.sign(bench.stranger)


def of_another_digest(bench: Bench) -> None:
    other = bench.image("shop", "other", tag="2")
    bench.sign(url=other)
    tags, manifests = bench.registry.tag_digests["team/shop"], bench.registry.manifests["team/shop"]
    tags[referrers_tag(bench.digest) + ".sig"] = tags[referrers_tag(digest_of(other)) + ".sig"]
    for data, _ in list(manifests.values()):  # the bundle moves too, its manifest rewritten for the new subject
        document = json.loads(data)
        if document.get("subject", {}).get("digest") == digest_of(other):
            blob = bench.registry.blobs["team/shop"][document["layers"][0]["digest"]]
            bench.attach(Artifact(BUNDLE, blob))


def with_a_changed_payload(bench: Bench) -> None:
    payload = simple_payload(bench.repository, "sha256:" + "0" * 64)
    signature = bench.team.key.sign(payload)
    bench.tag_layer(simple_payload(bench.repository, bench.digest), signature)


def for_another_repository(bench: Bench) -> None:
    bench.sign(identity="registry.example.com/other/shop")


def tag_moved_after_signing(bench: Bench) -> None:
    bench.sign()
    bench.image("shop", "evil")
    bench.asked = bench.repository + ":1"


def image_of_a_signed_index(bench: Bench) -> None:
    index = push(f"{bench.registry.host}/team/shop:several", several=True)
    bench.sign(url=index)
    document = json.loads(bench.registry.manifests["team/shop"][digest_of(index)][0])
    bench.asked = f"{bench.repository}@{document['manifests'][0]['digest']}"


def malformed_bundle(bench: Bench) -> None:
    for data in (b"{}", b"no", b'{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json"}'):
        bench.attach(Artifact(BUNDLE, data))
    envelope = {"payload": "e30=", "payloadType": IN_TOTO, "signatures": []}
    bench.attach(Artifact(BUNDLE, json.dumps({"mediaType": BUNDLE, "dsseEnvelope": envelope}).encode()))


def denied_package(bench: Bench) -> None:
    bench.sign()
    bench.policy = 'deny = ["requests<2.32"]\n' + bench.policy


def missing_attestation(bench: Bench) -> None:
    bench.sign()
    bench.attach(Artifact(CYCLONEDX, b'{"bomFormat":"CycloneDX"}'))  # not signed, so not enough
    bench.policy += 'attestations = ["sbom", "provenance"]\n'


def attestation_by_another_key(bench: Bench) -> None:
    bench.sign()
    bench.attach(bench.statement("sbom", bench.stranger), bench.statement("provenance", bench.stranger))
    bench.policy += 'attestations = ["sbom", "provenance"]\n'


def attestation_of_another_image(bench: Bench) -> None:
    bench.sign()
    bench.attach(*(bench.statement(kind, digest="sha256:" + "0" * 64) for kind in PREDICATES))
    bench.policy += 'attestations = ["sbom", "provenance"]\n'


def another_base(bench: Bench) -> None:
    bench.sign()
    bench.policy += 'bases = ["python:3.13-*", "sha256:' + "c" * 64 + '"]\n'


def another_kind(bench: Bench) -> None:
    bench.sign()
    bench.policy += 'kinds = ["regression"]\n'


def another_builder(bench: Bench) -> None:
    bench.sign()
    bench.attach(
        bench.statement("provenance", predicate={"runDetails": {"builder": {"id": "https://evil.example/ci"}}})
    )
    bench.policy += f'builders = ["{BUILDER}", "https://ci.example.com/*"]\n'


def another_host(bench: Bench) -> None:
    bench.sign()
    bench.policy = bench.policy.replace("127.0.0.1:*/team/*", "registry.example.com/team/*")


def no_rule(bench: Bench) -> None:
    bench.sign()
    bench.policy = ""


@pytest.mark.parametrize(
    ("done", "said"),
    [
        (unsigned, "the image is not signed"),
        (by_another_key, "no signature of the image is by a key that is trusted here"),
        (of_another_digest, "the signature is of another image"),
        (with_a_changed_payload, "no signature of the image is by a key that is trusted here, or it was changed"),
        (for_another_repository, "was signed for registry.example.com/other/shop, not for"),
        (tag_moved_after_signing, "the image is not signed"),
        (image_of_a_signed_index, "the image is not signed"),
        (malformed_bundle, "signature cannot be read"),
        (denied_package, r"it has requests 2.31.0, which the policy denies \(requests<2.32\)"),
        (missing_attestation, "it has no signed sbom; it has no signed provenance"),
        (attestation_by_another_key, "it has no signed sbom; it has no signed provenance"),
        (attestation_of_another_image, "it has no signed sbom; it has no signed provenance"),
        (another_base, "its base is not allowed: python:3.12-slim"),
        (another_kind, "its kind is not allowed: classification"),
        (another_builder, "its builder is not allowed: https://evil.example/ci"),
        (another_host, "the policy allows no image of"),
        (no_rule, "the policy allows no image of"),
    ],
)
def test_what_the_policy_does_not_allow_is_refused(bench: Bench, done: Callable[[Bench], None], said: str) -> None:
    done(bench)
    with pytest.raises(RefusedError, match=said) as caught:
        bench.check()
    assert caught.value.where
    assert caught.value.hint
    assert caught.value.exit_code == 10


def good(bench: Bench) -> None:
    bench.sign()


def good_among_strangers(bench: Bench) -> None:
    malformed_bundle(bench)
    by_another_key(bench)
    with_a_changed_payload(bench)
    bench.sign()


def good_by_the_tag_form_alone(bench: Bench) -> None:
    payload = simple_payload(bench.repository, bench.digest)
    bench.tag_layer(payload, bench.team.key.sign(payload))


def good_by_the_bundle_alone(bench: Bench) -> None:
    bench.sign()
    del bench.registry.tag_digests["team/shop"][referrers_tag(bench.digest) + ".sig"]


def good_copy_of_an_allowed_origin(bench: Bench) -> None:
    bench.sign(identity="registry.example.com/other/shop")
    bench.policy += 'identities = ["registry.example.com/**"]\n'


def good_in_every_way(bench: Bench) -> None:
    bench.sign()
    predicate = {"runDetails": {"builder": {"id": "https://ci.example.com/7"}}}
    bench.attach(bench.statement("sbom"), bench.statement("provenance", predicate=predicate))
    bench.policy += (
        'attestations = ["sbom", "provenance"]\nbases = ["python:3.12-*"]\nkinds = ["classification"]\n'
        'builders = ["https://ci.example.com/*"]\n'
    )
    bench.policy = 'deny = ["requests<2.31", "urllib3"]\n' + bench.policy


def good_base_by_digest(bench: Bench) -> None:
    bench.sign()
    bench.policy += 'bases = ["sha256:' + "b" * 64 + '"]\n'


def good_base_by_its_whole_name(bench: Bench) -> None:
    bench.sign()
    bench.policy += 'bases = ["docker.io/library/python:*"]\n'


def good_without_keys(bench: Bench) -> None:
    statement = Statement({bench.digest: ""}, PROVENANCE, {})
    bench.attach(Artifact(CYCLONEDX, b'{"bomFormat":"CycloneDX"}'), Artifact(IN_TOTO, statement_bytes(statement)))
    bench.policy = '[[allow]]\nrepositories = ["127.0.0.1:*/**"]\nattestations = ["sbom", "provenance"]\n'


@pytest.mark.parametrize(
    "done",
    [good, good_among_strangers, good_by_the_tag_form_alone, good_by_the_bundle_alone, good_copy_of_an_allowed_origin,
     good_in_every_way, good_base_by_digest, good_base_by_its_whole_name, good_without_keys],
)  # fmt: skip
def test_what_the_policy_allows_passes(bench: Bench, done: Callable[[Bench], None]) -> None:
    done(bench)
    found = bench.check()
    assert found.url == bench.url
    assert found.policy == str(bench.folder / "policy.toml")
    assert bool(found.signatures) == (done is not good_without_keys)


def test_the_tag_is_resolved_once_and_told_by_digest(bench: Bench) -> None:
    bench.sign()
    bench.asked = bench.repository + ":1"
    assert bench.check().url == bench.url
    assert admit_by_policy(bench.asked, {}, bench.folder / "policy.toml") == bench.url


def test_keys_of_the_command_count_without_a_policy(bench: Bench, tmp_path: Path) -> None:
    keys = (bench.team.key.public,)
    with pytest.raises(VerificationError, match="is not signed"):
        admit(bench.url, {}, keys=keys)
    bench.sign()
    found = admit(bench.url, {}, keys=keys)
    assert {one.form for one in found.signatures} == {"tag", "bundle"}
    with pytest.raises(VerificationError, match="by a key that is trusted"):
        admit(bench.url, {}, keys=(bench.stranger.key.public,))
    with pytest.raises(VerificationError, match="was signed for"):
        admit(bench.url, {}, keys=keys, identities=("registry.example.com/x",))
    # OpenSSL's opinion on the very bytes that were accepted.
    tag = referrers_tag(bench.digest) + ".sig"
    stored = bench.registry.manifests["team/shop"][bench.registry.tag_digests["team/shop"][tag]][0]
    layer = json.loads(stored)["layers"][0]
    payload = bench.registry.blobs["team/shop"][layer["digest"]]
    signature = base64.b64decode(layer["annotations"][SIGNATURE_ANNOTATION])
    assert openssl_verifies(bench.team.public, payload, signature, tmp_path)
    assert not openssl_verifies(bench.stranger.public, payload, signature, tmp_path)


def test_an_index_needs_an_sbom_for_each_image(bench: Bench) -> None:
    index = push(f"{bench.registry.host}/team/shop:several", several=True)
    bench.sign(url=index)
    document = json.loads(bench.registry.manifests["team/shop"][digest_of(index)][0])
    first, second = (entry["digest"] for entry in document["manifests"])
    bench.asked = index
    bench.policy += 'attestations = ["sbom"]\n'
    bench.attach(bench.statement("sbom", digest=first), digest=first)
    with pytest.raises(RefusedError, match="no signed sbom"):
        bench.check()
    bench.attach(bench.statement("sbom", digest=second), digest=second)
    assert bench.check().url == index


def index_of(bench: Bench, *entries: dict[str, object]) -> str:
    """A signed index of these entries; its URL."""
    data = canonical_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
    digest = at(bench.repository).put_manifest(data, INDEX, "index")
    url = f"{bench.repository}@{digest}"
    bench.sign(url=url)
    return url


def test_an_index_that_hides_its_images_is_refused(bench: Bench) -> None:
    amd64 = {"os": "linux", "architecture": "amd64"}
    image: dict[str, object] = {"mediaType": MANIFEST, "digest": bench.digest, "size": 1}
    policy = bench.folder / "policy.toml"
    policy.write_text('deny = ["requests<2.32"]\n' + bench.policy)
    for entries, said in (
        ((), "it has no image for this platform"),
        (({**image, "platform": {"os": "linux", "architecture": "arm64"}},), "it has no image for this platform"),
        (({**image, "platform": {"os": "unknown", "architecture": "unknown"}},), "it has no image for this platform"),
        ((image,), "which the policy denies"),  # an engine may choose an entry without a platform
        (({**image, "platform": amd64},), "which the policy denies"),
    ):
        url = index_of(bench, *entries)
        with pytest.raises(RefusedError, match=said):
            admit_by_policy(url, {}, policy, Platform())
    for many in (7, {"a": 1}, [7], [image] * 65):
        data = canonical_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": many})
        bench.registry.manifests["team/shop"][digest_bytes(data)] = (data, INDEX)
        with pytest.raises(RegistryError, match=r"damaged|too many"):
            admit_by_policy(f"{bench.repository}@{digest_bytes(data)}", {}, policy, Platform())
    nested = index_of(bench, {"mediaType": INDEX, "digest": digest_of(url), "size": 1, "platform": amd64})
    with pytest.raises(MealkitError, match="cannot be judged"):
        admit_by_policy(nested, {}, policy, Platform())


@pytest.mark.parametrize(
    ("text", "said", "where"),
    [
        ("x = 1", "unknown key 'x'", "x"),
        ("[[allow]]\nrepositorys = []", "unknown key 'repositorys'", "allow[0].repositorys"),
        ("[[allow]]\nkeys = []", "must name the repositories", "allow[0].repositories"),
        ("[allow]\nrepositories = ['a']", "must be a list of tables", "allow"),
        ("[[allow]]\nrepositories = 'a'", "must be a list of strings", "allow[0].repositories"),
        (
            "[[allow]]\nrepositories = ['a']\nattestations = ['bom']",
            "unknown attestation 'bom'",
            "allow[0].attestations",
        ),
        ("[[allow]]\nrepositories = ['a']\nkeys = ['none.pub']", "cannot be read", "allow[0].keys"),
        ("[[allow]]\nrepositories = ['a']\nkeys = ['-----BEGIN x']", "no public key", "allow[0].keys"),
        ("deny = ['<<<']", "not a requirement", "deny"),
        ("deny = [", "cannot be read", ""),
    ],
)
def test_a_wrong_policy_is_told_by_key(tmp_path: Path, text: str, said: str, where: str) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(text)
    with pytest.raises(PolicyError, match=said) as caught:
        read_policy(file)
    assert str(caught.value.where).endswith(where)
    assert caught.value.hint
    assert caught.value.exit_code == 2


def test_a_typo_gets_the_nearest_key(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text("[[allow]]\nrepositorys = []")
    with pytest.raises(PolicyError) as caught:
        read_policy(file)
    assert caught.value.hint == "did you mean 'repositories'?"


def test_keys_are_named_beside_the_policy_or_written_in_it(tmp_path: Path, team: Pair) -> None:
    (tmp_path / "team.pub").write_bytes(team.public.read_bytes())
    file = tmp_path / "policy.toml"
    inline = team.public.read_text().strip()
    file.write_text(f"[[allow]]\nrepositories = ['a']\nkeys = ['team.pub', '''{inline}''']")
    (rule,) = read_policy(file).rules
    assert rule.keys == (team.key.public, team.key.public)


def test_the_first_rule_that_has_the_repository_decides(tmp_path: Path, team: Pair) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(
        f"[[allow]]\nrepositories = ['h/team/open']\n[[allow]]\nrepositories = ['h/**']\nkeys = ['{team.public}']\n"
    )
    policy = read_policy(file)
    assert policy.rule("h/team/open").keys == ()
    assert policy.rule("h/team/other").keys == (team.key.public,)


@pytest.mark.parametrize(
    ("pattern", "text", "is_match"),
    [
        ("h/team/*", "h/team/a", True),
        ("h/team/*", "h/team/a/b", False),
        ("h/team/**", "h/team/a/b", True),
        ("*.example.com/team/a", "evil.com/x.example.com/team/a", False),
        ("h/a", "h/a", True),
        ("h/a", "h/ab", False),
        ("h/a", "xh/a", False),
        ("h.x/a", "h-x/a", False),
        ("h/*", "h/a\nb", True),
    ],
)
def test_patterns(pattern: str, text: str, is_match: bool) -> None:
    assert matches(pattern, text) == is_match


def test_where_the_policy_is_found(tmp_path: Path) -> None:
    usual = tmp_path / ".config" / "mealkit" / "policy.toml"
    environment = {"HOME": str(tmp_path)}
    assert find_policy(None, environment) is None
    usual.parent.mkdir(parents=True)
    usual.symlink_to("nowhere")
    assert find_policy(None, environment) == usual  # it cannot be read, and so allows nothing
    usual.unlink()
    usual.write_text("")
    named = tmp_path / "other.toml"
    named.write_text("")
    assert find_policy(None, environment) == usual
    assert find_policy(None, {**environment, "MEALKIT_POLICY": str(named)}) == named
    assert find_policy(named, {**environment, "MEALKIT_POLICY": "/none"}) == named
    for wrong in ((tmp_path / "none", environment), (None, {**environment, "MEALKIT_POLICY": "/none"})):
        with pytest.raises(PolicyError, match="no such policy"):
            find_policy(*wrong)


def test_an_image_of_the_engine_is_refused_where_there_is_a_policy(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text('[[allow]]\nrepositories = ["**"]\n')
    with pytest.raises(MealkitError, match="in the local engine"):
        admit_by_policy("docker:shop", {}, file)
