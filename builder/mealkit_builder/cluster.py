"""A run on a Kubernetes cluster, planned: its name, what it is given and needs, all of it checked; no I/O."""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mealkit.errors import UsageError
from mealkit_runtime.setting import DESCRIBE, RUNS, SCORE, TRAIN

from .assembly import PACKAGES_LABEL
from .cluster_check import Claim, Given, check_paths, check_secrets, check_texts, given_settings
from .container import RunOptions
from .quantity import cpu_quantity, gpu_quantity, memory_quantity
from .reference import Reference, parse_location
from .remote import RemoteImage

LONGEST_NAME = 53
"""A Job's name: with ``-scheduler`` or ``-99999`` behind it, it is a DNS label of at most 63 characters."""

GPU = "nvidia.com/gpu"

_USER = 65532
"""Who runs an image whose own user is root, or a name: everybody may read what mealkit packs."""

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
_SUBDOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
_VARIABLE = re.compile(r"[A-Za-z_.-][A-Za-z0-9_.-]*\Z")
_ID = re.compile(r"(\d{1,10})(?::(\d{1,10}))?\Z")
_SHARD = re.compile(r"auto/(\d{1,5})\Z")
_TAKEN = ("/tmp", "/dev", "/proc", "/sys", "/opt/mealkit", "/etc", "/usr", "/bin", "/sbin", "/lib", "/lib64")  # noqa: S108
"""Folders that a volume may not hide."""


@dataclass(frozen=True)
class ClusterOptions:
    """What a cluster is asked for beside the limits of :class:`~mealkit_builder.container.RunOptions`.

    Attributes:
        namespace: None: the one that ``kubectl`` is set to.
        claims: Storage to mount.
        env_from: Secrets whose keys become variables.
        service_account: For an identity at a cloud; no token for Kubernetes' own API is mounted.
        pull_secrets: Secrets to pull the image with.
        parallelism: How many shards at once; None: all.
        dask_workers: How many pods work for the run; None: it runs in one pod.
        retries: How often a pod (of each shard, of each worker) is replaced after a passing fault; None: three times, a
            Dask worker's once.
        deadline: Seconds after which the run is ended; None: never.
    """

    namespace: str | None = None
    claims: tuple[Claim, ...] = ()
    env_from: tuple[str, ...] = ()
    service_account: str | None = None
    pull_secrets: tuple[str, ...] = ()
    parallelism: int | None = None
    dask_workers: int | None = None
    retries: int | None = None
    deadline: int | None = None


@dataclass(frozen=True)
class ClusterRun:
    """All that the manifests of a run tell.

    Attributes:
        name: Of the Job; a DNS label.
        url: The image by digest.
        recipe: Its name, as a label's value.
        version: Its version, as a label's value.
        mode: What the image is asked to do.
        arguments: The mode's.
        run_id: As given; None: the Job's name.
        env: Variables as given.
        user: User and group of all processes.
        requests: What a pod needs, in Kubernetes' quantities: ``cpu``, ``memory`` and GPUs.
        limits: What it may not exceed.
        shm: The size of ``/dev/shm``.
        nodes: The labels of nodes that can run the image; empty: it has an image for each.
        shards: How many shards; None: it is no sharded run.
        options: What else was asked for.
    """

    name: str
    url: str
    recipe: str
    version: str
    mode: str
    arguments: tuple[str, ...]
    run_id: str | None
    env: Mapping[str, str]
    user: tuple[int, int]
    requests: Mapping[str, str]
    limits: Mapping[str, str]
    shm: str
    nodes: Mapping[str, str] = field(default_factory=dict)
    shards: int | None = None
    options: ClusterOptions = field(default_factory=ClusterOptions)


