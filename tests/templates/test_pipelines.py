"""The pipelines: each fits its own schema, and what it runs builds, logs in and pushes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from workshop import MEALKIT, Workshop

from mealkit.errors import UsageError
from mealkit.project import read_project
from mealkit_builder.pipeline import PLACES, render_pipeline
from mealkit_builder.testing import MemoryRegistry

KUBERNETES = "1.31"


@pytest.fixture(scope="module")
def memory() -> Iterator[MemoryRegistry]:
    with MemoryRegistry(users={"ada": "love:lace"}) as one:
        yield one


@pytest.fixture(scope="module")
def source(shop: Workshop) -> Path:
    """A repository with a recipe in a folder, committed with its lock."""
    top = shop.folder / "pipeline-source"
    root = shop.recipe("piped", within=top / "recipes", image='repository = "registry.example.com/team/piped"')
    (top / ".gitignore").write_text(".mealkit\nmetadata.json\n__pycache__/\n")
    for arguments in (
        ("init", "-q", "-b", "main"),
        ("remote", "add", "origin", "https://ada:secret@git.example.com/team/shop.git"),
        ("add", "-A"),
        ("-c", "user.name=Ada", "-c", "user.email=ada@example.com", "commit", "-qm", "a recipe"),
    ):
        subprocess.run(["git", "-C", str(top), *arguments], check=True, timeout=30)
    return root


def rendered(kind: str, root: Path, to: str | None = None) -> Any:
    return yaml.safe_load(render_pipeline(kind, read_project(root), to))


@pytest.mark.parametrize(("kind", "schema"), [("github", "vendor.github-workflows"), ("gitlab", "vendor.gitlab-ci")])
def test_a_workflow_fits_its_schema(kind: str, schema: str, source: Path, tmp_path: Path) -> None:
    def check(text: str) -> subprocess.CompletedProcess[str]:
        file = tmp_path / "pipeline.yml"
        file.write_text(text)
        program = Path(sys.executable).with_name("check-jsonschema")
        return subprocess.run(
            [str(program), "--builtin-schema", schema, str(file)], capture_output=True, text=True, timeout=60
        )

    text = render_pipeline(kind, read_project(source))
    assert check(text).returncode == 0, check(text).stdout
    assert check(re.sub(r"(runs-on|script):", "nonsense:", text)).returncode == 1


def test_the_job_fits_kubernetes_schema(source: Path) -> None:
    job = rendered("kubernetes", source)
    kubernetes_validate.validate(job, KUBERNETES, strict=True)
    job["spec"]["template"]["spec"]["containers"][0]["securityContext"]["privileges"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, KUBERNETES, strict=True)


def test_the_task_fits_tektons_specification(source: Path) -> None:
    """Its steps are Kubernetes containers, but for what Tekton adds; the rest by Tekton's documented fields."""
    task = rendered("tekton", source)
    assert (task["apiVersion"], task["kind"]) == ("tekton.dev/v1", "Task")
    spec = task["spec"]
    assert set(spec) <= {
        "description",
        "params",
        "workspaces",
        "results",
        "steps",
        "volumes",
        "stepTemplate",
        "sidecars",
    }
    for one in spec["params"]:
        assert set(one) <= {"name", "description", "type", "default", "properties", "enum"}
        assert one["type"] in ("string", "array", "object")
    for one in spec["workspaces"]:
        assert set(one) <= {"name", "description", "mountPath", "optional", "readOnly"}
    for one in spec["results"]:
        assert set(one) <= {"name", "description", "type", "properties", "value"}
    for step in spec["steps"]:
        container = {name: value for name, value in step.items() if name not in ("script", "computeResources")}
        container["resources"] = step["computeResources"]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [container]}}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    names = {kind: {one["name"] for one in spec[kind]} for kind in ("params", "workspaces", "results")}
    for kind, name in re.findall(r"\$\((params|workspaces|results)\.([\w-]+)", json.dumps(task)):
        assert name in names[kind]
    assert "$(" not in spec["steps"][0]["script"].replace("$(printf", ""), "parameters must not be pasted into a script"


