"""The entrypoint of an image: ``python -I -m mealkit_runtime MODE …``."""

from __future__ import annotations

import sys

from mealkit_runtime.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
