"""The language of ``--where``: parses a condition on a row's columns, and tells where it cannot hold.

.. code-block:: text

    condition   = and-part { "or" and-part }
    and-part    = not-part { "and" not-part }
    not-part    = "not" not-part | "(" condition ")" | comparison
    comparison  = column ( "=" | "==" | "!=" | "<>" | "<" | "<=" | ">" | ">=" ) literal
                | column [ "not" ] "in" "(" literal { "," literal } ")"
                | column [ "not" ] "between" literal "and" literal        both ends belong to it
                | column "is" [ "not" ] "null"
    column      = letters, digits, "_" and "." (not first a digit), or anything between `backticks`
    literal     = number | 'text' | "text" | true | false

Words may be written in capitals. As in SQL, a comparison with a missing value (and with NaN) does not hold, and neither
does its negation. ``not`` is carried down to the comparisons while parsing, so that what is left has none, and a
comparison alone decides what missing values mean. No text is ever run as code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mealkit.errors import SettingsError

Literal = bool | int | float | str

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    | (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
    | `(?P<quoted>[^`]+)`
    | (?P<name>[^\W\d][\w.]*)
    | (?P<sign><=|>=|!=|<>|==|[=<>(),\[\]])
    )""",
    re.VERBOSE,
)
_OPPOSITE = {"=": "!=", "!=": "=", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_SAME = {"==": "=", "<>": "!="}
_WORDS = ("and", "or", "not", "in", "is", "null", "between", "true", "false")
_DEPTH = 50


@dataclass(frozen=True)
class Compare:
    """``column sign value``; ``sign`` is one of ``=``, ``!=``, ``<``, ``<=``, ``>``, ``>=``."""

    column: str
    sign: str
    value: Any

    def __str__(self) -> str:
        return f"{_name(self.column)} {self.sign} {_text(self.value)}"


@dataclass(frozen=True)
class Among:
    """``column in (values)``, or not in them."""

    column: str
    values: tuple[Any, ...]
    negated: bool = False

    def __str__(self) -> str:
        return f"{_name(self.column)} {'not ' * self.negated}in ({', '.join(map(_text, self.values))})"


@dataclass(frozen=True)
class Missing:
    """``column is null``, or is not."""

    column: str
    negated: bool = False

    def __str__(self) -> str:
        return f"{_name(self.column)} is {'not ' * self.negated}null"


@dataclass(frozen=True)
class Both:
    """All parts hold (``word`` is ``and``), or one of them (``or``)."""

    word: str
    parts: tuple[Condition, ...]

    def __str__(self) -> str:
        return "(" + f" {self.word} ".join(map(str, self.parts)) + ")"


Condition = Compare | Among | Missing | Both
Leaf = Compare | Among | Missing


def parse(text: str) -> Condition:
    """The condition that a text means; ``str`` of it gives a text of the same meaning in one canonical form.

    Raises:
        SettingsError: it is not of the language; the message tells where it goes wrong.
    """
    return _Parser(text).whole()


def leaves(condition: Condition | None) -> Iterator[Leaf]:
    """The comparisons of a condition."""
    if isinstance(condition, Both):
        for part in condition.parts:
            yield from leaves(part)
    elif condition is not None:
        yield condition


def both(*conditions: Condition | None) -> Condition | None:
    """All of the conditions that there are."""
    parts = tuple(condition for condition in conditions if condition is not None)
    return Both("and", parts) if len(parts) > 1 else parts[0] if parts else None


Bounds = tuple[Any, Any, int | None]
"""The least and the greatest value of a column (None: not known), and how many are missing (None: not known)."""

EVERY = -1
"""So many are missing that no value is left."""


def can_hold(condition: Condition, bounds: Mapping[str, Bounds], literal: Callable[[str, Any], Any]) -> bool:
    """Whether any row may fulfil the condition, by what is known of the columns; only a sure no is False.

    Args:
        condition: What is asked.
        bounds: By column; of columns that are not in it nothing is known.
        literal: A literal in the form in which the column's bounds are.
    """
    if isinstance(condition, Both):
        answers = (can_hold(part, bounds, literal) for part in condition.parts)
        return all(answers) if condition.word == "and" else any(answers)
    if condition.column not in bounds:
        return True
    least, greatest, missing = bounds[condition.column]
    if isinstance(condition, Missing):
        return missing != (EVERY if condition.negated else 0)
    if missing == EVERY:
        return False
    if least is None or greatest is None:
        return True
    if isinstance(condition, Among):
        values = [literal(condition.column, value) for value in condition.values]
        if condition.negated:
            return not (least == greatest and least in values)
        return any(least <= value <= greatest for value in values)
    value = literal(condition.column, condition.value)
    return bool(
        {
            "=": least <= value <= greatest,
            "!=": not least == greatest == value,
            "<": least < value,
            "<=": least <= value,
            ">": greatest > value,
            ">=": greatest >= value,
        }[condition.sign]
    )


def _name(column: str) -> str:
    plain = re.fullmatch(r"[^\W\d][\w.]*", column) and column.lower() not in _WORDS
    return column if plain else f"`{column}`"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value).replace("inf", "1e999")
    return "'" + str(value).replace("'", "''") + "'"


@dataclass(frozen=True)
class _Token:
    kind: str
    value: Any
    at: int

    def word(self) -> str:
        return self.value.lower() if self.kind == "name" and self.value.lower() in _WORDS else ""


