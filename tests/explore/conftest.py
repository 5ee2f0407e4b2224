"""Runs ``mealkit data`` in this process, and lets the tests of this folder import ``profiles``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mealkit_builder.cli import main

sys.path.insert(0, str(Path(__file__).parent))

from profiles import Mealkit


@pytest.fixture
def mealkit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Mealkit:
    """``mealkit ARGUMENTS``: exit status, standard output, standard error; the terminal has 100 columns."""

    def run(*arguments: object, columns: int = 100) -> tuple[int, str, str]:
        monkeypatch.setenv("COLUMNS", str(columns))
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(one) for one in arguments])
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return run
