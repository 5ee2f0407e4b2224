"""The settings of one run, from arguments, ``MEALKIT_*`` environment, a config file and defaults, in that order."""

from __future__ import annotations

import difflib
import json
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mealkit.errors import SettingsError
from mealkit.spec import RecipeSpec

from .engine import cluster_address
from .events import FORMATS
from .file_system import redact
from .file_system import resolve as locate
from .query import EVERYTHING, Query, make_query
from .setting import BY_NAME, DEFAULT_BATCH_ROWS, EVALUATE, GROUPINGS, POLICIES, SCORE, SETTINGS, TRAIN
from .shard import Shard, job_name, parse_shard

_NAMED_INPUT = re.compile(r"([A-Za-z_]\w*)=(.*)\Z", re.DOTALL)
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")

T = TypeVar("T")


@dataclass(frozen=True)
class RunConfig:
    """All that one run was told; see :mod:`mealkit_runtime.setting` for the meaning of each.

    Attributes:
        workers: 0: as many as there are cores.
        given: Hyperparameters as given, not decoded yet: strings are still strings.
    """

    mode: str
    run_id: str
    input: str
    model: Path
    output: str | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    validation: str | None = None
    given: Mapping[str, object] = field(default_factory=dict, repr=False)
    seed: int = 0
    overwrite: bool = False
    batch_rows: int = DEFAULT_BATCH_ROWS
    shard: Shard | None = None
    slices: tuple[str, ...] = ()
    bootstrap: int = 200
    confidence: float = 0.95
    report: Path | None = None
    engine: str | None = None
    engine_wait: int = 300
    workers: int = 1
    unordered: bool = False
    group: str = "auto"
    on_bad_rows: str = "fail"
    quarantine: Path | None = None
    max_bad_rows: int | float | None = None
    outputs: Path | None = None
    checkpoint_dir: Path | None = None
    resume: bool = False
    warm_start: Path | None = None
    trials: int | None = None
    objective: str | None = None
    trial_workers: int = 1
    trial_storage: str | None = None
    result: Path | None = None
    log_format: str = "auto"
    query: Query = EVERYTHING


