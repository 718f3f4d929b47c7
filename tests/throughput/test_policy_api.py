"""The API as the real program serves it: fields, tokens, bounds, bad requests, silent connections, OpenAPI."""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import (
    BASE,
    LOGIN,
    FakeBroker,
    Served,
    active,
    calm,
    fake_broker,
    manager_here,
    quick_policy,
    refused,
    served,
)
from workspaces import give_up, wait_for

READ, OPERATE = "r" * 24, "o" * 24
TOKENS = f"# who may\nreader read {READ}\n\nann operate {OPERATE}\n"
FIELDS = {
    "requested_preset", "active_preset", "policy_active", "queue_pressure_level", "fail_safe", "fail_safe_reason",
    "sustained_seconds", "sustained_seconds_required", "cooldown_remaining_seconds", "class_states", "queue_states",
}  # fmt: skip


@pytest.fixture(scope="module")
def broker() -> Iterator[FakeBroker]:
    with fake_broker() as one:
        yield one


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, broker: FakeBroker) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("api")
    environment = {"STAGING_POLICY_TOKENS": TOKENS}
    with served(root, quick_policy(broker.url), ["--max-connections", "60"], environment) as one:
        one.token = OPERATE
        yield one


def test_the_fields_are_those_that_were_promised(api: Served) -> None:
    """TP-03: names and nesting of the published status, in status and evaluate alike."""
    with api.client() as client:
        for answer in (client.get(f"{BASE}/status"), client.post(f"{BASE}/evaluate")):
            shown = answer.json()
            assert set(shown) == FIELDS
            assert set(shown["class_states"][0]) == {
                "class_name", "active_parallelism", "minimum_floor", "deferred_admission", "reason",
            }  # fmt: skip
            assert set(shown["queue_states"][0]) == {
                "queue", "queued_messages", "warning_threshold", "critical_threshold", "severity",
            }  # fmt: skip


def test_evaluate_shows_what_would_be(api: Served) -> None:
    """TP-03: `preset` and `telemetry_stale` are query parameters, and change nothing."""
    with api.client() as client:
        asked = client.post(f"{BASE}/evaluate", params={"preset": "aggressive", "telemetry_stale": "true"}).json()
    assert (asked["requested_preset"], asked["active_preset"]) == ("aggressive", "conservative")
    assert asked["fail_safe"]
    wait_for(lambda: not api.status()["fail_safe"])
    assert api.status()["requested_preset"] == "balanced"


@pytest.mark.parametrize(("work", "class_name"), [("login-web", "quick"), ("report-7", "heavy"), ("unheard", "quick")])
def test_the_class_of_a_work(api: Served, work: str, class_name: str) -> None:
    """TP-01: membership comes from the file, and is told to who asks by the name of a work."""
    with api.client() as client:
        assert client.get(f"{BASE}/classes", params={"work": work}).json()["class_name"] == class_name
        assert client.get(f"{BASE}/classes").json()["class_name"] is None


def test_pressure_comes_and_goes(api: Served, broker: FakeBroker) -> None:
    """TP-02: a queue over its warning makes the policy active after the window, and calm ends it."""
    broker.depths["jobs.heavy"] = 30
    shown = active(api)
    assert (shown["active_preset"], shown["queue_pressure_level"]) == ("balanced", "warning")
    assert [one["severity"] for one in shown["queue_states"]] == ["normal", "warning"]
    broker.depths["jobs.heavy"] = 0
    assert [one["active_parallelism"] for one in calm(api)["class_states"]] == [8, 6]


def test_an_override_wins_ends_by_itself_and_is_written_down(api: Served) -> None:
    """TP-04: the server ends it, and both ends are in the audit trail with who and why."""
    assert api.call("PUT", "override", {"preset": "aggressive", "ttl_seconds": 600})["active"]
    wait_for(lambda: api.status()["active_preset"] == "aggressive")
    assert api.call("PUT", "override", {"preset": "aggressive", "ttl_seconds": 1.2, "reason": "<b>test</b>"})["active"]
    wait_for(lambda: not api.call("GET", "override")["active"])
    calm(api)
    last, first = api.call("GET", "audit?limit=2")["entries"]
    assert (first["who"], first["what"], first["reason"], first["ttl_s"]) == ("ann", "override", "<b>test</b>", 1.2)
    assert (last["who"], last["what"]) == ("expiry", "override-ended")
    assert OPERATE not in (api.root / ".staging-policy" / "audit.jsonl").read_text()


