"""Datasets on other machines: a server that speaks S3, and a web server; lost, refused and missing ones are told."""

from __future__ import annotations

import gzip
import lzma
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from churn_runs import Runner
from deltalake import write_deltalake
from storage import KEYS, google_server, moto_server, refusing, web_server

from mealkit.errors import EmptyDataError, MealkitError, SettingsError, UnreachableError, UnreadableDataError
from mealkit_runtime import file_system
from mealkit_runtime.dataset import fingerprint, locate, read_table, row_count
from mealkit_runtime.file_system import redact, resolve
from mealkit_runtime.query import make_query
from mealkit_runtime.schema import schema_of

AWS = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION", "AWS_SKIP_SIGNATURE")


def forget() -> None:
    """File systems are made once for a process; these tests need others."""
    file_system._file_system.cache_clear()


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A bucket with the same rows in several formats, in folders."""
    before = dict(os.environ)
    for name in AWS:
        os.environ.pop(name, None)
    with moto_server() as endpoint:
        os.environ.update(KEYS, AWS_ENDPOINT_URL=endpoint, AWS_EC2_METADATA_DISABLED="true")
        forget()
        from pyarrow import fs

        found = fs.S3FileSystem(
            endpoint_override=endpoint.removeprefix("http://"), scheme="http", allow_bucket_creation=True
        )
        found.create_dir("shop")
        for year in (2025, 2026):
            table = pa.table({"n": range(year, year + 100), "x": ["a", "b"] * 50})
            with found.open_output_stream(f"shop/sales/year={year}/part.parquet") as sink:
                pq.write_table(table, sink, row_group_size=10)
        for name, data in (
            ("text/a.csv", b"n\n1\n2\n"), ("text/b.csv.gz", gzip.compress(b"n\n3\n")), ("text/sub/c.csv", b"n\n4\n"),
            ("odd/a[1].csv", b"n\n5\n"), ("odd/a b#c%20.csv", b"n\n6\n"), ("odd/a?b.csv", b"n\n7\n"),
            ("spark/x.csv/part-0.csv", b"n\n8\n"),
            ("text/_skip.csv", b"n\n9\n"), ("text/sub/.hid.csv", b"n\n9\n"), ("notes.txt", b"x"),
            ("cut.parquet", b"PAR1"),
        ):  # fmt: skip
            with found.open_output_stream(f"shop/{name}") as sink:
                sink.write(data)
        yield endpoint
    os.environ.clear()
    os.environ.update(before)
    forget()


def numbers(uri: str, **query: Any) -> list[int]:
    return list(read_table(locate(uri, make_query(**query)), schema_of(None))[0]["n"].to_pylist())


def test_files_folders_and_globs_of_a_bucket(s3: str) -> None:
    assert numbers("s3://shop/text/a.csv") == [1, 2]
    assert numbers("s3://shop/text") == numbers("s3a://shop/text/") == [1, 2, 3, 4]
    assert numbers("s3://shop/text/[!_]*.csv*") == [1, 2, 3]
    assert numbers("s3://shop/**/[bc].*") == [3, 4]
    odd = ("a[1]", "a b#c%20", "a?b")
    assert [numbers(f"s3://shop/odd/{name}.csv") for name in odd] == [[5], [6], [7]], "as they are called"
    with pytest.raises(EmptyDataError) as caught:
        locate("s3://shop/spark/*.csv")
    assert caught.value.hint == "it matches folders: end it with /* for the files in them"
    source = locate("s3://shop/sales")
    assert [file.name for file in source.files] == [f"s3://shop/sales/year={y}/part.parquet" for y in (2025, 2026)]
    assert [file.size is not None and file.size > 0 for file in source.files] == [True, True]
    assert row_count(source) == 200
    table = read_table(locate("s3://shop/sales", make_query(where="year = 2026 and n >= 2120")), schema_of(None))[0]
    assert table.to_pylist() == [{"n": n, "x": "ab"[n % 2], "year": 2026} for n in range(2120, 2126)]


def test_what_is_read_of_far_parquet(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[int]] = []
    real = pq.ParquetFile.iter_batches

    def spy(self: Any, **options: Any) -> Any:
        asked.append(options["row_groups"])
        return real(self, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spy)
    assert numbers("s3://shop/sales", where="year = 2025 and n between 2038 and 2041") == [2038, 2039, 2040, 2041]
    assert asked == [[1]], "one row group of one file"


def test_fingerprints_of_a_bucket(s3: str) -> None:
    first = fingerprint(locate("s3://shop/sales"), whole=True)
    assert first.startswith("etag:")
    assert first == fingerprint(locate("s3://shop/sales/year=*/*"), whole=False)
    assert first != fingerprint(locate("s3://shop/text"), whole=True)


def test_a_table_in_a_bucket(s3: str) -> None:
    options = {"AWS_ALLOW_HTTP": "true", "AWS_ENDPOINT_URL": s3, "aws_conditional_put": "etag"}
    table = pa.table({"n": [1, 2, 3], "shop": ["a b", "c", "c"]})
    write_deltalake("s3://shop/delta", table, partition_by=["shop"], storage_options=options)
    write_deltalake("s3://shop/delta", table, mode="append", storage_options=options)
    assert sorted(numbers("s3://shop/delta", where="shop = 'a b'")) == [1, 1]
    assert sorted(numbers("s3://shop/delta@v0")) == [1, 2, 3]
    for uri in ("delta:s3://shop/delta@v0", "delta+s3://shop/delta@v0", "s3+delta://shop/delta@v0"):
        assert numbers(uri, where="n < 2") == [1]


@pytest.mark.parametrize(
    ("uri", "error", "message", "hint"),
    [
        ("s3://shop/text/d.csv", UnreadableDataError, "no such file", "did you mean 'a.csv'?"),
        ("s3://nowhere/x.csv", UnreadableDataError, "no bucket or container 'nowhere'", "endpoint"),
        ("s3://shop/notes.txt", UnreadableDataError, "tells no format", ".parquet"),
        ("s3://shop/none*.csv", EmptyDataError, "no data file matches", "check"),
        ("s3://shop/cut.parquet", UnreadableDataError, "cannot read the file", "cut off"),
        ("s3:///x.csv", SettingsError, "names no host, bucket", "s3://"),
        ("s3://user:canary@shop/x.csv", SettingsError, "holds a user or a password", "environment"),
        ("https://user:canary@host/x.csv", SettingsError, "holds a user or a password", "environment"),
        ("nope://host/x.csv", SettingsError, "nope:// cannot be read", "s3://"),
    ],
)
def test_what_is_wrong_is_told(s3: str, uri: str, error: type[MealkitError], message: str, hint: str) -> None:
    with pytest.raises(error, match=message) as caught:
        numbers(uri)
    assert hint in str(caught.value.hint)
    assert "canary" not in caught.value.render()


def test_a_bucket_that_refuses(s3: str) -> None:
    with refusing(s3):
        for uri in ("s3://shop/x.csv", "s3://shop/*.csv", "s3://shop/folder"):
            with pytest.raises(UnreadableDataError, match="the storage refuses") as caught:
                locate(uri)
            assert caught.value.where == uri
            assert "testing" not in caught.value.render()


def test_a_bucket_that_does_not_answer(run: Runner, common: tuple[str, ...], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    forget()
    outcome = run("train", "--input", "s3://shop/x.csv", *common, "--model", tmp_path / "m", "--log-format", "json")
    forget()
    assert outcome.code == 75, outcome.err
    assert outcome.error["code"] == "unreachable"
    assert outcome.error["retryable"]
    assert "AWS_ENDPOINT_URL" in outcome.error["hint"]
    assert not (tmp_path / "m").exists()


def test_a_bucket_that_is_lost_while_it_is_read(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = locate("s3://shop/sales")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    forget()
    with pytest.raises(UnreachableError) as caught:
        read_table(source, schema_of(None))
    assert caught.value.where == source.files[0].name
    with pytest.raises(UnreachableError):
        fingerprint(source, whole=True)
    forget()


def test_a_run_on_a_bucket_is_the_run_on_its_copy(
    s3: str, run: Runner, common: tuple[str, ...], data: Path, tmp_path: Path
) -> None:
    with resolve("s3://shop/x").file_system.open_output_stream("shop/events/events.csv") as sink:
        sink.write((data / "events.csv").read_bytes())
    results = []
    for number, uri in enumerate((f"{data}/events.csv", "s3://shop/events")):
        model = tmp_path / str(number)
        outcome = run("train", "--input", uri, *common, "--model", model, "--log-format", "json")
        assert outcome.code == 0, outcome.err
        results.append(outcome.result)
    assert results[0]["metrics"] == results[1]["metrics"]
    assert results[1]["input"]["uri"] == "s3://shop/events"
    assert results[1]["input"]["fingerprint"].startswith("etag:")


def test_google(monkeypatch: pytest.MonkeyPatch) -> None:
    with google_server() as endpoint:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", endpoint)
        forget()
        bucket = resolve("gs://shop").file_system
        for year in (2025, 2026):
            with bucket.open_output_stream(f"shop/sales/year={year}/part.parquet") as sink:
                pq.write_table(pa.table({"n": range(year, year + 10)}), sink, row_group_size=2)
        with bucket.open_output_stream("shop/a.csv.gz") as sink:
            sink.write(gzip.compress(b"n\n7\n"))
        assert numbers("gs://shop/a.csv.gz") == [7]
        assert numbers("gcs://shop/sales", where="year > 2025 and n >= 2034") == [2034, 2035]
        assert numbers("gs://shop/s*/*/*.parquet", limit=2) == [2025, 2026]
        assert fingerprint(locate("gs://shop/sales"), whole=True).startswith("etag:")
        for uri, message in (("gs://shop/b.csv", "no such file"), ("gs://none/b.csv", "no bucket or container")):
            with pytest.raises(UnreadableDataError, match=message):
                locate(uri)
    forget()


def test_a_web_server_that_is_lost_while_it_is_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": [1]}), tmp_path / "x.parquet")
    (tmp_path / "x.csv.xz").write_bytes(lzma.compress(b"n\n1\n"))
    with web_server(tmp_path) as (address, _):
        sources = [locate(f"{address}/{name}?key=canary") for name in ("x.parquet", "x.csv.xz")]
    for source in sources:
        with pytest.raises(UnreachableError) as caught:
            read_table(source, schema_of(None))
        assert "canary" not in caught.value.render()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    pytest.importorskip("aiohttp")
    table = pa.table({"n": range(300_000), "x": [str(n) * 10 for n in range(300_000)]})
    pq.write_table(table, tmp_path / "big.parquet", row_group_size=20_000, compression="none")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"n\n1\n2\n"))
    with web_server(tmp_path) as served:
        yield served


def test_files_of_a_web_server(web: tuple[str, list[tuple[str, str, str]]], tmp_path: Path) -> None:
    address, asked = web
    assert numbers(f"{address}/a.csv.gz") == [1, 2]
    asked.clear()
    signed = f"{address}/big.parquet?signature=canary"
    source = locate(signed, make_query(where="n between 100000 and 100002", columns="n"))
    assert read_table(source, schema_of(None))[0]["n"].to_pylist() == [100000, 100001, 100002]
    sizes = [span.removeprefix("bytes=").split("-") for _, _, span in asked if span]
    read = sum(int(last) - int(first) + 1 for first, last in sizes)
    assert read < (tmp_path / "big.parquet").stat().st_size / 2, "only ranges of the file"
    assert all(path.endswith("?signature=canary") for _, path, _ in asked)
    assert "canary" not in str(source.facts) + source.files[0].name
    assert fingerprint(source, whole=True).startswith("etag:")
    assert numbers(f"{address}/whole/big.parquet", where="n < 2") == [0, 1], "a server without ranges"


def test_web_servers_that_give_no_file(web: tuple[str, list[tuple[str, str, str]]]) -> None:
    address, _ = web
    for path, error, message in (
        ("none.csv", UnreadableDataError, "no such file"),
        ("denied/x.csv?key=canary", UnreadableDataError, "the storage refuses"),
        ("broken/x.csv?key=canary", UnreachableError, "does not answer"),
        ("folder/", UnreadableDataError, "tells no format"),
    ):
        with pytest.raises(error, match=message) as caught:
            locate(f"{address}/{path}")
        assert "canary" not in caught.value.render()
    with pytest.raises(UnreachableError):
        locate("http://127.0.0.1:9/x.csv")


def test_other_file_systems_that_fsspec_knows() -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    with memory.open("/shop/a.csv", "wb") as file:
        file.write(b"n\n1\n")
    with memory.open("/shop/b/b.parquet", "wb") as file:
        pq.write_table(pa.table({"n": [2]}), file)
    assert numbers("memory://shop/a.csv") == [1]
    assert numbers("memory://shop/b") == [2]
    assert numbers("memory://shop/**/*.parquet") == [2]
    assert fingerprint(locate("memory://shop"), whole=True).startswith("sampled:")


def test_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "_delta_log").mkdir()
    for package, uri, hint in (
        ("fsspec", "https://127.0.0.1/x.csv", "add fsspec[http] to the recipe's dependencies"),
        ("fsspec", "sftp://127.0.0.1/x.csv", "add fsspec, and its package for the scheme"),
        ("deltalake", str(tmp_path), "add deltalake to the recipe's dependencies"),
    ):
        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, package, None)
            file_system.of_fsspec.cache_clear()
            with pytest.raises(SettingsError) as caught:
                locate(uri)
            assert hint in str(caught.value.hint)
    file_system.of_fsspec.cache_clear()


def test_what_may_be_a_secret_is_not_shown() -> None:
    for uri, shown in (
        ("/a/b?c", "/a/b?c"),
        ("s3://bucket/part-?.csv", "s3://bucket/part-?.csv"),
        ("https://u:p@host/x.csv?sig=1#f", "https://…@host/x.csv?…"),
        ("https://host?sig=1", "https://host?…"),
        ("abfss://box@account.dfs.core.windows.net/x", "abfss://box@account.dfs.core.windows.net/x"),
        ("sftp://u:p@host/x", "sftp://…@host/x"),
    ):
        assert redact(uri) == shown


def test_places_of_azure_and_google() -> None:
    place = resolve("abfss://box@account.dfs.core.windows.net/a/b.csv")
    assert (place.kind, place.path, place.account) == ("az", "box/a/b.csv", "account")
    assert place.at("box/c.csv").uri == "abfss://box@account.dfs.core.windows.net/c.csv"
    assert resolve("az://box/a").path == "box/a"
    assert resolve("gcs://bucket/a*.csv").at("bucket/ab.csv").uri == "gcs://bucket/ab.csv"
    with pytest.raises(SettingsError, match="user or a password"):
        resolve("abfss://box:canary@account.dfs.core.windows.net/a")
