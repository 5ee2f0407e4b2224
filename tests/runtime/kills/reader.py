"""What readers see of a place where a run was killed: with pandas, pyarrow, deltalake, and with mealkit itself.

Each function gives a JSON value that is the same for the same content, or ``None`` where there is nothing to be seen;
what is neither whole nor absent is an error.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd

from mealkit.errors import ModelError, UnreadableDataError

VOLATILE = ("seconds", "worker", "created", "started", "run_id")


def see(eyes: str) -> list[Any]:
    """What each of several eyes sees."""
    return [globals()[name](*given) for name, *given in json.loads(eyes)]


def dataset(uri: str) -> dict[str, Any] | None:
    """The batches as mealkit lists them, each verified, and the rows as others read them."""
    from mealkit_runtime.batches import list_batches, verify_batch

    try:
        records = list_batches(uri)
    except UnreadableDataError as error:
        if "there is no dataset" not in str(error):
            raise
        records = []
    for record in records:
        faults = verify_batch(uri, record)
        assert not faults, faults
    rows = _rows(uri)
    assert (0 if rows is None else len(rows)) == sum(record.rows for record in records), (
        "what is listed is what is read"
    )
    return None if rows is None else {"batches": [[one.batch_id, one.rows] for one in records], "rows": _digest(rows)}


def _rows(uri: str) -> pd.DataFrame | None:
    if "://" in uri:
        return _far_rows(uri)
    if uri.startswith("delta:"):
        import deltalake

        path = uri.removeprefix("delta:")
        return deltalake.DeltaTable(path).to_pandas() if deltalake.DeltaTable.is_deltatable(path) else None
    import pyarrow.dataset

    folder = Path(uri)
    if not folder.is_dir():
        return None
    table = pyarrow.dataset.dataset(folder, format="parquet", partitioning="hive").to_table()
    if not len(table):
        return None
    frame = pd.read_parquet(folder)
    assert len(frame) == len(table)
    return frame


def _far_rows(uri: str) -> pd.DataFrame | None:
    from mealkit.errors import EmptyDataError
    from mealkit_runtime.dataset import locate, read_table
    from mealkit_runtime.schema import schema_of, to_frame

    try:
        return to_frame(*read_table(locate(uri), schema_of(None)))
    except (EmptyDataError, UnreadableDataError):
        return None


def _digest(frame: pd.DataFrame) -> str:
    frame = frame[sorted(frame.columns)].astype({"batch_id": str})
    text = frame.sort_values(list(frame.columns)).to_csv(index=False)
    return hashlib.sha256(text.encode()).hexdigest()


def model(directory: str, recipe: str) -> dict[str, Any] | None:
    """The model, verified as every run does before it reads one."""
    from mealkit_runtime.model import open_model

    try:
        stored = open_model(Path(directory), recipe)
    except ModelError as error:
        if "no model" not in error.message:
            raise
        return None
    facts = {name: stored.facts[name] for name in ("hyperparameters", "metrics", "history", "training", "trials")
             if name in stored.facts}  # fmt: skip
    training = facts["training"]
    for name in ("resumed", "checkpoints"):  # a run that goes on saves fewer
        training.pop(name)
    return {"artifact": stored.artifact_digest, "run_id": stored.facts["run_id"], **_steady(facts)}


def made(directory: str, recipe: str) -> str | None:
    """Whose model it is; which one of those that several workers may find."""
    found = model(directory, recipe)
    return None if found is None else str(found["run_id"])


def result(file: str) -> dict[str, Any] | None:
    """A result, whole."""
    path = Path(file)
    if not path.exists():
        return None
    found = json.loads(path.read_text())
    assert found["result_version"], "it is whole"
    facts = {name: found[name] for name in ("mode", "status", "exit_code")}
    return {**facts, "metrics": _steady(found["metrics"]["metrics"])}


def text(file: str, end: str) -> dict[str, Any] | None:
    """A file of text, whole."""
    path = Path(file)
    if not path.exists():
        return None
    found = path.read_text()
    assert found.rstrip().endswith(end), "it is whole"
    return {"lines": len(found.splitlines())}


def bad_rows(folder: str) -> dict[str, Any] | None:
    """The quarantines of a folder, each whole."""
    found = {path.parent.name: _csv(path) for path in sorted(Path(folder).glob("run_id=*/*"))}
    return found or None


def _csv(path: Path) -> int:
    assert path.name == "bad-rows.csv"
    return len(pd.read_csv(path))


def trials(file: str) -> dict[str, Any] | None:
    """The record of trials; every line is whole, and there are more of them from trial to trial."""
    path = Path(file)
    if not path.exists():
        return None
    return {"all": [_steady(json.loads(line)) for line in path.read_text().splitlines()]}


def checkpoints(folder: str) -> list[int]:
    """The steps of the checkpoints, each verified as a run that goes on does."""
    from mealkit_runtime.checkpoint import _verified

    return [_verified(path)["step"] for path in sorted(Path(folder).glob("checkpoint-*"))]


def journal(file: str) -> int | None:
    """How many entries a journal of trials has, as Optuna reads it."""
    from optuna.storages.journal import JournalFileBackend

    return len(list(JournalFileBackend(file).read_logs(0))) if Path(file).exists() else None


def clean(uri: str) -> int:
    """``mealkit batches DATASET clean --older-than 0s``; how many things it removed."""
    from mealkit_runtime.batches import clean as clean_dataset

    try:
        return len(clean_dataset(uri, older_than=0.0))
    except UnreadableDataError:
        return 0


def names(uri: str) -> list[str]:
    """All objects of a far dataset."""
    from mealkit_runtime.cloud_shelf import CloudShelf

    return CloudShelf(uri.removeprefix("delta:")).names("")


def empty(uri: str) -> None:
    """Remove all objects of a far dataset."""
    from mealkit_runtime.cloud_shelf import CloudShelf

    shelf = CloudShelf(uri.removeprefix("delta:"))
    for name in shelf.names(""):
        shelf.remove(name)


def _steady(value: Any) -> Any:
    """A value without what differs between two equal runs."""
    if isinstance(value, dict):
        return {key: _steady(item) for key, item in value.items() if key not in VOLATILE}
    return [_steady(item) for item in value] if isinstance(value, list) else value
