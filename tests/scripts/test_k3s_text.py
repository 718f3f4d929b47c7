"""What can be said about the k3s scripts and their chart without running them against a host."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from k3s_lab import ROOT, SCRIPT
from workspaces import give_up

SCRIPTS = [SCRIPT, *sorted((ROOT / "scripts/lib").glob("e2e-k3s-*.sh"))]
CHART = ROOT / "deploy/k3s"
INTO_A_VM = "multipass" + r"\W+(exec|shell)\b"
PLACES = ("README.md", "CHANGELOG.md", "docs", "scripts", "deploy", "pytest_staging", "tests", "benchmark", "versions")
HOSTILE = "c 1\"'; $(id) `x` {{ .Release.Name }} \n\t: # \\ $(STAGING_PORT)"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_bash_can_read_it(path: Path) -> None:
    """SM-06: `bash -n`, and a script stops at the first failure."""
    checked = subprocess.run(["bash", "-n", path], capture_output=True, text=True, timeout=10)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert re.search(r"^set -(e)?uo pipefail$", SCRIPT.read_text(), re.MULTILINE)


def test_shellcheck() -> None:
    """SM-06: shellcheck finds nothing in the scripts and in what they send to the host."""
    if not shutil.which("shellcheck"):
        give_up("shellcheck is missing: apt-get install shellcheck")
    checked = subprocess.run(
        ["shellcheck", "--external-sources", *SCRIPTS], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert checked.stdout == ""


def test_ssh_is_the_only_way_into_a_vm() -> None:
    """SM-06: no file of the repository runs a command in a VM through the multipass CLI, in any spelling."""
    files = [path for place in PLACES for path in [ROOT / place, *(ROOT / place).rglob("*")] if path.is_file()]
    assert len(files) > 100
    assert [str(path) for path in files if re.search(INTO_A_VM.encode(), path.read_bytes())] == []
    used = re.findall(r"\bmultipass (\w+) (?:--\w+ )?\"", "\n".join(map(Path.read_text, SCRIPTS)))
    assert set(used) == {"info", "launch", "delete"}


def test_no_path_of_a_machine_is_written_down() -> None:
    """SM-06: no home, no kubeconfig, no key: they come from the environment."""
    text = "\n".join(path.read_text() for path in SCRIPTS)
    assert re.findall(r"/home/|/root\b|/Users/|~/|\$HOME|\.kube\b|k3s\.yaml|/etc/|\.ssh/|id_ed25519|id_rsa", text) == []


def test_the_help_names_every_setting_that_is_needed() -> None:
    """The help text comes without a setting and without a host."""
    shown = subprocess.run([SCRIPT, "--help"], capture_output=True, text=True, timeout=10)
    assert shown.returncode == 0
    needed = re.findall(r"^ +require (\w+)", "\n".join(map(Path.read_text, SCRIPTS)), re.MULTILINE)
    assert len(needed) > 8
    assert [name for name in needed if name not in shown.stdout and name != "STAGING_VERSION_ROOT"] == []


def test_the_document_names_every_setting() -> None:
    """docs/k3s.md is the reference: each variable that a script reads stands there."""
    text = "\n".join(path.read_text() for path in SCRIPTS)
    read = set(re.findall(r"\b(E2E_[A-Z0-9_]+|STAGING_[A-Z0-9_]+)\b", text)) - {"STAGING_K3S_DEPLOY"}
    documented = (ROOT / "docs/k3s.md").read_text()
    assert sorted(name for name in read if f"`{name}" not in documented) == []


def render(**changes: Any) -> dict[str, Any]:
    """The chart's objects by kind, as Helm's own engine makes them."""
    helm = pytest.importorskip("helm_python", reason="Helm's engine is missing: pip install helm-python-sdk")
    purposes = {"campaign": "c1", "cell": "x", "version": "1.10", "mode": "true"}
    values = {"image": {"reference": "a/b:c"}, "labels": purposes, "annotations": purposes, **changes}
    assert helm.lint(str(CHART), values, strict=True)["errors"] == []
    with helm.Chart.load(str(CHART)) as chart:
        rendered = chart.render(values, name="staging", namespace="ns-1")
    objects = [yaml.safe_load(text) for text in rendered.values() if text.strip()]
    return {one["kind"]: one for one in objects}


def test_the_chart_limits_labels_and_publishes() -> None:
    """SM-06: limits that are requests too, labels that stay texts, a node port, one pod, no probe under load."""
    objects = render(nodePort=30123)
    pod = objects["Deployment"]["spec"]["template"]
    container = pod["spec"]["containers"][0]
    assert container["resources"] == {kind: {"cpu": "1", "memory": "512Mi"} for kind in ("requests", "limits")}
    labels = {"pytest-staging/version": "1.10", "pytest-staging/mode": "true", "pytest-staging/cell": "x"}
    assert all(labels.items() <= one["metadata"]["labels"].items() for one in (pod, *objects.values()))
    assert objects["Service"]["spec"]["type"] == "NodePort"
    assert objects["Service"]["spec"]["ports"][0]["nodePort"] == 30123
    assert objects["Service"]["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert objects["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}
    assert "startupProbe" in container
    assert not {"readinessProbe", "livenessProbe"} & set(container)


def test_the_chart_takes_any_text() -> None:
    """SM-06: annotations and the service's environment keep every character; where it listens is not the user's."""
    given = {"A": HOSTILE, "B": "true", "STAGING_PORT": "1"}
    objects = render(environmentJson=json.dumps(given), annotations=dict.fromkeys(["cell", "mode"], HOSTILE))
    assert objects["Deployment"]["metadata"]["annotations"]["pytest-staging/cell"] == HOSTILE
    container = objects["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    seen = {one["name"]: one["value"] for one in container["env"]}
    # Kubernetes makes $( of $$(.
    assert {name: value.replace("$$(", "$(") for name, value in seen.items()} == {
        "A": HOSTILE, "B": "true", "STAGING_HOST": "0.0.0.0", "STAGING_PORT": "8080",
    }  # fmt: skip
    assert "$$(STAGING_PORT)" in seen["A"]
