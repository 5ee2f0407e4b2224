"""The assembly: base, layers and what the config says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from images import tiny_layer
from workshop import Workshop

from mealkit.project import ImageSettings, Project, read_project
from mealkit_builder.assembly import ENTRYPOINT, assemble
from mealkit_builder.image import Image, ImageConfig, append, config_bytes
from mealkit_builder.platform import Platform
from mealkit_builder.revision import Revision

CLEAN = Revision("c" * 40, False, 86400)
SPEC = '{"name":"tiny"}'


@pytest.fixture
def project(shop: Workshop, tmp_path: Path) -> Project:
    return read_project(shop.recipe(within=tmp_path, lock=False))


@pytest.fixture
def base() -> Image:
    config = ImageConfig(
        env=(("PATH", "/usr/local/bin:/usr/bin"), ("LANG", "C.UTF-8")),
        entrypoint=("/bin/sh",),
        cmd=("-c",),
        user="0",
        working_dir="/src",
        labels=(("maintainer", "ada"),),
        created="2020-01-01T00:00:00Z",
    )
    layer, _ = tiny_layer("base", b"base", kind="base")
    return append(Image(Platform("linux", "amd64"), config=config), layer)


def made(base: Image, project: Project, revision: Revision = CLEAN, *, bytecode: bool = True) -> Image:
    layer, _ = tiny_layer("recipe", b"recipe")
    return assemble(
        base, [layer], project, SPEC, revision, base_name="python:3.12-slim", base_digest="sha256:1", bytecode=bytecode
    )


def test_the_image_runs_the_runtime_as_nobody_in_particular(base: Image, project: Project) -> None:
    config = json.loads(config_bytes(made(base, project)))["config"]
    assert tuple(config["Entrypoint"]) == ENTRYPOINT
    assert config["Entrypoint"][1:] == ["-I", "-m", "mealkit_runtime"]
    assert not config.get("Cmd")  # the base's would be taken for a mode
    assert config["User"] == "65532:65532"
    assert config["WorkingDir"] == "/"
    assert config["StopSignal"] == "SIGTERM"


def test_the_environment_comes_first_on_the_path_and_keeps_the_bases(base: Image, project: Project) -> None:
    environment = made(base, project).config.environment
    assert environment["PATH"] == "/opt/mealkit/venv/bin:/usr/local/bin:/usr/bin"
    assert environment["VIRTUAL_ENV"] == "/opt/mealkit/venv"
    assert environment["LANG"] == "C.UTF-8"
    bare = replace(base, config=replace(base.config, env=()))
    assert made(bare, project).config.environment["PATH"].startswith("/opt/mealkit/venv/bin:/usr/local/sbin:")


def test_labels_tell_all_that_a_platform_needs(base: Image, project: Project) -> None:
    labels = made(base, project).config.label_map
    assert labels["io.mealkit.recipe"] == SPEC
    assert labels["io.mealkit.bytecode"] == "true"
    assert labels["maintainer"] == "ada"
    prefix = "org.opencontainers.image."
    assert {name.removeprefix(prefix): value for name, value in labels.items() if name.startswith(prefix)} == {
        "title": "tiny",
        "version": "1.0.0",
        "description": "A recipe for tests.",
        "revision": "c" * 40,
        "created": "1970-01-02T00:00:00Z",
        "base.name": "python:3.12-slim",
        "base.digest": "sha256:1",
    }
    assert made(base, project, bytecode=False).config.label_map["io.mealkit.bytecode"] == "false"


def test_a_changed_source_is_told(base: Image, project: Project) -> None:
    label = "org.opencontainers.image.revision"
    assert made(base, project, replace(CLEAN, dirty=True)).config.label_map[label] == "c" * 40 + "-dirty"
    assert label not in made(base, project, replace(CLEAN, commit=None)).config.label_map


def test_settings_of_the_project_reach_the_image(base: Image, project: Project) -> None:
    root = replace(project, image=ImageSettings(user="root", env={"OMP_NUM_THREADS": "1", "LANG": "C"}))
    image = made(base, root)
    assert image.config.user == "0:0"
    assert image.config.environment["OMP_NUM_THREADS"] == "1"
    assert image.config.environment["LANG"] == "C"
    assert made(base, replace(project, image=ImageSettings(user="1000"))).config.user == "1000"


def test_layers_stand_on_the_base_in_their_order(base: Image, project: Project) -> None:
    image = made(base, project)
    assert [layer.title for layer in image.layers] == ["base", "recipe"]
    assert image.platform == base.platform


def test_equal_inputs_give_an_equal_digest(base: Image, project: Project) -> None:
    assert made(base, project).digest == made(base, project).digest
    assert made(base, project, replace(CLEAN, time=86401)).digest != made(base, project).digest
