"""How much cheaper a fingerprint is when a stat-based index knows the files.

usage: perf/fingerprints.py [NAME ...]     exit 1 when a limit is broken
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import limits
from limits import Result

from pytest_staging import durable
from pytest_staging.dockerignore import parse_dockerignore
from pytest_staging.fingerprint import FINE_MARGIN_NS, TreeIndex

FILES, FILE_BYTES, FILES_PER_FOLDER = 5_000, 2_000, 100
PAIRS = 21
RULES = ".git\n**/node_modules\n**/*.class\n**/__pycache__\ntarget/\n!target/keep\n*.md\n!README.md\nfolder-1/*.txt\n"


def fingerprints() -> Iterator[Result]:
    """The second fingerprint of a folder against the first, which makes the index; wall time, in pairs."""
    yield from compared("second fingerprint of 5,000 files / first", None)


def fingerprints_with_rules() -> Iterator[Result]:
    """The same with a .dockerignore of nine rules."""
    yield from compared("the same with a .dockerignore", RULES)


def compared(what: str, rules: str | None) -> Iterator[Result]:
    """One figure: the median of the ratios."""
    with tempfile.TemporaryDirectory(prefix="staging-perf-") as name:
        root, path = Path(name) / "snapshot", Path(name) / "images" / ".files"
        make_tree(root)
        ignored = None if rules is None else parse_dockerignore(rules)
        ratios, seconds = [], []
        for number in range(PAIRS):
            path.unlink(missing_ok=True)
            first_s, first = timed(lambda: TreeIndex(path).fingerprint(root, ignored))
            second_s, second = timed(lambda: TreeIndex(path).fingerprint(root, ignored))
            assert first == second
            assert rules is not None or first == durable.fingerprint_tree(root)
            if number:  # the first pair warms the disk's cache
                ratios.append(second_s / first_s)
                seconds.append(second_s)
        detail = f"{PAIRS - 1} pairs, second {statistics.median(seconds) * 1000:.0f} ms"
        yield Result(what, statistics.median(ratios), 0.2, "x", detail)


def make_tree(root: Path) -> None:
    """Files that are old enough to be remembered: a snapshot is older than its first build."""
    random_bytes = random.Random(1).randbytes
    for number in range(FILES):
        path = root / f"folder-{number // FILES_PER_FOLDER}" / f"file-{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random_bytes(FILE_BYTES))
    time.sleep(FINE_MARGIN_NS / 1e9 * 2)


def timed(function: Callable[[], str]) -> tuple[float, str]:
    """Wall seconds, and the result."""
    started = time.perf_counter()
    result = function()
    return time.perf_counter() - started, result


if __name__ == "__main__":
    limits.LIMITS = {"everything": fingerprints, "rules": fingerprints_with_rules}
    sys.exit(limits.main(sys.argv[1:]))