def new_run_id(now: float) -> str:
    """A run id that sorts by time: ``20261123T201545Z-5f0c93ab``."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now)) + "-" + secrets.token_hex(4)


def resolve(
    spec: RecipeSpec,
    mode: str,
    arguments: Mapping[str, Any],
    environment: Mapping[str, str],
    now: float,
) -> RunConfig:
    """The settings of a run in ``mode``; reads the config and hyperparameter files, but no data.

    Args:
        spec: Names the hyperparameters and further inputs.
        mode: ``train``, ``evaluate`` or ``score``.
        arguments: By setting name; those not given are absent or None. ``config`` is the config file.
        environment: The process environment.
        now: Seconds since the epoch, for a new run id.

    Raises:
        SettingsError: a setting is unknown, missing or wrong.
    """
    config_file = arguments.get("config") or environment.get("MEALKIT_CONFIG")
    config = {} if config_file is None else _config(str(config_file))
    sources = Sources(mode, arguments, environment, config)
    inputs = _inputs(spec, sources)
    main = inputs.pop("", None)
    if main is None:
        raise _missing("input", "the input dataset")
    for name in spec.inputs:
        if name not in inputs:
            raise SettingsError(
                f"the recipe also reads the dataset {name!r}, and none was given",
                where=f"input {name}",
                hint=f"add --input {name}=URI (or set MEALKIT_INPUT_{name.upper()})",
            )
    model = sources.text("model")
    if model is None:
        raise _missing("model", "the model directory")
    output = sources.text("output")
    if mode == SCORE and output is None:
        raise _missing("output", "the dataset for the scores")
    shard = None if (text := sources.text("shard")) is None else parse_shard(text, environment)
    run_id = sources.text("run_id") or (new_run_id(now) if shard is None else _run_id_of_shards(environment))
    if not _RUN_ID.match(run_id):
        raise SettingsError(
            f"not a run id: {run_id!r}",
            where="run_id",
            hint="use up to 128 letters, digits, '.', '_' and '-', beginning with a letter or digit",
        )
    engine = sources.text("engine")
    if engine is not None:
        _check_engine(engine, sources, shard)
    form = sources.text("log_format") or "auto"
    if form not in FORMATS:
        raise SettingsError(f"unknown log format {form!r}", where="log_format", hint=f"use one of {', '.join(FORMATS)}")
    return RunConfig(
        mode=mode,
        run_id=run_id,
        input=main,
        model=Path(model),
        output=output,
        inputs=inputs,
        validation=sources.text("validation"),
        given=_hyperparameters(spec, sources),
        seed=sources.whole("seed", 0, 0, 2**32 - 1),
        overwrite=sources.switch("overwrite"),
        batch_rows=sources.whole("batch_rows", DEFAULT_BATCH_ROWS, 1, 2**31 - 1),
        shard=shard,
        slices=sources.texts("slice"),
        bootstrap=sources.whole("bootstrap", 200, 0, 100_000),
        confidence=sources.fraction("confidence", 0.95),
        report=sources.path("report"),
        engine=engine,
        engine_wait=engine_wait(sources),
        workers=workers(sources),
        unordered=sources.switch("unordered"),
        group=sources.choice("group", GROUPINGS),
        **_bad_rows(sources, output or model),
        outputs=sources.path("outputs"),
        checkpoint_dir=sources.path("checkpoint_dir"),
        resume=sources.switch("resume"),
        warm_start=sources.path("warm_start"),
        trials=sources.whole("trials", 0, 1, 100_000) or None,
        objective=sources.text("objective"),
        trial_workers=sources.whole("trial_workers", 1, 1, 1024),
        trial_storage=sources.text("trial_storage"),
        result=sources.path("result"),
        log_format=form,
        query=_query(spec, sources),
    )


def workers(sources: Sources) -> int:
    """How many processes work here; 0: as many as there are cores."""
    return 0 if sources.find("workers") == "auto" else sources.whole("workers", 1, 0, 1024)


def engine_wait(sources: Sources) -> int:
    """Seconds to wait for a cluster."""
    return sources.whole("engine_wait", 300, 0, 86_400)


def _check_engine(engine: str, sources: Sources, shard: Shard | None) -> None:
    """A cluster divides the work itself."""
    cluster_address(engine)
    others = {
        "shard": shard is not None,
        "workers": workers(sources) != 1,
        "trial_workers": sources.whole("trial_workers", 1, 1, 1024) != 1,
    }
    for name, given in others.items():
        if given:
            raise SettingsError(
                f"{name} and engine cannot be given together: the cluster's workers share the work",
                where=name,
                hint="leave one of them out; `worker --workers N` has N processes on one machine of the cluster",
            )


def _run_id_of_shards(environment: Mapping[str, str]) -> str:
    """The run id that all shards have without being told: the name of their Kubernetes Job."""
    name = job_name(environment)
    if name is None:
        raise SettingsError(
            "the shards of one batch need one run id, and none was given",
            where="run_id",
            hint="give all of them the same --run-id (in a Kubernetes Indexed Job it is the Job's name)",
        )
    return name


def early_result(arguments: Mapping[str, Any], environment: Mapping[str, str]) -> Path | None:
    """Where a result goes whose run fails before its settings are known."""
    value = arguments.get("result") or environment.get(BY_NAME["result"].env)
    return Path(value) if value else None


class Sources:
    """Looks a setting up in arguments, environment and config file; the first that has it wins."""

    def __init__(
        self, mode: str, arguments: Mapping[str, Any], environment: Mapping[str, str], config: Mapping[str, Any]
    ) -> None:
        self.mode = mode
        self.arguments = arguments
        self.environment = environment
        self.config = config

    def find(self, name: str) -> Any:
        setting = BY_NAME[name]
        if self.mode not in setting.modes:
            return None
        value = self.arguments.get(name)
        if value is None or value is False:
            # An empty variable is an unset one: `-e MEALKIT_X=$X` with no X is common.
            value = self.environment.get(setting.env) or None
        return self.config.get(name) if value is None else value

    def text(self, name: str) -> str | None:
        value = self.find(name)
        if value is None:
            return None
        if not isinstance(value, str) or not value:
            raise SettingsError(f"{name} must be a text, not {value!r}", where=name, hint=f"{BY_NAME[name].help}")
        return value

    def path(self, name: str) -> Path | None:
        value = self.text(name)
        return None if value is None else Path(value)

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        value = self.find(name)
        if value is None:
            return default
        try:
            number = int(value) if isinstance(value, str) else value
        except ValueError:
            number = None
        if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
            raise SettingsError(
                f"{name} cannot be {value!r}", where=name, hint=f"use a whole number from {low:,} to {high:,}"
            )
        return number

    def fraction(self, name: str, default: float) -> float:
        """A number between 0 and 1, neither of the two."""
        value = self.find(name)
        if value is None:
            return default
        try:
            number = float(value) if isinstance(value, str) else value
        except ValueError:
            number = None
        if not isinstance(number, int | float) or isinstance(number, bool) or not 0 < number < 1:
            raise SettingsError(f"{name} cannot be {value!r}", where=name, hint="use a number between 0 and 1")
        return float(number)

    def texts(self, name: str) -> tuple[str, ...]:
        """Several texts: an argument several times, a list in the config file, commas in the environment."""
        value = self.find(name)
        if value is None:
            return ()
        given = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
        if not isinstance(given, list) or not all(isinstance(one, str) and one for one in given):
            raise SettingsError(f"{name} must be texts, not {value!r}", where=name, hint=f"{BY_NAME[name].help}")
        return tuple(dict.fromkeys(given))

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        """One of ``choices``, of which the first is the default."""
        value = self.find(name) or choices[0]
        if value not in choices:
            raise SettingsError(f"{name} cannot be {value!r}", where=name, hint=f"use one of {', '.join(choices)}")
        return str(value)

    def switch(self, name: str) -> bool:
        value = self.find(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        if str(value).lower() in ("1", "true", "yes", "on"):
            return True
        if str(value).lower() in ("0", "false", "no", "off"):
            return False
        raise SettingsError(f"{name} cannot be {value!r}", where=name, hint="use true or false")


def _bad_rows(sources: Sources, beside: str) -> dict[str, Any]:
    """The settings of bad rows; ``beside`` is what the run writes, or to evaluate reads."""
    policy = sources.text("on_bad_rows") or "fail"
    if policy not in POLICIES:
        hint = _nearest(policy, POLICIES, "use one of")
        raise SettingsError(f"bad rows cannot be treated as {policy!r}", where="on_bad_rows", hint=hint)
    folder = sources.text("quarantine")
    if folder is not None and policy != "quarantine":
        raise SettingsError(
            f"a quarantine is named, but bad rows {'are skipped' if policy == 'skip' else 'fail the run'}",
            where="quarantine",
            hint="add --on-bad-rows quarantine, or leave --quarantine out",
        )
    if folder is None and policy == "quarantine":
        if sources.mode == EVALUATE or re.match(r"[A-Za-z][\w.+-]+:", beside):
            raise SettingsError(
                "no folder is named for the quarantine", where="quarantine", hint="add --quarantine DIR, a local folder"
            )
        folder = f"{beside.rstrip('/')}.quarantine"
    quarantine = None if folder is None else locate(folder, "quarantine").local
    if folder is not None and quarantine is None:
        raise SettingsError("a quarantine must be a local folder", where="quarantine", hint="use a path or file://")
    return {"on_bad_rows": policy, "quarantine": quarantine, "max_bad_rows": _most(sources.find("max_bad_rows"))}


def _most(value: Any) -> int | float | None:
    """A number of rows (int), or a fraction of them (float)."""
    if value is None:
        return None
    try:
        number: int | float | None = (float(value) if "." in value else int(value)) if isinstance(value, str) else value
    except ValueError:
        number = None
    whole = isinstance(number, int) and not isinstance(number, bool) and number >= 0
    if not whole and not (isinstance(number, float) and 0 <= number <= 1):
        raise SettingsError(
            f"max_bad_rows cannot be {value!r}",
            where="max_bad_rows",
            hint="use a whole number of rows, or a fraction of them, such as 0.01",
        )
    return number


def _config(name: str) -> dict[str, Any]:
    config = _json_object(Path(name), "the config file")
    known = [*BY_NAME, "inputs"]
    for key in config:
        if key not in known:
            raise SettingsError(
                f"unknown setting {key!r}", where=f"{name}: {key}", hint=_nearest(key, known, "the settings are")
            )
    inputs = config.get("inputs", {})
    if not isinstance(inputs, dict):
        raise SettingsError("inputs must be an object", where=f"{name}: inputs", hint='write {"NAME": "URI"}')
    return config


def _inputs(spec: RecipeSpec, sources: Sources) -> dict[str, str]:
    """URIs by name; the main dataset's name is empty."""
    found: dict[str, str] = {}

    def add(name: str, uri: object, where: str, hint: str = "") -> None:
        if name and name not in spec.inputs:
            none = "this recipe has no further datasets"
            raise SettingsError(
                f"the recipe has no further dataset {name!r}",
                where=where,
                hint=(_nearest(name, spec.inputs, "it has") if spec.inputs else none) + hint,
            )
        if not isinstance(uri, str) or not uri:
            raise SettingsError("an input must be a path or URI", where=where, hint=BY_NAME["input"].help)
        found[name] = uri

    config = sources.config
    if "input" in config:
        add("", config["input"], "input")
    for name, uri in config.get("inputs", {}).items():
        add(name, uri, f"inputs.{name}")
    prefix = "MEALKIT_INPUT"
    for variable, uri in sources.environment.items():
        if variable == prefix and uri:
            add("", uri, variable)
        elif variable.startswith(prefix + "_") and uri:
            add(_match_case(variable[len(prefix) + 1 :], spec.inputs), uri, variable)
    for text in sources.arguments.get("input") or ():
        named = _NAMED_INPUT.match(text)
        name, uri = named.groups() if named else ("", text)
        add(name, uri, f"--input {redact(text)}", f"; write ./{text} if this is a path" if named else "")
    return found


