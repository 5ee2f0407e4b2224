"""Bytecode of the base's standard library: Debian's packages have none, for their scripts compile it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from mealkit_builder.bytecode import LAYOUT as COMPILED
from mealkit_builder.bytecode import compile_tree
from mealkit_builder.ingredient import Ingredient
from mealkit_builder.interpreter import Interpreter
from mealkit_builder.layer import Layer
from mealkit_builder.splice import compressor
from mealkit_builder.store import Store
from mealkit_builder.tree import FileEntry, tree_layer

from .archive import open_deb
from .package import LAYOUT, installed, package_name
from .pin import Pin

_PACKAGES = re.compile(r"(?:lib)?python3\.\d+(?:-minimal|-stdlib)?\Z")
# _sysconfigdata differs between architectures, and all else does not: the layer is one for all platforms of an index.
_LEFT_OUT = re.compile(r"(?:.*/)?(?:test|tests|lib2to3|_sysconfigdata[^/]*|idlelib)(?:/.*|\.py)")


def bytecode_ingredient(
    pins: Sequence[Pin], interpreter: Interpreter, get: Callable[[Sequence[Pin]], Sequence[Path]], store: Store
) -> Ingredient:
    """The layer of the standard library's bytecode."""
    owners = tuple(pin for pin in pins if _PACKAGES.match(pin.name))
    identity = hashlib.sha256("\n".join(sorted(pin.sha256 for pin in owners)).encode()).hexdigest()
    key = f"deb-bytecode/{LAYOUT}.{COMPILED}/{interpreter.tag}/{compressor()}/{identity}"
    title = f"bytecode of Python {interpreter.minor}"

    def make(_: object) -> Layer:
        with ExitStack() as stack:
            sources: dict[str, bytes] = {}
            for pin, path in zip(owners, get(owners), strict=True):
                deb = stack.enter_context(open_deb(path, package_name(pin), store.root))
                sources |= {one.path: deb.read(one) for one in installed(deb) if _wanted(one.path, one.kind)}
            compiled = compile_tree(sources, interpreter)
        entries = (FileEntry(path, data) for path, data in compiled.items())
        return tree_layer(entries, kind="bytecode", key=key, title=title, store=store, compress=True)

    return Ingredient(key, title, (), make, compiles=True)


def _wanted(path: str, kind: str) -> bool:
    return kind == "file" and bool(re.match(r"/usr/lib/python3\.\d+/.*\.py\Z", path)) and not _LEFT_OUT.match(path)
