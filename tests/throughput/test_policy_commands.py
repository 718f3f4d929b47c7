"""`staging-manager policy` against the real program: what it prints, its exit codes, its complaints."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from answering import serving, trickle_header
from policies import write_policy
from serving import PROGRAM, FakeBroker, Served, active, calm, fake_broker, manager, manager_here, quick_policy, served
from workspaces import wait_for

from pytest_staging.model.errors import PolicyUnreachable, UsageProblem
from pytest_staging.throughput.client import PolicyClient, parse_ttl


@pytest.fixture(scope="module")
def broker() -> Iterator[FakeBroker]:
    with fake_broker() as one:
        yield one


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, broker: FakeBroker) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("commands"), quick_policy(broker.url)) as one:
        wait_for(lambda: not one.status()["fail_safe"])
        yield one


def test_status_is_a_summary_and_a_line_for_each(api: Served, broker: FakeBroker) -> None:
    """TP-04: what is in force, then a line per class and per queue."""
    calm(api)
    lines = api.policy("status").stdout.splitlines()
    assert lines[0] == "no policy is active; set: balanced; pressure: normal"
    broker.depths["jobs.heavy"] = 90
    wait_for(lambda: active(api)["class_states"][1]["active_parallelism"] == 2)
    text = api.policy("status").stdout
    assert text.startswith("balanced is in force; set: balanced; pressure: critical")
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line}
    assert rows["quick"][1:4] == ["8", "4", "open"]
    assert rows["heavy"][1:4] == ["2", "2", "deferred"]
    assert rows["jobs.heavy"] == ["jobs.heavy", "90", "20", "80", "critical"]
    broker.depths["jobs.heavy"] = 0
    calm(api)


def test_set_override_clear(api: Served) -> None:
    """TP-04: an override, its end by hand, and the preset that is set."""
    assert api.policy("set", "--preset", "aggressive").stdout == "aggressive is set (before: balanced)\n"
    done = api.policy("override", "--preset", "conservative", "--ttl", "20m", "--why", "tonight")
    assert re.match(r"conservative overrides for 1[\d.]+ s, until 20", done.stdout)
    assert done.stdout.endswith("\nto end it before: staging-manager policy clear\n")
    shown = api.policy("status").stdout
    assert shown.startswith("conservative is in force; set: aggressive")
    assert "override: conservative by loopback" in shown
    assert json.loads(api.policy("status", "--json").stdout)["active_preset"] == "conservative"
    assert api.policy("clear").stdout == "no override is in force\n"
    assert json.loads(api.policy("set", "--preset", "balanced", "--json").stdout)["previous_preset"] == "aggressive"


def test_an_override_is_ended_where_it_was_set(api: Served, tmp_path: Path) -> None:
    """TP-04: the command that it tells has the API and the token's file of the one that was given."""
    (tmp_path / "a token").write_text("no token is asked for")
    (tmp_path / "a token").chmod(0o600)
    place = ("--api-base", api.url, "--token-file", str(tmp_path / "a token"))
    told = manager_here(api.root, "policy", "override", "--preset", "conservative", *place).stdout
    command = shlex.split(told.rpartition("to end it before: ")[2])
    assert command == ["staging-manager", "policy", "clear", *place]
    assert manager_here(api.root, *command[1:]).stdout == "no override is in force\n"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("override", "--preset", "balanced", "--ttl", "2h"), 2, "the policy allows 1 s to 3600 s"),
        (("override", "--preset", "balanced", "--ttl", "20"), 2, "write a number and its unit: 90s, 20m or 2h"),
        (("override", "--preset", "balanced", "--ttl", ""), 2, "write a number and its unit: 90s, 20m or 2h"),
        (("override", "--preset", "balanced", "--ttl", "9999h"), 2, "a TTL of 35996400 s is out of bounds"),
        (("override", "--preset", "wild"), 2, "known are conservative, balanced, aggressive"),
        (("set", "--preset", "wild"), 2, "known are"),
        (("set",), 2, "--preset"),
        (("status", "--api-base", "http://127.0.0.1:9"), 1, "no policy API answers at http://127.0.0.1:9"),
        (("status", "--api-base", "127.0.0.1"), 2, "is no http or https URL"),
        (("status", "--api-base", "http://a..b"), 2, "is no http or https URL"),
        (("status", "--api-base", "http://.."), 2, "is no http or https URL"),
        (("status", "--api-base", f"http://{'a' * 300}"), 2, "is no http or https URL"),
        (("status", "--api-base", "http://[v1.x]"), 2, "is no http or https URL"),
        (("status", "--api-base", "http://a\tb"), 2, "is no http or https URL"),
        (("status", "--api-base", "http://xn--"), 2, "is no http or https URL"),
        (("status", "--api-base", "http://me:secret@127.0.0.1"), 2, "is no http or https URL"),
        (("status", "--api-base", "http://127.0.0.1:0"), 2, "is no http or https URL"),
        (("status", "--api-base", "http://127.0.0.1:99999"), 2, "is no http or https URL"),
        (("status", "--timeout", "0"), 2, "--timeout needs"),
        (("status", "--watch", "--every", "0"), 2, "--every needs"),
        (("status", "--token-file", "/nowhere"), 2, "cannot be read"),
        (("status", "--token-file", "/"), 2, "--token-file / is no file"),
        (("status", "--token-file", "/dev/null"), 2, "--token-file /dev/null is no file"),
    ],
)
def test_complaints(
    api: Served, arguments: tuple[str, ...], code: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TP-04: what, where, what to do next; 2 for usage, 1 when nobody answers."""
    monkeypatch.setenv("STAGING_POLICY_API", api.url)
    done = manager_here(api.root, "policy", *arguments)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_no_policy_api_is_said(api: Served, broker: FakeBroker) -> None:
    """TP-04: another service on that port is told apart."""
    done = api.policy("status", "--api-base", broker.url)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)


def test_the_time_limit_is_for_the_whole_answer() -> None:
    """TP-04: a head that comes letter by letter does not outlast --timeout."""
    with serving(trickle_header) as server:
        client = PolicyClient(f"http://127.0.0.1:{server.server_port}", timeout_s=0.5)
        with pytest.raises(PolicyUnreachable, match="timed out"):
            client.status()
        assert not server.outlasted.is_set()


def test_watch_goes_on_until_it_is_interrupted(api: Served) -> None:
    """TP-04: a status every so often; Ctrl-C ends it with 130."""
    command = [*PROGRAM, str(api.root), "policy", "status", "--watch", "--every", "0.1", "--json"]
    command += ["--api-base", api.url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        assert process.stdout
        for _ in range(3):
            assert json.loads(process.stdout.readline())["requested_preset"] == "balanced"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("20m", 1200), ("2h", 7200), ("1.5h", 5400), ("0.5s", 0.5)])
def test_ttls(text: str, seconds: float) -> None:
    """TP-04: as people write them."""
    assert parse_ttl(text) == seconds


@pytest.mark.parametrize("text", ["", "20", "m", "-5m", "1d", "1h30m", "0s", "1e3s", "٣m", "nan", "9999999999s"])
def test_what_is_no_ttl(text: str) -> None:
    """TP-04: a number without a unit could be anything."""
    with pytest.raises(UsageProblem, match="write a number and its unit"):
        parse_ttl(text)


def test_a_token_is_not_sent_in_the_clear() -> None:
    """TP-04: nor shown."""
    with pytest.raises(UsageProblem, match="in the clear"):
        PolicyClient("http://policy.example:8642", "secret-token")
    assert "secret-token" not in repr(PolicyClient("http://127.0.0.1:1", "secret-token"))


def test_serve_without_its_extra_says_what_to_install(tmp_path: Path) -> None:
    """TP-04: FastAPI and uvicorn are an extra."""
    write_policy(tmp_path)
    (tmp_path / "fastapi.py").write_text("raise ImportError('No module named fastapi')")
    done = manager(tmp_path, "policy", "serve", environment={"PYTHONPATH": str(tmp_path)})
    assert (done.returncode, "pip install 'pytest-staging[policy]'" in done.stderr) == (2, True)
