from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mealkit.errors import UsageError
from mealkit_builder.reference import (
    EngineLocation,
    HostLocation,
    LayoutLocation,
    Reference,
    parse_location,
    parse_reference,
    uses_http,
)

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("python", Reference("docker.io", "library/python")),
        ("python:3.12-slim", Reference("docker.io", "library/python", "3.12-slim")),
        ("team/recipe", Reference("docker.io", "team/recipe")),
        ("docker.io/python", Reference("docker.io", "library/python")),
        ("index.docker.io/team/x", Reference("docker.io", "team/x")),
        ("registry.example.com/team/x", Reference("registry.example.com", "team/x")),
        ("registry.example.com:5000/x:1", Reference("registry.example.com:5000", "x", "1")),
        ("localhost/x", Reference("localhost", "x")),
        ("127.0.0.1:5000/a/b/c:v1.2_3-4", Reference("127.0.0.1:5000", "a/b/c", "v1.2_3-4")),
        ("[::1]:5000/x", Reference("[::1]:5000", "x")),
        ("Registry.Example.com/x", Reference("registry.example.com", "x")),
        (f"x.io/y@{DIGEST}", Reference("x.io", "y", "", DIGEST)),
        (f"x.io:1/y:t@{DIGEST}", Reference("x.io:1", "y", "t", DIGEST)),
        ("a__b/c--d", Reference("docker.io", "a__b/c--d")),
    ],
)
def test_parse(text: str, reference: Reference) -> None:
    assert parse_reference(text) == reference
    assert parse_reference(str(reference)) == reference
    assert parse_location(text) == reference


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "Team/x",
        "x.io/",
        "x.io/Y",
        "x.io/y:",
        "x.io/y:-a",
        "x.io/y:" + "a" * 129,
        "x.io/y@sha256:12",
        "x.io/y@",
        "x.io//y",
        "x.io/y/",
        "x.io/a..b",
        "x.io/a___b",
        "-x.io/y",
        "x_y.io/z",
        "https://x.io/y",
        "docker://x.io/y",
        "x.io:port/y",
        "x.io/y:a:b",
        "x.io/y z",
        "user@x.io/y",
        "x.io/../y",
        "x.io/" + "a" * 256,
        "docker:",
        "docker://a/b",
        "oci:",
        "oci:@" + DIGEST,
        "oci://x",
    ],
)
def test_what_is_no_reference_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_location(text)
    assert caught.value.hint


@pytest.mark.parametrize("text", ["x.io/y\n", "x.io/y:t\n", "x.io\n/y", " x.io/y"])
def test_white_space_is_no_part_of_a_reference(text: str) -> None:
    with pytest.raises(UsageError):
        parse_reference(text)


def test_docker_hub_has_another_host_for_its_api() -> None:
    assert parse_reference("python").api_host == "registry-1.docker.io"
    assert parse_reference("x.io/y").api_host == "x.io"


def test_what_is_asked_for() -> None:
    assert parse_reference("x.io/y").target == "latest"
    assert parse_reference("x.io/y:1").target == "1"
    assert parse_reference(f"x.io/y:1@{DIGEST}").target == DIGEST
    assert str(parse_reference("x.io/y:1").at(DIGEST)) == f"x.io/y@{DIGEST}"


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("host", HostLocation()),
        ("docker:team/x:1", EngineLocation("team/x:1")),
        ("oci:images", LayoutLocation(Path("images"))),
        ("oci:/a/b:1.0", LayoutLocation(Path("/a/b"), "1.0")),
        ("oci:/a:b/c", LayoutLocation(Path("/a:b/c"))),
        (f"oci:/a@{DIGEST}", LayoutLocation(Path("/a"), "", DIGEST)),
        ("oci:a@b", LayoutLocation(Path("a@b"))),
    ],
)
def test_locations(text: str, location: object) -> None:
    assert parse_location(text) == location
    assert str(location) == text


WORD = st.from_regex(r"[a-z0-9]{1,8}((\.|_|__|-{1,2})[a-z0-9]{1,4}){0,2}", fullmatch=True)
HOST = st.from_regex(r"([a-z0-9]{1,5}\.[a-z]{2,3}|localhost)(:[0-9]{1,5})?", fullmatch=True)
TAG = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True)


@given(
    host=HOST, path=st.lists(WORD, min_size=1, max_size=4), tag=st.just("") | TAG, digest=st.sampled_from(["", DIGEST])
)
def test_every_reference_survives_being_written_and_read(host: str, path: list[str], tag: str, digest: str) -> None:
    reference = Reference(host, "/".join(path), tag, digest)
    assert parse_reference(str(reference)) == reference


@given(st.text(max_size=60) | st.from_regex(r"[a-zA-Z0-9./:@_\[\]-]{0,40}", fullmatch=True))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        location = parse_location(text)
    except UsageError:
        return
    assert parse_location(str(location)) == location


@pytest.mark.parametrize(
    ("host", "listed", "expected"),
    [
        ("localhost", "", True),
        ("localhost:5000", "", True),
        ("127.0.0.1:1", "", True),
        ("127.9.9.9", "", True),
        ("[::1]:5000", "", True),
        ("x.io", "", False),
        ("127.0.0.1.evil.com", "", False),
        ("localhost.evil.com", "", False),
        ("x.io:5000", "x.io", True),
        ("x.io:5000", "y.io, X.io:5000", True),
        ("x.io:5001", "x.io:5000", False),
        ("x.io", " ,", False),
    ],
)
def test_who_is_spoken_to_in_the_clear(host: str, listed: str, expected: bool) -> None:
    assert uses_http(host, {"MEALKIT_INSECURE_REGISTRIES": listed}) is expected
