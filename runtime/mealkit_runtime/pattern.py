"""Whether texts match a pattern: pydantic's answer, at the speed of Arrow's RE2 wherever the two engines agree."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

# What means the same to RE2 and to Rust's engine: plain characters, simple classes, groups, alternatives, quantifiers.
# Not here, so asked of pydantic: flags, \p, \x, \<, set operations ([a&&b]), nested and POSIX classes.
_COMMON = re.compile(
    r"""
    (?: [A-Za-z0-9 _,:;=!@\#%&~"'<>/`-]
      | \\[dDwWsSbB.*+?()\[\]{}|^$/\\-]
      | \[ \^? (?: [A-Za-z0-9 _.,:;=!@\#%"'<>/`*+?(){}$-] | \\[dDwWsS.*+?()\[\]{}|^$/\\-] )+ \]
      | [.^$|)]
      | \( (?: \?: | \?P<[A-Za-z_]\w*> )? (?! \? )
      | (?: [*+?] | \{\d{1,3} (?: ,\d{0,3} )? \} ) \??
    )*
    """,
    re.VERBOSE | re.ASCII,
)
_CLASSES = re.compile(r"\\[dDwWsSbB]")
"""RE2 knows these of ASCII only, and leaves the vertical tab out of the blanks."""

_ODD = r"[^\x20-\x7e]"


_HEAD = 1024
"""Where half of so many texts are repeated, each distinct one is matched once."""


class Pattern:
    r"""A compiled pattern.

    The truth is pydantic's engine: Rust's ``regex``, searched anywhere in the text; or Python's ``re`` where the schema
    says so. RE2 answers for it when the pattern has only what both read alike, and of the texts only those in which
    ``\d``, ``\w``, ``\s`` and ``\b`` mean the same: printable ASCII. Other texts, and other patterns, are asked one
    distinct text after the other.
    """

    def __init__(self, pattern: str | re.Pattern[str], engine: str = "rust-regex") -> None:
        self.pattern = pattern
        self.text = pattern if isinstance(pattern, str) else pattern.pattern
        self.engine = engine
        self.fast = isinstance(pattern, str) and engine == "rust-regex" and self._agreed(pattern)
        self.ascii_only = _CLASSES.search(self.text) is not None

    @staticmethod
    def _agreed(pattern: str) -> bool:
        if not _COMMON.fullmatch(pattern) or re.search(r"\[[^]]*(--|\|\||-\\[dDwWsS]|\\[dDwWsS]-)", pattern):
            return False
        try:
            pc.match_substring_regex(pa.array([""]), pattern)
        except pa.ArrowInvalid:
            return False
        return True

    def misses(self, texts: Any) -> Any:
        """A mask of the texts that do not match; a missing one is missing there too."""
        if not self.fast:
            return pc.invert(self._each(texts))
        array = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
        head = array.slice(0, _HEAD)
        if len(array) > 4 * _HEAD and pc.count_distinct(head).as_py() * 2 <= len(head):
            encoded = array.dictionary_encode()
            return self._misses(encoded.dictionary).take(encoded.indices)
        return self._misses(array)

    def _misses(self, texts: Any) -> Any:
        found = pc.match_substring_regex(texts, self.text)
        if self.ascii_only:
            odd = pc.match_substring_regex(texts, _ODD)
            if pc.any(odd).as_py():
                nothing = pa.scalar(None, pa.string())
                found = pc.if_else(odd, self._each(pc.if_else(odd, texts, nothing)), found)
        return pc.invert(found)

    def _each(self, texts: Any) -> Any:
        array = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
        encoded = array.dictionary_encode()
        verdicts = pa.array([self._exact(text) for text in encoded.dictionary.to_pylist()], pa.bool_())
        return verdicts.take(encoded.indices)

    @functools.cached_property
    def _exact(self) -> Callable[[str], bool]:
        from pydantic_core import SchemaValidator, core_schema

        schema: Any = core_schema.str_schema(pattern=self.pattern, regex_engine=self.engine)  # type: ignore[arg-type]
        return SchemaValidator(schema).isinstance_python
