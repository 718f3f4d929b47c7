"""A whole campaign with every kind of source, over a service that works off a real queue."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from brokering import ENVIRONMENT, PASSWORD, Broker
from workspaces import CALM, SERVICE, make_version, write_benchmark

# Each request becomes a message; a thread takes them when no request has come for a while, so that there is a queue
# when the load ends, however slow the machine.
QUEUE_BACKED = SERVICE.replace(
    "EXTRA = None",
    textwrap.dedent(
        """
        import base64, threading, urllib.request
        API, QUEUE = os.environ["BROKER"] + "/api", os.environ["QUEUE"]
        LOGIN = base64.b64encode((os.environ["QUEUE_USER"] + ":" + os.environ["QUEUE_PASSWORD"]).encode()).decode()
        def call(path, body):
            headers = {"Authorization": "Basic " + LOGIN, "Content-Type": "application/json"}
            request = urllib.request.Request(API + path, json.dumps(body).encode(), headers)
            return json.load(urllib.request.urlopen(request, timeout=20))
        LAST = [time.monotonic()]
        def do_POST(self):
            LAST[0] = time.monotonic()
            self.rfile.read(int(self.headers["Content-Length"]))
            call("/exchanges/%2f/amq.default/publish",
                 {"properties": {}, "routing_key": QUEUE, "payload": "x", "payload_encoding": "string"})
            self.answer(200, b"{}")
        Handler.do_POST = do_POST
        def work():
            while True:
                while time.monotonic() < LAST[0] + 0.5:
                    time.sleep(0.02)
                call(f"/queues/%2f/{QUEUE}/get",
                     {"count": 100, "ackmode": "ack_requeue_false", "encoding": "auto"})
                time.sleep(0.25)
        threading.Thread(target=work, daemon=True).start()
        """
    ),
)
LOWER = {"direction": "lower", "tolerance": 0.9}
METRICS = {
    "throughput": {"unit": "requests/s", "direction": "higher", "tolerance": 0.9},
    "heap_peak": {"unit": "bytes", **LOWER},
    "code": {"unit": "bytes", **LOWER},
    "resident_peak": {"unit": "bytes", **LOWER},
    "cpu_seconds": {"unit": "s", **LOWER},
    "context_switches": {"unit": "1", **LOWER},
    "answers": {"unit": "1", **LOWER},
    "queue_depth_peak": {"unit": "messages", **LOWER},
    "queue_drain_time": {"unit": "s", **LOWER},
    "queue_drain_rate": {"unit": "messages/s", "direction": "higher", "tolerance": 0.9},
}


def make(root: Path, broker: Broker) -> None:
    code = {"name": "jvm_memory_used_bytes", "labels": {"id": "Code"}, "how": "last"}
    answers = {"name": "answers", "how": "peak"}
    write_benchmark(
        root,
        platform_modes=["jvm"],
        load={"shape": "closed", "users": 2, "warm_up_s": 0.2, "duration_s": 1.5, "generator_limits": CALM},
        metrics=METRICS,
        sources=[
            {"kind": "service", "interval_s": 0.2, "names": {"code": code}},
            {"kind": "process", "interval_s": 0.2},
            {"kind": "command", "argv": [sys.executable, "-I", "{script}"], "script": "probe.py",
             "names": {"answers": answers}},
            {"kind": "rabbitmq", "url": broker.url, "queue": "orders", "user_env": "QUEUE_USER",
             "password_env": "QUEUE_PASSWORD", "lag_s": 0.6, "interval_s": 0.1},
        ],
    )  # fmt: skip
    probe = root / "benchmark" / "probe.py"
    probe.write_text("import os, urllib.request as u\n"
                     "print('answers', len(u.urlopen(os.environ['STAGING_BASE_URL'] + '/healthz').read()))\n")
    for slug in ("baseline", "faster"):
        make_version(root, slug, "baseline" if slug == "baseline" else "candidate", QUEUE_BACKED)
    (root / "campaigns").mkdir()
    (root / "pytest.ini").write_text("[pytest]\nstaging_required_modes = jvm\n")


def run(root: Path, **more: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    quiet = ("-p", "no:locust", "-p", "no:hypothesispytest", "-p", "no:anyio", "-p", "no:schemathesis")
    command = [sys.executable, "-m", "pytest", *quiet, "--staging-campaign", "--runs", "1", "--campaign-id", "c"]
    return subprocess.run(command, cwd=root, env={**kept, **more}, capture_output=True, text=True, timeout=300)


def test_every_source_in_one_campaign(tmp_path: Path, broker: Broker) -> None:
    """SM-08: each adds its metrics to the cell and its series beside it; drain is real; no password in any file."""
    make(tmp_path, broker)
    broker.call("PUT", "queues/%2f/orders", {"durable": False})
    done = run(tmp_path, **ENVIRONMENT, BROKER=broker.url, QUEUE="orders")
    folder = tmp_path / "campaigns" / "c"
    cells = [json.loads(path.read_text()) for path in folder.glob("runs/*/*/cell-summary.json")]
    assert len(cells) == 2, done.stdout
    for cell in cells:
        check_cell(cell, done.stdout)
    for path in folder.rglob("samples.json"):
        series = json.loads(path.read_text())["sources"]
        assert series["rabbitmq orders"]["values"]["depth"][-1] == 0
        assert len(series["service"]["at_ms"]) > 2, "only the window's edges were sampled"
        assert max(series["rabbitmq orders"]["at_ms"]) > json.loads(path.read_text())["window_ms"]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]
    assert PASSWORD not in done.stdout + done.stderr


def check_cell(cell: dict[str, Any], shown: str) -> None:
    assert cell["outcome"] == "passed", shown
    metrics = cell["metrics"]
    # Its server has a thread for each connection, and takes the switches of one that ends along.
    missing = {name: why for name, why in cell["missing"].items() if "context_switches went backwards" not in why}
    assert missing == {}, missing
    assert (metrics["heap_peak"], metrics["code"], metrics["answers"]) == (1000, 77, 2)
    assert metrics["resident_peak"] > 1 << 20
    assert metrics["cpu_seconds"] > 0
    assert metrics["context_switches"] is None or metrics["context_switches"] > 0
    assert metrics["queue_depth_peak"] > 0
    assert 0 < metrics["queue_drain_time"] <= cell["phases"]["drain"]
    assert metrics["queue_drain_rate"] > 0
    assert {facts["failed"] for facts in cell["sources"].values()} == {0}
    assert list(cell["sources"]) == ["service", "process", "command probe.py", "rabbitmq orders"]


def test_a_password_that_is_not_set(tmp_path: Path) -> None:
    """PT-01: the campaign ends before its first cell, and says which variable."""
    make(tmp_path, Broker("http://127.0.0.1:9"))
    done = run(tmp_path, QUEUE_USER="somebody")
    assert done.returncode != 0
    assert "QUEUE_PASSWORD" in done.stdout + done.stderr
    assert "is not set" in done.stdout + done.stderr


def test_values_that_cannot_be_compared(tmp_path: Path) -> None:
    """SM-08: a negative value where a ratio is asked for, and a huge one, are null with the reason; the rest stands."""
    make(tmp_path, Broker("http://127.0.0.1:9"))
    names = {name: {"name": name, "how": "last"} for name in ("below", "above", "gone")}
    spec = {"unit": "1", "direction": "lower"}
    write_benchmark(
        tmp_path,
        platform_modes=["jvm"],
        load={"shape": "closed", "users": 1, "duration_s": 0.5, "generator_limits": CALM},
        metrics={"p95": {**spec, "tolerance": 0.9}, "below": {**spec, "tolerance": 0.5},
                 "gone": {**spec, "absolute_tolerance": 2}, "above": {**spec, "absolute_tolerance": 2}},
        sources=[{"kind": "command", "argv": ["printf", "below -1\ngone -1\nabove 1e200\n"], "names": names}],
    )  # fmt: skip
    for slug in ("baseline", "faster"):
        (tmp_path / "versions" / slug / "snapshot" / "service.py").write_text(SERVICE)
    done = run(tmp_path)
    cells = [json.loads(path.read_text()) for path in (tmp_path / "campaigns" / "c").glob("runs/*/*/cell-summary.json")]
    assert len(cells) == 2, done.stdout + done.stderr
    for cell in cells:
        assert cell["outcome"] == "passed", done.stdout
        assert (cell["metrics"]["below"], cell["metrics"]["above"], cell["metrics"]["gone"]) == (None, None, -1)
        assert cell["missing"] == {"below": "-1 has no ratio; compare it by an absolute_tolerance alone",
                                   "above": "1e+200 is not a finite number in the measurable range"}  # fmt: skip
    assert (tmp_path / "campaigns" / "c" / "aggregate-comparison.json").is_file(), done.stdout + done.stderr
