"""Every error that mealkit raises on purpose, with its stable code and exit status."""

from __future__ import annotations

import re
from typing import ClassVar


class MealkitError(Exception):
    """The root of all errors that mealkit raises on purpose.

    The tree; in brackets the process exit status:

    .. code-block:: text

        MealkitError                  [1]
        ├── UsageError                [2]   the user's mistake: a setting, a project, an argument
        │   ├── ProjectError                pyproject.toml or a module it names is wrong
        │   ├── SettingsError               a hyperparameter or run setting is wrong
        │   ├── SecretFoundError            a secret stands among the files to pack
        │   └── PolicyError                 a policy file is wrong
        ├── DataError                 [3]   the data are not what the recipe declares
        │   ├── SchemaError                 a column is missing or has the wrong type or range
        │   ├── BadRowsError                more rows are bad than the run allows
        │   ├── RowsLostError               rows that were read are neither used nor told to be bad
        │   ├── EmptyDataError              no rows
        │   └── UnreadableDataError         a file is missing, truncated or of another format
        ├── ModelError                [4]   a model directory is incomplete, tampered with or unsafe
        ├── RecipeError               [5]   the recipe's own code failed
        ├── BuildError                [6]   an image cannot be made
        │   ├── LockError                   the requirements cannot be resolved
        │   ├── NoWheelError                a requirement has no wheel for the platform
        │   ├── WheelError                  a wheel is broken or not allowed
        │   └── BaseImageError              the base image cannot be used
        ├── RegistryError             [7]   a registry refused: the same request will fail again
        │   ├── AuthenticationError         wrong or missing credentials
        │   ├── PermissionDeniedError       known, but not allowed here
        │   └── NotFoundError               no such repository, tag or blob
        ├── StorageError              [8]   a disk is full or read-only
        ├── EngineError               [9]   a container engine is missing or failed
        ├── VerificationError         [10]  an image is not what it should be: a signature, a digest, a rebuild
        │   └── RefusedError                the policy does not allow the image
        ├── WorseError                [11]  a model is worse than the one that it was compared with
        ├── RetryableError            [75]  a passing fault: the same run may succeed later
        │   └── UnreachableError            no answer from a host
        └── Stopped                   [143] the run was asked to stop (SIGTERM, SIGINT)

    Args:
        message: What happened, in one sentence without a final stop.
        where: The file, field, URL or column that it happened in.
        hint: What to do next.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def to_json(self) -> dict[str, object]:
        """The error as a JSON object: code, message, where, hint, retryable, exit_code."""
        return {
            "code": self.code,
            "message": self.message,
            "where": self.where,
            "hint": self.hint,
            "retryable": self.retryable,
            "exit_code": self.exit_code,
        }

    def render(self) -> str:
        """The error as lines for a terminal: ``error[code]: …``, ``  at: …``, ``hint: …``.

        What would move a terminal's cursor or change its colours, in a file's or a column's name, stands as its escape.
        """
        lines = [f"error[{self.code}]: {self.message}"]
        if self.where:
            lines.append(f"  at: {self.where}")
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return harmless("\n".join(lines))


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""All but the tab and the end of a line."""


def harmless(text: str) -> str:
    """A text with escapes instead of what would move a terminal's cursor or change its colours."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


class UsageError(MealkitError):
    """The user's mistake: a setting, a project or an argument is wrong."""

    code = "usage"
    exit_code = 2


class ProjectError(UsageError):
    """``pyproject.toml``, or a module or class that it names, is wrong."""

    code = "project"


class SettingsError(UsageError):
    """A hyperparameter or another setting of a run is wrong."""

    code = "settings"


class SecretFoundError(UsageError):
    """A secret stands among the files that would be packed."""

    code = "secret-found"


class PolicyError(UsageError):
    """A policy file is missing, is not TOML, or says what a policy cannot say."""

    code = "policy"


