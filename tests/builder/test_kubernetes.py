"""Manifests of a run on a cluster: they fit Kubernetes' schemas, and a pod gets exactly what the user gave."""

from __future__ import annotations

import re
from typing import Any

import kubernetes_validate
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pods import arguments_of, expand, variables_of
from ruamel.yaml import YAML

from mealkit.errors import UsageError
from mealkit.spec import RecipeSpec
from mealkit_builder.assembly import PACKAGES_LABEL
from mealkit_builder.cluster import GPU, LONGEST_NAME, ClusterOptions, ClusterRun, parse_claim, plan_run, run_name
from mealkit_builder.cluster_check import Claim
from mealkit_builder.container import RunOptions
from mealkit_builder.image import Image, ImageConfig
from mealkit_builder.kubernetes import MESSAGE_FILE, manifests
from mealkit_builder.platform import Platform
from mealkit_builder.pull import Pulled
from mealkit_builder.quantity import cpu_quantity, gpu_quantity, memory_quantity, whole_cores
from mealkit_builder.remote import RemoteImage
from mealkit_builder.yaml_text import to_yaml

VERSIONS = ["1.29", "1.31", "1.33", "1.35", "1.37"]
URL = "registry.example.com/team/churn@sha256:" + "7" * 64
SCORE = ("--input", "/data/new", "--model", "/data/model", "--output", "/data/scores")
DATA = Claim("shop", "/data")
SPEC = RecipeSpec(
    "purchase_propensity",
    "1.2.0+local",
    hyperparameters={"properties": {"rate": {"type": "number"}, "api_key": {"type": "string", "writeOnly": True}}},
)


def remote(
    spec: RecipeSpec = SPEC, *, url: str = URL, user: str = "65532:65532", index: bool = False, packages: str = ""
) -> RemoteImage:
    labels = ((PACKAGES_LABEL, packages),) if packages else ()
    image = Image(Platform("linux", "arm64"), config=ImageConfig(user=user, labels=labels))
    return RemoteImage(url, spec, Pulled(image, "sha256:index" if index else "sha256:one", "sha256:one", "sha256:two"))


def plan(
    mode: str = "score",
    arguments: tuple[str, ...] = SCORE,
    *,
    image: RemoteImage | None = None,
    environment: dict[str, str] | None = None,
    claims: tuple[Claim, ...] = (DATA,),
    user: str | None = None,
    memory: str | None = None,
    cpus: float | None = None,
    gpus: str | None = None,
    env: dict[str, str] | None = None,
    **options: Any,
) -> ClusterRun:
    return plan_run(
        image or remote(), mode, arguments,
        RunOptions(user=user, memory=memory, cpus=cpus, gpus=gpus, env=env or {}),
        ClusterOptions(claims=claims, **options), environment or {},
    )  # fmt: skip


def job(*arguments: Any, **options: Any) -> Any:
    (made,) = manifests(plan(*arguments, **options))
    return made


def pod(manifest: Any) -> Any:
    return manifest["spec"]["template"]["spec"]


def container(manifest: Any) -> Any:
    (one,) = pod(manifest)["containers"]
    return one


EVERYTHING: dict[str, Any] = {
    "claims": (DATA, Claim("look-ups", "/products", read_only=True)), "user": "1000:2000", "memory": "2g", "cpus": 1.5,
    "gpus": "1", "env": {"AWS_REGION": "eu-central-1"}, "namespace": "ml", "env_from": ("s3", "more"),
    "pull_secrets": ("registry",), "service_account": "scorer", "deadline": 3600, "retries": 5,
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "train": {"mode": "train", "arguments": ("--input", "s3://shop/visits", "--model", "/data/model")},
    "evaluate": {"mode": "evaluate", "arguments": ("--input", "/data/test", "--model", "/data/model")},
    "describe": {"mode": "describe", "arguments": (), "claims": ()},
    "score": EVERYTHING,
    "shards": {**EVERYTHING, "arguments": (*SCORE, "--shard", "auto/8"), "parallelism": 3},
    "dask": {**EVERYTHING, "dask_workers": 4},
}


@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_fit_kubernetes_schemas(version: str) -> None:
    for options in KINDS.values():
        for document in yaml.safe_load_all(to_yaml(manifests(plan(**options)))):
            kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[-1]])
