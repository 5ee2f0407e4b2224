"""Single commands: their options, what they print and how they end."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from workshop import Workshop, make_base

from mealkit_builder.cli._output import print_pairs, size_text
from mealkit_builder.record import read_records


def edit(root: Path, name: str, old: str, new: str) -> None:
    text = (root / name).read_text()
    assert old in text
    (root / name).write_text(text.replace(old, new))


def test_the_url_stands_last_and_alone(shop: Workshop) -> None:
    done = shop.mealkit("build", "-C", shop.recipe("last"))
    assert re.fullmatch(r"oci:/.*@sha256:[0-9a-f]{64}", done.out.splitlines()[-1])
    assert done.err == ""


def test_quiet_prints_the_url_only(shop: Workshop) -> None:
    done = shop.mealkit("build", "-q", "-C", shop.recipe("silent"))
    assert len(done.out.splitlines()) == 1
    assert done.err == ""


def test_the_record_goes_into_a_file_too(shop: Workshop) -> None:
    root, file = shop.recipe("recorded"), shop.folder / "records" / "all.jsonl"
    for _ in range(2):
        assert shop.mealkit("build", "-C", root, "--record", file).status == 0
    kept = list(read_records(file))
    assert len(kept) == 2
    assert kept == list(read_records(root / ".mealkit" / "images.jsonl"))
    assert kept[0].digest == kept[1].digest


def test_json_is_the_record(shop: Workshop) -> None:
    root = shop.recipe("told")
    told = json.loads(shop.mealkit("build", "-C", root, "--json", "-t", "blue", "-t", "green").out)
    (kept,) = read_records(root / ".mealkit" / "images.jsonl")
    assert told == json.loads(kept.to_json())
    assert told["tags"] == ["blue", "green"]


def test_the_project_is_where_one_stands(shop: Workshop) -> None:
    root = shop.recipe("here")
    assert f"{root}/.mealkit/images" in shop.mealkit("build", "-q", cwd=root).out


def test_a_note_tells_of_missing_bytecode(shop: Workshop) -> None:
    root = shop.recipe("future", base=make_base(shop.folder / "future-base", version="3.39.0"))
    done = shop.mealkit("build", "-C", root)
    assert done.status == 0
    assert done.err.startswith("note: no Python 3.39 on this machine")
    assert shop.mealkit("build", "-q", "-C", root).err == ""
    assert shop.mealkit("build", "--no-bytecode", "-C", root).err == ""


@pytest.mark.parametrize(
    ("suffix", "options", "expected"),
    [
        ("", (), ["1.0.0", "latest"]),
        (":v2", (), ["v2"]),
        ("", ("--tag", "v3"), ["v3"]),
        (":v2", ("--tag", "v3"), ["v3"]),
    ],
)
def test_a_push_tags_what_is_named(
    shop: Workshop, tmp_path: Path, suffix: str, options: tuple[str, ...], expected: list[str]
) -> None:
    root = shop.recipe(f"named-{len(suffix)}-{len(options)}")
    assert shop.mealkit("build", "-C", root).status == 0
    done = shop.mealkit("push", "-C", root, "--to", f"oci:{tmp_path}/there{suffix}", *options, "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["tags"] == expected


def test_a_push_needs_a_place(shop: Workshop) -> None:
    root = shop.recipe("nowhere")
    for arguments in (("build", "--push", "-C", root), ("push", "-C", root)):
        done = shop.mealkit(*arguments)
        assert done.status == 2
        assert f"at: {root}/pyproject.toml: tool.mealkit.image.repository" in done.err
        assert "--to" in done.err


def test_a_push_needs_an_image(shop: Workshop) -> None:
    done = shop.mealkit("push", "-C", shop.recipe("unbuilt"), "--to", f"oci:{shop.folder / 'x'}")
    assert done.status == 2
    assert "nothing was built here yet" in done.err
    assert "mealkit build" in done.err


def test_the_projects_repository_may_be_a_folder(shop: Workshop) -> None:
    root = shop.recipe("to-a-folder", image=f'repository = "oci:{shop.folder / "registry"}"')
    assert shop.mealkit("build", "--push", "-q", "-C", root).out.startswith(f"oci:{shop.folder / 'registry'}@")
    assert not (root / ".mealkit" / "images").exists()


def test_check_ends_with_the_first_errors_status(shop: Workshop) -> None:
    root = shop.recipe("wrong")
    assert shop.mealkit("check", "-C", root).status == 0
    edit(root, "wrong/model.py", "import mealkit", "import mealkit\n\nraise RuntimeError('no')")
    (root / "wrong" / ".env").write_text("TOKEN=1")
    done = shop.mealkit("check", "-C", root)
    assert done.status == 2
    assert "error files" in done.out
    assert "error trainer" in done.out
    assert done.err.count("hint: ") == 2
    assert f"at: {root}/wrong/model.py:5" in done.err
    told = json.loads(shop.mealkit("check", "-C", root, "--json").out)
    assert not told["ok"]
    assert [row["what"] for row in told["findings"] if row["error"]] == ["files", "trainer"]


def test_inspect_chooses_a_platform(shop: Workshop) -> None:
    base = make_base(shop.folder / "two", platforms=("amd64", "arm64"))
    root = shop.recipe("two-platforms", base=base, image='platforms = ["linux/amd64", "linux/arm64"]')
    url = shop.mealkit("build", "-q", "-C", root).out.strip()
    for platform in ("linux/amd64", "linux/arm64"):
        told = json.loads(shop.mealkit("inspect", url, "--platform", platform, "--json").out)
        assert told["platform"] == platform
        assert told["recipe"]["name"] == "two-platforms"
        assert {layer["kind"] for layer in told["layers"]} == {"base", "wheels", "bytecode", "mealkit", "recipe"}
        assert "io.mealkit.recipe" not in told["labels"]


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_234_567, "1.2 MB"), (5_432_100_000, "5.43 GB")],
)
def test_sizes_are_written_as_people_do(size: int, text: str) -> None:
    assert size_text(size) == text


def test_pairs_leave_out_what_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    print_pairs((("name", "shop"), ("about", ""), ("no", None), ("list", ()), ("count", 0)))
    assert capsys.readouterr().out == "name   shop\ncount  0\n"
