"""From a URI to a file system and a path on it: the local disk, S3, Google, Azure, HTTP, and what fsspec knows.

Credentials never stand in a URI: they come from the environment, by the names that each cloud's own tools use.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mealkit.errors import MealkitError, SettingsError, UnreachableError, UnreadableDataError

LOCAL, S3, GOOGLE, AZURE, HTTP = "file", "s3", "gs", "az", "http"
_KINDS = {
    "file": LOCAL,
    "s3": S3,
    "s3a": S3,
    "gs": GOOGLE,
    "gcs": GOOGLE,
    "az": AZURE,
    "abfs": AZURE,
    "abfss": AZURE,
    "http": HTTP,
    "https": HTTP,
}
_KNOWN = "use a local path, file://, s3://, gs://, az:// or https://"
_EMULATOR_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The published key of Azure's emulator; no secret."""


@dataclass(frozen=True)
class Location:
    """A place on a file system; plain texts, so that another process can open it too.

    Attributes:
        uri: For messages and records: without what may be a secret.
        kind: ``file``, ``s3``, ``gs``, ``az``, ``http``, or another scheme that fsspec knows.
        path: As the file system wants it.
        account: The storage account, where the URI names one (Azure).
    """

    uri: str
    kind: str
    path: str
    account: str = ""

    @property
    def local(self) -> Path | None:
        """The path on this machine's disk; None: it is elsewhere."""
        return Path(self.path) if self.kind == LOCAL else None

    @property
    def file_system(self) -> Any:
        """The :class:`pyarrow.fs.FileSystem`; one for all locations of a kind.

        Raises:
            SettingsError: the settings of the cloud, or a package that is needed, are missing.
        """
        return _file_system(self.kind, self.account)

    def at(self, path: str) -> Location:
        """Another path on the same file system."""
        if self.kind in (LOCAL, HTTP):
            return Location(redact(path), self.kind, path, self.account)
        if self.account:  # abfss://container@account.host/path
            container, _, rest = path.partition("/")
            head, _, tail = self.uri.partition("@")
            scheme, host = head.partition("://")[0], tail.partition("/")[0]
            return Location(f"{scheme}://{container}@{host}/{rest}", self.kind, path, self.account)
        return Location(f"{self.uri.partition('://')[0]}://{path.removeprefix('/')}", self.kind, path)


def resolve(uri: str, setting: str = "input") -> Location:
    """The place that a URI means; opens nothing.

    Args:
        uri: A local path, or ``SCHEME://…``.
        setting: What it was given for, for messages.

    Raises:
        SettingsError: nothing here knows the scheme, or the URI holds credentials.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return Location(uri, LOCAL, uri)
    scheme = scheme.lower()
    kind = _KINDS.get(scheme)
    authority, _, path = rest.partition("/")
    where = f"{setting} {redact(uri)}"
    if kind == LOCAL:
        return Location(uri, LOCAL, unquote("/" + path))
    user = authority.rpartition("@")[0]
    if user and (":" in user or kind != AZURE):
        raise SettingsError(
            "the URI holds a user or a password, which would be seen by whoever sees the command",
            where=where,
            hint="take it out, and set the environment variables that the cloud's own tools read",
        )
    if not authority:
        raise SettingsError("the URI names no host, bucket or container", where=where, hint=_KNOWN)
    if kind == HTTP:
        return Location(redact(uri), HTTP, uri)
    if kind == AZURE and user:
        account = authority.rpartition("@")[2].partition(".")[0]
        return Location(uri, AZURE, f"{user}/{path}".rstrip("/"), account)
    if kind is not None:
        return Location(uri, kind, f"{authority}/{path}".rstrip("/"))
    try:
        import fsspec

        cls = fsspec.get_filesystem_class(scheme)
    except (ImportError, ValueError) as error:
        what = f"{scheme}:// cannot be read or written: {error}"
        raise SettingsError(what, where=where, hint=_unknown(error)) from None
    return Location(redact(uri), scheme, str(cls._strip_protocol(uri)))


def _unknown(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name == "fsspec":
        return f"{_KNOWN}; for other schemes add fsspec, and its package for the scheme, to the recipe's dependencies"
    return f"{_KNOWN}; or add the package that the message names to the recipe's dependencies"


def redact(uri: str) -> str:
    """A URI without user, password, query and fragment, each of which may hold a secret; a path as it is."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return uri
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    kind = _KINDS.get(scheme.lower())
    if at and (":" in user or kind != AZURE):
        user = "…"
    if kind not in (LOCAL, S3, GOOGLE, AZURE):  # there a question mark is one of the path, or of a glob
        for mark in "?#":
            path, found, _ = path.partition(mark)
            path += f"{mark}…" if found else ""
            host, found, _ = host.partition(mark)
            host += f"{mark}…" if found else ""
    return f"{scheme}://{user}{at}{host}{slash}{path}"


