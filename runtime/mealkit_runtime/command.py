"""The command line of a recipe: parses it, runs the mode, and turns every end into an exit status."""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
import time
import traceback
from argparse import SUPPRESS, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

from mealkit.errors import MealkitError, ProjectError, RecipeError, Stopped, UsageError, storage_error
from mealkit.redact import Redactor
from mealkit.spec import RecipeSpec

from . import RECIPE_FILE, __version__
from .events import SCHEMA_FILE, Reporter, choose_form
from .outlet import outlets, screened
from .setting import DESCRIBE, NODES, SETTINGS, WORKER, of_mode, table
from .stop import Interrupted, Stopper, stopped

INTERNAL_EXIT = 1

_NODE_EPILOG = """\
settings are taken from arguments, then the environment, then the defaults; Dask's own (DASK_…) hold too

exit status: 0 the scheduler has gone, 2 your mistake, 75 no scheduler answered, 143 stopped, 1 anything else
"""

_ABOUT = {
    "train": "Train a model and write it, with its metrics, to a model directory.",
    "evaluate": "Judge a trained model on a dataset whose target is known.",
    "score": "Score a dataset with a trained model; adds one batch of rows to the output dataset, all or nothing.",
    "describe": "Show what the recipe is: its hyperparameters, inputs, outputs and metrics.",
    "worker": "Work for runs with --engine: join a Dask scheduler, until it has gone.",
    "scheduler": "Be the Dask scheduler that workers join and that runs with --engine use.",
}

_EXAMPLES = {
    "train": (
        "train --input data/training.csv --model model",
        "train --input data/ --model model --set learning_rate=0.2 --result result.json",
        "train --input data/ --model model --checkpoint-dir state --resume",
        "train --input data/ --model model --trials 50 --set trees=300",
    ),
    "evaluate": ("evaluate --input data/test.parquet --model model",),
    "score": (
        "score --input data/new.parquet --model model --output scores",
        "score --input 'data/*.jsonl.gz' --model model --output scores --run-id 2026-11-23",
        "score --input data/ --model model --output scores --workers auto",
    ),
    "describe": ("describe", "describe --json", "describe --events-schema"),
    "worker": ("worker --engine dask://10.0.0.7:8786 --workers auto",),
    "scheduler": ("scheduler", "scheduler --host 127.0.0.1"),
}

_EPILOG = """\
settings are taken from arguments, then the environment, then --config FILE (a JSON object with the names above), then
the defaults. MEALKIT_SET_NAME sets the hyperparameter NAME, MEALKIT_INPUT_NAME the further dataset NAME, in any case.

exit status: 0 done, 2 your mistake, 3 bad data, 4 bad model, 5 the recipe failed, 8 disk full or read-only,
75 try again later, 143 stopped, 1 anything else
"""


def main(
    argv: Sequence[str] | None = None,
    *,
    spec: RecipeSpec | None = None,
    prog: str = "python -m mealkit_runtime",
    environment: Mapping[str, str] | None = None,
    clock: Callable[[], float] = time.time,
) -> int:
    """Run ``MODE …`` and give the process exit status.

    Args:
        argv: The arguments without the program's name; None: those of the process.
        spec: The recipe; None: the one that :data:`~mealkit_runtime.RECIPE_FILE` or ``MEALKIT_RECIPE`` holds.
        prog: What help calls the program.
        environment: ``MEALKIT_*`` variables are read from it; None: that of the process.
        clock: Seconds since the epoch.
    """
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in NODES:
        return _node(argv, spec, prog, os.environ if environment is None else environment)
    # First of all, and before the libraries: PID 1 ignores SIGTERM until a handler is set.
    stopper = Stopper()
    begun = time.monotonic()
    with stopper.install():
        try:
            return _main(
                argv,
                spec,
                prog,
                os.environ if environment is None else environment,
                clock,
                stopper,
            )
        except MealkitError as error:
            redactor = Redactor.of_environment(os.environ if environment is None else environment)
            sys.stderr.write(redactor.text(error.render()) + "\n")
            return error.exit_code
        except Interrupted:
            sys.stderr.write(stopped(begun).render() + "\n")
            return Stopped.exit_code
        except BrokenPipeError:
            return INTERNAL_EXIT


