"""``mealkit build --engine docker``: the same layers, unpacked by a Dockerfile, by a real engine."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any, NoReturn

import pytest
from services import RunningRegistry
from workshop import Workshop

from mealkit.errors import EngineError, UsageError
from mealkit.spec import LABEL
from mealkit_builder.build import build
from mealkit_builder.buildkit import build_with_buildkit, parse_secrets
from mealkit_builder.dockerfile import DockerfilePlan, build_context, build_with_engine
from mealkit_builder.engine import engine_address
from mealkit_builder.layout import Layout
from mealkit_builder.pull import pull_image
from mealkit_builder.reference import parse_reference
from mealkit_builder.registry import Repository


@pytest.mark.engine
@pytest.mark.registry
def test_to_a_registry(workshop: Workshop, engine: Any, registry: RunningRegistry) -> None:
    root = workshop.recipe()
    place = f"{registry.host}/engine/tiny"
    done = workshop.mealkit("build", "--project", str(root), "--engine", "docker", "--to", place, "--json")
    assert done.status == 0, done.err
    url = json.loads(done.out)["url"]
    try:
        pulled = pull_image(Repository(parse_reference(url)), url.partition("@")[2])
        assert pulled is not None
        assert json.loads(pulled.image.config.label_map[LABEL])["name"] == "tiny"
        assert pulled.image.config.entrypoint[-1] == "mealkit_runtime"
        assert pulled.image.config.user == "65532:65532"
    finally:
        for tag in ("1.0.0", "latest"):
            engine.images.remove(f"{place}:{tag}", force=True)


@pytest.mark.engine
def test_to_a_layout_folder(workshop: Workshop, engine: Any, tmp_path: Path) -> None:
    root = workshop.recipe()
    done = workshop.mealkit(
        "build", "--project", str(root), "--engine", "docker", "--to", f"oci:{tmp_path}/out", "--json"
    )
    assert done.status == 0, done.err
    pulled = pull_image(Layout(tmp_path / "out"), "latest")
    assert pulled is not None
    assert LABEL in pulled.image.config.label_map


@pytest.mark.engine
def test_no_cache_is_the_engines_too(engine: Any, bookworm: str) -> None:
    made: set[str] = set()
    probe = DockerfilePlan("probe", bookworm, (), (), (), "0:0", ("true",))
    template = '{% extends "Dockerfile.jinja" %}{% block system %}RUN date +%s%N > /made\n{% endblock %}'
    context = b"".join(build_context(probe, {}, template))
    address = engine_address(os.environ)
    assert address is not None

    def classic(use_cache: bool) -> str:
        return build_with_engine(probe, {}, engine, template=template, use_cache=use_cache)

    def buildkit(use_cache: bool) -> str:
        secrets = {"token": b"canary"}
        return build_with_buildkit([context], secrets, os.environ, address, title="probe", use_cache=use_cache)

    try:
        for way in (classic, buildkit):
            first, again, anew = (way(use_cache) for use_cache in (True, True, False))
            made |= {first, again, anew}
            assert first == again, "the engine's cache has the step"
            assert anew != first
    finally:
        for image in made:
            engine.api.remove_image(image, force=True)


@pytest.mark.engine
@pytest.mark.parametrize("name", ["build_with_engine", "build_with_buildkit"])
def test_a_build_without_the_cache_says_so_to_the_engine(
    workshop: Workshop, engine: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    root = workshop.recipe("anew")
    secrets = {"token": b"canary"} if name == "build_with_buildkit" else {}
    told: list[bool] = []

    def build_with(*arguments: object, use_cache: bool, **options: object) -> NoReturn:
        told.append(use_cache)
        raise EngineError("enough", where=name, hint="")

    monkeypatch.setattr(f"mealkit_builder.engine_build.{name}", build_with)
    for use_cache in (True, False):
        with pytest.raises(EngineError, match="enough"):
            build(workshop.request(root, engine="docker", use_cache=use_cache, secrets=secrets))
    assert told == [True, False]


@pytest.mark.parametrize("line", ['apt = ["libgomp1"]', 'dockerfile = "Dockerfile.jinja"'])
def test_what_our_own_engine_cannot_do_is_refused(workshop: Workshop, tmp_path: Path, line: str) -> None:
    root = workshop.recipe(image=line)
    done = workshop.mealkit("build", "--project", str(root), "--to", f"oci:{tmp_path}/out")
    assert done.status == 2
    assert "needs the engine docker" in done.err
    assert "hint:" in done.err
    assert not (tmp_path / "out").exists()


def test_one_platform_at_a_time(workshop: Workshop, tmp_path: Path) -> None:
    root = workshop.recipe()
    platforms = ("--platform", "linux/amd64", "--platform", "linux/arm64")
    done = workshop.mealkit(
        "build", "--project", str(root), "--engine", "docker", *platforms, "--to", f"oci:{tmp_path}/out"
    )
    assert done.status == 2
    assert "one platform at a time" in done.err


SECRET_TEMPLATE = """\
{% extends "Dockerfile.jinja" %}
{% block stages %}FROM {{ base }} AS compiled
RUN mkdir /made && echo compiled > /made/tool && echo {{ "waste" }} > /made-beside
{% endblock %}
{% block system %}{{ super() }}COPY --from=compiled /made/tool /opt/tool
USER 0:0
RUN {{ lend }}sha256sum < /run/secrets/token > /opt/proof && cat /run/secrets/token
{% endblock %}
"""


@pytest.mark.engine
def test_secrets_and_compilers_stay_outside(
    workshop: Workshop, engine: Any, bookworm: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = workshop.recipe("lent", base=f"docker:{bookworm}", image='dockerfile = "own.jinja"')
    (root / "own.jinja").write_text(SECRET_TEMPLATE)
    canary, beside = "canary-3f9c1b", "canary-77aa02"
    (tmp_path / "token").write_text(canary)
    there = workshop.having(OTHER=beside, HOME=str(tmp_path))
    done = there.mealkit(
        "build", "-C", root, "--engine", "docker", "--secret", f"id=token,src={tmp_path}/token", "--secret",
        "id=other,env=OTHER", "--to", f"oci:{tmp_path}/out", "--json", timeout=120,
    )  # fmt: skip
    assert done.status == 0, done.err
    assert not [text for text in (canary, beside) if text in done.out + done.err]
    layout = Layout(tmp_path / "out")
    pulled = pull_image(layout, "latest")
    assert pulled is not None
    found: dict[str, bytes] = {}
    for blob in (tmp_path / "out" / "blobs" / "sha256").iterdir():
        data = blob.read_bytes()
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        assert canary.encode() not in data
        assert beside.encode() not in data
        if b"ustar" in data[:512]:
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                for member in archive:
                    content = archive.extractfile(member) if member.isreg() and member.name.startswith("opt/") else None
                    found[member.name] = content.read() if content else b""
    assert found["opt/tool"] == b"compiled\n"
    assert found["opt/proof"].split()[0].decode() == hashlib.sha256(canary.encode()).hexdigest()
    assert "made-beside" not in found


@pytest.mark.engine
def test_a_step_that_fails_tells_no_secret(workshop: Workshop, engine: Any, bookworm: str, tmp_path: Path) -> None:
    root = workshop.recipe("failing", base=f"docker:{bookworm}", image='dockerfile = "own.jinja"')
    (root / "own.jinja").write_text(
        '{% extends "Dockerfile.jinja" %}{% block system %}USER 0:0\n'
        "RUN {{ lend }}cat /run/secrets/token; exit 3\n{% endblock %}"
    )
    there = workshop.having(TOKEN="canary-5d21", HOME=str(tmp_path))
    done = there.mealkit(
        "build", "-C", root, "--engine", "docker", "--secret", "id=token,env=TOKEN", "--to", f"oci:{tmp_path}/out"
    )
    assert done.status == 6
    assert "error[build]: a step of the Dockerfile failed" in done.err
    assert "canary-5d21" not in done.out + done.err
    assert "***" in done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("token", "not a secret"),
        ("id=a/b,src=x", "not a secret"),
        ("id=a,src=x,env=Y", "not a secret"),
        ("id=a,what=x", "not a secret"),
        ("id=a,src=/nowhere/at/all", "there is no such file"),
        ("id=a,env=NOT_SET_AT_ALL", "NOT_SET_AT_ALL is not set"),
        ("id=NOT_SET_AT_ALL", "NOT_SET_AT_ALL is not set"),
    ],
)
def test_what_is_no_secret_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_secrets([text], {})


def test_secrets_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"one")
    texts = [f"id=a,src={tmp_path}/file", "id=b,env=B", "id=C"]
    assert parse_secrets(texts, {"B": "two", "C": "three"}) == {"a": b"one", "b": b"two", "C": b"three"}


def test_our_own_engine_lends_no_secret(workshop: Workshop) -> None:
    done = workshop.mealkit("build", "-C", workshop.recipe(), "--secret", "id=a,env=PATH")
    assert done.status == 2
    assert "hint: add --engine docker" in done.err


def test_without_buildkit_a_hint_is_given(tmp_path: Path) -> None:
    (tmp_path / "docker").write_text("#!/bin/sh\necho usage: docker build\n")
    (tmp_path / "docker").chmod(0o755)
    with pytest.raises(EngineError, match="no docker program here has BuildKit"):
        build_with_buildkit([], {"a": b"b"}, {"PATH": str(tmp_path)}, "unix:///nowhere", title="recipe")


@pytest.mark.engine
def test_gpus_are_asked_of_the_engine(workshop: Workshop, engine: Any) -> None:
    """This machine has none: the engine must be asked, and its refusal be told."""
    url = workshop.build(workshop.recipe("graphic")).url
    done = workshop.mealkit("run", "--runner", "container", "--gpus", "all", url, "describe")
    assert done.status == 9
    assert "capabilities: [[gpu]]" in done.err
    assert "hint: install the vendor's container toolkit" in done.err


def test_a_promised_python_must_tell_its_version(workshop: Workshop, tmp_path: Path) -> None:
    root = workshop.recipe("unpromised", image='python = "/usr/bin/python3.11"')
    done = workshop.mealkit("build", "-C", root, "--to", f"oci:{tmp_path}/out")
    assert done.status == 6
    assert "there is no Python at /usr/bin/python3.11" in done.err