@functools.cache
def _file_system(kind: str, account: str) -> Any:
    from pyarrow import fs

    environment = os.environ
    if kind == LOCAL:
        return fs.LocalFileSystem()
    if kind == S3:
        return _s3(fs, environment)
    if kind == GOOGLE:
        return _google(fs, environment)
    if kind == AZURE:
        return _azure(fs, environment, account)
    return fs.PyFileSystem(fs.FSSpecHandler(of_fsspec(kind)))


@functools.cache
def of_fsspec(kind: str) -> Any:
    """The fsspec file system of a scheme.

    Raises:
        SettingsError: a package that it needs is missing.
    """
    try:
        import fsspec

        return fsspec.filesystem(kind)
    except (ImportError, ValueError) as error:
        needed = "fsspec[http]" if kind == HTTP else "the package that the message names"
        raise SettingsError(
            f"{kind}:// cannot be read: {error}", where=f"{kind}://", hint=f"add {needed} to the recipe's dependencies"
        ) from None


def _s3(fs: Any, environment: Any) -> Any:
    """S3 and what speaks its language; keys, profile and role are found by AWS' own library."""
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    options: dict[str, Any] = {}
    if endpoint:
        parts = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
        options = {"scheme": parts.scheme, "endpoint_override": parts.netloc + parts.path.rstrip("/")}
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    if region:
        options["region"] = region
    if environment.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true", "yes"):
        options["anonymous"] = True
    if bundle := environment.get("AWS_CA_BUNDLE"):
        options["tls_ca_file_path"] = bundle
    retry = fs.AwsStandardS3RetryStrategy(max_attempts=4)
    return fs.S3FileSystem(connect_timeout=10, request_timeout=60, retry_strategy=retry, **options)


def _google(fs: Any, environment: Any) -> Any:
    """Google Cloud Storage; credentials are found by Google's own library (GOOGLE_APPLICATION_CREDENTIALS …)."""
    import datetime as dt

    options: dict[str, Any] = {"retry_time_limit": dt.timedelta(seconds=60)}
    if emulator := environment.get("STORAGE_EMULATOR_HOST"):
        parts = urlsplit(emulator if "://" in emulator else f"http://{emulator}")
        options |= {"scheme": parts.scheme, "endpoint_override": parts.netloc, "anonymous": True}
    if project := environment.get("GOOGLE_CLOUD_PROJECT"):
        options["project_id"] = project
    return fs.GcsFileSystem(**options)


