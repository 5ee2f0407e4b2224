"""What an author should know of a dataset before writing a recipe, in plain words."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping, Sequence

from .value import ColumnProfile, Correlations, Finding, Target
from .view import View
from .wording import number, percent, round_down

CODES = (
    "target-missing", "target-constant", "leak", "imbalanced", "mixed-types", "all-missing", "constant", "same-as",
    "mostly-missing", "identifier", "group", "infinite", "numbers-as-text", "dates-as-text", "times-as-text", "blanks",
    "many-values", "outliers", "correlated", "gaps",
)  # fmt: skip
"""The findings' codes, the gravest first."""

_DATE = re.compile(r"\d{1,4}[/.-]\d{1,2}[/.-]\d{1,4}([ T]\d{1,2}:\d{2}.*)?")
_NUMBER = re.compile(r"[+-]?[\d.,' \u00a0]*\d[\d.,' \u00a0]*(e[+-]?\d+)?\s*%?", re.IGNORECASE)
_IDENTIFIER = re.compile(r"(?i:(^|[_\W])(id|key|uuid|guid|code|no|nr|number))$|(?<=[a-z])(Id|ID|Key)$")
_KEY = re.compile(r"(?i:(^|[_\W])(id|key|uuid|guid))$|(?<=[a-z])(Id|ID|Key)$")


def findings(
    rows: int,
    columns: Sequence[ColumnProfile],
    views: Mapping[str, View],
    correlations: Correlations | None,
    target: Target | None,
) -> tuple[Finding, ...]:
    """All that is worth a word, the gravest first."""
    found = [finding for column in columns for finding in _of_column(rows, column, views[column.name])]
    found += _of_pairs(correlations, target, {column.name: column for column in columns})
    if target is not None:
        found += _of_target(rows, target, next(column for column in columns if column.name == target.column))
    return tuple(sorted(found, key=lambda finding: CODES.index(finding.code)))


def identifier(rows: int, column: ColumnProfile) -> bool:
    """Whether (nearly) every row has a value of its own."""
    there = rows - column.missing
    if column.kind not in ("int", "str") or there < 50 or column.distinct is None:
        return False
    share = column.distinct / there
    # An estimate may be a little low; a measured whole number may by chance be nearly unique, so the name counts too.
    if column.kind == "str" or _IDENTIFIER.search(column.name):
        return share >= 0.97
    return share >= 0.97 and _dense(column, there)


def group(rows: int, column: ColumnProfile) -> bool:
    """Whether the column names things that have several rows each, by its name and counts."""
    if column.kind not in ("int", "str") or identifier(rows, column) or not _KEY.search(column.name):
        return False
    return 10 <= (column.distinct or 0) <= 0.9 * (rows - column.missing)


def _dense(column: ColumnProfile, there: int) -> bool:
    """Whole numbers that hardly leave one out, as counters give."""
    numbers = column.numbers
    if numbers is None or numbers.minimum is None or numbers.maximum is None:
        return False
    return int(numbers.maximum) - int(numbers.minimum) < 1.1 * there


def _of_column(rows: int, column: ColumnProfile, view: View) -> Iterator[Finding]:
    name, share = column.name, column.missing / rows
    if column.kind == "empty":
        yield Finding("all-missing", name, f"{name} has no value in any row: leave it out")
        return
    if column.kind == "mixed":
        yield Finding(
            "mixed-types", name, f"{name} is of different types in different files ({', '.join(column.stored)})"
        )
    if column.distinct == 1 and not column.missing:
        yield Finding("constant", name, f"{name} is {_quoted(column)} in every row: it tells a model nothing")
    elif column.distinct == 1:
        yield Finding(
            "constant", name, f"{name} is {_quoted(column)} or missing: only whether it is there tells anything"
        )
    if column.same_as is not None:
        yield Finding("same-as", name, f"{name} is the same as {column.same_as} in every row: keep one of them")
    if share >= 0.5:
        yield Finding("mostly-missing", name, f"{name} is missing in {percent(share)} of the rows")
    if identifier(rows, column):
        yield Finding(
            "identifier",
            name,
            f"{name} looks like an identifier ({_about(column)} different values in {rows:,} rows): "
            "a key to carry along, not a feature",
        )
    elif group(rows, column):
        each = (rows - column.missing) / (column.distinct or 1)
        yield Finding(
            "group",
            name,
            f"{name} names {_about(column)} things with {each:.3g} rows each: a key, not a feature; "
            f'keep_together = "{name}" keeps the rows of one on one side of a split',
        )
    elif column.kind == "str" and (column.distinct or 0) > 1_000:
        yield Finding(
            "many-values", name, f"{name} has {_about(column)} different texts: one-hot encoding would be wide"
        )
    if column.kind == "str":
        yield from _of_texts(column, view)
    if column.numbers is not None:
        if column.numbers.infinite:
            yield Finding(
                "infinite", name, f"{name} is infinite in {column.numbers.infinite:,} rows: most models refuse that"
            )
        outliers = column.numbers.outliers
        if outliers is not None and outliers.share >= 0.05 and outliers.high > outliers.low:
            yield Finding(
                "outliers",
                name,
                f"{name} has {percent(outliers.share)} outliers "
                f"(beyond {number(outliers.low)} … {number(outliers.high)}): "
                "a heavy tail; a logarithm or ranks may help",
            )
    times = column.times
    if times is not None and times.gaps and times.longest_gap is not None:
        gap = times.longest_gap
        yield Finding(
            "gaps",
            name,
            f"{name} has {times.gaps:,} gaps longer than its usual {_days(times.step or 1)}; "
            f"the longest is {_days(gap.days)}, from {gap.after} to {gap.before}",
        )


