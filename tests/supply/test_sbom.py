"""SBOMs: valid by the formats' own validators, the same every time, and true to the image."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document
from workshop import Workshop, make_base, make_wheel

from mealkit.errors import NotFoundError, UsageError
from mealkit_builder.bill import Bill, Debian, Known, make_bill, oci_purl, wheel_purl
from mealkit_builder.cyclonedx import from_cyclonedx, to_cyclonedx
from mealkit_builder.dpkg import parse_status
from mealkit_builder.dsse import Malformed
from mealkit_builder.image import Image, ImageConfig
from mealkit_builder.layer import Layer
from mealkit_builder.licence import licence_of
from mealkit_builder.origin import Origin
from mealkit_builder.platform import Platform
from mealkit_builder.sbom import read_sbom
from mealkit_builder.spdx import to_spdx
from mealkit_builder.wheel import WheelFile

BASE = "org.opencontainers.image.base"
LABELS = {
    "io.mealkit.base.python": '{"executable":"/usr/local/bin/python3.12","minor":"3.12","version":"3.12.1"}',
    "io.mealkit.packages": "numpy==2.4.6 six==1.17.0 torch==2.9.1+cu128",
    "io.mealkit.recipe": "{}",
    "io.mealkit.version": "0.1.0",
    f"{BASE}.digest": "sha256:" + "b" * 64,
    f"{BASE}.name": "python:3.12-slim",
    "org.opencontainers.image.title": "shop",
    "org.opencontainers.image.version": "1.0.0",
}


def layer(kind: str, title: str, digit: str, key: str = "") -> Layer:
    return Layer("sha256:" + digit * 64, 1, "sha256:" + digit * 64, kind=kind, key=key, title=title)


def image(labels: Mapping[str, str] = LABELS) -> Image:
    layers = (
        layer("base", "", "0"),
        layer("wheel", "numpy 2.4.6", "1", "wheel/" + "a" * 32),
        layer("wheels", "2 small packages", "2", "wheels/" + "f" * 32),
        layer("mealkit", "mealkit 0.1.0", "3"),
        layer("recipe", "shop 1.0.0", "4"),
    )
    config = ImageConfig(labels=tuple(labels.items()), created="2026-01-01T00:00:00Z")
    return Image(Platform(), layers, config)


@pytest.fixture
def bill() -> Bill:
    return make_bill(
        image(),
        "sha256:" + "d" * 64,
        wheels={
            ("six", "1.17.0"): Known("6" * 64, "MIT"),
            ("numpy", "2.4.6"): Known("", "BSD 3-Clause of some kind"),
        },
        debian=[Debian("libc6", "2.36-9+deb12u10", "amd64", "debian", "12")],
    )


def check_cyclonedx(data: bytes) -> None:
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(data.decode())
    assert error is None, error


def check_spdx(data: bytes, folder: Path) -> None:
    (folder / "sbom.spdx.json").write_bytes(data)
    messages = validate_full_spdx_document(parse_file(str(folder / "sbom.spdx.json")), "SPDX-2.3")
    assert [message.validation_message for message in messages] == []


def test_both_formats_are_valid_and_always_the_same(bill: Bill, tmp_path: Path) -> None:
    check_cyclonedx(to_cyclonedx(bill))
    check_spdx(to_spdx(bill), tmp_path)
    assert to_cyclonedx(bill) == to_cyclonedx(bill)
    assert to_spdx(bill) == to_spdx(bill)


def test_a_bill_has_all_that_is_in_the_image(bill: Bill) -> None:
    found = {(one.kind, one.name, one.version): one for one in bill.components}
    assert list(found) == [
        ("base", "python:3.12-slim", ""),
        ("python", "python", "3.12.1"),
        ("debian", "libc6", "2.36-9+deb12u10"),
        ("mealkit", "mealkit", "0.1.0"),
        ("mealkit", "mealkit-runtime", "0.1.0"),
        ("recipe", "shop", "1.0.0"),
        ("wheel", "numpy", "2.4.6"),
        ("wheel", "six", "1.17.0"),
        ("wheel", "torch", "2.9.1+cu128"),
    ]
    assert found["base", "python:3.12-slim", ""].sha256 == "b" * 64
    numpy, six = found["wheel", "numpy", "2.4.6"], found["wheel", "six", "1.17.0"]
    assert (numpy.sha256, numpy.layer) == ("", "sha256:" + "1" * 64)  # nobody knows
    assert (six.sha256, six.layer, six.licence) == ("6" * 64, "sha256:" + "2" * 64, "MIT")
    assert found["recipe", "shop", "1.0.0"].layer == "sha256:" + "4" * 64
    assert found["debian", "libc6", "2.36-9+deb12u10"].purl == (
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u10?arch=amd64&distro=debian-12"
    )


def test_cyclonedx_tells_it_back(bill: Bill) -> None:
    assert from_cyclonedx(to_cyclonedx(bill)) == bill
    for data in (b"{}", b"[]", b"x", b'{"metadata": 7}', b'{"metadata": {"component": {"properties": [7]}}}'):
        with pytest.raises(Malformed):
            from_cyclonedx(data)


def test_licences_stand_where_the_formats_want_them(bill: Bill) -> None:
    listed = {one["name"]: one.get("licenses") for one in json.loads(to_cyclonedx(bill))["components"]}
    assert listed["six"] == [{"expression": "MIT"}]
    assert listed["numpy"] == [{"license": {"name": "BSD 3-Clause of some kind"}}]
    assert listed["torch"] is None
    packages = {one["name"]: one for one in json.loads(to_spdx(bill))["packages"]}
    assert packages["six"]["licenseDeclared"] == "MIT"
    assert packages["numpy"]["licenseDeclared"] == "NOASSERTION"
    assert packages["numpy"]["licenseComments"] == "BSD 3-Clause of some kind"


@pytest.mark.parametrize("missing", sorted(LABELS))
def test_an_image_that_tells_less_has_a_valid_bill_too(missing: str, tmp_path: Path) -> None:
    made = make_bill(image({name: text for name, text in LABELS.items() if name != missing}), "sha256:" + "d" * 64)
    check_cyclonedx(to_cyclonedx(made))
    check_spdx(to_spdx(made), tmp_path)
    assert not made.complete
    if missing == "io.mealkit.packages":  # an image from before the label: what has a layer of its own is known
        assert [one.name for one in made.components if one.kind == "wheel"] == ["numpy"]
    if missing == "io.mealkit.base.python":
        assert not [one for one in made.components if one.kind == "python"]


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [
        ("License-Expression: mit\nLicense: BSD", "MIT"),
        ("License-Expression: Apache-2.0 OR bsd-3-clause", "Apache-2.0 OR BSD-3-Clause"),
        ("License: BSD 3-Clause", "BSD 3-Clause"),
        ("License: UNKNOWN\nClassifier: License :: OSI Approved :: MIT License", "MIT License"),
        ("License: " + "x" * 200 + "\nClassifier: License :: A :: B", "B"),
        ("Classifier: License :: A :: B\nClassifier: License :: A :: C", ""),
        ("Name: x\n\nLicense: MIT", ""),
        (
            "License: Copyright (c) Ada\n        All rights\nClassifier: License :: OSI Approved :: BSD License",
            "BSD License",
        ),
        ("Classifier: License :: OSI Approved\nClassifier: License :: OSI Approved :: MIT License", "MIT License"),
        ("Classifier: License :: OSI Approved", ""),
        ("", ""),
    ],
)
def test_licences_are_read_from_metadata(metadata: str, licence: str) -> None:
    assert licence_of(metadata) == licence


@pytest.mark.parametrize(
    ("name", "purl"),
    [
        ("python:3.12-slim", "pkg:oci/python@sha256%3Aab?repository_url=docker.io/library/python&tag=3.12-slim"),
        ("h.example:5000/team/Base", None),
        ("h.example:5000/team/base", "pkg:oci/base@sha256%3Aab?repository_url=h.example%3A5000/team/base"),
        ("oci:/srv/base", "pkg:generic/oci?checksum=sha256:ab"),
        ("host", "pkg:generic/host?checksum=sha256:ab"),
    ],
)
def test_a_base_has_a_package_url(name: str, purl: str | None) -> None:
    assert oci_purl(name, "sha256:ab") == (purl or "pkg:generic/h.example?checksum=sha256:ab")


@pytest.mark.parametrize(
    ("origin", "purl"),
    [
        (None, "pkg:pypi/zope-interface@1.0%2Blocal.1"),
        (Origin("sdist", "https://index.example/z.tar.gz", "a" * 64), "pkg:pypi/zope-interface@1.0%2Blocal.1"),
        (
            Origin("git", "https://ada:s3cret@git.example/z.git", "c" * 40),
            "pkg:pypi/zope-interface@1.0%2Blocal.1?vcs_url=git%2Bhttps%3A%2F%2Fgit.example%2Fz.git%40" + "c" * 40,
        ),
        (Origin("git", "file:///srv/z", "c" * 40), "pkg:pypi/zope-interface@1.0%2Blocal.1?vcs_url=git%2B" + "c" * 40),
        (Origin("folder", "/home/ada/z"), "pkg:generic/Zope_Interface@1.0%2Blocal.1"),
    ],
)
def test_a_wheel_has_a_package_url_that_tells_where_it_is_from_and_no_secret(origin: Origin | None, purl: str) -> None:
    assert wheel_purl(WheelFile("Zope_Interface", "1.0+local.1", "z.whl", "0" * 64, 1, origin=origin)) == purl


def test_the_status_of_dpkg_is_read() -> None:
    text = (
        "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36-9\n"
        "Description: x\n Version: 7\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n\n\n"
        "Package: distroless\nArchitecture: all\nVersion: 1:2\n\nPackage: broken\n"
    )
    release = 'NAME="Debian GNU/Linux"\nID=debian\nVERSION_ID="12"\n'
    assert parse_status(text, release) == (
        Debian("distroless", "1:2", "all", "debian", "12"),
        Debian("libc6", "2.36-9", "amd64", "debian", "12"),
    )


def test_a_built_image_tells_its_packages_with_and_without_the_attached_sbom(
    workshop: Workshop, tmp_path: Path
) -> None:
    make_wheel(
        workshop.index, "gentle", "1.5", {"gentle.py": "x = 1\n"}, filename="gentle-1.5-py3-none-any.whl",
        metadata="Metadata-Version: 2.4\nName: gentle\nVersion: 1.5\nLicense-Expression: MIT\n",
    )  # fmt: skip
    root = workshop.recipe("billed", dependencies=["gentle"])
    plain = workshop.build(root)
    bare = read_sbom(plain.url, workshop.environment)
    assert not bare.attached
    again = workshop.build(root, attest=True)
    assert again.url == plain.url
    full = read_sbom(plain.url, workshop.environment)
    assert full.attached
    for data in (bare.data, full.data):
        check_cyclonedx(data)
    for found in (
        read_sbom(plain.url, workshop.environment, "spdx"),
        read_sbom(again.url, workshop.environment, "spdx"),
    ):
        check_spdx(found.data, tmp_path)
    names = {one.name for one in from_cyclonedx(bare.data).components}
    assert {"gentle", "billed", "mealkit", "mealkit-runtime", "python", "pandas", "pyarrow"} <= names
    bill = from_cyclonedx(full.data)
    assert {one.name for one in bill.components} == names
    gentle = next(one for one in bill.components if one.name == "gentle")
    assert gentle.licence == "MIT"
    assert gentle.sha256 in (root / "pylock.toml").read_text()
    assert all(one.sha256 and one.layer for one in bill.components if one.kind == "wheel")
    for url, error in ((make_base(tmp_path / "no-recipe"), UsageError), (f"oci:{tmp_path / 'none'}", NotFoundError)):
        with pytest.raises(error):
            read_sbom(url, workshop.environment)
