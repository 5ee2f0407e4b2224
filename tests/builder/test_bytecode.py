"""Bytecode is what Python itself would make, the same bytes in every circumstance, and is imported as it is."""

from __future__ import annotations

import importlib.util
import marshal
import os
import random
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from wheels_for_tests import MINOR, contents, fetch_real, make_wheel

from mealkit.errors import BuildError, WheelError
from mealkit_builder import bytecode
from mealkit_builder.bytecode import build_bytecode_layer, bytecode_layer_key, bytecode_path, compile_tree
from mealkit_builder.compiler import Source, compile_each
from mealkit_builder.interpreter import Interpreter, find_interpreter, inspect_interpreter
from mealkit_builder.layering import VENV, Group, build_wheel_layer, group, site_packages
from mealkit_builder.store import Store
from mealkit_builder.wheel import WheelFile

SITE = site_packages(MINOR)
TAG = f"cpython-{MINOR.replace('.', '')}"


@pytest.fixture(scope="session")
def real_wheels(tmp_path_factory: pytest.TempPathFactory) -> list[WheelFile]:
    return fetch_real(tmp_path_factory.mktemp("real"))


@pytest.fixture(scope="session")
def here() -> Interpreter:
    found = find_interpreter(MINOR, os.environ)
    assert found is not None
    return found


@pytest.fixture(scope="session")
def standard_library() -> dict[str, bytes]:
    folder = Path(os.__file__).parent
    paths = [
        *folder.glob("*.py"),
        *folder.glob("asyncio/*.py"),
        *folder.glob("encodings/*.py"),
        *folder.glob("email/*.py"),
    ]
    return {f"/lib/{path.relative_to(folder)}": path.read_bytes() for path in paths}


def test_this_python_is_found_without_running_it(here: Interpreter) -> None:
    assert here == inspect_interpreter(Path(sys.executable))
    assert here.minor == MINOR
    assert here.magic == int.from_bytes(importlib.util.MAGIC_NUMBER[:2], "little")
    assert here.tag == f"{here.magic}-{sys.version.split()[0]}"


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def impostor(folder: Path, minor: str) -> str:
    """What answers as a Python of another version would."""
    answer = f"{minor}.7 9999 - cpython"
    script(
        folder / f"python{minor}",
        f"#!{sys.executable}\nimport sys\n"
        f"sys.stdout.buffer.write(({len(answer)}).to_bytes(4, 'little') + b'{answer}')\n",
    )
    return str(folder)


def test_the_first_on_the_path_that_runs_is_taken(tmp_path: Path) -> None:
    script(tmp_path / "a/python3.99", "#!/bin/sh\nexit 127\n")
    script(tmp_path / "b/python3.99", "#!/bin/sh\necho Python\n")
    environment = {
        "PATH": os.pathsep.join([str(tmp_path / "a"), str(tmp_path / "b"), impostor(tmp_path / "c", "3.99")])
    }
    assert find_interpreter("3.99", environment) == Interpreter(tmp_path / "c/python3.99", "3.99.7", 9999)


def test_a_python_of_another_version_is_not_taken(tmp_path: Path) -> None:
    impostor(tmp_path, "3.99")
    (tmp_path / "python3.99").rename(tmp_path / "python3.98")
    assert find_interpreter("3.98", {"PATH": str(tmp_path)}) is None


def test_behind_pyenvs_shims(tmp_path: Path) -> None:
    script(tmp_path / "shims/python3.99", "#!/bin/sh\nexit 127\n")
    script(tmp_path / "versions/3.99.9/bin/python3.99", "#!/bin/sh\nexit 1\n")
    impostor(tmp_path / "versions/3.99.10/bin", "3.99")
    found = find_interpreter("3.99", {"PATH": str(tmp_path / "shims")})
    assert found is not None
    assert found.path == tmp_path / "versions/3.99.10/bin/python3.99"


def test_no_interpreter_at_all(tmp_path: Path) -> None:
    assert find_interpreter("3.99", {"PATH": str(tmp_path)}) is None
    assert inspect_interpreter(tmp_path / "none") is None


def test_it_is_what_python_would_make(here: Interpreter) -> None:
    source = b"def f(x):\n    '''Doc.'''\n    assert x in {'a', 'b', 'c'}\n    return __file__\n"
    made = compile_tree({"/opt/app/m.py": source}, here)
    assert list(made) == [f"/opt/app/__pycache__/m.{TAG}.pyc"]
    (data,) = made.values()
    assert data[:4] == importlib.util.MAGIC_NUMBER
    assert data[4:8] == b"\x01\0\0\0"  # hash-based, not checked (PEP 552)
    assert data[8:16] == importlib.util.source_hash(source)
    code = marshal.loads(data[16:])
    assert code == compile(source, "/opt/app/m.py", "exec", dont_inherit=True)
    assert code.co_filename == "/opt/app/m.py"
    assert code.co_consts[0].co_filename == "/opt/app/m.py"


