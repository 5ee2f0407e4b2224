"""How many threads the libraries of linear algebra take while a run scores: one, so that scores are the same bits.

With several threads a product is cut into as many parts, and where a part ends decides in which order its numbers are
added up. So the last bits of a score would tell how many cores the machine has, and how many worker processes shared
them. Who wants more cores takes more workers.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""What OpenBLAS, MKL, BLIS and Accelerate read when they are loaded; one that is set is left as it is."""


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Inside the block, libraries that are loaded now, and those that were before, take one thread each."""
    unset = [name for name in VARIABLES if not os.environ.get(name)]
    os.environ.update(dict.fromkeys(unset, "1"))
    try:
        with _limited() if len(unset) == len(VARIABLES) else contextlib.nullcontext():
            yield
    finally:
        for name in unset:
            os.environ.pop(name, None)


def _limited() -> contextlib.AbstractContextManager[object]:
    if "numpy" not in sys.modules:
        return contextlib.nullcontext()
    from threadpoolctl import threadpool_limits

    limits: contextlib.AbstractContextManager[object] = threadpool_limits(limits=1, user_api="blas")
    return limits
