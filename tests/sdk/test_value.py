"""Our ``dataclass`` gives what the standard library's gives, and costs a command that makes no values nothing."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from mealkit import _value


def family(made_by: Any) -> dict[str, Any]:
    """The same classes, by the standard library or by us."""
    dataclass, field = made_by.dataclass, made_by.field

    @dataclass(frozen=True)
    class Point:
        """A point."""

        limit: ClassVar[int] = 9
        x: int
        y: int = 2
        note: str = field(default="", repr=False, compare=False)
        tags: tuple[str, ...] = field(default_factory=tuple)

        @property
        def total(self) -> int:
            return self.x + self.y

    @dataclass(frozen=True)
    class Deep(Point):
        """A point below."""

        z: int = 3
        inner: Any = None

    @dataclass
    class Tally:
        """What changes."""

        ways: dict[str, int] = field(default_factory=lambda: {"a": 0})
        sent: int = 0

        def __post_init__(self) -> None:
            self.sent += 1

    @dataclass(frozen=True, order=True)
    class Ordered:
        """What can be sorted."""

        name: str = "x"
        more: list[int] = field(default_factory=list)

    return {"Point": Point, "Deep": Deep, "Tally": Tally, "Ordered": Ordered}


OURS, THEIRS = family(_value), family(dataclasses)

USES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "defaults": lambda m: vars(m["Point"](1)),
    "names": lambda m: vars(m["Point"](y=5, x=1, note="n")),
    "repr": lambda m: repr(m["Deep"](1, 2, "secret", z=4)).replace("family.<locals>.", ""),
    "equal": lambda m: [
        m["Point"](1) == m["Point"](1, note="other"),
        m["Point"](1) == m["Point"](2),
        m["Point"](1) == 1,
    ],
    "equal to a subclass": lambda m: m["Point"](1) == m["Deep"](1),
    "hash": lambda m: hash(m["Point"](1, 2)) == hash(m["Point"](1, 2, "n")),
    "unhashable": lambda m: m["Tally"].__hash__,
    "mutable": lambda m: (setattr(m["Tally"](), "sent", 4), vars(m["Tally"](sent=1)))[1],
    "factories are called each time": lambda m: m["Tally"]().ways is m["Tally"]().ways,
    "match": lambda m: [m[name].__match_args__ for name in m],
    "property": lambda m: m["Deep"](1).total,
    "class variable": lambda m: m["Deep"].limit,
    "class default": lambda m: (m["Point"].y, m["Point"].note, hasattr(m["Point"], "tags")),
    "replace": lambda m: vars(dataclasses.replace(m["Deep"](1), y=7)),
    "asdict": lambda m: dataclasses.asdict(m["Deep"](1, inner=[m["Point"](2), {"k": m["Tally"]()}])),
    "fields": lambda m: [(one.name, one.repr, one.compare) for one in dataclasses.fields(m["Deep"])],
    "is one": lambda m: dataclasses.is_dataclass(m["Point"]),
    "order": lambda m: sorted([m["Ordered"]("b"), m["Ordered"]("a")])[0].name,
    "doc": lambda m: m["Point"].__doc__,
}


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_the_same_as_the_standard_library(use: Callable[[dict[str, Any]], Any]) -> None:
    assert use(OURS) == use(THEIRS)


@pytest.mark.parametrize("name", ["Deep", "Ordered"])
def test_our_own_replace_and_asdict(name: str) -> None:
    one = OURS[name](**({"x": 1, "inner": (OURS["Ordered"](), [OURS["Point"](2)])} if name == "Deep" else {}))
    assert _value.asdict(one) == dataclasses.asdict(one)
    (first, *_) = dataclasses.fields(one)
    assert _value.replace(one, **{first.name: 8}) == dataclasses.replace(one, **{first.name: 8})


@pytest.mark.parametrize(
    "wrong",
    [
        lambda m: m["Point"](),
        lambda m: m["Point"](1, 2, "", (), 5),
        lambda m: m["Point"](1, x=1),
        lambda m: m["Point"](1, z=1),
        lambda m: m["Point"](y=1, z=1),
        lambda m: setattr(m["Point"](1), "x", 2),
        lambda m: delattr(m["Point"](1), "x"),
        lambda m: _value.replace(m["Point"](1), z=1),
    ],
)
def test_what_is_wrong_is_refused_alike(wrong: Callable[[dict[str, Any]], Any]) -> None:
    told = []
    for made in (OURS, THEIRS):
        with pytest.raises((TypeError, dataclasses.FrozenInstanceError)) as caught:
            wrong(made)
        told.append(type(caught.value))
    assert told[0] is told[1]


def test_a_standard_subclass_of_ours() -> None:
    @dataclasses.dataclass(frozen=True)
    class Further(OURS["Point"]):  # type: ignore[misc, name-defined]
        """A subclass that the standard library makes."""

        more: int = 5

    assert Further(1).more == 5
    assert [one.name for one in dataclasses.fields(Further)] == ["x", "y", "note", "tags", "more"]


def test_the_library_is_not_imported_for_it() -> None:
    code = """from __future__ import annotations
import sys
from mealkit._value import dataclass, replace, asdict
@dataclass(frozen=True)
class A:
    x: int = 1
assert replace(A(), x=2) == A(2) and asdict(A()) == {"x": 1} and hash(A()) == hash(A(1))
print("dataclasses" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
