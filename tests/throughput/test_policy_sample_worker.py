"""The sample's worker follows the policy: its limits come from a real API, by a copy of the admission client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from serving import fake_broker, quick_policy, served
from workspaces import wait_for

from pytest_staging.contract import parse_throughput

ROOT = Path(__file__).resolve().parents[2]
WORKER = ROOT / "deploy" / "worker"
ASK = (
    "import sys, time, limits\n"
    "for line in sys.stdin:\n"
    "    print(limits.parallelism('word-stats'), limits.parallelism('enrichment'), flush=True)\n"
)


def test_the_copy_is_one() -> None:
    """TP-04: the worker's image is made from deploy/worker alone, so the admission client lies there too."""
    own = ROOT / "pytest_staging" / "throughput" / "admission.py"
    assert (WORKER / "admission.py").read_bytes() == own.read_bytes(), f"copy {own} to {WORKER}"


def test_its_work_is_in_the_policy() -> None:
    """TP-01: the shipped file puts its work into the classes that it asks for, and its queues are watched."""
    policy = parse_throughput((ROOT / "deploy" / "throughput.yaml").read_text())
    code = "import json, limits; print(json.dumps(limits.CLASSES))"
    printed = subprocess.run([sys.executable, "-c", code], cwd=WORKER, capture_output=True, text=True, check=True)
    classes = json.loads(printed.stdout)
    assert {work: policy.class_of(work) for work in classes} == classes
    assert set(policy.queues) == set(classes)


def test_it_does_what_the_policy_says(tmp_path: Path) -> None:
    """TP-01: an override reaches the worker's own limit, its static one is never exceeded, and the floor is kept."""
    policy = quick_policy("http://127.0.0.1:1")
    names = {"quick": "interactive", "heavy": "expensive"}
    policy["classes"] = {names[key]: value for key, value in policy["classes"].items()}
    policy["default_class"] = "expensive"
    policy["presets"] = {name: {names[k]: v for k, v in shares.items()} for name, shares in policy["presets"].items()}
    with fake_broker() as broker:
        policy["telemetry"] = {**policy["telemetry"], "url": broker.url}
        with served(tmp_path, policy) as api:
            wait_for(lambda: not api.status()["fail_safe"])
            environment = {**os.environ, "POLICY_API": api.url, "WORKER_MAX_PARALLEL": "5"}
            worker = subprocess.Popen([sys.executable, "-c", ASK], cwd=WORKER, env=environment, text=True,
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
            try:

                def limits() -> str:
                    assert worker.stdin
                    assert worker.stdout
                    worker.stdin.write("?\n")
                    worker.stdin.flush()
                    return worker.stdout.readline().strip()

                wait_for(lambda: limits() == "5 5")
                api.call("PUT", "override", {"preset": "conservative", "ttl_seconds": 600})
                wait_for(lambda: limits() == "4 2")
            finally:
                worker.kill()
                worker.communicate()
