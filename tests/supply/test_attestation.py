"""What a build attaches when asked to, and nothing when not; and the commands around it, as a person runs them."""

from __future__ import annotations

import io
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from images import tiny_layer
from services import RunningRegistry
from supply_chain import PASSWORD, Pair, at, digest_of
from workshop import VERSION, Workshop, commit, make_base

from mealkit.errors import ProjectError, UsageError
from mealkit.project import read_project
from mealkit_builder.admission import admit
from mealkit_builder.bill import plain_remote
from mealkit_builder.copying import copy_image
from mealkit_builder.cyclonedx import from_cyclonedx
from mealkit_builder.dsse import parse_statement
from mealkit_builder.evidence import IN_TOTO
from mealkit_builder.image import Image, ImageConfig, append
from mealkit_builder.layout import Layout
from mealkit_builder.platform import Platform
from mealkit_builder.policy import read_policy
from mealkit_builder.progress import Silent
from mealkit_builder.push import push_image
from mealkit_builder.referrer import list_referrers, read_artifact
from mealkit_builder.sbom import read_sbom
from mealkit_builder.testing import MemoryRegistry

STATUS = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36-9\n"


def provenance(url: str) -> dict[str, Any]:
    """The plain provenance that is attached to an image."""
    place, digest = at(url.rpartition("@")[0]), digest_of(url)
    (found,) = (one for one in list_referrers(place, digest) if one.artifact_type == IN_TOTO)
    data = read_artifact(place, found, digest)
    assert data is not None
    assert digest in parse_statement(data).subjects
    value: dict[str, Any] = json.loads(data)
    return value


def base_with_dpkg(folder: Path) -> str:
    """A base that says which packages of its distribution it has."""
    made = [tiny_layer(name, data, kind="") for name, data in (
        ("usr/lib/x86_64-linux-gnu/libc.so.6", b"\0GNU C Library (tests) stable release version 2.36.\n"),
        ("var/lib/dpkg/status", STATUS.encode()),
        ("etc/os-release", b'ID=debian\nVERSION_ID="12"\n'),
    )]  # fmt: skip
    config = ImageConfig(env=(("PATH", "/usr/local/bin:/usr/bin:/bin"), ("PYTHON_VERSION", VERSION)))
    blobs = {layer.digest: data for layer, data in made}
    image = append(Image(Platform(), config=config), *(layer for layer, _ in made))
    push_image(image, Layout(folder), lambda digest: io.BytesIO(blobs[digest]), tags=("latest",))
    return f"oci:{folder}"


def test_a_build_attaches_nothing_and_asks_nothing_more_unless_told(shop: Workshop, memory: MemoryRegistry) -> None:
    root = shop.recipe("plain-build")
    url = shop.build(root, f"{memory.host}/plain").url
    memory.forget()
    shop.build(root, f"{memory.host}/plain")
    assert not [one.path for one in memory.seen if "referrers" in one.path or "sha256-" in one.path]
    assert list_referrers(at(f"{memory.host}/plain"), digest_of(url)) == ()


def test_provenance_tells_what_the_image_is_made_of(shop: Workshop, memory: MemoryRegistry, tmp_path: Path) -> None:
    shop.wheel("known", "2.0")
    root = shop.recipe("provable", dependencies=["known"], within=tmp_path, base=base_with_dpkg(tmp_path / "base"))
    shop.build(root)  # makes the lock
    commit(root)
    record = shop.build(root, f"{memory.host}/provable", attest=True)
    predicate = provenance(record.url)["predicate"]
    definition = predicate["buildDefinition"]
    assert definition["buildType"] == "urn:mealkit:build:recipe:v1"
    assert definition["externalParameters"] == {
        "project": {"name": "provable", "version": "1.0.0"},
        "base": record.base,
        "platforms": ["linux/amd64"],
        "engine": "oci",
        "bytecode": True,
    }
    assert definition["internalParameters"]["sourceDateEpoch"] == 1767225600
    found = {one["name"]: one for one in definition["resolvedDependencies"]}
    assert found["source"]["digest"] == {"gitCommit": record.revision}
    assert found["pylock.toml"]["digest"]["sha256"] == record.lock_digest.removeprefix("sha256:")
    assert found["base linux/amd64"]["digest"]["sha256"] == record.base_digest["linux/amd64"].removeprefix("sha256:")
    wheel = found["known-2.0-py3-none-any.whl"]
    assert wheel["uri"] == "pkg:pypi/known@2.0"
    assert wheel["digest"]["sha256"] in (root / "pylock.toml").read_text()
    assert predicate["runDetails"]["builder"]["id"] == "urn:mealkit:builder"
    bill = from_cyclonedx(read_sbom(record.url, shop.environment).data)
    assert bill.complete
    assert [(one.name, one.version) for one in bill.components if one.kind == "debian"] == [("libc6", "2.36-9")]