def test_the_schemas_would_notice(version: str) -> None:
    """One mistake in each object of each manifest: its schema is looked at."""
    noticed = 0
    for document in manifests(plan(**KINDS["dask"])):
        places = [document["spec"]]
        if document["kind"] == "Job":
            inner = pod(document)
            places += [inner, inner["securityContext"], *document["spec"].get("podFailurePolicy", {}).get("rules", ())]
            places += [*inner["containers"], *inner.get("initContainers", ()), *inner["volumes"]]
        for place in places:
            place["nonsense"] = 1
            with pytest.raises(kubernetes_validate.ValidationError):
                kubernetes_validate.validate(document, version, strict=True)
            del place["nonsense"]
            noticed += 1
        kubernetes_validate.validate(document, version, strict=True)
    assert noticed > 15
    wrong = job()
    wrong["spec"]["backoffLimit"] = "three"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, version, strict=True)


@pytest.mark.parametrize("kind", KINDS)
def test_pods_fit_the_restricted_standard(kind: str) -> None:
    for document in manifests(plan(**KINDS[kind])):
        if document["kind"] != "Job":
            continue
        inner = pod(document)
        assert inner["securityContext"]["runAsNonRoot"] is True
        assert inner["securityContext"]["runAsUser"] > 0
        assert inner["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert inner["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(inner)
        assert all({"emptyDir", "persistentVolumeClaim"} & set(volume) for volume in inner["volumes"])
        for one in [*inner["containers"], *inner.get("initContainers", ())]:
            assert one["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            mounted = {mount["mountPath"] for mount in one["volumeMounts"]}
            assert {"/tmp", "/dev/shm"} <= mounted
            assert all("hostPort" not in port for port in one.get("ports", ()))


def test_expansion_is_that_of_kubernetes() -> None:
    known = {"A": "a", "B": "$(A)", "EMPTY": ""}
    for text, meant in {
        "$(A)-$(B)$(EMPTY)": "a-$(A)", "$$(A)": "$(A)", "$$$(A)": "$a", "$$$$(A)": "$$(A)", "$A ${A} $": "$A ${A} $",
        "$(NONE)": "$(NONE)", "$(A": "$(A", "$$": "$", "a$$b": "a$b", "$(A$(B))": "$(A$(B))",
    }.items():  # fmt: skip
        assert expand(text, known) == meant, text


HOSTILE = [
    "", "$(JOB_NAME)", "$$", "$", "a: b", "- a", "#", "'", '"', "\\", "\n", "\r\n", "\x85\u2028", "\ufeff", "{{a}}",
    "yes", "NO", "null", "~", "1e3", "0o7", "12:30", "2026-11-23", "1_000", ".inf", "!!python/object:os.system", "&a",
    "*a", "%YAML", "---", "...", "| ", "> ", "?", "\U0001f600", "\x1b[0m", "\x7f", " a ", "<<", "=", "/", "//a",
]  # fmt: skip
TEXTS = st.sampled_from(HOSTILE) | st.text(
    st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=40
)


@settings(deadline=None)
@given(st.lists(TEXTS), st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True), TEXTS))
def test_a_pod_gets_what_was_given(arguments: list[str], env: dict[str, str]) -> None:
    """Through YAML, as libyaml reads it (and its port, which kubectl has), and Kubernetes' expansion."""
    run = ClusterRun("a", URL, "a", "1", "score", tuple(arguments), None, env, (1, 1), {}, {}, "1Mi")
    text = to_yaml(manifests(run))
    assert text.isascii()
    made = yaml.load(text, yaml.CSafeLoader)
    assert arguments_of(container(made), "a") == ["score", *arguments]
    assert env.items() <= variables_of(container(made), "a").items()


NESTED = st.recursive(
    TEXTS | st.integers() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.dictionaries(TEXTS, NESTED, min_size=1), min_size=1, max_size=3))
def test_yaml_is_read_back(documents: list[dict[str, Any]]) -> None:
    """By a reader of YAML 1.1, and one of 1.2."""
    text = to_yaml(documents)
    assert list(yaml.safe_load_all(text)) == documents
    assert list(YAML(typ="safe", pure=True).load_all(text)) == documents


