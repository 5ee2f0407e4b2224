"""Equal models are equal files: in other processes, at other times, after being read and written again."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import skops.io
from scipy import sparse
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from mealkit._skops import dump
from mealkit.trainer import Trainer

CODE = """
import sys
sys.path.insert(0, {folder!r})
from test_reproducible_models import digests
print(*digests({target!r}))
"""


class Plain(Trainer):  # type: ignore[type-arg]
    def train(self, data: Any, context: Any) -> Any:
        raise NotImplementedError


def models() -> list[Any]:
    random = np.random.default_rng(0)
    x = random.normal(size=(80, 4))
    y = (x[:, 0] + random.normal(size=80) > 0).astype(int)
    return [
        SGDClassifier(random_state=0).fit(x, y),
        GradientBoostingClassifier(n_estimators=5, subsample=0.5, random_state=0).fit(x, y),
        RandomForestClassifier(n_estimators=5, random_state=0).fit(x, y),
        HistGradientBoostingRegressor(max_iter=5, random_state=0).fit(x, x[:, 1]),
        make_pipeline(StandardScaler(), SGDClassifier(random_state=0)).fit(x, y),
        {"weights": sparse.csr_matrix(x > 1), "seed": np.random.RandomState(3), "names": np.array(["a", None], "O")},
    ]


def digests(folder: str) -> list[str]:
    found = []
    for number, model in enumerate(models()):
        path = Path(folder) / f"{number}.skops"
        dump(model, path)
        found.append(hashlib.sha256(path.read_bytes()).hexdigest())
    return found


def test_another_process_writes_the_same_files(tmp_path: Path) -> None:
    code = CODE.format(folder=str(Path(__file__).parent), target=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == digests(str(tmp_path))


def test_a_model_that_is_read_and_written_again_is_the_same_file(tmp_path: Path) -> None:
    for number, model in enumerate(models()):
        first, second = tmp_path / f"{number}.skops", tmp_path / "again.skops"
        dump(model, first)
        dump(skops.io.load(first, trusted=skops.io.get_untrusted_types(file=first)), second)
        assert first.read_bytes() == second.read_bytes(), model


def test_what_skops_shares_stays_shared(tmp_path: Path) -> None:
    shared = np.arange(3.0)
    path = tmp_path / "model.skops"
    dump({"a": shared, "b": shared, "c": shared.copy()}, path)
    found = skops.io.load(path)
    assert found["a"] is found["b"]
    assert found["a"] is not found["c"]
    with zipfile.ZipFile(path) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert len(archive.namelist()) == len(set(archive.namelist()))


def test_names_that_skops_uses_itself_may_stand_in_a_model(tmp_path: Path) -> None:
    told = {"file": "x.npy", "__id__": 7, "__loader__": "none", "last": {"file": 1}}
    path = tmp_path / "model.skops"
    dump(FunctionTransformer(kw_args=told), path)
    found = skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))
    assert found.kw_args == told
    assert list(found.kw_args) == list(told)


def test_a_trainer_saves_so(tmp_path: Path) -> None:
    trainer = Plain()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        trainer.save(models()[2], tmp_path / name)
    assert (tmp_path / "a" / "model.skops").read_bytes() == (tmp_path / "b" / "model.skops").read_bytes()
    assert trainer.load(tmp_path / "a").n_estimators == 5
