"""Runs an image in a container of the local engine: as the calling user, closed off, with the run's files mounted."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from mealkit.errors import UsageError

from .engine import connect, engine_errors
from .engine_load import ensure_image
from .mounts import Mount, make_outputs, plan_mounts
from .reference import parse_location

if TYPE_CHECKING:
    from docker import DockerClient

LABEL = "io.mealkit.run"


@dataclass(frozen=True)
class RunOptions:
    """How a run is closed off.

    Attributes:
        user: ``UID:GID``; None: the calling user, so that outputs are theirs.
        network: ``none``, ``bridge``, ``host`` or a network of the engine.
        memory: Such as ``2g``; None: no limit.
        cpus: Such as ``1.5``; None: no limit.
        env: Further environment variables.
        shm_size: Of ``/dev/shm``, which worker processes share data through.
        tmp_size: Of ``/tmp``, which is in memory; None: half of it.
        gpus: ``all``, how many, or ``device=ID,…``; None: none.
        grace: Seconds between the request to stop and the kill.
    """

    user: str | None = None
    network: str = "none"
    memory: str | None = None
    cpus: float | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    shm_size: str = "256m"
    tmp_size: str | None = None
    gpus: str | None = None
    grace: int = 30


def run_image(
    url: str,
    mode: str,
    arguments: Sequence[str],
    options: RunOptions | None = None,
    *,
    environment: Mapping[str, str] = os.environ,
    report: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> int:
    """Run a mode of an image and return its exit status; its output streams to ours.

    The root is read-only, ``/tmp`` is in memory, no capability is left, and there is no network unless asked for.
    SIGTERM and Ctrl-C stop the container, a second one kills it; it is removed in any case.

    Args:
        url: An image: ``host/repo@sha256:…``, ``oci:DIR@sha256:…`` or ``docker:NAME``.
        mode: ``train``, ``evaluate``, ``score``, ``describe`` …
        arguments: The mode's; paths are those of this machine.
        options: How it is closed off.
        environment: Where the engine's address comes from.
        report: Told of pulling and loading.

    Raises:
        EngineError: no engine answers, or it fails.
        NotFoundError: there is no such image.
        UnreadableDataError: an input is not there.
        StorageError: an output folder cannot be made.
    """
    options = options or RunOptions()
    location = parse_location(url)
    mounted = plan_mounts(mode, arguments, Path.cwd())
    client = connect(environment)
    try:
        image = ensure_image(client, location, report)
        make_outputs(mounted.mounts)
        with engine_errors("the engine cannot run the image", url):
            return _run(client, image, url, [mode, *mounted.arguments], mounted.mounts, options, report)
    finally:
        client.close()


def _run(
    client: DockerClient,
    image: str,
    url: str,
    command: list[str],
    mounts: Sequence[Mount],
    options: RunOptions,
    report: Callable[[str], None],
) -> int:
    api: Any = client.api  # types-docker leaves many of its methods untyped
    terminal = sys.stdout.isatty() and sys.stderr.isatty()
    created = api.create_container(
        image, command, user=_user(api, options), tty=terminal, labels={LABEL: url},
        environment={"MEALKIT_IMAGE": url, **options.env}, host_config=_host_config(api, mounts, options),
    )["Id"]  # fmt: skip
    try:
        # Attached before it starts, so that its first line is not lost.
        with _attached(api, created) as output, _stopping(api, created, options.grace):
            api.start(created)
            if terminal:
                _tell_size(api, created)
            _copy(output, terminal)
            status = int(api.wait(created)["StatusCode"])
        if status == 137 and api.inspect_container(created)["State"].get("OOMKilled"):
            report(f"the container was killed: it used more memory than {options.memory or 'the machine has'}")
        return status
    finally:
        with contextlib.suppress(Exception):  # what failed before says more; a container of a dead engine is gone
            api.remove_container(created, v=True, force=True)


def _host_config(api: Any, mounts: Sequence[Mount], options: RunOptions) -> Any:
    from docker.types import Mount as EngineMount

    size = f",size={options.tmp_size}" if options.tmp_size else ""
    return api.create_host_config(
        # Mounts, not binds: for a bind of a missing path the engine makes a folder that belongs to root.
        mounts=[EngineMount(one.target, str(one.source), type="bind", read_only=one.read_only) for one in mounts],
        network_mode=options.network,
        read_only=True,
        tmpfs={"/tmp": f"mode=1777{size}"},  # noqa: S108
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        shm_size=options.shm_size,
        mem_limit=options.memory,
        # Without this a container may swap as much again.
        memswap_limit=options.memory,
        nano_cpus=int(options.cpus * 1e9) if options.cpus else None,
        device_requests=_gpus(options.gpus),
        init=False,  # the runtime handles SIGTERM as process 1 itself
    )


def _gpus(wanted: str | None) -> list[Any] | None:
    """What ``docker run --gpus`` asks for.

    Raises:
        UsageError: it is neither ``all`` nor a number nor devices.
    """
    if wanted is None:
        return None
    from docker.types import DeviceRequest

    if wanted.startswith("device="):
        return [DeviceRequest(device_ids=wanted.removeprefix("device=").split(","), capabilities=[["gpu"]])]
    if wanted != "all" and not (wanted.isascii() and wanted.isdigit()):
        raise UsageError(f"not a number of GPUs: {wanted!r}", where="--gpus", hint="write all, a number, or device=0,1")
    return [DeviceRequest(count=-1 if wanted == "all" else int(wanted), capabilities=[["gpu"]])]


def _user(api: Any, options: RunOptions) -> str:
    if options.user:
        return options.user
    # A rootless engine maps its root to the user who runs it, and any other number to nobody we know.
    if "name=rootless" in (api.info().get("SecurityOptions") or ()):
        return "0:0"
    return f"{os.getuid()}:{os.getgid()}"


@contextlib.contextmanager
def _attached(api: Any, container: str) -> Iterator[Any]:
    """The container's output as a socket; closed for good, which the SDK's own stream is not."""
    output = api.attach_socket(container, params={"stdout": 1, "stderr": 1, "stream": 1, "logs": 1})
    try:
        yield output
    finally:
        response = getattr(output, "_response", None)  # the SDK hangs it there to keep the connection alive
        if response is not None:
            response.close()
        output.close()


def _copy(output: Any, terminal: bool) -> None:
    """Pass on what the container writes, as it comes."""
    from docker.utils.socket import STDERR, frames_iter

    frames: Iterator[tuple[int, bytes]] = frames_iter(output, tty=terminal)  # type: ignore[no-untyped-call]
    for number, data in frames:
        stream = sys.stderr if number == STDERR else sys.stdout
        # Captured streams (in notebooks, say) may have no buffer of bytes.
        if hasattr(stream, "buffer"):
            stream.flush()
            stream.buffer.write(data)
            stream.buffer.flush()
        else:
            stream.write(data.decode(errors="replace"))


def _tell_size(api: Any, container: str) -> None:
    with contextlib.suppress(Exception):  # a progress line of the wrong width is no reason to fail
        size = os.get_terminal_size()
        api.resize(container, size.lines, size.columns)


@contextlib.contextmanager
def _stopping(api: Any, container: str, grace: int) -> Iterator[None]:
    """While the block runs, the first SIGTERM or SIGINT stops the container and a second one kills it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []

    def end() -> None:
        with contextlib.suppress(Exception):  # it may have ended in the meantime
            if len(asked) > 1:
                api.kill(container)
            else:
                api.stop(container, timeout=grace)

    def handle(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        # Not here: the signal came in the middle of a read from the engine.
        threading.Thread(target=end, daemon=True).start()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
