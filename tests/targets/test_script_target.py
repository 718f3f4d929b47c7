"""The target `script`, with scripts that start and end a real HTTP service."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from script_places import Scripts, make_scripts
from workspaces import wait_for

from pytest_staging.campaign.service import launch
from pytest_staging.model.benchmark import ContainerLimits
from pytest_staging.model.building import Image
from pytest_staging.model.errors import LeaseTimeout, ServiceFailed, StorageError, ToolMissing
from pytest_staging.model.script import ScriptSpec
from pytest_staging.model.version import ModeSpec, Runtime
from pytest_staging.targets.local import LocalTarget
from pytest_staging.targets.script_commands import build_namespace, parse_url

HOLD = """
import os, sys
from pathlib import Path
from script_places import Scripts
scripts = Scripts(Path(sys.argv[1]), int(sys.argv[2]))
os.environ["E2E_HOST"] = "there"
target = scripts.target(sys.argv[3])
with target.lease("campaign first", 20):
    target.deploy(scripts.deployment())
    print("up", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def scripts(tmp_path: Path) -> Iterator[Scripts]:
    """Nothing that they started outlives the test."""
    made = make_scripts(tmp_path)
    yield made
    if (tmp_path / "pid").exists():
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_a_cell(scripts: Scripts) -> None:
    """SM-06: any scripts deploy and destroy; the service answers in between, and nothing stays written down."""
    service = scripts.target().deploy(scripts.deployment())
    assert (service.base_url, scripts.answers()) == (scripts.base_url, True)
    assert (service.poll(), service.ending(), service.owns_endpoint()) == (None, "still runs", None)
    assert service.peak_resident_bytes() is None, "a metric source must be used"
    assert service.stop(5.0) == service.stop(5.0) == "destroyed"
    assert service.ending() == "was destroyed"
    assert not scripts.answers()
    assert scripts.calls() == ["deploy", "destroy"]
    assert scripts.records == []
    assert (scripts.folder / "deploy.log").read_text() == "deploying\ndestroying\n"


def test_launch_waits_for_its_health(scripts: Scripts) -> None:
    """SM-06: the campaign's own way to start a service."""
    service = launch(scripts.target(), scripts.deployment())
    assert service.base_url == scripts.base_url
    service.service.stop(0.0)
    assert not scripts.answers()


def test_what_the_scripts_are_told(scripts: Scripts) -> None:
    """SM-06: version root, version, mode, image and a namespace in the environment, the same for both scripts."""
    limits = ContainerLimits(cpus=1.5, memory_mb=256)
    image = Image(ref="staging/faster:jvm", id="sha256:1", size_bytes=1, path=scripts.folder / "built")
    scripts.target().deploy(scripts.deployment(limits=limits, image=image)).stop(0.0)
    seen = scripts.environment("deploy")
    expected = {
        "STAGING_VERSION_ROOT": str(scripts.folder / "snapshot"), "STAGING_VERSION": "faster", "STAGING_MODE": "jvm",
        "STAGING_IMAGE": "staging/faster:jvm", "STAGING_IMAGE_ID": "sha256:1", "STAGING_CAMPAIGN": "c1",
        "STAGING_CELL": "run001-jvm-faster", "STAGING_ARTIFACT": str(scripts.folder / "built"),
        "STAGING_SERVICE_PORT": "7070", "STAGING_DOCKERFILE": "Dockerfile", "STAGING_HEALTH": "/healthz",
        "STAGING_READY_TIMEOUT_S": "30", "STAGING_CPUS": "1.5", "STAGING_MEMORY_MB": "256",
    }  # fmt: skip
    assert expected.items() <= seen.items()
    assert json.loads(seen["STAGING_SERVICE_ENVIRONMENT"]) == {
        "A": "b", "STAGING_VERSION": "faster", "STAGING_MODE": "jvm",
    }  # fmt: skip
    own = {"PWD", "_", "STAGING_PROCESS", "OLDPWD"}
    destroy = scripts.environment("destroy")
    assert {name: value for name, value in destroy.items() if name not in own} == {
        name: value for name, value in seen.items() if name not in own
    }


@pytest.mark.parametrize("name", ["c1", "Ä ö/..", "-" * 90, "x" * 200, "A_b.c"])
def test_namespaces_are_safe(scripts: Scripts, name: str) -> None:
    """SM-06: a DNS label, whatever campaign and cell are called, and another one for each."""
    found = [
        build_namespace(scripts.deployment(campaign_id=name, cell_id=cell)) for cell in ("run001-x", "run001-X", "")
    ]
    assert all(re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", one) for one in found), found
    assert len(set(found)) == 3


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        ("echo why >&2; exit 3", "the deploy command ended with status 3"),
        ("kill -9 $$", "the deploy command was killed by signal 9"),
        ("exit 0", "must print url=http://... last, and printed: noise"),
        ("echo url=http://x:1; echo done; exit 0", "must print url=http://... last, and printed: done"),
        ("echo url=ftp://x; exit 0", "and printed: url=ftp://x"),
    ],
)
def test_a_deploy_that_fails(scripts: Scripts, act: str, reason: str) -> None:
    """SM-06: the reason with the log's tail, and destroy has run all the same."""
    with pytest.raises(ServiceFailed) as caught:
        scripts.target(act).deploy(scripts.deployment())
    assert reason in caught.value.reason
    assert "deploying" in caught.value.log_tail
    assert scripts.calls() == ["deploy", "destroy"]
    assert not scripts.answers()
    assert scripts.records == []


