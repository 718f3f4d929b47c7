"""The whole story with a real RabbitMQ, real workers, load and campaign, by the programs that a user starts."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import brokering
import pytest
from policies import policy_data
from serving import Served, manager, served
from test_policy_evidence import campaign
from workspaces import give_up, make_workspace, wait_for, write_benchmark

from pytest_staging.durable import read_tail
from pytest_staging.throughput import admission

WORKING = Path(__file__).with_name("working.py")
PRESETS = {
    "conservative": {"quick": {"parallelism": 4, "floor": 2}, "heavy": {"parallelism": 1, "floor": 1}},
    "balanced": {"quick": {"parallelism": 4, "floor": 2}, "heavy": {"parallelism": 2, "floor": 1}},
    "aggressive": {"quick": {"parallelism": 4, "floor": 2}, "heavy": {"parallelism": 4, "floor": 3}},
}
EVIDENCE = {
    "kpis": [{"metric": "queue_drain_time", "improve_by": 0.1}],
    "queue_metrics": ["queue_depth_peak", "queue_drain_time"],
    "rollback_triggers": [{"name": "queue-critical", "when": "during", "pressure": "critical"}],
}


def e2e_policy(url: str) -> dict[str, Any]:
    classes = {"quick": {"tier": 1, "parallelism": 4, "members": ["quick"]},
               "heavy": {"tier": 2, "parallelism": 4, "members": ["heavy"]}}  # fmt: skip
    telemetry = {"url": url, "interval_s": 0.25, "timeout_s": 1.5, "max_age_s": 4}
    return policy_data(
        classes=classes, presets=PRESETS, evidence=EVIDENCE, telemetry=telemetry,
        pressure={"sustained_s": 1.5, "cooldown_s": 2.0},
        queues={"jobs.quick": {"warning": 200, "critical": 900}, "jobs.heavy": {"warning": 15, "critical": 50}},
    )  # fmt: skip


class Stage:
    """The broker, the policy's API, a worker, and whoever publishes."""

    def __init__(self, folder: Path, broker: brokering.Broker, api: Served, stack: ExitStack) -> None:
        self.api, self.broker = api, broker
        self.port = broker.environment["STAGING_RABBITMQ_PORT"]
        self._log, self._folder, self._stack = folder / "jobs.jsonl", folder, stack
        self._log.touch()
        shutil.copy(str(admission.__file__), folder / "admission.py")

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        what, *rest = arguments
        command = [sys.executable, str(WORKING), what, self.port, brokering.USER, brokering.PASSWORD, *rest]
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(self._folder)})
        self._stack.callback(process.wait, 10)
        self._stack.callback(process.kill)
        return process

    def work(self) -> subprocess.Popen[bytes]:
        return self.start("work", self.api.url, str(self._log))

    def jobs(self, name: str, since: float = 0.0) -> list[dict[str, Any]]:
        whole = [line for line in self._log.read_text().splitlines() if line.endswith("}")]
        return [one for one in map(json.loads, whole) if one["class"] == name and one["at"] >= since]

    def class_state(self, name: str) -> dict[str, Any]:
        return next(one for one in self.api.status()["class_states"] if one["class_name"] == name)


@contextmanager
def stage(folder: Path, broker: brokering.Broker) -> Iterator[Stage]:
    with ExitStack() as stack:
        told = {one["name"] for one in broker.call("GET", "queues/%2f")}
        for name in ("jobs.quick", "jobs.heavy"):
            if name in told:
                broker.call("DELETE", f"queues/%2f/{name}")
            broker.call("PUT", f"queues/%2f/{name}", {"durable": False})
        login = {"POLICY_USER": brokering.USER, "POLICY_PASSWORD": brokering.PASSWORD}
        api = stack.enter_context(served(folder, e2e_policy(broker.url), environment=login))
        yield Stage(folder, broker, api, stack)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[brokering.Broker]:
    """One for both tests; the last one stops it."""
    with brokering.running_broker(tmp_path_factory.mktemp("policy-rabbitmq")) as found:
        yield found


