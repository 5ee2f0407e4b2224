"""Batches in object storage: a commit record that is put once decides what is visible. The store is a real server."""

from __future__ import annotations

import http.client
import http.server
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from batch_runs import begin, finish, save

from mealkit.errors import EmptyDataError, MealkitError, SettingsError, StorageError, UnreachableError, UsageError
from mealkit_runtime import file_system
from mealkit_runtime.batches import clean, find_batch, last_batch, list_batches, undo_batch, verify_batch
from mealkit_runtime.cloud_shelf import CloudShelf
from mealkit_runtime.dataset import locate, pieces
from mealkit_runtime.schema import schema_of


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """moto's server, which answers conditional requests as S3 does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                request = urllib.request.Request(f"{url}/shop", method="PUT")
                urllib.request.urlopen(request, timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def dataset(endpoint: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    file_system._file_system.cache_clear()  # it was made once, with what the environment said
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    return f"s3://shop/{request.node.name}"


def test_of_two_runs_the_first_wins(dataset: str) -> None:
    first, second = begin(dataset, "same"), begin(dataset, "same")
    assert not finish(first, [1]).existed
    assert finish(second, [2]).existed
    assert save(dataset, "same", [3]).existed
    shelf = CloudShelf(dataset)
    names = shelf.names("")
    assert [name for name in names if not name.endswith(".parquet")] == [
        "_mealkit/commits/same.json",
        "_mealkit/log.json",
    ]
    assert len(names) == 3, "the slower one has removed its file"
    record = find_batch(dataset, "same")
    assert record.rows == 1
    assert verify_batch(dataset, record) == []
    shelf.remove(record.path(record.parts[0]))
    assert [fault.problem for fault in verify_batch(dataset, record)] == ["it is missing"]


def test_shards_and_undoing(dataset: str) -> None:
    assert save(dataset, "run", [1], "1/2").waiting == 1
    assert list_batches(dataset) == []
    assert save(dataset, "run", [9], "1/2").existed
    assert save(dataset, "run", [0, 0], "0/2").waiting == 0
    assert save(dataset, "run", [9], "0/2").existed
    save(dataset, "later", [5])
    assert [(one.batch_id, one.rows) for one in list_batches(dataset)] == [("run", 3), ("later", 1)]
    undo_batch(dataset, last_batch(dataset))
    undo_batch(dataset, find_batch(dataset, "run"))
    assert CloudShelf(dataset).names("") == ["_mealkit/log.json"]
    assert list_batches(dataset) == []
    assert not save(dataset, "run", [5]).existed


def test_what_was_forgotten_is_found(dataset: str) -> None:
    save(dataset, "one")
    save(dataset, "run", [1], "0/2")
    assert clean(dataset, older_than=3600) == []
    assert [(one.batch_id, one.what) for one in clean(dataset, older_than=0)] == [("run", "unfinished shards")]
    assert len(CloudShelf(dataset).names("")) == 3
    with pytest.raises(MealkitError, match="no dataset"):
        list_batches(dataset + "-none")


def test_our_readers_see_what_is_committed(dataset: str) -> None:
    def rows() -> list[int]:
        tables = list(pieces(locate(dataset), schema_of(None), 100))
        return sorted(value for table in tables for value in table["x"].to_pylist())

    save(dataset, "run", [1], "0/2")
    assert any(name.startswith("batch_id=run/") for name in CloudShelf(dataset).names(""))
    with pytest.raises(EmptyDataError):
        locate(dataset)
    save(dataset, "one", [5, 6])
    assert rows() == [5, 6]
    save(dataset, "run", [2], "1/2")
    assert rows() == [1, 2, 5, 6]
    undo_batch(dataset, find_batch(dataset, "one"))
    assert rows() == [1, 2]


def test_a_file_that_was_removed_before_the_commit(dataset: str) -> None:
    """By a rule of the bucket, say: a batch without it would be one that nobody can read."""
    save(dataset, "run", [1], "0/2")
    shelf = CloudShelf(dataset)
    shelf.remove(next(name for name in shelf.names("batch_id=run")))
    with pytest.raises(StorageError, match="removed before the batch was committed") as told:
        save(dataset, "run", [2], "1/2")
    assert "clean --run-id" in str(told.value.hint)
    clean(dataset, older_than=1e9, batch_id="run")
    assert [save(dataset, "run", [index], f"{index}/2").waiting for index in (0, 1)] == [1, 0]
    assert verify_batch(dataset, find_batch(dataset, "run")) == []


@pytest.mark.parametrize("scheme", ["", "delta:"])
def test_a_store_that_overwrites_is_refused(
    dataset: str, endpoint: str, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    dataset = f"{scheme}{dataset.partition('[')[0]}-{scheme.strip(':')}"
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Forgetful) as server:
        server.real, server.lost, server.times = endpoint, "nothing", 0  # type: ignore[attr-defined]
        server.overwrites = True  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
        with pytest.raises(StorageError, match="overwrites a file although it is asked not to"):
            save(dataset, "run")
        server.shutdown()
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    shelf = CloudShelf(dataset.removeprefix("delta:"))
    assert not [*shelf.names("_delta_log"), *shelf.names("_mealkit/commits")]


def test_large_files_are_uploaded_in_pieces(dataset: str) -> None:
    shelf = CloudShelf(dataset)
    sink = shelf.sink("big")
    for number in range(24):
        sink.write(bytes([number]) * (1 << 20))
    assert shelf.read("big") is None, "nothing is visible before it is whole"
    sink.close()
    assert shelf.size("big") == 24 << 20
    given_up = shelf.sink("never")
    given_up.write(b"x" * (12 << 20))
    given_up.discard()
    assert shelf.names("") == ["big"]


def test_delta_tables_in_object_storage(dataset: str) -> None:
    import deltalake

    uri = f"delta:{dataset}"
    first, second = begin(uri, "same"), begin(uri, "same")
    assert not finish(first, [1]).existed
    assert finish(second, [2]).existed
    for index in (1, 0):
        save(dataset, "run", [index], f"{index}/2")
    assert len(deltalake.DeltaTable(dataset, storage_options={"AWS_ALLOW_HTTP": "true"}).file_uris()) == 3
    tables = list(pieces(locate(uri), schema_of(None), 100))
    assert sorted(value for table in tables for value in table["x"].to_pylist()) == [0, 1, 1]
    assert [one.batch_id for one in list_batches(dataset)] == ["same", "run"]
    assert verify_batch(uri, find_batch(uri, "run")) == []
    undo_batch(uri, find_batch(uri, "run"))
    assert [one.batch_id for one in list_batches(uri)] == ["same"]


def test_errors_are_told(dataset: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such bucket"):
        save("s3://nobody-made-this/x", "one")
    with pytest.raises(SettingsError, match="holds a user or a password"):
        save("s3://key:secret@shop/x", "one")
    with pytest.raises(SettingsError, match="cannot be"):
        save("nfs-of-mine://shop/x", "one")
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(UsageError, match="needs the package obstore"):
        save(dataset, "one")
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with pytest.raises(UsageError, match="need the package deltalake"):
        save(f"delta:{tmp_path}", "one")


def test_a_store_that_does_not_answer(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    with pytest.raises(UnreachableError, match="did not answer") as caught:
        save(dataset, "one")
    assert caught.value.exit_code == 75


class _Forgetful(http.server.BaseHTTPRequestHandler):
    """Passes requests on; of those whose path has ``lost`` in it, that many answers never arrive.

    With ``overwrites`` it is a store that does not know the condition under which a file is to be put.
    """

    server: Any

    def _pass_on(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        real = http.client.HTTPConnection(urlsplit(self.server.real).netloc, timeout=30)
        left = {"connection", *(("if-none-match",) if self.server.overwrites else ())}
        headers = {name: value for name, value in self.headers.items() if name.lower() not in left}
        real.request(self.command, self.path, data, headers)
        answer = real.getresponse()
        body = answer.read()
        real.close()
        if self.command == "PUT" and self.server.lost in self.path and self.server.times > 0 and answer.status < 300:
            self.server.times -= 1
            return  # the connection ends without a word
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "content-length", "date", "server"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("scheme", "lost"), [("", "_mealkit/commits/"), ("", "_mealkit/shards/"), ("delta:", "_delta_log/")]
)
@pytest.mark.parametrize("times", [1, 99])
def test_an_answer_to_a_commit_that_gets_lost(
    dataset: str, endpoint: str, monkeypatch: pytest.MonkeyPatch, scheme: str, lost: str, times: int
) -> None:
    dataset = f"{scheme}{dataset.partition('[')[0]}-{lost.strip('_/').replace('/', '-')}-{times}"
    shard = "1/2" if "shards" in lost else None
    save(dataset, "before", [1, 2])
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Forgetful) as server:
        server.real, server.lost, server.times = endpoint, lost, times  # type: ignore[attr-defined]
        server.overwrites = False  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
        try:
            save(dataset, "run", [3, 4, 5] if shard is None else [4, 5], shard)
        except MealkitError as error:
            told = error
            assert told.exit_code in (74, 75), told
        assert server.times < times  # type: ignore[attr-defined]
        server.shutdown()
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    if shard is None:
        assert save(dataset, "run", [3, 4, 5]).existed, "it was committed"
    else:
        assert save(dataset, "run", [4, 5], shard).waiting in (0, 1)
        assert save(dataset, "run", [3], "0/2").waiting == 0
    assert [(one.batch_id, one.rows) for one in list_batches(dataset)] == [("before", 2), ("run", 3)]
    assert verify_batch(dataset, find_batch(dataset, "run")) == []
    rows = [value for table in pieces(locate(dataset), schema_of(None), 9) for value in table["x"].to_pylist()]
    assert sorted(rows) == [1, 2, 3, 4, 5]
