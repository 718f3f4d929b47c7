"""State, audit trail and telemetry in one process: what lasts, what is told, and what happens to bad files."""

from __future__ import annotations

import json
import os
import socket
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from policies import at, make_policy, seen

from pytest_staging import durable
from pytest_staging.model.errors import PolicyRefused, StorageError, WorkspaceError
from pytest_staging.throughput.machine import Instant, Latch, PolicyState, new_override
from pytest_staging.throughput.service import PolicyService
from pytest_staging.throughput.statefile import StateFile, decode_state, encode_state
from pytest_staging.throughput.telemetry import Poller, build_url, parse_depths

POLICY = make_policy()
GOOD = {"jobs.quick": 0, "jobs.heavy": 0}


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = at(0)

    def __call__(self) -> Instant:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now = replace(self.now, wall_s=self.now.wall_s + seconds, mono_s=self.now.mono_s + seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make_service(folder: Path, clock: Clock) -> PolicyService:
    service = PolicyService(POLICY, folder, clock)
    service.offer(GOOD)
    return service


def audit_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()]


def test_every_change_has_its_line(tmp_path: Path, clock: Clock) -> None:
    """TP-04: who, what, when and for how long; the end of an override too."""
    service = make_service(tmp_path, clock)
    service.set_preset("ann", "aggressive")
    service.set_override("bob", "conservative", 60, "release")
    clock.forward(61)
    service.offer(GOOD)
    service.set_override("bob", "conservative", None)
    service.clear_override("ann")
    service.clear_override("ann")
    lines = audit_of(tmp_path)
    assert [(one["who"], one["what"]) for one in lines] == [
        ("ann", "set"), ("bob", "override"), ("expiry", "override-ended"), ("bob", "override"), ("ann", "clear"),
    ]  # fmt: skip
    assert (lines[1]["ttl_s"], lines[1]["reason"], lines[3]["ttl_s"]) == (60, "release", 600)
    assert all(one["at"].endswith("Z") for one in lines)
    assert service.audit(2)[0]["what"] == "clear"


def test_a_restart_keeps_the_preset_and_the_rest_of_the_override(tmp_path: Path, clock: Clock) -> None:
    """TP-04: an override goes on after a restart, with what is left of its time, and ends."""
    first = make_service(tmp_path, clock)
    first.set_preset("ann", "aggressive")
    first.set_override("ann", "conservative", 60)
    first.close()
    clock.forward(45)
    second = make_service(tmp_path, clock)
    assert second.override()["remaining_seconds"] == 15
    assert second.status()["active_preset"] == "conservative"
    clock.forward(16)
    second.offer(GOOD)
    assert second.status()["active_preset"] == "aggressive"


@pytest.mark.parametrize("wall_s", [0.0, 1.7e9 - 3600, 1.7e9 + 59])
def test_no_clock_change_extends_an_override(tmp_path: Path, clock: Clock, wall_s: float) -> None:
    """TP-04: whatever the wall clock says, also over a restart, the time is over when it is over."""
    first = make_service(tmp_path, clock)
    first.set_override("ann", "conservative", 60)
    first.close()
    clock.now = replace(at(61), wall_s=wall_s)
    second = make_service(tmp_path, clock)
    second.offer(GOOD)
    assert not second.override()["active"]


def test_pressure_outlives_a_restart(tmp_path: Path, clock: Clock) -> None:
    """TP-02: a restart under pressure does not let the expensive class loose until the window is over again."""
    first = PolicyService(POLICY, tmp_path, clock)
    for _ in range(4):
        first.offer({**GOOD, "jobs.heavy": 50})
        clock.forward(5)
    assert first.status()["policy_active"]
    first.close()
    second = PolicyService(POLICY, tmp_path, clock)
    second.offer({**GOOD, "jobs.heavy": 50})
    shown = second.status()
    assert (shown["policy_active"], shown["fail_safe"]) == (True, False)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no JSON"),
        (b"\xff\x00\x13", "no JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "no state of this program"),
        (b'{"schema_version": 1, "state": {}, "sha256": "0"}', "does not have the digest"),
        (encode_state(PolicyState("balanced")).replace(b"balanced", b"aggressiv"), "does not have the digest"),
        (encode_state(PolicyState("forgotten")), "names the preset 'forgotten'"),
        (encode_state(PolicyState("balanced"))[:-40], "no JSON"),
    ],
)
def test_a_bad_state_file_is_fail_safe_and_kept(tmp_path: Path, clock: Clock, content: bytes, said: str) -> None:
    """TP-02: what cannot be read is kept aside, told of, and fail-safe until an operator sets a preset."""
    (tmp_path / "state.json").write_bytes(content)
    service = make_service(tmp_path, clock)
    shown = service.status()
    assert shown["fail_safe"]
    assert shown["active_preset"] == "conservative"
    assert said in shown["fail_safe_reason"]
    assert "policy set" in shown["fail_safe_reason"]
    assert (tmp_path / "state.json.unreadable-1").read_bytes() == content
    assert audit_of(tmp_path)[0]["what"] == "state-unusable"
    service.close()
    again = make_service(tmp_path, clock)
    assert again.status()["fail_safe"], "a restart forgot it"
    assert [path.name for path in tmp_path.glob("*unreadable*")] == ["state.json.unreadable-1"]
    again.set_preset("ann", "balanced")
    assert not again.status()["fail_safe"]


