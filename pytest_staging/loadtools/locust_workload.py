"""The default locustfile: every user invokes the benchmark's functions in turn, closed or at a fixed rate.

Open load follows a schedule that does not depend on the answers: request k is due at start + k / rate. A user that is
late sends at once, and its latency still counts from the instant at which it was due. Runs inside Locust's process.

Of several workers, number w takes the requests w, w + workers, w + 2 workers and so on of one schedule, whose start the
master tells them all before they have users.
"""

import itertools
import json
import os
import time
from pathlib import Path

from locust import FastHttpUser, events, task

PLAN = json.loads(Path(os.environ["STAGING_LOAD_PLAN"]).read_text())
BODIES = [(function, Path(file).read_bytes()) for function, file in sorted(PLAN["bodies"].items())]
HEADERS = {"Content-Type": "application/json"}
WORKERS = len(PLAN["workers"])
WORKER = os.environ.get("STAGING_LOAD_WORKER")
BEGIN = "staging_begin"
_numbers = itertools.count(int(WORKER or 0))
_schedule = itertools.count(int(WORKER or 0), WORKERS or 1)
_started_at_s = None


@events.init.add_listener
def on_init(environment, runner, **_):
    """One start of the schedule for all workers. Messages of the master arrive in turn: this one before any user."""
    if WORKER is not None:
        runner.register_message(BEGIN, begin)
    elif WORKERS:
        environment.events.test_start.add_listener(lambda **_: runner.send_message(BEGIN, {"at_s": time.time()}))


def begin(msg, **_):
    """What the master said, by the clock of the machine that it runs on."""
    global _started_at_s
    _started_at_s = msg.data["at_s"] + PLAN["ahead_s"]


def next_due():
    """The instant of the next request of this process's share of the schedule, in epoch seconds."""
    global _started_at_s
    if _started_at_s is None:
        if WORKERS:
            raise RuntimeError("the master did not say when the load begins")
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
