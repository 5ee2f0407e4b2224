"""Bad input of every kind: exit status, code, what and where, a hint, no traceback, nothing half-written."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from churn_runs import Outcome, Runner, make_events, write

from mealkit.spec import RecipeSpec

JSON = ("--log-format", "json")


def refused(outcome: Outcome, code: int, name: str, *, message: str = "", where: str = "", hint: str = "") -> None:
    assert outcome.code == code, outcome.err
    error = outcome.error
    assert error["code"] == name, error
    assert message in error["message"], error
    assert where in (error["where"] or ""), error
    assert hint in (error["hint"] or ""), error
    assert error["hint"], error
    assert f"error[{name}]: " in outcome.err
    assert "hint: " in outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.result["status"] == "failed"
    assert outcome.result["exit_code"] == code


@pytest.fixture
def training(run: Runner, common: tuple[str, ...], data: Path, tmp_path: Path) -> Callable[..., Outcome]:
    """Train on something bad; no model may be there afterwards."""

    def runner(
        source: object = data / "events.csv", *more: object, environment: dict[str, str] | None = None
    ) -> Outcome:
        model = tmp_path / "models" / "m"
        outcome = run("train", "--input", source, *common, "--model", model, *JSON, *more, environment=environment)
        assert not model.exists()
        assert not list(tmp_path.rglob(".mealkit*"))
        return outcome

    return runner


@pytest.fixture
def scoring(run: Runner, common: tuple[str, ...], data: Path, model: Path, tmp_path: Path) -> Callable[..., Outcome]:
    """Score something bad; no dataset may be there afterwards."""

    def runner(source: object = data / "new.parquet", *more: object, model: Path = model) -> Outcome:
        output = tmp_path / "scores"
        outcome = run("score", "--input", source, *common, "--model", model, "--output", output, *JSON, *more)
        assert not output.exists()
        return outcome

    return runner


Training = Callable[..., Outcome]

SETTINGS = [
    (("--set", "c=0"), "hyperparameter 'c' cannot be '0'", "hyperparameters.c", "inverse strength"),
    (("--set", "c=much"), "hyperparameter 'c'", "hyperparameters.c", "default is 1.0"),
    (("--set", "cc=1"), "unknown hyperparameter 'cc'", "hyperparameters.cc", "did you mean 'c'?"),
    (("--set", "c"), "not NAME=VALUE", "--set", "learning_rate"),
    (("--seed", "-1"), "seed cannot be '-1'", "seed", "whole number from 0"),
    (("--run-id", "../x"), "not a run id", "run_id", "letters"),
    (("--input", "plan=x.csv"), "no further dataset 'plan'", "--input plan=x.csv", "did you mean 'plans'?"),
    (("--config", "no.json"), "config file does not exist", "no.json", "path"),
    (("--hyperparameters", "no.json"), "hyperparameter file does not exist", "no.json", "path"),
]


@pytest.mark.parametrize(("arguments", "message", "where", "hint"), SETTINGS)
def test_settings(training: Training, arguments: tuple[str, ...], message: str, where: str, hint: str) -> None:
    refused(training("no-such.csv", *arguments), 2, "settings", message=message, where=where, hint=hint)


def test_config_files(training: Training, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    for text, message, hint in (
        ('{"modle": "m"}', "unknown setting 'modle'", "did you mean 'model'?"),
        ('{"seed": "many"}', "seed cannot be 'many'", "whole number"),
        ("[1]", "must hold a JSON object", "NAME"),
        ("{", "is not JSON", "mend"),
    ):
        file.write_text(text)
        refused(training("no-such.csv", "--config", file), 2, "settings", message=message, hint=hint)


def test_missing_settings(run: Runner, data: Path) -> None:
    for argv, where in (
        (("train", "--model", "m"), "input"),
        (("train", "--input", "x.csv", "--input", f"plans={data}/plans.csv"), "model"),
        (("train", "--input", "x.csv", "--model", "m"), "input plans"),
        (("score", "--input", "x.csv", "--input", "plans=y.csv", "--model", "m"), "output"),
    ):
        refused(run(*argv, *JSON), 2, "settings", message="", where=where, hint="")


@pytest.mark.parametrize(
    ("argv", "message", "hint"),
    [
        (("trian",), "unknown mode 'trian'", "did you mean 'train'?"),
        (("train", "--inptu", "x"), "unknown argument '--inptu'", "did you mean --input?"),
        (("train", "--model"), "expected one argument", "--help"),
    ],
)
def test_the_command_line(run: Runner, argv: tuple[str, ...], message: str, hint: str) -> None:
    outcome = run(*argv)
    assert outcome.code == 2
    assert f"error[usage]: {message}" in outcome.err or message in outcome.err
    assert f"hint: {hint}" in outcome.err or hint in outcome.err
    assert "Traceback" not in outcome.err


def test_missing_files(training: Training, data: Path, tmp_path: Path) -> None:
    refused(training(data / "event.csv"), 3, "unreadable-data", message="no such file", hint=f"{data}/events.csv")
    refused(training(tmp_path / "*.csv"), 3, "empty-data", where="*.csv")
    (tmp_path / "empty").mkdir()
    refused(training(tmp_path / "empty"), 3, "empty-data", where="empty")
    (tmp_path / "empty" / "notes.txt").write_text("x")
    refused(training(tmp_path / "empty"), 3, "unreadable-data", message="notes.txt", hint=".parquet")
    refused(training(tmp_path / "empty" / "notes.txt"), 3, "unreadable-data", hint=".csv")
    refused(training("s4://bucket/x.csv"), 2, "settings", message="s4://", hint="s3://")
    refused(training("s3://me:secret@bucket/x.csv"), 2, "settings", message="password", where="@bucket/x.csv")


def test_no_rows(training: Training, scoring: Training, tmp_path: Path) -> None:
    none = make_events().iloc[:0]
    for name in ("none.csv", "none.parquet", "none.jsonl"):
        refused(training(write(none, tmp_path / name)), 3, "empty-data", message="no rows", where=name)
        refused(scoring(tmp_path / name), 3, "empty-data", message="no rows", where=name)
    (tmp_path / "zero.csv").write_text("")
    refused(training(tmp_path / "zero.csv"), 3, "empty-data", message="no rows", where="zero.csv")


def test_no_case_with_a_known_target(training: Training, tmp_path: Path) -> None:
    unknown = write(make_events().assign(left=pd.NA), tmp_path / "unknown.csv")
    refused(training(unknown), 3, "empty-data", message="no case is left", where="unknown.csv")


def test_broken_files(training: Training, scoring: Training, tmp_path: Path) -> None:
    parquet = write(make_events(2000), tmp_path / "cut.parquet")
    parquet.write_bytes(parquet.read_bytes()[:-200])
    refused(training(parquet), 3, "unreadable-data", where="cut.parquet", hint="cut off")
    refused(scoring(parquet), 3, "unreadable-data", where="cut.parquet")
    middle = write(make_events(2000), tmp_path / "middle.parquet")
    raw = bytearray(middle.read_bytes())
    raw[200:600] = bytes(400)
    middle.write_bytes(raw)
    refused(scoring(middle), 3, "unreadable-data", where="middle.parquet")
    packed = write(make_events(2000), tmp_path / "cut.csv.gz")
    packed.write_bytes(packed.read_bytes()[:-300])
    refused(training(packed), 3, "unreadable-data", where="cut.csv.gz")
    lines = write(make_events(2000), tmp_path / "cut.jsonl.gz")
    lines.write_bytes(lines.read_bytes()[:-300])
    refused(training(lines), 3, "unreadable-data", where="cut.jsonl.gz")
    plain = tmp_path / "plain.csv.gz"
    plain.write_text("a,b\n1,2\n")
    refused(training(plain), 3, "unreadable-data", where="plain.csv.gz")


def test_names_that_lie(training: Training, tmp_path: Path) -> None:
    parquet = write(make_events(), tmp_path / "x.parquet")
    for name in ("really.csv", "really.jsonl"):
        shutil.copy(parquet, tmp_path / name)
        refused(training(tmp_path / name), 3, "unreadable-data", where=name, hint="its content is Parquet")
    text = tmp_path / "text.parquet"
    text.write_text("customer,day\n")
    refused(training(text), 3, "unreadable-data", where="text.parquet")
    packed = tmp_path / "packed.csv"
    packed.write_bytes(gzip.compress(b"a,b\n1,2\n"))
    refused(training(packed), 3, "unreadable-data", hint="gzip")


def test_broken_text(training: Training, tmp_path: Path) -> None:
    header = "customer,day,kind,amount,items,plan,left\n"
    ragged = tmp_path / "ragged.csv"
    ragged.write_text(header + "c1,2026-01-01,call,1,1,basic,true\nc1,2026-01-01\n")
    refused(training(ragged), 3, "unreadable-data", where="ragged.csv, row 2 (line 3)", message="2 values")
    latin = tmp_path / "latin.csv"
    latin.write_bytes((header + "c1,2026-01-01,call,1,1,Größe,true\n").encode("latin-1"))
    refused(training(latin), 3, "unreadable-data", where="latin.csv")
    document = tmp_path / "document.json"
    document.write_text(json.dumps([{"customer": "c1"}], indent=1))
    refused(training(document), 3, "unreadable-data", where="document.json, line 1", hint="JSON lines")
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text('{"customer": "c1"}\n[1]\n')
    refused(training(wrong), 3, "unreadable-data", where="wrong.jsonl, line 2")


CELLS = [
    ("amount", "-1", "is -1.0, but must be ≥ 0"),
    ("amount", "much", "is 'much', which is not a number"),
    ("items", "1.5", "is '1.5', which is not a whole number"),
    ("day", "yesterday", "is 'yesterday', which is not a date"),
    ("kind", "letter", "is 'letter', but must be one of call, visit, complaint"),
    ("customer", "7", "is '7', but must match ^c[0-9]+$"),
    ("left", "maybe", "is 'maybe', which is not true or false"),
    ("kind", None, "must be one of"),
    ("day", None, "is missing"),
]


@pytest.mark.parametrize(("column", "value", "message"), CELLS)
def test_a_bad_cell_is_told_by_file_row_and_column(
    training: Training, tmp_path: Path, column: str, value: str | None, message: str
) -> None:
    frame = make_events().astype({column: object})
    frame.loc[16, column] = value
    source = write(frame, tmp_path / "bad.csv")
    refused(training(source), 3, "schema", message=message, where=f"{source}, row 17, column {column}")


def test_a_bad_value_in_typed_formats(training: Training, scoring: Training, tmp_path: Path) -> None:
    frame = make_events()
    typed = write(frame.assign(amount="1.5"), tmp_path / "typed.parquet")
    refused(training(typed), 3, "schema", message="is '1.5', which is not a number", where="row 1, column amount")
    frame.loc[30, "amount"] = -2.0
    parquet = write(frame, tmp_path / "range.parquet")
    refused(scoring(parquet, "--batch-rows", "10"), 3, "schema", where=f"{parquet}, row 31, column amount")
    lines = write(frame.assign(amount=1.0), tmp_path / "x.jsonl")
    text = lines.read_text().splitlines()
    text[4] = text[4].replace('"amount":1.0', '"amount":"one"')
    lines.write_text("\n".join(text))
    refused(training(lines), 3, "schema", message="is 'one', which is not a number", where="row 5, column amount")


def test_missing_columns(training: Training, scoring: Training, tmp_path: Path) -> None:
    for name in ("x.csv", "x.parquet", "x.jsonl"):
        source = write(make_events().rename(columns={"amount": "amounts"}), tmp_path / name)
        for outcome in (training(source), scoring(source)):
            refused(outcome, 3, "schema", message="'amount' is missing", where=name, hint="is it 'amounts'?")
    twice = tmp_path / "twice.csv"
    twice.write_text("customer,customer\n1,2\n")
    refused(training(twice), 3, "schema", message="stands twice")


def test_rows_that_do_not_stand_together(scoring: Training, tmp_path: Path) -> None:
    frame = make_events()
    source = write(pd.concat([frame, frame.iloc[:1]]), tmp_path / "apart.parquet")
    outcome = scoring(source, "--batch-rows", "20", "--group", "sorted")
    refused(
        outcome, 3, "data", message="customer 'c0' do not stand together", where=f"row {len(frame) + 1}", hint="sort"
    )


def test_models(scoring: Training, model: Path, run: Runner, rent: RecipeSpec, tmp_path: Path) -> None:
    def changed(name: str) -> Path:
        return Path(shutil.copytree(model, tmp_path / name))

    refused(scoring(model=tmp_path / "none"), 4, "model", message="no model directory", hint="train first")
    (tmp_path / "hollow").mkdir()
    refused(scoring(model=tmp_path / "hollow"), 4, "model", message="no model.json")
    bent = changed("bent")
    raw = bytearray((bent / "artifact/model.skops").read_bytes())
    raw[100] ^= 1
    (bent / "artifact/model.skops").write_bytes(raw)
    refused(scoring(model=bent), 4, "model", message="artifact/model.skops is not the file that was written")
    more = changed("more")
    (more / "artifact/extra.py").write_text("x")
    refused(scoring(model=more), 4, "model", message="artifact/extra.py is not listed")
    less = changed("less")
    (less / "artifact/model.skops").unlink()
    refused(scoring(model=less), 4, "model", message="is missing")
    linked = changed("linked")
    (linked / "artifact/model.skops").rename(tmp_path / "elsewhere")
    (linked / "artifact/model.skops").symlink_to(tmp_path / "elsewhere")
    refused(scoring(model=linked), 4, "model", message="is a symbolic link")
    for name in ("../elsewhere", "/etc/passwd", "model.json", "artifact/../x"):
        outside = Path(shutil.copytree(model, tmp_path / "outside", dirs_exist_ok=True))
        facts = json.loads((outside / "model.json").read_text())
        facts["files"][name] = {"size": 1, "sha256": "0" * 64}
        (outside / "model.json").write_text(json.dumps(facts))
        refused(scoring(model=outside), 4, "model", message="is outside the artifact folder")
    for text, message in (("{", "is not JSON"), ('{"format": 9}', "format 9"), ('{"format": 1}', "lacks")):
        (bent / "model.json").write_text(text)
        refused(scoring(model=bent), 4, "model", message=message)
    outcome = run("score", "--input", "/dev/null/x.csv", "--model", model, "--output", tmp_path / "s", *JSON, spec=rent)
    assert outcome.code == 3, "the input is looked for first"
    source = tmp_path / "x.csv"
    source.write_text("flat\n1\n")
    outcome = run("score", "--input", source, "--model", model, "--output", tmp_path / "s", *JSON, spec=rent)
    refused(outcome, 4, "model", message="of the recipe 'churn', not of 'rent'")


def test_nothing_is_deserialised_before_it_is_verified(
    scoring: Training, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bent = Path(shutil.copytree(model, tmp_path / "bent"))
    with (bent / "artifact/model.skops").open("ab") as file:
        file.write(b"x")
    monkeypatch.setattr("mealkit.trainer.Trainer.load", lambda *_: pytest.fail("loaded"))
    refused(scoring(model=bent), 4, "model", message="is not the file")


def test_targets_that_hold_something(
    run: Runner, common: tuple[str, ...], data: Path, model: Path, tmp_path: Path
) -> None:
    def train(target: Path, *more: str) -> Outcome:
        return run("train", "--input", data / "events.csv", *common, "--model", target, *JSON, *more)

    old = Path(shutil.copytree(model, tmp_path / "old"))
    before = (old / "model.json").read_bytes()
    refused(train(old), 2, "settings", message="has a model already", hint="--overwrite")
    assert (old / "model.json").read_bytes() == before
    assert train(old, "--overwrite").code == 0
    assert (old / "model.json").read_bytes() != before
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("x")
    refused(train(tmp_path / "precious", "--overwrite"), 2, "settings", message="thesis.txt")
    refused(train(tmp_path / "precious" / "thesis.txt"), 2, "settings", message="is a file")
    (tmp_path / "empty").mkdir()
    assert train(tmp_path / "empty").code == 0
    assert sorted(path.name for path in (tmp_path / "empty").iterdir()) == ["artifact", "model.json"]


def test_the_recipe_fails(
    training: Training, scoring: Training, run: Runner, common, data: Path, tmp_path: Path
) -> None:
    outcome = training(data / "events.csv", "--set", "train=raise")
    assert outcome.code == 5
    assert outcome.error["code"] == "recipe"
    assert outcome.error["where"].rpartition(":")[0].endswith("churn/churn/model.py")
    assert "ZeroDivisionError: the author's mistake" in outcome.error["message"]
    assert "Traceback of the recipe's code:" in outcome.err
    assert "mealkit_runtime" not in outcome.err
    for how in ("raise", "wide"):
        bad = tmp_path / how
        trained = run("train", "--input", data / "events.csv", *common, "--model", bad, "--set", f"score={how}")
        assert trained.code == 0
        outcome = scoring(model=bad)
        assert outcome.code == 5, outcome.err
        assert outcome.error["code"] == "recipe"
    assert "column 'probability' is 1." in outcome.error["message"]
    assert "must be ≤ 1" in outcome.error["message"]


def test_faults_of_ours_say_so(run: Runner, common: tuple[str, ...], data: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("mealkit_runtime.material.read_table", lambda *_, **__: 1 / 0)
    outcome = run("train", "--input", data / "events.csv", *common, "--model", tmp_path / "m", *JSON)
    assert outcome.code == 1
    assert outcome.error["code"] == "internal"
    assert "report it" in outcome.error["hint"]
    assert "Traceback" in outcome.err


def test_results_are_written_when_a_run_fails(training: Training, tmp_path: Path) -> None:
    result = tmp_path / "results" / "r.json"
    training("no-such.csv", "--result", result)
    written = json.loads(result.read_text())
    assert (written["status"], written["exit_code"], written["error"]["code"]) == ("failed", 3, "unreadable-data")
    training("no-such.csv", "--result", result, "--set", "c=-1", "--run-id", "r")
    assert json.loads(result.read_text())["error"]["code"] == "settings"
    refused(training("no-such.csv", "--result", tmp_path), 2, "usage", message="is a folder")


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to mount a small disk")
def test_a_full_disk(start, common: tuple[str, ...], data: Path, model: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("this machine lets no file system be mounted")
    try:
        (disk / "filler").write_bytes(bytes(52 << 10))
        source = write(make_events(20_000).drop(columns="left"), tmp_path / "many.parquet")
        for argv, folder in (
            (("score", "--input", source, "--model", model, "--output", disk / "scores"), "scores"),
            (("train", "--input", data / "events.csv", "--model", disk / "model"), "model"),
        ):
            process = start(*argv, *common)
            out, err = process.communicate(timeout=120)
            refused(Outcome(process.returncode, out, err), 8, "storage", message="the disk is full", where=str(disk))
            assert not (disk / folder).exists()
            assert not list(disk.glob(".*")), "nothing half-written"
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_folder_that_cannot_be_written(scoring: Training, run: Runner, common, data: Path, model: Path) -> None:
    outcome = run(
        "score", "--input", data / "new.parquet", *common, "--model", model, "--output", "/proc/scores", *JSON
    )
    refused(outcome, 8, "storage", where="/proc/scores")
    outcome = run("train", "--input", data / "events.csv", *common, "--model", "/proc/model", *JSON)
    refused(outcome, 8, "storage", where="/proc")


def test_no_recipe_here(tmp_path: Path) -> None:
    environment = {**os.environ, "MEALKIT_RECIPE": str(tmp_path / "none.json")}
    done = subprocess.run(
        [sys.executable, "-m", "mealkit_runtime", "describe"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "error[project]: there is no recipe here" in done.stderr