def test_another_machine_attaches_the_same(workshop: Workshop, memory: MemoryRegistry) -> None:
    root = workshop.recipe("same")
    made = []
    for number, machine in enumerate((workshop, workshop.fresh())):
        url = machine.build(root, f"{memory.host}/same{number}", attest=True).url
        made.append({one.digest for one in list_referrers(at(url.rpartition("@")[0]), digest_of(url))})
    assert len(made[0]) == 2
    # The wheels of both machines were here; one that has none of them would not know their licences.
    assert made[0] == made[1]
    manifests = set(memory.manifests["same1"])
    for machine in (workshop, workshop.fresh("third")):  # which takes the choice of wheels from the last image
        machine.build(root, f"{memory.host}/same1", attest=True)
        assert provenance(url)["predicate"]["buildDefinition"]["resolvedDependencies"][2:]
    assert set(memory.manifests["same1"]) == manifests


@pytest.mark.parametrize(
    ("remote", "plain"),
    [
        (
            "https://ada:s3cret@git.example.com/team/shop.git?token=s3cret#s3cret",
            "https://git.example.com/team/shop.git",
        ),
        ("git@git.example.com:team/shop.git", "ssh://git.example.com/team/shop.git"),
        ("ssh://git:s3cret@git.example.com:2222/shop", "ssh://git.example.com:2222/shop"),
        ("/srv/git/shop.git", ""),
        ("file:///srv/git/shop.git", ""),
        ("C:\\git\\shop", ""),
        ("https://[s3cret", ""),
        ("", ""),
    ],
)
def test_a_remote_loses_what_could_let_one_in(remote: str, plain: str) -> None:
    assert plain_remote(remote) == plain


def test_no_secret_of_the_remote_is_attached(shop: Workshop, memory: MemoryRegistry, tmp_path: Path) -> None:
    root = shop.recipe("remote", within=tmp_path)
    commit(root)
    config = root / ".git" / "config"
    config.write_text(config.read_text() + '[remote "origin"]\n\turl = https://ada:s3cret@git.example.com/shop.git\n')
    record = shop.having(MEALKIT_BUILDER_ID="https://ci.example.com/shop").build(
        root, f"{memory.host}/remote", attest=True
    )
    predicate = provenance(record.url)["predicate"]
    source = predicate["buildDefinition"]["resolvedDependencies"][0]
    assert source["uri"] == f"git+https://git.example.com/shop.git@{record.revision}"
    assert predicate["runDetails"]["builder"]["id"] == "https://ci.example.com/shop"
    everything = b"".join(data for _, data in memory.blobs["remote"].items())
    assert b"s3cret" not in everything


def test_an_index_is_signed_with_all_that_belongs_to_it(
    shop: Workshop, memory: MemoryRegistry, tmp_path: Path, team: Pair
) -> None:
    base = make_base(tmp_path / "two", platforms=("amd64", "arm64"))
    root = shop.recipe(
        "both", base=base, within=tmp_path, image='attest = true\nplatforms = ["linux/amd64", "linux/arm64"]'
    )
    record = shop.build(root, f"{memory.host}/team/both", sign_key=team.key)
    policy = tmp_path / "policy.toml"
    policy.write_text(
        f'[[allow]]\nrepositories = ["{memory.host}/team/*"]\nkeys = ["{team.public}"]\n'
        'attestations = ["sbom", "provenance"]\nkinds = ["classification"]\nbuilders = ["urn:mealkit:*"]\n'
    )
    found = admit(record.url, shop.environment, policy=read_policy(policy))
    assert found.attestations == {"sbom": True, "provenance": True}
    assert {one.form for one in found.signatures} == {"tag", "bundle"}
    arm = read_sbom(record.url, shop.environment, platform=Platform("linux", "arm64"))
    assert from_cyclonedx(arm.data).platform == "linux/arm64"


