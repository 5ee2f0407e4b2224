"""Evaluations that are compared and reported: intervals, slices, `mealkit compare`, `mealkit report`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from browser import PROGRAM, look
from churn_runs import Runner, make_events, write

from mealkit_builder.cli import main

JSON = ("--log-format", "json")
Mealkit = Callable[..., tuple[int, str, str]]


@pytest.fixture
def mealkit(capsys: pytest.CaptureFixture[str]) -> Mealkit:
    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(one) for one in arguments])
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return run


@pytest.fixture(scope="module")
def judged(data: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Results of two models on one dataset, and of one on another, with a report."""
    from churn_runs import RECIPES, spec_of

    from mealkit_runtime.command import main as runtime

    folder = tmp_path_factory.mktemp("judged")
    other = write(make_events(seed=7), folder / "other.parquet")
    plans = f"plans={data}/plans.csv"
    spec = spec_of("churn")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(RECIPES / "churn"))

        def run(*argv: object) -> None:
            assert runtime([str(one) for one in argv], spec=spec, environment={"MEALKIT_LOG_FORMAT": "json"}) == 0

        bad = folder / "bad"
        run(
            "train", "--input", data / "events.csv", "--input", plans, "--model", bad, "--set", "c=0.00001", "--seed", 3
        )
        for name, chosen, source in (("good", model, data / "events.csv"), ("bad", bad, data / "events.csv"),
                                     ("other", model, other)):  # fmt: skip
            run(
                "evaluate", "--input", source, "--input", plans, "--model", chosen, "--slice", "amount",
                "--slice", "price", "--bootstrap", 60, "--result", folder / f"{name}.json",
                "--report", folder / f"{name}.html",
            )  # fmt: skip
    return {"good": folder / "good.json", "bad": folder / "bad.json", "other": folder / "other.json", "model": model}


def read(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text())
    return value


def test_a_result_has_intervals_slices_and_what_was_judged(judged: dict[str, Path]) -> None:
    result = read(judged["good"])
    metrics = result["metrics"]
    assert all(metric["low"] <= metric["high"] for metric in metrics["metrics"])
    boot = metrics["bootstrap"]
    assert (boot["confidence"], boot["resamples"], boot["units"]) == (0.95, 60, "groups")
    assert all(len(column) == 60 for column in boot["replicates"].values())
    by_column: dict[str, int] = {}
    for one in metrics["slices"]:
        by_column[one["column"]] = by_column.get(one["column"], 0) + one["cases"]
    assert by_column == {"amount": result["judged"]["cases"], "price": result["judged"]["cases"]}
    assert {"evaluate", "bootstrap", "slice", "report"} <= set(result["seconds"])


def test_intervals_change_no_value(run: Runner, data: Path, model: Path, common: tuple[str, ...]) -> None:
    values = []
    for times in ("0", "30"):
        outcome = run(
            "evaluate", "--input", data / "events.csv", *common, "--model", model, "--bootstrap", times, *JSON
        )
        values.append({metric["name"]: metric["value"] for metric in outcome.result["metrics"]})
        assert ("low" in outcome.result["metrics"][0]) == (times != "0")
    assert values[0] == values[1]


def test_a_column_to_part_by_is_kept_from_the_recipe(
    run: Runner, data: Path, model: Path, common: tuple[str, ...], tmp_path: Path
) -> None:
    events = make_events()
    events["region"] = events["customer"].str[-1].map(lambda digit: "north" if digit < "5" else "south")
    source = write(events, tmp_path / "regions.parquet")
    plain = run("evaluate", "--input", source, *common, "--model", model, "--bootstrap", 0, *JSON)
    result = tmp_path / "r.json"
    outcome = run(
        "evaluate", "--input", source, *common, "--model", model, "--bootstrap", 0, "--result", result, *JSON,
        environment={"MEALKIT_SLICE": "region,customer"},
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert outcome.result["metrics"] == plain.result["metrics"]
    slices = read(result)["metrics"]["slices"]
    assert {one["value"] for one in slices if one["column"] == "region"} == {"north", "south"}
    text = run(
        "evaluate", "--input", source, *common, "--model", model, "--slice", "region", "--log-format", "text"
    ).out
    assert "region north" in text
    assert " – " in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--slice", "plan"), "several values within one customer"),
        (("--slice", "amonut"), "there is no column 'amonut'"),
        (("--confidence", "95"), "confidence cannot be '95'"),
        (("--bootstrap", "-1"), "bootstrap cannot be '-1'"),
    ],
)
def test_mistakes_are_told(
    run: Runner, data: Path, model: Path, common: tuple[str, ...], arguments: tuple[str, ...], message: str
) -> None:
    outcome = run("evaluate", "--input", data / "events.csv", *common, "--model", model, *arguments, *JSON)
    assert outcome.code == 2
    assert message in outcome.error["message"]


