"""How many tasks of a class of work this worker may have in hand: the one place to change when another decides."""

from __future__ import annotations

import os


def parallelism(class_name: str) -> int:
    """From 1 on. Asked again and again while work waits, so that a new answer holds at once.

    WORKER_MAX_PARALLEL is the limit of every class; WORKER_MAX_PARALLEL_ENRICHMENT, where it is set, that of one.
    """
    own = os.environ.get(f"WORKER_MAX_PARALLEL_{class_name.upper().replace('-', '_')}")
    return max(1, int(own or os.environ.get("WORKER_MAX_PARALLEL") or 1))