def _node(argv: Sequence[str], spec: RecipeSpec | None, prog: str, environment: Mapping[str, str]) -> int:
    """A scheduler or a worker: it runs until it is stopped, and is no run."""
    try:
        arguments = parse(argv, prog)
        assert arguments is not None
        if spec is None and argv[0] == WORKER:
            spec = read_spec(environment)
        from .cluster_node import run_node

        return run_node(argv[0], arguments, environment, spec)
    except MealkitError as error:
        sys.stderr.write(Redactor.of_environment(environment).text(error.render()) + "\n")
        return error.exit_code


def _main(
    argv: Sequence[str],
    spec: RecipeSpec | None,
    prog: str,
    environment: Mapping[str, str],
    clock: Callable[[], float],
    stopper: Stopper,
) -> int:
    arguments = parse(argv, prog)
    if arguments is None:
        return UsageError.exit_code
    mode = arguments.pop("mode")
    if arguments.get("events_schema"):
        sys.stdout.write(SCHEMA_FILE.read_text(encoding="utf-8"))
        sys.stdout.flush()
        return 0
    if spec is None:
        spec = read_spec(environment)
    if mode == DESCRIBE:
        from .describe import describe

        sys.stdout.write((spec.to_json() if arguments.get("json") else describe(spec)) + "\n")
        sys.stdout.flush()
        return 0
    from .place import settled

    redactor = Redactor.of_environment(environment)
    redactor.hide_uris(arguments)
    with (
        settled(os.environ),
        outlets(lambda: stopper.requested) as (stdout, stderr),
        screened(redactor.text),
    ):
        reporter = Reporter(stdout, stderr, clock=clock, redactor=redactor, held=stopper.held)
        return _run(mode, arguments, spec, environment, reporter, stopper)


def read_spec(environment: Mapping[str, str]) -> RecipeSpec:
    """The specification of the image's recipe.

    Raises:
        ProjectError: there is none, or it cannot be read.
    """
    file = Path(environment.get("MEALKIT_RECIPE") or RECIPE_FILE)
    try:
        return RecipeSpec.from_json(file.read_bytes())
    except OSError as error:
        raise ProjectError(
            f"there is no recipe here: {(error.strerror or str(error)).lower()}",
            where=str(file),
            hint="this is the entrypoint of a recipe's image; outside of one use the command `mealkit`",
        ) from None


