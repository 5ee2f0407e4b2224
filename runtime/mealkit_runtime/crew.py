"""The worker processes of a run: starts them, hands them batches, and gives their output rows back in order."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from mealkit.errors import RetryableError

from .author_trace import Elsewhere
from .channel import Channel, pair, share, shared
from .dataset import Source
from .model import StoredModel
from .pipeline import Ahead, Empty, End
from .run import Run
from .worker import Batch, Failed, Fork, Order, Ready, Scored, Serve, Told, Wait

_AT_ONCE = 2
"""Batches that a worker holds: the one that it scores, and the next."""

_START = "import sys, json; sys.path[:] = json.loads(sys.argv[3]); from mealkit_runtime.worker import main; main({})"


def crew_size(workers: int) -> int:
    """How many workers are meant; 0: as many as there are cores, of which a container may have been given a part."""
    if workers:
        return workers
    import joblib

    return int(joblib.cpu_count())


class WorkerFault(Exception):
    """A fault of ours in a worker; the text is its traceback."""


@dataclass
class _Worker:
    """A worker process.

    Attributes:
        pid: Its process id.
        process: None: it was forked by the first process, which is its parent.
    """

    channel: Channel
    pid: int
    process: subprocess.Popen[bytes] | None = None


@dataclass(frozen=True)
class _Answer:
    """What became of a batch: its output rows, or an error."""

    number: int
    read: int = 0
    rows: Any = None
    seconds: float = 0.0
    error: BaseException | None = None


@dataclass
class _Given:
    """A batch that a worker has; the descriptor keeps its rows until they are scored."""

    number: int
    descriptor: int
    tries: int = 1


class Crew:
    """The worker processes of one run, and at first the one that loads recipe and model for them.

    It is started early, so that it loads while the run does other things.

    Args:
        run: The run; it tells what the workers tell.
        stored: The model, verified.
        further: The further datasets.
        size: How many workers.
    """

    def __init__(self, run: Run, stored: StoredModel, further: Mapping[str, Source], size: int) -> None:
        self.size = size
        self._run = run
        self._order = Order(
            spec=run.spec.to_json(),
            config=run.config,
            stored=stored,
            further=dict(further),
            found={"seed": run.found.get("seed"), "started": run.found.get("started")},
            environment=dict(run.environment),
        )
        self._workers: list[_Worker] = []
        self._lock = threading.Lock()
        self._closed = False
        self._window: SimpleQueue[None] = SimpleQueue()
        self._results: SimpleQueue[Any] = SimpleQueue()
        self._forkable = False
        self._first = self._start()
        self._is_first_free = True

    def load(self) -> None:
        """Wait until recipe and model are loaded.

        Raises:
            MealkitError: what the recipe's code, or the model, did there.
            RetryableError: the process was killed.
        """
        self._forkable = self._ready(self._first).forkable

    def score(self, tables: Iterable[Any], *, ordered: bool = True) -> Generator[tuple[int, Any], None, None]:
        """Rows read and output rows of each table, as they are read from a thread of their own.

        Args:
            tables: Arrow tables that conform to the input's schema.
            ordered: In the order of ``tables``; else as they come.

        Raises:
            MealkitError: what the recipe's code did, or the reading of ``tables``; that of the first table counts.
            RetryableError: a worker process was killed, and the one that tried its batch again too.
        """
        ahead = Ahead(_Numbered(tables), self.size)
        try:
            for _ in range(self.size * (_AT_ONCE + 2)):
                self._window.put(None)
            for _ in range(self.size):
                worker = self._hire()
                threading.Thread(target=self._attend, args=(worker, ahead), name="mealkit-crew", daemon=True).start()
            yield from self._gather(ordered)
        finally:
            self.close()
            ahead.close()

    def close(self) -> None:
        """End all processes, whatever they do."""
        with self._lock:
            self._closed = True
            for worker in self._workers:
                self._kill(worker)
            self._kill(self._first)
            self._workers.clear()
        for _ in range(self.size):
            self._window.put(None)  # whoever waits sees that all is over

    def _gather(self, ordered: bool) -> Iterator[tuple[int, Any]]:
        stash: dict[int, _Answer] = {}
        expected, attended = 0, self.size
        while attended:
            message = self._results.get()
            if message is None:
                attended -= 1
            elif isinstance(message, Told):
                self._tell(message)
            else:
                stash[message.number] = message
            message = None
            while stash and (not ordered or expected in stash):
                yield self._opened(stash.pop(expected if ordered else next(iter(stash))))
                expected += 1

    def _opened(self, answer: _Answer) -> tuple[int, Any]:
        if answer.error is not None:
            raise answer.error
        self._run.seconds["score"] = self._run.seconds.get("score", 0.0) + answer.seconds
        self._window.put(None)
        return answer.read, answer.rows

    def _tell(self, message: Told) -> None:
        if message.method == "warning":
            self._run.warn(*message.arguments)
        else:
            getattr(self._run.reporter, message.method)(*message.arguments)

    def _attend(self, worker: _Worker, ahead: Ahead[tuple[int, Any]]) -> None:
        """Keep one worker busy, and take another when it dies; runs in a thread."""
        given: deque[_Given] = deque()
        try:
            while True:
                try:
                    while len(given) < _AT_ONCE and self._give(worker, ahead, given):
                        pass
                    if not given:
                        break
                    answer, descriptor = worker.channel.receive()
                except (EOFError, OSError):
                    if self._closed:
                        return
                    worker = self._replace(worker, given)
                    continue
                if isinstance(answer, Told):
                    self._results.put(answer)
                    continue
                os.close(given.popleft().descriptor)
                self._results.put(_answer(answer, descriptor))
        except BaseException as error:
            self._results.put(_Answer(given[0].number if given else 0, error=error))
        finally:
            for batch in given:
                os.close(batch.descriptor)
            self._results.put(None)

    def _give(self, worker: _Worker, ahead: Ahead[tuple[int, Any]], given: deque[_Given]) -> bool:
        """Hand the worker a batch more, if there is one; wait for it only if the worker has none."""
        try:
            self._window.get(not given)
        except Empty:
            return False
        if self._closed:
            return False
        try:
            number, table = ahead.take(wait=not given)
        except (Empty, End):
            self._window.put(None)
            return False
        if isinstance(table, BaseException):  # reading failed, after all the batches before
            self._results.put(_Answer(number, error=table))
            return True
        given.append(_Given(number, share(table)))
        worker.channel.send(Batch(number), given[-1].descriptor)
        return True

    def _replace(self, dead: _Worker, given: deque[_Given]) -> _Worker:
        """A new worker in the place of one that died, with its batches.

        Raises:
            RetryableError: the batch that it scored has killed a worker before.
        """
        how = self._end_of(dead)
        if given:
            if given[0].tries > 1:
                raise RetryableError(
                    f"a worker process {how}, and so did the one that tried its batch again",
                    where=f"batch {given[0].number + 1:,}",
                    hint="if memory is short, take fewer --workers or smaller --batch-rows; then run the same command",
                )
            given[0].tries += 1
        self._results.put(Told("warning", (f"a worker process {how}; its batch is scored again", None)))
        worker = self._hire()
        for batch in given:
            worker.channel.send(Batch(batch.number), batch.descriptor)
        return worker

    def _end_of(self, worker: _Worker) -> str:
        """How a process ended, in words."""
        with self._lock:
            self._workers.remove(worker)
            worker.channel.close()
            if worker.process is not None:
                code = worker.process.wait()
            else:
                code = os.waitstatus_to_exitcode(self._ask(Wait(worker.pid)))
        if code < 0:
            name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
            return f"was killed ({name})"
        return f"ended by itself (exit status {code})"

    def _hire(self) -> _Worker:
        """A process that is ready to score."""
        with self._lock:
            if self._closed:
                raise EOFError
            if self._forkable:
                ours, theirs = pair()
                try:
                    worker = _Worker(ours, self._ask(Fork(), theirs.fileno()))
                finally:
                    theirs.close()
                self._workers.append(worker)
                return worker
            if self._is_first_free:
                self._is_first_free = False
                worker = self._first
            else:
                worker = self._start()
            self._workers.append(worker)
        if worker is not self._first:
            self._ready(worker)
        worker.channel.send(Serve())
        return worker

    def _ask(self, message: Fork | Wait, descriptor: int | None = None) -> int:
        """Have the first process do something for which it needs no time."""
        try:
            self._first.channel.send(message, descriptor)
            answer, _ = self._first.channel.receive()
        except (EOFError, OSError):
            raise _gone() from None
        return int(answer)

    def _start(self) -> _Worker:
        ours, theirs = pair()
        try:
            # As this interpreter runs: isolated in an image, and never with the current folder in its path.
            flags = ["-I" if sys.flags.isolated else "-P", *(f"-W{option}" for option in sys.warnoptions)]
            command = _START.format("int(sys.argv[1]), int(sys.argv[2])")
            handle = theirs.fileno()
            process = subprocess.Popen(
                [sys.executable, *flags, "-c", command, str(handle), str(os.getpid()), json.dumps(sys.path)],
                pass_fds=[handle],
                # Several processes with as many threads as there are cores: those that have nothing to do shall sleep.
                env={"OMP_WAIT_POLICY": "passive", **os.environ},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is for the run alone
            )
        finally:
            theirs.close()
        worker = _Worker(ours, process.pid, process)
        with contextlib.suppress(OSError):  # whoever waits for its answer will see that it is dead
            ours.send(self._order)
        return worker

    def _ready(self, worker: _Worker) -> Ready:
        while True:
            try:
                message, _ = worker.channel.receive()
            except EOFError:
                raise _gone() from None
            if isinstance(message, Told):
                self._tell(message)
            elif isinstance(message, Failed):
                raise error_of(message)
            else:
                assert isinstance(message, Ready)
                return message

    def _kill(self, worker: _Worker) -> None:
        with contextlib.suppress(ProcessLookupError):
            if worker.process is None:
                os.kill(worker.pid, signal.SIGKILL)  # its parent has not waited for it: the number is still its own
            else:
                worker.process.kill()
        if worker.process is not None:
            worker.process.wait()
        worker.channel.close()


class _Numbered:
    """Tables with their numbers; an error of reading has a number too, and is the last."""

    def __init__(self, tables: Iterable[Any]) -> None:
        self._tables = tables
        self.cancel = getattr(tables, "cancel", None)

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        number = 0
        try:
            for table in self._tables:
                yield number, table
                del table
                number += 1
        except Exception as error:
            yield number, error


def _answer(answer: Scored | Failed, descriptor: int | None) -> _Answer:
    if isinstance(answer, Failed):
        return _Answer(answer.number, error=error_of(answer))
    assert descriptor is not None
    return _Answer(answer.number, answer.read, shared(descriptor), answer.seconds)


def error_of(failed: Failed) -> BaseException:
    """The error that a worker met, as if it had been met here."""
    if failed.error is None:
        return WorkerFault(f"in a worker process:\n{failed.story}")
    if failed.story:
        failed.error.__cause__ = Elsewhere(failed.story)
    return failed.error


def _gone() -> RetryableError:
    return RetryableError(
        "the process that loads the model for the workers was killed",
        hint="if memory is short, take fewer --workers or smaller --batch-rows; then run the same command",
    )
