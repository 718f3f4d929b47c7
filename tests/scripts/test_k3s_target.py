"""The target `script` with the k3s script: a cell's service on a host behind SSH."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from k3s_lab import IMAGE, NAMED_BY_CONTENT, ROOT, Lab
from workspaces import free_port, wait_for

from pytest_staging.campaign.service import launch
from pytest_staging.model.building import Image
from pytest_staging.model.errors import ServiceFailed
from pytest_staging.model.ports import Deployment
from pytest_staging.model.script import ScriptSpec
from pytest_staging.model.version import ImageSpec, ModeSpec, Runtime
from pytest_staging.targets.local import LocalTarget
from pytest_staging.targets.script import ScriptTarget


def make_target(lab: Lab) -> ScriptTarget:
    """As docs/k3s.md says; the settings are the lab's."""
    commands = {name: ("scripts/e2e-k3s-helm.sh", name) for name in ("deploy", "destroy", "status", "log", "memory")}
    return ScriptTarget(LocalTarget(), ScriptSpec(**commands, environment=lab.settings), ROOT)


def deployment(folder: Path) -> Deployment:
    return Deployment(
        campaign_id="c1",
        cell_id="run001-jvm-nodelay",
        image=Image(ref=IMAGE, id=IMAGE, size_bytes=1),
        mode=ModeSpec(runtime=Runtime.JVM, image=ImageSpec(port=9090), environment={"A": "it's"}),
        snapshot=folder / "snapshot",
        log=folder / "service.log",
        environment={"STAGING_VERSION": "nodelay", "STAGING_MODE": "jvm"},
    )


def test_a_cell_on_k3s(lab: Lab, tmp_path: Path) -> None:
    """SM-06: deployed over SSH, healthy at the node port, its log fetched, and all of it gone at the end."""
    port = free_port()
    (lab.there.state / "node_port").write_text(str(port))
    lab.there.wish("serve")
    target = make_target(lab)
    target.require_ready()
    with target.lease("campaign c1", 1):
        service = launch(target, deployment(tmp_path))
        assert service.base_url == f"http://127.0.0.1:{port}"
        assert lab.there.values["image"]["reference"] == NAMED_BY_CONTENT
        assert lab.there.values["port"] == 9090
        assert '"A": "it\'s"' in lab.there.values["environmentJson"]
        assert service.service.stop(5.0) == "destroyed"
    assert (tmp_path / "service.log").read_text().strip() == "the service's last words"
    assert lab.there.left() == lab.remnants() == []


def test_a_cell_that_k3s_does_not_start(lab: Lab, tmp_path: Path) -> None:
    """SM-06: the cell's reason is the deploy's, with what the cluster says."""
    lab.there.wish("helm-fails")
    with pytest.raises(ServiceFailed, match="deploy command ended with status 1") as caught:
        make_target(lab).deploy(deployment(tmp_path))
    assert "ImagePullBackOff" in (tmp_path / "deploy.log").read_text()
    assert "the deploy failed" in caught.value.log_tail
    assert lab.there.left() == lab.remnants() == []


HOLD = """
import json, sys
from pathlib import Path
from k3s_lab import Lab, Machine
from test_k3s_target import deployment, make_target
folder = Path(sys.argv[1])
lab = Lab(Machine(folder / "here"), Machine(folder / "there"), json.loads(sys.stdin.readline()))
target = make_target(lab)
with target.lease("campaign first", 20):
    target.deploy(deployment(folder))
"""


def test_a_campaign_that_was_killed_while_it_deployed(lab: Lab, tmp_path: Path) -> None:
    """SM-06: the next lease destroys what is on the host, and ends what still runs there."""
    lab.there.wish("helm-hangs")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", HOLD, str(lab.there.folder.parent)]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, text=True) as process:
        assert process.stdin
        process.stdin.write(json.dumps(lab.settings) + "\n")
        process.stdin.flush()
        wait_for(lambda: (lab.there.state / "helm.pid").exists())
        process.send_signal(signal.SIGKILL)
    assert lab.there.left() != []
    with make_target(lab).lease("second", 20):
        assert lab.there.left() == []
    left = [one for one in lab.remnants() if not one.startswith(lab.settings["TMPDIR"])]
    assert left == [], "a folder in the temporary folder is all that a kill -9 leaves here"