def _run(
    mode: str,
    arguments: Mapping[str, Any],
    spec: RecipeSpec,
    environment: Mapping[str, str],
    reporter: Reporter,
    stopper: Stopper,
) -> int:
    from .config import early_result, resolve
    from .result import RunResult

    clock = reporter.clock
    begun, started = time.monotonic(), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(clock()))
    form = arguments.get("log_format") or environment.get("MEALKIT_LOG_FORMAT") or "auto"
    reporter.form = choose_form(form, reporter.stdout, reporter.stderr)
    file = early_result(arguments, environment)
    facts: dict[str, Any] = {
        "mode": mode,
        "run_id": "",
        "recipe": {"name": spec.name, "version": spec.version, "spec_digest": spec.digest},
        "image": reporter.redact(environment.get("MEALKIT_IMAGE") or "") or None,
        "started": started,
    }
    reporter.head = {name: facts[name] for name in ("mode", "run_id", "recipe", "image")}
    run: Any = None
    telemetry: Any = None
    over = False

    def finish(error: MealkitError | None, *, code: int = 0, status: str = "succeeded") -> int:
        """Write and tell the result, once; a result that cannot be written is an error of its own."""
        nonlocal over
        if over:
            return code
        over = True
        # From here on a signal comes too late; but no file, reader or collector may hold up a run that should end.
        with stopper.cleaning():
            return tell(error, code, status)

    def tell(error: MealkitError | None, code: int, status: str) -> int:
        known = {} if run is None else {**run.found, "warnings": tuple(run.warnings)}
        seconds = {} if run is None else {name: round(value, 4) for name, value in run.seconds.items()}
        result = RunResult(
            **{**facts, **known},
            status=status,
            exit_code=code,
            error=None if error is None else error.to_json(),
            seconds={**seconds, "total": round(time.monotonic() - begun, 4)},
            versions=_versions(),
        )
        if file is not None:
            from .atomic import write_atomic

            try:
                write_atomic(file, result.to_json(reporter.redact))
            except OSError as problem:
                trouble = storage_error(problem, "writing the result", file)
                if error is None:
                    error, code = trouble, trouble.exit_code
                    result = replace(result, status="failed", exit_code=code, error=trouble.to_json())
                else:
                    reporter.warning(trouble.render())
        if message_file := environment.get("MEALKIT_TERMINATION_LOG"):
            from .outline import write_outline

            write_outline(message_file, result, reporter.redact)
        if error is not None:
            reporter.error(error)
        if telemetry is not None and (trouble_told := telemetry.close(result, hurried=stopper.requested)):
            reporter.warning(trouble_told, "the run itself is not concerned; see OTEL_EXPORTER_OTLP_ENDPOINT")
        if error is None or reporter.form == "json":
            reporter.result(asdict(result), result.to_text())
        lost = getattr(reporter.stdout, "lost", None)
        if lost is not None and not isinstance(lost, BrokenPipeError):
            reporter.raw(f"warning: events could not be written: {lost.strerror or lost}")
        return code

    def last_words() -> None:
        finish(stopped(begun), code=Stopped.exit_code, status="stopped")

    try:
        config = resolve(spec, mode, arguments, environment, clock())
        file = config.result
        reporter.redactor.hide_uris(vars(config))
        reporter.redactor.hide(*declared_secrets(spec, config.given))
        reporter.form = choose_form(config.log_format, reporter.stdout, reporter.stderr)
        facts["run_id"] = reporter.head["run_id"] = config.run_id
        if any(name.startswith("OTEL_") for name in environment):
            from .telemetry import open_telemetry

            telemetry = open_telemetry(reporter, environment)
        reporter.begin()
        _check_result(file)
        from .run import Run

        run = Run(spec, config, reporter, stopper, environment, clock, found={"started": started})
        facts.pop("started")
        stopper.last_words = last_words
        with _logging(reporter), run.keeping_bad_rows():
            _mode(mode)(run)
        return finish(None)
    except MealkitError as error:
        if isinstance(error, RecipeError):
            _show_traceback(reporter, error)
        return finish(error, code=error.exit_code, status="failed")
    except Interrupted:
        return finish(stopped(begun), code=Stopped.exit_code, status="stopped")
    except Exception as error:
        reporter.raw(traceback.format_exc())
        return finish(
            _Internal(
                f"{type(error).__name__}: {error}",
                hint="this is a fault of mealkit: please report it with the lines above",
            ),
            code=INTERNAL_EXIT,
            status="failed",
        )


class _Internal(MealkitError):
    """A fault of ours."""

    code = "internal"


def secret_names(spec: RecipeSpec) -> set[str]:
    """The hyperparameters that the recipe declares as secrets."""
    properties = spec.hyperparameters.get("properties", {})
    return {
        name
        for name, facts in properties.items()
        if any(one.get("writeOnly") for one in (facts, *facts.get("anyOf", ())))
    }


def declared_secrets(spec: RecipeSpec, given: Mapping[str, object]) -> list[str]:
    """The values that were given for hyperparameters which the recipe declares as secrets."""
    secret = secret_names(spec)
    return [str(value) for name, value in given.items() if name in secret and value is not None]


def _mode(mode: str) -> Callable[[Any], None]:
    if mode == "train":
        from .train import train

        return train
    if mode == "evaluate":
        from .evaluate import evaluate

        return evaluate
    from .score import score

    return score


def _versions() -> dict[str, str]:
    from .run import versions

    return versions()


def _check_result(file: Path | None) -> None:
    """A result that cannot be written is told before the work, not after it."""
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, "making the folder of the result") from None
    if file.is_dir() or not os.access(file.parent, os.W_OK):
        what = "is a folder" if file.is_dir() else "cannot be written there"
        raise UsageError(f"the result {what}", where=str(file), hint="name a file in a folder that this user can write")


@contextlib.contextmanager
def _logging(reporter: Reporter) -> Any:
    """Messages of the recipe's logger from INFO on, of all others from WARNING on, go to the reporter."""
    import logging

    from .events import RecipeLog

    handler = RecipeLog(reporter)
    recipe, root = logging.getLogger("mealkit.recipe"), logging.getLogger()
    before = recipe.level
    recipe.setLevel(logging.INFO)
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        recipe.setLevel(before)


