"""What tests of signatures need: keys, tiny images at places, and OpenSSL's command as the second opinion."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from images import Sample, sample

from mealkit_builder.key import PrivateKey
from mealkit_builder.location import open_location
from mealkit_builder.platform import Platform
from mealkit_builder.push import push_image
from mealkit_builder.referrer import Place

PASSWORD = "open sesame"


@dataclass(frozen=True)
class Pair:
    """A pair of keys, as files and loaded."""

    private: Path
    public: Path
    key: PrivateKey


def push(url: str, text: str = "hello", *, several: bool = False, tags: tuple[str, ...] = ("1",)) -> str:
    """A tiny image (or an index over two) at a place; returns its URL by digest."""
    place, _ = open_location(url, {}, push=True)
    made: list[Sample] = [sample({"a": text.encode()}, Platform("linux", "amd64"))]
    if several:
        made.append(sample({"a": text.encode()}, Platform("linux", "arm64")))
    images = [one.image for one in made]
    try:
        report = push_image(images if several else images[0], place, made[0].open_layer, tags=tags)
    finally:
        place.close()
    return report.url


def at(url: str) -> Place:
    return open_location(url, {}, push=True)[0]


def digest_of(url: str) -> str:
    return url.rpartition("@")[2]


def openssl(*arguments: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["openssl", *arguments], input=data, check=True, capture_output=True, timeout=30)


def openssl_verifies(public: Path, data: bytes, signature: bytes, folder: Path) -> bool:
    """``openssl dgst -sha256 -verify PUBLIC -signature SIGNATURE DATA``."""
    (folder / "signed-data").write_bytes(data)
    (folder / "signature").write_bytes(signature)
    done = subprocess.run(
        ["openssl", "dgst", "-sha256", "-verify", str(public), "-signature", str(folder / "signature"),
         str(folder / "signed-data")],
        capture_output=True,
        timeout=30,
    )  # fmt: skip
    return done.returncode == 0 and b"Verified OK" in done.stdout
