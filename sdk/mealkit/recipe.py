"""The loaded recipe: a specification with its classes, and the in-memory verbs that every mode is made of."""

from __future__ import annotations

import contextlib
import importlib
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .data import Data
from .errors import MealkitError, ProjectError, RecipeError, UsageError

if TYPE_CHECKING:
    import pandas as pd

    from .context import Context
    from .evaluator import Evaluator
    from .hyperparameters import Hyperparameters
    from .loader import DataLoader
    from .row import Row
    from .saver import DataSaver
    from .scorer import Scorer
    from .spec import RecipeSpec
    from .trainer import Trainer


@dataclass(frozen=True)
class Recipe:
    """A recipe's parts, made once for a run; roles that it leaves out have their defaults."""

    spec: RecipeSpec
    hyperparameters: type[Hyperparameters]
    loader: DataLoader[Any]
    trainer: Trainer[Any, Any]
    evaluator: Evaluator[Any] | None
    scorer: Scorer[Any]
    saver: DataSaver | None
    input: type[Row] | None
    output: type[Row] | None
    inputs: Mapping[str, type[Row]]


def load_recipe(spec: RecipeSpec) -> Recipe:
    """Import the classes that a specification names.

    Raises:
        ProjectError: a module or class is missing, or is not what its role asks for.
    """
    from .evaluator import Evaluator, default_evaluator
    from .hyperparameters import Hyperparameters
    from .loader import DataLoader
    from .row import Row
    from .saver import DataSaver
    from .scorer import Scorer
    from .trainer import Trainer

    parts = spec.components

    def optional(role: str, base: type[Any]) -> Any:
        return load_class(parts[role], base, role) if role in parts else None

    def made(role: str, base: type[Any]) -> Any:
        cls = optional(role, base)
        if cls is None:
            return None
        with author_code(f"{parts[role]}()"):
            return cls()

    return Recipe(
        spec=spec,
        hyperparameters=optional("hyperparameters", Hyperparameters) or Hyperparameters,
        loader=made("loader", DataLoader) or DataLoader(),
        trainer=made("trainer", Trainer),
        evaluator=made("evaluator", Evaluator) or default_evaluator(spec.kind),
        scorer=made("scorer", Scorer) or Scorer(),
        saver=made("saver", DataSaver),
        input=optional("input", Row),
        output=optional("output", Row),
        inputs={name: load_class(reference, Row, f"inputs.{name}") for name, reference in spec.inputs.items()},
    )


def load_class(reference: str, base: type[Any], role: str) -> type[Any]:
    """The class that ``module:Class`` names, checked to be a subclass of ``base``.

    Raises:
        ProjectError: no such module or class, or not a subclass.
        RecipeError: the module raised while it was imported.
    """
    module_name, _, class_name = reference.partition(":")
    where = f"tool.mealkit.{role}"
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module_name == missing or module_name.startswith(missing + "."):
            raise ProjectError(
                f"there is no module {missing!r}", where=where, hint="mend the reference, or add the file"
            ) from None
        raise ProjectError(
            f"module {module_name!r} imports {missing!r}, which is not installed",
            where=where,
            hint=f"add the distribution that brings {missing!r} to [project] dependencies, and install it",
        ) from None
    except MealkitError:
        raise
    except Exception as error:
        raise _author_error(f"importing {module_name!r}", error) from error
    try:
        cls = getattr(module, class_name)
    except AttributeError:
        import difflib

        near = difflib.get_close_matches(class_name, vars(module), n=1)
        raise ProjectError(
            f"module {module_name!r} has no class {class_name!r}",
            where=where,
            hint=f"did you mean {module_name}:{near[0]}?" if near else f"write it in {module.__file__}",
        ) from None
    if not isinstance(cls, type) or not issubclass(cls, base):
        raise ProjectError(
            f"{reference} is not a subclass of mealkit.{base.__name__}",
            where=where,
            hint=f"derive it from mealkit.{base.__name__}",
        )
    return cls


