"""Processes that work on one study's trials at once; each starts anew, reads the data itself, and tells this one."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mealkit.errors import MealkitError, RetryableError, Stopped
from mealkit.redact import Redactor
from mealkit.spec import RecipeSpec

from .config import RunConfig
from .outlet import Screened
from .place import die_with
from .stop import Interrupted, Stopper

if TYPE_CHECKING:
    from .run import Run
    from .study import Plan
    from .trials import Trials

_TOLD = ("stage", "log", "warning")
_PATIENCE = 4.3
"""Seconds that workers have to end after SIGTERM: a little more than the recipe's code has in each."""


def work_together(trials: Trials, storage: str) -> None:
    """Let ``--trial-workers`` processes take trials until there are none.

    A worker that is killed fails the trial that it was at, and is replaced.

    Raises:
        MealkitError: what a worker met that is not its trial's fault.
    """
    run = trials.run
    context = multiprocessing.get_context("spawn")
    living: dict[Connection, Any] = {}

    def start() -> None:
        ours, theirs = context.Pipe(duplex=False)
        config = replace(run.config, trial_workers=1, trial_storage=storage)
        plan = replace(trials.study.plan, name=trials.study.name)
        given = (run.spec.to_json(), config, dict(run.environment), plan, trials.folder, theirs)
        process = context.Process(target=_work, args=given, name="mealkit-trials")
        with run.stopper.shielded():
            process.start()
            living[ours] = process
        theirs.close()

    try:
        for _ in range(min(run.config.trial_workers, trials.study.plan.count)):
            start()
        while living:
            run.stopper.check()
            ready = wait(list(living), timeout=0.5)
            for connection in [one for one in living if one in ready]:
                if _hear(connection, trials):
                    continue
                process = living.pop(connection)
                process.join()
                if process.exitcode == 0:
                    continue
                if not trials.study.lost(process.pid, _killed(process.exitcode)):
                    raise _killed(process.exitcode)
                trials.record()
                start()
    finally:
        with run.stopper.shielded():
            _end(list(living.values()))


def _hear(connection: Connection, trials: Trials) -> bool:
    """Take a worker's message; False when it has ended."""
    try:
        kind, told, named = connection.recv()
    except (EOFError, OSError):
        return False
    if kind == "trial":
        trials.record()
    elif kind == "error":
        raise told[0]
    elif kind in _TOLD:
        getattr(trials.run.reporter, kind)(*told, **named)
    return True


def _killed(code: int | None) -> MealkitError:
    how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with status {code}"
    return RetryableError(
        f"a worker of the trials {how}",
        where="trial_workers",
        hint="did it use more memory than there is? use fewer --trial-workers",
    )


def _end(processes: list[Any]) -> None:
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + _PATIENCE
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.exitcode is None:
            process.kill()
            process.join()


class _Relay:
    """Stands for the reporter in a worker: what is told goes to the first process."""

    def __init__(self, connection: Connection, environment: Mapping[str, str]) -> None:
        self.connection = connection
        self.redactor = Redactor.of_environment(environment)
        self.redact = self.redactor.text
        self.form = "json"
        self.stderr = sys.stderr

    def __getattr__(self, name: str) -> Callable[..., None]:
        def tell(*told: Any, **named: Any) -> None:
            if name in _TOLD:
                with contextlib.suppress(OSError):
                    self.connection.send((name, told, named))

        return tell


def _work(
    spec: str,
    config: RunConfig,
    environment: Mapping[str, str],
    plan: Plan,
    folder: Path,
    connection: Connection,
) -> None:
    """A worker, from its start to its end."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    die_with(int(parent.pid or 0))
    os.dup2(2, 1)  # what the recipe prints must not mix with the first process's events
    stopper = Stopper()
    code = 0
    with stopper.install():
        try:
            _take_trials(RecipeSpec.from_json(spec), config, environment, plan, folder, connection, stopper)
        except MealkitError as error:
            with contextlib.suppress(OSError):
                connection.send(("error", (error,), {}))
        except Interrupted:
            code = Stopped.exit_code
    connection.close()
    sys.exit(code)


def _take_trials(
    spec: RecipeSpec,
    config: RunConfig,
    environment: Mapping[str, str],
    plan: Plan,
    folder: Path,
    connection: Connection,
    stopper: Stopper,
) -> None:
    import logging

    from .events import RecipeLog
    from .material import gather
    from .run import Run
    from .study import Study
    from .trials import Trials

    relay: Any = _Relay(connection, environment)
    relay.redactor.hide_uris(vars(config))
    sys.stdout = sys.stderr = Screened(sys.stderr, relay.redact)
    run: Run = Run(spec, config, relay, stopper, environment, found={"seed": config.seed}, helps=True)
    logging.getLogger("mealkit.recipe").setLevel(logging.INFO)
    logging.getLogger().addHandler(RecipeLog(relay))
    run.decode()
    material = gather(run)
    study = Study(plan, config.trial_storage, stopper.shielded)

    class Told(Trials):
        def record(self) -> None:
            connection.send(("trial", (), {}))

    Told(run, material, study, folder).work()
