"""Where trials are kept: Optuna's storages, by a path or a URL, for one process or for several containers."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mealkit.errors import MealkitError, RetryableError, SettingsError, storage_error

from .journal import journal

_MEANWHILE = ("already exists", "unique", "duplicate", "locked")
"""What databases say when another process makes the same tables at the same moment."""


def need_optuna() -> Any:
    """The package ``optuna``, which is silent.

    Raises:
        SettingsError: it is not installed.
    """
    try:
        import optuna
    except ModuleNotFoundError:
        raise SettingsError(
            "trials need Optuna, which is not installed",
            where="trials",
            hint='add "optuna" to the recipe\'s dependencies',
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


@contextlib.contextmanager
def storage_errors(storage: str | None) -> Iterator[None]:
    """A storage that cannot be used is told without its URL, which may hold a password."""
    try:
        yield
    except MealkitError:
        raise
    except OSError as error:
        raise storage_error(error, "using the trials' storage", storage) from error
    except Exception as error:
        kind = "the trials' storage cannot be used"
        if storage is None or "://" not in storage:
            raise SettingsError(
                f"{kind}: {error}", where=storage, hint="name a file in a folder that can be written"
            ) from error
        scheme = storage.partition("://")[0]
        raise RetryableError(
            f"{kind}: {type(error).__name__}",
            where=f"{scheme}://…",
            hint=f"check the address, the credentials, and that the driver of {scheme} is among the dependencies",
        ) from error


def open_storage(optuna: Any, where: str | None) -> Any:
    """Optuna's storage at a path or URL; None: in memory."""
    if where is None:
        return optuna.storages.InMemoryStorage()
    if "://" not in where:
        Path(where).parent.mkdir(parents=True, exist_ok=True)
        if Path(where).suffix in (".db", ".sqlite", ".sqlite3"):
            where = f"sqlite:///{where}"
        else:
            return journal(where)
    if where.startswith(("redis://", "rediss://")):
        return optuna.storages.JournalStorage(optuna.storages.journal.JournalRedisBackend(where))
    return _database(optuna, where)


def _database(optuna: Any, where: str) -> Any:
    """A database, whose tables are made where there are none; others that begin just now may be making them too."""
    # SQLite's writers wait for each other; five seconds, its own patience, are little for many of them.
    options = {"connect_args": {"timeout": 60}} if where.startswith("sqlite") else {}
    for left in range(20, -1, -1):
        try:
            return optuna.storages.RDBStorage(where, engine_kwargs=options)
        except Exception as error:
            if not left or not any(sign in str(error).lower() for sign in _MEANWHILE):
                raise
        time.sleep(random.uniform(0.05, 0.3))  # noqa: S311
    raise AssertionError("the last try raises")
