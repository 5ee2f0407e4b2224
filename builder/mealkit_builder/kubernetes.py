"""Kubernetes manifests of a run, for clusters from 1.29 on and namespaces with the Pod security standard "restricted".

A plain run is a Job; ``--shard auto/N`` an Indexed Job, whose last pod commits the batch of all. With Dask workers:

.. code-block:: text

    Job NAME                 the run; its scheduler is a sidecar of the same pod, and so ends with it
    Service NAME-scheduler   leads workers to that pod
    Job NAME-workers         pods that join the scheduler, and end well when it is gone
    NetworkPolicy NAME       who reaches a scheduler or worker may run code there: only the run's own pods do

So all of it ends by itself. The price: a run whose pod is lost has lost its workers too, and is not tried again.
"""

from __future__ import annotations

from typing import Any

from mealkit.errors import RetryableError, Stopped

from .cluster import ClusterRun
from .quantity import whole_cores

Manifest = dict[str, Any]

RUN, WORKER, SCHEDULER = "run", "worker", "scheduler"
"""The containers; of the first two, also the components."""

MESSAGE_FILE = "/dev/termination-log"
"""Kubernetes' default; what stands in it is in the pod's status."""

_PORT, _HEALTH = 8786, 8787

# A pod that ended otherwise would do so again. 137: killed, as for want of memory on a crowded node; 255: its node
# restarted, and the container runtime does not know how it ended.
_RETRY = sorted((RetryableError.exit_code, 137, Stopped.exit_code, 255))
_RETRIES = 3
_GRACE = 30
_KEPT = 86_400
_PATIENCE = 900
"""Seconds that a run waits for a first worker: a cluster may have to get a node and pull the image."""


def manifests(run: ClusterRun) -> list[Manifest]:
    """The manifests, in the order in which they should be applied: nothing runs before what guards it."""
    if run.options.dask_workers is None:
        return [_job(run)]
    return [_network_policy(run), _service(run), _workers(run), _job_with_scheduler(run)]


def _job(run: ClusterRun) -> Manifest:
    options = run.options
    retries = _RETRIES if options.retries is None else options.retries
    times: Manifest = {"backoffLimit": retries}
    if run.shards is not None:
        times = {
            "completionMode": "Indexed",
            "completions": run.shards,
            "parallelism": options.parallelism or run.shards,
            "backoffLimitPerIndex": retries,
        }
    pod = _pod(run, _container(run, RUN, [run.mode, *run.arguments], _run_environment(run)))
    return _job_of(run, run.name, RUN, {**times, "podFailurePolicy": _failure_policy(RUN)}, pod)


def _job_with_scheduler(run: ClusterRun) -> Manifest:
    arguments = [run.mode, "--engine", _engine(run), *run.arguments]
    environment = _run_environment(run)
    if "MEALKIT_ENGINE_WAIT" not in run.env:
        environment.append({"name": "MEALKIT_ENGINE_WAIT", "value": str(_PATIENCE)})
    pod = _pod(run, _container(run, RUN, arguments, environment))
    pod["initContainers"] = [_scheduler(run)]
    # To its own scheduler the run needs no Service, which leads nowhere before all of the pod is ready.
    pod["hostAliases"] = [{"ip": "127.0.0.1", "hostnames": [_scheduler_name(run)]}]
    return _job_of(run, run.name, RUN, {"backoffLimit": 0}, pod)


def _workers(run: ClusterRun) -> Manifest:
    """Pods without number to be completed: when one ends well, the run is over, and none is replaced any more."""
    count, retries = run.options.dask_workers or 1, run.options.retries
    processes = whole_cores(run.requests.get("cpu", "1"))
    arguments = ["worker", "--engine", _engine(run), *(["--workers", str(processes)] if processes > 1 else [])]
    times = {
        "parallelism": count,
        "backoffLimit": count * (1 if retries is None else retries),
        "podFailurePolicy": _failure_policy(WORKER),
    }
    pod = _pod(run, _container(run, WORKER, arguments, _environment(run)))
    return _job_of(run, f"{run.name}-workers", WORKER, times, pod)


def _job_of(run: ClusterRun, name: str, component: str, times: Manifest, pod: Manifest) -> Manifest:
    deadline = run.options.deadline
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata(run, name, component),
        "spec": {
            **times,
            **({} if deadline is None else {"activeDeadlineSeconds": deadline}),
            "ttlSecondsAfterFinished": _KEPT,
            "template": {"metadata": _description(run, component), "spec": pod},
        },
    }


def _failure_policy(container: str) -> Manifest:
    """Which pods are replaced: those that were evicted (without being counted), and those with a passing fault."""
    return {
        "rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes": {"containerName": container, "operator": "NotIn", "values": _RETRY}},
        ]
    }


def _pod(run: ClusterRun, container: Manifest) -> Manifest:
    options = run.options
    user, group = run.user
    pod: Manifest = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": _GRACE,
        "automountServiceAccountToken": False,
        # Else each Service of the namespace is a variable, and one named mealkit-input would be a setting.
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": user,
            "runAsGroup": group,
            "fsGroup": group,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            # On the node's disk, not in memory: what is sorted on disk goes there.
            {"name": "tmp", "emptyDir": {}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": run.shm}},
            *_claims(run),
        ],
    }
    if options.service_account is not None:
        pod["serviceAccountName"] = options.service_account
    if options.pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in options.pull_secrets]
    if run.nodes:
        pod["nodeSelector"] = dict(run.nodes)
    return pod