def test_where_python_looks_for_it() -> None:
    for path in ("/opt/x/m.py", "/opt/x/a.b.py", "/opt/x/__init__.py"):
        assert bytecode_path(path, MINOR) == importlib.util.cache_from_source(path)


@pytest.mark.parametrize(
    "source",
    [
        b"print 'Python 2'",
        b"x = (",
        b"{{ cookiecutter.name }} = {",
        b"\0",
        b"\xff = 1",
        b"\xef\xbb\xbf# coding: latin-1\n",
        b"# -*- coding: no-such -*-\nx = 1",
        b"# coding: rot13\nk = 1",
        b"# coding: shift_jis\nx = 1",
        b"(" * 100_000,
        b"-" * 200_000 + b"1",
        b"return 1",
    ],
)
def test_what_cannot_be_compiled_is_passed_over(here: Interpreter, source: bytes) -> None:
    assert list(compile_tree({"/a.py": source, "/b.py": b"x = 1"}, here)) == [f"/__pycache__/b.{TAG}.pyc"]


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "iso-8859-15", "cp1252", "ascii"])
def test_encodings(here: Interpreter, encoding: str) -> None:
    text = "x = 'a'" if encoding == "ascii" else "x = 'é'"
    source = f"#!/usr/bin/python\n# vim: set fileencoding={encoding} :\n{text}\n".encode(encoding)
    (data,) = compile_tree({"/a.py": source}, here).values()
    scope: dict[str, object] = {}
    exec(marshal.loads(data[16:]), scope)
    assert scope["x"] == text[5:-1]


def test_no_order_seed_company_or_number_of_workers_matters(
    here: Interpreter, standard_library: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = standard_library | {
        "/lib/broken.py": b"x = (",
        "/lib/warned.py": b"x = 1 is 1\ny = '\\d'\n",
        "/lib/latin.py": "# coding: latin-1\ncodecs = 'getregentry é'\n".encode("latin-1"),
    }
    reference = compile_tree(files, here, workers=1)
    assert len(reference) > 200
    for seed in range(2):
        order = list(files)
        random.Random(seed).shuffle(order)
        monkeypatch.setenv("PYTHONHASHSEED", str(seed))
        monkeypatch.setenv("PYTHONOPTIMIZE", "2")
        monkeypatch.setenv("LC_ALL", "C")
        assert compile_tree({path: files[path] for path in order}, here, workers=3) == reference
    some = random.Random(3).sample(sorted(files), 12)
    for path in some:
        alone = compile_tree({path: files[path]}, here)
        assert alone == {name: reference[name] for name in alone}


def test_a_groups_layer(tmp_path: Path, here: Interpreter) -> None:
    wheel = make_wheel(
        tmp_path / "w",
        files={
            "demo/__init__.py": "",
            "demo/tests/test_x.py": "x = 1",
            "demo/test/x.py": "x = 1",
            "demo/testing/x.py": "x = 1",
            "demo/bad.py": "x = (",
            "demo/data.txt": "x",
            "demo-1.0.data/scripts/tool.py": "#!python\nx = 1",
            "demo-1.0.data/data/etc/conf.py": "x = 1",
            "single.py": "x = 1",
        },
    )
    store = Store(tmp_path / "store")
    layer = build_bytecode_layer(Group((wheel,)), MINOR, here, store)
    assert layer is not None
    assert sorted(contents(store, layer)) == [
        f"{SITE}/__pycache__/single.{TAG}.pyc",
        f"{SITE}/demo/__pycache__/__init__.{TAG}.pyc",
        f"{SITE}/demo/testing/__pycache__/x.{TAG}.pyc",
    ]
    assert (layer.kind, layer.title) == ("bytecode", "bytecode of demo 1.0")
    assert layer.key == bytecode_layer_key(Group((wheel,)), MINOR, here)
    other = Interpreter(here.path, "3.99.0", here.magic)
    assert bytecode_layer_key(Group((wheel,)), MINOR, other) != layer.key
    again = build_bytecode_layer(Group((wheel,)), MINOR, here, Store(tmp_path / "other"))
    assert again == layer


def test_a_group_without_sources_has_no_layer(tmp_path: Path, here: Interpreter) -> None:
    wheel = make_wheel(tmp_path / "w", files={"demo.so": b"\x7fELF"})
    assert build_bytecode_layer(Group((wheel,)), MINOR, here, Store(tmp_path / "store")) is None
    with pytest.raises(WheelError, match="not fetched"):
        build_bytecode_layer(
            Group((WheelFile("a", "1", "a-1-py3-none-any.whl", "0" * 64, 1),)), MINOR, here, Store(tmp_path)
        )


def test_a_failing_interpreter_is_an_error_with_a_hint(tmp_path: Path, here: Interpreter) -> None:
    dying = script(tmp_path / "python", "#!/bin/sh\necho 'cannot load libpython' >&2\nexit 3\n")
    with pytest.raises(BuildError, match="cannot load libpython") as caught:
        compile_tree({"/a.py": b"x = 1"}, Interpreter(dying, here.version, here.magic))
    assert (caught.value.where, bool(caught.value.hint)) == (str(dying), True)
    with pytest.raises(BuildError, match="wrong answer"):
        compile_tree({"/a.py": b"x = 1"}, Interpreter(here.path, "3.0.0", 1))


def test_what_goes_wrong_while_it_compiles_ends_the_processes(here: Interpreter) -> None:
    large = b"x = " + b"[" * 50 + b"'" + b"y" * 300_000 + b"'" + b"]" * 50

    def source(number: int) -> Source:
        return Source(f"/{number}.py", len(large), lambda: large)

    def full(path: str, data: bytes) -> None:
        raise OSError(28, "full")

    with pytest.raises(OSError, match="full"):
        compile_each([source(number) for number in range(40)], here, full, workers=2)

    def broken() -> bytes:
        raise KeyError("broken")

    results: dict[str, bytes] = {}
    sources = [*(source(number) for number in range(10)), Source("/bad.py", 1, broken)]
    with pytest.raises(KeyError, match="broken"):
        compile_each(sources, here, results.__setitem__, workers=2)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("compile")]


