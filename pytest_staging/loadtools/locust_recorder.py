"""Loaded by Locust beside a locustfile: records every request raw, and ends the run on time.

Runs inside Locust's process, or inside a master and each of its workers: all record, and the master says when the load
is on and ends it. Imports nothing of pytest-staging. Latency is in ms, instants are epoch seconds. A user class whose
context() gives `intended_at_s` is measured from that instant (no coordinated omission); `late_ms` says how much later
the request was sent.
"""

import csv
import json
import os
import sys
import time
from pathlib import Path

import gevent
from locust import events

CANNOT_WRITE = 74  # EX_IOERR of sysexits.h
WORKER_LOST = 75  # EX_TEMPFAIL
PLAN = json.loads(Path(os.environ["STAGING_LOAD_PLAN"]).read_text())
WORKER = os.environ.get("STAGING_LOAD_WORKER")
"""Its number from 0; None in the master, and where there is one process only."""
SHARE = PLAN["workers"][int(WORKER)] if WORKER is not None else PLAN
BEGAN_S = time.time()
_file = Path(SHARE["requests_file"]).open("w", newline="", encoding="utf-8", buffering=1 << 16)  # noqa: SIM115
_rows = 0
_writer = csv.writer(_file)
_writer.writerow(["started_at_s", "latency_ms", "function", "error", "late_ms"])


@events.request.add_listener
def record(name, response_time, exception, start_time=None, context=None, **_):
    """One row per request."""
    latency_ms = response_time or 0.0
    started_at_s = start_time or time.time() - latency_ms / 1000
    intended_at_s = (context or {}).get("intended_at_s")
    late_ms = max(0.0, started_at_s - intended_at_s) * 1000 if intended_at_s else 0.0
    if intended_at_s:
        latency_ms += (started_at_s - intended_at_s) * 1000
        started_at_s = intended_at_s
    error = "" if exception is None else str(exception).replace("\n", " ")[:200] or type(exception).__name__
    write_row(started_at_s, latency_ms, name, error, late_ms)


@events.user_error.add_listener
def record_error(exception, **_):
    """A locustfile that raises did not load as it was meant to: that counts as a failed request."""
    write_row(time.time(), 0.0, "locustfile", f"{type(exception).__name__}: {exception}".replace("\n", " ")[:200])


def write_row(started_at_s, latency_ms, name, error, late_ms=0.0):
    """Ends the run when the row cannot be written."""
    global _rows
    _rows += 1
    try:
        _writer.writerow([f"{started_at_s:.6f}", f"{latency_ms:.4f}", name, error, f"{late_ms:.3f}"])
    except OSError as problem:
        give_up(problem)


def give_up(problem):
    """Locust swallows what a listener raises; a measurement with missing requests must not look whole."""
    leave(f"cannot write {SHARE['requests_file']}: {problem}", CANNOT_WRITE)


def leave(reason, status):
    """At once; nothing that Locust would do now makes the run whole again."""
    print(reason, file=sys.stderr, flush=True)
    os._exit(status)


@events.init.add_listener
def on_init(environment, runner, **_):
    """Says when all users send, and ends the run that many seconds later."""
    # Here and not at import, so that the locustfile's own listeners come first.
    environment.events.quit.add_listener(on_quit)
    if WORKER is not None:
        if PLAN["until_file"]:
            gevent.spawn(show)
        return

    def announce(user_count, **_):
        if PLAN["workers"]:
            require_all(runner, user_count)
        # Renamed into place, so that the reader never sees it half written.
        ready = Path(PLAN["ready_file"])
        ready.with_suffix(".tmp").write_text(repr(time.time()))
        ready.with_suffix(".tmp").rename(ready)
        gevent.spawn_later(PLAN["seconds"], finish)
        if PLAN["until_file"]:
            gevent.spawn(follow)

    def follow():
        gevent.spawn_later(max(0.0, show() - time.time()), finish)

    def finish():
        environment.events.spawning_complete.remove_listener(announce)
        if PLAN["workers"] and runner.worker_count != len(PLAN["workers"]):
            leave(f"only {runner.worker_count} of {len(PLAN['workers'])} workers are left", WORKER_LOST)
        runner.quit()

    environment.events.spawning_complete.add_listener(announce)


def show():
    """Shows what was recorded so far, until somebody has decided when the run ends: the epoch instant of that."""
    until = Path(PLAN["until_file"])
    while not until.exists():
        _file.flush()
        gevent.sleep(0.1)
    return float(until.read_text())


def require_all(runner, user_count):
    """Locust goes on with fewer workers, or users, than it was to have."""
    if runner.user_count != user_count:
        leave(f"only {runner.user_count} of {user_count} users could be made", WORKER_LOST)
    if Path(PLAN["ready_file"]).exists() and runner.environment.shape_class is None:
        leave("a worker was lost, or came back, while the load was on", WORKER_LOST)


def on_quit(exit_code, **_):
    """Leaves at once: the interpreter's tear-down would count as orchestration between two cells."""
    record = {"status": exit_code, "started_at_s": BEGAN_S, "ended_at_s": time.time(), "rows": _rows}
    try:
        _file.close()
        # The last thing that is written: without it the recording is not whole.
        Path(SHARE["exit_file"]).write_text(json.dumps(record) + "\n")
    except OSError as problem:
        give_up(problem)
    os._exit(exit_code)
