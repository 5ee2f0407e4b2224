"""The documentation is true: its tables are those of the code, its links lead somewhere, its commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mealkit import errors
from mealkit.project import _IMAGE_KEYS, _RECIPE_KEYS
from mealkit_builder.cli import _COMMANDS
from mealkit_runtime.setting import SETTINGS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def read(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_setting_of_a_run_is_described() -> None:
    text = read("reference/settings.md")
    for setting in SETTINGS:
        assert f"| `--{setting.name.replace('_', '-')}" in text, setting.name
        assert setting.help in text, setting.name


def test_every_key_of_a_project_is_described() -> None:
    text = read("reference/pyproject.md")
    for key in {*_RECIPE_KEYS, *_IMAGE_KEYS} - {"image"}:
        assert f"`{key}`" in text, key


def test_every_command_is_described() -> None:
    text = read("reference/command.md")
    for name, (_, help_line) in _COMMANDS.items():
        assert f"| `mealkit {name}` | {help_line} |" in text, name


def test_every_error_is_described() -> None:
    text = read("reference/errors.md")
    pending: list[type[errors.MealkitError]] = [errors.MealkitError]
    while pending:
        cls = pending.pop()
        pending += [one for one in cls.__subclasses__() if one.__module__ == "mealkit.errors"]
        if cls is not errors.MealkitError:
            row = next((line for line in text.splitlines() if line.startswith(f"| {cls.exit_code} ")), "")
            assert f"`{cls.code}`" in row, cls
