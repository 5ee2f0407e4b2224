"""What turns a batch of input rows into output rows; the same in the run's own process and in its workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mealkit.errors import RecipeError, SchemaError
from mealkit.recipe import Recipe
from mealkit.recipe import score as score_frame

from .run import seed_generators

if TYPE_CHECKING:
    from mealkit.context import Context
    from mealkit.spec import RecipeSpec

    from .schema import Schema


@dataclass(frozen=True)
class Scoring:
    """A recipe with its model, ready to score batches.

    Attributes:
        input: The schema that batches conform to.
        output: The declared schema of the output rows; None: not declared.
    """

    recipe: Recipe
    model: Any
    context: Context[Any]
    input: Schema
    output: Schema | None

    def rows(self, number: int, table: Any) -> Any:
        """The output rows, as an Arrow table, of an Arrow table of input rows.

        Args:
            number: The batch's place in the dataset, from 0. The generators of random numbers are seeded by it, so that
                a recipe that draws some gives the same scores whichever process scores the batch.
            table: It conforms to the input's schema.

        Raises:
            RecipeError: the recipe's code failed, or gave what the output's schema does not allow.
        """
        from .schema import to_frame

        seed_generators(self.context.seed + number)
        frame = to_frame(table, self.input)
        return self._checked(score_frame(self.recipe, frame, self.model, self.context))

    def _checked(self, rows: Any) -> Any:
        import pyarrow as pa

        from .schema import conform

        scorer = type(self.recipe.scorer).__name__
        try:
            table = pa.Table.from_pandas(rows, preserve_index=False)
            return table if self.output is None else conform(table, self.output, "the scores")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise RecipeError(
                f"{scorer}.score gave what no dataset can hold: {error}",
                where=f"{scorer}.score",
                hint="give columns of numbers, texts, times, true and false",
            ) from None
        except SchemaError as error:
            raise RecipeError(
                f"{scorer}.score gave what the output schema does not allow: {error.message}",
                where=error.where,
                hint="mend the scorer, or the output schema",
            ) from None


def input_schema(spec: RecipeSpec, recipe: Recipe, columns: Mapping[str, Any] | None) -> Schema:
    """The schema of a dataset to score.

    Args:
        spec: Names the keys and the target, which scoring never sees.
        recipe: Its row schema, and the column by which rows stand together.
        columns: The types of columns that training saw.
    """
    from .schema import schema_of

    together = recipe.loader.keep_together
    seen = {name: facts for name, facts in (columns or {}).items() if name != spec.target}
    return schema_of(recipe.input, () if together is None else (together,), spec.keys, seen).without(spec.target)


def output_schema(recipe: Recipe) -> Schema | None:
    """The declared schema of the output rows; None: not declared."""
    if recipe.output is None:
        return None
    from .schema import schema_of

    return schema_of(recipe.output)
