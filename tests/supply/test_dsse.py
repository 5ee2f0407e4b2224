"""Envelopes, statements and bundles: what is written is read again, and anything else is told as malformed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from supply_chain import Pair

from mealkit_builder.cyclonedx import from_cyclonedx
from mealkit_builder.dsse import (
    BUNDLE,
    PAYLOAD_TYPE,
    STATEMENT,
    Malformed,
    Statement,
    bundle_bytes,
    bundle_envelope,
    open_envelope,
    parse_statement,
    sign_envelope,
    statement_bytes,
)
from mealkit_builder.evidence import _document

DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64).map("sha256:{}".format)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
SUBJECTS = st.lists(
    st.fixed_dictionaries({}, optional={"digest": st.dictionaries(st.just("sha256"), VALUES), "name": VALUES})
)
NEAR = st.fixed_dictionaries(
    {},
    optional={
        "_type": st.just(STATEMENT) | VALUES,
        "subject": SUBJECTS | VALUES,
        "predicateType": st.text(max_size=5) | VALUES,
        "predicate": VALUES,
        "mediaType": st.just(BUNDLE) | VALUES,
        "dsseEnvelope": VALUES,
        "payload": st.just("e30=") | VALUES,
        "payloadType": st.just(PAYLOAD_TYPE) | VALUES,
        "signatures": st.lists(st.fixed_dictionaries({}, optional={"sig": st.just("AAAA") | VALUES})) | VALUES,
        "metadata": VALUES,
        "components": VALUES,
    },
)  # fmt: skip


@given(
    st.dictionaries(DIGESTS, st.text(max_size=20), min_size=1, max_size=3),
    st.text(),
    st.dictionaries(st.text(), VALUES),
)
def test_a_statement_is_read_as_it_was_written(
    subjects: dict[str, str], predicate_type: str, predicate: dict[str, Any]
) -> None:
    try:
        data = statement_bytes(Statement(subjects, predicate_type, predicate))
    except UnicodeEncodeError:
        return  # a lone surrogate, which no text from a file has
    assert parse_statement(data) == Statement(subjects, predicate_type, predicate)


def test_an_envelope_tells_who_signed_it(team: Pair, stranger: Pair) -> None:
    payload = statement_bytes(Statement({"sha256:" + "0" * 64: ""}, "x", {}))
    bundle = bundle_bytes(sign_envelope(payload, team.key), team.key.public)
    both = (stranger.key.public, team.key.public)
    assert open_envelope(bundle_envelope(bundle), both) == (payload, team.key.public)
    assert open_envelope(bundle_envelope(bundle), (stranger.key.public,)) == (payload, None)
    changed = json.loads(bundle)
    changed["dsseEnvelope"]["payload"] = changed["dsseEnvelope"]["payload"].replace("A", "B", 1)
    assert open_envelope(changed["dsseEnvelope"], both)[1] is None


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=NEAR | VALUES | st.binary(max_size=40))
def test_whatever_else_is_malformed_and_no_bug(pairs: dict[str, Pair], value: object) -> None:
    keys = [pair.key.public for pair in pairs.values()]
    try:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
    except UnicodeEncodeError:
        return
    for read in (parse_statement, bundle_envelope, from_cyclonedx):
        try:
            read(data)
        except Malformed as error:
            assert str(error)  # noqa: PT017 - it may raise, or not
    try:
        assert open_envelope(value, keys)[1] is None
    except Malformed as error:
        assert str(error)  # noqa: PT017
    for kind, artifact in (("sbom", "application/spdx+json"), ("provenance", "application/vnd.in-toto+json")):
        _document(kind, artifact, data, "sha256:" + "0" * 64)


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"a":' * 100_000, b'{"_type": NaN}', b"\xff\xfe"])
def test_a_document_that_hurts_is_malformed(data: bytes) -> None:
    for read in (parse_statement, bundle_envelope, from_cyclonedx):
        with pytest.raises(Malformed):
            read(data)
