"""The trainer: fits a model, and writes and reads it without pickle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic

from typing_extensions import TypeVar

from .context import Context, H
from .data import Data
from .errors import ModelError
from .history import EarlyStopping

M = TypeVar("M", default=Any)

_SKOPS = "model.skops"
_PICKLE = "model.pkl"

# A model file names functions as well as types, and numpy and scipy have some that run code or read files
# (numpy.testing.runstring, numpy.load): so of these two only what scikit-learn's estimators are made of.
_TRUSTED_PACKAGES = ("sklearn.", "scipy.interpolate.", "scipy.sparse.", "scipy.spatial.", "scipy.stats.")
_NEVER_TRUSTED = ("sklearn.datasets.", "sklearn.externals.", "sklearn.utils._testing.")
_TRUSTED = frozenset(
    {"numpy.dtype", "numpy.mean", "numpy.median", "numpy.min", "numpy.max", "numpy.sum"}
    | {"scipy._lib.array_api_compat.numpy._aliases.asarray"}
)


class Trainer(ABC, Generic[H, M]):
    """The one class that a recipe must have: ``class MyTrainer(mealkit.Trainer[MyHyperparameters, Pipeline])``.

    Attributes:
        trusted_types: Names of further types that a model file may hold, such as ``lightgbm.sklearn.LGBMClassifier``.
            What skops trusts, scikit-learn's types, and the recipe's own package need not be named.
        allow_pickle: Save with pickle, which can run any code when it is loaded. The choice is recorded in
            ``model.json``.
    """

    trusted_types: ClassVar[Sequence[str]] = ()
    allow_pickle: ClassVar[bool] = False

    @abstractmethod
    def train(self, data: Data, context: Context[H]) -> M:
        """Fit a model to ``data.features`` and ``data.target``; fitted encoders and scalers belong in it."""

    def save(self, model: M, directory: Path) -> None:
        """Write the model into an empty ``directory``; as it is: skops, for scikit-learn estimators and numpy.

        Raises:
            ModelError: the model holds what skops cannot write.
        """
        if self.allow_pickle:
            import pickle  # an explicit choice of the recipe, recorded in model.json

            (directory / _PICKLE).write_bytes(pickle.dumps(model))
            return
        from ._skops import dump

        try:
            dump(model, directory / _SKOPS)
        except Exception as error:  # skops names no error of its own
            raise ModelError(
                f"a model of type {type(model).__name__} cannot be written safely: {error}",
                where=f"{type(self).__qualname__}.save",
                hint="write save and load for it, or set allow_pickle = True if you accept what pickle means",
            ) from error

    def load(self, directory: Path) -> M:
        """Read the model that :meth:`save` wrote.

        Raises:
            ModelError: the file holds types that are not trusted.
        """
        if self.allow_pickle:
            import pickle

            model: M = pickle.loads((directory / _PICKLE).read_bytes())  # noqa: S301
            return model
        import skops.io

        path = directory / _SKOPS
        if not path.is_file():
            raise ModelError(
                f"the model directory has no {_SKOPS}",
                where=str(directory),
                hint="was it written by another recipe, or by a trainer with its own save?",
            )
        untrusted = skops.io.get_untrusted_types(file=path)
        unknown = [name for name in untrusted if not self._trusts(name)]
        if unknown:
            raise ModelError(
                f"the model holds types that are not trusted: {', '.join(unknown)}",
                where=str(path),
                hint="if they are yours, name them in Trainer.trusted_types",
            )
        return skops.io.load(path, trusted=untrusted)  # type: ignore[no-any-return]

    def fit_in_steps(
        self,
        model: M,
        data: Data,
        context: Context[H],
        *,
        steps: int,
        grow: int = 1,
        size: str | None = None,
        every: int = 1,
        early_stopping: EarlyStopping | None = None,
    ) -> M:
        """Fit a scikit-learn estimator step by step: with checkpoints, resumed, stopped early, from an earlier model.

        .. code-block:: python

            def train(self, data, context):
                model = make_pipeline(StandardScaler(), SGDClassifier(loss="log_loss", random_state=context.seed))
                early = mealkit.EarlyStopping("validation_log_loss", patience=5)
                return self.fit_in_steps(model, data, context, steps=100, early_stopping=early)

        An estimator with ``partial_fit`` passes once over the data in a step. One with ``warm_start`` (gradient
        boosting, forests) grows by ``grow`` trees. What stands before it in a pipeline is fitted once, at the
        beginning; with an earlier model (``context.warm_start``) it is taken from there, and the steps come on top.

        After each step that the validation data can judge, ``validation_log_loss`` (a classifier with probabilities),
        ``validation_error`` (one without: the part that is wrong) or ``validation_rmse`` is logged. A resumed training
        gives the same model, bit by bit, as one that was not interrupted.

        Args:
            model: The estimator, or a pipeline that ends in it; not fitted.
            data: What to fit it to.
            context: The run's.
            steps: Steps to take, those before an interruption included (≥ 1).
            grow: By how much a step enlarges an estimator with ``warm_start`` (≥ 1).
            size: Which parameter of it grows; None: ``n_estimators``, or ``max_iter`` for histogram boosting.
            every: A checkpoint is saved after so many steps, after the last, and at a stop.
            early_stopping: When to stop before ``steps``; the model is that of the last step.

        Raises:
            RecipeError: the estimator cannot be fitted in steps, or the earlier model is another one.
        """
        from .stepwise import fit_in_steps

        fitted: M = fit_in_steps(
            self, model, data, context, steps=steps, grow=grow, size=size, every=every, early_stopping=early_stopping
        )
        return fitted

    def _trusts(self, type_name: str) -> bool:
        own_package = type(self).__module__.partition(".")[0]
        if type_name in self.trusted_types or type_name in _TRUSTED or type_name.startswith(f"{own_package}."):
            return True
        return type_name.startswith(_TRUSTED_PACKAGES) and not type_name.startswith(_NEVER_TRUSTED)
