"""Compilers at work: fresh processes of an interpreter that turn sources into bytecode, a few at a time."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import IO

from mealkit._value import dataclass
from mealkit.errors import BuildError

from .inflate import Buffer
from .interpreter import Interpreter, worker_command, worker_failed

_SECONDS = 900.0  # a process that works longer is ended
_AHEAD = 3  # sources that a process has got and not answered
_WORTH_A_PROCESS = 400_000  # bytes of source: about 20 ms, as long as a process takes to start


@dataclass(frozen=True)
class Source:
    """A source to compile.

    Attributes:
        path: Its absolute path in the image, which tracebacks will show.
        size: About how many bytes it has.
        read: Its bytes; called when its turn has come, from some thread.
    """

    path: str
    size: int
    read: Callable[[], Buffer]


def compile_each(
    sources: Sequence[Source],
    interpreter: Interpreter,
    take: Callable[[str, bytes], None],
    *,
    workers: int | None = None,
) -> None:
    """Hand the bytecode of each source that can be compiled to ``take``, by the source's path, in any order.

    Which process compiles what, and after what, makes no difference to any result. Only a few sources and results are
    in memory at a time.

    Args:
        sources: What to compile.
        interpreter: What compiles.
        take: Called from several threads, by one at a time.
        workers: How many processes at most; as many as there are processors by default.

    Raises:
        BuildError: the interpreter fails.
        MealkitError: what reading a source raises.
    """
    from concurrent.futures import ThreadPoolExecutor  # a build in which nothing changed compiles nothing

    # The largest first, so that the processes end together.
    waiting = deque(sorted(sources, key=lambda source: (-source.size, source.path)))
    most = workers or os.cpu_count() or 1
    most = min(most, 1 + sum(source.size for source in sources) // _WORTH_A_PROCESS)
    lock = threading.Lock()

    def taken(path: str, data: bytes) -> None:
        with lock:
            take(path, data)

    with ThreadPoolExecutor(most, thread_name_prefix="compile") as pool:
        jobs = [pool.submit(_work, waiting, interpreter, taken) for _ in range(most)]
        for job in jobs:
            try:
                job.result()
            except BaseException:
                waiting.clear()  # the others end with what they have
                raise


def _work(waiting: deque[Source], interpreter: Interpreter, take: Callable[[str, bytes], None]) -> None:
    """One process, fed until nothing waits."""
    with _process(interpreter) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if read_frame(process.stdout).decode().split()[:2] != [interpreter.version, str(interpreter.magic)]:
            raise BuildError("the interpreter that compiles bytecode gave a wrong answer", where=str(interpreter.path))
        # The process reads and writes by turns: a thread of its own feeds it, lest both sides wait to write.
        feeder = _Feeder(process.stdin)
        asked: deque[str] = deque()
        try:
            while True:
                while len(asked) < _AHEAD and (source := _next(waiting)) is not None:
                    feeder.put(source.path, source.read())
                    asked.append(source.path)
                if not asked:
                    break
                data = read_frame(process.stdout)
                path = asked.popleft()
                if data:
                    take(path, data)
        except BaseException:
            process.kill()  # it may wait for us to read, and the feeder for it
            raise
        finally:
            feeder.end()


def _next(waiting: deque[Source]) -> Source | None:
    try:
        return waiting.popleft()
    except IndexError:  # several processes take from it
        return None


class _Feeder:
    """A thread that writes frames."""

    def __init__(self, target: IO[bytes]) -> None:
        import queue

        self._queue: queue.SimpleQueue[tuple[bytes, Buffer] | None] = queue.SimpleQueue()
        self._target = target
        self._thread = threading.Thread(target=self._run, name="compile-feed", daemon=True)
        self._thread.start()

    def put(self, path: str, source: Buffer) -> None:
        """A source for the process."""
        self._queue.put((path.encode(), source))

    def end(self) -> None:
        """Close the process' input."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # it is gone; who reads its answers tells
            while (item := self._queue.get()) is not None:
                for part in item:
                    self._target.write(len(part).to_bytes(4, "little"))
                    self._target.write(part)
                self._target.flush()
        with contextlib.suppress(OSError):
            self._target.close()


class _Gone(Exception):
    """The process ended before it had answered."""


def read_frame(stream: IO[bytes]) -> bytes:
    """The next part of the worker's answer."""
    head = stream.read(4)
    data = stream.read(int.from_bytes(head, "little")) if len(head) == 4 else b""
    if len(head) < 4 or len(data) < int.from_bytes(head, "little"):
        raise _Gone
    return data


@contextlib.contextmanager
def _process(interpreter: Interpreter) -> Iterator[subprocess.Popen[bytes]]:
    """A fresh process with the compiling worker; it is gone when the block ends.

    Raises:
        BuildError: it failed, or worked longer than it may.
    """
    import tempfile

    command, environment = worker_command(interpreter.path)
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment
            )
        except OSError as error:
            raise worker_failed(interpreter.path, str(error)) from error
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(_SECONDS, end)
        timer.daemon = True
        timer.start()
        try:
            yield process
        except _Gone as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            errors.seek(0)
            said = errors.read()[-4096:].decode(errors="replace").strip().rpartition("\n")[2]
            why = f"it took longer than {_SECONDS:g} s" if late.is_set() else said or f"it ended with {process.poll()}"
            raise worker_failed(interpreter.path, why) from error
        finally:
            timer.cancel()
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    stream.close()  # type: ignore[union-attr]
