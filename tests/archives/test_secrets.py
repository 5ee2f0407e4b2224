"""Forty secrets are planted where people keep them; builds, pushes and errors bring none to where it should not be."""

from __future__ import annotations

import base64
import gzip
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from services import PASSWORD, USER, RunningRegistry
from workshop import Workshop

sys.path.insert(0, str(Path(__file__).parent))

ENVIRONMENT = (
    "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_CLIENT_SECRET", "GITHUB_TOKEN", "CI_JOB_TOKEN", "HF_TOKEN",
    "OPENAI_API_KEY", "TWINE_PASSWORD", "WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD", "NPM_TOKEN", "DATABASE_URL",
    "UV_INDEX_PRIVATE_PASSWORD", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL",
)  # fmt: skip

HOME = {
    ".netrc": "machine index.example.com login ada password {}\n",
    ".pypirc": "[pypi]\nusername = __token__\npassword = {}\n",
    ".config/pip/pip.conf": "[global]\nextra-index-url = https://ada:{}@index.example.com/simple\n",
    ".config/uv/uv.toml": '[[index]]\nurl = "https://ada:{}@index.example.com/simple"\n',
    ".gitconfig": '[user]\nname = Ada\nemail = ada@example.com\n[url "https://ada:{}@git.example.com/"]\n'
    "insteadOf = https://git.example.com/\n",
    ".git-credentials": "https://ada:{}@git.example.com\n",
    ".ssh/id_ed25519": "-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----\n",
    ".aws/credentials": "[default]\naws_secret_access_key = {}\n",
    ".config/gcloud/application_default_credentials.json": '{{"refresh_token": "{}"}}\n',
    ".azure/accessTokens.json": '[{{"accessToken": "{}"}}]\n',
    ".kube/config": "users:\n- user:\n    token: {}\n",
    ".npmrc": "//npm.example.com/:_authToken={}\n",
    ".cache/huggingface/token": "{}\n",
    ".pgpass": "db:5432:*:ada:{}\n",
}

PROJECT = {
    ".env": "TOKEN={}\n",
    ".env.production": "TOKEN={}\n",
    "secrets.json": '{{"key": "{}"}}\n',
    "terraform.tfstate": '{{"password": "{}"}}\n',
    "notebooks/look.ipynb": '{{"cells": [{{"outputs": [{{"text": ["{}"]}}]}}]}}\n',
    "tests/test_tiny.py": 'TOKEN = "{}"\n',
    "tiny/ignored/keys.json": '{{"key": "{}"}}\n',
    "tiny/local.env": "TOKEN={}\n",
    "tiny/.ipynb_checkpoints/look.ipynb": '{{"cells": ["{}"]}}\n',
    "tiny/__pycache__/old.cpython-311.pyc": "{}",
}


@dataclass
class Canaries:
    """What must not be found, by where it was planted."""

    planted: dict[str, str] = field(default_factory=dict)

    def new(self, where: str) -> str:
        value = f"c4n4ry{len(self.planted):02d}x{base64.b16encode(where.encode()).decode()[:12]}z"
        self.planted[where] = value
        return value

    def add(self, where: str, value: str) -> None:
        self.planted[where] = value

    def found(self, data: bytes) -> set[str]:
        """Where the canaries came from that are in ``data``."""
        return {where for where, value in self.planted.items() if value.encode() in data}


@dataclass(frozen=True)
class Scene:
    workshop: Workshop
    root: Path
    canaries: Canaries
    registry: RunningRegistry


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, pantry: Path, auth_registry: RunningRegistry) -> Scene:
    """A workshop whose every corner holds a secret."""
    from workshop import make_workshop

    canaries = Canaries()
    made = make_workshop(tmp_path_factory.mktemp("secrets"), pantry)
    home = Path(made.environment["HOME"])
    for name, text in HOME.items():
        plant(home / name, text.format(canaries.new(f"~/{name}")))
    variables = {name: canaries.new(name) for name in ENVIRONMENT}
    variables["PIP_INDEX_URL"] = f"https://ada:{variables['PIP_INDEX_URL']}@index.example.com/simple"
    workshop = made.having(**variables)
    root = workshop.recipe(image=f'repository = "{auth_registry.host}/secrets/tiny"')
    (root / ".gitignore").write_text(".env*\nsecrets.json\nignored/\n*.env\n")
    for name, text in PROJECT.items():
        plant(root / name, text.format(canaries.new(name)))
    for arguments in (
        ("init", "-q"),
        ("remote", "add", "origin", f"https://ada:{canaries.new('.git/config')}@git.example.com/tiny.git"),
        ("add", "pyproject.toml", "tiny/model.py"),
        ("-c", "user.name=Ada", "-c", "user.email=ada@example.com", "commit", "-q", "-m", "all of it"),
    ):
        subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True)
    # The registry's own password is one, in both forms in which it is shown and kept.
    auth_registry.environment(Path(workshop.environment["DOCKER_CONFIG"]))
    canaries.add("docker config", PASSWORD)
    canaries.add("docker config, encoded", base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode())
    assert len(canaries.planted) >= 40
    return Scene(workshop, root, canaries, auth_registry)