def _query(spec: RecipeSpec, sources: Sources) -> Query:
    """The part of the main dataset that is read."""
    sample = sources.find("sample")
    if sample is not None and (isinstance(sample, bool) or not isinstance(sample, str | int | float)):
        raise SettingsError(f"sample cannot be {sample!r}", where="sample", hint=BY_NAME["sample"].help)
    return make_query(
        columns=sources.text("columns"),
        where=sources.text("where"),
        time=spec.time,
        since=sources.text("since"),
        until=sources.text("until"),
        flatten=sources.switch("flatten"),
        sample=sample,
        sample_seed=sources.whole("sample_seed", 0, 0, 2**32 - 1),
        limit=sources.whole("limit", 0, 1, 2**62) or None,
    )


def _hyperparameters(spec: RecipeSpec, sources: Sources) -> dict[str, object]:
    """The values that were given, by field name; the strongest source last, so it wins.

    They are also looked up to evaluate and to score, where only secrets are taken from them: a secret is not written
    into a model directory.
    """
    fields = list(spec.hyperparameters.get("properties", {}))
    given: dict[str, object] = {}
    inline = sources.config.get("hyperparameters", {})
    if isinstance(inline, str):
        inline = _json_object(Path(inline), "the hyperparameter file")
    if not isinstance(inline, dict):
        raise SettingsError("hyperparameters must be an object", where="hyperparameters", hint='write {"NAME": VALUE}')
    given.update(inline)
    given.update(sources.config.get("set", {}) if isinstance(sources.config.get("set"), dict) else {})
    if file := sources.environment.get("MEALKIT_HYPERPARAMETERS"):
        given.update(_json_object(Path(file), "the hyperparameter file"))
    prefix = "MEALKIT_SET_"
    for variable, value in sources.environment.items():
        if variable.startswith(prefix):
            given[_match_case(variable[len(prefix) :], fields)] = value
    if sources.mode == TRAIN:
        if file := sources.arguments.get("hyperparameters"):
            given.update(_json_object(Path(file), "the hyperparameter file"))
        for text in sources.arguments.get("set") or ():
            name, equals, value = text.partition("=")
            if not equals or not name:
                # The text itself is not told: it may be the value of a secret.
                raise SettingsError(
                    "not NAME=VALUE: one has no name or no '='", where="--set", hint="such as --set learning_rate=0.2"
                )
            given[name] = value
    return given


