"""The edge between a run and its worker processes: messages over a socket, tables in shared memory.

A message is a pickle, and may carry one file descriptor. A table is written as an Arrow stream into memory that has no
name (``memfd``), and only its descriptor is sent: the receiver maps the same pages, and nothing is copied again. Such
memory needs no ``/dev/shm``, which is tiny in containers, and is gone when the last process that holds it is.
"""

from __future__ import annotations

import os
import pickle
import socket
import struct
import tempfile
from typing import Any

_HEADER = struct.Struct("!I")
_DESCRIPTOR = struct.Struct("@i")
_ROOM = socket.CMSG_SPACE(_DESCRIPTOR.size)
_FLAGS = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class Channel:
    """One end of a socket; only processes that the run itself started hold the other end."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def send(self, value: object, descriptor: int | None = None) -> None:
        """Send a value; the descriptor is the receiver's own copy.

        Raises:
            OSError: nobody listens any more.
        """
        data = pickle.dumps(value, protocol=5)
        socket.send_fds(self._socket, [_HEADER.pack(len(data))], [] if descriptor is None else [descriptor])
        self._socket.sendall(data)

    def receive(self) -> tuple[Any, int | None]:
        """Wait for a value, and the descriptor that came with it.

        Raises:
            EOFError: the other end is closed, or its process is dead.
        """
        try:
            # Not socket.recv_fds: it forgets the flags.
            header, extra, _, _ = self._socket.recvmsg(_HEADER.size, _ROOM, _FLAGS)
            header += self._exactly(_HEADER.size - len(header)) if header else b""
            if not header:
                raise EOFError
            data = self._exactly(_HEADER.unpack(header)[0])
        except ConnectionError:
            raise EOFError from None
        descriptor = _DESCRIPTOR.unpack(extra[0][2])[0] if extra else None
        return pickle.loads(data), descriptor  # noqa: S301 (from a process of ours)

    def close(self) -> None:
        """Close this end; the other one reads the end of the messages."""
        self._socket.close()

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return bytes(data)


def pair() -> tuple[Channel, Channel]:
    """Two ends that are connected."""
    left, right = socket.socketpair()
    return Channel(left), Channel(right)


def share(table: Any) -> int:
    """A descriptor of memory that holds a table; whoever has it closes it."""
    import pyarrow as pa

    descriptor = _memory()
    try:
        with pa.OSFile(f"/dev/fd/{descriptor}", "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def shared(descriptor: int) -> Any:
    """The table that :func:`share` put there, without copying it; the descriptor is closed."""
    import pyarrow as pa

    try:
        with pa.memory_map(f"/dev/fd/{descriptor}", "r") as file, pa.ipc.open_stream(file) as stream:
            return stream.read_all()
    finally:
        os.close(descriptor)


def _memory() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("mealkit-table", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:  # macOS
        return os.dup(file.fileno())
