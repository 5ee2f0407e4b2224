"""BuildKit, through the ``docker`` program: what the docker SDK cannot ask for, a build with secrets."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from mealkit.errors import BuildError, EngineError, UsageError, storage_error

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")
_SAID_LINES = 20


def parse_secrets(texts: Sequence[str], environment: Mapping[str, str]) -> dict[str, bytes]:
    """``id=NAME,src=FILE`` or ``id=NAME,env=VARIABLE`` (or ``id=NAME``: of the variable NAME), as docker has it.

    Raises:
        UsageError: it is none of these, or the file or variable is not there; no value is ever told.
    """
    secrets: dict[str, bytes] = {}
    for text in texts:
        parts = dict(part.partition("=")[::2] for part in text.split(","))
        name = parts.pop("id", "")
        if not _ID.match(name) or len(parts) > 1 or set(parts) - {"src", "source", "env"}:
            raise UsageError("not a secret", where="--secret", hint="write id=NAME,src=FILE or id=NAME,env=VARIABLE")
        way, value = parts.popitem() if parts else ("env", name)
        if way == "env":
            if value not in environment:
                raise UsageError(f"{value} is not set", where=f"--secret id={name}", hint=f"export {value}")
            secrets[name] = environment[value].encode()
        else:
            try:
                secrets[name] = Path(value).read_bytes()
            except FileNotFoundError:
                raise UsageError("there is no such file", where=value, hint="mend --secret") from None
            except OSError as error:
                raise storage_error(error, "cannot read a secret", Path(value)) from error
    return secrets


def build_with_buildkit(
    context: Iterable[bytes],
    secrets: Mapping[str, bytes],
    environment: Mapping[str, str],
    address: str,
    *,
    title: str,
    platform: str | None = None,
    report: Callable[[str], None] = lambda line: None,
    use_cache: bool = True,
) -> str:
    """Build a context with BuildKit; returns the image's ID. Secrets are mounted for single steps, and never stored.

    Args:
        context: A tar with the ``Dockerfile``.
        secrets: Content by the ID that ``RUN --mount=type=secret,id=…`` names.
        environment: Where the ``docker`` program is looked for.
        address: The engine's.
        title: What is built, for errors.
        platform: Such as ``linux/arm64``.
        report: Told BuildKit's lines.
        use_cache: Whether steps that BuildKit ran before are taken from its cache.

    Raises:
        BuildError: a step failed; the hint has its last lines.
        EngineError: no ``docker`` program here has BuildKit.
    """
    with tempfile.TemporaryDirectory(prefix="mealkit-build-") as folder:  # mode 0700, as are the files in it 0600
        arguments: list[str] = []
        for number, (name, value) in enumerate(secrets.items()):
            path = Path(folder) / str(number)
            path.touch(0o600)
            path.write_bytes(value)
            arguments += ["--secret", f"id={name},src={path}"]
        identity = Path(folder) / "iid"
        around = {**environment, "DOCKER_BUILDKIT": "1", "DOCKER_HOST": address, "BUILDKIT_PROGRESS": "plain"}
        command = [_program(around), "build", "--iidfile", str(identity), *arguments]
        command += ["--platform", platform] if platform else []
        command += [] if use_cache else ["--no-cache"]
        said = _run([*command, "-"], around, context, report, [value for value in secrets.values() if value])
        if said is not None:
            raise BuildError("a step of the Dockerfile failed", where=title, hint="it said:\n" + "\n".join(said))
        return identity.read_text(encoding="utf-8").strip()


def _run(
    command: list[str],
    environment: Mapping[str, str],
    context: Iterable[bytes],
    report: Callable[[str], None],
    secrets: list[bytes],
) -> list[str] | None:
    """None when it worked, else its last lines, without any secret that a step has printed."""
    said: list[str] = []
    process = subprocess.Popen(
        command, env=dict(environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdin is not None
    assert process.stdout is not None
    writer = threading.Thread(target=_feed, args=(process.stdin, context), daemon=True)
    writer.start()
    try:
        for raw in process.stdout:
            for secret in secrets:
                raw = raw.replace(secret.strip() or secret, b"***")
            text = raw.decode(errors="replace").rstrip()
            if text:
                said = [*said, text][-_SAID_LINES:]
                report(text)
        return None if process.wait() == 0 else said
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()
        process.stdout.close()
        writer.join()


def _feed(pipe: IO[bytes], context: Iterable[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError), pipe:
        for piece in context:
            pipe.write(piece)


def _program(environment: Mapping[str, str]) -> str:
    """The first ``docker`` program whose ``build`` takes secrets."""
    for program in _candidates(environment.get("PATH", os.defpath)):
        asked = subprocess.run(
            [program, "build", "--help"], env=dict(environment), capture_output=True, text=True, timeout=60, check=False
        )
        if "--secret" in asked.stdout:
            return program
    raise EngineError(
        "no docker program here has BuildKit, which build secrets need",
        where="--secret",
        hint="install Docker's command line with its buildx plugin",
    )


def _candidates(path: str) -> Iterator[str]:
    for folder in dict.fromkeys(path.split(os.pathsep)):
        found = shutil.which("docker", path=folder)
        if found:
            yield found
