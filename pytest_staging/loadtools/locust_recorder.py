"""Loaded by Locust beside a locustfile: records every request raw, and ends the run on time.

Runs inside Locust's process; imports nothing of pytest-staging. Latency is in ms, instants are epoch seconds. A user
class whose context() gives `intended_at_s` is measured from that instant (no coordinated omission).
"""

import csv
import json
import os
import time
from pathlib import Path

import gevent
from locust import events

PLAN = json.loads(Path(os.environ["STAGING_LOAD_PLAN"]).read_text())
_file = open(PLAN["requests_file"], "w", newline="", encoding="utf-8", buffering=1 << 16)  # noqa: SIM115
_writer = csv.writer(_file)
_writer.writerow(["started_at_s", "latency_ms", "function", "error"])


@events.request.add_listener
def record(name, response_time, exception, start_time=None, context=None, **_):
    ended_at_s = start_time + response_time / 1000 if start_time else time.time()
    started_at_s = (context or {}).get("intended_at_s") or ended_at_s - response_time / 1000
    error = "" if exception is None else str(exception).replace("\n", " ")[:200] or type(exception).__name__
    _writer.writerow([f"{started_at_s:.6f}", f"{(ended_at_s - started_at_s) * 1000:.4f}", name, error])


@events.init.add_listener
def on_init(environment, runner, **_):
    def announce(user_count, **_):
        # Renamed into place, so that the reader never sees it half written.
        ready = Path(PLAN["ready_file"])
        ready.with_suffix(".tmp").write_text(repr(time.time()))
        ready.with_suffix(".tmp").rename(ready)
        gevent.spawn_later(PLAN["seconds"], finish)

    def finish():
        environment.events.spawning_complete.remove_listener(announce)
        runner.quit()

    environment.events.spawning_complete.add_listener(announce)


@events.quit.add_listener
def on_quit(exit_code, **_):
    # Failed requests are a result here, not a crash: Locust's exit status 1 for them is not passed on. Leaving at once
    # saves the interpreter's tear-down, which would count as orchestration between two cells.
    _file.close()
    os._exit(0 if exit_code == 1 else exit_code)
