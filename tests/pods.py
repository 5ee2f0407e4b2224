"""What a cluster does with a Job's manifest, done by the engine: the variables, arguments and limits of its pods."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mealkit_builder.engine_load import ensure_image
from mealkit_builder.reference import parse_location

JOB_NAME = "metadata.labels['batch.kubernetes.io/job-name']"


@dataclass(frozen=True)
class Ended:
    """A pod that ended."""

    status: int
    message: str
    output: str

    @property
    def told(self) -> dict[str, Any]:
        """The termination message as the run writes it."""
        told: dict[str, Any] = json.loads(self.message)
        return told


def expand(text: str, variables: Mapping[str, str]) -> str:
    """``$(NAME)`` replaced, ``$$`` made ``$``, as the API of Kubernetes documents it for ``args`` and ``env``."""
    made, rest = "", text
    while rest:
        before, dollar, rest = rest.partition("$")
        made += before
        name, closed, after = rest.removeprefix("(").partition(")")
        if dollar and rest.startswith("$"):
            made, rest = f"{made}$", rest[1:]
        elif dollar and rest.startswith("(") and closed:
            made, rest = made + variables.get(name, f"$({name})"), after
        else:
            made += dollar
    return made


def variables_of(container: Mapping[str, Any], job_name: str) -> dict[str, str]:
    """A container's variables; each may name those before it."""
    variables: dict[str, str] = {}
    for one in container["env"]:
        if "valueFrom" in one:
            assert one["valueFrom"] == {"fieldRef": {"fieldPath": JOB_NAME}}
            variables[one["name"]] = job_name
        else:
            variables[one["name"]] = expand(one["value"], variables)
    return variables


def arguments_of(container: Mapping[str, Any], job_name: str) -> list[str]:
    """What the image's entrypoint gets."""
    variables = variables_of(container, job_name)
    return [expand(argument, variables) for argument in container["args"]]


def create_container(
    engine: Any,
    job: Mapping[str, Any],
    container: Mapping[str, Any],
    claims: Mapping[str, Path],
    message: Path,
    *,
    network: str = "none",
    variables: Mapping[str, str] | None = None,
    **options: Any,
) -> str:
    """A container of a Job's pod, as the manifest says; gives its ID.

    Args:
        engine: A client of the engine.
        job: The manifest.
        container: Which container of its pod.
        claims: The folder behind each claim.
        message: The file for the termination message.
        network: Of the engine.
        variables: Further ones, which the cluster gives.
        options: Further ones of the host's configuration.
    """
    from docker.types import Mount

    name, pod = job["metadata"]["name"], job["spec"]["template"]["spec"]
    volumes = {one["name"]: one for one in pod["volumes"]}
    message.write_text("")
    message.chmod(0o666)
    mounts, tmpfs, shm = [Mount("/dev/termination-log", str(message), type="bind")], {}, "64m"
    for one in container["volumeMounts"]:
        volume = volumes[one["name"]]
        if "persistentVolumeClaim" in volume:
            source = str(claims[volume["persistentVolumeClaim"]["claimName"]])
            mounts.append(Mount(one["mountPath"], source, type="bind", read_only=one.get("readOnly", False)))
        elif one["mountPath"] == "/dev/shm":
            shm = volume["emptyDir"]["sizeLimit"].removesuffix("i")
        else:
            tmpfs[one["mountPath"]] = "mode=1777"
    context = {**pod["securityContext"], **container["securityContext"]}
    memory = container["resources"].get("limits", {}).get("memory")
    created = engine.api.create_container(
        ensure_image(engine, parse_location(container["image"]), lambda _: None),
        arguments_of(container, name),
        user=f"{context['runAsUser']}:{context['runAsGroup']}",
        environment={**variables_of(container, name), **(variables or {})},
        host_config=engine.api.create_host_config(
            mounts=mounts,
            tmpfs=tmpfs,
            shm_size=shm,
            network_mode=network,
            read_only=context["readOnlyRootFilesystem"],
            cap_drop=context["capabilities"]["drop"],
            security_opt=[] if context["allowPrivilegeEscalation"] else ["no-new-privileges"],
            group_add=[str(context["fsGroup"])],
            mem_limit=memory and memory.removesuffix("i"),
            **options,
        ),
    )
    return str(created["Id"])


def ended(engine: Any, container: str, message: Path) -> Ended:
    """Wait for a container's end."""
    status = int(engine.api.wait(container, timeout=120)["StatusCode"])
    return Ended(status, message.read_text(), engine.api.logs(container).decode())


def run_pod(engine: Any, job: Mapping[str, Any], index: int, claims: Mapping[str, Path], folder: Path) -> Ended:
    """Run the pod of one index of a Job, and wait for its end; the message goes to a file in ``folder``."""
    (container,) = job["spec"]["template"]["spec"]["containers"]
    message = folder / f"{job['metadata']['name']}-{index}"
    variables = {"JOB_COMPLETION_INDEX": str(index)}
    created = create_container(engine, job, container, claims, message, variables=variables)
    try:
        engine.api.start(created)
        return ended(engine, created, message)
    finally:
        engine.api.remove_container(created, v=True, force=True)
