"""The modes ``scheduler`` and ``worker``: what an image does for the runs of others in a Dask cluster.

Both run until they are asked to stop (SIGTERM or SIGINT: status 143, within five seconds); a worker also ends, with
status 0, when its scheduler has gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mealkit.errors import SettingsError, Stopped
from mealkit.redact import Redactor
from mealkit.spec import RecipeSpec

from .config import Sources, engine_wait, workers
from .crew import crew_size
from .engine import SPEC_DIGEST, answers, cluster_address, need_distributed, no_scheduler
from .place import settled
from .setting import SCHEDULER, WORKER

_FAREWELL = 3.0
"""Seconds that worker processes have to end."""


def run_node(mode: str, arguments: Mapping[str, Any], environment: Mapping[str, str], spec: RecipeSpec | None) -> int:
    """Be a scheduler or a worker until the end, and give the process exit status.

    Args:
        mode: ``scheduler`` or ``worker``.
        arguments: By setting name.
        environment: The process environment.
        spec: The recipe that a worker has.

    Raises:
        RetryableError: no scheduler answered in time.
        SettingsError: a setting is wrong, or Dask is not installed.
    """
    sources = Sources(mode, arguments, environment, {})
    # Before Dask is imported, here and in the worker processes: a node tells by itself what matters.
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "critical")
    # Until the loop runs, and while Dask is imported: PID 1 ignores SIGTERM unless there is a handler.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: os._exit(Stopped.exit_code))
    need_distributed()
    redactor = Redactor.of_environment(environment)

    def say(text: str) -> None:
        sys.stderr.write(f"{mode}: {redactor.text(text)}\n")
        sys.stderr.flush()

    with settled(os.environ), _configured():
        if mode == SCHEDULER:
            return asyncio.run(_scheduler(sources, say))
        return asyncio.run(_worker(sources, "" if spec is None else spec.digest, say))


async def _scheduler(sources: Sources, say: Callable[[str], None]) -> int:
    from distributed import Scheduler

    port, http = sources.whole("port", 8786, 1, 65_535), sources.whole("http_port", 8787, 0, 65_535)
    host = sources.text("host") or ""
    stopped = _stop_event()
    try:
        scheduler = await Scheduler(
            host=host or None, port=port, dashboard=False, dashboard_address=f"{host}:{http}" if http else None
        )
    except OSError as error:
        raise SettingsError(
            f"the port cannot be used: {error.strerror or error}",
            where=f"port {port}",
            hint="is a scheduler running here? name another --port (and --http-port)",
        ) from None
    say(f"listens at {scheduler.address}; workers join with `worker --engine dask://HOST:{port}`")
    await stopped.wait()
    say("is asked to stop")
    with contextlib.suppress(Exception):
        await asyncio.wait_for(scheduler.close(), _FAREWELL)
    return Stopped.exit_code


async def _worker(sources: Sources, digest: str, say: Callable[[str], None]) -> int:
    engine = sources.text("engine")
    if engine is None:
        raise SettingsError(
            "no scheduler is named", where="engine", hint="add --engine dask://HOST:PORT (or set MEALKIT_ENGINE)"
        )
    address, count = cluster_address(engine), crew_size(workers(sources))
    stopped = _stop_event()
    waiting = asyncio.create_task(stopped.wait())
    nodes: list[Any] = []
    try:
        for number in range(count):
            nodes.append(node := _node(address, digest, count))
            begin = asyncio.create_task(_begin(node, engine, engine_wait(sources), say if not number else None))
            await asyncio.wait({begin, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if stopped.is_set():
                begin.cancel()
                return Stopped.exit_code
            await begin
        say(f"{count} worker{'s' * (count > 1)} joined {engine}")
        ends: asyncio.Future[Any] = asyncio.gather(*(node.finished() for node in nodes))
        await asyncio.wait([waiting, ends], return_when=asyncio.FIRST_COMPLETED)
        if not stopped.is_set():
            say("the scheduler has gone")
            return 0
        say("is asked to stop")
        return Stopped.exit_code
    finally:
        await _end(nodes)


def _node(address: str, digest: str, count: int) -> Any:
    """A process that works, and its nanny, which starts it again when it dies."""
    from distributed import Nanny
    from distributed.system import MEMORY_LIMIT

    return Nanny(
        address,
        nthreads=1,  # a recipe need not be safe to be called by several threads
        memory_limit=int(MEMORY_LIMIT / count),
        dashboard=False,
        preload=["mealkit_runtime.cluster_task"],
        env={SPEC_DIGEST: digest},
    )


async def _begin(node: Any, engine: str, wait: int, say: Callable[[str], None] | None) -> None:
    """Start it, as soon as the scheduler answers."""
    until, told = time.monotonic() + wait, say is None
    while True:
        if await answers(engine, "worker"):
            break
        if time.monotonic() > until:
            raise no_scheduler(engine)
        if not told and say is not None:
            told = True
            say(f"waits for the scheduler at {engine}")
        await asyncio.sleep(0.5)
    await node


async def _end(nodes: list[Any]) -> None:
    """End the processes, whatever they do."""
    with contextlib.suppress(Exception):
        await asyncio.wait_for(asyncio.gather(*(node.close(timeout=_FAREWELL / 2) for node in nodes)), _FAREWELL)


def _stop_event() -> asyncio.Event:
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    return asked


@contextlib.contextmanager
def _configured() -> Iterator[None]:
    """Dask's settings for our nodes; who sets others by its own variables (``DASK_…``) has them."""
    import dask.config

    ours = {
        "distributed.worker.daemon": False,  # a recipe may start processes of its own
        # The memory is the recipe's, and none of Dask's data: a worker that would wait for less of it waits for ever.
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        "distributed.scheduler.http.routes": ["distributed.http.scheduler.prometheus", "distributed.http.health"],
        "distributed.worker.http.routes": ["distributed.http.health"],
    }
    with dask.config.set(ours):
        yield


__all__ = ["SCHEDULER", "WORKER", "run_node"]