def test_a_deploy_without_an_end(scripts: Scripts) -> None:
    """SM-06: it has a deadline."""
    began = time.monotonic()
    scripts.target().deploy(scripts.deployment()).stop(0.0)
    # Long enough to get to the sleep on this machine as it is now.
    deadline_s = round(0.5 + 3 * (time.monotonic() - began), 1)
    began = time.monotonic()
    with pytest.raises(ServiceFailed, match=f"did not end in {deadline_s:g} s"):
        scripts.target("sleep 300", deploy_timeout_s=deadline_s).deploy(scripts.deployment())
    assert time.monotonic() - began < 200
    assert scripts.calls() == ["deploy", "destroy"] * 2
    assert not scripts.answers()


def test_a_deploy_that_never_stops_printing(scripts: Scripts) -> None:
    """SM-06: it may not fill the disk until its deadline."""
    act = "while :; do echo 0123456789012345678901234567890123456789; done"
    began = time.monotonic()
    with pytest.raises(ServiceFailed, match=r"did not end in 120 s, or never stopped printing"):
        scripts.target(act, deploy_timeout_s=120.0).deploy(scripts.deployment())
    assert time.monotonic() - began < 120
    assert scripts.calls() == ["deploy", "destroy"]
    assert not scripts.answers()


def test_a_script_that_is_not_there(scripts: Scripts) -> None:
    """Said before a campaign begins; and if it goes later, the cell fails."""
    target = scripts.target(deploy=("./gone.sh", "deploy"))
    with pytest.raises(ToolMissing, match=r"cannot deploy: \./gone\.sh is no program .* chmod \+x \./gone\.sh"):
        target.require_ready()
    with pytest.raises(ServiceFailed, match="the deploy command ended with status 127"):
        target.deploy(scripts.deployment())
    scripts.target().require_ready()
    script = scripts.folder / "here.sh"
    script.write_text("#!/bin/sh\n")
    with pytest.raises(ToolMissing, match="cannot log"):
        scripts.target(log=("./here.sh",)).require_ready()
    script.chmod(0o755)
    scripts.target(log=("./here.sh",)).require_ready()


def test_a_log_that_cannot_be_written(scripts: Scripts) -> None:
    """Nothing is deployed whose output nobody keeps."""
    with pytest.raises(StorageError, match="cannot write"):
        scripts.target().deploy(scripts.deployment(log=scripts.folder / "none" / "service.log"))
    assert scripts.calls() == scripts.records == []