@pytest.mark.parametrize("kind", ["tekton", "kubernetes"])
def test_nothing_is_privileged(kind: str, source: Path) -> None:
    document = rendered(kind, source)
    spec = document["spec"]
    (container,) = spec["steps"] if kind == "tekton" else spec["template"]["spec"]["containers"]
    around = {} if kind == "tekton" else spec["template"]["spec"]["securityContext"]
    context = {**around, **container["securityContext"]}
    assert context["runAsNonRoot"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    text = json.dumps(document)
    assert "docker.sock" not in text
    assert "privileged" not in text
    assert "hostPath" not in text


@pytest.mark.parametrize("kind", PLACES)
def test_a_pipeline_names_the_recipe_and_no_secret(kind: str, source: Path) -> None:
    text = render_pipeline(kind, read_project(source))
    assert "registry.example.com/team/piped" in text
    assert "recipes/piped" in text
    assert "secret@" not in text
    assert "ada:" not in text


def test_a_pipeline_needs_a_registry(source: Path, shop: Workshop) -> None:
    with pytest.raises(UsageError, match="names no repository"):
        render_pipeline("github", read_project(shop.recipe("unpiped")))
    with pytest.raises(UsageError, match="no repository of a registry"):
        render_pipeline("github", read_project(source), "oci:folder")


def test_the_command_writes_a_new_file_only(shop: Workshop, source: Path, tmp_path: Path) -> None:
    printed = shop.mealkit("pipeline", "github", "-C", source)
    assert printed.out == render_pipeline("github", read_project(source))
    file = tmp_path / "workflows" / "mealkit.yml"
    assert shop.mealkit("pipeline", "github", "-C", source, "-o", file).out == f"made {file}\n"
    assert file.read_text() == printed.out
    again = shop.mealkit("pipeline", "gitlab", "-C", source, "-o", file)
    assert again.status == 2
    assert "hint: name another one, such as .gitlab-ci.yml" in again.err
    assert file.read_text() == printed.out


def run(script: str, shop: Workshop, cwd: Path, **variables: str) -> str:
    """A script as a runner runs it, with this environment's ``python`` and ``mealkit`` first on the path."""
    path = f"{Path(MEALKIT).parent}:{shop.environment['PATH']}"
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        cwd=cwd,
        env={**shop.environment, "PATH": path, **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_gitlab_runs_logs_in_and_pushes(
    shop: Workshop, source: Path, memory: MemoryRegistry, tmp_path: Path
) -> None:
    job = rendered("gitlab", source, f"{memory.host}/gitlab/piped")["build-image"]
    top = source.parents[1]
    variables = {
        "CI_PROJECT_DIR": str(top), "CI_REGISTRY": memory.host, "CI_REGISTRY_USER": "ada",
        "CI_REGISTRY_PASSWORD": "love:lace", "CI_COMMIT_REF_SLUG": "main", "DOCKER_CONFIG": str(tmp_path / "docker"),
    }  # fmt: skip
    out = run("\n".join([*job["before_script"], *job["script"]]), shop, top, **variables)
    assert memory.tags("gitlab/piped") == {"main"}
    told = json.loads((top / "metadata.json").read_text())
    digest = told["containerimage.digest"]
    assert told["image.name"] == f"{memory.host}/gitlab/piped:main"
    assert told["mealkit.record"]["revision"] is not None
    assert told["mealkit.record"]["dirty"] is False
    assert (top / "image.env").read_text() == f"IMAGE_URL={memory.host}/gitlab/piped@{digest}\n"
    assert digest in out
    assert (tmp_path / "docker" / "config.json").stat().st_mode & 0o077 == 0
    run("\n".join(job["after_script"]), shop, top, **variables)
    assert not (tmp_path / "docker").exists()
    (top / "image.env").unlink()


def test_what_github_runs_logs_in_and_pushes(
    shop: Workshop, source: Path, memory: MemoryRegistry, tmp_path: Path
) -> None:
    steps = rendered("github", source, f"{memory.host}/github/piped")["jobs"]["build"]["steps"]
    variables = {
        "GITHUB_OUTPUT": str(tmp_path / "output"), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
        "HOME": str(tmp_path), "REGISTRY": memory.host, "REGISTRY_USER": "ada", "REGISTRY_PASSWORD": "love:lace",
        "REF_NAME": "feature/new", "DOCKER_CONFIG": str(tmp_path / ".docker"),
    }  # fmt: skip
    for step in steps:
        if "run" in step and step.get("if", "!=") != "github.event_name == 'pull_request'":
            assert set(step.get("env", {})) <= set(variables)
            run(step["run"], shop, source, **variables)
    assert memory.tags("github/piped") == {"feature-new"}
    digest = memory.tag_digests["github/piped"]["feature-new"]
    assert (tmp_path / "output").read_text() == f"url={memory.host}/github/piped@{digest}\n"
    assert (source / "metadata.json").is_file()


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A ``python`` whose new environments have this mealkit: what an index would give, once it is published."""
    program = tmp_path / "bin" / "python"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\n[ "$1 $2" = "-m venv" ] || exit 9\nmkdir -p "$3/bin"\nln -s {MEALKIT} "$3/bin/mealkit"\n'
        f'printf \'#!/bin/sh\\nexec {sys.executable} -m pip "$@"\\n\' > "$3/bin/pip"\nchmod +x "$3/bin/pip"\n'
    )
    program.chmod(0o755)
    return program.parent


def test_what_kubernetes_runs_builds_a_clone(
    shop: Workshop, source: Path, memory: MemoryRegistry, tmp_path: Path, prepared: Path
) -> None:
    job = rendered("kubernetes", source, f"{memory.host}/kubernetes/piped")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    variables = {one["name"]: one["value"] for one in container["env"]}
    assert variables["SOURCE"] == "https://git.example.com/team/shop.git"
    variables |= {
        "SOURCE": str(source.parents[1]), "HOME": str(tmp_path), "DOCKER_CONFIG": str(tmp_path / "docker"),
        "PATH": f"{prepared}:{os.environ['PATH']}", "MEALKIT_CACHE": str(tmp_path / "cache"),
    }  # fmt: skip
    log_in(tmp_path / "docker", memory)
    script = container["args"][0].replace("/dev/termination-log", str(tmp_path / "message"))
    work = tmp_path / "work"
    work.mkdir()
    shell, flags = container["command"]
    done = subprocess.run(
        [shell, flags, script],
        cwd=work,
        env={**shop.environment, **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    digest = memory.tag_digests["kubernetes/piped"]["latest"]
    assert (tmp_path / "message").read_text() == f"{memory.host}/kubernetes/piped@{digest}\n"


def test_what_tekton_runs_gives_its_results(
    shop: Workshop, source: Path, memory: MemoryRegistry, tmp_path: Path, prepared: Path
) -> None:
    (step,) = rendered("tekton", source, f"{memory.host}/tekton/piped")["spec"]["steps"]
    log_in(tmp_path / "docker", memory)
    variables = {
        "HOME": str(tmp_path), "DOCKER_CONFIG": str(tmp_path / "docker"), "REPOSITORY": f"{memory.host}/tekton/piped",
        "TAG": "latest", "URL_FILE": str(tmp_path / "url"), "DIGEST_FILE": str(tmp_path / "digest"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PATH": f"{prepared}:{os.environ['PATH']}",
    }  # fmt: skip
    assert {one["name"] for one in step["env"]} <= set(variables)
    script = tmp_path / "script"
    script.write_text(step["script"].replace("/tmp/venv", str(tmp_path / "venv")))
    script.chmod(0o755)
    done = subprocess.run(
        [str(script)], cwd=source, env={**shop.environment, **variables}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "digest").read_text() == memory.tag_digests["tekton/piped"]["latest"]
    assert (tmp_path / "url").read_text() == f"{memory.host}/tekton/piped"


def log_in(folder: Path, memory: MemoryRegistry) -> None:
    import base64

    folder.mkdir()
    auth = base64.b64encode(b"ada:love:lace").decode()
    (folder / "config.json").write_text(json.dumps({"auths": {memory.host: {"auth": auth}}}))