def _of_texts(column: ColumnProfile, view: View) -> Iterator[Finding]:
    """Texts that are not what they look like."""
    name = column.name
    texts = [str(text).strip() for text in view.labels[~view.missing][:2_000]]
    if column.texts is not None and column.texts.blanks:
        yield Finding("blanks", name, f"{name} has blanks around {column.texts.blanks:,} of its texts: ' a' is not 'a'")
    if not texts:
        return
    dates = [text for text in texts if _DATE.fullmatch(text)]
    if len(dates) >= 0.95 * len(texts) and all(map(_is_iso, dates)):
        yield Finding(
            "times-as-text",
            name,
            f"{name} has times as texts ({dates[0]}): declare it as datetime, and it is read as such",
        )
        return
    if len(dates) >= 0.95 * len(texts):
        yield Finding(
            "dates-as-text",
            name,
            f"{name} looks like dates, but not in ISO 8601 ({dates[0]}): declare it as str, and parse it in prepare",
        )
        return
    numbers = [text for text in texts if _NUMBER.fullmatch(text)]
    if len(numbers) >= 0.8 * len(texts) and view.kind == "str":
        odd = next((text for text in texts if not _NUMBER.fullmatch(text)), None)
        why = f"but for {odd[:30]!r}" if odd is not None else f"written as {numbers[0]!r}"
        yield Finding(
            "numbers-as-text", name, f"{name} would be numbers, {why}: mend the data, or convert it in prepare"
        )


def _is_iso(text: str) -> bool:
    try:
        dt.datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _of_pairs(
    correlations: Correlations | None, target: Target | None, columns: Mapping[str, ColumnProfile]
) -> Iterator[Finding]:
    if correlations is None:
        return
    names = correlations.names
    for i, one in enumerate(names):
        for j in range(i):
            other, value = names[j], correlations.pearson[i][j]
            twins = columns[one].same_as is not None and columns[one].same_as in (other, columns[other].same_as)
            if value is None or abs(value) < 0.98 or twins or (target and target.column in (one, other)):
                continue
            yield Finding(
                "correlated", one, f"{one} moves with {other} (correlation {round_down(value)}): one may be enough"
            )


def _of_target(rows: int, target: Target, column: ColumnProfile) -> Iterator[Finding]:
    name = target.column
    if column.missing:
        yield Finding(
            "target-missing",
            name,
            f"the target {name} is missing in {column.missing:,} rows ({percent(column.missing / rows)}): "
            "drop them in DataLoader.target",
        )
    if (column.distinct or 0) <= 1:
        yield Finding("target-constant", name, f"the target {name} has one value: there is nothing to learn")
    for one in target.associations:
        strongest = max(abs(one.value), abs(one.spearman or 0))
        if strongest >= 0.98 or column.same_as == one.column:
            yield Finding(
                "leak",
                one.column,
                f"does {one.column} leak the target? {one.measure} {round_down(one.value)} with {name}",
            )
    if target.kind == "class" and column.top_exact and len(target.balance) > 1:
        rarest = min(target.balance, key=lambda count: count.rows)
        if len(target.balance) == column.distinct and rarest.rows / max(rows - column.missing, 1) < 0.05:
            yield Finding(
                "imbalanced",
                name,
                f"{name} = {rarest.value} has only {percent(rarest.rows / (rows - column.missing))} of the rows "
                f"({rarest.rows:,}): judge by AUC or average precision, not by accuracy",
            )


def _quoted(column: ColumnProfile) -> str:
    text = column.top[0].value if column.top else "one value"
    text = text if len(text) <= 30 else text[:30] + "…"
    return repr(text) if column.kind == "str" else text


def _about(column: ColumnProfile) -> str:
    return f"{'' if column.distinct_exact else 'about '}{column.distinct:,}"


def _days(number: int) -> str:
    return "1 day" if number == 1 else f"{number:,} days"
