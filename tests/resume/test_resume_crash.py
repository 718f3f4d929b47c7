"""SIGKILL at random instants of real campaigns: STAGING_CRASH_ROUNDS rounds, two at a time."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from crashing import VICTIMS, crash_and_resume, rounds


def test_killed_at_random_instants_a_campaign_resumes_whole(tmp_path):
    """XP-03: controller, worker, service and load tool are killed; after resume each cell stands exactly once."""
    first = int(os.environ.get("STAGING_CRASH_SEED", "0"))
    with ThreadPoolExecutor(2) as pool:
        running = {seed: pool.submit(crash_and_resume, tmp_path / f"round{seed}", seed)
                   for seed in range(first, first + rounds())}
    told, failed = [], []
    for seed, future in running.items():
        error = future.exception()
        (failed if error else told).append(f"seed {seed}: {error}" if error else future.result())
    print("\n".join(told))
    assert failed == [], "\n".join(failed)
    hit = {victim for victim in VICTIMS for line in told if f": {victim} (pid" in line}
    assert hit == set(VICTIMS) or rounds() < 2 * len(VICTIMS), told