def plan_run(
    image: RemoteImage,
    mode: str,
    arguments: Sequence[str],
    run: RunOptions,
    options: ClusterOptions,
    environment: Mapping[str, str],
) -> ClusterRun:
    """Check what a run on a cluster is asked for, and name it.

    The same image, mode, arguments and variables give the same name.

    Args:
        image: As the registry has it.
        mode: ``train``, ``evaluate``, ``score`` or ``describe``.
        arguments: The mode's; paths are those in the cluster's volumes.
        run: ``user``, ``memory``, ``cpus``, ``gpus``, ``env`` and ``shm_size`` count.
        options: What else is asked for.
        environment: This machine's, whose secrets must not get into a manifest.

    Raises:
        UsageError: a cluster could not do it, or a secret would be written down.
    """
    if mode not in (*RUNS, DESCRIBE):
        raise UsageError(f"a cluster runs no {mode!r}", hint=f"run {', '.join(RUNS)} or {DESCRIBE}")
    if not isinstance(parse_location(image.url), Reference):
        raise UsageError(
            "a cluster pulls images from a registry only",
            where=image.url,
            hint="copy it to one: mealkit push URL host/repository, and name it there",
        )
    spec = image.spec
    check_texts((*arguments, *run.env, *run.env.values()))
    settings = given_settings(arguments, run.env)
    _check_names(run, options)
    check_secrets(spec, arguments, settings, run.env, environment)
    check_paths(mode, settings, options.claims)
    run_id = _last(settings, "--run-id")
    shards = _shards(mode, settings, options)
    if options.dask_workers is not None:
        _check_dask(mode, settings, image)
    recipe = re.sub(r"[-_.]+", "-", spec.name).lower()
    what = json.dumps([image.url, mode, *arguments, sorted(run.env.items())])
    requests, limits = _resources(run, spec.resources)
    pulled = image.pulled
    platform = pulled.image.platform
    one = pulled.digest == pulled.manifest_digest  # else it is an index, and each node finds its own image
    return ClusterRun(
        name=run_name(recipe, mode, run_id or hashlib.sha256(what.encode()).hexdigest()[:8]),
        url=image.url,
        recipe=_label_value(recipe),
        version=_label_value(spec.version),
        mode=mode,
        arguments=tuple(arguments),
        run_id=run_id,
        env=run.env,
        user=_user(run.user, pulled.image.config.user),
        requests=requests,
        limits=limits,
        shm=memory_quantity(run.shm_size, "--shm-size"),
        nodes={"kubernetes.io/os": platform.os, "kubernetes.io/arch": platform.architecture} if one else {},
        shards=shards,
        options=options,
    )


def run_name(recipe: str, mode: str, mark: str) -> str:
    """A Job's name: ``RECIPE-MODE-MARK``; where that is no DNS label, changed and cut, with a digest behind it."""
    wanted = f"{recipe}-{mode}-{mark}"
    name = re.sub(r"[^a-z0-9]+", "-", wanted.lower()).strip("-")
    if not name[:1].isalpha():  # a Service's name has to begin so (RFC 1035)
        name = f"run-{name}"
    if name == wanted and len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(wanted.encode()).hexdigest()[:8]
    return f"{name[: LONGEST_NAME - 9].rstrip('-')}-{digest}"


def parse_claim(text: str) -> Claim:
    """``CLAIM:/path[:ro]``.

    Raises:
        UsageError: it is not that, or the path is one that the image needs.
    """
    name, _, rest = text.partition(":")
    path = rest.removesuffix(":ro")
    hint = "write CLAIM:/path, or CLAIM:/path:ro to read only"
    if not _SUBDOMAIN.match(name) or not path.startswith("/") or ":" in path:
        raise UsageError(f"not a claim and a path: {text!r}", where="--volume", hint=hint)
    path = "/" + posixpath.normpath(path).strip("/")
    if any(f"{path}/".startswith(f"{one}/") or f"{one}/".startswith(f"{path.rstrip('/')}/") for one in _TAKEN):
        raise UsageError(f"{path} is the image's own", where="--volume", hint="mount it elsewhere, such as at /data")
    return Claim(name, path, read_only=rest.endswith(":ro"))


