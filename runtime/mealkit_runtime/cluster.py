"""The edge to a Dask cluster: a connection to its scheduler, work for its workers, and its faults as errors of ours."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from mealkit.errors import MealkitError, RetryableError

from .cluster_task import Lent, Order
from .crew import error_of
from .engine import answers, cluster_address, need_distributed, no_scheduler
from .model import StoredModel
from .run import Run
from .worker import Failed

K = TypeVar("K")

LARGEST = 256 << 20
"""Bytes of a model that are sent to the workers; a larger one must be where all of them can read it."""

_OURS = "mealkit:"
"""What the names of our tasks, topics and plugins on a scheduler begin with; the client's name ends them."""

_LOOK = 5.0
"""Seconds of silence after which the scheduler is asked whether it still has workers."""

_SLOW = 10.0
"""Seconds without a worker after which that is told."""


class Cluster:
    """A connection; made by :func:`connect`.

    Attributes:
        client: Dask's own.
        listener: Told of the messages of tasks that are nothing for the reporter.
    """

    def __init__(self, run: Run, client: Any) -> None:
        self.client = client
        self.listener: Callable[[str, list[Any]], None] = lambda method, arguments: None
        self._run = run
        self._name = f"{_OURS}{run.config.run_id}@{client.id}"
        self._messages: SimpleQueue[Any] = SimpleQueue()
        self._lent = False
        self._rows: dict[object, int] = {}
        client.subscribe_topic(self._name, lambda event: self._messages.put(event[1]))

    def lend(self, order: Order, model: StoredModel | None = None) -> None:
        """Give all workers, also those that come later, what they need for the tasks of this run."""
        files = None if model is None else _files(model)
        with faults(self._run, OSError):
            with contextlib.suppress(Exception):  # a scheduler of another image cannot: it keeps a little more
                self.client.run_on_scheduler(_forget)
            self.client.register_plugin(Lent(self._name, order, files), name=self._name)
        self._lent = True

    def slots(self) -> int:
        """How many tasks the workers can do at once now."""
        with faults(self._run, OSError):
            return sum(self.client.nthreads().values())

    def submit(self, function: Callable[..., Any], *arguments: Any, name: str) -> Any:
        """Have a worker call ``function(lent, *arguments)``; ``name`` tells the task from others of the run."""
        with faults(self._run, OSError):
            task = self.client.submit(function, self._name, *arguments, key=f"{self._name}:{name}", pure=False)
            task.add_done_callback(self._messages.put)
        return task

    def everywhere(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Have every worker process call ``function(lent, *arguments)`` at once, whatever it works on."""
        with faults(self._run, OSError):
            self.client.run(function, self._name, *arguments)

    def done(
        self, tasks: Mapping[Any, K], advance: Callable[[int], None] = lambda rows: None
    ) -> Generator[tuple[K, Any], None, None]:
        """What stands behind each task, with its result, as they are done; tasks may be added meanwhile.

        Args:
            tasks: Those that are waited for; taken away when they are done.
            advance: Told how many rows the tasks have scored so far.

        Raises:
            MealkitError: what a task failed with.
            RetryableError: the cluster was lost.
        """
        waiting: dict[Any, K] = tasks if isinstance(tasks, dict) else dict(tasks)
        silent = time.monotonic()
        while waiting:
            try:
                message = self._messages.get(timeout=1.0)
            except Empty:
                self._run.stopper.check()
                if time.monotonic() - silent > _LOOK:
                    silent = self._look()
                continue
            silent = time.monotonic()
            if isinstance(message, list | tuple):
                self._tell(list(message), advance)
                continue
            key = waiting.pop(message, None)
            if key is not None:
                yield key, self._result(message)

    def settle(self, task: object, rows: int, advance: Callable[[int], None]) -> None:
        """A task has scored so many rows; one that is done again tells fewer at first, which is no step back."""
        self._rows[task] = max(rows, self._rows.get(task, 0))
        advance(sum(self._rows.values()))

    def close(self) -> None:
        """Take back what was lent, and hang up."""
        with contextlib.suppress(Exception):
            if self._lent and self.client.status == "running":
                self.client.unregister_worker_plugin(self._name)
        with contextlib.suppress(Exception):
            self.client.close(timeout=2)

    def _result(self, task: Any) -> Any:
        with faults(self._run, OSError):
            answer = task.result()
        if isinstance(answer, Failed):
            raise error_of(answer)
        return answer

    def _tell(self, message: list[Any], advance: Callable[[int], None]) -> None:
        method, arguments = message
        if method == "rows":
            task, rows = arguments
            self.settle(task, rows, advance)
        elif method == "warning":
            if arguments[0] not in self._run.warnings:  # each worker may tell the same
                self._run.warn(*arguments)
        elif method in ("log", "metric"):
            getattr(self._run.reporter, method)(*arguments)
        else:
            self.listener(method, arguments)

    def _look(self) -> float:
        """Wait until the scheduler has workers, if it has lost all of them.

        Raises:
            RetryableError: none came.
        """
        if self.client.status != "running":
            raise _lost(self._run)
        if not self.slots():
            _need_workers(self._run, self.client)
        return time.monotonic()


@contextlib.contextmanager
def connect(run: Run, *, default: bool = False) -> Iterator[Cluster]:
    """A connection to the cluster of ``--engine``, which has at least one worker.

    Args:
        run: Its settings.
        default: Make it the one that libraries use which ask Dask for a connection.

    Raises:
        RetryableError: nobody answers there, or the scheduler has no workers.
        SettingsError: Dask is not installed.
    """
    need_distributed()
    with _quiet(), run.stage("connect") as notes:
        client = _client(run, default)
    cluster = Cluster(run, client)
    try:
        _need_workers(run, client)
        notes["slots"] = cluster.slots()
        with _quiet():
            yield cluster
    finally:
        with run.stopper.cleaning(), _quiet():
            cluster.close()


def _client(run: Run, default: bool) -> Any:
    from distributed import Client

    make: Any = Client
    engine, until = str(run.config.engine), time.monotonic() + run.config.engine_wait
    told = False
    while not asyncio.run(answers(engine, "client")):
        run.stopper.check()
        if time.monotonic() > until:
            raise no_scheduler(engine)
        if not told:
            told = True
            run.reporter.log("info", f"waiting for the scheduler at {engine}")
        time.sleep(0.5)
    with faults(run, OSError):
        client = make(cluster_address(engine), set_as_default=default)
    # joblib's data go to all workers, so that none of them takes some along when it dies.
    client.scatter = functools.partial(client.scatter, broadcast=True)
    return client


def _need_workers(run: Run, client: Any) -> None:
    begun, told = time.monotonic(), False
    while True:
        with faults(run, OSError):
            if client.nthreads():
                return
        run.stopper.check()
        waited = time.monotonic() - begun
        if waited > run.config.engine_wait:
            raise RetryableError(
                f"the scheduler has had no worker for {waited:.0f} s",
                where=run.config.engine,
                hint=f"start some with `worker --engine {run.config.engine}` of the same image",
            )
        if waited > _SLOW and not told:
            told = True
            run.reporter.log("info", "waiting for a worker")
        time.sleep(0.2)


def _files(model: StoredModel) -> dict[str, bytes] | None:
    """A model directory's files by their names; None: they are too large to be sent."""
    if sum(int(facts["size"]) for facts in model.facts["files"].values()) > LARGEST:
        return None
    names = ["model.json", *model.facts["files"]]
    return {name: (model.directory / name).read_bytes() for name in names}


def _forget(dask_scheduler: Any) -> None:
    """On the scheduler: what runs lent that were killed is not kept for new workers."""
    for name in list(dask_scheduler.worker_plugins):
        if name.startswith(_OURS) and name.rpartition("@")[2] not in dask_scheduler.clients:
            del dask_scheduler.worker_plugins[name]


def _lost(run: Run) -> RetryableError:
    return RetryableError(
        "the connection to the cluster was lost",
        where=run.config.engine,
        hint="run the same command with the same --run-id: what is done is not done again",
    )


@contextlib.contextmanager
def faults(run: Run, *others: type[Exception]) -> Iterator[None]:
    """Dask's errors about its workers and itself, and ``others``, are passing faults of the cluster."""
    from asyncio import CancelledError
    from concurrent.futures import CancelledError as Cancelled

    from distributed import KilledWorker
    from distributed.comm.core import CommClosedError

    lost: tuple[type[BaseException], ...] = (CancelledError, Cancelled, CommClosedError, *others)
    try:
        yield
    except MealkitError:
        raise
    except KilledWorker as error:
        raise RetryableError(
            f"the workers that tried {str(error.task).rpartition(':')[2]} died, one after the other",
            where=run.config.engine,
            hint="if memory is short, give workers more of it or smaller --batch-rows; then run the same command",
        ) from None
    except lost:
        raise _lost(run) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Dask's loggers tell what a run tells itself, and that in other words."""
    loggers = [logging.getLogger(name) for name in ("distributed", "tornado")]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
