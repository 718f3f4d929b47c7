"""The default locustfile: every user invokes the benchmark's functions in turn, closed or at a fixed rate.

Open load follows a schedule that does not depend on the answers: request k is due at start + k / rate. A user that is
late sends at once, and its latency still counts from the instant at which it was due. Runs inside Locust's process.
"""

import itertools
import json
import os
import time
from pathlib import Path

from locust import FastHttpUser, task

PLAN = json.loads(Path(os.environ["STAGING_LOAD_PLAN"]).read_text())
BODIES = [(function, Path(file).read_bytes()) for function, file in sorted(PLAN["bodies"].items())]
HEADERS = {"Content-Type": "application/json"}
_numbers = itertools.count()
_schedule = itertools.count()
_started_at_s = None


def next_due():
    """The instant of the schedule's next request, in epoch seconds."""
    global _started_at_s
    if _started_at_s is None:
        _started_at_s = time.time()
    return _started_at_s + next(_schedule) / PLAN["rate"]


class WorkloadUser(FastHttpUser):
    """Sends as soon as it has its answer, or when the schedule says so."""

    connection_timeout = PLAN["request_timeout_s"]
    network_timeout = PLAN["request_timeout_s"]
    max_retries = 0
    intended_at_s = None

    def context(self):
        return {"intended_at_s": self.intended_at_s}

    def wait_time(self):
        if not PLAN["rate"]:
            return 0
        self.intended_at_s = next_due()
        return max(0.0, self.intended_at_s - time.time())

    def on_start(self):
        time.sleep(self.wait_time())

    @task
    def invoke(self):
        function, body = BODIES[next(_numbers) % len(BODIES)]
        self.client.post(f"/invoke/{function}", data=body, headers=HEADERS, name=function)
