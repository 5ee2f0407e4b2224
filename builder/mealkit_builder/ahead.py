"""Working ahead: threads make what the caller will want next, and no more of it than fits into a window."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

_BATCH, _MANY = 1 << 20, 256  # bytes and jobs that are handed to a thread together
_WAITING = 3  # pieces between a thread of `flow` and who takes them
_TAKE_SECONDS = 0.5


def ahead(makers: Iterable[tuple[int, Callable[[], T]]], *, workers: int = 2, window: int = 6 << 20) -> Generator[T]:
    """The results of ``makers`` in their order, made by threads while the caller works on earlier ones.

    Inflating, deflating and hashing leave the interpreter lock, so two cores are used.

    Args:
        makers: ``(cost in bytes, maker)`` pairs.
        workers: How many threads.
        window: Bytes that may be under way or waiting at a time.
    """
    from concurrent.futures import Future, ThreadPoolExecutor  # not needed to name layers, which must start fast

    pending: deque[tuple[int, Future[list[T]]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="splice") as pool:
        try:
            under_way = 0
            for cost, batch in _batches(makers):
                while pending and under_way + cost > window:
                    done, future = pending.popleft()
                    yield from future.result()
                    under_way -= done
                pending.append((cost, pool.submit(_make, batch)))
                under_way += cost
            while pending:
                yield from pending.popleft()[1].result()
        finally:
            for _, future in pending:
                future.cancel()


def _batches(makers: Iterable[tuple[int, Callable[[], T]]]) -> Iterator[tuple[int, list[Callable[[], T]]]]:
    """Small jobs together: handing a job to a thread costs more than inflating a small file."""
    cost, batch = 0, list[Callable[[], T]]()
    for one, maker in makers:
        cost += one
        batch.append(maker)
        if cost >= _BATCH or len(batch) >= _MANY:
            yield cost, batch
            cost, batch = 0, []
    if batch:
        yield cost, batch


def _make(batch: list[Callable[[], T]]) -> list[T]:
    return [maker() for maker in batch]


def flow(items: Iterator[T]) -> Generator[T]:
    """The items, made by a thread of their own that is at most a few ahead; its error is raised here, in its place."""
    import queue
    from threading import Event, Thread

    waiting: queue.Queue[tuple[T | None, BaseException | None, bool]] = queue.Queue(_WAITING)
    given_up = Event()

    def put(item: T | None, error: BaseException | None, more: bool) -> None:
        while not given_up.is_set():
            with contextlib.suppress(queue.Full):
                waiting.put((item, error, more), timeout=_TAKE_SECONDS)
                return

    def run() -> None:
        try:
            for item in items:
                put(item, None, True)
                if given_up.is_set():
                    return
            put(None, None, False)
        except BaseException as error:  # whatever it is, it is the caller's
            put(None, error, False)

    thread = Thread(target=run, name="splice-flow", daemon=True)
    thread.start()
    try:
        while True:
            item, error, more = waiting.get()
            if error is not None:
                raise error
            if not more:
                return
            yield item  # type: ignore[misc]  # None comes only with the end or an error
    finally:
        given_up.set()
        with contextlib.suppress(queue.Empty):
            while True:
                waiting.get_nowait()  # so that a thread that waits for room sees the end at once
        thread.join()


@contextlib.contextmanager
def beside(jobs: Sequence[Callable[[], None]]) -> Iterator[None]:
    """Runs jobs in a thread while the block runs; their error is raised when both are done, rather than the block's."""
    if not jobs:
        yield
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1, "splice-check") as pool:
        running = pool.submit(_make, list(jobs))
        try:
            yield
        finally:
            running.result()
