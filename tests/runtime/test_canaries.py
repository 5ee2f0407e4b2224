"""Canaries: secrets in every place that a setting can come from show in nothing that a run writes or sends."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from churn_runs import Runner, spec_of
from collector import collecting

Start = Callable[..., Any]

ENVIRONMENT = {
    "AWS_SECRET_ACCESS_KEY": "canary-aws/1a+2b=",
    "AWS_SESSION_TOKEN": "canary-session-3c",
    "AZURE_STORAGE_KEY": "canary-azure-4d==",
    "AZURE_STORAGE_CONNECTION_STRING": "AccountName=me;AccountKey=canary-account-5e",
    "HF_TOKEN": "canary-hf-6f",
    "DB_PASSWORD": "canary \"quoted\" 'pass' \\ é-7a",
    "SERVICE_API_KEY": "canary-api-8b",
    "SIGNING_SECRET": "canary-line-9c-begins-here\ncanary-line-0d-goes-on",
    "DATABASE_URL": "postgres://ada:canary-db-1e@db/x",
    "PROXY_PASSPHRASE": "canary&html<2f>",
}
HEADERS = {"OTEL_EXPORTER_OTLP_HEADERS": "x-api-key=canary-header-3a"}


def leaks(text: str) -> list[str]:
    """Where a canary sings."""
    return [text[max(0, found.start() - 80) : found.end() + 40] for found in re.finditer("canary[-/ &]", text)]


def written(folder: Path) -> str:
    """Every byte of the files that runs wrote."""
    return "\n".join(
        f"{path.relative_to(folder)}\n{path.read_bytes().decode('utf-8', 'replace')}"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    )


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A folder of what users wrote, with canaries in it: it is not looked at."""
    folder = tmp_path / "given"
    folder.mkdir()
    names = [f"n{number}" for number in range(40)]
    pd.DataFrame({"name": names, "x": range(40), "y": range(40)}).to_csv(folder / "rows.csv", index=False)
    (folder / "config.json").write_text(json.dumps({"hyperparameters": {"token": "canary-config-4b"}}))
    (folder / "set.json").write_text(json.dumps({"set": {"token": "canary-set-5c"}}))
    (folder / "file.json").write_text(json.dumps({"token": "canary-file-6d", "url": "redis://:canary-redis-7e@r/0"}))
    return folder


TOKENS = [
    (("--set", "token=canary-argument-8f"), {}),
    (("--set", 'token="canary-platform-9a"'), {}),
    (("--config", "config.json"), {}),
    (("--config", "set.json"), {}),
    (("--hyperparameters", "file.json"), {}),
    ((), {"MEALKIT_HYPERPARAMETERS": "file.json"}),
    ((), {"MEALKIT_SET_TOKEN": "canary-variable-0b"}),
    ((), {"MEALKIT_SET_URL": "https://ada:canary-url-1c@host/x?sig=canary-query-2d"}),
]


@pytest.mark.parametrize("number", range(len(TOKENS)))
def test_hyperparameters(run: Runner, given: Path, tmp_path: Path, number: int) -> None:
    arguments, environment = TOKENS[number]
    argv = [given / item if item.endswith(".json") else item for item in arguments]
    environment = {name: str(given / text) if text.endswith(".json") else text for name, text in environment.items()}
    made = tmp_path / "made"
    common = ("--input", given / "rows.csv", "--model", made / "m", "--result", made / "r.json")
    spec = spec_of("noisy")
    good = run("train", *common, "--log-format", "json", *argv, spec=spec, environment=environment)
    assert good.code == 0, good.err
    bad = run("train", *common, "--overwrite", *argv, "--set", "nothing=1", spec=spec, environment=environment)
    assert bad.code == 2
    again = run(
        "evaluate", *common, "--log-format", "json", spec=spec, environment={"MEALKIT_SET_TOKEN": "canary-later-3e"}
    )
    assert again.code == 0, again.err
    assert not leaks("\n".join((good.out, good.err, bad.out, bad.err, again.out, again.err, written(made))))


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (("train", "--input", "https://ada:canary-input-1@127.0.0.1:9/x.csv", "--model", "m"), None),
        (("train", "--input", "https://127.0.0.1:9/x.csv?X-Amz-Signature=canary-signed-2", "--model", "m"), None),
        (("train", "--input", "s3://AKIA:canary/slash-3@bucket/x.csv", "--model", "m"), None),
        (("train", "--input", "x.csv", "--validation", "gs://a:canary-valid-4@b/x.csv", "--model", "m"), None),
        (("train", "--input", "x.csv", "--model", "s3://AKIA:canary-model-5@bucket/m"), None),
        (("score", "--input", "x.csv", "--model", "m", "--output", "s3://a:canary-output-6@b/s"), None),
        (("train", "--input", "plans=https://a:canary-named-7@b/x.csv", "--model", "m"), 2),
        (("train", "--input", "x.csv", "--model", "m", "--result", "https://a:canary-result-8@b/r"), None),
        (("train", "--input", "x.csv", "--model", "m", "--outputs", "https://a:canary-outputs-9@b/r"), None),
        (("train", "--input", "x.csv", "--model", "m", "--set", "token", "canary-alone-10"), 2),
        (("train", "--input", "x.csv", "--model", "m", "--set", "canary-bare-11"), 2),
        (("train", "--input", "x.csv", "--model", "m", "--tokn=canary-unknown-12"), 2),
        (("train", "--input", "x.csv", "--model", "m", "--seed", "https://a:canary-seed-13@b"), 2),
        (("train", "--input", "x.csv", "--model", "m", "--config", "https://a:canary-file-14@b"), 2),
        (("train", "--input", "x.csv", "--model", "m", "--run-id", "Bearer canary-bearer-15"), 2),
    ],
)
def test_arguments(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...], code: int | None
) -> None:
    monkeypatch.chdir(tmp_path)
    for form in ("json", "text"):
        outcome = run(*argv, "--log-format", form, spec=spec_of("noisy"))
        assert outcome.code in ((2, 3, 4, 5, 8, 75) if code is None else (code,)), outcome.err
        assert outcome.err
        assert not leaks(outcome.out + outcome.err + written(tmp_path).replace("canary-result-8@b", ""))