class DataError(MealkitError):
    """The data are not what the recipe declares."""

    code = "data"
    exit_code = 3


class SchemaError(DataError):
    """A column is missing, or has values of the wrong type or out of range."""

    code = "schema"


class BadRowsError(DataError):
    """More rows are against the schema than the run allows, or all of them are."""

    code = "bad-rows"


class RowsLostError(DataError):
    """Rows do not add up: those that were read are not those that were used, skipped and put into quarantine."""

    code = "rows-lost"


class EmptyDataError(DataError):
    """A dataset has no rows."""

    code = "empty-data"


class UnreadableDataError(DataError):
    """A data file is missing, truncated, or not of the format that its name says."""

    code = "unreadable-data"


class ModelError(MealkitError):
    """A model directory is incomplete, was changed since it was written, or is not safe to load."""

    code = "model"
    exit_code = 4


class RecipeError(MealkitError):
    """The recipe's own code raised an exception or returned what its contract does not allow."""

    code = "recipe"
    exit_code = 5


class BuildError(MealkitError):
    """An image cannot be made."""

    code = "build"
    exit_code = 6


class LockError(BuildError):
    """The requirements cannot be resolved together."""

    code = "lock"


class NoWheelError(BuildError):
    """A requirement has no wheel for the platform and Python of the image."""

    code = "no-wheel"


class WheelError(BuildError):
    """A wheel is broken, was changed, or holds what a wheel must not hold."""

    code = "bad-wheel"


class BaseImageError(BuildError):
    """The base image is missing, is for another platform, or has no usable Python."""

    code = "base-image"


class RegistryError(MealkitError):
    """A registry refused; the same request will fail again."""

    code = "registry"
    exit_code = 7


class AuthenticationError(RegistryError):
    """The credentials are missing or wrong."""

    code = "unauthenticated"


class PermissionDeniedError(RegistryError):
    """The credentials are good, but do not allow this."""

    code = "denied"


class NotFoundError(RegistryError):
    """The registry has no such repository, tag or blob."""

    code = "not-found"


class StorageError(MealkitError):
    """A disk is full, read-only, or failed."""

    code = "storage"
    exit_code = 8


class EngineError(MealkitError):
    """A container engine is missing, refused, or failed."""

    code = "engine"
    exit_code = 9


class VerificationError(MealkitError):
    """An image is not what it should be: it has no good signature, or is not what its inputs make."""

    code = "verification"
    exit_code = 10


class RefusedError(VerificationError):
    """The policy of this machine does not allow the image."""

    code = "refused"


class WorseError(MealkitError):
    """A model is worse than the one that it was compared with, by more than what was allowed."""

    code = "worse"
    exit_code = 11


class RetryableError(MealkitError):
    """A passing fault: the same run may succeed later."""

    code = "retryable"
    exit_code = 75
    retryable = True


class UnreachableError(RetryableError):
    """A host gave no answer."""

    code = "unreachable"


class Stopped(MealkitError):
    """The run was asked to stop."""

    code = "stopped"
    exit_code = 143
    retryable = True


_DISK_ERRNOS = {
    28: "the disk is full",
    30: "the file system is read-only",
    122: "the disk quota is used up",
    5: "the disk failed to read or write",
    13: "permission denied",
}


def storage_error(cause: OSError, doing: str, where: object = None) -> StorageError:
    """A :class:`StorageError` for an operating system error met while ``doing`` something.

    ``where`` is told when the error itself names no file: a write to an open file does not.
    """
    what = _DISK_ERRNOS.get(cause.errno or 0, cause.strerror or str(cause))
    hints = {
        28: "free some space, or name a folder on another disk",
        30: "name an output folder that can be written; in a container, mount one",
        13: "let this user write there, or name another folder",
    }
    return StorageError(
        f"{doing}: {what}",
        where=str(cause.filename or where or "") or None,
        hint=hints.get(cause.errno or 0, "check the disk, then run the same command again"),
    )
