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
    with connect(run) as cluster, contextlib.ExitStack() as alive:
        cluster.lend(order)
        cluster.listener = _Pruner(trials, cluster, running)
        slots = max(1, cluster.slots())

        def fill() -> None:
            while len(running) < slots and (claim := study.claim()) is not None:
                alive.enter_context(study.alive(claim))
                made[claim.rank] = cluster.submit(try_trial, claim.rank, claim.values, name=f"trial {claim.rank}")
                task = cluster.submit(brief, claim.rank, made[claim.rank], name=f"end of trial {claim.rank}")
                running[task] = claim

        try:
            fill()
            for claim, tried in cluster.done(running):
                trials.settle(claim, tried)
                for rank in [
                    rank for rank in made if rank not in (trials.kept, *(one.rank for one in running.values()))
                ]:
                    del made[rank]  # the worker forgets it
                trials.record()
                run.stopper.check()
                fill()
            if trials.kept is not None:
                _fetch(trials, cluster, made[trials.kept])
        finally:
            with run.stopper.shielded():
                for claim in running.values():
                    study.stopped(claim)


def _fetch(trials: Trials, cluster: Cluster, made: Any) -> None:
    """Take the best trial's model from the worker that made it; if that has died, another makes it again."""
    rank = trials.kept
    assert rank is not None
    task = cluster.submit(files_of_trial, rank, made, name=f"model of trial {rank}")
    ((_, files),) = cluster.done({task: rank})
    own = trials.own(rank)
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
        rank, points = arguments
        claim = next((one for one in self.running.values() if one.rank == rank), None)
        if claim is not None and self.trials.study.report(claim, [(int(step), float(value)) for step, value in points]):
            self.cluster.everywhere(give_up, rank)
