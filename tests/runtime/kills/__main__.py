"""``./task kills``: kills runs at 200 random moments and at every boundary, in all modes; tells what became of them."""

from __future__ import annotations

import argparse
import contextlib
import queue
import signal
import sys
import tempfile
import threading
import time
import traceback
from itertools import chain
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from kills.launcher import Launcher
from kills.scene import Pantry, Scene, Stage, scenes
from kills.strike import Strike, Tally
from storage import make_bucket, moto_server

KINDS = ("random", "boundary", "stop", "disk", "store")


def main() -> int:
    """Kill, print a table, and end with 1 if anything was not as it should be."""
    parser = argparse.ArgumentParser(prog="./task kills", description=__doc__)
    parser.add_argument("--random", type=int, default=200, metavar="N", help="kills at random moments, over all modes")
    parser.add_argument("--cold", type=int, default=20, metavar="N", help="as many of them from a cold start")
    parser.add_argument("--stops", type=int, default=50, metavar="N", help="SIGTERM at random moments, over all modes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", metavar="TEXT", help="modes whose name has this text")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="modes at once")
    parser.add_argument("--kinds", default=",".join(KINDS), metavar="LIST", help=f"some of {','.join(KINDS)}")
    given = parser.parse_args()
    begun = time.monotonic()
    with contextlib.ExitStack() as resources:
        folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="mealkit-kills-")))
        endpoint = resources.enter_context(moto_server())
        make_bucket(endpoint)
        session = Session(given, endpoint)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: session.stopping.set())
        workers = [threading.Thread(target=session.work, args=(folder / str(me),)) for me in range(given.jobs)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    _table([session.rows[number] for number in sorted(session.rows)])
    print(f"{time.monotonic() - begun:.0f} s; seed {given.seed}; slowest end after SIGTERM {session.slowest:.1f} s")
    for fault in session.faults:
        print(f"FAULT {fault}")
    return 1 if session.faults else 0


class Session:
    """Scenes that are played by several threads, each with a zygote of its own."""

    def __init__(self, given: argparse.Namespace, endpoint: str) -> None:
        self.given = given
        self.endpoint = endpoint
        self.stopping = threading.Event()
        self.rows: dict[int, Row] = {}
        self.faults: list[str] = []
        self.slowest = 0.0
        chosen = [one for one in scenes(endpoint) if given.only is None or given.only in one.name]
        self._count = len(chosen)
        self._todo: queue.SimpleQueue[tuple[int, Scene]] = queue.SimpleQueue()
        for item in enumerate(chosen):
            self._todo.put(item)

    def work(self, folder: Path) -> None:
        """Play scenes until there are none."""
        try:
            with contextlib.closing(Launcher(folder / "launcher")) as launcher:
                pantry = Pantry(folder / "pantry", launcher, self.endpoint)
                while not self.stopping.is_set():
                    number, scene = self._todo.get_nowait()
                    self._play(number, scene, Stage(scene, pantry, launcher, folder / "place"))
        except queue.Empty:
            pass
        except BaseException:
            self.faults.append(traceback.format_exc())

    def _play(self, number: int, scene: Scene, stage: Stage) -> None:
        given, count, tally = self.given, self._count, Tally()
        at_random, cold, stops = (
            total // count + (number < total % count) for total in (given.random, given.cold, given.stops)
        )
        try:
            strike = Strike(stage)
            found = strike.boundaries() if {"boundary", "disk"} & {*given.kinds.split(",")} else []
            kills = {
                "random": chain(
                    strike.at_random(max(0, at_random - cold), given.seed + number),
                    strike.cold(cold, given.seed + number),
                ),
                "stop": strike.at_random(stops, given.seed + number, "stop"),
                "boundary": strike.at(found),
                "disk": strike.failing(found),
                "store": strike.at_requests(),
            }
            for kind in given.kinds.split(","):
                strike.all(kills[kind], tally, self.stopping.is_set)
        except Exception:
            tally.faults.append(f"{scene.name}: {traceback.format_exc()}")
        finally:
            stage.leave()
        self.faults += tally.faults
        self.slowest = max(self.slowest, tally.slowest)
        self.rows[number] = row = _row(scene.name, tally)
        print("\n".join([*(f"FAULT {fault}" for fault in tally.faults), _line(row)]), file=sys.stderr, flush=True)


Row = tuple[str, ...]
HEAD = (
    "mode", "random", "boundaries", "SIGTERM", "disk faults", "store lost", "nothing", "all", "some", "unharmed",
    "cleaned", "faults",
)  # fmt: skip


def _row(name: str, tally: Tally) -> Row:
    kills = tally.kills
    counts = (kills["moment"] + kills["cold"], kills["boundary"] + kills["request"], kills["stop"], kills["failure"])
    ends = (tally.told[name] for name in ("nothing", "all", "some", "unharmed"))
    return (name, *map(str, (*counts, kills["loss"], *ends, tally.cleaned, len(tally.faults))))


def _table(rows: list[Row]) -> None:
    total = ("all", *(str(sum(int(row[column]) for row in rows)) for column in range(1, len(HEAD))))
    for row in (HEAD, ("---", *["---:"] * (len(HEAD) - 1)), *rows, total):
        print(_line(row))


def _line(row: Row) -> str:
    return "| " + " | ".join(row) + " |"


if __name__ == "__main__":
    sys.exit(main())