@pytest.mark.parametrize("text", ["a\0b", "\udcff", "a\ud800"])
def test_what_is_no_text_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a text"):
        plan("train", ("--where", text))
    with pytest.raises(UsageError, match="not a text"):
        plan(env={"A": text})


class TestNames:
    LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")

    @given(st.text("abZ09-_. ä", max_size=80), st.text("abZ09-_. ä", max_size=140))
    def test_they_are_dns_labels_also_with_what_comes_behind(self, recipe: str, mark: str) -> None:
        name = run_name(recipe, "score", mark)
        assert len(name) <= LONGEST_NAME
        for end in ("", "-scheduler", "-workers", "-99999"):
            assert self.LABEL.fullmatch(name + end)
        assert run_name(recipe, "score", mark) == name

    def test_different_runs_have_different_names(self) -> None:
        marks = ["2026.11.23", "2026-11-23", "2026_11_23", "A", "a", "ä", "", "a" * 60, "a" * 61, "a" * 200, "a-", "-a"]
        assert len({run_name("shop", "score", mark) for mark in marks}) == len(marks)

    def test_a_name_tells_recipe_mode_and_run(self) -> None:
        assert plan(arguments=(*SCORE, "--run-id", "2026-11-23")).name == "purchase-propensity-score-2026-11-23"
        assert plan(env={"MEALKIT_RUN_ID": "monday"}).name == "purchase-propensity-score-monday"
        assert run_name("2048", "train", "a") != run_name("run-2048", "train", "a")

    def test_the_same_run_has_the_same_name(self) -> None:
        names = {plan().name, plan(memory="4g").name, plan(retries=0).name}
        assert len(names) == 1
        others = [
            plan(arguments=(*SCORE, "--limit", "5")),
            plan("evaluate", SCORE[:4]),
            plan(env={"MEALKIT_WHERE": "pages > 1"}),
            plan(image=remote(url=URL.replace("7", "8"))),
        ]
        assert len(names | {one.name for one in others}) == 5


def test_the_run_id_is_given_or_the_jobs_name() -> None:
    told = variables_of(container(job()), "the-job")
    assert told["JOB_NAME"] == told["MEALKIT_RUN_ID"] == "the-job"
    assert told["MEALKIT_IMAGE"] == URL
    assert told["MEALKIT_TERMINATION_LOG"] == MESSAGE_FILE
    named = container(job(arguments=(*SCORE, "--run-id=monday")))
    assert "MEALKIT_RUN_ID" not in variables_of(named, "the-job")
    assert arguments_of(named, "the-job") == ["score", *SCORE, "--run-id=monday"]
    assert variables_of(container(job(env={"JOB_NAME": "mine"})), "the-job")["MEALKIT_RUN_ID"] == "mine"


