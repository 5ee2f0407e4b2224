"""What ``--engine`` names: the scheduler of a Dask cluster."""

from __future__ import annotations

import re
from typing import Any

from mealkit.errors import RetryableError, SettingsError

from .file_system import redact

SPEC_DIGEST = "MEALKIT_WORKER_SPEC"
"""The environment variable that tells the worker processes of a node which recipe it has."""

_FORM = re.compile(r"dask(\+tls)?://([A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})/?\Z")


def cluster_address(engine: str) -> str:
    """The scheduler's address as Dask writes it, such as ``tcp://10.0.0.7:8786``.

    Raises:
        SettingsError: the engine is not ``dask://HOST:PORT``.
    """
    match = _FORM.match(engine)
    if not match or not 0 < int(match[3]) < 65_536:
        raise SettingsError(
            f"not an engine: {redact(engine)!r}",
            where="engine",
            hint="write dask://HOST:PORT, such as dask://10.0.0.7:8786; dask+tls:// for TLS",
        )
    return f"{'tls' if match[1] else 'tcp'}://{match[2]}:{match[3]}"


async def answers(engine: str, role: str) -> bool:
    """Whether a scheduler answers.

    Args:
        engine: ``dask://HOST:PORT``.
        role: Who asks, for Dask's certificates: ``client`` or ``worker``.

    Raises:
        SettingsError: Dask's own settings (for TLS, say) do not allow to ask.
    """
    import distributed
    from distributed.comm import core

    connect: Any = core.connect
    security: Any = distributed.Security
    address = cluster_address(engine)
    try:
        comm = await connect(address, timeout=2, **security().get_connection_args(role))
        await comm.close()
        return True
    except (TimeoutError, OSError):
        return False
    except (RuntimeError, TypeError, ValueError) as error:
        raise SettingsError(
            f"Dask does not connect: {error}",
            where=engine,
            hint="dask+tls://HOST:PORT is for TLS, and needs certificates in DASK_DISTRIBUTED__COMM__TLS__…",
        ) from None


def no_scheduler(engine: str) -> RetryableError:
    """The error of a scheduler that nobody heard of."""
    return RetryableError(
        "no scheduler answers",
        where=engine,
        hint="start one with the mode `scheduler` of the same image, and check host and port",
    )


def need_distributed() -> None:
    """See that Dask can be imported.

    Raises:
        SettingsError: it is not installed.
    """
    try:
        import distributed  # noqa: F401
    except ModuleNotFoundError:
        raise SettingsError(
            "a cluster needs Dask, which is not installed",
            where="engine",
            hint='add "distributed" to the recipe\'s dependencies',
        ) from None