def test_a_folder_is_signed_for_the_projects_repository_and_pushed_with_all_of_it(
    shop: Workshop, registry: RunningRegistry, tmp_path: Path, team: Pair
) -> None:
    repository = f"{registry.host}/signed/along"
    with pytest.raises(UsageError, match="no name that a signature") as caught:
        shop.build(shop.recipe("homeless", within=tmp_path), f"oci:{tmp_path / 'never'}", sign_key=team.key)
    assert "--identity" in str(caught.value.hint)
    assert not (tmp_path / "never").exists()
    root = shop.recipe("along", within=tmp_path, image=f'repository = "{repository}"')
    record = shop.build(root, f"oci:{tmp_path / 'images'}", attest=True, sign_key=team.key)
    copied = copy_image(record.url, repository, ("1",), shop.environment, Silent())
    found = admit(copied.url, shop.environment, keys=(team.key.public,))
    assert {one.form for one in found.signatures} == {"tag", "bundle"}
    assert found.attestations == {"sbom": True, "provenance": True}
    bare = copy_image(record.url, f"{registry.host}/signed/bare", ("1",), shop.environment, Silent(), attached=False)
    assert list_referrers(at(f"{registry.host}/signed/bare"), digest_of(bare.url)) == ()


def test_attest_is_a_yes_or_a_no(shop: Workshop, tmp_path: Path) -> None:
    root = shop.recipe("maybe", within=tmp_path, image='attest = "maybe"')
    with pytest.raises(ProjectError, match="true or false"):
        read_project(root)


def test_from_key_to_refusal_on_the_command_line(shop: Workshop, memory: MemoryRegistry, tmp_path: Path) -> None:
    machine = shop.having(MEALKIT_KEY_PASSWORD=PASSWORD)
    root = shop.recipe("commanded", within=tmp_path)
    key, public, place = tmp_path / "ci.key", tmp_path / "ci.pub", f"{memory.host}/team/commanded"
    made = machine.mealkit("sign", "--generate-key", tmp_path / "ci")
    assert made.status == 0, made.err
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert machine.mealkit("sign", "--generate-key", tmp_path / "ci").status == 2

    built = machine.mealkit("build", "-C", root, "--to", f"{place}:1", "--attest", "--sign-key", key, "--quiet")
    assert built.status == 0, built.err
    url = built.out.strip()
    verified = machine.mealkit("verify", f"{place}:1", "--key", public, "--json")
    assert verified.status == 0, verified.err
    told = json.loads(verified.out)
    assert told["url"] == url
    assert told["attestations"] == [{"kind": "sbom", "signed": True}, {"kind": "provenance", "signed": True}]
    shown = machine.mealkit("verify", url, "--key", public)
    assert "there is no policy here" in shown.err
    assert shown.out.splitlines()[-1] == url

    listed = machine.mealkit("sbom", url, "--format", "spdx", "-o", tmp_path / "sbom.json")
    assert (listed.status, listed.out, listed.err) == (0, "", "")
    assert json.loads((tmp_path / "sbom.json").read_text())["spdxVersion"] == "SPDX-2.3"

    both = machine.mealkit("verify", url, "--key", public, "--rebuild", "-C", root, "--json")
    assert both.status == 0, both.err
    assert json.loads(both.out)["rebuilt"]["same"] is True
    nothing = machine.mealkit("verify", url)  # without key and policy it is rebuilt, for which a project is needed
    assert nothing.status == 2
    assert "pyproject.toml" in nothing.err
    keyless = machine.having(MEALKIT_KEY_PASSWORD="wrong").mealkit("sign", url, "--key", key)
    assert keyless.status == 2
    assert "wrong password" in keyless.err

    policy = tmp_path / "policy.toml"
    policy.write_text(f'[[allow]]\nrepositories = ["{memory.host}/team/*"]\nkeys = ["ci.pub"]\n')
    strict = machine.having(MEALKIT_POLICY=str(policy))
    assert strict.mealkit("verify", url).status == 0
    other = machine.mealkit("build", "-C", root, "--to", f"{memory.host}/elsewhere/commanded:1", "--quiet").out.strip()
    for command in (("verify", other), ("run", other, "describe")):
        refused = strict.mealkit(*command)
        assert refused.status == 10
        assert refused.err.startswith("error[refused]: the policy allows no image of")
    policy.write_text("alow = 1")
    broken = strict.mealkit("run", url, "describe")
    assert broken.status == 2
    assert "did you mean 'allow'?" in broken.err
