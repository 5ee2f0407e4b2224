"""Keys and images that the tests of signatures, SBOMs and policies share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from supply_chain import PASSWORD, Pair, openssl_verifies

from mealkit_builder.key import PrivateKey, PublicKey, generate_key, load_private_key
from mealkit_builder.testing import MemoryRegistry


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """Two pairs of keys: ``team`` and ``stranger``."""
    folder = tmp_path_factory.mktemp("keys")
    made = {}
    for name in ("team", "stranger"):
        private, public = generate_key(folder / name, PASSWORD)
        made[name] = Pair(private, public, load_private_key(str(private), {"MEALKIT_KEY_PASSWORD": PASSWORD}))
    return made


@pytest.fixture
def team(pairs: dict[str, Pair]) -> Pair:
    return pairs["team"]


@pytest.fixture
def stranger(pairs: dict[str, Pair]) -> Pair:
    return pairs["stranger"]


@pytest.fixture
def memory() -> Iterator[MemoryRegistry]:
    with MemoryRegistry() as one:
        yield one


@pytest.fixture
def memory_of_old() -> Iterator[MemoryRegistry]:
    """A registry that lists no referrers, as Debian's."""
    with MemoryRegistry(referrers=False) as one:
        yield one


@pytest.fixture(autouse=True)
def openssl_agrees(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, opinions: dict[bytes, bool]) -> Iterator[None]:
    """Every signature that a test makes or judges is judged by OpenSSL too, and the two must agree."""
    judged: list[tuple[bytes, bytes, bytes, bool]] = []
    sign, verifies = PrivateKey.sign, PublicKey.verifies

    def noting_sign(self: PrivateKey, data: bytes) -> bytes:
        signature = sign(self, data)
        judged.append((self.public.der, data, signature, True))
        return signature

    def noting_verifies(self: PublicKey, data: bytes, signature: bytes) -> bool:
        result = verifies(self, data, signature)
        judged.append((self.der, data, signature, result))
        return result

    monkeypatch.setattr(PrivateKey, "sign", noting_sign)
    monkeypatch.setattr(PublicKey, "verifies", noting_verifies)
    yield
    folder = tmp_path / "openssl"
    folder.mkdir()
    for der, data, signature, ours in dict.fromkeys(judged):
        asked = hashlib.sha256(b"\0".join((der, signature, data))).digest()
        if asked not in opinions:
            (folder / "key.pub").write_text(PublicKey(der).pem)
            opinions[asked] = openssl_verifies(folder / "key.pub", data, signature, folder)
        assert opinions[asked] == ours, signature


@pytest.fixture(scope="session")
def opinions() -> dict[bytes, bool]:
    """What OpenSSL has said already."""
    return {}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else writes to a test's registry: it need not be given time."""
    monkeypatch.setattr("mealkit_builder.referrer._SETTLE", 0.0)