def test_a_plain_job() -> None:
    made = job(namespace="ml", deadline=60, retries=2)
    spec = made["spec"]
    assert made["metadata"]["namespace"] == "ml"
    assert made["metadata"]["annotations"] == {"io.mealkit/image": URL}
    assert made["metadata"]["labels"]["app.kubernetes.io/instance"] == made["metadata"]["name"]
    assert made["metadata"]["labels"]["app.kubernetes.io/version"] == "1.2.0-local"
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"]) == (2, 60, 86400)
    assert not {"completions", "completionMode", "parallelism"} & set(spec)
    assert (pod(made)["restartPolicy"], pod(made)["terminationGracePeriodSeconds"]) == ("Never", 30)
    ignore, fail = spec["podFailurePolicy"]["rules"]
    assert (ignore["action"], ignore["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")
    assert fail["action"] == "FailJob"
    assert fail["onExitCodes"] == {"containerName": "run", "operator": "NotIn", "values": [75, 137, 143, 255]}
    assert "activeDeadlineSeconds" not in job()["spec"]


def test_shards_are_one_indexed_job() -> None:
    spec = job(arguments=(*SCORE, "--shard", "auto/8"))["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 8, 8)
    assert spec["backoffLimitPerIndex"] == 3
    assert "backoffLimit" not in spec
    assert job(env={"MEALKIT_SHARD": "auto/8"}, parallelism=2)["spec"]["parallelism"] == 2


@pytest.mark.parametrize(
    ("mode", "arguments", "options", "message"),
    [
        ("score", (*SCORE, "--shard", "2/8"), {}, "a Job has all shards"),
        ("score", (*SCORE, "--shard", "auto/0"), {}, "a Job has all shards"),
        ("score", (*SCORE, "--shard", "auto/4"), {"parallelism": 5}, "4 shards only"),
        ("score", SCORE, {"parallelism": 5}, "only shards are many"),
        ("score", (*SCORE, "--shard", "auto/4"), {"dask_workers": 2}, "does not go with"),
        ("score", (*SCORE, "--engine", "dask://a:1"), {"dask_workers": 2}, "does not go with"),
        ("score", (*SCORE, "--workers", "2"), {"dask_workers": 2}, "does not go with"),
        ("train", (), {"dask_workers": 2, "env": {"MEALKIT_TRIAL_WORKERS": "2"}}, "does not go with"),
        ("evaluate", (), {"dask_workers": 2}, "do not evaluate"),
        ("worker", (), {}, "runs no 'worker'"),
        ("describe", (), {"namespace": "No"}, "not a namespace"),
        ("describe", (), {"env_from": ("a b",)}, "not the name of a Secret"),
        ("describe", (), {"pull_secrets": ("",)}, "not the name of a Secret"),
        ("describe", (), {"service_account": "A"}, "not the name of a ServiceAccount"),
        ("describe", (), {"env": {"a b": ""}}, "not the name of a variable"),
        ("describe", (), {"claims": (DATA, Claim("other", "/data"))}, "two volumes at /data"),
        ("describe", (), {"user": "0:0"}, "not a user for a cluster"),
        ("describe", (), {"user": "ada"}, "not a user for a cluster"),
        ("describe", (), {"gpus": "all"}, "not a number of GPUs"),
        ("describe", (), {"memory": "much"}, "not an amount of memory"),
        ("describe", (), {"cpus": 0.0}, "not a number of processors"),
        ("describe", (), {"image": remote(url="oci:/images@sha256:" + "7" * 64)}, "from a registry only"),
    ],
)
def test_what_a_cluster_cannot_do_is_refused(
    mode: str, arguments: tuple[str, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        plan(mode, arguments, **options)
    assert caught.value.hint


class TestDask:
    def test_who_finds_whom(self) -> None:
        policy, service, workers, scored = manifests(plan(**KINDS["dask"]))
        name = scored["metadata"]["name"]
        assert [one["metadata"]["name"] for one in (policy, service, workers)] == [
            name, f"{name}-scheduler", f"{name}-workers",
        ]  # fmt: skip
        assert {one["metadata"]["namespace"] for one in (policy, service, workers, scored)} == {"ml"}

        def labels(manifest: Any) -> set[tuple[str, str]]:
            return set(manifest["spec"]["template"]["metadata"]["labels"].items())

        selected = set(service["spec"]["selector"].items())
        assert selected <= labels(scored)
        assert not selected <= labels(workers)
        guarded = set(policy["spec"]["podSelector"]["matchLabels"].items())
        assert guarded <= labels(scored) & labels(workers)
        ((allowed,),) = [one["from"] for one in policy["spec"]["ingress"]]
        assert allowed == {"podSelector": policy["spec"]["podSelector"]}
        (other,) = manifests(plan(**EVERYTHING, arguments=(*SCORE, "--run-id", "other")))
        assert not guarded <= labels(other)

        address = f"dask://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
        assert arguments_of(container(scored), name) == ["score", "--engine", address, *SCORE]
        assert arguments_of(container(workers), name) == ["worker", "--engine", address]

    def test_the_scheduler_ends_with_the_run(self) -> None:
        *_, scored = manifests(plan(**KINDS["dask"]))
        (scheduler,) = pod(scored)["initContainers"]
        assert scheduler["restartPolicy"] == "Always"
        assert scheduler["args"] == ["scheduler"]
        ports = {one["name"]: one["containerPort"] for one in scheduler["ports"]}
        assert ports == {"scheduler": 8786, "health": 8787}
        assert scheduler["startupProbe"]["httpGet"] == {"path": "/health", "port": "health"}
        # Its workers would be gone, and a second try wait for them in vain.
        assert scored["spec"]["backoffLimit"] == 0
        assert "podFailurePolicy" not in scored["spec"]
        ((alias, host),) = [(one["ip"], *one["hostnames"]) for one in pod(scored)["hostAliases"]]
        assert (alias, host) == ("127.0.0.1", scored["metadata"]["name"] + "-scheduler")
        assert "envFrom" not in scheduler

    def test_workers_see_what_the_run_sees(self) -> None:
        _, _, workers, scored = manifests(plan(**KINDS["dask"]))
        for field in ("image", "volumeMounts", "envFrom", "resources", "securityContext"):
            assert container(workers)[field] == container(scored)[field]
        for field in ("volumes", "securityContext", "serviceAccountName", "imagePullSecrets", "nodeSelector"):
            assert pod(workers)[field] == pod(scored)[field]
        assert variables_of(container(workers), "a").items() <= variables_of(container(scored), "a").items()
        spec = workers["spec"]
        assert (spec["parallelism"], spec["backoffLimit"], spec["activeDeadlineSeconds"]) == (4, 20, 3600)
        assert "completions" not in spec
        assert spec["podFailurePolicy"]["rules"][1]["onExitCodes"]["containerName"] == "worker"
        assert manifests(plan(dask_workers=4))[2]["spec"]["backoffLimit"] == 4

    def test_the_run_waits_for_a_node_to_come(self) -> None:
        *_, scored = manifests(plan(dask_workers=1))
        assert variables_of(container(scored), "a")["MEALKIT_ENGINE_WAIT"] == "900"
        *_, scored = manifests(plan(dask_workers=1, env={"MEALKIT_ENGINE_WAIT": "5"}))
        assert variables_of(container(scored), "a")["MEALKIT_ENGINE_WAIT"] == "5"

    def test_an_image_without_dask_is_refused(self) -> None:
        plan(dask_workers=1, image=remote(packages="dask==1 distributed==1"))
        plan(image=remote(packages="distributed-extra==1 pandas==2"))
        with pytest.raises(UsageError, match="no Dask"):
            plan(dask_workers=1, image=remote(packages="distributed-extra==1 pandas==2"))

    def test_a_worker_has_a_process_for_each_core(self) -> None:
        for cpus, end in ((0.5, []), (1, []), (3.5, ["--workers", "3"])):
            workers = manifests(plan(dask_workers=1, cpus=cpus))[2]
            assert arguments_of(container(workers), "a")[3:] == end


class TestResources:
    def test_options_are_limits(self) -> None:
        amounts = {"cpu": "1500m", "memory": "2Gi", GPU: "1"}
        assert container(job(memory="2g", cpus=1.5, gpus="1"))["resources"] == {"requests": amounts, "limits": amounts}
        assert container(job())["resources"] == {}

    def test_what_the_recipe_declares_is_requested(self) -> None:
        spec = RecipeSpec("a", "1", resources={"cpu": 2, "memory": "4Gi", "gpu": 1})
        told = container(job(image=remote(spec), memory="6g"))["resources"]
        assert told == {
            "requests": {"cpu": "2", "memory": "6Gi", GPU: "1"},
            "limits": {"memory": "6Gi", GPU: "1"},
        }
        with pytest.raises(UsageError, match="amount of memory") as caught:
            plan(image=remote(RecipeSpec("a", "1", resources={"memory": "lots"})))
        assert "--memory overrides" in (caught.value.where or "")

    def test_quantities(self) -> None:
        for text, meant in {"2g": "2Gi", "1.5G": "1536Mi", "512m": "512Mi", "4Gi": "4Gi", "1000": "1000", "2KiB": "2Ki",
                            "1t": "1Ti", "1024b": "1Ki"}.items():  # fmt: skip
            assert memory_quantity(text, "here") == meant
        for text, meant in {"2": "2", "0.5": "500m", "250m": "250m", "2000m": "2", "1.0": "1"}.items():
            assert cpu_quantity(text, "here") == meant
        assert gpu_quantity(2, "here") == "2"
        assert [whole_cores(text) for text in ("250m", "1", "3500m", "4")] == [1, 1, 3, 4]
        for wrong in ("", "0", "-1", "g", "1x", "0.0001b"):
            with pytest.raises(UsageError):
                memory_quantity(wrong, "here")
        for wrong in ("", "0", "-1", "0.0001", "two", "1e3"):
            with pytest.raises(UsageError):
                cpu_quantity(wrong, "here")
        for wrong in ("0", "all", "device=0", "1.5", "²"):
            with pytest.raises(UsageError):
                gpu_quantity(wrong, "here")


def test_the_user_is_the_images_own_unless_that_is_root() -> None:
    for image, wanted, meant in (
        ("65532:65532", None, (65532, 65532)), ("1000", None, (1000, 1000)), ("0:0", None, (65532, 65532)),
        ("ada", None, (65532, 65532)), ("", None, (65532, 65532)), ("0:0", "7:8", (7, 8)), ("5", "7", (7, 7)),
    ):  # fmt: skip
        context = pod(job(image=remote(user=image), user=wanted))["securityContext"]
        assert (context["runAsUser"], context["runAsGroup"]) == meant
        assert context["fsGroup"] == meant[1]


def test_an_image_for_one_platform_goes_to_its_nodes() -> None:
    assert pod(job())["nodeSelector"] == {"kubernetes.io/os": "linux", "kubernetes.io/arch": "arm64"}
    assert "nodeSelector" not in pod(job(image=remote(index=True)))


class TestVolumes:
    def test_claims(self) -> None:
        assert parse_claim("shop:/data") == Claim("shop", "/data")
        assert parse_claim("shop.v1:/data/in/:ro") == Claim("shop.v1", "/data/in", read_only=True)

    @pytest.mark.parametrize(
        "text",
        ["shop", "shop:data", ":/data", "Shop:/data", "shop:/", "shop:/tmp", "shop:/opt", "shop:/opt/mealkit/x",
         "shop:/a:rw", "shop:/dev/shm", "shop:/data/../usr", "shop://usr", "a b:/data"],
    )  # fmt: skip
    def test_no_claims(self, text: str) -> None:
        with pytest.raises(UsageError):
            parse_claim(text)

    def test_mounts(self) -> None:
        claims = (Claim("a", "/data"), Claim("b", "/models", read_only=True), Claim("a", "/more", read_only=True))
        made = job("describe", (), claims=claims)
        volumes = {one["name"]: one.get("persistentVolumeClaim") for one in pod(made)["volumes"]}
        assert [volumes[name] for name in ("claim-0", "claim-1")] == [
            {"claimName": "a"}, {"claimName": "b", "readOnly": True},
        ]  # fmt: skip
        assert len(volumes) == 4
        assert container(made)["volumeMounts"][2:] == [
            {"name": "claim-0", "mountPath": "/data"},
            {"name": "claim-1", "mountPath": "/models", "readOnly": True},
            {"name": "claim-0", "mountPath": "/more", "readOnly": True},
        ]

    @pytest.mark.parametrize(
        "arguments",
        [
            ("--input", "/data/in.csv", "--model", "/models/a", "--output", "s3://shop/scores"),
            ("--input", "products=/models/p.csv", "--input=file:///data/in", "--model", "/models"),
            ("--input", "delta:/data/table@v3", "--output", "delta:/data/scores", "--result", "/data/r/result.json"),
            ("--input", "delta:s3://shop/table", "--input", "/data/*.csv", "--output", "/data/inner/scores"),
            ("--where", "path = '/etc'", "--", "--input", "in.csv"),
        ],
    )
    def test_paths_in_volumes(self, arguments: tuple[str, ...]) -> None:
        claims = (DATA, Claim("models", "/models", read_only=True), Claim("inner", "/data/inner"))
        assert arguments_of(container(job("score", arguments, claims=claims)), "a") == ["score", *arguments]

    @pytest.mark.parametrize(
        ("mode", "arguments", "env", "message", "where"),
        [
            ("score", ("--input", "new.csv"), {}, "does not see this machine's new.csv", "--input"),
            ("score", ("--input", "data/new.csv"), {}, "does not see", "--input"),
            ("score", ("--input=/data2/new.csv",), {}, "does not see", "--input"),
            ("score", ("--input", "/data/../etc/passwd"), {}, "does not see", "--input"),
            ("score", ("--input", "p=/srv/p.csv"), {}, "does not see this machine's /srv/p.csv", "--input"),
            ("score", ("--output", "delta:scores"), {}, "does not see this machine's scores", "--output"),
            ("score", ("--output", "/models/scores"), {}, "mounted read-only", "--output"),
            ("score", ("--output", "/data/old/scores"), {}, "mounted read-only", "--output"),
            ("train", ("--model", "/models/a"), {}, "mounted read-only", "--model"),
            ("train", ("--checkpoint-dir", "/tmp/a"), {}, "does not see", "--checkpoint-dir"),
            ("score", ("--quarantine", "/models/q"), {}, "mounted read-only", "--quarantine"),
            ("score", (), {"MEALKIT_INPUT": "new.csv"}, "does not see", "MEALKIT_INPUT"),
            ("score", (), {"MEALKIT_INPUT_PRODUCTS": "p.csv"}, "does not see", "MEALKIT_INPUT_PRODUCTS"),
            ("score", (), {"MEALKIT_CONFIG": "c.json"}, "does not see", "MEALKIT_CONFIG"),
        ],
    )
    def test_paths_that_a_cluster_does_not_have(
        self, mode: str, arguments: tuple[str, ...], env: dict[str, str], message: str, where: str
    ) -> None:
        claims = (DATA, Claim("models", "/models", read_only=True), Claim("old", "/data/old", read_only=True))
        with pytest.raises(UsageError, match=message) as caught:
            plan(mode, arguments, env=env, claims=claims)
        assert caught.value.where == where
        assert "--volume" in (caught.value.hint or "")


class TestSecrets:
    CANARY = "c4nary-0123456789"

    @pytest.mark.parametrize(
        ("arguments", "env", "where"),
        [
            ((), {"AWS_SECRET_ACCESS_KEY": CANARY}, "--env AWS_SECRET_ACCESS_KEY"),
            ((), {"AWS_ACCESS_KEY_ID": CANARY}, "--env AWS_ACCESS_KEY_ID"),
            ((), {"DB_PASSWORD": "abc"}, "--env DB_PASSWORD"),
            ((), {"DATABASE": f"postgresql://ada:{CANARY}@host/db"}, "--env DATABASE"),
            ((), {"MEALKIT_SET_API_KEY": CANARY}, "MEALKIT_SET_API_KEY"),
            ((), {"HOST_SECRET": f"Bearer {CANARY}"}, "--env HOST_SECRET"),
            (("--set", f"api_key={CANARY}"), {}, "--set"),
            ((f"--set=api_key={CANARY}",), {}, "--set"),
            (("--input", f"https://host/a.csv?sig={CANARY}"), {}, "--input"),
            (("--trial-storage", f"postgresql://ada:{CANARY}@host/db"), {}, "--trial-storage"),
            (("--set", f"rate={CANARY}-of-this-machine"), {}, "--set"),
        ],
    )
    def test_no_secret_is_written_down(self, arguments: tuple[str, ...], env: dict[str, str], where: str) -> None:
        environment = {"API_TOKEN": f"{self.CANARY}-of-this-machine", "SHORT_SECRET": "data", "PATH": "/usr/bin"}
        with pytest.raises(UsageError) as caught:
            plan("train", arguments, env=env, environment=environment)
        assert caught.value.where == where
        assert "--env-from SECRET" in (caught.value.hint or "")
        assert self.CANARY not in caught.value.render()

    def test_what_is_no_secret_is(self) -> None:
        arguments = ("--input", "/data/new", "--set", "rate=0.5", "--where", "note = 'a; b'", "--columns", "token,key")
        env = {"AWS_REGION": "eu-central-1", "SORT_KEY": "customer", "MEALKIT_SET_RATE": "0.5", "EMPTY_TOKEN": ""}
        made = job("train", arguments, env=env, environment={"SHORT_SECRET": "data", "PWD": "/data/new/here"})
        assert arguments_of(container(made), "a") == ["train", *arguments]

    def test_credentials_come_from_secrets(self) -> None:
        assert container(job(env_from=("s3", "db")))["envFrom"] == [
            {"secretRef": {"name": "s3"}}, {"secretRef": {"name": "db"}},
        ]  # fmt: skip
        assert pod(job(pull_secrets=("registry",)))["imagePullSecrets"] == [{"name": "registry"}]
        assert pod(job(service_account="scorer"))["serviceAccountName"] == "scorer"
        assert "serviceAccountName" not in pod(job())
