"""Threads ahead and behind: order, bounds, errors, and an end whatever happens."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from mealkit_runtime.pipeline import Ahead, Behind, Empty, End


@pytest.mark.parametrize("size", [1, 2, 5])
def test_ahead_gives_all_in_order_and_runs_no_further_ahead_than_told(size: int) -> None:
    made = taken = 0

    def items() -> Iterator[int]:
        nonlocal made
        for number in range(200):
            made += 1
            assert made <= taken + size + 1  # the one more is in the hand of who takes it just now
            yield number

    ahead = Ahead(items(), size)
    for expected, number in enumerate(ahead):
        assert number == expected
        taken += 1
    assert taken == 200
    with pytest.raises(End):
        ahead.take()
    with pytest.raises(End):
        ahead.take(wait=False)


def test_an_error_comes_where_the_item_would_have_come() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("broken")

    ahead = Ahead(items())
    assert (next(ahead), next(ahead)) == (1, 2)
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            next(ahead)


def test_nothing_yet_is_not_the_end() -> None:
    go = threading.Event()

    def items() -> Iterator[int]:
        go.wait(60)
        yield 1

    ahead = Ahead(items())
    with pytest.raises(Empty):
        ahead.take(wait=False)
    go.set()
    assert ahead.take() == 1


def test_closing_ends_the_iteration_in_its_thread_and_wakes_who_waits() -> None:
    ended: list[threading.Thread] = []
    cancelled = threading.Event()

    class Items:
        def __iter__(self) -> Iterator[int]:
            try:
                yield 1
                cancelled.wait(60)
                yield 2
            finally:
                ended.append(threading.current_thread())

        def cancel(self) -> None:
            cancelled.set()

    ahead = Ahead(Items())
    assert next(ahead) == 1
    waiting = threading.Thread(target=lambda: list(ahead))
    waiting.start()
    ahead.close()
    waiting.join(60)
    assert not waiting.is_alive()
    assert [thread.name for thread in ended] == ["mealkit-ahead"]


def test_behind_works_in_order_in_one_thread_and_has_ended_when_the_block_has() -> None:
    done: list[tuple[int, int]] = []
    given = 0

    def work(item: int) -> None:
        assert given - len(done) <= 4
        done.append((item, threading.get_ident()))

    with Behind(work, 2) as behind:
        for number in range(100):
            given += 1
            behind.put(number)
    assert [item for item, _ in done] == list(range(100))
    assert len({thread for _, thread in done}) == 1


def test_an_error_behind_ends_the_work_and_wins_over_a_later_one() -> None:
    done: list[int] = []

    def work(item: int) -> None:
        if item == 3:
            raise OSError("the disk is full")
        done.append(item)

    with pytest.raises(OSError, match="disk is full"), Behind(work) as behind:  # noqa: PT012
        for number in range(100):
            behind.put(number)
    with pytest.raises(OSError, match="disk is full"), Behind(work) as behind:  # noqa: PT012
        behind.put(3)
        raise ValueError("of a later item")
    with pytest.raises(OSError, match="disk is full"), Behind(work) as behind:
        behind.put(3)
    assert done == [0, 1, 2]


def test_an_error_of_the_block_waits_for_the_items_before_it() -> None:
    done: list[int] = []
    with pytest.raises(ValueError, match="later"), Behind(done.append) as behind:  # noqa: PT012
        behind.put(1)
        behind.put(2)
        raise ValueError("later")
    assert done == [1, 2]


def test_a_stop_waits_for_the_item_that_is_worked_on_and_for_no_other() -> None:
    begun, go = threading.Event(), threading.Event()
    done: list[int] = []

    def work(item: int) -> None:
        begun.set()
        go.wait(60)
        done.append(item)

    def stop() -> None:
        with Behind(work) as behind:
            behind.put(1)
            behind.put(2)
            begun.wait(60)
            behind._dropped = True  # as the stop does it, but before the item can be over
            go.set()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert done == [1]