def until(what: Callable[[dict[str, Any]], bool], api: Served, deadline_s: float = 60.0) -> dict[str, Any]:
    """The first status that is so; on the way no class is ever below its floor."""

    def look() -> dict[str, Any] | None:
        status = api.status()
        assert all(one["active_parallelism"] >= one["minimum_floor"] for one in status["class_states"]), status
        return status if what(status) else None

    return wait_for(look, deadline_s)


def is_calm(status: dict[str, Any]) -> bool:
    return not status["policy_active"] and not status["fail_safe"]


def end_when_watched(publisher: subprocess.Popen[bytes], folder: Path) -> None:
    """Ends who publishes as soon as the campaign has seen the queue."""
    until_s = time.monotonic() + 300
    while time.monotonic() < until_s and '"during"' not in read_tail(folder / "policy-status.jsonl"):
        time.sleep(0.1)
    publisher.kill()


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """What a campaign measures while the workers work: a service, and the queue of the expensive class."""
    root = make_workspace(tmp_path / "workspace", duration_s=1.0)
    source = {"kind": "rabbitmq", "url": "http://127.0.0.1:1", "queue": "jobs.heavy", "user_env": "POLICY_USER",
              "password_env": "POLICY_PASSWORD", "lag_s": 1, "drain_timeout_s": 60}  # fmt: skip
    metric = {"unit": "s", "direction": "lower", "tolerance": 0.5, "advisory": True}
    write_benchmark(
        root, duration_s=1.0, platform_modes=["native"], sources=[{"kind": "service"}, source],
        metrics={"p95": {**metric, "unit": "ms"}, "queue_depth_peak": metric, "queue_drain_time": metric},
    )  # fmt: skip
    (root / "pytest.ini").write_text("[pytest]\nstaging_required_modes = native\n")
    return root


def test_a_real_broker_is_read_and_its_refusals_told(tmp_path: Path, broker: brokering.Broker) -> None:
    """TP-02: depths of a real RabbitMQ; wrong credentials, a missing queue, a dead broker: each is its own reason."""
    with stage(tmp_path, broker) as on:
        on.broker.publish("jobs.heavy", 20)
        status = until(lambda shown: shown["queue_states"][1]["queued_messages"] == 20, on.api)
        assert status["queue_states"][1]["severity"] == "warning"
        on.broker.call("DELETE", "queues/%2f/jobs.quick")
        assert "does not tell of jobs.quick" in until(lambda shown: shown["fail_safe"], on.api)["fail_safe_reason"]
        wrong = {"POLICY_USER": brokering.USER, "POLICY_PASSWORD": "wrong"}
        with served(tmp_path / "wrong", e2e_policy(on.broker.url), environment=wrong) as other:
            reason = until(lambda shown: "401" in str(shown["fail_safe_reason"]), other)["fail_safe_reason"]
        assert "answered 401" in reason
        assert "wrong" not in reason


