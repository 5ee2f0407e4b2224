"""A registry that ends and starts again during an upload, with and without the secret that keeps its sessions."""

import contextlib
import io
import os
from pathlib import Path

import pytest
from faults.storage import Storage
from services import PROGRAM, free_port, missing, running_registry

from mealkit.errors import UnreachableError
from mealkit_builder.digest import digest_bytes
from mealkit_builder.reference import Reference
from mealkit_builder.registry import Repository
from mealkit_builder.transport import Transport

pytestmark = [
    pytest.mark.registry,
    pytest.mark.skipif(missing(PROGRAM) is not None, reason="docker-registry is not installed"),
]

DATA = os.urandom(3 << 20)
DIGEST = digest_bytes(DATA)


class Process:
    """A docker-registry that can be ended and started again on the same port."""

    def __init__(self, folder: Path, secret: str) -> None:
        self.folder, self.secret, self.host = folder, secret, f"127.0.0.1:{free_port()}"
        self._stack = contextlib.ExitStack()

    def start(self) -> None:
        self._stack.enter_context(running_registry(self.folder, host=self.host, http={"secret": self.secret}))

    def stop(self) -> None:
        self._stack.close()


@pytest.mark.parametrize("secret", ["kept", ""])
@pytest.mark.parametrize("when", ["before", "within"])
def test_an_upload_survives_a_restart(tmp_path: Path, secret: str, when: str) -> None:
    process = Process(tmp_path, secret)
    process.start()
    pauses: list[float] = []
    restarted: list[bool] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2 and when == "within":  # the second try meets nobody
            process.start()

    class Body(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > len(DATA) // 2 and not restarted:
                restarted.append(True)
                process.stop()
            return super().read(size)

    def read() -> io.BytesIO:
        if when == "before" and not restarted:  # the session is open, nothing was sent
            restarted.append(True)
            process.stop()
            process.start()
        return Body(DATA) if when == "within" else io.BytesIO(DATA)

    try:
        reference = Reference(process.host, "restart/x")
        target = Repository(reference, {}, transport=Transport(reference, {}, sleep=sleep, jitter=lambda: 0.5))
        assert target.put_blob(DIGEST, len(DATA), read) == "uploaded"
        assert restarted
        if when == "within":
            assert pauses[:2] == [0.2, 1.0]  # where nobody answers, the pauses are longer
        assert target.has_blob(DIGEST)
        target.close()
    finally:
        process.stop()
    assert Storage(tmp_path).has_blob("restart/x", DIGEST)


def test_a_registry_that_stays_away(tmp_path: Path) -> None:
    process = Process(tmp_path, "kept")
    process.start()
    try:
        reference, pauses = Reference(process.host, "restart/away"), []
        target = Repository(reference, {}, transport=Transport(reference, {}, sleep=pauses.append))
        assert not target.has_blob(DIGEST)
    finally:
        process.stop()
    with pytest.raises(UnreachableError, match=f"cannot look for {DIGEST}: no connection") as caught:
        target.has_blob(DIGEST)
    assert caught.value.exit_code == 75
    assert len(pauses) == 2
    target.close()