@contextlib.contextmanager
def author_code(what: str) -> Iterator[None]:
    """Run the recipe's own code; what it raises becomes a :class:`RecipeError` with the author's file and line."""
    try:
        yield
    except MealkitError:
        raise
    except Exception as error:
        raise _author_error(what, error) from error


def _author_error(what: str, error: Exception) -> RecipeError:
    return RecipeError(
        f"{what} failed: {type(error).__name__}: {error}", where=_author_place(error), hint="mend the recipe's code"
    )


def _author_place(error: Exception) -> str | None:
    """File and line where the author must look: the innermost frame of the first package that is not ours.

    An installed recipe stands in ``site-packages`` like the libraries that it calls, so the path alone does not tell.
    """
    place, package = None, None
    for frame, line in traceback.walk_tb(error.__traceback__):
        top = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package is None and top not in ("mealkit", "mealkit_runtime", "importlib", "contextlib"):
            package = top
        if top == package:
            place = f"{frame.f_code.co_filename}:{line}"
    return place


@dataclass(frozen=True)
class Prepared:
    """Features with the keys and groups of their rows, on one index."""

    features: pd.DataFrame
    keys: pd.DataFrame
    groups: pd.Series | None


def prepare(recipe: Recipe, frame: pd.DataFrame, context: Context[Any]) -> Prepared:
    """Features and keys of an input frame (index 0…n-1); the target's column is taken away first.

    Raises:
        RecipeError: the loader failed, or returned what is no frame or has a repeated index.
    """
    target = recipe.spec.target
    visible = frame.drop(columns=[target]) if target in frame.columns else frame
    name = f"{type(recipe.loader).__name__}.prepare"
    with author_code(name):
        features = recipe.loader.prepare(visible, context)
    import pandas as pd

    if not isinstance(features, pd.DataFrame):
        raise RecipeError(f"{name} returned {type(features).__name__}, not a DataFrame", hint="return the features")
    if not features.index.is_unique:
        raise RecipeError(f"{name} returned a frame whose index repeats", hint="reset the index, or index by the keys")
    keys = {key: _beside(key, visible, features, name) for key in recipe.spec.keys}
    together = recipe.loader.keep_together
    groups = None if together is None else _beside(together, visible, features, name)
    spent = [key for key in keys if key in features.columns]
    return Prepared(
        features.drop(columns=spent) if spent else features, pd.DataFrame(keys, index=features.index), groups
    )


def _beside(key: str, frame: pd.DataFrame, features: pd.DataFrame, name: str) -> pd.Series:
    """The column ``key`` for each row of ``features``: an index level, a column, or the input's column."""
    import pandas as pd

    if key in features.index.names:
        return pd.Series(features.index.get_level_values(key), index=features.index, name=key)
    if key in features.columns:
        return features[key]
    if key in frame.columns and features.index.equals(frame.index):  # as it mostly is, and quick to see
        same: pd.Series = frame[key]
        return same
    if key in frame.columns and features.index.nlevels == 1 and features.index.isin(frame.index).all():
        column: pd.Series = frame[key].loc[features.index]
        return column
    raise RecipeError(
        f"{name} lost the column {key!r}: it is neither in the index nor among the columns that it returned",
        where=f"column {key}",
        hint=f"keep {key!r} as a column or an index level of the prepared frame",
    )


def make_data(recipe: Recipe, frame: pd.DataFrame, context: Context[Any]) -> Data:
    """Prepared data with their target, for training and evaluation; cases of unknown target are dropped.

    Raises:
        RecipeError: the loader failed or returned what does not fit together.
    """
    import pandas as pd

    prepared = prepare(recipe, frame, context)
    name = f"{type(recipe.loader).__name__}.target"
    full = prepared.features
    if recipe.spec.kind == "clustering" and recipe.spec.target is None and not _makes_target(recipe):
        target = pd.Series(float("nan"), index=full.index)
        kept = full.index
    else:
        target, kept = _known_target(recipe, frame, full, context, name)
    with author_code(f"{type(recipe.loader).__name__}.weights"):
        weights = recipe.loader.weights(frame, full, context)
    if weights is not None:
        weights = _checked_weights(weights, kept, f"{type(recipe.loader).__name__}.weights")
    return Data(
        features=full.loc[kept],
        target=target.loc[kept].rename(recipe.spec.target),
        keys=prepared.keys.loc[kept],
        weights=weights,
        groups=None if prepared.groups is None else prepared.groups.loc[kept],
    )