def test_a_state_file_that_is_gone_is_noticed(tmp_path: Path, clock: Clock) -> None:
    """TP-02: somebody removed the state, and with it perhaps an override."""
    service = make_service(tmp_path, clock)
    service.set_preset("ann", "aggressive")
    service.close()
    (tmp_path / "state.json").unlink()
    assert "is gone" in make_service(tmp_path, clock).status()["fail_safe_reason"]


def test_a_state_survives_the_disk() -> None:
    """TP-04: what is written is what is read, the override's deadlines with it."""
    state = replace(PolicyState("balanced", "aggressive"), override=new_override("conservative", 60, at(3), "ann", "x"),
                    warning=Latch(True))  # fmt: skip
    assert decode_state(encode_state(state), POLICY) == state


def test_what_cannot_be_written_is_not_in_force(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TP-04: a full disk refuses a change, and what was in force stays."""
    service = make_service(tmp_path, clock)

    def full(what: str, path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "on_step", full)
    with pytest.raises(StorageError, match="disk is full"):
        service.set_preset("ann", "aggressive")
    assert service.requested()["preset"] == "balanced"


def test_an_override_ends_on_a_full_disk(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """TP-04: that its end cannot be written down does not keep an override alive; it is written down later."""
    service = make_service(tmp_path, clock)
    service.set_override("ann", "conservative", 60)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        clock.forward(61)
        service.offer(GOOD)
        assert not service.override()["active"]
    service.offer(GOOD)
    assert audit_of(tmp_path)[-1]["what"] == "override-ended"
    assert json.loads((tmp_path / "state.json").read_text())["state"]["override"] is None


def test_two_operators_at_once(tmp_path: Path, clock: Clock) -> None:
    """TP-04: both changes are made one after the other, both are written down, and the last one is in force."""
    service = make_service(tmp_path, clock)
    names = [f"operator-{number}" for number in range(8)]
    presets = sorted(POLICY.presets)
    start = threading.Barrier(len(names))

    def work(number: int) -> None:
        start.wait(10)
        service.set_override(names[number], presets[number % 3], 60 + number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(names))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    lines = audit_of(tmp_path)
    assert sorted(one["who"] for one in lines) == names
    shown = service.override()
    last = tuple(lines[-1][key] for key in ("who", "preset", "ttl_s"))
    assert (shown["who"], shown["preset"], shown["ttl_seconds"]) == last


def test_only_one_process_serves_a_state(tmp_path: Path, clock: Clock) -> None:
    """TP-04: a second one is told so, and does not wait."""
    first = make_service(tmp_path, clock)
    with pytest.raises(WorkspaceError, match="another `staging-manager policy serve` uses"):
        PolicyService(POLICY, tmp_path, clock)
    first.close()
    PolicyService(POLICY, tmp_path, clock).close()


@pytest.mark.parametrize("ttl_s", [0.5, 3601, float("inf"), float("nan"), -1])
def test_a_ttl_out_of_bounds_is_refused(tmp_path: Path, clock: Clock, ttl_s: float) -> None:
    """TP-04: the file bounds how long an override lasts."""
    with pytest.raises(PolicyRefused, match="allows 1 s to 3600 s"):
        make_service(tmp_path, clock).set_override("ann", "conservative", ttl_s)


def test_a_torn_audit_line_swallows_no_other(tmp_path: Path, clock: Clock) -> None:
    """TP-04: a line that a killed process left unfinished stays for people to see, and the next one is whole."""
    service = make_service(tmp_path, clock)
    service.set_preset("ann", "aggressive")
    service.close()
    with (tmp_path / "audit.jsonl").open("a") as file:
        file.write('{"at": "2026-')
    again = make_service(tmp_path, clock)
    again.set_preset("ann", "balanced")
    assert json.loads((tmp_path / "audit.jsonl").read_text().splitlines()[-1])["preset"] == "balanced"
    assert [one["what"] for one in again.audit()] == ["set", "set"]


def test_a_preset_is_known_or_refused(tmp_path: Path, clock: Clock) -> None:
    """TP-03: an unknown preset is refused with the known ones."""
    service = make_service(tmp_path, clock)
    for ask in (lambda: service.set_preset("a", "wild"), lambda: service.status("wild")):
        with pytest.raises(PolicyRefused, match="known are conservative, balanced, aggressive"):
            ask()


def test_the_state_is_checked_against_the_policy(tmp_path: Path) -> None:
    """TP-01: without a state the file's own preset is set."""
    assert StateFile(tmp_path, make_policy(default_preset="aggressive")).load().requested == "aggressive"


PROMETHEUS = make_policy(telemetry={"kind": "prometheus", "user_env": None, "password_env": None})
QUEUES = ("jobs.quick", "jobs.heavy")


def test_depths_of_rabbitmq() -> None:
    """TP-02: only our queues are asked for, and what they have."""
    url = build_url(POLICY.telemetry, QUEUES)
    assert url.startswith("http://127.0.0.1:1/api/queues/%2F?")
    assert "jobs%5C.quick" in url
    text = json.dumps({"items": [{"name": "jobs.quick", "messages": 3}, {"name": "other", "messages": 1}]})
    assert parse_depths(POLICY.telemetry, QUEUES, text) == {"jobs.quick": 3}


def test_depths_of_prometheus() -> None:
    """TP-02: the series' samples per queue are added up."""
    text = (
        "# TYPE rabbitmq_queue_messages gauge\n"
        'rabbitmq_queue_messages{vhost="/",queue="jobs.quick"} 3\n'
        'rabbitmq_queue_messages{vhost="/b",queue="jobs.quick"} 4\n'
        'rabbitmq_queue_messages{queue="jobs.heavy"} 0\nrabbitmq_queue_messages_ready{queue="jobs.heavy"} 9\n'
    )
    assert parse_depths(PROMETHEUS.telemetry, QUEUES, text) == {"jobs.quick": 7, "jobs.heavy": 0}


@pytest.mark.parametrize("text", ["", "<html>", "[]", '{"items": 3}', "[" * 99_999,
                                  '{"items": [{"name": "jobs.quick", "messages": -1}]}',
                                  '{"items": [{"name": "jobs.quick", "messages": true}]}',
                                  '{"items": [{"name": "jobs.quick", "messages": NaN}]}'])  # fmt: skip
def test_what_is_no_list_of_queues_is_no_telemetry(text: str) -> None:
    """TP-02: never a depth that nobody told."""
    with pytest.raises(ValueError, match=r"."):
        parse_depths(POLICY.telemetry, QUEUES, text)


@pytest.mark.parametrize("text", ["", "other 3\n", 'rabbitmq_queue_messages{queue="jobs.quick"} NaN\n',
                                  'rabbitmq_queue_messages{queue="jobs.quick"} x\n'])  # fmt: skip
def test_what_is_no_prometheus_text_is_no_telemetry(text: str) -> None:
    """TP-02: the same of Prometheus."""
    with pytest.raises(ValueError, match=r"."):
        parse_depths(PROMETHEUS.telemetry, QUEUES, text)


def test_depths_count_from_when_they_were_asked_for() -> None:
    """TP-02: a slow answer is as old as its question."""
    offered: list[Any] = []
    times = iter([7.0, 99.0])
    poller = Poller(lambda: "", lambda _: {"jobs.quick": 1}, lambda *told: offered.append(told), lambda: next(times), 1)
    poller.poll()
    assert offered == [({"jobs.quick": 1}, "", 7.0)]


def test_a_failed_poll_keeps_the_last_reading(tmp_path: Path, clock: Clock) -> None:
    """TP-02: until it is too old; then the reason of the failure is part of the reason."""
    service = make_service(tmp_path, clock)
    service.offer(None, "the last poll failed: answered 401")
    assert not service.status()["fail_safe"]
    clock.forward(9)
    assert "answered 401" in service.status()["fail_safe_reason"]
    assert seen(0).reading


def test_answers_do_not_wait_for_acknowledgements() -> None:
    """TP-03: without TCP_NODELAY every answer comes 40 ms late; connections inherit it from the socket that listens."""
    pytest.importorskip("uvicorn")
    from pytest_staging.throughput.serving import listen

    with listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname(), timeout=10):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
