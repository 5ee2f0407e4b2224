"""Mode ``train`` on a cluster: the parallel parts of scikit-learn, or the trials of a search, run on the workers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from . import __version__
from .cluster import Cluster, connect, faults
from .cluster_task import Order, brief, files_of_trial, give_up, try_trial
from .run import Run
from .study import Claim
from .trials import Trials


@contextlib.contextmanager
def spread(run: Run) -> Iterator[None]:
    """Inside the block, what joblib would do in parallel processes here is done by the workers of ``--engine``.

    That is what scikit-learn's estimators do with ``n_jobs``: trees of a forest, folds of a cross-validation, points of
    a grid. Those that say no ``n_jobs`` take all workers.

    Raises:
        RetryableError: the cluster was lost.
    """
    import joblib

    with connect(run) as cluster, faults(run), joblib.parallel_config("dask", n_jobs=-1, client=cluster.client):
        yield


def work_on_cluster(trials: Trials) -> None:
    """Have the workers try trials until there are none; the study stays here.

    A trial whose worker died is tried again by another, under the same rank.
    """
    run, study = trials.run, trials.study
    order = Order(
        spec=run.spec.to_json(),
        config=run.config,
        found={name: run.found.get(name) for name in ("seed", "started")} | {"data": trials.material.data},
        image=run.image,
        version=__version__,
        plan=study.plan,
    )
    running: dict[Any, Claim] = {}
    made: dict[int, Any] = {}
    alive: dict[int, contextlib.ExitStack] = {}
    with connect(run) as cluster:
        cluster.lend(order)
        cluster.listener = _Pruner(trials, cluster, running)
        slots = max(1, cluster.slots())

        def fill() -> None:
            while len(running) < slots and (claim := study.claim()) is not None:
                key, name = claim.key, f"trial {claim.rank} ({claim.key})"
                alive[key] = contextlib.ExitStack()
                alive[key].enter_context(study.alive(claim))
                made[key] = cluster.submit(try_trial, key, claim.values, name=name)
                running[cluster.submit(brief, key, made[key], name=f"end of {name}")] = claim

        try:
            fill()
            for claim, tried in cluster.done(running):
                alive.pop(claim.key).close()
                trials.settle(claim, tried)
                wanted = {trials.kept, *(one.key for one in running.values())}
                for key in [key for key in made if key not in wanted]:
                    del made[key]  # the worker forgets it
                trials.record()
                run.stopper.check()
                fill()
            if trials.kept is not None:
                _fetch(trials, cluster, made[trials.kept])
        finally:
            with run.stopper.shielded():
                for claim in running.values():
                    alive.pop(claim.key).close()
                    study.stopped(claim)


def _fetch(trials: Trials, cluster: Cluster, made: Any) -> None:
    """Take the best trial's model from the worker that made it; if that has died, another makes it again."""
    key = trials.kept
    assert key is not None
    task = cluster.submit(files_of_trial, key, made, name=f"model of trial ({key})")
    ((_, files),) = cluster.done({task: key})
    own = trials.own(key)
    for name, data in files.items():
        path = own / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


class _Pruner:
    """Reports the values by step that workers tell, and has trials given up that are too bad."""

    def __init__(self, trials: Trials, cluster: Cluster, running: dict[Any, Claim]) -> None:
        self.trials, self.cluster, self.running = trials, cluster, running

    def __call__(self, method: str, arguments: list[Any]) -> None:
        """A worker's message."""
        if method != "points":
            return
        key, points = arguments
        claim = next((one for one in self.running.values() if one.key == key), None)
        if claim is not None and self.trials.study.report(claim, [(int(step), float(value)) for step, value in points]):
            self.cluster.everywhere(give_up, key)