@pytest.mark.parametrize(
    ("header", "method", "status"),
    [
        ({}, "GET", 401),
        ({"Authorization": "Bearer wrong-wrong-wrong-wrong"}, "GET", 401),
        ({"Authorization": f"Basic {OPERATE}"}, "GET", 401),
        ({"Authorization": OPERATE}, "GET", 401),
        ({"Authorization": f"Bearer {OPERATE[:-1]}"}, "GET", 401),
        ({"Authorization": f"Bearer {READ}"}, "GET", 200),
        ({"Authorization": f"bearer {OPERATE}"}, "GET", 200),
        ({"Authorization": f"Bearer {READ}"}, "PUT", 403),
        ({"Authorization": f"Bearer {READ}"}, "DELETE", 403),
        ({}, "DELETE", 401),
    ],
)
def test_tokens_and_roles(api: Served, header: dict[str, str], method: str, status: int) -> None:
    """TP-03: no, a wrong and a read-only token are told apart; a read-only one changes nothing."""
    with api.client() as client:
        client.headers.pop("Authorization")
        path = f"{BASE}/status" if method == "GET" else f"{BASE}/override"
        answer = client.request(method, path, headers=header, json={"preset": "balanced"} if method == "PUT" else None)
    assert answer.status_code == status
    assert ("www-authenticate" in answer.headers) == (status == 401)
    assert not api.call("GET", "override")["active"]


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("PUT", "override", b"", 422),
        ("PUT", "override", b"{", 422),
        ("PUT", "override", b"\xff\xfe", 422),
        ("PUT", "override", b"[" * 15_000, 400),
        ("PUT", "override", b'{"preset": "wild"}', 422),
        ("PUT", "override", b'{"preset": "balanced", "ttl": 60}', 422),
        ("PUT", "override", b'{"preset": "balanced", "ttl_seconds": "60"}', 422),
        ("PUT", "override", b'{"preset": "balanced", "ttl_seconds": NaN}', 422),
        ("PUT", "override", b'{"preset": "balanced", "ttl_seconds": 1e400}', 422),
        ("PUT", "override", b'{"preset": "balanced", "ttl_seconds": 3601}', 422),
        ("PUT", "override", b'{"preset": "balanced", "reason": "' + b"x" * 201 + b'"}', 422),
        ("PUT", "preset", b'{"preset": ["balanced"]}', 422),
        ("PUT", "override", b" " * 20_000, 413),
        ("POST", "evaluate?telemetry_stale=maybe", b"", 422),
        ("POST", "evaluate?preset=%00", b"", 422),
        ("POST", "status", b"", 405),
        ("GET", "audit?limit=0", b"", 422),
        ("GET", "nothing", b"", 404),
    ],
)
def test_bad_requests_are_refused_in_words(api: Served, method: str, path: str, content: bytes, status: int) -> None:
    """TP-03: malformed and oversized requests get a status, a sentence, and nothing else happens."""
    with api.client() as client:
        answer = client.request(method, f"{BASE}/{path}", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    assert isinstance(answer.json()["detail"], str)
    assert not api.call("GET", "override")["active"]


def send(api: Served, content: bytes) -> bytes:
    """What comes back for these bytes until the end."""
    port = int(api.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=15) as link:
        link.sendall(content)
        found = b""
        while chunk := link.recv(65536):
            found += chunk
        return found


def test_a_body_without_a_length_is_bounded_too(api: Served) -> None:
    """TP-03: a chunked body of any size is not read to its end."""
    head = f"PUT {BASE}/override HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {OPERATE}\r\n"
    head += "Transfer-Encoding: chunked\r\n\r\n"
    body = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"
    assert send(api, head.encode() + body * 6).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "content",
    [
        b"\x16\x03\x01 this is no HTTP\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 70_000,
        b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    ],
)
def test_what_is_no_http_is_ended(api: Served, content: bytes) -> None:
    """TP-03: and the API goes on."""
    assert send(api, content).startswith(b"HTTP/1.1 4")
    assert api.status()