def plant(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def inflated(data: bytes) -> bytes:
    """The bytes themselves and, where they are gzip, what is in them."""
    return data + gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def leaks(scene: Scene, *folders: Path) -> dict[str, set[str]]:
    """Files below the folders that hold a canary, and which."""
    result = {}
    for folder in folders:
        files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        assert files, folder
        for path in files:
            found = scene.canaries.found(inflated(path.read_bytes()))
            if found:
                result[str(path)] = found
    return result


def places(scene: Scene) -> Iterator[Path]:
    """Where a build leaves something."""
    yield scene.registry.folder / "storage"
    yield scene.root / ".mealkit"
    yield Path(scene.workshop.environment["MEALKIT_CACHE"])


def said(scene: Scene, *texts: str) -> None:
    for text in texts:
        assert not scene.canaries.found(text.encode()), text


@pytest.mark.registry
def test_the_scan_finds_what_is_there(scene: Scene, tmp_path: Path) -> None:
    """The test of the test: every canary is found where it was planted, and in a layer."""
    assert len(scene.canaries.planted) >= 40
    for where, value in scene.canaries.planted.items():
        (tmp_path / "layer").write_bytes(gzip.compress(b"x" * 999 + value.encode()))
        assert leaks(scene, tmp_path) == {str(tmp_path / "layer"): {where}}


@pytest.mark.registry
def test_no_secret_leaves_by_a_build(scene: Scene, tmp_path: Path) -> None:
    mealkit, root = scene.workshop.mealkit, scene.root
    files = [part for name in ("record", "digest", "metadata") for part in (f"--{name}-file", tmp_path / name)]
    files[0] = "--record"
    built = mealkit("build", "-C", root, "--push", "--attest", "--json", *files)
    assert built.status == 0, built.err
    url = json.loads(built.out)["url"]
    said(scene, built.out, built.err, (root / "pylock.toml").read_text())
    commands = [
        ("inspect", url, "--json"), ("inspect", url), ("tree", url), ("tree", url, "--json"), ("sbom", url),
        ("diff", url, url, "--json"), ("verify", url), ("check",), ("cache", "ls"),
        ("push", url, "--to", f"oci:{tmp_path}/copy"),
    ]  # fmt: skip
    for command in commands:
        done = mealkit(*command, cwd=root)
        assert done.status == 0 or command[0] == "verify", done.err  # the folder is dirty, which verify may refuse
        said(scene, done.out, done.err)
    assert not leaks(scene, *places(scene), tmp_path)


@pytest.mark.registry
def test_no_secret_leaves_by_errors_and_logs(
    scene: Scene, caplog: pytest.LogCaptureFixture, tmp_path: Path, auth_registry: RunningRegistry
) -> None:
    from mealkit.errors import MealkitError

    caplog.set_level(logging.DEBUG)
    logging.getLogger("urllib3").setLevel(logging.INFO)
    place = f"{auth_registry.host}/secrets/other"
    scene.workshop.build(scene.root, place)
    assert caplog.records  # the log is on
    said(scene, caplog.text)
    wrong = scene.canaries.new("a wrong password")
    config = {"auths": {auth_registry.host: {"auth": base64.b64encode(f"ada:{wrong}".encode()).decode()}}}
    scene.canaries.add("a wrong password, encoded", config["auths"][auth_registry.host]["auth"])
    plant(tmp_path / "config.json", json.dumps(config))
    with pytest.raises(MealkitError) as caught:
        scene.workshop.having(DOCKER_CONFIG=str(tmp_path)).build(scene.root, place)
    said(scene, caught.value.render(), json.dumps(caught.value.to_json()), caplog.text)
    plant(tmp_path / "config.json", '{"auths": {"' + wrong)
    done = scene.workshop.having(DOCKER_CONFIG=str(tmp_path)).mealkit("build", "-C", scene.root, "--to", place)
    assert done.status == 2
    said(scene, done.out, done.err)
    plant(tmp_path / "config.json", "{}")
    index = scene.canaries.new("an index that does not answer")
    alone = scene.workshop.recipe("alone", dependencies=["nowhere-to-be-found"])
    online = scene.workshop.online(f"http://ada:{index}@127.0.0.1:9/simple")
    done = online.mealkit("build", "-C", alone, "--to", f"oci:{tmp_path}/out")
    assert done.status != 0
    said(scene, done.out, done.err)


@pytest.mark.engine
@pytest.mark.registry
def test_no_secret_leaves_by_the_engine(scene: Scene, engine: Any, tmp_path: Path) -> None:
    place = f"{scene.registry.host}/secrets/engine"
    done = scene.workshop.mealkit("build", "-C", scene.root, "--engine", "docker", "--to", place, "--json")
    try:
        assert done.status == 0, done.err
        said(scene, done.out, done.err)
        with (tmp_path / "saved.tar").open("wb") as file:
            for block in engine.api.get_image(f"{place}:latest"):
                file.write(block)
        said(scene, json.dumps([engine.api.inspect_image(f"{place}:latest"), engine.api.history(f"{place}:latest")]))
        assert not leaks(scene, *places(scene), tmp_path)
    finally:
        for tag in ("1.0.0", "latest"):
            engine.images.remove(f"{place}:{tag}", force=True)
