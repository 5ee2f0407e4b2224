"""Loading a model without all of scikit-learn: the same model, the same refusals, and skops as it was."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys, tempfile
from pathlib import Path
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
import mealkit
from mealkit.errors import ModelError
from mealkit_runtime import lean

X, y = np.arange(20.0).reshape(-1, 1), np.arange(20) % 2

class Mine(mealkit.Trainer):
    def train(self, data, context):
        raise NotImplementedError

class Strange:
    pass

def forget():
    for module in [module for module in sys.modules if module.partition(".")[0] == "skops"]:
        del sys.modules[module]

trainer = Mine()
models = {
    "lean": [
        make_pipeline(StandardScaler(), LogisticRegression()), HistGradientBoostingClassifier(),
        make_pipeline(OneHotEncoder(handle_unknown="ignore"), RandomForestRegressor(n_estimators=3)),
    ],
    "full": [make_pipeline(FunctionTransformer(np.log1p), LogisticRegression())],
}
with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    for way, made in models.items():
        for model in made:
            trainer.save(model.fit(X, y), folder)
            forget()
            again = lean.load(trainer, folder)
            assert (again.predict(X) == model.predict(X)).all()
            assert ("skops" in sys.modules) == (way == "full"), model
    import skops.io
    assert lean.load(trainer, folder).predict(X).shape == (20,)
    assert "skops" in sys.modules, "what the recipe imported is left alone"
    assert not skops.io.get_untrusted_types(file=folder / "model.skops"), "skops trusts what it always trusts"

    Strange.__module__ = "elsewhere"
    sys.modules["elsewhere"] = type(sys)("elsewhere")
    sys.modules["elsewhere"].Strange = Strange
    skops.io.dump(Strange(), folder / "model.skops")
    forget()
    try:
        lean.load(trainer, folder)
    except ModelError as error:
        assert "elsewhere.Strange" in error.message
    else:
        raise SystemExit("an unknown type was loaded")
"""


def test_lean_loading() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