def test_an_interpreter_that_dies_in_the_middle_is_an_error(tmp_path: Path, here: Interpreter) -> None:
    dying = script(
        tmp_path / "python",
        f"#!{sys.executable}\nimport sys\nsys.argv = [sys.argv[-1]]\nimport runpy\n"
        "worker = runpy.run_path(sys.argv[0])\nanswer = worker['main'].__globals__\n"
        "answer['compiled'] = lambda path, source: sys.exit('out of memory')\nworker['main']()\n",
    )
    with pytest.raises(BuildError, match="out of memory"):
        compile_tree({f"/{number}.py": b"x = 1" for number in range(5)}, replace(here, path=dying))


def test_python_imports_it_from_a_tree_that_cannot_be_written(
    tmp_path: Path, real_wheels: list[WheelFile], here: Interpreter
) -> None:
    """With the sources made unreadable in content: what runs must be the bytecode."""
    store = Store(tmp_path / "store")
    (small,) = group(real_wheels)
    layer = build_bytecode_layer(small, MINOR, here, store)
    assert layer is not None
    root = tmp_path / "root"
    for one in (build_wheel_layer(small, MINOR, store), layer):
        for path, data in contents(store, one).items():
            target = root / path.removeprefix(VENV + "/")
            target.parent.mkdir(parents=True, exist_ok=True)
            # An unchecked-hash .pyc is used without a look at its source.
            target.write_bytes(b"raise SystemExit('source')" if path.endswith(".py") else data)
    for folder in [*root.rglob("*"), root]:
        folder.chmod(stat.S_IREAD | (stat.S_IEXEC if folder.is_dir() else 0) | 0o044)
    code = (
        "import attr, click, markupsafe, six, yaml, sys; assert click.__cached__; "
        "print(yaml.safe_load('a: [1]'), markupsafe.escape('<'), attr.__cached__.endswith('.pyc'))"
    )
    site = root / f"lib/python{MINOR}/site-packages"
    done = subprocess.run(
        [here.path, "-S", "-B", "-c", code], env={"PYTHONPATH": str(site)}, capture_output=True, text=True, timeout=60
    )
    for folder in [root, *root.rglob("*")]:
        folder.chmod(0o755)
    assert done.stdout.split() == ["{'a':", "[1]}", "&lt;", "True"], done.stderr


@pytest.mark.parametrize("minor", ["3.11", "3.12", "3.13"])
def test_other_pythons_of_this_machine_are_reproducible_too(minor: str, standard_library: dict[str, bytes]) -> None:
    found = find_interpreter(minor, os.environ)
    if found is None:
        pytest.skip(f"no Python {minor} here")
    files = dict(sorted(standard_library.items())[:80])
    one = compile_tree(files, found, workers=1)
    assert one
    assert one == compile_tree(dict(reversed(files.items())), found, workers=3)
    assert {data[:2] for data in one.values()} == {found.magic.to_bytes(2, "little")}


def test_the_worker_needs_nothing_but_the_standard_library() -> None:
    worker = Path(bytecode.__file__).with_name("_compile_worker.py")
    code = f"import sys, runpy; runpy.run_path({str(worker)!r}); print(*[m for m in sys.modules if 'mealkit' in m])"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stdout.strip() == ""
