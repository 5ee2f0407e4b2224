"""What is done with a bad archive of each kind; run by itself, all of a kind, it tells how much memory that took."""

from __future__ import annotations

import contextlib
import hashlib
import io
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from mealkit.errors import BaseImageError, MealkitError, RegistryError
from mealkit_builder.digest import digest_bytes
from mealkit_builder.image import Image
from mealkit_builder.layer import Layer
from mealkit_builder.layering import Group, build_wheel_layer
from mealkit_builder.layout import Layout
from mealkit_builder.location import open_location
from mealkit_builder.platform import Platform
from mealkit_builder.pull import pull_image
from mealkit_builder.python_in_base import find_python
from mealkit_builder.rootfs import unpack_image
from mealkit_builder.store import Store
from mealkit_builder.wheel import WheelFile


def judge_wheel(make: Callable[[], bytes], folder: Path) -> None:
    """Make a layer of a wheel; a refused one leaves no file."""
    data = make()
    path = folder / "demo-1.0-py3-none-any.whl"
    path.write_bytes(data)
    wheel = WheelFile("demo", "1.0", path.name, hashlib.sha256(data).hexdigest(), len(data), path)
    del data
    store = Store(folder / "store")
    try:
        build_wheel_layer(Group((wheel,)), "3.12", store)
    except MealkitError:
        assert not [path for path in store.root.rglob("*") if path.is_file()]
        raise


def judge_deb(make: Callable[[], bytes], folder: Path) -> None:
    """Read a package and all its files; nothing is left of it."""
    from mealkit_builder.debian.archive import open_deb

    path = folder / "p.deb"
    path.write_bytes(make())
    try:
        with open_deb(path, "p.deb", folder) as found:
            for entry in found.entries:
                assert ".." not in entry.path.split("/")
                if entry.kind == "file":
                    found.read(entry)
    finally:
        assert list(folder.iterdir()) == [path]


def judge_layer(make: Callable[[], tuple[Layer, bytes]], folder: Path) -> None:
    """Unpack an image of one layer, and look for a Python in it: both must judge alike."""
    layer, data = make()
    image = Image(Platform("linux", "amd64"), layers=(layer,))
    refusal: RegistryError | None = None
    told = ""
    try:
        root = unpack_image(image, digest_bytes(data), lambda digest: io.BytesIO(data), folder / "rootfs")
        assert root.parent == folder / "rootfs"
    except RegistryError as error:
        refusal = error
    # Nothing beside the unpacked image: neither a half of it, nor a file that it wrote.
    assert len(list((folder / "rootfs").iterdir())) == (0 if refusal else 1)
    try:
        find_python(image, lambda digest: io.BytesIO(data), "/usr/bin/python3", "base")
    except BaseImageError as error:
        told = error.message
    # A base without a Python is all right here; a layer that cannot be read is not.
    assert refusal or "cannot be read" not in told, told
    if refusal:
        raise refusal


def judge_layout(make: Callable[[Path], None], folder: Path) -> None:
    """Read an image from a layout folder and copy it, which may refuse less, but must fail in our way."""
    from mealkit_builder.copying import copy_image
    from mealkit_builder.progress import Silent

    at = folder / "layout"
    make(at)
    source, location = open_location(f"oci:{at}", {})
    assert isinstance(source, Layout)
    try:
        found = pull_image(source, location.target, Platform("linux", "amd64"))
        assert found is not None
        unpack_image(found.image, found.manifest_digest, source.open_blob, folder / "rootfs")
    except MealkitError:
        with contextlib.suppress(MealkitError):
            copy_image(f"oci:{at}", f"oci:{folder / 'copy'}", ("latest",), {}, Silent())
        raise
    copied = copy_image(f"oci:{at}", f"oci:{folder / 'copy'}", ("latest",), {}, Silent())
    assert copied.url.endswith(found.digest)


def main(kind: str, folder: Path) -> None:
    """Judge all cases of a kind and print how many, and the peak of this process' memory in MiB."""
    import bad_debs
    import bad_layers
    import bad_layouts
    import bad_wheels

    # What the makers themselves may take is limited too; far above what is measured at the end.
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
    cases = {"deb": bad_debs.CASES, "wheel": bad_wheels.CASES, "layer": bad_layers.CASES, "layout": bad_layouts.CASES}[
        kind
    ]
    judge = {"deb": judge_deb, "wheel": judge_wheel, "layer": judge_layer, "layout": judge_layout}[kind]
    count = 0
    for title, (make, _) in cases.items():
        place = folder / title
        place.mkdir()
        try:
            judge(make, place)  # type: ignore[arg-type]
        except MealkitError:
            count += 1
        shutil.rmtree(place, ignore_errors=True)
    # Not ru_maxrss: that begins with what the process that forked this one had.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    print(count, int(peak.split()[1]) >> 10)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
