"""Coverage-guided fuzzing of one parser with atheris: ``fuzz.py TARGET [options of libFuzzer]``; see ``.ci/fuzz``."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris  # only in the fuzzing job's own environment

sys.path.insert(0, str(Path(__file__).parent))

with atheris.instrument_imports(include=["mealkit_builder", "tarfile", "packaging", "installer"]):
    import targets


def main() -> None:
    """Fuzz until the options say stop; what atheris finds raises here."""
    name = sys.argv.pop(1)
    corpus = targets.FOLDER / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(targets.SEEDS[name]):
        (corpus / str(number)).write_bytes(seed)
    atheris.Setup([*sys.argv, str(corpus)], targets.TARGETS[name])
    atheris.Fuzz()


main()