def _show_traceback(reporter: Reporter, error: RecipeError) -> None:
    from .author_trace import author_trace

    if story := author_trace(error):
        reporter.raw(story)


class _Parser(ArgumentParser):
    """Tells a mistake as an error of ours, with a hint."""

    def error(self, message: str) -> NoReturn:
        hint = f"see `{self.prog} --help`"
        if message.startswith("unrecognized arguments: "):
            wrong = message.partition(": ")[2].split()[0].partition("=")[0]
            if not wrong.startswith("-"):  # it may be the value of a secret, after a blank instead of '='
                raise UsageError("an argument stands alone", where=self.prog, hint="write --set NAME=VALUE, with a '='")
            near = difflib.get_close_matches(wrong, [flag for a in self._actions for flag in a.option_strings], n=1)
            raise UsageError(
                f"unknown argument {wrong!r}", where=self.prog, hint=f"did you mean {near[0]}?" if near else hint
            )
        raise UsageError(message, where=self.prog, hint=hint)


def parse(argv: Sequence[str], prog: str) -> dict[str, Any] | None:
    """The mode and the settings given as arguments, by name; None after a bare call, whose answer is the help.

    Raises:
        UsageError: an unknown mode or argument.
        SystemExit: after ``--help`` or ``--version``.
    """
    if not argv:
        sys.stderr.write(_overview(prog))
        return None
    first = argv[0]
    if first in ("-h", "--help", "help"):
        sys.stdout.write(_overview(prog))
        raise SystemExit(0)
    if first == "--version":
        sys.stdout.write(f"mealkit-runtime {__version__}, Python {sys.version.split()[0]}\n")
        raise SystemExit(0)
    if first not in _ABOUT:
        near = difflib.get_close_matches(first, _ABOUT, n=1)
        modes = ", ".join(_ABOUT)
        raise UsageError(
            f"unknown mode {first!r}",
            where=prog,
            hint=f"did you mean {near[0]!r}?" if near else f"begin with a mode: {modes}",
        )
    parser = mode_parser(first, prog)
    found: Namespace = parser.parse_args(list(argv[1:]))
    return {"mode": first, **vars(found)}


def mode_parser(mode: str, prog: str) -> ArgumentParser:
    """The parser of one mode's arguments."""
    examples = "\n".join(f"  {prog} {example}" for example in _EXAMPLES[mode])
    more = {DESCRIBE: "", **dict.fromkeys(NODES, "\n" + _NODE_EPILOG)}.get(mode, "\n" + _EPILOG)
    epilog = f"examples:\n{examples}\n{more}"
    parser = _Parser(
        prog=f"{prog} {mode}",
        description=_ABOUT[mode],
        epilog=epilog,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if mode == DESCRIBE:
        parser.add_argument("--json", action="store_true", help="the specification as JSON, as in the image's label")
        parser.add_argument("--events-schema", action="store_true", help="the JSON Schema of what the other modes tell")
        return parser
    for setting in of_mode(mode):
        default = f"; default: {setting.default}" if setting.default else ""
        text = f"{setting.help}{default} [{setting.env}]".replace("%", "%%")
        if not setting.metavar:
            parser.add_argument(setting.flag, action="store_true", default=SUPPRESS, help=text)
        elif setting.many:
            parser.add_argument(setting.flag, action="append", metavar=setting.metavar, default=SUPPRESS, help=text)
        else:
            parser.add_argument(setting.flag, metavar=setting.metavar, default=SUPPRESS, help=text)
    if mode not in NODES:
        parser.add_argument("--config", metavar="FILE", default=SUPPRESS, help="settings as JSON [MEALKIT_CONFIG]")
    return parser


def _overview(prog: str) -> str:
    modes = "\n".join(f"  {mode:<10} {about}" for mode, about in _ABOUT.items())
    examples = "\n".join(f"  {prog} {lines[0]}" for lines in _EXAMPLES.values())
    return (
        f"usage: {prog} MODE …\n\nmodes:\n{modes}\n\nexamples:\n{examples}\n\n"
        f"settings (argument, environment variable, meaning, modes):\n{table()}\n\n{_EPILOG}\n"
        f"`{prog} MODE --help` tells more.\n"
    )


__all__ = ["SETTINGS", "main", "mode_parser", "parse", "read_spec"]
