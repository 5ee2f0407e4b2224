"""What is fuzzed: a function for each parser, which takes any bytes and raises nothing but errors of ours.

Hypothesis feeds them in ``test_fuzz.py``, on every run; atheris in ``.ci/fuzz``, for as long as one likes.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import io
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import bad_debs
import bad_layers
import bad_layouts
import bad_wheels
import zips

from mealkit.errors import MealkitError
from mealkit.redact import redact
from mealkit_builder.auth import parse_challenge
from mealkit_builder.credentials import find_credentials
from mealkit_builder.digest import digest_bytes
from mealkit_builder.layer import Layer
from mealkit_builder.lock import Lock
from mealkit_builder.parse import choose_platform, config_digest, image_from_manifest, linked_digests
from mealkit_builder.placement import place
from mealkit_builder.platform import Platform
from mealkit_builder.reference import parse_location
from mealkit_builder.selection import select_wheels
from mealkit_builder.store import Store
from mealkit_builder.tar_reader import TAR_LAYER, BadLayer, read_layer
from mealkit_builder.transport import _retry_after
from mealkit_builder.wheel import WheelFile
from mealkit_builder.wheel_reader import open_wheel
from mealkit_builder.zip_directory import Unsound, read_directory

FOLDER = Path(tempfile.mkdtemp(prefix="mealkit-fuzz-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
TARGETS: dict[str, Callable[[bytes], None]] = {}
SEEDS: dict[str, list[bytes]] = {}


def target(*seeds: bytes) -> Callable[[Callable[[bytes], None]], Callable[[bytes], None]]:
    def add(function: Callable[[bytes], None]) -> Callable[[bytes], None]:
        TARGETS[function.__name__] = function
        SEEDS[function.__name__] = list(seeds)
        return function

    return add


def _wheels() -> list[bytes]:
    made = [*(make for make, _ in bad_wheels.CASES.values()), *bad_wheels.TWINS.values()]
    return [data for data in (make() for make in made if "bomb" not in make.__name__) if len(data) < 20_000]


@target(*_wheels())
def wheel(data: bytes) -> None:
    """The whole of a wheel: directory, names, metadata, RECORD, placement, contents."""
    path = FOLDER / "demo-1.0-py3-none-any.whl"
    path.write_bytes(data)
    one = WheelFile("demo", "1.0", path.name, hashlib.sha256(data).hexdigest(), len(data), path)
    with contextlib.suppress(MealkitError):
        for file in place(open_wheel(one), "3.12"):
            assert file.path.startswith("/opt/mealkit/venv/")
            assert "/../" not in file.path
            file.read()


@target(*_wheels()[:40])
def zip_directory(data: bytes) -> None:
    """The directory of a zip archive, whose entries lie in the file."""
    with contextlib.suppress(Unsound):
        for entry in read_directory(memoryview(data)):
            assert 0 <= entry.header < entry.start <= entry.stop <= len(data)


@target(b"demo/a.py,sha256=AAAA,1\n", b'"demo/""a.py",sha256=AAAA,1\n', b"a,b,c,d\n", b"x,,\r\ny,,")
def record(data: bytes) -> None:
    """A wheel whose RECORD is anything."""
    listed = zips.items()
    listed[-1] = zips.Item(f"{zips.INFO}/RECORD", data)
    wheel(zips.archive(listed))


@target(b"[console_scripts]\nx = demo:main\n", b"[gui_scripts]\nx=a.b:c.d [extra]\n", b"[a", b"=")
def entry_points(data: bytes) -> None:
    """A wheel whose entry points are anything."""
    wheel(zips.wheel(zips.Item(f"{zips.INFO}/entry_points.txt", data)))


def _tars() -> list[bytes]:
    import gzip
    import zlib

    made = [*(make for make, _ in bad_layers.CASES.values()), *bad_layers.TWINS.values()]
    plain = []
    for make in made:
        data = make()[1]
        with contextlib.suppress(EOFError, OSError, zlib.error):
            if len(data) < 20_000:
                plain.append(gzip.decompress(data)[:200_000])
    return plain


@target(*_tars())
def tar(data: bytes) -> None:
    """A layer that is a plain tar."""
    digest = digest_bytes(data)
    with contextlib.suppress(BadLayer):
        for member in read_layer(io.BytesIO(data), Layer(digest, len(data), digest, TAR_LAYER)):
            assert ".." not in member.parts
            if member.info.isreg():
                assert sum(map(len, member.blocks())) == member.info.size


@target(bad_layers.layer(bad_layers.GOOD + bad_layers.END)[1])
def gzip_layer(data: bytes) -> None:
    """A layer that is gzip, or not."""
    with contextlib.suppress(BadLayer):
        for _ in read_layer(io.BytesIO(data), Layer(digest_bytes(data), len(data), "sha256:" + "0" * 64)):
            pass


@target(*(make() for make in bad_debs.TWINS.values()), bad_debs.parts()[1][1])
def deb(data: bytes) -> None:
    """A Debian package."""
    from mealkit_builder.debian.archive import open_deb

    path = FOLDER / "p.deb"
    path.write_bytes(data)
    with contextlib.suppress(MealkitError), open_deb(path, "p.deb", FOLDER) as found:
        for entry in found.entries:
            assert ".." not in entry.path.split("/")
            if entry.kind == "file":
                found.read(entry)


@target(*(bad_debs.GOOD + bad_debs.END, bad_debs.ROOT + bad_layers.pax({"path": "./x"}) + bad_layers.block("./a")))
def deb_data(data: bytes) -> None:
    """The files of a Debian package: a plain tar."""
    deb(bad_debs.with_data("data.tar", data))


_CONFIG = {"architecture": "amd64", "os": "linux", "rootfs": {"diff_ids": [bad_layouts.LAYER.diff_id]},
           "config": {"Env": ["A=b"], "Labels": {"a": "b"}, "ExposedPorts": {"80/tcp": {}}},
           "history": [{"created_by": "x"}]}  # fmt: skip
_MANIFEST = {"config": {"digest": "sha256:" + "0" * 64, "size": 2}, "layers": [bad_layouts.LAYER.descriptor()],
             "annotations": {"a": "b"}}  # fmt: skip
_INDEX = {
    "manifests": [{"digest": "sha256:" + "0" * 64, "size": 2, "platform": {"os": "linux", "architecture": "arm64"}}]
}
_SEPARATOR = b"\0\0"


@target(json.dumps(_MANIFEST).encode() + _SEPARATOR + json.dumps(_CONFIG).encode(), b"{}" + _SEPARATOR + b"{}")
def image(data: bytes) -> None:
    """A manifest and its config."""
    manifest, _, config = data.partition(_SEPARATOR)
    for read in (lambda: image_from_manifest(manifest, config), lambda: config_digest(manifest),
                 lambda: linked_digests(manifest)):  # fmt: skip
        with contextlib.suppress(MealkitError):
            read()


@target(json.dumps(_INDEX).encode(), b'{"manifests": [1]}')
def index(data: bytes) -> None:
    """An index of several platforms."""
    with contextlib.suppress(MealkitError):
        choose_platform(data, Platform("linux", "arm64"))


@target(
    b"localhost:5000/a/b:tag@sha256:" + b"0" * 64,
    b"oci:a:b",
    b"docker:x",
    b"oci:a:bst:500/",
    b"python:3.12-slim",
    b"deb:bookworm",
)
def reference(data: bytes) -> None:
    """What a user names an image by; what is understood reads alike when it is written again."""
    text = data.decode(errors="replace")
    with contextlib.suppress(MealkitError):
        found = parse_location(text)
        assert parse_location(str(found)) == found


@target(b'Bearer realm="https://a/b",service="c",scope="d:e:pull"', b'Basic realm="x", Bearer a=b', b'Bearer a="\\"')
def challenge(data: bytes) -> None:
    """A WWW-Authenticate header."""
    parse_challenge(data.decode("latin-1"))


@target(b"120", b"Wed, 21 Oct 2026 07:28:00 GMT", b"-1", b"99999999999999999999", "²".encode("latin-1"))
def retry_after(data: bytes) -> None:
    """A Retry-After header."""
    seconds = _retry_after(data.decode("latin-1"))
    assert seconds is None or seconds >= 0


@target(b'{"auths": {"h": {"auth": "YTpi"}}}', b'{"auths": {"h": {"auth": 1}}}', b'{"auths": []}', b'{"credsStore": 1}')
def docker_config(data: bytes) -> None:
    """Docker's configuration file."""
    (FOLDER / "config.json").write_bytes(data)
    with contextlib.suppress(MealkitError):
        find_credentials("h", {"DOCKER_CONFIG": str(FOLDER), "PATH": ""}, 1)