def test_an_interrupted_deploy(scripts: Scripts) -> None:
    """SM-06: Ctrl-C while it is deployed: it is destroyed before anything else happens."""
    threading.Thread(target=wait_then_interrupt, args=[scripts.folder / "pid"], daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        scripts.target("sleep 300").deploy(scripts.deployment())
    assert scripts.calls() == ["deploy", "destroy"]
    assert not scripts.answers()
    assert scripts.records == []


def wait_then_interrupt(path: Path) -> None:
    wait_for(path.exists)
    os.kill(os.getpid(), signal.SIGINT)


def test_it_is_written_down_before_it_is_deployed(scripts: Scripts, monkeypatch: pytest.MonkeyPatch) -> None:
    """SM-06: for whoever must destroy it when we die; without what is nobody else's business."""
    monkeypatch.setenv("E2E_VM_HOST", "10.0.0.7")
    monkeypatch.setenv("API_TOKEN", "hunter2")
    mode = ModeSpec(runtime=Runtime.JVM, environment={"PASSWORD": "hunter2"})
    service = scripts.target(takes="files").deploy(scripts.deployment(mode=mode))
    text = (scripts.folder / "record.json").read_text()
    assert "hunter2" not in text
    record = json.loads(text)
    assert record["argv"][:2] == ["sh", "-euc"]
    assert record["environment"]["E2E_VM_HOST"] == "10.0.0.7"
    assert record["environment"]["NAMESPACE"] == scripts.environment("deploy")["NAMESPACE"]
    assert (scripts.folder / "lease" / "local.scripts").stat().st_mode & 0o077 == 0
    service.stop(0.0)
    assert scripts.records == []


def test_a_destroy_that_fails(scripts: Scripts) -> None:
    """SM-06: it is an error, since something may be left; the lease tries again, and the next one does not measure."""
    (scripts.folder / "stuck").touch()
    target = scripts.target()
    with target.lease("one", 1):
        service = target.deploy(scripts.deployment())
        with pytest.raises(ServiceFailed, match="destroy command ended with status 4: something may be left") as caught:
            service.stop(0.0)
        assert "cannot be destroyed" in caught.value.log_tail
        assert service.stop(0.0).startswith("the destroy command ended with status 4"), "the second time it is said"
    with pytest.raises(ServiceFailed, match=r"may still run: sh ended with status 4\. .*local\.scripts"):
        target.lease("two", 1).__enter__()
    LocalTarget(scripts.folder / "lease").lease("free again", 1).__enter__()
    assert scripts.calls() == ["deploy", *["destroy"] * 3]


def test_after_a_failed_destroy_the_next_lease_makes_it_good(scripts: Scripts) -> None:
    """SM-06: as soon as it can."""
    (scripts.folder / "stuck").touch()
    target = scripts.target()
    with pytest.raises(ServiceFailed, match="may be left"):
        target.deploy(scripts.deployment()).stop(0.0)
    (scripts.folder / "stuck").unlink()
    assert scripts.answers()
    with target.lease("next", 1):
        assert not scripts.answers()
    assert scripts.records == []


@pytest.mark.parametrize("act", ["", "sleep 300"])
def test_leftovers_of_a_dead_campaign(scripts: Scripts, act: str) -> None:
    """SM-06: killed after or during a deploy: destroyed with its own environment before the next one measures."""
    command = [sys.executable, "-c", HOLD, str(scripts.folder), str(scripts.port), act]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        wait_for(scripts.answers)
        if not act:
            assert process.stdout
            process.stdout.readline()
        target = scripts.target()
        with pytest.raises(LeaseTimeout, match="measured by campaign first"):
            target.lease("second", 0.05).__enter__()
        process.kill()
        process.wait()
    assert scripts.answers(), "the test proves something only while it lives"
    with target.lease("second", 20):
        assert not scripts.answers()
    assert scripts.environment("destroy")["E2E_HOST"] == "there"
    assert scripts.records == []


def test_a_record_that_cannot_be_read(scripts: Scripts) -> None:
    """It may stand for something that runs: nobody measures beside that."""
    target = scripts.target()
    target.deploy(scripts.deployment()).stop(0.0)
    path = scripts.folder / "lease" / "local.scripts" / "x.json"
    path.write_text("{}")
    with pytest.raises(ServiceFailed, match=r"x\.json says what an earlier campaign left, and cannot be read"):
        target.lease("next", 1).__enter__()
    path.unlink()


def test_giving_the_lease_back_destroys(scripts: Scripts) -> None:
    """SM-06: also what was deployed and never stopped, because an interrupt came between."""
    target = scripts.target()
    with pytest.raises(KeyboardInterrupt), target.lease("one", 1):
        target.deploy(scripts.deployment())
        raise KeyboardInterrupt
    assert not scripts.answers()
    assert scripts.records == []


def test_status_notices_the_end(scripts: Scripts) -> None:
    """Exit code 3 is the end; the service's last words are in the log before it is stopped."""
    status = 'kill -0 "$(cat "$LAB/pid")" || exit 3; echo well >>"$LAB/asked"'
    target = scripts.target(status=("sh", "-c", status), status_every_s=0.05, log=("echo", "last words"))
    service = target.deploy(scripts.deployment())
    wait_for(lambda: times_asked(scripts) >= 2)
    assert service.poll() is None
    os.kill(int((scripts.folder / "pid").read_text()), signal.SIGKILL)
    assert wait_for(service.poll) == 3
    assert service.ending() == "does not run any more, says its status command"
    assert (scripts.folder / "service.log").read_text() == "last words\n"
    (scripts.folder / "pid").unlink()
    assert service.stop(0.0) == "destroyed"


def times_asked(scripts: Scripts) -> int:
    path = scripts.folder / "asked"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_a_status_that_cannot_tell(scripts: Scripts) -> None:
    """Once or twice may be the network; three times in a row nobody knows what is measured."""
    status = 'echo >>"$LAB/asked"; n=$(wc -l <"$LAB/asked"); [ $n = 3 ] || exit 1'
    service = scripts.target(status=("sh", "-c", status), status_every_s=0.02).deploy(scripts.deployment())
    assert wait_for(service.poll) == 3
    assert len((scripts.folder / "asked").read_text()) == 6
    assert "failed 3 times in a row" in service.ending()
    service.stop(0.0)


def test_a_status_that_hangs_does_not_delay_the_end(scripts: Scripts) -> None:
    status = ("sh", "-c", 'echo >>"$LAB/asked"; exec sleep 300')
    service = scripts.target(status=status, status_every_s=0.01).deploy(scripts.deployment())
    wait_for(lambda: times_asked(scripts))
    started = time.monotonic()
    assert service.stop(0.0) == "destroyed"
    assert time.monotonic() - started < 60, "what one question may take"


@pytest.mark.parametrize(
    ("command", "peak"),
    [("echo 4711", 4711), ("echo 4711 bytes", None), ("echo 0", None), ("echo 4711; exit 1", None), ("sleep 99", None)],
)
def test_memory(scripts: Scripts, command: str, peak: int | None) -> None:
    """Bytes, or nothing: never a guess."""
    target = scripts.target(memory=("sh", "-c", command), command_timeout_s=0.5 if "sleep" in command else 60.0)
    service = target.deploy(scripts.deployment())
    assert service.peak_resident_bytes() == peak
    service.stop(0.0)
    assert service.peak_resident_bytes() is None


@pytest.mark.parametrize("log", [("sh", "-c", "echo words; exit 1"), ("./gone.sh",), ("sleep", "300")])
def test_a_log_command_that_fails_changes_nothing(scripts: Scripts, log: tuple[str, ...]) -> None:
    """What it printed until then is kept."""
    timeout_s = 0.5 if log[0] == "sleep" else 60.0
    service = scripts.target(log=log, command_timeout_s=timeout_s).deploy(scripts.deployment())
    assert service.stop(0.0) == "destroyed"
    assert (scripts.folder / "service.log").read_text() == ("words\n" if log[0] == "sh" else "")


def test_modes_without_an_image(scripts: Scripts) -> None:
    mode = ModeSpec(runtime=Runtime.NATIVE)
    assert scripts.target().unfit_reason(mode) == "has no image"
    assert scripts.target(takes="files").unfit_reason(mode) is None
    assert scripts.target().name == "script"
    assert scripts.target().facts()["deployed_by"][0] == "sh"


@pytest.mark.parametrize(
    ("answer", "url"),
    [
        ("url=http://10.0.0.7:30123\n", "http://10.0.0.7:30123"),
        ("x\n url=https://[::1]:8443/ \n\n", "https://[::1]:8443"),
        ("url=http://a b\n", None), ("url=http://\n", None), ("url=http://x:99999\n", None), ("url=http://x:0\n", None),
        ("url=http://x?a=b\n", None), ("URL=http://x\n", None), ("http://x\n", None), ("", None),
    ],
)  # fmt: skip
def test_addresses(answer: str, url: str | None) -> None:
    assert parse_url(answer) == url


def test_the_contract_is_strict() -> None:
    """SM-06: an unknown key, an empty command or a wrong type is refused."""
    adapter = TypeAdapter(ScriptSpec)
    good: dict[str, Any] = {"deploy": ["a"], "destroy": ["b"]}
    assert adapter.validate_json(json.dumps(good)) == ScriptSpec(deploy=("a",), destroy=("b",))
    assert adapter.validate_json(json.dumps({**good, "takes": "files"})).takes == "files"
    for wrong in ({"deply": []}, {"deploy": []}, {"deploy": "a b"}, {"deploy_timeout_s": 0}, {"takes": "jar"}):
        with pytest.raises(ValidationError):
            adapter.validate_json(json.dumps({**good, **wrong}))