@pytest.mark.parametrize(
    ("mode", "how", "form"),
    [
        ("train", "tell", "json"),
        ("evaluate", "raise", "json"),
        ("score", "raise", "json"),
        ("train", "raise", "text"),
        ("evaluate", "tell", "text"),
        ("score", "tell", "json"),
    ],
)
def test_a_recipe_that_tells_all(
    start: Start, run: Runner, given: Path, tmp_path: Path, mode: str, how: str, form: str
) -> None:
    made = tmp_path / "made"
    model = ("--model", made / "m")
    if mode != "train":
        assert run("train", "--input", given / "rows.csv", *model, spec=spec_of("noisy")).code == 0
    stored = (("--set", f"{mode}={how}"), ("--set", "evaluate=tell")) if mode == "train" else ()
    if mode != "train":
        # A trained model keeps its hyperparameters; these are only how the test asks for the noise.
        file = made / "m" / "model.json"
        facts = json.loads(file.read_text())
        facts["hyperparameters"] |= {mode: how, "reveal": ",".join(ENVIRONMENT)}
        file.write_text(json.dumps(facts))
    with collecting() as collector:
        environment = {
            **ENVIRONMENT,
            **HEADERS,
            **collector.environment,
            "OTEL_RESOURCE_ATTRIBUTES": "api.token=canary-resource-4f,team=x",
            "MEALKIT_IMAGE": "https://ada:canary-image-5a@host/noisy@sha256:1",
            "MEALKIT_SET_TOKEN": "canary-variable-6b",
            **({"MEALKIT_SET_REVEAL": ",".join(ENVIRONMENT)} if mode == "train" else {}),
        }
        process = start(
            mode, "--input", given / "rows.csv", *model, *(part for pair in stored for part in pair),
            *(("--output", made / "s") if mode == "score" else ()), "--result", made / "r.json", "--log-format", form,
            *(("--report", made / "r.html", "--slice", "name") if mode == "evaluate" and how == "tell" else ()),
            recipe="noisy", environment=environment,
        )  # fmt: skip
        out, err = process.communicate(timeout=120)
        raw = collector.raw.decode("utf-8", "replace")
    assert process.returncode == (5 if how == "raise" else 0), err
    assert "printed ***" in err
    if form == "json":
        assert '"message": "logged *** and ' in out
    if how == "raise":
        assert "Traceback of the recipe's code" in err
    assert "mealkit " + mode in raw
    text = "\n".join((out, err, raw, written(made)))
    assert not leaks(text), leaks(text)[:5]
    # In the spellings too in which a log, a URL or a page would have them.
    for spelling in ("canary%", "Y2FuYXJ5", "canary&amp;", 'canary \\"'):
        assert spelling not in text


@pytest.mark.parametrize("mode", ["score", "trials"])
@pytest.mark.parametrize("how", ["tell", "raise"])
def test_worker_processes(start: Start, run: Runner, given: Path, tmp_path: Path, mode: str, how: str) -> None:
    made = tmp_path / "made"
    common = ("--input", given / "rows.csv", "--model", made / "m", "--result", made / "r.json")
    if mode == "score":
        assert run("train", *common[:4], spec=spec_of("noisy")).code == 0
        file = made / "m" / "model.json"
        facts = json.loads(file.read_text())
        facts["hyperparameters"] |= {"score": how, "reveal": ",".join(ENVIRONMENT)}
        file.write_text(json.dumps(facts))
        argv: tuple[object, ...] = ("score", *common, "--output", made / "s", "--workers", 2, "--batch-rows", 20)
    else:
        argv = ("train", *common, "--trials", 2, "--trial-workers", 2, "--set", f"train={how}", "--outputs", made / "o")
    environment = {
        **ENVIRONMENT,
        "MEALKIT_SET_TOKEN": "canary-variable-6b",
        **({"MEALKIT_SET_REVEAL": ",".join(ENVIRONMENT)} if mode == "trials" else {}),
    }
    # The recipe also prints the password alone.
    (given / "url.json").write_text(json.dumps({"hyperparameters": {"url": "https://ada:canary-url-7c@host/x"}}))
    argv = (*argv, "--config", given / "url.json", "--log-format", "json")
    process = start(*argv, recipe="noisy", environment=environment)
    out, err = process.communicate(timeout=120)
    assert process.returncode == (5 if how == "raise" else 0), err
    assert "printed ***" in err
    assert '"message": "logged *** and ' in out
    text = "\n".join((out, err, written(made)))
    assert not leaks(text), leaks(text)[:5]