class _Parser:
    """Recursive descent; ``negated`` says whether a ``not`` stands before what is read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(self._tokens())
        self.next = 0
        self.depth = 0

    def _tokens(self) -> Iterator[_Token]:
        at = 0
        end = len(self.text.rstrip())
        while at < end:
            found = _TOKEN.match(self.text, at)
            if found is None:
                while self.text[at].isspace():
                    at += 1
                raise self._error("cannot be read", at)
            kind = str(found.lastgroup)
            yield _Token("name*" if kind == "quoted" else kind, found[kind], found.start(kind))
            at = found.end()
        yield _Token("end", "", end)

    def whole(self) -> Condition:
        found = self._any(negated=False)
        if self._peek().kind != "end":
            raise self._error("does not belong here")
        return found

    def _any(self, *, negated: bool) -> Condition:
        return self._join("or", self._all, negated)

    def _all(self, *, negated: bool) -> Condition:
        return self._join("and", self._one, negated)

    def _join(self, word: str, part: Callable[..., Condition], negated: bool) -> Condition:
        parts = [part(negated=negated)]
        while self._peek().word() == word:
            self._take()
            parts.append(part(negated=negated))
        if len(parts) == 1:
            return parts[0]
        # not (a and b) = not a or not b
        return Both({"and": "or", "or": "and"}[word] if negated else word, tuple(parts))

    def _one(self, *, negated: bool) -> Condition:
        self.depth += 1
        if self.depth > _DEPTH:
            raise self._error(f"is nested deeper than {_DEPTH}")
        try:
            if self._peek().word() == "not":
                self._take()
                return self._one(negated=not negated)
            if self._peek().value == "(" and self._peek().kind == "sign":
                self._take()
                found = self._any(negated=negated)
                self._sign(")")
                return found
            return self._comparison(negated)
        finally:
            self.depth -= 1

    def _comparison(self, negated: bool) -> Condition:
        token = self._take()
        if token.kind not in ("name", "name*") or token.word():
            raise self._error("is where a column's name should be", token.at)
        column = str(token.value)
        token = self._take()
        word = token.word()
        if word == "is":
            if self._peek().word() == "not":
                self._take()
                negated = not negated
            self._word("null")
            return Missing(column, negated)
        if word == "not":
            negated = not negated
            token = self._take()
            word = token.word()
            if word not in ("in", "between"):
                raise self._error("is where `in` or `between` should be", token.at)
        if word == "in":
            return Among(column, self._values(), negated)
        if word == "between":
            low = self._literal()
            self._word("and")
            parts = (Compare(column, ">=", low), Compare(column, "<=", self._literal()))
            if negated:
                return Both("or", tuple(replace(part, sign=_OPPOSITE[part.sign]) for part in parts))
            return Both("and", parts)
        sign = _SAME.get(token.value, token.value)
        if token.kind != "sign" or sign not in _OPPOSITE:
            raise self._error("is where a comparison (=, !=, <, <=, >, >=, in, between, is) should be", token.at)
        return Compare(column, _OPPOSITE[sign] if negated else sign, self._literal())

    def _values(self) -> tuple[Literal, ...]:
        closing = ")" if self._sign("(", "[") == "(" else "]"
        found = [self._literal()]
        while self._sign(",", closing) == ",":
            if self._peek().value == closing:
                self._take()
                break
            found.append(self._literal())
        if len({_kind(value) for value in found}) > 1:
            raise self._error("has values of several kinds", self.tokens[self.next - 1].at)
        return tuple(found)

    def _literal(self) -> Literal:
        token = self._take()
        if token.kind == "number":
            text = str(token.value)
            return int(text) if re.fullmatch(r"[+-]?\d{1,40}", text) else float(text)
        if token.kind == "text":
            quote = token.value[0]
            return str(token.value[1:-1].replace(quote * 2, quote))
        if token.word() in ("true", "false"):
            return token.word() == "true"
        if token.word() == "null":
            raise self._error("can be asked with `is null` and `is not null` only", token.at)
        if token.kind in ("name", "name*"):
            raise self._error("is where a value should be: texts stand in quotes", token.at)
        raise self._error("is where a value should be", token.at)

    def _peek(self) -> _Token:
        return self.tokens[self.next]

    def _take(self) -> _Token:
        token = self.tokens[self.next]
        self.next = min(self.next + 1, len(self.tokens) - 1)
        return token

    def _word(self, word: str) -> None:
        token = self._take()
        if token.word() != word:
            raise self._error(f"is where `{word}` should be", token.at)

    def _sign(self, *signs: str) -> str:
        token = self._take()
        if token.kind != "sign" or token.value not in signs:
            raise self._error(f"is where `{'` or `'.join(signs)}` should be", token.at)
        return str(token.value)

    def _error(self, what: str, at: int | None = None) -> SettingsError:
        at = self._peek().at if at is None else at
        rest = self.text[at:].strip()
        found = f"{rest[:20]!r}" if rest else "the end"
        return SettingsError(
            f"the condition cannot be understood: {found} {what}",
            where=f"where, character {at + 1}",
            hint="such as: amount > 10 and country in ('DE', 'FR') and not (note is null or size between 1 and 2)",
        )


def _kind(value: object) -> type:
    return float if isinstance(value, int | float) and not isinstance(value, bool) else type(value)
