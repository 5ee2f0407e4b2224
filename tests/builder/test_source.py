"""The recipe's own files: what is packed, what is left out, what must not be there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from workshop import Workshop

from mealkit.errors import ProjectError, SecretFoundError, StorageError
from mealkit.project import read_project
from mealkit_builder.source import recipe_files

KEY = "-----BEGIN {}PRIVATE KEY-----\nMIIB\n-----END {}PRIVATE KEY-----\n"


@pytest.fixture
def root(shop: Workshop, tmp_path: Path) -> Path:
    return shop.recipe(within=tmp_path, lock=False)


def packed(root: Path) -> list[str]:
    return list(recipe_files(read_project(root)))


def write(root: Path, name: str, content: str = "x") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_the_package_is_packed_with_its_data_and_nothing_beside_it(root: Path) -> None:
    write(root, "tiny/data/table.csv")
    write(root, "tiny/deep/er/module.py")
    write(root, "notes.txt")
    write(root, "tests/test_tiny.py")
    assert packed(root) == [
        "tiny/__init__.py",
        "tiny/data/table.csv",
        "tiny/deep/er/module.py",
        "tiny/model.py",
        "tiny/settings.py",
    ]


def test_a_package_below_src_is_found(root: Path) -> None:
    (root / "src").mkdir()
    (root / "tiny").rename(root / "src" / "tiny")
    assert packed(root) == ["tiny/__init__.py", "tiny/model.py", "tiny/settings.py"]


def test_a_recipe_may_be_a_single_module(root: Path) -> None:
    (root / "solo.py").write_text("import mealkit\n")
    text = (root / "pyproject.toml").read_text()
    (root / "pyproject.toml").write_text(text.replace("[tool.mealkit]\n", '[tool.mealkit]\npackages = ["solo"]\n'))
    assert packed(root) == ["solo.py"]


@pytest.mark.parametrize(
    "name",
    [
        "__pycache__/model.cpython-311.pyc",
        "old.pyc",
        ".ipynb_checkpoints/a.ipynb",
        ".mypy_cache/x.json",
        ".DS_Store",
        ".venv/bin/python",
    ],
)
def test_what_tools_leave_behind_is_left_out(root: Path, name: str) -> None:
    before = packed(root)
    write(root, f"tiny/{name}")
    assert packed(root) == before


def test_ignored_files_are_left_out_as_git_would(root: Path) -> None:
    write(root, ".gitignore", "*.log\n/tiny/cache/\n!keep.log\n# a comment\n\n")
    write(root, "tiny/.gitignore", "/local.json\nsub/secret.txt\n")
    for name in (
        "a.log",
        "keep.log",
        "cache/big.bin",
        "local.json",
        "sub/local.json",
        "sub/secret.txt",
        "sub/other.txt",
    ):
        write(root, f"tiny/{name}")
    found = {name.removeprefix("tiny/") for name in packed(root)}
    assert found == {
        "__init__.py",
        "model.py",
        "settings.py",
        ".gitignore",
        "keep.log",
        "sub/local.json",
        "sub/other.txt",
    }


@pytest.mark.parametrize(
    "name",
    [
        ".env",
        ".env.local",
        ".netrc",
        ".pypirc",
        ".git-credentials",
        "id_rsa",
        "id_ed25519",
        "store.p12",
        "store.jks",
        "sub/.env.production",
        "_netrc",
        ".htpasswd",
        "keys/signing.keystore",
        "passwords.kdbx",
        "application_default_credentials.json",
        "terraform.tfstate",
        ".aws/credentials",
        ".docker/config.json",
        ".kube/config",
        ".ssh/config",
    ],
)
def test_a_file_for_credentials_is_refused(root: Path, name: str) -> None:
    path = write(root, f"tiny/{name}", "TOKEN=1")
    with pytest.raises(SecretFoundError) as caught:
        packed(root)
    error = caught.value
    assert error.where == str(path)
    assert f"tiny/{name}" in error.message
    assert ".gitignore" in (error.hint or "")
    assert (error.code, error.exit_code) == ("secret-found", 2)


@pytest.mark.parametrize("kind", ["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "])
@pytest.mark.parametrize("name", ["server.pem", "notes.txt", "settings_local.py"])
def test_a_private_key_is_found_by_its_content(root: Path, kind: str, name: str) -> None:
    path = write(root, f"tiny/{name}", KEY.format(kind, kind))
    with pytest.raises(SecretFoundError, match="a private key stands among") as caught:
        packed(root)
    assert caught.value.where == str(path)
    assert "MIIB" not in caught.value.render()


@pytest.mark.parametrize(
    "token",
    ["ghp_" + "a1B2" * 9, "github_pat_" + "a1" * 41, "glpat-" + "a1B2" * 5, "hf_" + "aB" * 17,
     "xoxb-123456789012-" + "a1" * 12, "pypi-AgE" + "a1B2" * 20, "npm_" + "a1B2" * 9],
)  # fmt: skip
def test_an_access_token_is_found_by_its_form(root: Path, token: str) -> None:
    path = write(root, "tiny/client.py", f'TOKEN = "{token}"\n')
    with pytest.raises(SecretFoundError, match="an access token stands among") as caught:
        packed(root)
    assert caught.value.where == str(path)
    assert token not in caught.value.render()


@pytest.mark.parametrize("text", ["ghp_short", "hf_hub_download", "npm_config_registry", "a_ghp_" + "a" * 36])
def test_what_only_looks_like_a_token_is_packed(root: Path, text: str) -> None:
    write(root, "tiny/client.py", text)
    assert "tiny/client.py" in packed(root)


@pytest.mark.parametrize(
    "name",
    [".env.example", ".env.sample", ".env.template", "environment.py", "id_rsa.pub", ".ssh/id_rsa.pub", "config.json"],
)
def test_what_only_looks_like_a_secret_is_packed(root: Path, name: str) -> None:
    write(root, f"tiny/{name}", "-----BEGIN PUBLIC KEY-----\n-----BEGIN CERTIFICATE-----\n")
    assert f"tiny/{name}" in packed(root)


def test_an_ignored_secret_is_left_out_without_a_word(root: Path) -> None:
    write(root, ".gitignore", ".env\n")
    write(root, "tiny/.env", "TOKEN=1")
    assert "tiny/.env" not in packed(root)


def test_a_secret_outside_the_packages_is_nobodys_business(root: Path) -> None:
    write(root, ".env", "TOKEN=1")
    assert ".env" not in packed(root)


def test_a_link_inside_the_project_is_packed_as_what_it_leads_to(root: Path) -> None:
    write(root, "shared/table.csv", "a,b\n")
    (root / "tiny" / "table.csv").symlink_to("../shared/table.csv")
    (root / "tiny" / "more").symlink_to("../shared")
    assert {"tiny/table.csv", "tiny/more/table.csv"} <= set(packed(root))


@pytest.mark.parametrize("folder", [False, True])
def test_a_link_out_of_the_project_is_refused(root: Path, tmp_path: Path, folder: bool) -> None:
    outside = write(tmp_path, "outside/passwords.txt")
    link = root / "tiny" / "link"
    link.symlink_to(outside.parent if folder else outside)
    with pytest.raises(ProjectError, match="leads out of the project") as caught:
        packed(root)
    assert caught.value.where == str(link)
    assert caught.value.hint


@pytest.mark.parametrize("target", [".", "..", "../tiny"])
def test_a_link_to_a_folder_that_it_is_in_is_refused(root: Path, target: str) -> None:
    (root / "tiny" / "loop").symlink_to(target)
    with pytest.raises(ProjectError, match="that it is in itself") as caught:
        packed(root)
    assert caught.value.where == str(root / "tiny" / "loop")


def test_what_is_no_plain_file_is_refused(root: Path) -> None:
    os.mkfifo(root / "tiny" / "pipe")
    with pytest.raises(ProjectError, match="only plain files"):
        packed(root)
    (root / "tiny" / "pipe").unlink()
    (root / "tiny" / "dangling").symlink_to("nowhere.txt")
    with pytest.raises(ProjectError, match="only plain files"):
        packed(root)


def test_a_name_that_is_no_utf_8_is_refused(root: Path) -> None:
    Path(os.fsdecode(os.fsencode(root / "tiny") + b"/caf\xe9.csv")).touch()
    with pytest.raises(ProjectError, match="not UTF-8") as caught:
        packed(root)
    caught.value.render().encode()  # it can be printed


def test_any_other_name_is_packed(root: Path) -> None:
    for name in ("Käse 🧀.csv", 'a,b "c".txt', "line\nbreak.txt"):
        write(root, f"tiny/{name}")
    assert len(packed(root)) == 6


@pytest.mark.parametrize("package", ["mealkit", "mealkit_runtime"])
def test_a_package_with_our_name_is_refused(root: Path, package: str) -> None:
    write(root, f"{package}/__init__.py")
    text = (root / "pyproject.toml").read_text()
    named = text.replace("[tool.mealkit]\n", f'[tool.mealkit]\npackages = ["{package}"]\n')
    (root / "pyproject.toml").write_text(named)
    with pytest.raises(ProjectError, match=package) as caught:
        packed(root)
    assert caught.value.hint


def test_a_file_that_cannot_be_read_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(root, "tiny/data.csv")
    read = Path.read_bytes

    def refuse(self: Path) -> bytes:  # root may read whatever its mode is
        if self == path:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(StorageError, match="permission denied") as caught:
        packed(root)
    assert caught.value.where == str(path)
