"""Row schemas: what one row of a dataset holds, declared as a pydantic model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from .errors import ProjectError


class Row(BaseModel):
    """The base of row schemas; columns that a schema does not name are allowed and ignored.

    Use the plain types ``int``, ``float``, ``str``, ``bool``, ``datetime``, ``date``, ``Literal[...]``; ``X | None``
    for a column that may have missing values; and :func:`mealkit.Field` for ranges (``ge``, ``gt``, ``le``, ``lt``),
    patterns and descriptions.

    A dataset in which no two rows may have the same key says so beside the base class; a row that lacks a part of the
    key is like no other::

        class Order(mealkit.Row, unique=("shop", "number")):
            shop: str
            number: int
            amount: float = Field(ge=0)
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    __unique__: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, unique: Sequence[str] | str | None = None, **options: Any) -> None:
        """Take the key; see the class."""
        super().__init_subclass__(**options)
        if unique is not None:
            cls.__unique__ = (unique,) if isinstance(unique, str) else tuple(unique)

    @classmethod
    def __pydantic_init_subclass__(cls, unique: Sequence[str] | str | None = None, **options: Any) -> None:
        """Check the key, now that the fields are known.

        Raises:
            ProjectError: the schema has no such column, or it may be absent.
        """
        super().__pydantic_init_subclass__(**options)
        for name in cls.__unique__:
            field = cls.model_fields.get(name)
            if field is None or not field.is_required():
                what = "has no column" if field is None else "has a default for the column"
                raise ProjectError(
                    f"the row schema {cls.__name__} {what} {name!r}, in which rows must differ",
                    where=f"{cls.__module__}:{cls.__name__}",
                    hint="name required columns in unique=(…)",
                )

    @classmethod
    def columns(cls) -> tuple[str, ...]:
        """The names of the declared columns, in order."""
        return tuple(cls.model_fields)


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of a row schema or of hyperparameters, as it stands in an image's label.

    A key that must be unique is ``x-unique``: JSON Schema has no word for what two rows may not have in common.
    """
    schema = model.model_json_schema()
    if issubclass(model, Row) and model.__unique__:
        schema["x-unique"] = list(model.__unique__)
    return schema
