"""Threads that work ahead of and behind the one that scores, with bounded queues between them.

Only :class:`queue.SimpleQueue` stands between two threads: its operations are single calls of C, so that a signal's
:class:`~mealkit_runtime.stop.Interrupted`, which may be raised between any two instructions of the main thread, leaves
no lock held and wakes a main thread that waits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")

_PATIENCE = 2.0
"""Seconds that a reader has to end when nobody wants its items any more; it may hang in a lost network."""


class End(Exception):
    """There are no more items."""


class Ahead(Generic[T]):
    """Iterates over ``items`` in a thread of its own; at most ``size`` items wait for who takes them.

    What the iteration raises is raised again where the item would have been taken. Several threads may take.

    Args:
        items: Iterated, and closed, in the thread alone; if it has a method ``cancel``, which breaks off what the
            thread waits for, that is called when no item is wanted any more.
        size: At least 1.
    """

    def __init__(self, items: Iterable[T], size: int = 2) -> None:
        self._items = items
        self._made: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()
        self._permits: SimpleQueue[bool] = SimpleQueue()
        for _ in range(size):
            self._permits.put(True)
        self._thread = threading.Thread(target=self._run, name="mealkit-ahead", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        try:
            return self.take()
        except End:
            raise StopIteration from None

    def take(self, *, wait: bool = True) -> T:
        """The next item.

        Raises:
            Empty: there is none yet, and ``wait`` is false.
            End: there are no more.
        """
        item, error = self._made.get(wait)
        if error is not None:
            self._made.put((None, error))  # for the other takers
            raise error
        self._permits.put(True)
        return item  # type: ignore[return-value]

    def close(self) -> None:
        """No item is wanted any more: let the thread end, and whoever waits."""
        cancel = getattr(self._items, "cancel", None)
        if cancel is not None:
            cancel()
        self._permits.put(False)
        self._made.put((None, End()))
        self._thread.join(_PATIENCE)

    def _run(self) -> None:
        iterator = iter(self._items)
        try:
            while self._permits.get():
                self._made.put((next(iterator), None))
        except StopIteration:
            self._made.put((None, End()))
        except BaseException as error:
            self._made.put((None, error))
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()


class Behind(Generic[T]):
    """Calls ``function`` with one item after the other, in a thread of its own; at most ``size`` items wait.

    As a context manager it is over when every item was worked on. What ``function`` raised is raised at the next
    :meth:`put` or at the end; it wins over an exception of the block, because it is about an earlier item. A block that
    ends by an exception that is no :class:`Exception` (a stop) waits for the item that is worked on, and for no other.
    """

    def __init__(self, function: Callable[[T], object], size: int = 2) -> None:
        self._function = function
        self._given: SimpleQueue[T | None] = SimpleQueue()
        self._permits: SimpleQueue[None] = SimpleQueue()
        for _ in range(size):
            self._permits.put(None)
        self._over: SimpleQueue[None] = SimpleQueue()
        self._error: BaseException | None = None
        self._dropped = False
        threading.Thread(target=self._run, name="mealkit-behind", daemon=True).start()

    def put(self, item: T) -> None:
        """Hand an item over, as soon as there is room."""
        self._permits.get()
        if self._error is not None:
            raise self._error
        self._given.put(item)

    def __enter__(self) -> Behind[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._dropped = error is not None and not isinstance(error, Exception)
        self._given.put(None)
        try:
            self._over.get()
        except BaseException:  # a stop, while this waited
            self._dropped = True
            self._over.get()
            raise
        if self._error is not None and self._error is not error and not self._dropped:
            raise self._error from None

    def _run(self) -> None:
        while (item := self._given.get()) is not None:
            if self._error is None and not self._dropped:
                try:
                    self._function(item)
                except BaseException as error:
                    self._error = error
            del item
            self._permits.put(None)
        self._over.put(None)


__all__ = ["Ahead", "Behind", "Empty", "End"]
