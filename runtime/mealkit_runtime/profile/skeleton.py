"""A row schema, and the lines of ``pyproject.toml``, that a profile suggests: to be pasted, and thought over."""

from __future__ import annotations

import json
import keyword

from mealkit.row import Row

from .finding import group, identifier
from .summary import TOP
from .tally import TIMES
from .value import ColumnProfile, Profile
from .wording import characters, number, percent

_TYPES = {
    "int": "int",
    "float": "float",
    "str": "str",
    "bool": "bool",
    "datetime": "dt.datetime",
    "date": "dt.date",
    "other": "Any",
    "empty": "Any",
}
_INT64 = 2**63


def settings(profile: Profile) -> str:
    """A settings module with ``class Row``; what its author should know stands in comments.

    A column whose name no field can have is told in a comment: it is read only where no row schema is declared.
    """
    fields: list[tuple[str, str]] = []
    for column in profile.columns:
        note = _note(profile, column)
        if column.kind == "mixed":
            fields.append(("", f"{column.name!r} is of several types: {', '.join(column.stored)}"))
        elif not _can_be_field(column.name):
            fields.append(("", f"{column.name!r} ({_type(profile, column)}) cannot be a field: rename the column"))
        else:
            fields.append((f"{column.name}: {_type(profile, column)}", note))
    width = min(max((len(code) for code, _ in fields), default=0), 48)
    body = "\n".join(_line(code, note, width) for code, note in fields)
    if not any(code for code, _ in fields):
        body += "\n    pass"
    code = "\n".join(code for code, _ in fields)
    names = [name for name in ("Any", "Literal") if name in code.replace(":", " ").replace("[", " ").split()]
    imports = ["import datetime as dt"] if "dt.date" in code else []
    imports += [f"from typing import {', '.join(names)}"] if names else []
    head = "\n".join(imports) + "\n\n" if imports else ""
    return f"{head}import mealkit\n\n\nclass Row(mealkit.Row):\n{body}\n"


def project(profile: Profile) -> str:
    """The lines of ``[tool.mealkit]``."""
    target = profile.target
    kind = "custom" if target is None else "classification" if target.kind == "class" else "regression"
    note = "  # or regression, clustering, ranking, …: run again with --target" if target is None else ""
    lines = ["[tool.mealkit]", f'kind = "{kind}"{note}', 'input = "my_recipe.settings:Row"']
    if target is not None:
        lines.append(f"target = {_quote(target.column)}")
    times = [column.name for column in profile.columns if column.kind in TIMES]
    if len(times) == 1:
        lines.append(f"time = {_quote(times[0])}  # for --since and --until")
    keys = [
        column.name
        for column in profile.columns
        if (identifier(profile.rows, column) or group(profile.rows, column))
        and (target is None or column.name != target.column)
    ]
    if keys:
        lines.append(f"keys = [{', '.join(map(_quote, keys))}]  # they name what a row is about")
    return "\n".join(lines) + "\n"


def _line(code: str, note: str, width: int) -> str:
    if not note:
        return f"    {code}"
    return f"    {code:<{width}}  # {note}" if code else f"    # {note}"


def _type(profile: Profile, column: ColumnProfile) -> str:
    plain = _TYPES.get(column.kind, "Any")
    if column.kind == "int" and column.numbers is not None and (column.numbers.maximum or 0) >= _INT64:
        plain = "float"  # a dataset's int has 64 bits
    distinct = column.distinct or 0
    listed = column.kind == "str" and column.distinct_exact and 1 < distinct <= TOP
    if listed and profile.rows >= 10 * distinct and not any("… #" in count.value for count in column.top):
        plain = f"Literal[{', '.join(_quote(value) for value in sorted(count.value for count in column.top))}]"
    return f"{plain} | None" if column.missing and plain != "Any" else plain


def _note(profile: Profile, column: ColumnProfile) -> str:
    parts = []
    if column.numbers is not None and column.numbers.minimum is not None and column.numbers.maximum is not None:
        parts.append(f"{number(column.numbers.minimum)} … {number(column.numbers.maximum)}")
    elif column.times is not None:
        parts.append(f"{column.times.first} … {column.times.last}")
    elif column.kind == "other":
        parts.append(", ".join(column.stored))
    elif column.kind == "str" and column.texts is not None:
        if "Literal" not in _type(profile, column):
            parts.append(characters(column.texts.shortest, column.texts.longest))
            parts.append(f"{'' if column.distinct_exact else 'about '}{column.distinct:,} different")
    elif column.kind == "empty":
        parts.append("no row has a value")
    elif column.kind == "bool":
        parts.append(", ".join(f"{count.value} in {percent(count.rows / profile.rows)}" for count in column.top))
    if 0 < column.missing < profile.rows:
        parts.append(f"{percent(column.missing / profile.rows)} missing")
    if column.same_as is not None:
        parts.append(f"the same as {column.same_as}")
    return " ".join(", ".join(parts).split())


def _can_be_field(name: str) -> bool:
    """Whether pydantic takes the name as a field's."""
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith(("_", "model_")):
        return False
    return not hasattr(Row, name)


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
