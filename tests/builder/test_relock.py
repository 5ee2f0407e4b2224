"""Locking again asks the index only where the index could have something newer to say."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from workshop import Workshop

from mealkit.project import read_project
from mealkit_builder.lock import make_lock
from mealkit_builder.relock import is_settled, worth_a_try


def text(**packages: str) -> str:
    return 'lock-version = "1.0"\n' + "".join(
        f'\n[[packages]]\nname = "{name}"\nversion = "{version}"\nwheels = []\n' for name, version in packages.items()
    )


OLD = text(pandas="3.1", numpy="2.4")


@pytest.mark.parametrize(
    ("requirements", "worth"),
    [
        (["pandas>=2", "numpy"], True),
        (["pandas>=2"], True),
        (["pandas", "tabulate==0.10.0"], True),
        (["pandas", "Tabulate [wide] == 0.10.0 ; python_version > '3'"], True),
        (["pandas", "tabulate"], False),
        (["pandas", "tabulate>=0.9"], False),
        (["pandas", "tabulate==0.*"], False),
        (["pandas", "tabulate==0.9,!=1"], False),
        (["pandas", "tabulate @ file:///x.whl"], False),
        (["pandas", "tabulate", "tabulate==0.10.0"], True),
    ],
)
def test_what_is_worth_a_try(requirements: list[str], worth: bool) -> None:
    assert worth_a_try(OLD, requirements) is worth
    assert not worth_a_try("", requirements)


@pytest.mark.parametrize(
    ("new", "settled"),
    [
        (OLD, True),
        (text(pandas="3.1"), True),
        (text(pandas="3.1", numpy="2.4", tabulate="0.10.0"), True),
        (text(pandas="3.1", numpy="2.4", tabulate="0.9"), False),
        (text(pandas="3.1", numpy="2.4", tabulate="0.10.0", further="1"), False),
        (text(pandas="3.0", numpy="2.4"), False),
        (OLD + '\n[[packages]]\nname = "odd"\n', False),
    ],
)
def test_what_is_settled(new: str, settled: bool) -> None:
    assert is_settled(OLD, new, ["pandas", "tabulate==0.10.0"]) is settled


def test_the_index_is_left_alone_where_it_has_nothing_to_say(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    run = subprocess.run

    def spy(command: Any, **settings: Any) -> Any:
        asked.append("cache" if settings["env"].get("UV_OFFLINE") else "index")
        return run(command, **{**settings, "env": {**settings["env"], "UV_OFFLINE": "1"}})

    monkeypatch.setattr("mealkit_builder.lock.subprocess.run", spy)
    workshop.wheel("salt", "2.0")
    workshop.wheel("pepper", "1.0")
    root = workshop.recipe(dependencies=["salt"], lock=False)

    def lock(dependencies: str) -> str:
        asked.clear()
        file = root / "pyproject.toml"
        lines = file.read_text().splitlines()
        file.write_text(
            "\n".join(f"dependencies = {dependencies}" if line.startswith("dependencies") else line for line in lines)
        )
        return make_lock(read_project(root), environment).text

    environment = {name: value for name, value in workshop.environment.items() if name != "UV_OFFLINE"}
    first = lock('["salt"]')
    assert asked == ["index"]
    assert lock('["salt>=1"]').partition("[tool")[0] == first.partition("[tool")[0]
    assert asked == ["cache"]
    pinned = lock('["salt", "pepper==1.0"]')
    assert 'name = "pepper"\nversion = "1.0"' in pinned
    assert asked == ["cache"]
    workshop.wheel("mace", "1.0")
    assert 'name = "mace"' in lock('["salt", "mace"]')
    assert asked == ["index"]