def _makes_target(recipe: Recipe) -> bool:
    from .loader import DataLoader

    return type(recipe.loader).target is not DataLoader.target


def _known_target(
    recipe: Recipe, frame: pd.DataFrame, full: pd.DataFrame, context: Context[Any], name: str
) -> tuple[pd.Series, pd.Index]:
    """The target where it is known, and the cases that it is known of."""
    import pandas as pd

    with author_code(name):
        target = recipe.loader.target(frame, full, context)
    if not isinstance(target, pd.Series) or not target.index.is_unique:
        raise RecipeError(f"{name} must return a Series with a unique index", hint="return it on the index of prepared")
    target = target.dropna()
    if not target.index.isin(full.index).all():
        raise RecipeError(f"{name} returned rows that are not among the prepared ones", hint="keep the prepared index")
    return target, full.index[full.index.isin(target.index)]


def _checked_weights(weights: object, kept: pd.Index, name: str) -> pd.Series:
    import pandas as pd

    if not isinstance(weights, pd.Series) or not weights.index.is_unique or not kept.isin(weights.index).all():
        raise RecipeError(f"{name} must return a Series with a weight for each prepared row", hint="keep its index")
    chosen = weights.loc[kept]
    if not (chosen >= 0).all():
        raise RecipeError(f"{name} returned a weight that is negative or missing", hint="use 0 for what must not count")
    return chosen


def score(recipe: Recipe, frame: pd.DataFrame, model: Any, context: Context[Any]) -> pd.DataFrame:
    """Output rows of an input frame: the keys, then what the scorer gives, in the order of the output schema.

    Raises:
        RecipeError: the loader or scorer failed, or the output lacks a declared column.
    """
    import pandas as pd

    prepared = prepare(recipe, frame, context)
    name = f"{type(recipe.scorer).__name__}.score"
    with author_code(name):
        scores = recipe.scorer.score(prepared.features, model, context)
    if not isinstance(scores, pd.DataFrame):
        raise RecipeError(f"{name} returned {type(scores).__name__}, not a DataFrame", hint="return the output rows")
    whole = scores.index.equals(prepared.features.index)
    if not whole and (not scores.index.is_unique or not scores.index.isin(prepared.features.index).all()):
        raise RecipeError(
            f"{name} returned rows that are not in the batch, or one of them twice", hint="keep the batch's index"
        )
    missing_keys = [key for key in prepared.keys if key not in scores.columns]
    keys = prepared.keys[missing_keys] if whole else prepared.keys.loc[scores.index, missing_keys]
    rows = pd.concat([keys, scores], axis=1)
    if recipe.output is not None:
        missing = [column for column in recipe.output.columns() if column not in rows.columns]
        if missing:
            raise RecipeError(
                f"{name} gave no column {missing[0]!r}, which the output schema declares",
                where=f"column {missing[0]}",
                hint=f"it gave: {', '.join(map(str, rows.columns))}",
            )
        rows = rows[list(recipe.output.columns())]
    return rows.reset_index(drop=True)


def need_evaluator(recipe: Recipe) -> Evaluator[Any]:
    """The recipe's evaluator.

    Raises:
        UsageError: its kind has no ready one and it names none.
    """
    if recipe.evaluator is None:
        raise UsageError(
            f"a recipe of kind {recipe.spec.kind!r} has no ready evaluator",
            where="tool.mealkit.evaluator",
            hint="write a subclass of mealkit.Evaluator and name it there",
        )
    return recipe.evaluator
