"""``mealkit build --engine docker``: the same layers, unpacked by a Dockerfile, by a real engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from services import RunningRegistry
from workshop import Workshop

from mealkit.spec import LABEL
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
