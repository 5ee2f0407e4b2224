"""What must not stand in a manifest: paths that a cluster does not have, secrets, and texts that are no texts."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mealkit.errors import UsageError
from mealkit.redact import Redactor, says_secret
from mealkit.spec import RecipeSpec
from mealkit_runtime.command import secret_names
from mealkit_runtime.setting import SETTINGS

from .mounts import NAMED, READ, local_path, path_options

_LONG_ENOUGH = 8
"""Values of this machine's variables that are shorter stand in many a text by chance."""


@dataclass(frozen=True)
class Claim:
    """A claim to storage of the cluster, and where a run sees it.

    Attributes:
        name: Of the PersistentVolumeClaim.
        path: An absolute path in the containers.
        read_only: Whether the run may only read it.
    """

    name: str
    path: str
    read_only: bool = False


@dataclass(frozen=True)
class Given:
    """A setting of the run as it was given.

    Attributes:
        where: The argument or variable that it was given by.
        flag: The argument that it could be given by.
        value: Its value; of a named input and of a hyperparameter ``NAME=VALUE``.
    """

    where: str
    flag: str
    value: str


def given_settings(arguments: Sequence[str], env: Mapping[str, str]) -> list[Given]:
    """The settings in variables and arguments; of one that is given twice, the last counts."""
    found = []
    by_env = {setting.env: setting.flag for setting in SETTINGS} | {"MEALKIT_CONFIG": "--config"}
    for name, value in env.items():
        if flag := by_env.get(name):
            found.append(Given(name, flag, value))
        for prefix, flag in (("MEALKIT_INPUT_", "--input"), ("MEALKIT_SET_", "--set")):
            if name.startswith(prefix):
                found.append(Given(name, flag, f"{name.removeprefix(prefix)}={value}"))
    valued = {setting.flag for setting in SETTINGS if setting.metavar} | {"--config"}
    rest = list(arguments)
    while rest:
        flag, equals, value = rest.pop(0).partition("=")
        if flag == "--":
            break
        if flag in valued and (equals or rest):
            found.append(Given(flag, flag, value if equals else rest.pop(0)))
    return [one for one in found if one.value]


def check_paths(mode: str, settings: Iterable[Given], claims: Sequence[Claim]) -> None:
    """See that every path lies in a volume, and every output in one that can be written.

    Raises:
        UsageError: one does not.
    """
    uses = path_options(mode)
    for given in settings:
        use, value = uses.get(given.flag), given.value
        if use is None:
            continue
        if given.flag == "--input" and (match := NAMED.fullmatch(value)):
            value = match[2]
        path = local_path(value)
        if path is None:
            continue
        claim = _claim_of(path, claims)
        if claim is None:
            raise UsageError(
                f"a cluster does not see this machine's {path}",
                where=given.where,
                hint="name a URI, such as s3://bucket/folder; or mount a claim with --volume CLAIM:/data, and name a "
                "path below /data",
            )
        if claim.read_only and use != READ:
            raise UsageError(
                f"{path} is written, but the volume {claim.name} is mounted read-only",
                where=given.where,
                hint=f"write --volume {claim.name}:{claim.path}, without :ro",
            )


def _claim_of(path: str, claims: Sequence[Claim]) -> Claim | None:
    """The volume that an absolute path lies in: the innermost."""
    path = posixpath.normpath(path)
    holding = [claim for claim in claims if path == claim.path or path.startswith(claim.path + "/")]
    return max(holding, key=lambda claim: len(claim.path), default=None)


def check_secrets(
    spec: RecipeSpec,
    arguments: Sequence[str],
    settings: Iterable[Given],
    env: Mapping[str, str],
    environment: Mapping[str, str],
) -> None:
    """See that no secret would stand in a manifest, which everybody with access to the namespace may read.

    Refused are values that the recipe declares to be secret, variables whose name says so, passwords and signatures in
    URLs, and what this machine's own variables hold in trust.

    Raises:
        UsageError: there is one; it is not told.
    """
    redactor = Redactor.of_environment(env)
    redactor.hide_environment({name: value for name, value in environment.items() if len(value) >= _LONG_ENOUGH})
    declared = {name.lower() for name in secret_names(spec)}
    for given in settings:
        name = given.value.partition("=")[0]
        if given.flag == "--set" and name.lower() in declared:
            raise _secret(f"the recipe declares its setting {name!r} to be secret", given.where, f"MEALKIT_SET_{name}")
    for name, value in env.items():
        telling = says_secret(name) and not name.startswith("MEALKIT_")
        if value and (telling or redactor.text(value) != value):
            raise _secret("the variable looks like a secret", f"--env {name}", name)
    flags = {setting.flag: setting.env for setting in SETTINGS}
    before = ""
    for argument in arguments:
        if redactor.text(argument) != argument:
            flag = argument.partition("=")[0] if argument.startswith("--") else before
            raise _secret("the argument looks like a secret, or holds one", flag, flags.get(flag, "MEALKIT_…"))
        before = argument if argument.startswith("--") else ""


def _secret(message: str, where: str, variable: str) -> UsageError:
    return UsageError(
        f"{message}; it would stand in the manifest for all to read",
        where=where or None,
        hint=f"put it into a Secret as the variable {variable}, and name the Secret: --env-from SECRET",
    )


def check_texts(texts: Iterable[str]) -> None:
    """See that all can stand in YAML, and in a process' arguments.

    Raises:
        UsageError: one cannot.
    """
    for text in texts:
        if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
            raise UsageError(
                f"not a text in UTF-8: {text!r}", hint="a manifest holds nothing else; rename the file or the value"
            )