def _check_names(run: RunOptions, options: ClusterOptions) -> None:
    if options.namespace is not None and not _LABEL.match(options.namespace):
        raise UsageError(f"not a namespace: {options.namespace!r}", where="--namespace", hint="kubectl get namespaces")
    accounts = () if options.service_account is None else (options.service_account,)
    for where, kind, names in (
        ("--env-from", "Secret", options.env_from),
        ("--pull-secret", "Secret", options.pull_secrets),
        ("--service-account", "ServiceAccount", accounts),
    ):
        for name in names:
            if not _SUBDOMAIN.match(name):
                hint = f"kubectl get {kind.lower()}s"
                raise UsageError(f"not the name of a {kind}: {name!r}", where=where, hint=hint)
    for name in run.env:
        if not _VARIABLE.match(name):
            raise UsageError(
                f"not the name of a variable: {name!r}", where="--env", hint="use letters, digits, '_', '.' and '-'"
            )
    paths = [claim.path for claim in options.claims]
    if twice := {path for path in paths if paths.count(path) > 1}:
        raise UsageError(f"two volumes at {min(twice)}", where="--volume", hint="mount each at a path of its own")


def _last(settings: Sequence[Given], flag: str) -> str | None:
    return next((one.value for one in reversed(settings) if one.flag == flag), None)


def _shards(mode: str, settings: Sequence[Given], options: ClusterOptions) -> int | None:
    """How many shards the run has, if it is scored so."""
    shard = _last(settings, "--shard") if mode == SCORE else None
    if shard is None:
        if options.parallelism is not None:
            raise UsageError("only shards are many at once", where="--parallelism", hint="score with --shard auto/N")
        return None
    match = _SHARD.match(shard)
    count = int(match[1]) if match else 0
    if count < 1:
        raise UsageError(f"a Job has all shards, not {shard!r}", where="--shard", hint="write auto/N, such as auto/8")
    if options.parallelism is not None and options.parallelism > count:
        raise UsageError(f"there are {count} shards only", where="--parallelism", hint=f"write at most {count}")
    return count


def _check_dask(mode: str, settings: Sequence[Given], image: RemoteImage) -> None:
    if mode not in (TRAIN, SCORE):
        raise UsageError(f"Dask workers do not {mode}", where="--dask-workers", hint=f"they {TRAIN} and {SCORE}")
    for flag, hint in (
        ("--engine", "the run's own scheduler is named for it"),
        ("--shard", "take one of the two"),
        ("--workers", "--cpus N gives each worker N processes"),
        ("--trial-workers", "each worker tries one set of hyperparameters at a time"),
    ):
        if _last(settings, flag) is not None:
            raise UsageError(f"{flag} does not go with --dask-workers", where=flag, hint=hint)
    packages = image.pulled.image.config.label_map.get(PACKAGES_LABEL, "").split()
    if packages and not any(package.startswith("distributed==") for package in packages):
        hint = 'add "distributed" to the recipe\'s dependencies, and build it again'
        raise UsageError("the image has no Dask", where=image.url, hint=hint)


def _user(wanted: str | None, image: str) -> tuple[int, int]:
    match = _ID.match(wanted if wanted is not None else image)
    user = int(match[1]) if match else 0
    if user == 0 and wanted is None:
        return _USER, _USER
    if match is None or user == 0:
        hint = "write UID:GID, such as 1000:1000, and not root"
        raise UsageError(f"not a user for a cluster: {wanted!r}", where="--user", hint=hint)
    return user, int(match[2] or user)


def _resources(run: RunOptions, declared: Mapping[str, object]) -> tuple[dict[str, str], dict[str, str]]:
    """What a pod requests, and its limits: an option is both, what the recipe declares is a request only."""
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}
    for name, option, value, quantity in (
        ("cpu", "--cpus", run.cpus, cpu_quantity),
        ("memory", "--memory", run.memory, memory_quantity),
        ("gpu", "--gpus", run.gpus, gpu_quantity),
    ):
        key = GPU if name == "gpu" else name
        if value is not None:
            requests[key] = limits[key] = quantity(value, option)
        elif declared.get(name):
            requests[key] = quantity(declared[name], f"the recipe's resources: {name} ({option} overrides it)")
            if name == "gpu":  # Kubernetes wants both alike
                limits[key] = requests[key]
    return requests, limits


def _label_value(text: str) -> str:
    """A text as the value of a label: at most 63 letters, digits, dots, dashes and underscores."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:63].strip("-._")
