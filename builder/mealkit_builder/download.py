"""Downloads of wheels: in parallel, checked against the lock's hashes, kept in the store."""

from __future__ import annotations

import hashlib
import os
import re
import ssl
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from mealkit.errors import AuthenticationError, MealkitError, UnreachableError, WheelError
from mealkit.redact import redact

from .store import Store
from .wheel import WheelFile

if TYPE_CHECKING:
    import urllib3

_PARALLEL = 8
_CHUNK = 1 << 18
_TRIES = 3
_INDEX_VARIABLES = (
    *("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS"),
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"),
)

Progress = Callable[[WheelFile, int], None]
"""Called with a wheel and the number of its bytes that just came."""


class Fetch:
    """Wheels on their way: all are asked for at once, and each can be waited for.

    Args:
        wheels: What is wanted; what the store has is there at once.
        store: Where they are kept.
        progress: Told of bytes as they come, from several threads.
    """

    def __init__(self, wheels: Sequence[WheelFile], store: Store, progress: Progress | None = None) -> None:
        missing = [wheel for wheel in wheels if not store.has_blob(wheel.sha256)]
        for wheel in wheels:
            store.use(wheel.sha256)
        self.downloaded = len(missing)
        self.total = sum(wheel.size for wheel in missing)
        self._store = store
        self._executor: ThreadPoolExecutor | None = None
        self._jobs: dict[str, Future[Path]] = {}
        if missing:
            pools = _pools()
            self._executor = ThreadPoolExecutor(_PARALLEL, "mealkit-fetch")
            # The largest first: the last to end would otherwise be the one that began last.
            for wheel in sorted(missing, key=lambda wheel: -wheel.size):
                self._jobs[wheel.sha256] = self._executor.submit(_fetch, wheel, store, pools, progress)

    def get(self, wheel: WheelFile) -> WheelFile:
        """The wheel with its path, once it is there.

        Raises:
            WheelError: the bytes are not those of the lock, or the file is gone.
            AuthenticationError: the index wants other credentials.
            UnreachableError: a host gave no answer, or kept failing.
        """
        job = self._jobs.get(wheel.sha256)
        return replace(wheel, path=job.result() if job else self._store.blob_path(wheel.sha256))

    def close(self) -> None:
        """Stop what has not begun and wait for the rest."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)


def _fetch(
    wheel: WheelFile, store: Store, pools: Callable[[str], urllib3.PoolManager], progress: Progress | None
) -> Path:
    target = store.blob_path(wheel.sha256)
    if wheel.make is not None:
        return wheel.make(wheel)
    address = wheel.url or ""
    with store.writing(target) as file:
        for left in reversed(range(_TRIES)):
            file.seek(0)
            file.truncate()
            taken = _Taken(wheel, file, progress)
            try:
                if address.startswith("file:"):
                    _read_local(wheel, address, taken.take)
                else:
                    _read_remote(wheel, address, pools(address), taken.take)
                break
            except UnreachableError:
                # A body that was cut; what failed before any of it came was tried again by the pool.
                if not taken.size or not left:
                    raise
                taken.take_back()
        if taken.state.hexdigest() != wheel.sha256:
            raise WheelError(
                f"{wheel.filename} is not the file that was locked: its sha256 differs",
                where=redact(address),
                hint="was it replaced on the index? lock again (mealkit lock) only if you trust the new file",
            )
    return target


class _Taken:
    """The bytes of one try."""

    def __init__(self, wheel: WheelFile, file: BinaryIO, progress: Progress | None) -> None:
        self.state = hashlib.sha256()
        self.size = 0
        self._wheel, self._file, self._progress = wheel, file, progress

    def take(self, chunk: bytes) -> None:
        """Write, hash and count some bytes."""
        self.state.update(chunk)
        self._file.write(chunk)
        self._count(len(chunk))

    def take_back(self) -> None:
        """Tell that what came does not count."""
        self._count(-self.size)

    def _count(self, size: int) -> None:
        self.size += size
        if self._progress is not None:
            self._progress(self._wheel, size)


def _read_local(wheel: WheelFile, address: str, take: Callable[[bytes], None]) -> None:
    path = Path(unquote(urlsplit(address).path))
    try:
        source = path.open("rb")
    except FileNotFoundError:
        raise WheelError(
            f"{wheel.filename} is locked, but not there", where=str(path), hint="bring the file back, or lock again"
        ) from None
    except OSError as error:
        raise WheelError(
            f"{wheel.filename} cannot be read: {error.strerror}", where=str(path), hint="check the disk and the rights"
        ) from error
    with source:
        while chunk := source.read(_CHUNK):
            take(chunk)


def _read_remote(wheel: WheelFile, address: str, pool: urllib3.PoolManager, take: Callable[[bytes], None]) -> None:
    import urllib3

    host = urlsplit(address).hostname or address
    try:
        response = pool.request("GET", address, preload_content=False, headers=_credentials(host))
        try:
            if response.status != 200:
                raise _refused(wheel, host, response.status)
            for chunk in response.stream(_CHUNK, decode_content=False):
                take(chunk)
        finally:
            response.release_conn()
    except (urllib3.exceptions.HTTPError, OSError) as error:
        if isinstance(error, OSError) and error.errno in (28, 30, 122):
            raise  # the disk, not the network: the store tells
        raise UnreachableError(
            f"{wheel.filename} could not be downloaded: {type(error).__name__}",
            where=host,
            hint="check the network (HTTPS_PROXY, SSL_CERT_FILE), then run the same command again",
        ) from error


def get_range(wheel: WheelFile, start: int, stop: int) -> bytes:
    """Some bytes of a wheel at its host.

    Raises:
        OSError: it gives no parts of files, or no answer.
    """
    import urllib3

    address = wheel.url or ""
    headers = {**_credentials(urlsplit(address).hostname or address), "Range": f"bytes={start}-{stop - 1}"}
    try:
        response = _pools()(address).request("GET", address, preload_content=False, headers=headers)
        try:
            data = response.read(stop - start + 1, decode_content=False) if response.status == 206 else b""
        finally:
            response.close()
    except urllib3.exceptions.HTTPError as error:
        raise OSError(str(error)) from error
    if len(data) != stop - start:
        raise OSError(f"{response.status} instead of a part of the file")
    return bytes(data)


def remote_size(wheel: WheelFile) -> int | None:
    """How long a wheel is, as its host says without sending it; None where it does not."""
    import urllib3

    address = wheel.url or ""
    if address.startswith("file:"):
        return None
    host = urlsplit(address).hostname or address
    headers = {**_credentials(host), "Accept-Encoding": "identity"}
    try:
        response = _pools()(address).request("HEAD", address, headers=headers)
    except (urllib3.exceptions.HTTPError, OSError):
        return None
    length = response.headers.get("Content-Length", "")
    return int(length) if response.status == 200 and length.isdigit() and length != "0" else None


def _refused(wheel: WheelFile, host: str, status: int) -> MealkitError:
    said = f"{host} answered {status} for {wheel.filename}"
    if status in (401, 403, 407):
        return AuthenticationError(said, where=host, hint="put the index's user and password into ~/.netrc")
    if status in (404, 410):
        return WheelError(said, where=host, hint="the file is gone from the index: lock again (mealkit lock --upgrade)")
    return UnreachableError(said, where=host, hint="try again later")


def _credentials(host: str) -> dict[str, str]:
    """Basic authentication for a private index: from the user's ``.netrc``, else from the index that uv is set to.

    A lock holds no user and no password, so what stands in ``UV_INDEX_URL`` must be found again.
    """
    import netrc

    try:
        found = netrc.netrc(os.environ.get("NETRC")).authenticators(host)
    except (OSError, netrc.NetrcParseError):
        found = None
    user, password = (found[0], found[2] or "") if found else _index_credentials(host)
    if not user and not password:
        return {}
    from urllib3.util import make_headers

    return dict(make_headers(basic_auth=f"{user}:{password}"))


def _index_credentials(host: str) -> tuple[str, str]:
    """User and password for a host in the variables that name indexes; both empty where there are none."""
    for variable in _INDEX_VARIABLES:
        for text in re.split(r"[\s,]+", os.environ.get(variable, "")):
            parts = urlsplit(text[text.find("http") :] if "http" in text else "")
            if parts.hostname == host and (parts.username or parts.password):
                return unquote(parts.username or ""), unquote(parts.password or "")
    return "", ""


def _pools() -> Callable[[str], urllib3.PoolManager]:
    """A connection pool for an address: through the proxy that the environment names for it, or straight."""
    import urllib3

    retries = urllib3.Retry(
        total=3, backoff_factor=0.3, status_forcelist=(429, 500, 502, 503, 504), raise_on_status=False
    )
    settings: dict[str, Any] = {
        "maxsize": _PARALLEL,
        "retries": retries,
        "timeout": urllib3.Timeout(connect=10, read=60),
        "ssl_context": ssl.create_default_context(),
    }
    direct = urllib3.PoolManager(**settings)
    proxies = {
        scheme: urllib3.ProxyManager(url, **settings)
        for scheme, url in getproxies().items()
        if scheme in ("http", "https")
    }

    def choose(address: str) -> urllib3.PoolManager:
        parts = urlsplit(address)
        if parts.scheme in proxies and not proxy_bypass(parts.hostname or ""):
            return proxies[parts.scheme]
        return direct

    return choose
