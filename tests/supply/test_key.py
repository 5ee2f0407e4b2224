"""Keys: files that OpenSSL reads, a password that is never an argument, and clear words about wrong ones."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest
from supply_chain import openssl, openssl_verifies

from mealkit.errors import UsageError
from mealkit_builder.key import find_password, generate_key, load_private_key, load_public_key

SECRET = {"MEALKIT_KEY_PASSWORD": "open sesame"}


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return generate_key(tmp_path / "team", "open sesame")


def test_the_private_key_is_for_its_owner_alone_and_encrypted(pair: tuple[Path, Path]) -> None:
    private, public = pair
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert private.read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert public.read_text().startswith("-----BEGIN PUBLIC KEY-----")


def test_openssl_reads_both_files(pair: tuple[Path, Path]) -> None:
    private, public = pair
    made = openssl("pkey", "-in", str(private), "-passin", "pass:open sesame", "-pubout")
    assert made.stdout.decode() == public.read_text()
    assert b"prime256v1" in openssl("pkey", "-pubin", "-in", str(public), "-noout", "-text").stdout


def test_openssl_verifies_what_the_key_signs(pair: tuple[Path, Path], tmp_path: Path) -> None:
    key = load_private_key(str(pair[0]), SECRET)
    signature = key.sign(b"a recipe")
    assert openssl_verifies(pair[1], b"a recipe", signature, tmp_path)
    assert not openssl_verifies(pair[1], b"another", signature, tmp_path)
    assert key.public.verifies(b"a recipe", signature)
    assert not key.public.verifies(b"another", signature)
    assert not key.public.verifies(b"a recipe", b"")
    assert not key.public.verifies(b"a recipe", signature[:-1])


def test_we_verify_what_openssl_signs(pair: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"a recipe")
    made = openssl(
        "dgst", "-sha256", "-sign", str(pair[0]), "-passin", "pass:open sesame", str(tmp_path / "data")
    ).stdout
    assert load_public_key(str(pair[1])).verifies(b"a recipe", made)


def test_a_key_of_openssl_is_taken(tmp_path: Path) -> None:
    made = openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256").stdout.decode()
    key = load_private_key("env://SIGNING_KEY", {"SIGNING_KEY": made})
    public = openssl("pkey", "-pubout", data=made.encode()).stdout
    (tmp_path / "key.pub").write_bytes(public)
    assert load_public_key(str(tmp_path / "key.pub")) == key.public
    assert load_public_key("env://PUB", {"PUB": public.decode()}) == key.public
    assert key.public.pem.encode() == public
    assert "PRIVATE" not in repr(key)


def test_one_signature_is_always_the_same(pair: tuple[Path, Path]) -> None:
    key = load_private_key(str(pair[0]), SECRET)
    assert key.sign(b"x") == key.sign(b"x")


def test_a_password_comes_from_the_environment_a_file_or_a_person(pair: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "password").write_text("open sesame\n")
    environment = {"MEALKIT_KEY_PASSWORD_FILE": str(tmp_path / "password")}
    assert find_password(environment, None, "") == "open sesame"
    assert load_private_key(str(pair[0]), environment).public == load_private_key(str(pair[0]), SECRET).public
    asked: list[str] = []
    load_private_key(str(pair[0]), {}, lambda prompt: asked.append(prompt) or "open sesame")  # type: ignore[func-returns-value]
    assert asked == [f"password of {pair[0]}: "]
    with pytest.raises(UsageError, match="password's file"):
        find_password({"MEALKIT_KEY_PASSWORD_FILE": str(tmp_path / "none")}, None, "")


@pytest.mark.parametrize(
    ("name", "environment", "said"),
    [
        ("team.key", {}, "needs its password"),
        ("team.key", {"MEALKIT_KEY_PASSWORD": "wrong"}, "wrong password"),
        ("team.pub", SECRET, "no private key"),
        ("none.key", SECRET, "cannot be read"),
        ("env://NONE", SECRET, "is not set"),
        ("cosign.key", SECRET, "cosign's own way"),
        ("rsa.key", {}, "not of the kind"),
        ("p384.key", {}, "not of the kind"),
        ("text.key", {}, "no private key"),
    ],
)
def test_a_key_that_cannot_be_used_is_told(
    pair: tuple[Path, Path], name: str, environment: dict[str, str], said: str
) -> None:
    folder = pair[0].parent
    (folder / "cosign.key").write_text("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n")
    (folder / "text.key").write_text("hello")
    if name == "rsa.key":
        (folder / name).write_bytes(openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024").stdout)
    if name == "p384.key":
        (folder / name).write_bytes(
            openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384").stdout
        )
    with pytest.raises(UsageError, match=said) as caught:
        load_private_key(name if name.startswith("env:") else str(folder / name), environment)
    assert caught.value.where
    assert caught.value.hint
    assert "sesame" not in caught.value.render()


def test_a_private_key_is_no_public_one(pair: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match="this is a private key"):
        load_public_key(str(pair[0]))


def test_keys_are_never_overwritten_and_never_bare(pair: tuple[Path, Path]) -> None:
    before = pair[0].read_bytes()
    with pytest.raises(UsageError, match="there already"):
        generate_key(pair[0].with_suffix(""), "open sesame")
    assert pair[0].read_bytes() == before
    with pytest.raises(UsageError, match="needs a password"):
        generate_key(pair[0].with_name("bare"), "")
    assert not pair[0].with_name("bare.key").exists()


def test_openssl_is_here() -> None:
    assert subprocess.run(["openssl", "version"], check=True, capture_output=True).stdout.startswith(b"OpenSSL")
