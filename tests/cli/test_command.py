"""The command as a whole: quick to start, teaches, and tells mistakes in one form."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from services import missing
from workshop import MEALKIT, Workshop

import mealkit
from mealkit_builder.cli import _COMMANDS, _SECTIONS, cli, main

HEAVY = {"cryptography", "pandas", "numpy", "pyarrow", "sklearn", "docker", "jinja2", "pydantic", "rich", "requests"}
TRACE = """
import sys
from mealkit_builder.cli import main
try:
    main(sys.argv[1:])
finally:
    print("MODULES", *sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def modules(workshop: Workshop, *arguments: str | Path) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", TRACE, *map(str, arguments)],
        env=dict(workshop.environment),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stderr.splitlines() if line.startswith("MODULES "))
    return set(line.split()[1:])


def test_help_imports_nothing_heavy(shop: Workshop) -> None:
    found = modules(shop, "--help")
    assert not found & (HEAVY | {"urllib3", "uv", "packaging", "installer", "pathspec", "mealkit_runtime"})


def test_a_build_in_which_nothing_changed_imports_nothing_heavy(shop: Workshop) -> None:
    root = shop.recipe("unchanged")
    shop.build(root)
    found = modules(shop, "build", "-C", root)
    assert not found & (HEAVY | {"uv", "installer", "zipfile"})


def test_a_build_of_one_changed_file_imports_nothing_heavy(shop: Workshop) -> None:
    root = shop.recipe("changed")
    shop.build(root)
    (root / "changed" / "model.py").write_text((root / "changed" / "model.py").read_text() + "# changed\n")
    assert not modules(shop, "build", "-C", root) & HEAVY


def test_the_help_page_lists_every_command_by_what_it_is_for(shop: Workshop) -> None:
    page = shop.mealkit("--help").out
    for name, (_, line) in _COMMANDS.items():
        assert re.search(rf"^  {name}\s+{re.escape(line)}", page, re.MULTILINE)
    assert sorted(name for names in _SECTIONS.values() for name in names) == sorted(_COMMANDS)
    for title in _SECTIONS:
        assert f"{title}:" in page


@pytest.mark.parametrize("name", [name for name, (module, _) in _COMMANDS.items() if module != "modes"])
def test_every_command_explains_itself(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.name == name
    with click.Context(command, info_name=f"mealkit {name}") as context:
        page = command.get_help(context)
    words = (command.help or "").split("\b")[0].split()
    assert len(words) >= 4
    assert "mealkit " in page.split("Options:")[0]
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help, f"{name} {parameter.opts}"


@pytest.mark.parametrize("name", [name for name, (module, _) in _COMMANDS.items() if module == "modes"])
def test_every_mode_explains_itself(shop: Workshop, name: str) -> None:
    done = shop.mealkit(name, "--help")
    assert done.status == 0
    assert f"mealkit {name}" in done.out
    assert len(done.out.splitlines()) > 5


def test_the_version_is_told(shop: Workshop) -> None:
    assert shop.mealkit("--version").out == f"mealkit {mealkit.__version__}\n"


def test_without_a_command_it_helps(shop: Workshop) -> None:
    done = shop.mealkit()
    assert done.status == 2
    assert "Write a recipe:" in done.out + done.err


@pytest.mark.parametrize(
    ("arguments", "said", "hint"),
    [
        (["biuld"], "Did you mean 'build'?", "see `mealkit --help`"),
        (["zzz"], "See `mealkit --help`.", "see `mealkit --help`"),
        (["build", "--nope"], "No such option", "see `mealkit build --help`"),
        (["build", "--engine", "podman"], "'podman' is not one of", "see `mealkit build --help`"),
        (["inspect"], "Missing argument 'URL'", "see `mealkit inspect --help`"),
        (["build", "--project", __file__], "is a file", "see `mealkit build --help`"),
        (["completion", "tcsh"], "is not one of", "see `mealkit completion --help`"),
    ],
)
def test_a_wrong_command_line_is_told_in_our_form(shop: Workshop, arguments: list[str], said: str, hint: str) -> None:
    done = shop.mealkit(*arguments)
    assert done.status == 2
    assert done.out == ""
    assert done.err.startswith("error[usage]: ")
    assert said in done.err
    assert f"hint: {hint}" in done.err


def test_a_bug_is_told_as_one(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("mealkit_builder.build.build", broken)
    with pytest.raises(SystemExit) as caught:
        main(["build", "-C", str(shop.recipe("with-a-bug"))])
    assert caught.value.code == 1
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert "error[internal]: ZeroDivisionError: oh" in told
    assert "this is a bug in mealkit" in told


def test_an_interruption_is_no_bug(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mealkit_builder.build.build", interrupted)
    with pytest.raises(SystemExit) as caught:
        main(["build", "-C", str(shop.recipe("interrupted"))])
    assert caught.value.code == 130
    assert capsys.readouterr().err.strip() == "stopped"


def test_a_reader_that_goes_away_is_no_error(shop: Workshop) -> None:
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {MEALKIT} completion bash | true"],
        env=dict(shop.environment),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 1, 141)  # click answers a broken pipe with 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_sane(shop: Workshop, shell: str, tmp_path: Path) -> None:
    done = shop.mealkit("completion", shell)
    assert done.status == 0
    assert "_MEALKIT_COMPLETE" in done.out
    assert f"{shell}_complete" in done.out
    script = tmp_path / "completion"
    script.write_text(done.out)
    if shutil.which(shell):
        flag = "--no-execute" if shell == "fish" else "-n"
        checked = subprocess.run([shell, flag, str(script)], capture_output=True, text=True, timeout=30)
        assert checked.returncode == 0, checked.stderr


def test_bash_completes_commands_and_options(shop: Workshop) -> None:
    assert missing("bash") is None
    for words, expected in (
        (["mealkit", "in"], {"init", "inspect"}),
        (["mealkit", "build", "--pl"], {"--platform"}),
        (["mealkit", "completion", "f"], {"fish"}),
    ):
        environment = {
            **shop.environment,
            "_MEALKIT_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(words),
            "COMP_CWORD": str(len(words) - 1),
        }
        done = subprocess.run([MEALKIT], env=environment, capture_output=True, text=True, timeout=30)
        found = {line.partition(",")[2] for line in done.stdout.splitlines()}
        assert found == expected, done.stderr


def test_json_goes_alone_to_standard_output(shop: Workshop) -> None:
    root = shop.recipe("as-json")
    for arguments in (["check", "-C", root], ["lock", "-C", root], ["build", "-C", root]):
        done = shop.mealkit(*arguments, "--json")
        assert done.status == 0, done.err
        json.loads(done.out)
        assert done.err == ""
    url = json.loads(shop.mealkit("build", "-C", root, "--json").out)["url"]
    assert json.loads(shop.mealkit("inspect", url, "--json").out)["recipe"]["name"] == "as-json"
    pushed = shop.mealkit("push", "-C", root, "--to", f"oci:{shop.folder / 'pushed'}", "--json")
    assert json.loads(pushed.out)["url"].endswith(url.rpartition("@")[2])


def test_an_error_is_json_too_when_asked_for(shop: Workshop, tmp_path: Path) -> None:
    done = shop.mealkit("build", "-C", tmp_path, "--json")
    error = json.loads(done.out)["error"]
    assert done.status == error["exit_code"] == 2
    assert error["code"] == "project"
    assert error["where"] == str(tmp_path)
    assert error["hint"]
    assert done.err.startswith("error[project]: ")
