"""``./task wheels``: the 200 most-downloaded packages, each installed by uv, by pip, and into a layer; not part of CI.

Fetches about 500 MB once, which stay in the folder for tests, and takes some minutes.
"""

from __future__ import annotations

import argparse
import collections
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from as_installed import MINOR, by_layer, by_pip, by_uv, compare, named, resolve, select, true_record

from mealkit.errors import MealkitError
from mealkit_builder.download import Fetch
from mealkit_builder.store import Store

NAMES = Path(__file__).with_name("most_downloaded.txt")
MOST = 300_000_000  # bytes of a wheel


def main() -> int:
    """Compare all, print a table, and end with 1 if anything undocumented differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp/mealkit-tests/most-downloaded"))
    parser.add_argument("--only", nargs="*", help="these packages alone")
    parser.add_argument("--json", type=Path, help="write what was found to this file")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    store = Store(given.folder / "store")
    names = given.only or [line for line in NAMES.read_text().splitlines() if line and not line.startswith("#")]
    results, started = [], time.perf_counter()
    lock = resolve(names, given.folder)
    wheels = select(lock, store)
    small = [wheel for wheel in wheels if wheel.size <= MOST]
    fetch = Fetch(small, store)
    for number, wheel in enumerate(wheels, 1):
        result = {"name": wheel.name, "version": wheel.version, "file": wheel.filename, "size": wheel.size}
        results.append(result)
        if wheel.size > MOST:
            result["skipped"] = f"larger than {MOST // 1_000_000} MB"
            continue
        got = fetch.get(wheel)
        file = named(got, given.folder / "wheels")
        try:
            ours = by_layer(got, store, given.folder / "layer")
        except MealkitError as error:
            result["refused"] = str(error)
            print(f"{number:3} {wheel.filename}: REFUSED {error}", flush=True)
            continue
        result["files"], result["record"] = len(ours), true_record(ours)
        for tool, install in (("uv", by_uv), ("pip", by_pip)):
            difference = compare(install([file], given.folder / "venv"), ours)
            result[tool] = {"documented": difference.documented, "other": difference.other}
        wrong = [*result["record"], *(f"{tool}: {line}" for tool in ("uv", "pip") for line in result[tool]["other"])]
        lines = "".join(f"\n      {line}" for line in wrong[:6])
        print(f"{number:3} {wheel.filename}: {len(ours)} files{lines}", flush=True)
    fetch.close()
    if given.json:
        given.json.write_text(json.dumps(results, indent=1))
    return summary(results, time.perf_counter() - started)


def summary(results: list[dict], seconds: float) -> int:
    """Print the table."""
    compared = [one for one in results if "uv" in one]
    kinds: dict[str, collections.Counter[str]] = {tool: collections.Counter() for tool in ("uv", "pip")}
    for one in compared:
        for tool, counter in kinds.items():
            for kind, paths in one[tool]["documented"].items():
                counter[kind] += len(paths)
    pure = sum(one["file"].endswith("none-any.whl") for one in compared)
    size, files = sum(one["size"] for one in compared), sum(one["files"] for one in compared)
    print(f"\n{len(compared)} wheels ({pure} pure, {len(compared) - pure} binary), {size / 1e6:.0f} MB, {files} files,")
    print(f"Python {MINOR}, {seconds:.0f} s")
    for tool, counter in kinds.items():
        wrong = [one["name"] for one in compared if one[tool]["other"]]
        print(
            f"beside {tool}: {len(compared) - len(wrong)} alike but for what is documented, {len(wrong)} not: {wrong}"
        )
        for kind, count in sorted(counter.items()):
            print(f"  {kind}: {count} files")
    bad = [one for one in results if "uv" not in one or one["record"] or one["uv"]["other"] or one["pip"]["other"]]
    for one in bad:
        print("!", one["name"], one.get("skipped") or one.get("refused") or "differs")
    return 1 if any("skipped" not in one for one in bad) else 0


if __name__ == "__main__":
    sys.exit(main())