def _claims(run: ClusterRun) -> list[Manifest]:
    """A volume for each claim; of one that is only read, the disk itself is attached so: several nodes may then."""
    claims = run.options.claims
    return [
        {
            "name": _volume_name(run, name),
            "persistentVolumeClaim": {
                "claimName": name,
                **({"readOnly": True} if all(one.read_only for one in claims if one.name == name) else {}),
            },
        }
        for name in dict.fromkeys(claim.name for claim in claims)
    ]


def _volume_name(run: ClusterRun, claim: str) -> str:
    """A claim's name may be longer than a volume's."""
    names = list(dict.fromkeys(one.name for one in run.options.claims))
    return f"claim-{names.index(claim)}"


def _container(run: ClusterRun, name: str, arguments: list[str], environment: list[Manifest]) -> Manifest:
    container: Manifest = {
        "name": name,
        "image": run.url,
        "args": [_literal(argument) for argument in arguments],
        "env": environment,
    }
    if run.options.env_from:
        container["envFrom"] = [{"secretRef": {"name": secret}} for secret in run.options.env_from]
    container["resources"] = {
        kind: dict(amounts) for kind, amounts in (("requests", run.requests), ("limits", run.limits)) if amounts
    }
    container |= _closed_off()
    container["volumeMounts"] += [
        {
            "name": _volume_name(run, claim.name),
            "mountPath": claim.path,
            **({"readOnly": True} if claim.read_only else {}),
        }
        for claim in run.options.claims
    ]
    return container


def _scheduler(run: ClusterRun) -> Manifest:
    """A sidecar: it is there before the run begins, and stopped when the run has ended, however it did."""
    return {
        "name": SCHEDULER,
        "image": run.url,
        "args": [SCHEDULER],
        "env": _environment(run),
        "restartPolicy": "Always",
        "ports": [{"name": "scheduler", "containerPort": _PORT}, {"name": "health", "containerPort": _HEALTH}],
        "startupProbe": {
            "httpGet": {"path": "/health", "port": "health"},
            "periodSeconds": 1,
            "timeoutSeconds": 5,
            "failureThreshold": 120,
        },
        "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}},
        **_closed_off(),
    }


def _closed_off() -> Manifest:
    """As ``mealkit run`` closes a container off; its end is told by the run itself, else by its last lines."""
    return {
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "shm", "mountPath": "/dev/shm"}],  # noqa: S108
    }


def _run_environment(run: ClusterRun) -> list[Manifest]:
    """The run learns from its pod which Job it is in: also of a CronJob, each of whose Jobs is a run of its own."""
    field = "metadata.labels['batch.kubernetes.io/job-name']"
    job: list[Manifest] = [{"name": "JOB_NAME", "valueFrom": {"fieldRef": {"fieldPath": field}}}]
    if run.run_id is None:
        job.append({"name": "MEALKIT_RUN_ID", "value": "$(JOB_NAME)"})
    told = {"name": "MEALKIT_TERMINATION_LOG", "value": MESSAGE_FILE}
    return [*_environment(run), *(one for one in (*job, told) if one["name"] not in run.env)]


def _environment(run: ClusterRun) -> list[Manifest]:
    variables = {"MEALKIT_IMAGE": run.url, **run.env}
    return [{"name": name, "value": _literal(value)} for name, value in variables.items()]


def _literal(text: str) -> str:
    """Kubernetes puts variables' values in place of ``$(NAME)``, and ``$`` in place of ``$$``."""
    return text.replace("$", "$$")


def _service(run: ClusterRun) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(run, _scheduler_name(run), SCHEDULER),
        "spec": {
            "selector": _selector(run) | {"app.kubernetes.io/component": RUN},
            "ports": [{"name": "scheduler", "port": _PORT, "targetPort": "scheduler"}],
        },
    }


def _network_policy(run: ClusterRun) -> Manifest:
    own = {"podSelector": {"matchLabels": _selector(run)}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(run, run.name, "network"),
        "spec": {**own, "policyTypes": ["Ingress"], "ingress": [{"from": [own]}]},
    }


def _scheduler_name(run: ClusterRun) -> str:
    return f"{run.name}-scheduler"


def _engine(run: ClusterRun) -> str:
    return f"dask://{_scheduler_name(run)}:{_PORT}"


def _selector(run: ClusterRun) -> Manifest:
    """What the pods of this run have, and no others."""
    return {"app.kubernetes.io/instance": run.name}


def _metadata(run: ClusterRun, name: str, component: str) -> Manifest:
    namespace = {} if run.options.namespace is None else {"namespace": run.options.namespace}
    return {"name": name, **namespace, **_description(run, component)}


def _description(run: ClusterRun, component: str) -> Manifest:
    return {
        "labels": {
            "app.kubernetes.io/name": run.recipe,
            "app.kubernetes.io/version": run.version,
            **_selector(run),
            "app.kubernetes.io/component": component,
            "app.kubernetes.io/managed-by": "mealkit",
            "io.mealkit/mode": run.mode,
        },
        "annotations": {"io.mealkit/image": run.url},
    }
