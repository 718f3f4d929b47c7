"""`hosts check`, `hosts leases` and `hosts clean`, as a person uses them, on real SSH hosts."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ssh"))  # hosting
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "targets"))  # engine_hosts

from engine_hosts import ENGINE_HOST_IMAGE, ENGINE_HOST_OPTIONS, EngineHost
from hosting import LabHost, make_key, noticed, remove_hosts, run_lab_script, start_host
from workspaces import wait_for

from pytest_staging.cli import hosts, main
from pytest_staging.inventory import seats_of
from pytest_staging.model.inventory import HostSpec
from pytest_staging.ssh import checkup
from pytest_staging.targets.ssh import SshTarget

Run = Callable[..., tuple[int, str, str]]
WORK = "/var/tmp/staging-hosts-test"
NOBODY = "127.0.1.251"  # no lab host is given this address


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., LabHost]]:
    run_lab_script("start-engine.sh")
    run_lab_script("hosts.sh")
    folder = tmp_path_factory.mktemp("hosts")
    key = make_key(folder / "key")
    made: list[str] = []

    def make(**options: Any) -> LabHost:
        host = start_host(key, folder / str(len(made)), **options)
        made.append(host.container)
        return host

    yield make
    remove_hosts(made)


@pytest.fixture(scope="session")
def host(lab: Callable[[], LabHost]) -> LabHost:
    return lab()


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's user has a say, and it may be as busy as it likes."""
    for name in ("SSH_AUTH_SOCK", "STAGING_SSH_KEY_PASSPHRASE", "E2E_VM_HOST", "E2E_VM_LIFECYCLE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(checkup, "BUSY_PER_CPU", 1000.0)


def entry(host: LabHost, **changes: Any) -> dict[str, Any]:
    """A lab host as targets.yaml has it."""
    given = {"address": host.address, "user": "root", "key": str(host.key), "known_hosts": str(host.known_hosts)}
    return {**given, "work_directory": WORK, **changes}


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """`run({name: entry}, *words)`: exit code, and what `staging-manager hosts` prints on both streams."""

    def run(hosts: dict[str, dict[str, Any]], *words: str) -> tuple[int, str, str]:
        (tmp_path / "targets.yaml").write_text(json.dumps({"hosts": hosts}))
        code = main(["--root", str(tmp_path), "hosts", *words])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def test_check_sees(host: LabHost, run: Run) -> None:
    """SM-06: a host that is fit: exit code 0, a table of at most 80 columns, no problem; --json has it in full."""
    # What a JDK 17 prints; the lab's hosts have none.
    words = "echo 'openjdk version \"17.0.9\" 2023-10-17' >&2"
    host.sh(f"printf '%s\\n' '#!/bin/sh' {json.dumps(words)} >/usr/bin/java; chmod 755 /usr/bin/java")
    code, out, error = run({"vm-1": entry(host), "a-name-that-is-longer-than-the-table": entry(host)}, "check")
    assert (code, error) == (0, "")
    head, _, first, second = out.splitlines()
    assert head.split() == ["host", "up", "host", "key", "engine", "JDK", "free", "clock", "load"]
    assert re.fullmatch(r"vm-1 +yes +known +- +17\.0\.9 +[\d.]+ [GT]B +[+-]0\.\d s +[\d.]+ *", first)
    assert second.startswith("a-name-that-is…  yes")
    assert max(map(len, out.splitlines())) <= 80
    code, out, _ = run({"vm-1": entry(host)}, "check", "--json")
    (seen,) = json.loads(out)
    assert (code, seen["reachable"], seen["host_key"], seen["jdk"]) == (0, True, "known", "17.0.9")
    assert abs(seen["clock_offset_s"]) < 0.5
    assert seen["disk_bytes"] > 0
    assert seen["load_per_cpu"] >= 0


def test_check_sees_the_engine(lab: Callable[..., LabHost], run: Run) -> None:
    """SM-06: the engine's own version, and nothing where only a client is installed."""
    engine = EngineHost(lab(options=ENGINE_HOST_OPTIONS, image=ENGINE_HOST_IMAGE))
    engine.wait_until_ready()
    version = engine.docker("version", "--format", "{{.Server.Version}}")
    (seen,) = json.loads(run({"vm-1": entry(engine.lab)}, "check", "--json")[1])
    assert (seen["engine"], seen["jdk"]) == (version, "")
    engine.kill_engine()
    code, out, _ = run({"vm-1": entry(engine.lab)}, "check")
    assert (code, out.splitlines()[2].split()[:4]) == (0, ["vm-1", "yes", "known", "-"])


def test_the_widest_table(capsys: pytest.CaptureFixture[str]) -> None:
    """SM-06: whatever a host says about itself, its line has at most 80 columns."""
    columns: dict[str, Any] = {"engine": "20.10.24+dfsg1", "jdk": "1.8.0_392-internal", "disk_bytes": 123_400_000_000}
    for offset_s in (-999.9, -99.9, -359_999.0, 1e9):
        one = checkup.Checkup(
            host="h" * 60, reachable=True, host_key="refused", clock_offset_s=offset_s, load_per_cpu=128.25, **columns
        )
        hosts._print_table([hosts._row(one, True)], hosts.CHECK_COLUMNS)
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= 80
        assert "  20.10.24  1.8.0_392" in lines[2]


def test_check_says_how_to_put_it_right(host: LabHost, run: Run, tmp_path: Path) -> None:
    """SM-06: unknown key, wrong key, nobody there: each with its remedy, exit code 1; the known_hosts line is right."""
    known_hosts, other_key = tmp_path / "known_hosts", make_key(tmp_path / "other")
    hosts = {
        "good": entry(host),
        "new": entry(host, known_hosts=str(known_hosts)),
        "locked": entry(host, key=str(other_key)),
        "gone": entry(host, address=NOBODY),
    }
    code, out, _ = run(hosts, "check")
    lines = out.splitlines()
    assert code == 1
    assert [line.split()[:3] for line in lines[2:6]] == [
        ["good", "yes", "known"],
        ["new", "yes", "refused"],
        ["locked", "yes", "known"],
        ["gone", "no", "-"],
    ]
    assert all(len(line) <= 80 for line in lines[:6])
    assert f"{host.address} {host.host_key()}" in lines
    assert f"locked (root@{host.address}:22): the host took none of the keys." in lines
    assert any(line.startswith(f"gone (root@{NOBODY}:22): connection refused. Is the host up") for line in lines)
    known_hosts.write_text(next(line for line in lines if line.startswith(f"{host.address} ")) + "\n")
    assert run({"new": hosts["new"]}, "check")[0] == 0


def test_a_slow_answer_says_little_about_a_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """SM-06: the host is asked again, and the quickest trip counts; a clock that is off is found all the same."""
    now, took_s = [1000.0], [6.0, 4.0, 0.1]

    def answer(*_: object, **__: object) -> SimpleNamespace:
        now[0] += took_s.pop(0)
        return SimpleNamespace(require=lambda _: SimpleNamespace(stdout=b"%.3f\n" % (now[0] + ahead_s)))

    monkeypatch.setattr("pytest_staging.ssh.checkup.time.time", lambda: now[0])
    connection: Any = SimpleNamespace(run_script=answer)
    for ahead_s in (0.0, 600.0):
        took_s[:] = [6.0, 4.0, 0.1]
        assert checkup.read_clock(connection) == pytest.approx(ahead_s + 0.05)
    took_s[:] = [6.0] * 9
    checkup.read_clock(connection)
    assert len(took_s) == 9 - checkup.CLOCK_TRIPS, "nobody asks for ever"


def test_check_finds_what_a_campaign_would_meet(
    lab: Callable[[], LabHost], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SM-06: a clock that is off, a missing tool, a full disk, load, and a folder that is not ours."""
    host = lab()
    host.sh("mkdir -p /srv/theirs /srv/own; touch /srv/theirs/file; mv /usr/bin/flock /usr/bin/flock.away")
    host.sh(
        "mv /usr/bin/date /usr/bin/date.real; printf '#!/bin/sh\\nexec date.real -d +10min \"$@\"\\n' >/usr/bin/date"
    )
    host.sh("chmod 755 /usr/bin/date; chown 101 /srv/own")
    monkeypatch.setattr(checkup, "BUSY_PER_CPU", -1.0)
    monkeypatch.setattr(checkup, "FULL_BELOW_BYTES", 10**18)
    hosts = {"vm-1": entry(host, work_directory="/srv/theirs"), "vm-2": entry(host, work_directory="/srv/own")}
    code, out, _ = run(hosts, "check")
    assert code == 1
    assert "vm-1: its clock is +600 s off: turn on NTP there" in out
    assert "vm-1: it lacks flock: install" in out
    assert re.search(r"vm-1: only [\d.]+ GB are free where /srv/theirs lies: staging-manager hosts clean vm-1", out)
    assert re.search(r"vm-1: [\d.]+ processes run on its \d+ CPUs", out)
    assert "vm-1: /srv/theirs there is a link, another user's, or holds what pytest-staging did not make" in out
    assert "vm-2: /srv/own there is a link, another user's" in out


def test_check_looks_at_all_at_once(lab: Callable[[], LabHost], run: Run) -> None:
    """SM-06: hosts that do not answer are waited for together."""
    host = lab()
    host.stop_sshd()
    with noticed(20):
        code, out, _ = run({name: entry(host) for name in ("a", "b", "c")}, "check")
    assert (code, out.count("said nothing for 10 s")) == (1, 3)


def test_leases(host: LabHost, run: Run) -> None:
    """SM-06: who measures on which slot, since when and until when; nobody is an answer too."""
    hosts = {"free": entry(host, work_directory="/var/tmp/free"), "vm-1": entry(host, slots=2)}
    seats = seats_of({"vm-1": HostSpec(**hosts["vm-1"])})
    began = datetime.now(timezone.utc)
    with SshTarget("vm-1-slot2", seats["vm-1-slot2"]).lease("campaign c1", 5.0):
        held = datetime.now(timezone.utc)
        code, out, error = run(hosts, "leases", "--json")
        code, table, error = run(hosts, "leases")
    ended = datetime.now(timezone.utc)
    assert (code, error) == (0, "")
    free, busy = json.loads(out)
    assert (free["leases"], free["problem"]) == ([], "")
    (lease,) = busy["leases"]
    assert lease["slot"] == 2
    assert lease["holder"].startswith("campaign c1 (pid ")
    since, until = (datetime.fromisoformat(lease[name].replace("Z", "+00:00")) for name in ("since_at", "until_at"))
    # The host's clock is read in whole seconds; and what is left is counted from now.
    around = timedelta(seconds=2)
    assert began - around <= since <= held + around
    assert began + timedelta(seconds=30) < until < ended + timedelta(seconds=62)
    lines = table.splitlines()
    assert lines[0].split() == ["host", "slot", "since", "(UTC)", "until", "measured", "by"]
    assert lines[2].split() == ["free", "nobody"]
    words = lines[3].split()
    assert words[:2] == ["vm-1", "2"]
    # It is counted from now, by a clock of whole seconds, and the two commands ran one after the other.
    shown = datetime.fromisoformat(f"{words[2]}T{words[3]}+00:00")
    assert abs(shown - since) <= around + (ended - held)
    assert re.fullmatch(r"\d\d:\d\d:\d\d", words[4])
    assert max(map(len, lines)) <= 80
    assert not host.sh("ls -d /var/tmp/free || true"), "to ask makes nothing"


def test_leases_of_a_host_that_is_gone(host: LabHost, run: Run) -> None:
    """SM-06: a line on the error stream and exit code 1; the others are shown."""
    hosts = {"gone": entry(host, address=NOBODY), "vm-1": entry(host)}
    code, out, error = run(hosts, "leases")
    assert code == 1
    assert out.splitlines()[2].split() == ["vm-1", "nobody"]
    assert error.startswith(f"staging-manager: gone (root@{NOBODY}:22): connection refused")
    code, out, error = run(hosts, "leases", "--json")
    assert (code, error) == (1, "")
    assert [bool(one["problem"]) for one in json.loads(out)] == [True, False]


def test_clean(host: LabHost, run: Run) -> None:
    """SM-06: says what it removes; --dry-run removes nothing; a second time there is nothing."""
    hosts = {"vm-1": entry(host)}
    SshTarget("vm-1", HostSpec(**hosts["vm-1"])).require_ready()
    host.sh(f"mkdir -p {WORK}/0123/versions/a; STAGING_LEASE={WORK}/lease setsid sleep 99 >/dev/null 2>&1 &")
    wait_for(lambda: "sleep 99" in [line.strip() for line in host.processes("sleep 99")])
    code, would, error = run(hosts, "clean", "--dry-run")
    assert (code, error) == (0, "")
    assert would.splitlines()[0] == f"vm-1: would remove 1 processes of {WORK}/lease"
    assert would.splitlines()[1].startswith(f"vm-1: would remove {WORK}: 1 version, ")
    assert host.processes("sleep 99")
    code, out, error = run(hosts, "clean")
    assert (code, out, error) == (0, would.replace("would remove", "removed"), "")
    assert host.processes("sleep 99") == []
    assert host.sh(f"ls -d {WORK} 2>/dev/null || true") == ""
    assert run(hosts, "clean") == (0, "vm-1: nothing to remove\n", "")


def test_clean_never_takes_what_is_not_ours(host: LabHost, run: Run) -> None:
    """SM-06: a folder that we did not make is refused with exit code 2, also with --force; other hosts are cleaned."""
    host.sh("mkdir -p /srv/theirs; touch /srv/theirs/file")
    hosts = {"theirs": entry(host, work_directory="/srv/theirs"), "vm-1": entry(host)}
    SshTarget("vm-1", HostSpec(**hosts["vm-1"])).require_ready()
    code, out, error = run(hosts, "clean", "--force")
    assert code == 2
    assert out.startswith(f"vm-1: removed {WORK}: 0 versions")
    assert "/srv/theirs on theirs (root@" in error
    assert "was not made by pytest-staging for this user, so nothing there is removed" in error
    assert host.sh("ls /srv/theirs") == "file"


def test_clean_where_somebody_measures(host: LabHost, run: Run) -> None:
    """SM-06: refused with the holder's name and exit code 1; --force ends it."""
    hosts = {"vm-1": entry(host)}
    target = SshTarget("vm-1", HostSpec(**hosts["vm-1"]))
    target.host.prepare()
    boot, uptime = host.sh("cat /proc/sys/kernel/random/boot_id /proc/uptime").split()[:2]
    lease = f"token\\n{boot}\\n{int(float(uptime)) + 600}\\n5\\ncampaign c1\\n"
    host.sh(f"printf '{lease}' >{WORK}/lease/held")
    code, out, error = run(hosts, "clean")
    assert (code, out) == (1, "")
    assert "is measured by campaign c1. Let it finish, or stop it; --force" in error
    assert host.sh(f"ls {WORK}/lease/held")
    assert run(hosts, "clean", "--force")[0] == 0
    assert host.sh(f"ls -d {WORK} 2>/dev/null || true") == ""


@pytest.mark.parametrize("command", ["check", "leases", "clean"])
def test_unknown_host(run: Run, command: str) -> None:
    """SM-06: exit code 2, with the nearest name and the known ones; nothing is dialled."""
    hosts = {"vm-1": {"address": NOBODY}, "build-box": {"address": NOBODY}}
    code, out, error = run(hosts, command, "vm-l")
    assert (code, out) == (2, "")
    assert error == ("staging-manager: hosts: there is no host 'vm-l'. Did you mean 'vm-1'? Known: vm-1, build-box.\n")


def test_no_inventory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SM-06: exit code 2, and how to write one."""
    assert main(["--root", str(tmp_path), "hosts", "check"]) == 2
    assert "targets.yaml does not exist. Write it" in capsys.readouterr().err