def _azure(fs: Any, environment: Any, account: str) -> Any:
    """Azure Blob Storage and Data Lake; without a key, Azure's own library finds an identity."""
    if not hasattr(fs, "AzureFileSystem"):
        raise SettingsError(
            "this pyarrow knows no Azure", where="az://", hint="add pyarrow>=20 to the recipe's dependencies"
        )
    options: dict[str, Any] = {}
    if environment.get("AZURE_STORAGE_USE_EMULATOR", "").lower() in ("1", "true", "yes"):
        parts = urlsplit(environment.get("AZURITE_BLOB_STORAGE_URL") or "http://127.0.0.1:10000")
        account = account or "devstoreaccount1"
        for service in ("blob", "dfs"):
            options |= {f"{service}_storage_authority": parts.netloc, f"{service}_storage_scheme": parts.scheme}
        options["account_key"] = _EMULATOR_KEY
    account = account or environment.get("AZURE_STORAGE_ACCOUNT_NAME") or environment.get("AZURE_STORAGE_ACCOUNT") or ""
    if not account:
        raise SettingsError(
            "no storage account is named",
            where="az://",
            hint="set AZURE_STORAGE_ACCOUNT_NAME, or write abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH",
        )
    key = environment.get("AZURE_STORAGE_ACCOUNT_KEY") or environment.get("AZURE_STORAGE_KEY")
    token = environment.get("AZURE_STORAGE_SAS_TOKEN")
    if key:
        options["account_key"] = key
    elif token and "account_key" not in options:
        options["sas_token"] = token
    return fs.AzureFileSystem(account, **options)


_LOST = (
    *("NETWORK_CONNECTION", "curlCode", "ould not connect", "ouldn't connect", "annot connect", "imed out", "imeout"),
    *("SLOW_DOWN", "SERVICE_UNAVAILABLE", "INTERNAL_FAILURE", "onnection refused", "onnection reset", "disconnected"),
    *("HTTP status 500", "HTTP status 502", "HTTP status 503", "HTTP status 504", "UNAVAILABLE", "Broken pipe"),
    *("ClientPayloadError", "Could not resolve host", "THROTTLING", "REQUEST_TIMEOUT", "try again"),
)
_DENIED = (
    *("ACCESS_DENIED", "AccessDenied", "HTTP status 403", "HTTP status 401", "INVALID_ACCESS_KEY_ID", "Unauthorized"),
    *("SIGNATURE_DOES_NOT_MATCH", "INVALID_CLIENT_TOKEN_ID", "PERMISSION_DENIED", "AuthenticationFailed", "Forbidden"),
    *("AuthorizationFailure", "PermissionDenied", "UNAUTHENTICATED", "MISSING_AUTHENTICATION_TOKEN", "EXPIRED_TOKEN"),
    *("credential", "NoAuthenticationInformation", "AuthorizationPermissionMismatch"),
)
_GONE = ("NO_SUCH_BUCKET", "NO_SUCH_KEY", "RESOURCE_NOT_FOUND", "NOT_FOUND", "ContainerNotFound", "HTTP status 404")


def trouble(error: BaseException, uri: str) -> MealkitError | None:
    """What an exception from a far file system means, if it is about reaching the place; else None.

    Returns:
        An :class:`~mealkit.errors.UnreachableError` where trying again can help, an
        :class:`~mealkit.errors.UnreadableDataError` where it cannot.
    """
    where = redact(uri)
    text = " ".join(_chain(error))
    if any(sign in text for sign in _DENIED):
        return UnreadableDataError(
            "the storage refuses: wrong or missing credentials, or they do not allow this",
            where=where,
            hint="set the credentials in the environment, as for the cloud's own tools; see who may read",
        )
    if any(sign in text for sign in _LOST) or isinstance(error, ConnectionError | TimeoutError):
        return UnreachableError(
            "the storage does not answer, or broke off",
            where=where,
            hint="check the network and the endpoint (AWS_ENDPOINT_URL …), then run the same command again",
        )
    if isinstance(error, FileNotFoundError) or any(sign in text for sign in _GONE):
        return UnreadableDataError(
            "there is no such file or folder", where=where, hint="check bucket (or container) and path"
        )
    return None


def _chain(error: BaseException | None) -> list[str]:
    """The names and messages of an exception and its causes."""
    found: list[str] = []
    while error is not None and len(found) < 10:
        status = getattr(error, "status", None)
        found.append(f"{type(error).__name__} {error}" + (f" HTTP status {status}" if status else ""))
        error = error.__cause__ or error.__context__
    return found
