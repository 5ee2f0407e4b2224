"""Row schemas: what one row of a dataset holds, declared as a pydantic model."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Row(BaseModel):
    """The base of row schemas; columns that a schema does not name are allowed and ignored.

    Use the plain types ``int``, ``float``, ``str``, ``bool``, ``datetime``, ``date``, ``Literal[...]``; ``X | None``
    for a column that may have missing values; and :func:`mealkit.Field` for ranges (``ge``, ``gt``, ``le``, ``lt``),
    patterns and descriptions.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    @classmethod
    def columns(cls) -> tuple[str, ...]:
        """The names of the declared columns, in order."""
        return tuple(cls.model_fields)


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of a row schema or of hyperparameters, as it stands in an image's label."""
    return model.model_json_schema()
