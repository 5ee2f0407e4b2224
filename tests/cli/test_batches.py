"""The command ``mealkit batches``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mealkit_builder.cli import cli
from mealkit_builder.cli import main as command

sys.path.insert(0, str(Path(__file__).parents[1] / "runtime"))
from batch_runs import save

Mealkit = Callable[..., tuple[int, str, str]]


@pytest.fixture
def mealkit(capsys: pytest.CaptureFixture[str]) -> Mealkit:
    """The command in this process: status, output, errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            command([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return run


@pytest.fixture(params=["folder", "delta"])
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A dataset with the batches ``one`` and ``two``."""
    uri = f"{'delta:' if request.param == 'delta' else ''}{tmp_path}/s"
    save(uri, "one", [1, 2])
    save(uri, "two", range(1000))
    return uri


def test_a_line_for_each(mealkit: Mealkit, dataset: str) -> None:
    status, out, err = mealkit("batches", dataset)
    assert (status, err) == (0, "")
    head, one, two = out.splitlines()
    assert head.split() == ["batch", "committed", "rows", "size", "model", "image"]
    assert one.startswith("one  ")
    assert "1,000" in two
    assert two.endswith("sha256:77  sha256:abcdef")
    status, out, _ = mealkit("batches", "--json", dataset)
    assert [record["batch_id"] for record in json.loads(out)] == ["one", "two"]


@pytest.mark.parametrize(("width", "columns"), [(None, 6), (200, 6), (60, 5), (40, 3), (10, 3)])
def test_a_narrow_terminal_leaves_out_what_show_tells(
    mealkit: Mealkit, dataset: str, monkeypatch: pytest.MonkeyPatch, width: int | None, columns: int
) -> None:
    monkeypatch.setattr("mealkit_builder.cli.batches.terminal_width", lambda: width)
    _, out, _ = mealkit("batches", dataset)
    head = out.splitlines()[0].split()
    assert head == ["batch", "committed", "rows", "size", "model", "image"][:columns]
    assert mealkit("batches", "--verify", dataset)[1].splitlines()[0].split()[-1] == "files"


def test_one_is_shown(mealkit: Mealkit, dataset: str) -> None:
    status, out, _ = mealkit("batches", dataset, "show", "two", "--verify")
    assert status == 0
    for text in ("churn 0.3.0", "host/churn@sha256:abcdef", "sha256:99", "1,000", "as it was written"):
        assert text in out
    told = json.loads(mealkit("batches", dataset, "show", "two", "--verify", "--json")[1])
    assert (told["rows"], told["verified"], told["faults"]) == (1000, True, [])
    status, _, err = mealkit("batches", dataset, "show", "tow")
    assert status == 2
    assert "did you mean 'two'?" in err


def test_damage_ends_with_a_status(mealkit: Mealkit, dataset: str) -> None:
    assert mealkit("batches", "--verify", dataset)[0] == 0
    file = next(Path(dataset.removeprefix("delta:")).glob("batch_id=two/*.parquet"))
    file.write_bytes(file.read_bytes()[:-1])
    status, out, err = mealkit("batches", "--verify", dataset)
    assert status == 3
    assert "bytes were written" in err or "were written" in err
    assert [line.split()[-1] for line in out.splitlines()] == ["files", "verified", "damaged"]
    status, out, _ = mealkit("batches", "--verify", "--json", dataset)
    assert (status, [record["verified"] for record in json.loads(out)]) == (3, [True, False])


def test_undo(mealkit: Mealkit, dataset: str) -> None:
    status, _, err = mealkit("batches", dataset, "undo")
    assert status == 2
    assert "hint: add --yes" in err
    assert mealkit("batches", dataset, "undo", "--yes")[1] == "undone: two, 1,000 rows\n"
    assert json.loads(mealkit("batches", dataset, "undo", "one", "--yes", "--json")[1])["undone"]["rows"] == 2
    status, _, err = mealkit("batches", dataset, "undo", "--yes")
    assert status == 3
    assert "no batch" in err
    assert mealkit("batches", dataset)[1] == "no batch\n"


def test_clean(mealkit: Mealkit, dataset: str) -> None:
    save(dataset, "shards", [1], "0/2")
    assert mealkit("batches", dataset, "clean")[1] == "removed 0 things, 0 B\n"
    assert "would remove 1 things" in mealkit("batches", dataset, "clean", "--run-id", "shards", "--dry-run")[1]
    out = mealkit("batches", dataset, "clean", "--older-than", "0s", "--json")[1]
    assert [(item["run_id"], item["what"]) for item in json.loads(out)["removed"]] == [("shards", "unfinished shards")]


def test_mistakes_are_told(mealkit: Mealkit, tmp_path: Path) -> None:
    status, _, err = mealkit("batches", tmp_path / "none")
    assert status == 3
    assert "there is no dataset" in err
    (tmp_path / "file").write_text("x")
    status, _, err = mealkit("batches", tmp_path / "file")
    assert status == 2
    assert "hint: name a folder" in err


def test_help_teaches() -> None:
    for arguments in (["--help"], ["x", "show", "--help"], ["x", "undo", "--help"], ["x", "clean", "--help"]):
        result: Result = CliRunner().invoke(cli, ["batches", *arguments])
        assert result.exit_code == 0
        assert "Examples:" in result.output
