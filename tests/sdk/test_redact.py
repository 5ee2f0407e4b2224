import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mealkit.redact import redact

SECRET = "s3cr3tValue99"


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {SECRET}",
        f"{{'Authorization': 'Basic {SECRET}'}}",
        f"Bearer {SECRET}",
        f"https://ada:{SECRET}@x.io/v2/",
        f"https://x.s3.com/blob?X-Amz-Signature={SECRET}&digest=sha256:1",
        f"/v2/x/blobs/uploads/1?_state={SECRET}",
        f'{{"token": "{SECRET}"}}',
        f'"identitytoken":"{SECRET}"',
        f"password={SECRET}",
        f"refresh_token={SECRET}&service=x",
        f"eyJhbGciOi.eyJ{SECRET}.abc_{SECRET}",
        f"Cookie: a={SECRET}",
    ],
)
def test_secrets_go(text: str) -> None:
    assert SECRET not in redact(text)
    assert "***" in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "GET https://x.io/v2/team/x/manifests/1",
        "/v2/x/blobs/uploads/?mount=sha256:12&from=a/b",
        "the basic idea of a token server",
        "no connection to 127.0.0.1:5000",
        "sha256:" + "ab" * 32,
    ],
)
def test_the_rest_stays(text: str) -> None:
    assert redact(text) == text


@given(st.text(max_size=200))
def test_redacting_twice_changes_nothing(text: str) -> None:
    assert redact(redact(text)) == redact(text)


@given(st.text(min_size=8, alphabet=st.characters(codec="ascii", categories=["L", "N"])))
def test_any_basic_header_goes(secret: str) -> None:
    encoded = base64.b64encode(f"ada:{secret}".encode()).decode()
    assert encoded not in redact(f"sent Authorization: Basic {encoded}\nto x.io")
