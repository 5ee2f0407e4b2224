"""Where an author must look when the recipe's code fails, also when the recipe is installed like a library."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mealkit.errors import RecipeError, SettingsError
from mealkit.hyperparameters import Hyperparameters, secret_fields
from mealkit.recipe import author_code


def test_an_installed_recipe_is_told_from_its_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "lib" / "python3.12" / "site-packages"
    for name, text in (
        ("somelib/__init__.py", "def fit(x):\n    return 1 / x\n"),
        ("myrecipe/__init__.py", ""),
        ("myrecipe/model.py", "from .inner import work\n\ndef train():\n    return work()\n"),
        ("myrecipe/inner.py", "import somelib\n\ndef work():\n    return somelib.fit(0)\n"),
    ):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text)
    monkeypatch.syspath_prepend(str(site))
    import importlib

    model = importlib.import_module("myrecipe.model")
    ours = {"__name__": "mealkit_runtime.train", "author_code": author_code, "model": model}
    exec("def run():\n    with author_code('train'):\n        model.train()", ours)
    with pytest.raises(RecipeError) as caught:
        ours["run"]()
    assert caught.value.where == f"{site}/myrecipe/inner.py:4"
    for name in ("somelib", "myrecipe", "myrecipe.model", "myrecipe.inner"):
        sys.modules.pop(name, None)


def test_a_secret_is_not_told_when_it_is_wrong() -> None:
    from pydantic import Field, SecretStr

    class Mine(Hyperparameters):
        token: SecretStr | None = Field(None, min_length=8)
        plain: str = "x"

    assert secret_fields(Mine) == {"token"}
    assert Mine.decode({"token": "12345678"}).token == SecretStr("12345678"), "digits stay a text"
    with pytest.raises(SettingsError) as caught:
        Mine.decode({"token": "canary"})
    assert "canary" not in caught.value.render()
