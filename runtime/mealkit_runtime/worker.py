"""A worker process: it loads the recipe and the model, then scores the batches that the run sends.

The first process that a run starts loads everything, and then *forks* the workers: they share the loaded libraries and
the model, and start in milliseconds. A process may be forked when it is nothing but memory, so this is done only if
neither the recipe's libraries nor its model brought threads or sockets along (a CUDA context has threads, a database
connection is a socket). Otherwise each worker is a process that loads everything itself.

Workers take no signals: the run is asked to stop, and ends them. When the run is gone the kernel kills them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import socket
import stat
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mealkit.errors import MealkitError, RecipeError
from mealkit.spec import RecipeSpec

from .author_trace import author_trace
from .channel import Channel, share, shared
from .config import RunConfig
from .dataset import Source
from .events import RecipeLog
from .model import StoredModel
from .outlet import Screened
from .place import die_with
from .relay import Relay, Send
from .stop import Stopper

if TYPE_CHECKING:
    from .scoring import Scoring

_FORKING_THREAD = "jemalloc_bg_thd"
"""A thread of Arrow's memory allocator, which takes care of forks by itself."""


@dataclass(frozen=True)
class Order:
    """What a worker must know of the run, sent first."""

    spec: str
    config: RunConfig
    stored: StoredModel
    further: Mapping[str, Source]
    found: Mapping[str, Any]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Ready:
    """Recipe and model are loaded; whether the process may be forked."""

    forkable: bool


@dataclass(frozen=True)
class Fork:
    """Make a worker of yourself, which listens on the descriptor that comes along; answered by its process id."""


@dataclass(frozen=True)
class Wait:
    """Wait for the end of a forked process, which is near; answered by its status, as :func:`os.waitpid` tells it."""

    pid: int


@dataclass(frozen=True)
class Serve:
    """Be a worker yourself."""


@dataclass(frozen=True)
class Batch:
    """Score the table that comes along."""

    number: int


@dataclass(frozen=True)
class Scored:
    """The output rows of a batch come along."""

    number: int
    read: int
    seconds: float


@dataclass(frozen=True)
class Failed:
    """A batch, or the loading (number -1), failed."""

    number: int
    error: MealkitError | None
    story: str


@dataclass(frozen=True)
class Told:
    """The recipe told something: a call of one of the reporter's methods."""

    method: str
    arguments: tuple[Any, ...]


def main(descriptor: int, parent: int) -> None:
    """Load what the first message orders, then do what the others say.

    Args:
        descriptor: A connected socket.
        parent: The process that started this one.
    """
    os.set_inheritable(descriptor, False)
    die_with(parent)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.dup2(2, 1)  # standard output is the run's alone
    channel = Channel(socket.socket(fileno=descriptor))
    relay = Relay(_sender(channel))
    sys.stdout = sys.stderr = Screened(sys.stderr, relay.redact)
    try:
        order, _ = channel.receive()
        scoring, forkable = _load(order, relay)
        channel.send(Ready(forkable))
    except EOFError:
        return
    except BaseException as error:
        channel.send(failed(-1, error))
        return
    with contextlib.suppress(EOFError, OSError):
        _obey(channel, relay, scoring)


def _sender(channel: Channel) -> Send:
    def send(method: str, arguments: tuple[Any, ...]) -> None:
        with contextlib.suppress(OSError):
            channel.send(Told(method, arguments))

    return send


def _load(order: Order, relay: Relay) -> tuple[Scoring, bool]:
    """Recipe and model, and whether this process may be forked now."""
    from .run import Run
    from .scoring import Scoring, input_schema, output_schema

    relay.redactor.hide_environment(order.environment)
    relay.redactor.hide_uris(vars(order.config))
    before = _sockets()
    handler = RecipeLog(relay)
    logging.getLogger().addHandler(handler)
    logging.getLogger("mealkit.recipe").setLevel(logging.INFO)
    spec = RecipeSpec.from_json(order.spec)
    run = Run(spec, order.config, relay, Stopper(), order.environment, found=dict(order.found))
    hyperparameters = run.decode(order.stored.facts.get("hyperparameters") or {})
    recipe = run.load_recipe()
    model = run.load_model(recipe, order.stored)
    # Reading the further datasets starts threads, but Arrow's, which it makes anew after a fork.
    forkable = _threads() == 1 and _sockets() == before
    context = run.context(hyperparameters, run.read_inputs(recipe, order.further))
    schema = input_schema(spec, recipe, order.stored.facts.get("columns"))
    return Scoring(recipe, model, context, schema, output_schema(recipe)), forkable


def _obey(channel: Channel, relay: Relay, scoring: Scoring) -> None:
    while True:
        message, descriptor = channel.receive()
        if isinstance(message, Wait):
            channel.send(_status(message.pid))
        elif isinstance(message, Serve):
            _serve(channel, scoring)
        elif isinstance(message, Fork):
            assert descriptor is not None
            me, pid = os.getpid(), _fork()
            if pid == 0:
                die_with(me)
                channel.close()
                channel = Channel(socket.socket(fileno=descriptor))
                relay.send = _sender(channel)
                _serve_and_leave(channel, scoring)
            os.close(descriptor)
            channel.send(pid)


def _status(pid: int) -> int:
    """How a forked process ended; it has hung up, and if it has not ended soon, it is ended."""
    for _ in range(20):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def _fork() -> int:
    import warnings

    with warnings.catch_warnings():
        # Of Arrow's threads; others there are none.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _serve_and_leave(channel: Channel, scoring: Scoring) -> None:
    status = 1
    try:
        _serve(channel, scoring)
        status = 0
    except (EOFError, OSError):
        status = 0
    finally:
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(status)


def _serve(channel: Channel, scoring: Scoring) -> None:
    """Score batch after batch, until the run closes the channel."""
    while True:
        message, descriptor = channel.receive()
        assert isinstance(message, Batch)
        assert descriptor is not None
        before = time.perf_counter()
        try:
            table = shared(descriptor)
            read = len(table)
            answer = share(scoring.rows(message.number, table))
        except BaseException as error:
            channel.send(failed(message.number, error))
            continue
        try:
            channel.send(Scored(message.number, read, time.perf_counter() - before), answer)
        finally:
            os.close(answer)


def failed(number: int, error: BaseException) -> Failed:
    """What the run must know of an error; exceptions of the recipe's libraries stay here, as text."""
    if isinstance(error, SystemExit):
        error = RecipeError("the recipe's code asked to end the process", hint="raise an exception instead")
    if not isinstance(error, MealkitError):
        return Failed(number, None, "".join(traceback.format_exception(error)))
    story = author_trace(error)
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 (only to see whether it can be)
    except Exception:
        plain = RecipeError(error.message, where=error.where, hint=error.hint)
        return Failed(number, plain, story)
    return Failed(number, error, story)


def _threads() -> int:
    """How many threads this process has; 0 where nobody tells."""
    try:
        names = [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]
    except OSError:
        return 0
    return sum(name != _FORKING_THREAD for name in names)


def _sockets() -> set[str]:
    """The descriptors of this process that are sockets."""
    found = set()
    with contextlib.suppress(OSError):
        for file in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                if stat.S_ISSOCK(os.fstat(int(file.name)).st_mode):
                    found.add(file.name)
    return found
