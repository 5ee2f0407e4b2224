"""The redactor: secrets that are known are found in every spelling, and other texts stay as they are."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mealkit.redact import SHORTEST, Redactor

SECRET = "s3cr&t/Value+9\"é'<"


@pytest.mark.parametrize(
    "spelling",
    [
        SECRET,
        repr(SECRET)[1:-1],
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        html.escape(SECRET),
        quote(SECRET),
        quote(SECRET, safe=""),
        quote_plus(SECRET),
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
    ],
)
def test_every_spelling_is_found(spelling: str) -> None:
    assert Redactor([SECRET]).text(f"before {spelling} after").replace("=", "") == "before *** after"


@given(st.text(min_size=SHORTEST), st.text())
@example("\\xyz", "")
def test_what_is_hidden_is_not_there(secret: str, text: str) -> None:
    known = Redactor([secret]).known
    hidden = known(f"{text}{secret}{text}")
    assert secret not in hidden or secret in "***" or "***" in secret
    assert Redactor().known(text) == text


def test_a_key_of_several_lines_is_found_line_by_line() -> None:
    lines = ["-----BEGIN X-----", "AbCdEfGhIjKlMnOpQrSt", "-----END X-----"]
    assert Redactor(["\n".join(lines)]).text(f"x {lines[1]}") == "x ***"


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("AWS_SECRET_ACCESS_KEY", "abcd/efgh+1234", "abcd/efgh+1234"),
        ("DB_PASSWORD", "correct horse", "correct horse"),
        ("HF_TOKEN", "hf_abcdef", "hf_abcdef"),
        ("API_KEY", "k3y-9f8e7d6c", "k3y-9f8e7d6c"),
        ("PGPASSWORD", "lovelace", "lovelace"),
        ("GITHUBTOKEN", "ghp-abcdef", "ghp-abcdef"),
        ("SMTP_PASS", "lovelace-1815", "lovelace-1815"),
        ("REDISCLI_AUTH", "r3dis-pass", "r3dis-pass"),
        ("GITHUB_PAT", "pat-1234567", "pat-1234567"),
        ("ANYTHING", "https://host/x?sig=ab%2Fcd12345&se=2026", "ab/cd12345"),
        ("ANYTHING", "https://host/x?X-Amz-Signature=0123456789abcdef", "0123456789abcdef"),
        ("DATABASE_URL", "postgres://ada:lovelace@db/x", "lovelace"),
        ("ANYTHING", "s3://AKIA:ab/cd+1@bucket/x", "ab/cd+1"),
        ("ANYTHING", "https://ada:p%40ss@host/x", "p@ss"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=abc12345,x=y", "abc12345"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20tok45678", "tok45678"),
        ("AZURE_STORAGE_CONNECTION_STRING", "AccountName=me;AccountKey=q1w2e3r4t5==", "q1w2e3r4t5=="),
    ],
)
def test_the_environment(name: str, value: str, secret: str) -> None:
    redactor = Redactor.of_environment({name: value})
    assert redactor.known(f"a {secret} b") == "a *** b"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PWD", "/home/ada"),
        ("OLDPWD", "/home"),
        ("SSH_AUTH_SOCK", "/tmp/ssh-12345678/agent.9"),
        ("TOKENIZERS_PARALLELISM", "false"),
        ("PASS_RATE", "0.9"),
        ("ANYTHING", "https://host/x?page=12345678"),
        ("SORT_KEY", "customer_id"),
        ("KEYBOARD", "us-layout-1"),
        ("MONKEY", "banana-2000"),
        ("MEALKIT_SET_TOKENS", "1000"),
        ("MEALKIT_SET_KEY", "customer_1"),
        ("PATH", "/usr/bin"),
        ("A_TOKEN", "abc"),
    ],
)
def test_an_environment_without_secrets(name: str, value: str) -> None:
    assert Redactor.of_environment({name: value}).known(f"a {value} b") == f"a {value} b"