_LOCK = b"""lock-version = "1.0"
created-by = "uv"
[[packages]]
name = "a"
version = "1.0"
wheels = [{ url = "https://h/a-1.0-py3-none-any.whl", size = 1, hashes = { sha256 = "%s" } }]
""" % (b"0" * 64)


@target(_LOCK, b"packages = 1", b"a = " + b"[" * 5000)
def lock(data: bytes) -> None:
    """A lock file; whatever it names a wheel by is fit to name a file."""
    store = Store(FOLDER / "store")
    with contextlib.suppress(MealkitError):
        text = data.decode(errors="replace")
        chosen = select_wheels(Lock(FOLDER / "pylock.toml", text), "3.12", Platform(), "glibc", (2, 36), store)
        for one in chosen:
            assert not one.sha256 or len(one.sha256) == 64
    shutil.rmtree(store.root, ignore_errors=True)


@target(b"https://user:token@host/x?sig=1 Authorization: Bearer abcdefghij", b'{"password": "x"}', b"eyJhbGciOi.x.y")
def redaction(data: bytes) -> None:
    """Whatever stands around it, a password in a URL and a token in a header are hidden."""
    text = data.decode(errors="replace")
    hidden = redact(f"{text} https://ada:c4nary-one@host/x {text}\nAuthorization: Bearer c4nary-two\n{text}")
    assert "c4nary" not in hidden.replace(text, "")