def test_the_whole_story(
    tmp_path: Path, workspace: Path, broker: brokering.Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TP-01 TP-02 TP-04 TP-05 TP-06: pressure, recovery, an override that ends, a bad preset found, no telemetry."""
    if importlib.util.find_spec("pika") is None:
        give_up("pika is not installed; it is one of the extras test")
    monkeypatch.setenv("POLICY_USER", brokering.USER)
    monkeypatch.setenv("POLICY_PASSWORD", brokering.PASSWORD)
    with stage(tmp_path, broker) as on:
        api = on.api
        on.work()
        on.start("publish", "quick", "100000", "30")
        until(is_calm, api)
        wait_for(lambda: len(on.jobs("quick")) >= 30)

        # Many expensive jobs take all slots, and the quick ones wait, until the policy acts.
        began = time.time()
        on.start("publish", "heavy", "120", "0").wait(60)
        status = until(lambda shown: shown["policy_active"] and not shown["fail_safe"], api)
        assert status["active_preset"] == "balanced"
        until(lambda shown: shown["class_states"][1]["active_parallelism"] == 1, api)
        assert "at its floor" in on.class_state("heavy")["reason"]
        assert on.class_state("quick")["active_parallelism"] == 4
        worst = wait_for(lambda: max((one["latency_s"] for one in on.jobs("quick", began)), default=0.0))

        # The quick ones recover while the expensive ones go on, no more of them at once than they may.
        def recovered() -> bool:
            latencies = [one["latency_s"] for one in on.jobs("quick", began)]
            return len(latencies) > 30 and statistics.median(latencies[-20:]) < max(latencies) / 4

        wait_for(recovered, 120)
        assert max(one["latency_s"] for one in on.jobs("quick", began)) >= worst
        if on.broker.depth("jobs.heavy") < 40:  # on a slow machine that took long
            on.start("publish", "heavy", "60", "0").wait(60)
        throttled = time.time()
        wait_for(lambda: len(on.jobs("heavy", throttled)) >= 5)
        assert {one["limit"] for one in on.jobs("heavy", throttled)} <= {1, 2}

        # An override wins over it, ends by itself, and what was set is back.
        done = api.policy("override", "--preset", "aggressive", "--ttl", "10m", "--why", "clear the backlog")
        assert done.returncode == 0, done.stderr
        assert until(lambda shown: shown["active_preset"] == "aggressive", api)["policy_active"]
        overridden = time.time()
        wait_for(lambda: any(one["limit"] >= 3 for one in on.jobs("heavy", overridden)))
        assert api.policy("override", "--preset", "aggressive", "--ttl", "1s").returncode == 0
        assert until(lambda shown: shown["active_preset"] == "balanced", api)["requested_preset"] == "balanced"
        assert [one["what"] for one in api.call("GET", "audit")["entries"]][:2] == ["override-ended", "override"]
        until(is_calm, api)

        # A bad preset is set, a campaign measures, and the evidence says how to go back.
        benchmark = workspace / "benchmark" / "benchmark.yaml"
        benchmark.write_text(benchmark.read_text().replace("http://127.0.0.1:1\n", f"{on.broker.url}\n"))
        (workspace / "deploy").mkdir()
        shutil.copy(tmp_path / "deploy" / "throughput.yaml", workspace / "deploy" / "throughput.yaml")
        assert api.policy("set", "--preset", "aggressive").returncode == 0
        on.start("publish", "heavy", "220", "0").wait(60)
        # However long the campaign takes to begin, the queue is still full then.
        more = on.start("publish", "heavy", "100000", "20")
        watching = threading.Thread(target=end_when_watched, args=(more, workspace / "campaigns" / "bad"), daemon=True)
        watching.start()
        ran = campaign(workspace, "bad", "--staging-policy-api", api.url)
        watching.join(60)
        assert manager(workspace, "evidence", "collect", "--campaign-id", "bad").returncode == 0, ran.stdout
        checked = manager(workspace, "evidence", "check", "--campaign-id", "bad")
        assert checked.returncode == 1, checked.stdout + checked.stderr
        assert "trigger: queue-critical: the queue pressure was critical at" in checked.stdout
        assert "missing" not in checked.stdout, checked.stdout + ran.stdout
        command = checked.stdout.strip().splitlines()[-1].strip()
        assert command == f"staging-manager policy set --preset balanced --api-base {api.url}"
        assert manager(workspace, *shlex.split(command)[1:]).returncode == 0
        assert api.status()["requested_preset"] == "balanced"

        # Without telemetry it is fail-safe, and the operator is told why.
        stop = [brokering.SCRIPT, "stop"]
        subprocess.run(stop, env=on.broker.environment, check=True, capture_output=True, timeout=60)
        status = until(lambda shown: shown["fail_safe"], api)
        assert (status["active_preset"], status["queue_pressure_level"]) == ("conservative", "unknown")
        assert on.broker.url in status["fail_safe_reason"]
        assert on.class_state("heavy")["active_parallelism"] == 1