def _match_case(name: str, names: Any) -> str:
    """The one of ``names`` that a variable in capitals means: exactly equal, or equal but for case."""
    if name in names:
        return name
    alike = [known for known in names if known.lower() == name.lower()]
    return str(alike[0]) if len(alike) == 1 else name.lower()


def _json_object(file: Path, what: str) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{what} does not exist", where=str(file), hint="mend the path") from None
    except OSError as error:
        raise SettingsError(
            f"cannot read {what}: {error.strerror}", where=str(file), hint="mend the path, or who may read it"
        ) from None
    except ValueError as error:
        raise SettingsError(f"{what} is not JSON: {error}", where=str(file), hint="mend it") from None
    if not isinstance(value, dict):
        raise SettingsError(f"{what} must hold a JSON object", where=str(file), hint='write {"NAME": VALUE}')
    return value


def _missing(name: str, what: str) -> SettingsError:
    setting = BY_NAME[name]
    return SettingsError(
        f"{what} is missing",
        where=name,
        hint=f"give {setting.flag} {setting.metavar}, set {setting.env}, or write {name!r} into the config file",
    )


def _nearest(name: str, names: Any, otherwise: str) -> str:
    near = difflib.get_close_matches(name, list(names), n=1)
    return f"did you mean {near[0]!r}?" if near else f"{otherwise}: {', '.join(names)}"


__all__ = ["SETTINGS", "RunConfig", "early_result", "new_run_id", "resolve"]