def test_ten_thousand_silent_connections(api: Served) -> None:
    """TP-03: they are refused politely, their places go to newcomers, and who asks is answered meanwhile."""
    wanted = 10_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted + 500:
        give_up(f"this process may only open {hard} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted + 500), hard))
    port, links = int(api.url.rpartition(":")[2]), []
    try:
        for number in range(wanted):
            links.append(socket.create_connection(("127.0.0.1", port), timeout=30))
            if number % 1000 == 999:
                assert api.status()["requested_preset"] == "balanced"
        told = links[0].recv(4096)
        assert told.startswith(b"HTTP/1.1 503")
        assert b"Retry-After: 1" in told
        kept = len(list(Path(f"/proc/{api.process.pid}/fd").iterdir()))
        assert kept < 60 + 400, f"{kept} files are open"
        assert api.status()
    finally:
        for link in links:
            link.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_openapi_description_is_what_the_api_does(api: Served) -> None:
    """TP-03: schemathesis asks what the description allows and what it does not, and finds no difference."""
    program = Path(sys.executable).with_name("schemathesis")
    if not program.exists():
        give_up("schemathesis is not installed; it is one of the extras test")
    command = [program, "run", f"{api.url}/openapi.json", "--phases", "coverage,fuzzing", "--max-examples", "5",
               "--seed", "8", "--header", f"Authorization: Bearer {OPERATE}", "--no-color"]  # fmt: skip
    done = subprocess.run(command, cwd=api.root, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout[-6000:]
    assert "9 selected / 9 total" in done.stdout
    api.call("DELETE", "override")
    api.call("PUT", "preset", {"preset": "balanced"})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--host", "0.0.0.0"), "needs a token (--token-file FILE) and TLS"),
        (("--host", "::"), "needs a token"),
        (("--host", "0.0.0.0", "--behind-tls-proxy"), "needs a token"),
        (("--host", "0.0.0.0", "--token-file", "{tokens}"), "needs TLS (--tls-cert"),
        (("--token-file", "{open}"), "chmod 600"),
        (("--token-file", "{short}"), "a token needs at least 16 ASCII characters"),
        (("--token-file", "{absent}"), "cannot be read"),
        (("--tls-cert", "{tokens}"), "--tls-cert and --tls-key go together"),
        (("--tls-cert", "{tokens}", "--tls-key", "{tokens}"), "cannot be used"),
        (("--preset", "wild"), "known are conservative, balanced, aggressive"),
        (("--policy", "{absent}"), "docs/throughput.md"),
    ],
)
def test_it_refuses_to_start_open_to_others(
    tmp_path: Path, arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TP-03: beyond loopback only with a token and TLS; what is wrong with a file is said, without what it holds."""
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "throughput.yaml").write_text(json.dumps(quick_policy("http://127.0.0.1:9")))
    files = {"tokens": TOKENS, "open": TOKENS, "short": "ann operate short-token"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o644 if name == "open" else 0o600)
    paths = {name: str(tmp_path / name) for name in (*files, "absent")}
    for name, value in LOGIN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("pytest_staging.throughput.serving.serve", lambda *_: pytest.fail("it serves"))
    asked = [one.format(**paths) for one in arguments]
    done = manager_here(tmp_path, "policy", "serve", "--port", "0", *asked)
    complaint = done.stderr
    assert (done.returncode, said in complaint) == (2, True), complaint
    assert "Traceback" not in complaint
    assert OPERATE not in complaint
    assert "short-token" not in complaint


def test_no_token_is_needed_here_but_no_foreign_name_is_taken(tmp_path: Path, broker: FakeBroker) -> None:
    """TP-03: on loopback without tokens only this machine's own names are answered, so that no web page gets in."""
    with served(tmp_path, quick_policy(broker.url)) as one, one.client() as client:
        assert client.get(f"{BASE}/status").status_code == 200
        assert client.put(f"{BASE}/preset", json={"preset": "aggressive"}).status_code == 200
        rebound = client.get(f"{BASE}/status", headers={"Host": "evil.example:80"})
        assert (rebound.status_code, "loopback only" in rebound.json()["detail"]) == (421, True)
        assert "access-control-allow-origin" not in client.get(f"{BASE}/status", headers={"Origin": "http://e"}).headers
        assert one.call("GET", "audit")["entries"][0]["who"] == "loopback"


def make_certificate(folder: Path) -> list[str]:
    """The options that serve with it, and with TOKENS."""
    if not shutil.which("openssl"):
        give_up("openssl is not installed")
    certificate, key, tokens = (folder / name for name in ("tls.crt", "tls.key", "tokens"))
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", str(key), "-out",
            str(certificate), "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]  # fmt: skip
    subprocess.run(made, check=True, capture_output=True, timeout=60)
    tokens.write_text(TOKENS)
    tokens.chmod(0o600)
    return ["--tls-cert", str(certificate), "--tls-key", str(key), "--token-file", str(tokens)]


def test_tls(tmp_path: Path, broker: FakeBroker) -> None:
    """TP-03: with a certificate it answers beyond loopback, and the command trusts who it is told to trust."""
    arguments, certificate = ["--host", "0.0.0.0", *make_certificate(tmp_path)], tmp_path / "tls.crt"
    with served(tmp_path, quick_policy(broker.url), arguments) as one:
        one.url = one.url.replace("0.0.0.0", "127.0.0.1")
        assert one.url.startswith("https://")
        one.environment = {"SSL_CERT_FILE": str(certificate), "STAGING_POLICY_TOKEN": OPERATE}
        assert "CLASS" in one.policy("status").stdout
        one.environment = {"STAGING_POLICY_TOKEN": OPERATE}
        untrusted = one.policy("status")
        assert (untrusted.returncode, "certificate" in untrusted.stderr.lower()) == (1, True)
        assert OPERATE not in untrusted.stderr
        shouted = one.policy("status", "--api-base", one.url.replace("https", "HTTPS"))
        assert (shouted.returncode, "certificate" in shouted.stderr.lower()) == (1, True)


@pytest.mark.parametrize("shaken", [False, True], ids=["no handshake", "no request"])
def test_silent_connections_with_tls(tmp_path: Path, broker: FakeBroker, shaken: bool) -> None:
    """TP-03: they take places from when they are accepted, and give them to newcomers at once, however they end."""
    trust = ssl._create_unverified_context()
    arguments = [*make_certificate(tmp_path), "--max-connections", "20"]
    with served(tmp_path, quick_policy(broker.url), arguments) as one:
        port, links = int(one.url.rpartition(":")[2]), []
        files = Path(f"/proc/{one.process.pid}/fd")
        before = len(list(files.iterdir()))
        try:
            for _ in range(120):
                link = socket.create_connection(("127.0.0.1", port), timeout=30)
                links.append(trust.wrap_socket(link) if shaken else link)
            with httpx.Client(base_url=one.url, verify=trust, trust_env=False, timeout=30) as client:
                answer = client.get(f"{BASE}/status", headers={"Authorization": f"Bearer {READ}"})
            assert answer.status_code == 200
            # Those that were sent off are closed by now: nobody waits until they end their TLS.
            assert len(list(files.iterdir())) <= before + 60
            told = links[0].recv(4096)
            assert told.startswith(b"HTTP/1.1 503") if shaken else told == b""
        finally:
            for link in links:
                link.close()


def test_kill_in_the_middle_of_an_override(tmp_path: Path, broker: FakeBroker) -> None:
    """TP-04: after kill -9 the override goes on with what is left of it, and then the preset that was set is back."""
    policy = quick_policy(broker.url)
    with served(tmp_path, policy) as first:
        first.call("PUT", "preset", {"preset": "aggressive"})
        asked_s = time.monotonic()
        first.call("PUT", "override", {"preset": "conservative", "ttl_seconds": 600})
        began_s = time.monotonic()
        first.kill()
    with served(tmp_path, policy) as second:
        earliest_s = time.monotonic()
        shown = second.call("GET", "override")
        assert shown["active"]
        assert 599 - (time.monotonic() - asked_s) <= shown["remaining_seconds"] <= 601 - (earliest_s - began_s)
        assert second.status()["requested_preset"] == "aggressive"
        second.call("PUT", "override", {"preset": "conservative", "ttl_seconds": 3})
        second.kill()
    with served(tmp_path, policy) as third:
        wait_for(lambda: not third.call("GET", "override")["active"])
        assert third.status()["requested_preset"] == "aggressive"
        wait_for(lambda: third.status()["active_preset"] == "aggressive")
    assert stat.S_IMODE(os.stat(tmp_path / ".staging-policy").st_mode) & 0o007 == 0


def test_a_second_one_on_the_same_state_is_refused(tmp_path: Path, broker: FakeBroker) -> None:
    """TP-04: it says which folder is in use."""
    with served(tmp_path, quick_policy(broker.url)):
        assert "another `staging-manager policy serve` uses" in refused(tmp_path)


def sick(api: Served, *said: str) -> None:
    """Returns once there is a fail-safe for that reason."""
    wait_for(lambda: all(one in (api.status()["fail_safe_reason"] or "") for one in said))


def test_a_sick_broker_is_fail_safe_and_reads_stay_quick(tmp_path: Path) -> None:
    """TP-02: slow, refusing, forgetful: each is told as the reason; the API answers, and recovers by itself."""
    with fake_broker() as broker, served(tmp_path, quick_policy(broker.url, max_age_s=1.2)) as api:
        wait_for(lambda: not api.status()["fail_safe"])
        broker.delay_s = 30.0
        sick(api, "older than 1.2 s", "timed out")
        broker.delay_s = 0.0
        wait_for(lambda: not api.status()["fail_safe"])
        broker.status = 401
        sick(api, "answered 401")
        broker.status = 200
        wait_for(lambda: not api.status()["fail_safe"])
        del broker.depths["jobs.heavy"]
        sick(api, "does not tell of jobs.heavy")
        shown: dict[str, Any] = api.status()
        assert (shown["active_preset"], shown["queue_pressure_level"]) == ("conservative", "unknown")


def test_missing_credentials_are_said_at_the_start(tmp_path: Path) -> None:
    """TP-02: a variable that is not set is a usage error with its name, not a fail-safe for ever."""
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "throughput.yaml").write_text(json.dumps(quick_policy("http://127.0.0.1:9")))
    assert "reads POLICY_PASSWORD from the environment" in refused(tmp_path, environment={"POLICY_PASSWORD": ""})
