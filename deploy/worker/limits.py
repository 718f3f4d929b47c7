"""How many tasks of a class of work this worker may have in hand: the one place to change when another decides."""

from __future__ import annotations

import functools
import os

from admission import Admission

# Work, which is also the name of its queue, and its class in deploy/throughput.yaml.
CLASSES = {"word-stats": "interactive", "enrichment": "expensive"}


def parallelism(class_name: str) -> int:
    """Asked again and again while work waits, so that a new answer holds at once.

    WORKER_MAX_PARALLEL is the limit of every class; WORKER_MAX_PARALLEL_ENRICHMENT, where it is set, that of one. With
    POLICY_API the throughput policy may allow less: the part of this worker, which is number POLICY_WORKER, from 0 on,
    of POLICY_WORKERS. It may be 0, when there are more workers than the class may have tasks.
    """
    own = os.environ.get(f"WORKER_MAX_PARALLEL_{class_name.upper().replace('-', '_')}")
    most = max(1, int(own or os.environ.get("WORKER_MAX_PARALLEL") or 1))
    policy = _policy()
    return most if policy is None else min(most, policy.limit(CLASSES.get(class_name, class_name)))


@functools.cache
def _policy() -> Admission | None:
    """Asks in the background from its first use on; a policy that is silent leaves the floors."""
    url = os.environ.get("POLICY_API")
    if not url:
        return None
    place = {"worker": int(os.environ.get("POLICY_WORKER") or 0), "workers": int(os.environ.get("POLICY_WORKERS") or 1)}
    return Admission(url, token=os.environ.get("POLICY_TOKEN") or None, **place)
