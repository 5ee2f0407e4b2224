"""Components are found in the sources, however they are bound there, and missed before anything is built."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from workshop import Workshop

from mealkit.errors import ProjectError
from mealkit.project import Project, read_project
from mealkit_builder.component import check_components, check_names

SETTINGS = b"class Hyperparameters: ...\nclass Visit: ...\nclass Score: ...\n"


@pytest.fixture
def project(shop: Workshop, tmp_path: Path) -> Project:
    return read_project(shop.recipe(within=tmp_path, lock=False))


def files(model: bytes | str = b"class Trainer: ...\n", **more: bytes) -> dict[str, bytes]:
    content = model.encode() if isinstance(model, str) else model
    return {"tiny/__init__.py": b"", "tiny/settings.py": SETTINGS, "tiny/model.py": content, **more}


@pytest.mark.parametrize(
    "model",
    [
        "class Trainer: ...",
        "from elsewhere import Trainer",
        "from elsewhere import Other as Trainer",
        "from elsewhere import *",
        "import elsewhere as Trainer",
        "Trainer = make()",
        "One, (Trainer, Two) = make()",
        "Trainer: type = make()",
        "try:\n    from fast import Trainer\nexcept ImportError:\n    class Trainer: ...",
        "try:\n    x = 1\nexcept ImportError:\n    class Trainer: ...",
        "if x:\n    pass\nelse:\n    class Trainer: ...",
        "def __getattr__(name): ...",
        "# -*- coding: latin-1 -*-\n# caf\xe9\nclass Trainer: ...".encode("latin-1"),
    ],
)
def test_a_class_is_found_however_it_is_bound(project: Project, model: str | bytes) -> None:
    check_components(project, files(model))


@pytest.mark.parametrize(
    "model", ["", "class Trainr: ...", "def f():\n    class Trainer: ...", "Trainer: type", "import Trainer.x as y"]
)
def test_a_class_that_is_not_there_is_told(project: Project, model: str) -> None:
    with pytest.raises(ProjectError, match=r"module 'tiny\.model' has no class 'Trainer'") as caught:
        check_components(project, files(model))
    assert caught.value.where == f"{project.file}: tool.mealkit.trainer"
    near = "did you mean tiny.model:Trainr?"
    assert caught.value.hint == (near if "Trainr" in model else f"write it in {project.source / 'tiny/model.py'}")


def test_a_module_that_is_not_there_is_told(project: Project) -> None:
    lost = {name: data for name, data in files().items() if name != "tiny/model.py"}
    with pytest.raises(ProjectError, match=r"there is no module 'tiny\.model'") as caught:
        check_components(project, lost)
    assert ".gitignore" in (caught.value.hint or "")
    with pytest.raises(ProjectError) as caught:
        check_components(project, {**lost, "tiny/models.py": b""})
    assert caught.value.hint == "did you mean tiny.models:Trainer?"


def test_a_package_is_a_module_too(project: Project) -> None:
    lost = {name: data for name, data in files().items() if name != "tiny/model.py"}
    check_components(project, {**lost, "tiny/model/__init__.py": b"class Trainer: ..."})


@pytest.mark.parametrize(("model", "line"), [("x = 1\nclass Trainer\n", 2), ("x = '\0'", 1)])
def test_a_module_that_is_no_python_is_told_with_its_line(project: Project, model: str, line: int) -> None:
    with pytest.raises(ProjectError, match="is no Python") as caught:
        check_components(project, files(model))
    assert caught.value.where == f"{project.source / 'tiny/model.py'}:{line}"


def test_further_inputs_are_looked_for(project: Project) -> None:
    further = replace(project, inputs={"products": "tiny.settings:Product"})
    with pytest.raises(ProjectError, match="Product") as caught:
        check_components(further, files())
    assert caught.value.where == f"{project.file}: tool.mealkit.inputs.products"


def test_a_librarys_class_is_not_looked_for(project: Project) -> None:
    check_components(replace(project, components={**project.components, "scorer": "library.scoring:Scorer"}), files())


def test_a_recipe_with_the_name_of_a_requirement_is_refused(project: Project) -> None:
    check_names(project, ["pandas", "tiny-er"])
    with pytest.raises(ProjectError, match="'tiny'") as caught:
        check_names(project, ["pandas", "Tiny"])
    assert caught.value.where == f"{project.file}: project.name"
    with pytest.raises(ProjectError, match="'my_pandas'") as caught:
        check_names(replace(project, packages=("my_pandas",)), ["my.pandas"])
    assert caught.value.where == str(project.source / "my_pandas")
    assert caught.value.hint
