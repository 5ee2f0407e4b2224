"""The base ``deb:`` from an archive on this disk: asked, pinned, fetched and unpacked as from any mirror."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from debian import MiniDebian, essential, mini_debian, package
from workshop import MINOR, Workshop, commit

from mealkit.errors import (
    BaseImageError,
    BuildError,
    LockError,
    MealkitError,
    NoWheelError,
    UnreachableError,
    UsageError,
)
from mealkit_builder.debian.base import DebianSource, ask_apt, debian_architecture, find_pins, python_of
from mealkit_builder.debian.package import MOST_GROUPS, OWN_LAYER, group
from mealkit_builder.debian.pin import PINS_NAME, Pin, Pins, read_pins, write_pins
from mealkit_builder.image import Image
from mealkit_builder.interpreter import find_interpreter
from mealkit_builder.layer import Layer
from mealkit_builder.layout import Layout
from mealkit_builder.platform import Platform, parse_platform
from mealkit_builder.pull import pull_image
from mealkit_builder.store import Store
from mealkit_builder.testing import MemoryRegistry

AMD, ARM = Platform("linux", "amd64"), Platform("linux", "arm64")


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> MiniDebian:
    return mini_debian(tmp_path_factory.mktemp("mini"), ("amd64", "arm64"))


@pytest.fixture(scope="module")
def asked(mini: MiniDebian) -> dict[str, tuple[Pin, ...]]:
    return {name: ask_apt("mini", name, (), environment(mini)) for name in ("amd64", "arm64")}


def environment(mini: MiniDebian) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "MEALKIT_APT_SOURCES": str(mini.sources)}


def made(pins: tuple[Pin, ...], store: Store, mini: MiniDebian) -> list[Layer]:
    source = DebianSource("mini", pins, store, environment(mini))
    ingredients = source.ingredients(find_interpreter("3.11", os.environ), store)
    return [store.layer(one.key, lambda one=one: one.make(())) for one in ingredients]  # type: ignore[misc]


def files(layers: list[Layer], store: Store) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    found: dict[str, tuple[tarfile.TarInfo, bytes]] = {}
    for layer in layers:
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(store.blob_path(layer.digest).read_bytes()))) as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isreg() else None
                found["/" + member.name] = (member, content.read() if content else b"")
    return found


def test_apt_resolves_what_is_needed_and_no_scripts(asked: Mapping[str, tuple[Pin, ...]]) -> None:
    assert [pin.name for pin in asked["arm64"]] == sorted(essential("arm64"))
    libc = next(pin for pin in asked["arm64"] if pin.name == "libc6")
    assert (libc.version, libc.architecture, libc.file) == ("2.40-3", "arm64", "pool/libc6_2.40-3_arm64.deb")
    assert python_of(asked["amd64"], "mini").executable == "/usr/bin/python3.11"
    assert python_of(asked["amd64"], "mini").libc_version == (2, 40)
    assert python_of(asked["amd64"], "mini").version == "3.11.9"


def test_what_is_in_the_image(mini: MiniDebian, asked: Mapping[str, tuple[Pin, ...]], tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    found = files(made(asked["amd64"], store, mini), store)
    text = {path: content for path, (_, content) in found.items()}
    links = {path: member.linkname for path, (member, _) in found.items() if member.issym()}
    modes = {path: member.mode for path, (member, _) in found.items() if not member.issym()}
    assert {path: links[path] for path in ("/bin", "/lib", "/sbin", "/lib64")} == {
        "/bin": "usr/bin", "/lib": "usr/lib", "/sbin": "usr/sbin", "/lib64": "usr/lib64",
    }  # fmt: skip
    assert "/lib32" not in found
    assert links["/usr/bin/python3"] == "python3.11"
    assert links["/usr/bin/sh"] == "dash"
    assert links["/usr/lib64/ld.so"] == "/lib/x86_64-linux-gnu/libc.so.6"
    assert (modes["/tmp"], modes["/root"], modes["/var/local"]) == (0o1777, 0o700, 0o775)
    assert (modes["/usr/bin/cat"], modes["/usr/bin/su"], modes["/etc/services"]) == (0o755, 0o755, 0o644)
    assert {(member.uid, member.gid) for member, _ in found.values()} == {(0, 0)}
    # Hard links: the first path in the layer has the content.
    assert text["/usr/bin/perl3.11"] == b"python"
    assert found["/usr/bin/python3.11"][0].islnk()
    assert found["/usr/bin/python3.11"][0].linkname == "usr/bin/perl3.11"
    assert modes["/usr/bin/python3.11"] == 0o755
    # Made in the place of scripts:
    assert text["/etc/ssl/certs/ca-certificates.crt"].count(b"-----BEGIN") == 2
    assert text["/etc/ssl/certs/ca-certificates.crt"].endswith(b"-----\n")
    assert b"mealkit:*:65532:65532" in text["/etc/passwd"]
    assert b"root:*:0:0" in text["/etc/passwd"]
    assert text["/etc/nsswitch.conf"] == b"hosts: files dns\n"
    assert links["/etc/localtime"] == "/usr/share/zoneinfo/Etc/UTC"
    # Left out:
    assert not [path for path in found if "/man/" in path or path.endswith("README") or "/right/" in path]
    assert "/usr/share/doc/base-files/copyright" in found
    # Bytecode, which Debian's packages have none of; what differs between architectures has none.
    compiled = [path for path in found if path.endswith(".pyc")]
    assert compiled == ["/usr/lib/python3.11/__pycache__/os.cpython-311.pyc",
                        "/usr/lib/python3.11/json/__pycache__/tool.cpython-311.pyc"]  # fmt: skip


def test_dpkg_reads_its_status(mini: MiniDebian, asked: Mapping[str, tuple[Pin, ...]], tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    root = tmp_path / "root"
    for path, (member, content) in files(made(asked["amd64"], store, mini), store).items():
        if member.isreg() and path.startswith(("/var/lib/dpkg/", "/usr/", "/etc/")):
            (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
            (root / path[1:]).write_bytes(content)

    def query(*arguments: str) -> str:
        command = ["dpkg-query", f"--admindir={root}/var/lib/dpkg", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout

    listed = query("--show", "--showformat=${Package} ${Version} ${db:Status-Abbrev}\\n").splitlines()
    assert listed == [f"{pin.name} {pin.version} ii " for pin in asked["amd64"]]
    assert query("-S", "/lib/x86_64-linux-gnu/libc.so.6").startswith("libc6")
    assert "/usr/share/man" not in query("-L", "coreutils")
    assert "/bin/cat" in query("-L", "coreutils")
    sums = (root / "var/lib/dpkg/info/libc6:amd64.md5sums").read_text()
    assert "lib/x86_64-linux-gnu/libc.so.6" in sums


def test_same_pins_same_layers(mini: MiniDebian, asked: Mapping[str, tuple[Pin, ...]], tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        one = made(asked["amd64"], Store(tmp_path / "one"), mini)
    finally:
        os.umask(before)
    other = made(tuple(reversed(asked["amd64"])), Store(tmp_path / "deep" / "other"), mini)
    assert one == other
    arm = made(asked["arm64"], Store(tmp_path / "arm"), mini)
    assert arm[-1].digest == one[-1].digest  # the bytecode is one for all architectures
    assert {layer.digest for layer in arm[:-1]}.isdisjoint(layer.digest for layer in one)


def test_large_packages_have_layers_of_their_own() -> None:
    def pin(name: str, size: int) -> Pin:
        return Pin(name, "1", "amd64", f"pool/{name}.deb", size, name * 2)

    small = [pin(f"s{number:02}", 10) for number in range(30)]
    assert [len(one.pins) for one in group([*small, pin("large", OWN_LAYER)])] == [30, 1]
    many = group([*small, *(pin(f"l{number:02}", OWN_LAYER + number) for number in range(40))])
    assert len(many) == MOST_GROUPS
    assert len(many[0].pins) == 30 + 40 - (MOST_GROUPS - 1)
    assert (
        many[0].key == group(reversed([*small, *(pin for one in many for pin in one.pins if pin not in small)]))[0].key
    )


def test_pins_are_kept_and_renewed(tmp_path: Path) -> None:
    mini = mini_debian(tmp_path / "mini", ("amd64", "arm64"))
    root = tmp_path / "project"
    root.mkdir()
    first = find_pins("mini", [AMD], (), root, environment(mini))
    text = (root / PINS_NAME).read_text()
    assert read_pins(root / PINS_NAME) == first
    assert "://" not in text
    assert str(tmp_path) not in text
    newer = essential("amd64", "3.11.10-1")
    mini.packages["amd64"] = newer
    mini.publish()
    assert find_pins("mini", [AMD], (), root, {"PATH": ""}) == first  # nobody is asked
    both = find_pins("mini", [AMD, ARM], (), root, environment(mini))
    assert (both.packages["amd64"], set(both.packages)) == (first.packages["amd64"], {"amd64", "arm64"})
    renewed = find_pins("mini", [AMD], (), root, environment(mini), upgrade=True)
    assert python_of(renewed.packages["amd64"], "mini").version == "3.11.10"
    with pytest.raises(LockError, match=r"missing or do not fit, for arm64"):
        find_pins("mini", [AMD, ARM], (), root, environment(mini), locked=True)
    with pytest.raises(LockError, match="do not fit"):  # asked for otherwise
        find_pins("mini", [AMD], ("git",), root, environment(mini), locked=True)


def test_a_package_that_is_gone(tmp_path: Path) -> None:
    mini = mini_debian(tmp_path / "mini")
    pins = ask_apt("mini", "amd64", (), environment(mini))
    libc = next(pin for pin in pins if pin.name == "libc6")
    source = DebianSource("mini", pins, Store(tmp_path / "store"), environment(mini))
    path = mini.folder / "archive" / libc.file
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(BaseImageError, match="other bytes"):
        source.get([libc])
    path.unlink()
    with pytest.raises(BaseImageError, match="no longer in the mirror") as caught:
        source.get([libc])
    assert caught.value.where == "libc6 2.40-3 (amd64)"
    assert "--upgrade" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("further", "asks", "error", "said"),
    [
        ({}, ["nothing"], BaseImageError, "no package nothing for amd64"),
        ({}, ["libc6=9"], BaseImageError, "no package 9|no package libc6"),
        ({}, ["-o Dir=/"], UsageError, "not a package's name"),
        ({"broken": {"Depends": "missing (>= 2)"}}, ["broken"], BaseImageError, "cannot resolve"),
    ],
)
def test_questions_without_an_answer(
    tmp_path: Path, further: dict[str, dict[str, str]], asks: list[str], error: type[MealkitError], said: str
) -> None:
    mini = mini_debian(tmp_path / "mini")
    for name, fields in further.items():
        mini.packages["amd64"][name] = package(name, {}, **fields)
    mini.publish()
    with pytest.raises(error, match=said) as caught:
        find_pins("mini", [AMD], asks, tmp_path, environment(mini))
    assert caught.value.hint
    assert not (tmp_path / PINS_NAME).exists()


def test_suites_and_architectures_that_are_not_there(mini: MiniDebian, tmp_path: Path) -> None:
    with pytest.raises(BaseImageError, match=r"no package|no such suite") as caught:
        ask_apt("mini", "s390x", (), environment(mini))
    assert caught.value.where == "deb:mini"
    sources = tmp_path / "other.sources"
    sources.write_text(mini.sources.read_text().replace("Suites: mini", "Suites: other"))
    with pytest.raises(BaseImageError, match="no such suite"):
        ask_apt("other", "amd64", (), {**environment(mini), "MEALKIT_APT_SOURCES": str(sources)})
    sources.write_text(mini.sources.read_text().replace("Trusted: yes\n", ""))
    with pytest.raises(BaseImageError, match=r"does not trust|not signed"):
        ask_apt("mini", "amd64", (), {**environment(mini), "MEALKIT_APT_SOURCES": str(sources)})
    with pytest.raises(BaseImageError, match="Debian has no packages for"):
        debian_architecture(Platform("linux", "sparc"))
    assert debian_architecture(parse_platform("linux/arm/v7")) == "armhf"


def test_old_python_is_refused(tmp_path: Path) -> None:
    mini = MiniDebian(tmp_path, packages={"amd64": essential("amd64", "3.9.2-1")})
    mini.publish()
    with pytest.raises(BaseImageError, match=r"Python is 3\.9"):
        ask_apt("mini", "amd64", (), environment(mini))


def test_packages_that_collide(tmp_path: Path) -> None:
    mini = mini_debian(tmp_path / "mini")
    mini.packages["amd64"]["thief"] = package("thief", {"usr/bin/cat": b"meow"})
    mini.publish()
    pins = ask_apt("mini", "amd64", ("thief",), environment(mini))
    with pytest.raises(BaseImageError, match="coreutils and thief both bring /usr/bin/cat"):
        made(pins, Store(tmp_path / "store"), mini)


def test_a_package_under_another_name(tmp_path: Path, mini: MiniDebian, asked: Mapping[str, tuple[Pin, ...]]) -> None:
    from dataclasses import replace

    pins = tuple(replace(pin, version="9") if pin.name == "dash" else pin for pin in asked["amd64"])
    with pytest.raises(BaseImageError, match=r"another package: dash 1\.0"):
        made(pins, Store(tmp_path / "store"), mini)


@pytest.mark.parametrize(
    "text",
    ["", "format = 2\n", "no toml", 'format = 1\nsuite = "x"\ninputs = "y"\n[[package]]\nname = "../x"\n',
     'format = 1\nsuite = "x"\ninputs = "y"\n[[package]]\nname = "aa"\nversion = "1"\narchitecture = "amd64"\n'
     'file = "../x.deb"\nsize = 1\nsha256 = "0"\n'],
)  # fmt: skip
def test_damaged_pins(tmp_path: Path, text: str) -> None:
    (tmp_path / PINS_NAME).write_text(text)
    with pytest.raises(LockError, match="damaged") as caught:
        read_pins(tmp_path / PINS_NAME)
    assert "--upgrade" in str(caught.value.hint)


def test_pins_round_trip(tmp_path: Path) -> None:
    pin = Pin("libc6", "1:2.36-9+deb12u10~x", "arm64", "pool/main/g/glibc/libc6_2.36~x+y_arm64.deb", 5, "0" * 64)
    pins = Pins("bookworm", "sha256:1", {"arm64": (pin,)})
    write_pins(pins, tmp_path / PINS_NAME)
    assert read_pins(tmp_path / PINS_NAME) == pins
    with pytest.raises(LockError, match="no Python"):
        python_of([pin], "bookworm")


def recipe(workshop: Workshop, image: str = "") -> tuple[Workshop, Path]:
    mini = MiniDebian(workshop.folder / "mini", packages={
        name: essential(name, f"{MINOR}.99-1") for name in ("amd64", "arm64")})  # fmt: skip
    mini.packages["amd64"]["extra"] = package("extra", {"usr/bin/extra": b"extra"}, Depends="dpkg, libc6")
    mini.publish()
    shop = workshop.having(MEALKIT_APT_SOURCES=str(mini.sources))
    return shop, shop.recipe("tiny-deb", base="deb:mini", image=image)


def image_of(folder: Path, platform: Platform = AMD) -> Image:
    pulled = pull_image(Layout(folder), "latest", platform)
    assert pulled is not None
    return pulled.image


def test_build_for_two_platforms(workshop: Workshop) -> None:
    shop, root = recipe(workshop, 'platforms = ["linux/amd64", "linux/arm64"]')
    with MemoryRegistry() as registry:
        record = shop.build(root, f"{registry.host}/team/tiny")
        assert set(record.platforms) == {"linux/amd64", "linux/arm64"}
        assert record.base == "deb:mini"
        # What both platforms have alike (bytecode, pure wheels, mealkit, the recipe) was sent once.
        sent = [one.path.rpartition("digest=")[2] for one in registry.seen
                if one.method == "PUT" and "/blobs/uploads/" in one.path]  # fmt: skip
        assert len(sent) == len(set(sent))
        # A fresh machine without apt: the last image knows all layers, so no package is fetched.
        model = root / "tiny_deb" / "model.py"
        model.write_text(model.read_text() + "# changed\n")
        fresh = shop.fresh().having(MEALKIT_APT_SOURCES=str(shop.folder / "none"))
        again = fresh.build(root, f"{registry.host}/team/tiny")
        assert again.layers["uploaded"] == 1
        assert again.base_digest == record.base_digest
    one, other = (shop.build(root, f"oci:{shop.folder / name}", use_cache=False) for name in ("one", "other"))
    assert one.platforms == other.platforms


def test_any_platform_that_has_wheels(workshop: Workshop) -> None:
    names = {"linux/amd64": "amd64", "linux/arm/v7": "armhf", "linux/ppc64le": "ppc64el", "linux/s390x": "s390x"}
    mini = MiniDebian(workshop.folder / "mini", packages={
        name: essential(name, f"{MINOR}.99-1") for name in names.values()})  # fmt: skip
    mini.publish()
    shop = workshop.having(MEALKIT_APT_SOURCES=str(mini.sources))
    tag = f"cp{MINOR.replace('.', '')}"
    machines = ["x86_64", "armv7l", "ppc64le"]
    for machine in machines:
        shop.wheel("quick", tag=f"{tag}-{tag}-manylinux_2_17_{machine}")
    pure = shop.recipe("pure", base="deb:mini")
    record = shop.build(pure, f"oci:{shop.folder / 'images'}", platforms=tuple(names))
    assert set(record.platforms) == set(names)
    arm = image_of(shop.folder / "images", Platform("linux", "arm", "v7"))
    assert arm.platform.to_json() == {"architecture": "arm", "os": "linux", "variant": "v7"}
    quick = shop.recipe("fast", dependencies=["quick"], base="deb:mini")
    shop.build(quick, f"oci:{shop.folder / 'images'}", platforms=tuple(names)[:-1])
    with pytest.raises(NoWheelError, match=r"quick.*linux/s390x") as caught:
        shop.build(quick, f"oci:{shop.folder / 'images'}", platforms=tuple(names))
    assert caught.value.hint


def test_further_packages_need_no_engine(workshop: Workshop) -> None:
    shop, root = recipe(workshop, 'apt = ["extra"]\nplatforms = ["linux/amd64"]')
    done = shop.mealkit("lock", "--project", root)
    assert done.status == 0, done.err
    assert f"{PINS_NAME}: 16 packages for amd64" in done.out
    shop.build(root, f"oci:{shop.folder / 'images'}", locked=True)
    image = image_of(shop.folder / "images")
    assert image.config.environment["LANG"] == "C.UTF-8"
    names = [name for layer in image.layers if layer.kind == "base"
             for name in tar_names(shop.folder / "images", layer.digest)]  # fmt: skip
    assert "usr/bin/extra" in names
    assert "var/lib/dpkg/info/extra.list" in names
    (root / PINS_NAME).unlink()
    with pytest.raises(LockError, match="pins of the base"):
        shop.build(root, f"oci:{shop.folder / 'images'}", locked=True)
    assert shop.mealkit("lock", "--check", "--project", root).status == LockError.exit_code


def tar_names(folder: Path, digest: str) -> list[str]:
    data = (folder / "blobs/sha256" / digest.removeprefix("sha256:")).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data))) as archive:
        return archive.getnames()


def test_an_image_is_made_again_from_its_record(workshop: Workshop) -> None:
    from mealkit_builder.rebuild import verify_rebuild

    shop, root = recipe(workshop)
    (root / ".gitignore").write_text(f"{PINS_NAME}\n")
    commit(root)
    made = shop.build(root, f"oci:{shop.folder / 'images'}")
    environment = {name: value for name, value in shop.environment.items() if name != "SOURCE_DATE_EPOCH"}
    found = verify_rebuild(made.url, root, environment)
    assert found.same, found
    assert f"the commit has no {PINS_NAME}: the folder's was used" in found.notes


def test_the_bill_names_debians_packages(workshop: Workshop) -> None:
    shop, root = recipe(workshop)
    made = shop.build(root, f"oci:{shop.folder / 'images'}", attest=True)
    done = shop.mealkit("sbom", made.url)
    assert done.status == 0, done.err
    assert "pkg:deb/debian/libc6@2.40-3?arch=amd64" in done.out
    assert "pkg:deb/debian/tzdata@1.0?arch=all" in done.out


def test_the_engine_docker_is_refused(workshop: Workshop) -> None:
    shop, root = recipe(workshop)
    with pytest.raises(UsageError, match="cannot start from packages") as caught:
        shop.build(root, f"oci:{shop.folder / 'images'}", engine="docker")
    assert "debian:bookworm" in str(caught.value.hint)


def test_a_registrys_debian_is_another_base(workshop: Workshop) -> None:
    root = workshop.recipe("by-image", base="debian:mini")
    nowhere = workshop.having(HTTPS_PROXY="http://127.0.0.1:9", https_proxy="http://127.0.0.1:9")
    with pytest.raises(UnreachableError) as caught:
        nowhere.build(root, f"oci:{workshop.folder / 'images'}")
    assert "write deb:mini" in str(caught.value.hint)
    for name in ("deb:", "deb:Mini", "deb:mini\nURIs: x", "deb:mini/x"):
        with pytest.raises(UsageError, match="not a suite of Debian"):
            workshop.build(root, f"oci:{workshop.folder / 'images'}", base=name)


def test_machines_without_apt(workshop: Workshop, tmp_path: Path) -> None:
    shop, root = recipe(workshop)
    shutil.rmtree(shop.folder / "mini")
    bare: Any = shop.having(PATH=str(tmp_path), MEALKIT_APT_SOURCES="")
    with pytest.raises(BaseImageError, match="needs apt"):
        bare.build(root, f"oci:{shop.folder / 'images'}")


def test_broken_package(workshop: Workshop) -> None:
    shop, root = recipe(workshop)
    pins = find_pins("mini", [AMD], (), root, dict(shop.environment))
    dash = next(pin for pin in pins.packages["amd64"] if pin.name == "dash")
    shop.store.add_blob(dash.sha256, b"no package")  # as if the cache were damaged
    with pytest.raises((BaseImageError, BuildError), match="no ar archive"):
        shop.build(root, f"oci:{shop.folder / 'images'}")
