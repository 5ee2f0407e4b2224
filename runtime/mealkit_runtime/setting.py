"""The one table of a run's settings, shared by the parser, environment, config file, ``--help`` and the docs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TRAIN, EVALUATE, SCORE, DESCRIBE = "train", "evaluate", "score", "describe"
RUNS = (TRAIN, EVALUATE, SCORE)

WORKER, SCHEDULER = "worker", "scheduler"
NODES = (WORKER, SCHEDULER)
"""What an image does for the runs of others, in a cluster."""

DEFAULT_BATCH_ROWS = 100_000
GROUPINGS = ("auto", "sorted", "engine")
"""How rows that must stay together are found; the first is the default."""

POLICIES = ("fail", "skip", "quarantine")
"""What may become of bad rows."""


@dataclass(frozen=True)
class Setting:
    """One setting of a run.

    Attributes:
        name: Its key in the config file; with dashes and ``--``, the argument.
        modes: The modes that use it; elsewhere it is ignored in the environment and the config file.
        metavar: What the argument takes; empty: a switch.
        help: What it is, in a line.
        default: The default, in words.
        many: It may be given several times.
    """

    name: str
    modes: tuple[str, ...]
    metavar: str
    help: str
    default: str = ""
    many: bool = False

    @property
    def flag(self) -> str:
        """The argument."""
        return "--" + self.name.replace("_", "-")

    @property
    def env(self) -> str:
        """The environment variable; for ``set`` and named inputs, the start of its name."""
        return f"MEALKIT_{self.name.upper()}" + ("_NAME" if self.name == "set" else "")


SETTINGS = (
    Setting(
        "input",
        RUNS,
        "URI",
        "the input dataset: a file, folder, glob or Delta table, here or at s3://, gs://, az://, https://; "
        "NAME=URI for a further dataset of [tool.mealkit.inputs]",
        many=True,
    ),
    Setting("columns", RUNS, "A,B", "read only these columns of the input", "all that the recipe wants"),
    Setting("where", RUNS, "CONDITION", 'read only rows that fulfil it, such as "amount > 10 and note is not null"'),
    Setting("since", RUNS, "TIME", "read only rows from this time on, by the recipe's time column"),
    Setting("until", RUNS, "TIME", "read only rows before this time"),
    Setting("flatten", RUNS, "", "make columns with dotted names of nested ones", "no"),
    Setting("sample", RUNS, "SHARE", "read a random part of the rows: a fraction (0.1 or 10%) or a number of them"),
    Setting("sample_seed", RUNS, "N", "the seed of the sample; the same takes the same rows", "0"),
    Setting("limit", RUNS, "N", "read at most so many rows, the first ones"),
    Setting("validation", (TRAIN,), "URI", "judge on this dataset", "a part of the input, held back"),
    Setting("model", RUNS, "DIR", "the model directory: train writes it, evaluate and score read it"),
    Setting(
        "output",
        (SCORE,),
        "URI",
        "the dataset that gets one new batch of scores: a folder, s3://…, or delta:URI for a Delta table",
    ),
    Setting("set", (TRAIN,), "NAME=VALUE", "a hyperparameter; the declared type decodes the text", many=True),
    Setting("hyperparameters", (TRAIN,), "FILE", "hyperparameters as a JSON object; in the config file: the object"),
    Setting("seed", (TRAIN,), "N", "the seed of everything random", "0"),
    Setting("overwrite", (TRAIN,), "", "replace the model that is in the model directory", "no"),
    Setting(
        "batch_rows", (SCORE,), "N", "rows read and scored at once, which bounds memory", f"{DEFAULT_BATCH_ROWS:,}"
    ),
    Setting(
        "shard",
        (SCORE,),
        "I/N",
        "score part I (from 0) of N; the last of the N runs with one run id makes the batch of all; auto/N takes I "
        "from JOB_COMPLETION_INDEX",
        "all of the input",
    ),
    Setting("slice", (EVALUATE,), "COLUMN", "also judge by the values, or ranges, of this column", many=True),
    Setting("bootstrap", (EVALUATE,), "N", "resamples for the confidence intervals; 0: no intervals", "200"),
    Setting("confidence", (EVALUATE,), "PART", "what part of such intervals hold the true value", "0.95"),
    Setting("report", (EVALUATE,), "FILE", "write a self-contained HTML report there; needs matplotlib", "none"),
    Setting(
        "engine",
        (TRAIN, SCORE, WORKER),
        "dask://HOST:PORT",
        "the Dask scheduler whose workers do the work, or which a worker joins; dask+tls:// for TLS",
        "this process",
    ),
    Setting(
        "engine_wait",
        (TRAIN, SCORE, WORKER),
        "SECONDS",
        "how long to wait for the scheduler, and for a first worker",
        "300",
    ),
    Setting("workers", (SCORE, WORKER), "N", "processes that work here; auto (or 0): as many as there are cores", "1"),
    Setting("host", (SCHEDULER,), "ADDRESS", "listen at this address of the machine only", "all"),
    Setting("port", (SCHEDULER,), "N", "the port for workers and runs", "8786"),
    Setting("http_port", (SCHEDULER,), "N", "the port for GET /health and /metrics; 0: none", "8787"),
    Setting("unordered", (SCORE,), "", "with several workers: write rows as they come, not in the input's order", "no"),
    Setting(
        "group",
        (SCORE,),
        "HOW",
        "rows that must stay together: sorted (they stand together in the input), engine (sort the input first, on "
        "disk, with duckdb), or auto: engine where the input needs it and duckdb is installed",
        "auto",
    ),
    Setting(
        "on_bad_rows",
        RUNS,
        "WHAT",
        "what becomes of rows that the row schema refuses: fail (the run ends), skip, or quarantine (skipped and kept)",
        "fail",
    ),
    Setting(
        "quarantine",
        RUNS,
        "DIR",
        "the folder that bad rows are kept in",
        "the output's or the model's name with .quarantine behind it; to evaluate, it must be given",
    ),
    Setting("max_bad_rows", RUNS, "N", "fail beyond so many bad rows; 0.01: beyond this fraction of all", "no limit"),
    Setting("outputs", (TRAIN, EVALUATE), "DIR", "a folder for the recipe's further files (plots, reports)", "none"),
    Setting("checkpoint_dir", (TRAIN,), "DIR", "a folder that outlives an interrupted run", "none"),
    Setting("resume", (TRAIN,), "", "go on from the latest checkpoint, or with the trials that were begun", "no"),
    Setting("warm_start", (TRAIN,), "DIR", "a model directory of the same recipe to start from", "none"),
    Setting("trials", (TRAIN,), "N", "try N sets of hyperparameters within their ranges, and keep the best", "none"),
    Setting(
        "objective", (TRAIN,), "METRIC", "the metric that trials are compared by", "that of the recipe or its kind"
    ),
    Setting("trial_workers", (TRAIN,), "N", "processes that work on trials at once", "1"),
    Setting(
        "trial_storage",
        (TRAIN,),
        "PATH",
        "a journal file, or an Optuna URL, that runs with one run id share: they work on one study",
        "a file in the checkpoint folder",
    ),
    Setting("run_id", RUNS, "ID", "the run's name; the same name again adds no second batch", "a new, sortable one"),
    Setting("result", RUNS, "FILE", "write the run's result there as JSON, also when it fails", "none"),
    Setting("log_format", RUNS, "FORM", "text, json, or auto: text on a terminal, JSON lines elsewhere", "auto"),
)

BY_NAME: Mapping[str, Setting] = {setting.name: setting for setting in SETTINGS}


def of_mode(mode: str) -> tuple[Setting, ...]:
    """The settings that a mode uses."""
    return tuple(setting for setting in SETTINGS if mode in setting.modes)


def table(mode: str | None = None) -> str:
    """The settings as lines of text: argument, environment variable, config key, meaning, default."""
    chosen = SETTINGS if mode is None else of_mode(mode)
    lines = []
    for setting in chosen:
        default = f" (default: {setting.default})" if setting.default else ""
        modes = "" if mode is not None else f" [{', '.join(setting.modes)}]"
        argument = f"{setting.flag} {setting.metavar}".strip()
        lines.append(f"  {argument:<24} {setting.env:<25} {setting.help}{default}{modes}")
    return "\n".join(lines)