def test_compare_in_pairs(judged: dict[str, Path], mealkit: Mealkit) -> None:
    status, out, err = mealkit("compare", judged["good"], judged["bad"])
    assert (status, err) == (0, "")
    assert "roc_auc ↑" in out
    assert "log_loss ↓" in out
    assert "worse*" in out
    assert "in pairs" in out
    status, out, _ = mealkit("compare", judged["good"], judged["bad"], "--json")
    told = json.loads(out)
    assert (status, told["method"], told["error"]) == (0, "paired", None)
    loss = next(metric for metric in told["metrics"] if metric["name"] == "log_loss")
    (change,) = loss["differences"]
    assert change["verdict"] == "worse"
    assert change["sure"] is True
    assert 0 < change["low"] <= change["change"] <= change["high"]
    assert change["change"] == pytest.approx(loss["values"][1] - loss["values"][0])
    status, out, _ = mealkit("compare", judged["good"], judged["good"], "--json")
    same = json.loads(out)["metrics"][0]["differences"][0]
    assert (same["verdict"], same["sure"], same["change"]) == ("same", False, 0)


@pytest.mark.parametrize("width", [60, 80, 110, 300])
def test_a_comparison_fits_the_terminal(
    judged: dict[str, Path], mealkit: Mealkit, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setattr("mealkit_builder.cli.compare.terminal_width", lambda: width)
    status, out, _ = mealkit("compare", judged["good"], judged["bad"], judged["good"])
    assert status == 0
    table = [line for line in out.splitlines() if "_loss" in line or "roc_auc" in line]
    assert len(table) == (2 if width == 300 else 4), "else one table for each further model"
    assert all(len(line) <= max(width, 80) for line in table)
    own = [" (0." in line for line in table]  # the first one's interval, for which there may be no room
    assert all(own) if width > 80 else not any(own)
    for line in table:
        assert "worse" in line or "same" in line


def test_metrics_of_slices_fit_a_terminal() -> None:
    from mealkit_runtime.result import RunResult

    metrics = [
        {"name": f"a_metric_of_many_{number}", "value": number / 7, "direction": "minimize"} for number in range(7)
    ]
    slices = [{"column": "country", "value": value, "cases": 1_000, "metrics": metrics} for value in ("at", "x" * 99)]
    result = RunResult("evaluate", "r", "succeeded", 0, {}, metrics={"metrics": metrics, "slices": slices})
    lines = result.to_text().splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert sum("country at" in line for line in lines) > 1
    for metric in metrics:
        assert sum(metric["name"] in line for line in lines) == 2


def test_other_data_are_refused_unless_allowed(
    judged: dict[str, Path], mealkit: Mealkit, run: Runner, data: Path, model: Path, common: tuple[str, ...],
    tmp_path: Path,
) -> None:  # fmt: skip
    status, _, err = mealkit("compare", judged["good"], judged["other"])
    assert status == 3
    assert "judged on different data: fingerprints sha256:" in err
    status, out, err = mealkit("compare", judged["good"], judged["other"], "--allow-different-data")
    assert status == 0
    assert "note: " in err
    assert "each model's own interval" in out
    limited = tmp_path / "part.json"
    part = run(
        "evaluate", "--input", data / "events.csv", *common, "--model", model, "--limit", 300, "--bootstrap", 0,
        "--result", limited, *JSON,
    )  # fmt: skip
    assert part.code == 0, part.err
    status, _, err = mealkit("compare", judged["good"], limited)
    assert status == 3
    assert 'of the same files, null and {"limit": 300} were read' in err


def test_the_same_cases_in_other_files_are_the_same_data(
    judged: dict[str, Path], mealkit: Mealkit, run: Runner, data: Path, model: Path, common: tuple[str, ...],
    tmp_path: Path,
) -> None:  # fmt: skip
    source = write(make_events(), tmp_path / "events.parquet")
    result = tmp_path / "r.json"
    run("evaluate", "--input", source, *common, "--model", model, "--bootstrap", 60, "--result", result, *JSON)
    assert read(result)["input"]["fingerprint"] != read(judged["good"])["input"]["fingerprint"]
    status, out, err = mealkit("compare", judged["good"], result)
    assert status == 0
    assert err.startswith("note: the cases of ")
    assert "are the same by keys and target, but of other files" in err
    assert "in pairs" in out
    # Without keys, equal targets may be anyone's: other files are other data then.
    told = read(result)
    assert told["judged"]["keys"] == ["customer"]
    told["judged"]["keys"] = []
    result.write_text(json.dumps(told))
    status, _, err = mealkit("compare", judged["good"], result)
    assert status == 3
    assert "no key tells whether the cases are the same" in err
    status, out, err = mealkit("compare", judged["good"], result, "--allow-different-data")
    assert status == 0
    assert "each model's own interval" in out


def test_other_targets_and_other_cases_of_the_same_files(
    judged: dict[str, Path], mealkit: Mealkit, tmp_path: Path
) -> None:
    file, result = tmp_path / "r.json", read(judged["good"])
    assert result["judged"]["target"] == "left"
    result["judged"] |= {"target": "stayed", "digest": "sha256:x"}
    file.write_text(json.dumps(result))
    status, _, err = mealkit("compare", judged["good"], file)
    assert (status, "the targets are 'left' and 'stayed'" in err) == (3, True)
    result["judged"] |= {"target": "left", "cases": 7}
    file.write_text(json.dumps(result))
    status, out, err = mealkit("compare", judged["good"], file)
    assert status == 0
    assert "other cases were judged: 120 and 7" in err
    assert "each model's own interval" in out


def test_models_that_training_judged(judged: dict[str, Path], mealkit: Mealkit, tmp_path: Path) -> None:
    copy = tmp_path / "again"
    shutil.copytree(judged["model"], copy)
    status, out, err = mealkit("compare", judged["model"], copy)
    assert status == 0, err
    assert "note: no result has confidence intervals" in err
    assert "roc_auc ↑" in out
    status, _, err = mealkit("compare", judged["model"], judged["good"])
    assert status == 3
    assert "which training held back" in err


@pytest.mark.parametrize(
    ("limit", "status"),
    [("log_loss", 11), ("log_loss:0.0001", 11), ("log_loss:1%", 11), ("log_loss:5", 0), ("log_loss:10000%", 0),
     ("nothing", 2), ("log_loss:x", 2)],
)  # fmt: skip
def test_a_worse_model_can_fail_a_pipeline(judged: dict[str, Path], mealkit: Mealkit, limit: str, status: int) -> None:
    assert mealkit("compare", judged["good"], judged["bad"], "--fail-if-worse", limit)[0] == status
    if status != 2:
        assert mealkit("compare", judged["bad"], judged["good"], "--fail-if-worse", limit)[0] == 0


def test_a_failing_comparison_is_one_json_document(judged: dict[str, Path], mealkit: Mealkit) -> None:
    status, out, err = mealkit("compare", judged["good"], judged["bad"], "--fail-if-worse", "log_loss", "--json")
    told = json.loads(out)
    assert (status, told["error"]["code"]) == (11, "worse")
    assert "error[worse]: log_loss of" in err


def test_what_is_no_result_is_told(mealkit: Mealkit, tmp_path: Path, judged: dict[str, Path]) -> None:
    for name, content, message in (
        ("empty.json", "{}", "the file has no metrics"),
        ("list.json", "[1]", "the file is no result"),
        ("text.json", "metrics", "the file is not JSON"),
        ("failed.json", '{"status": "failed", "metrics": null, "recipe": {}}', "no metrics: the run failed"),
        ("odd.json", '{"metrics": {"metrics": [{"value": 1}]}}', "these are no metrics"),
    ):
        (tmp_path / name).write_text(content)
        status, _, err = mealkit("compare", judged["good"], tmp_path / name)
        assert (status, message in err) == (2, True), err
    for command in (("compare", judged["good"]), ("compare", judged["good"], tmp_path / "none.json")):
        assert mealkit(*command)[0] == 2
    assert mealkit("report", tmp_path / "failed.json")[0] == 2
    assert mealkit("report", tmp_path / "none.json")[0] == 2


def test_a_report_from_a_result_is_that_of_the_run(judged: dict[str, Path], mealkit: Mealkit, tmp_path: Path) -> None:
    status, out, err = mealkit("report", judged["good"], "-o", tmp_path / "page.html")
    assert (status, out, err) == (0, f"{tmp_path}/page.html\n", "")
    text = (tmp_path / "page.html").read_text()
    again = mealkit("report", judged["good"], "-o", tmp_path / "again.html")
    assert again[0] == 0
    assert (tmp_path / "again.html").read_text() == text
    ran = judged["good"].with_suffix(".html").read_text()
    for piece in ("roc auc", "By amount", "Confusion matrix", read(judged["good"])["model"]["digest"]):
        assert piece in text
        assert piece in ran
    svgs = list(text.split("<svg ")[1:])
    assert svgs
    assert svgs[0].partition("</svg>")[0] in ran


def regression_result() -> dict[str, Any]:
    import numpy as np

    from mealkit import Context, Data, Hyperparameters, RegressionEvaluator

    random = np.random.default_rng(0)
    truth = random.normal(50, 10, 400)

    class Given:
        def predict(self, features: pd.DataFrame) -> Any:
            return features["p"].to_numpy()

    data = Data(pd.DataFrame({"p": truth + random.normal(0, 3, 400)}), pd.Series(truth), pd.DataFrame(index=range(400)))
    context: Context[Any] = Context(run_id="r", hyperparameters=Hyperparameters())
    metrics = RegressionEvaluator[Given]().evaluate(data, Given(), context).to_json()
    history = {"rmse": [[step, 10 / step] for step in range(1, 30)]}
    return {"mode": "train", "recipe": {"name": "rent", "version": "1"}, "metrics": metrics, "history": history}


def others() -> dict[str, dict[str, Any]]:
    """Results of the other kinds, as their evaluators give them."""
    import numpy as np
    from sklearn.cluster import KMeans

    from mealkit import ClusteringEvaluator, Context, Data, Hyperparameters, RankingEvaluator

    random = np.random.default_rng(0)
    places = pd.DataFrame(random.normal(size=(300, 2)) + random.integers(0, 3, (300, 1)) * 6, columns=["x", "y"])
    context: Context[Any] = Context(run_id="r", hyperparameters=Hyperparameters())
    model = KMeans(3, n_init=1, random_state=0).fit(places)
    plain = Data(places, pd.Series(np.nan, index=places.index), pd.DataFrame(index=places.index))

    class First:
        def predict(self, features: pd.DataFrame) -> Any:
            return features["x"].to_numpy()

    relevant = pd.Series((places["x"] + random.normal(0, 5, 300) > 6).astype(int))
    ranked = Data(places, relevant, pd.DataFrame(index=places.index), groups=pd.Series(np.arange(300) // 15))
    return {
        "clustering": {"metrics": ClusteringEvaluator[Any]().evaluate(plain, model, context).to_json()},
        "ranking": {"metrics": RankingEvaluator[Any]().evaluate(ranked, First(), context).to_json()},
    }


def test_odd_results_are_reported_too() -> None:
    from mealkit_runtime.report import report

    undefined = {"name": "m", "value": None, "direction": "minimize"}
    curve = {"name": "roc", "x_label": "$a_1$", "y_label": "b", "x": [0.5], "y": [0.5]}
    odd: list[dict[str, Any]] = [
        {"metrics": []},
        {"metrics": [undefined], "slices": [
            {"column": "<b>", "value": str(number), "cases": number, "metrics": [undefined]} for number in range(50)
        ]},
        {"metrics": [undefined], "slices": [{"column": "c", "value": "v", "cases": 1, "metrics": []}]},
        {"metrics": [], "curves": [curve, {**curve, "name": "own", "x": [], "y": []},
                                   {**curve, "name": "predicted_against_actual", "x": [None, 3], "y": [1, None]}]},
        {"metrics": [], "tables": [{"name": "confusion_matrix", "columns": ["actual", "predicted a"],
                                    "rows": [["a", 0]]}]},
    ]  # fmt: skip
    for metrics in odd:
        history = {"loss": [[1, None], [2, 3.0], [3, 4]], "one": [[1, 2]]}
        text = report(
            {"recipe": {"name": "<r>"}, "metrics": metrics, "history": history, "hyperparameters": {"a": [1]}}
        )
        assert "&lt;r&gt;" in text
        assert "nan" not in text.lower()
        assert "While training: loss" in text


def test_many_classes_are_told_apart() -> None:
    from mealkit_runtime.report import report

    columns = ["actual", "predicted a", "predicted b", "predicted c"]
    table = {"name": "confusion_matrix", "columns": columns, "rows": [["a", 8, 2, 0], ["b", 1, 9, 0], ["c", 0, 0, 0]]}
    text = report({"recipe": {"name": "r"}, "metrics": {"metrics": [], "tables": [table]}})
    assert 'aria-label="Recall by class"' in text
    assert '<td>a</td><td class="number">10</td><td class="number">0.8</td><td class="number">0.888889</td>' in text
    assert '<td>c</td><td class="number">0</td><td class="number"></td><td class="number"></td>' in text


def test_a_report_that_cannot_be_drawn_is_told_before_the_work(
    run: Runner, data: Path, model: Path, common: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name))
    report = tmp_path / "report.html"
    outcome = run("evaluate", "--input", data / "events.csv", *common, "--model", model, "--report", report, *JSON)
    assert outcome.code == 2
    assert "add matplotlib to the recipe's dependencies" in outcome.error["hint"]
    assert outcome.result["metrics"] is None
    assert not report.exists()


def need_browser() -> None:
    if shutil.which(PROGRAM) is None:
        pytest.skip(f"{PROGRAM} is not installed")


@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_shows_the_report(judged: dict[str, Path], tmp_path: Path, dark: bool) -> None:
    need_browser()
    seen = look(judged["good"].with_suffix(".html"), tmp_path, dark=dark)
    assert (seen.problems, seen.requests) == ([], [])
    plots = {one["label"]: one for one in seen.found["plots"]}
    assert list(plots) == [
        "ROC curve", "Precision and recall", "Calibration", "Confusion matrix", "roc auc by amount", "roc auc by price",
    ]  # fmt: skip
    for one in plots.values():
        assert one["width"] > 200
        assert one["height"] > 80
        assert one["shapes"] > 5
        assert one["ink"] == ("rgb(230, 234, 241)" if dark else "rgb(27, 35, 48)")
    assert "false positive rate" in plots["ROC curve"]["texts"]
    assert seen.found["title"] == "churn 0.3.0: evaluation"
    for text in ("Metrics", "log loss", "lower ↓", "sha256:", "bootstrap resamples of groups", "By price"):
        assert text in seen.found["text"]
    assert seen.colors() > 50


def test_a_browser_shows_the_other_kinds_also_on_a_narrow_screen(tmp_path: Path) -> None:
    need_browser()
    from mealkit_runtime.report import report

    results = {"regression": regression_result(), **others()}
    text = {}
    for name, result in results.items():
        page = tmp_path / f"{name}.html"
        page.write_text(report({"mode": "evaluate", "recipe": {"name": name, "version": "1"}, **result}))
        text[name] = page.read_text()
    expected = {
        "regression": ["Predicted against actual", "Residuals", "While training: rmse"],
        "clustering": ["Cluster sizes"],
        "ranking": ["Gains", "Precision by rank"],
    }
    for name, labels in expected.items():
        for label in labels:
            assert f'aria-label="{label}"' in text[name], name
    seen = look(tmp_path / "regression.html", tmp_path, width=400)
    assert (seen.problems, seen.requests) == ([], [])
    assert seen.found["width"] <= seen.found["window"], "nothing reaches beyond a narrow screen"
    assert all(100 < one["width"] <= 400 for one in seen.found["plots"])
    assert seen.colors() > 20
