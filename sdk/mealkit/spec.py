"""The recipe's specification: all that a platform must know of a recipe, as it stands in an image's label."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from mealkit._value import asdict, dataclass, field

from .errors import ProjectError
from .metrics import Direction

LABEL = "io.mealkit.recipe"
"""The image label that holds the specification as JSON."""

VERSION = 1
"""The version of the specification's own form; a reader refuses one that it does not know."""

MODES = ("train", "evaluate", "score", "describe")

_LATER = ("time", "objective")
"""Fields that images from before them do not have."""


@dataclass(frozen=True)
class RecipeSpec:
    """What a recipe is and offers; made by a builder, read by platforms and by the runtime.

    Attributes:
        name: The distribution's name, such as ``purchase-propensity``.
        version: Its version.
        summary: One line about it.
        kind: ``classification``, ``regression``, ``clustering``, ``ranking`` or ``custom``.
        target: The name of what is predicted.
        keys: Columns carried from the input to the output.
        components: References (``module:Class``) by role: ``hyperparameters``, ``input``, ``output``, ``loader``,
            ``trainer``, ``evaluator``, ``scorer``, ``saver``; a role that is left out has the default.
        inputs: References to the row schemas of further named datasets.
        hyperparameters: JSON Schema of the hyperparameters.
        input: JSON Schema of an input row; None when not declared.
        output: JSON Schema of an output row; None when not declared.
        input_schemas: JSON Schemas of the further datasets' rows, by name.
        metrics: The metrics that an evaluation gives, each with its direction.
        objective: The one that trials are compared by; None: that of the kind.
        resources: What a run wants, as declared: ``cpu``, ``memory``, ``gpu``.
        modes: What the image's entrypoint can run.
        requires_python: The recipe's version specifier.
        mealkit: The version of the SDK that it was made with.
        time: The column that time windows of a run are of.
    """

    name: str
    version: str
    kind: str = "custom"
    summary: str = ""
    target: str | None = None
    keys: tuple[str, ...] = ()
    components: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    input: Mapping[str, Any] | None = None
    output: Mapping[str, Any] | None = None
    input_schemas: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Direction] = field(default_factory=dict)
    resources: Mapping[str, Any] = field(default_factory=dict)
    modes: tuple[str, ...] = MODES
    requires_python: str = ">=3.11"
    mealkit: str = ""
    spec_version: int = VERSION
    time: str | None = None
    objective: str | None = None

    def to_json(self) -> str:
        """The canonical JSON text: sorted keys, no blanks, so equal specifications are equal bytes.

        Fields that came later are left out where a recipe does not use them: its label, and so its image, stays.
        """
        facts = {name: value for name, value in asdict(self).items() if value is not None or name not in _LATER}
        return json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @property
    def digest(self) -> str:
        """``sha256:HEX`` of the canonical JSON text."""
        return "sha256:" + hashlib.sha256(self.to_json().encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str | bytes) -> RecipeSpec:
        """The inverse of :meth:`to_json`, validated.

        Raises:
            ProjectError: it is no specification, or of a version that this mealkit does not know.
        """
        from pydantic import TypeAdapter, ValidationError

        try:
            value = json.loads(text)
            version = value.get("spec_version") if isinstance(value, dict) else None
            if version != VERSION:
                raise ProjectError(
                    f"the recipe's specification has version {version!r}; this mealkit reads version {VERSION}",
                    where=LABEL,
                    hint="use the version of mealkit that built the image, or a newer one",
                )
            return TypeAdapter(cls).validate_python(value)
        except (ValueError, ValidationError) as error:
            raise ProjectError(
                f"not a recipe's specification: {error}", where=LABEL, hint="was the image built by mealkit?"
            ) from error
