"""Downloads: checked, kept once, tried again when cut, and never half there."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mealkit.errors import AuthenticationError, MealkitError, StorageError, UnreachableError, WheelError
from mealkit_builder.download import Fetch
from mealkit_builder.store import Store
from mealkit_builder.wheel import WheelFile

DATA = bytes(range(256)) * 4096  # 1 MiB: several chunks


class Index:
    """A package index that answers what it is told to, in order, then the file."""

    def __init__(self) -> None:
        self.answers: list[int | str] = []
        self.seen: list[tuple[str, str]] = []
        self.address = ""

    @contextmanager
    def serving(self) -> Iterator[Index]:
        index = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                index.seen.append((self.path, self.headers.get("Authorization") or ""))
                answer = index.answers.pop(0) if index.answers else 200
                status = answer if isinstance(answer, int) else 200
                body = DATA if status == 200 else b"no"
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if answer == "cut":
                    body, self.close_connection = body[: len(body) // 2], True
                self.wfile.write(body)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        self.address = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join(5)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Index().serving() as one:
        yield one


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def wheel(address: str, data: bytes = DATA, name: str = "spice") -> WheelFile:
    file = f"{name}-1.0-py3-none-any.whl"
    return WheelFile(name, "1.0", file, hashlib.sha256(data).hexdigest(), len(data), None, f"{address}/{file}")


def fetched(one: WheelFile, store: Store, progress: Callable[[WheelFile, int], None] | None = None) -> WheelFile:
    fetch = Fetch([one], store, progress)
    try:
        return fetch.get(one)
    finally:
        fetch.close()


def left_over(store: Store) -> list[str]:
    return [path.name for path in store.root.rglob("*") if path.is_file()]


def test_a_wheel_is_fetched_once(index: Index, store: Store) -> None:
    one = wheel(index.address)
    moved: list[int] = []
    found = fetched(one, store, lambda _, size: moved.append(size))
    assert found.path is not None
    assert found.path.read_bytes() == DATA
    assert sum(moved) == len(DATA)
    again = Fetch([one], store)
    assert (again.downloaded, again.total) == (0, 0)
    assert again.get(one) == found
    assert len(index.seen) == 1


def test_many_wheels_come_side_by_side(index: Index, store: Store) -> None:
    wheels = [replace(wheel(index.address), name=f"w{n}") for n in range(4)]
    fetch = Fetch(wheels, store)
    assert fetch.downloaded == 4
    assert all(fetch.get(one).path for one in wheels)
    fetch.close()


def test_a_wheel_that_is_not_the_locked_one_is_refused(index: Index, store: Store) -> None:
    one = wheel(index.address, DATA[:-1] + b"?")
    with pytest.raises(WheelError, match="sha256 differs") as caught:
        fetched(one, store)
    assert one.filename in caught.value.message
    assert caught.value.hint
    assert left_over(store) == []


def test_a_cut_body_is_asked_for_again(index: Index, store: Store) -> None:
    index.answers = ["cut", "cut"]
    moved: list[int] = []
    found = fetched(wheel(index.address), store, lambda _, size: moved.append(size))
    assert found.path is not None
    assert found.path.read_bytes() == DATA
    assert sum(moved) == len(DATA)
    assert len(index.seen) == 3


def test_a_body_that_is_always_cut_is_a_passing_fault(index: Index, store: Store) -> None:
    index.answers = ["cut"] * 9
    with pytest.raises(UnreachableError) as caught:
        fetched(wheel(index.address), store)
    assert caught.value.where == "127.0.0.1"
    assert caught.value.retryable
    assert len(index.seen) == 3
    assert left_over(store) == []


def test_a_busy_index_is_asked_again(index: Index, store: Store) -> None:
    index.answers = [503, 429]
    assert fetched(wheel(index.address), store).path
    assert len(index.seen) == 3


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (404, WheelError, 6),
        (410, WheelError, 6),
        (401, AuthenticationError, 7),
        (403, AuthenticationError, 7),
        (400, UnreachableError, 75),
    ],
)
def test_a_refusal_is_told(index: Index, store: Store, status: int, kind: type[MealkitError], code: int) -> None:
    index.answers = [status] * 9
    with pytest.raises(kind, match=f"127.0.0.1 answered {status}") as caught:
        fetched(wheel(index.address), store)
    assert caught.value.exit_code == code
    assert caught.value.where
    assert caught.value.hint
    assert left_over(store) == []


def test_an_index_that_does_not_answer_is_a_passing_fault(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(UnreachableError) as caught:
        fetched(wheel("http://127.0.0.1:1"), store)
    assert caught.value.where == "127.0.0.1"
    assert left_over(store) == []


def test_credentials_come_from_netrc(
    index: Index, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login ada password lovelace\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    fetched(wheel(index.address), store)
    assert index.seen[0][1].startswith("Basic ")


def test_a_proxy_of_the_environment_is_used(index: Index, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", index.address)
    fetched(wheel("http://index.invalid"), store)
    assert index.seen[0][0] == "http://index.invalid/spice-1.0-py3-none-any.whl"


def test_a_wheel_may_be_a_file(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "with blank"
    folder.mkdir()
    one = wheel(folder.as_uri())
    (folder / one.filename).write_bytes(DATA)
    assert fetched(one, store).path


def test_a_file_that_is_gone_is_told(store: Store, tmp_path: Path) -> None:
    one = wheel(tmp_path.as_uri())
    with pytest.raises(WheelError, match="is locked, but not there") as caught:
        fetched(one, store)
    assert caught.value.where == str(tmp_path / one.filename)
    (tmp_path / one.filename).mkdir()
    with pytest.raises(WheelError, match="cannot be read"):
        fetched(one, store)


def test_a_cache_that_cannot_be_written_is_told(index: Index, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the cache should be")
    with pytest.raises(StorageError, match="cannot write to mealkit's cache") as caught:
        fetched(wheel(index.address), Store(tmp_path / "cache"))
    assert str(tmp_path / "cache") in (caught.value.where or "")
