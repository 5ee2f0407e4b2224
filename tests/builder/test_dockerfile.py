"""The engine ``docker``: a Dockerfile, built and pushed by a real engine."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engine import BOOKWORM, probe_image
from hypothesis import given
from hypothesis import strategies as st

from mealkit.errors import AuthenticationError, BuildError, EngineError, MealkitError, UnreachableError, UsageError
from mealkit.project import ImageSettings
from mealkit_builder.base import Base, resolve_base
from mealkit_builder.container import run_image
from mealkit_builder.credentials import Credentials
from mealkit_builder.dockerfile import (
    _context,
    base_in_engine,
    build_with_engine,
    context_files,
    plan_dockerfile,
    push_with_engine,
    quoted,
    render_dockerfile,
)
from mealkit_builder.image import Image, ImageConfig, set_env, set_labels
from mealkit_builder.layer import Layer
from mealkit_builder.platform import Platform, host_platform
from mealkit_builder.reference import parse_reference
from mealkit_builder.store import Store

NASTY = '{"a":"$HOME ${PATH} \\\\ \\n \\" \' # é %s ` ! "}'
BASE = Image(Platform(), (Layer("sha256:" + "a" * 64, 1, "sha256:" + "b" * 64),),
             ImageConfig(env=(("PATH", "/bin"),), labels=(("kept", "1"),)))  # fmt: skip


def made() -> Image:
    layer = Layer("sha256:" + "c" * 64, 1, "sha256:" + "d" * 64, kind="wheel", title="numpy 2.4.6")
    config = set_env(set_labels(BASE.config, {"io.x": "$1"}), {"A": "b c"})
    config = replace(config, entrypoint=("/bin/x", "-I"), user="65532:65532", stop_signal="SIGTERM", working_dir="/")
    return replace(BASE, layers=(*BASE.layers, layer), config=config)


def test_text() -> None:
    plan = plan_dockerfile(made(), BASE, "example.com/base@sha256:" + "e" * 64, ("gcc", "libgomp1=12.2.0-14"))
    lines = render_dockerfile(plan).splitlines()
    assert "FROM example.com/base@sha256:" + "e" * 64 in lines
    assert 'ADD ["layers/01-numpy-2.4.6.tar.gz", "/"]' in lines
    assert 'ENV A="b c"' in lines
    assert 'LABEL "io.x"="\\$1"' in lines
    assert 'ENTRYPOINT ["/bin/x", "-I"]' in lines
    assert 'USER "65532:65532"' in lines
    assert any("gcc libgomp1=12.2.0-14" in line for line in lines)
    assert not any("kept" in line or line.startswith("ENV PATH") for line in lines)
    assert context_files(plan, Path) == {"layers/01-numpy-2.4.6.tar.gz": Path("sha256:" + "c" * 64)}


def test_own_template() -> None:
    own = '{% extends "Dockerfile.jinja" %}{% block last %}RUN /harden.sh{% endblock %}'
    text = render_dockerfile(plan_dockerfile(made(), BASE, "base"), own)
    assert text.index("RUN /harden.sh") < text.index("USER")
    for wrong in ("{% extends 'nothing' %}", "{{ unknown }}", "{% if %}"):
        with pytest.raises(BuildError) as caught:
            render_dockerfile(plan_dockerfile(made(), BASE, "base"), wrong)
        assert caught.value.hint


@pytest.mark.parametrize("package", ["", "gcc; rm -rf /", "--option", "a\nRUN x", "Gcc", "gcc="])
def test_package_names(package: str) -> None:
    with pytest.raises(UsageError):
        plan_dockerfile(made(), BASE, "base", (package,))


def test_variable_names() -> None:
    with pytest.raises(UsageError):
        plan_dockerfile(replace(made(), config=set_env(made().config, {"A B": "1"})), BASE, "base")


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "\0"])
def test_line_breaks(value: str) -> None:
    with pytest.raises(UsageError):
        quoted(value)


@given(st.text(st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"])))
def test_quoted_is_one_word(value: str) -> None:
    text = quoted(value)
    inner = text[1:-1]
    assert text[0] == text[-1] == '"'
    plain, at = "", 0
    while at < len(inner):
        at += inner[at] == "\\"
        plain += inner[at]
        at += 1
    assert plain == value


def test_context_is_deterministic(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1" * 700)
    files = {"layers/b": tmp_path / "a", "layers/a": tmp_path / "a"}
    one = b"".join(_context("FROM x\n", files))
    (tmp_path / "a").touch()
    assert one == b"".join(_context("FROM x\n", dict(reversed(files.items()))))
    with tarfile.open(fileobj=io.BytesIO(one)) as archive:
        assert archive.getnames() == ["Dockerfile", "layers/a", "layers/b"]
    with pytest.raises(MealkitError):
        b"".join(_context("FROM x\n", {"a": tmp_path / "nothing"}))


@pytest.fixture(scope="module")
def debian(bookworm: str, shared_store: Store) -> Base:
    return resolve_base(f"docker:{BOOKWORM}", host_platform(), ImageSettings(), shared_store)


@pytest.fixture(scope="module")
def built(engine: Any, debian: Base, shared_store: Store) -> Iterator[str]:
    image = probe_image(debian, shared_store)
    image = replace(image, config=set_env(set_labels(image.config, {"io.nasty": NASTY}), {"NASTY": NASTY}))
    plan = plan_dockerfile(image, debian.image, base_in_engine(engine, debian, lambda line: None))
    image_id = build_with_engine(plan, context_files(plan, shared_store.blob_path), engine)
    yield image_id
    engine.api.remove_image(image_id, force=True)


@pytest.mark.engine
def test_same_contract(engine: Any, built: str, debian: Base, shared_store: Store) -> None:
    config = engine.api.inspect_image(built)["Config"]
    expected = probe_image(debian, shared_store).config
    assert config["Entrypoint"] == list(expected.entrypoint)
    assert config["User"] == expected.user
    assert config["Labels"]["io.nasty"] == NASTY
    assert f"NASTY={NASTY}" in config["Env"]
    assert config["StopSignal"] == "SIGTERM"
    assert not config["Cmd"]


@pytest.mark.engine
def test_runs(built: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_image(f"docker:{built}", "describe", []) == 0
    assert '"prefix": "/opt/mealkit/venv"' in capfd.readouterr().out


@pytest.mark.engine
def test_layers_hold_the_same_files(engine: Any, built: str, debian: Base, shared_store: Store) -> None:
    """What ADD unpacks is what our own engine would push."""
    layer = probe_image(debian, shared_store).layers[-1]
    with tarfile.open(shared_store.blob_path(layer.digest)) as archive:
        pushed = {member.name.removeprefix("opt/"): _state(member) for member in archive if member.name != "opt"}
    container = engine.api.create_container(built)["Id"]
    try:
        stream, _ = engine.api.get_archive(container, "/opt/mealkit")
        with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
            found = {member.name: _state(member) for member in archive}
    finally:
        engine.api.remove_container(container)
    assert found == pushed
    assert "mealkit/venv/bin/python" in found


def _state(member: tarfile.TarInfo) -> tuple[object, ...]:
    return member.type, member.mode & 0o7777, member.uid, member.gid, member.size, member.mtime, member.linkname


@pytest.mark.engine
def test_host_base_in_the_engine(
    engine: Any, host: Base, shared_store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    image = probe_image(host, shared_store)
    plan = plan_dockerfile(image, host.image, base_in_engine(engine, host, lambda line: None))
    built = build_with_engine(plan, context_files(plan, shared_store.blob_path), engine)
    assert run_image(f"docker:{built}", "describe", []) == 0
    assert '"root_writable": false' in capfd.readouterr().out


@pytest.mark.engine
def test_a_failing_step(engine: Any, debian: Base, shared_store: Store) -> None:
    plan = plan_dockerfile(probe_image(debian, shared_store), debian.image, base_in_engine(engine, debian, print))
    own = '{% extends "Dockerfile.jinja" %}{% block system %}RUN echo the reason >&2 && exit 3\n{% endblock %}'
    with pytest.raises(BuildError, match="returned a non-zero code: 3") as caught:
        build_with_engine(plan, context_files(plan, shared_store.blob_path), engine, template=own)
    assert "the reason" in str(caught.value.hint)


@pytest.mark.engine
def test_a_base_that_is_not_there(engine: Any) -> None:
    plan = plan_dockerfile(made(), BASE, "127.0.0.1:9/nothing:1")
    with pytest.raises(MealkitError):
        build_with_engine(replace(plan, layers=()), {}, engine)


@pytest.mark.engine
@pytest.mark.registry
def test_push(engine: Any, built: str, registry: Any) -> None:
    target = parse_reference(f"{registry.host}/team/built")
    digest = push_with_engine(engine, built, target, ["1.0", "latest"], None)
    from mealkit_builder.pull import pull_image
    from mealkit_builder.registry import Repository

    repository = Repository(target, {})
    for name in (digest, "1.0", "latest"):
        pulled = pull_image(repository, name, host_platform())
        assert pulled is not None
        assert pulled.manifest_digest == digest
        assert pulled.image.config.label_map["io.nasty"] == NASTY
    repository.close()


@pytest.mark.engine
@pytest.mark.registry
def test_push_with_credentials(engine: Any, built: str, auth_registry: Any) -> None:
    target = parse_reference(f"{auth_registry.host}/team/built")
    good = Credentials(auth_registry.username, auth_registry.password)
    assert push_with_engine(engine, built, target, ["1"], good).startswith("sha256:")
    with pytest.raises(AuthenticationError) as caught:
        push_with_engine(engine, built, target, ["1"], Credentials(auth_registry.username, "wrong"))
    assert "wrong" not in str(caught.value)
    assert caught.value.hint == f"docker login {auth_registry.host}"


@pytest.mark.engine
def test_push_to_nowhere(engine: Any, built: str) -> None:
    with pytest.raises((UnreachableError, EngineError)):
        push_with_engine(engine, built, parse_reference("127.0.0.1:9/team/built"), ["1"], None)
