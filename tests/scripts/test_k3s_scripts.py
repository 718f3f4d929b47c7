"""scripts/e2e-k3s-helm.sh over a real SSH connection, to a host with recording helm, kubectl, k3s and docker."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from k3s_lab import IMAGE, NAMED_BY_CONTENT, NAMESPACE, RUN_TIMEOUT_S, Lab, alive, wait_gone
from workspaces import wait_for

URL = "http://127.0.0.1:30123"
NEEDED = (
    "NAMESPACE", "E2E_VM_HOST", "E2E_VM_USER", "E2E_VM_HOME", "E2E_SSH_KEY", "E2E_KUBECONFIG_PATH",
    "E2E_REMOTE_PROJECT_DIR", "STAGING_IMAGE",
)  # fmt: skip
HOSTILE = "a b'\"; touch canary; $(touch canary) `touch canary` & | > canary * \\ %h ${HOME} #é"


def deployed(lab: Lab) -> bool:
    return bool(lab.there.calls("helm upgrade"))


def test_deploy_prints_where_it_answers(lab: Lab) -> None:
    """SM-06: one version in one mode: image, namespace, chart, and the address last on standard output."""
    done = lab.run("deploy")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"namespace={NAMESPACE}\nimage={NAMED_BY_CONTENT}\nurl={URL}\n"
    assert (lab.there.state / "images").read_text() == f"{NAMED_BY_CONTENT}\n", "the archive arrived whole"
    helm = lab.there.calls("helm upgrade")[0]
    assert helm.startswith("helm upgrade --install staging ")
    assert helm.endswith(f"--namespace {NAMESPACE} --values " + helm.split()[-4] + " --wait --timeout 180s")
    purposes = {"campaign": "c1", "cell": "run001-jvm-nodelay", "version": "nodelay", "mode": "jvm"}
    assert lab.there.values["labels"] == lab.there.values["annotations"] == purposes
    assert lab.there.values["image"] == {"reference": NAMED_BY_CONTENT, "pullPolicy": "Never"}
    assert lab.there.values["resources"] == {"cpu": "1", "memory": "512Mi"}


def test_destroy_leaves_nothing_and_may_be_repeated(lab: Lab) -> None:
    """SM-06: also where nothing was ever deployed."""
    assert lab.run("destroy").returncode == 0
    assert lab.run("deploy").returncode == 0
    assert lab.there.left() == [f"namespace.{NAMESPACE}", f"release.{NAMESPACE}"]
    for _ in range(2):
        done = lab.run("destroy")
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert lab.there.left() == lab.remnants() == []


def test_an_image_that_is_there_is_not_sent_again(lab: Lab) -> None:
    """SM-06: the node knows images by their content: nothing is saved, sent or tagged a second time."""
    assert lab.run("deploy").returncode == 0
    before = lab.here.calls()
    assert lab.run("deploy").returncode == 0
    assert [call.split()[2] for call in lab.here.calls()[len(before) :]] == ["inspect"]
    assert len(lab.there.calls("k3s ctr --namespace k8s.io images import")) == 1


@pytest.mark.parametrize(("tags", "untagged"), [("1", True), ("0", False)])
def test_the_tag_for_sending_goes_again(lab: Lab, tags: str, untagged: bool) -> None:
    """Unless it became the image's only tag: removing that would remove the image."""
    (lab.here.state / "docker-tags").write_text(tags)
    assert lab.run("deploy").returncode == 0
    assert (lab.here.calls("docker image rm") != []) is untagged


def test_every_text_arrives_as_it_is(lab: Lab, tmp_path: Path) -> None:
    """SM-06: spaces, quotes, semicolons, substitutions in any variable are text, here and on the host."""
    folder = Path(lab.settings["E2E_VM_HOME"]) / HOSTILE.replace("/", "_")
    folder.mkdir()
    (folder / "key").symlink_to(lab.settings["E2E_SSH_KEY"])
    (folder / "known").symlink_to(lab.settings["E2E_SSH_KNOWN_HOSTS"])
    (folder / "kube\nconfig").touch()
    (lab.here.state / "docker-images").write_text(HOSTILE)
    names = ("STAGING_VERSION", "STAGING_MODE", "STAGING_CAMPAIGN", "STAGING_CELL", "STAGING_IMAGE", "STAGING_HEALTH")
    service = json.dumps({"A": HOSTILE + "\n\t"})
    changes = dict.fromkeys(names, HOSTILE) | {
        "E2E_VM_HOME": str(folder), "E2E_SSH_KEY": str(folder / "key"), "E2E_SSH_KNOWN_HOSTS": str(folder / "known"),
        "E2E_KUBECONFIG_PATH": str(folder / "kube\nconfig"), "E2E_REMOTE_PROJECT_DIR": str(folder / "project"),
        "E2E_REMOTE_PATH": HOSTILE, "E2E_CGROUP_ROOT": HOSTILE, "STAGING_DOCKERFILE": HOSTILE,
        "STAGING_SERVICE_ENVIRONMENT": service,
    }  # fmt: skip
    done = lab.run("deploy", **changes)
    assert done.returncode == 0, done.stderr
    seen = (lab.there.state / "helm.environment").read_text()
    assert seen == f"KUBECONFIG={folder}/kube\nconfig\nHOME={folder}\n"
    assert set(lab.there.values["annotations"].values()) == {HOSTILE}
    assert lab.there.values["health"] == HOSTILE
    assert json.loads(lab.there.values["environmentJson"]) == json.loads(service)
    label = set(lab.there.values["labels"].values()).pop()
    assert len(label) <= 63
    assert label.startswith("a-b---")
    assert lab.run("destroy", **changes).returncode == 0
    assert list((folder / "project").iterdir()) == []
    assert [path for place in (Path.cwd(), Path.home()) for path in place.glob("canary*")] == []
    assert list(folder.parent.rglob("canary*")) == []


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_setting(lab: Lab, name: str) -> None:
    """SM-06: one line that names it, exit code 2, and nothing is done."""
    done = lab.run("deploy", **{name: None})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f">> {name} is not set: ")
    assert len(done.stderr.splitlines()) == 1
    assert lab.there.calls() == lab.remnants() == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NAMESPACE", "a;b"),
        ("NAMESPACE", "Upper"),
        ("NAMESPACE", "n" * 64),
        ("E2E_VM_HOST", "-oProxyCommand=touch canary"),
        ("E2E_VM_USER", "a b"),
        ("E2E_VM_HOME", "here"),
        ("E2E_KUBECONFIG_PATH", "config"),
        ("E2E_SSH_KEY", "/no such file"),
        ("E2E_VM_LIFECYCLE", "vagrant"),
        ("E2E_DEPLOY_TIMEOUT_S", "5m"),
        ("E2E_SSH_ACCEPT_NEW", "yes"),
        ("E2E_IMAGE_SOURCE", "copy"),
        ("STAGING_CPUS", "many"),
        ("STAGING_MEMORY_MB", "1e3"),
        ("E2E_NODE_PORT", "0"),
    ],
)
def test_a_setting_that_cannot_be_meant(lab: Lab, name: str, value: str) -> None:
    """One line that names it and what is needed."""
    done = lab.run("deploy", **{name: value})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f">> {name} is '{value}', and ")
    assert lab.there.calls() == []


@pytest.mark.parametrize("command", ["", "exec", "--quiet"])
def test_an_unknown_command(lab: Lab, command: str) -> None:
    done = lab.run(command)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Known: deploy, status, log, memory, destroy, remove-vm" in done.stderr


@pytest.mark.parametrize(
    ("program", "changes"),
    [("helm", {}), ("kubectl", {}), ("k3s", {}), ("docker", {"E2E_IMAGE_SOURCE": "build"})],
)
def test_a_program_that_the_host_lacks(lab: Lab, tmp_path: Path, program: str, changes: dict[str, str]) -> None:
    """SM-06: one line that says on which host and what to install."""
    (tmp_path / "Dockerfile").touch()
    lab.there.take(program)
    done = lab.run("deploy", STAGING_VERSION_ROOT=str(tmp_path), **changes)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f">> {program} is missing on 127.0.0.1: ")
    assert len(done.stderr.splitlines()) == 1
    assert lab.remnants() == []


def test_a_kubeconfig_that_cannot_be_read(lab: Lab) -> None:
    done = lab.run("deploy", E2E_KUBECONFIG_PATH="/no such/config")
    assert done.returncode == 2
    assert done.stderr.startswith(">> E2E_KUBECONFIG_PATH is '/no such/config', and ")


@pytest.mark.parametrize("multiplex", ["0", "1"])
def test_host_keys_are_checked(lab: Lab, multiplex: str) -> None:
    """SM-06: an unknown key is refused unless E2E_SSH_ACCEPT_NEW=1; a changed one always."""
    known_hosts = Path(lab.settings["E2E_SSH_KNOWN_HOSTS"])
    known = known_hosts.read_text()
    known_hosts.write_text("")
    done = lab.run("status", E2E_SSH_MULTIPLEX=multiplex)
    assert done.returncode == 2
    assert "host key that is not known" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert lab.run("destroy", E2E_SSH_MULTIPLEX=multiplex, E2E_SSH_ACCEPT_NEW="1").returncode == 0
    assert known_hosts.read_text().split()[2] == known.split()[2]
    login_key = Path(f"{lab.settings['E2E_SSH_KEY']}.pub").read_text().split()[1]
    known_hosts.write_text(known.replace(known.split()[2], login_key))
    done = lab.run("destroy", E2E_SSH_MULTIPLEX=multiplex, E2E_SSH_ACCEPT_NEW="1")
    assert done.returncode == 2
    assert "another host key than the known one" in done.stderr
    assert lab.remnants() == []


def test_a_key_that_the_host_does_not_take(lab: Lab, sshd: object) -> None:
    """Nobody is asked for a password."""
    done = lab.run("status", E2E_SSH_KEY=str(Path(lab.settings["E2E_SSH_KEY"]).parent / "host_key"))
    assert done.returncode == 2
    assert "does not take the key" in done.stderr
    assert "PRIVATE KEY" not in done.stderr


def test_a_host_that_does_not_answer(lab: Lab) -> None:
    done = lab.run("destroy", E2E_SSH_PORT="1")
    assert done.returncode == 1
    assert "cannot be reached by SSH: " in done.stderr
    assert "Connection refused" in done.stderr
    assert lab.remnants() == []


def test_a_failed_deploy_shows_why_and_cleans_up(lab: Lab) -> None:
    """SM-06: pods, events and the last lines of the log; then everything is removed."""
    lab.there.wish("helm-fails")
    done = lab.run("deploy")
    assert (done.returncode, done.stdout) == (1, "")
    for words in ("context deadline exceeded", "ImagePullBackOff", "event: back-off", "the service's last words"):
        assert words in done.stderr
    assert lab.there.left() == lab.remnants() == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_deploy_leaves_nothing(lab: Lab, number: signal.Signals, code: int) -> None:
    """SM-06: helm is ended on the host, the namespace goes, and no file and no connection stays."""
    lab.there.wish("helm-hangs")
    with lab.running("deploy") as process:
        pid = int(wait_for(lambda: (path := lab.there.state / "helm.pid").exists() and path.read_text().strip()))
        process.send_signal(number)
        assert process.wait(RUN_TIMEOUT_S) == code, "helm itself would take 300 s"
        wait_gone(pid)
        assert process.stdout
        assert process.stdout.read() == "", "no address of something that is gone"
    assert lab.there.left() == lab.remnants() == []


def test_destroy_ends_a_deploy_whose_script_was_killed(lab: Lab) -> None:
    """SM-06: on the host it goes on by itself, and would bring back what is removed."""
    lab.there.wish("helm-hangs")
    with lab.running("deploy", E2E_SSH_MULTIPLEX="0") as process:
        pid = int(wait_for(lambda: (path := lab.there.state / "helm.pid").exists() and path.read_text().strip()))
        process.kill()
        process.wait()
        assert alive(pid), "the test proves something only while it lives"
        assert lab.run("destroy").returncode == 0
        wait_gone(pid)
    assert lab.there.left() == []


def test_somebody_elses_namespace_stays(lab: Lab) -> None:
    """Only a namespace that deploy made is removed; in another only the release is, and its pods are waited for."""
    (lab.there.state / f"namespace.{NAMESPACE}").touch()
    assert lab.run("deploy").returncode == 0
    lab.there.wish("lingers")
    assert lab.run("destroy").returncode == 0
    assert lab.there.left() == [f"namespace.{NAMESPACE}"]
    looks = [call for call in lab.there.calls("kubectl") if "deployments" in call]
    assert len(looks) == 3, "once before the deploy, and until the pod is gone"


@pytest.mark.parametrize("trouble", ["namespace-stays", "kubectl-fails"])
def test_what_may_be_left_is_said(lab: Lab, trouble: str) -> None:
    """A removal that was not seen to succeed is a failure, and the next deploy does not go on over it."""
    assert lab.run("deploy").returncode == 0
    lab.there.wish(trouble)
    done = lab.run("destroy")
    assert done.returncode == 1
    assert f"something may be left in namespace {NAMESPACE}" in done.stderr
    assert lab.run("deploy").returncode == 1
    assert len(lab.there.calls("helm upgrade")) == 1


def test_a_host_that_hangs(lab: Lab) -> None:
    """SM-06: every wait has a deadline."""
    lab.there.wish("kubectl-hangs")
    done = lab.run("status", E2E_COMMAND_TIMEOUT_S="1")
    assert done.returncode == 1
    assert "host_status did not end within 1 s" in done.stderr
    assert lab.remnants() == []


@pytest.mark.parametrize(
    ("pods", "state", "code"),
    [("true/0 ", "ready", 0), ("true/1 ", "restarted", 3), ("false/0 ", "starting", 3), ("", "starting", 3)],
)
def test_status(lab: Lab, pods: str, state: str, code: int) -> None:
    """SM-06: a pod that was restarted under load is not the one that was deployed."""
    (lab.there.state / f"release.{NAMESPACE}").touch()
    (lab.there.state / "pods").write_text(pods)
    done = lab.run("status")
    assert done.stdout == f"state={state}\n" + (f"url={URL}\n" if code == 0 else "")
    assert done.returncode == code


def test_status_of_nothing(lab: Lab) -> None:
    done = lab.run("status")
    assert (done.returncode, done.stdout) == (3, "state=absent\n")


def test_log_and_memory(lab: Lab) -> None:
    """The pod's control group, whichever way its name is written, and not that of a container in it."""
    assert lab.run("log").stdout.strip() == "the service's last words"
    (lab.there.state / "uid").write_text("12-ab")
    groups = Path(lab.settings["E2E_VM_HOME"]) / "cgroup"
    for name, peak in {"other": 1, "kubepods-pod12_ab.slice": 4711, "kubepods-pod12_ab.slice/cri-1": 3}.items():
        (groups / name).mkdir(parents=True)
        (groups / name / "memory.peak").write_text(f"{peak}\n")
    assert lab.run("memory", E2E_CGROUP_ROOT=str(groups)).stdout == "4711\n"
    assert lab.run("memory", E2E_CGROUP_ROOT=str(groups / "other")).returncode == 1


def test_an_image_built_on_the_host(lab: Lab, tmp_path: Path) -> None:
    """From the version root, once for the same files."""
    (tmp_path / "Dockerfile").write_text("FROM x\n")
    build = {"E2E_IMAGE_SOURCE": "build", "STAGING_VERSION_ROOT": str(tmp_path), "STAGING_IMAGE": None}
    for _ in range(2):
        done = lab.run("deploy", **build, E2E_REMOTE_SUDO="1")
        assert done.returncode == 0, done.stderr
    assert len(lab.there.calls("docker build")) == 1
    assert (lab.there.state / "built").read_text() == "FROM x\n"
    assert lab.here.calls() == []
    (tmp_path / "Dockerfile").write_text("FROM y\n")
    assert lab.run("deploy", **build).returncode == 0
    assert len(set((lab.there.state / "images").read_text().split())) == 2


def test_an_image_of_a_registry(lab: Lab) -> None:
    """Is the cluster's to fetch."""
    lab.there.take("k3s")
    assert lab.run("deploy", E2E_IMAGE_SOURCE="registry").returncode == 0
    assert lab.there.values["image"] == {"reference": IMAGE, "pullPolicy": "IfNotPresent"}
    assert lab.here.calls() == []


def test_half_an_image_is_not_used(lab: Lab) -> None:
    """An archive that broke off is removed from the node, whose import may have taken it."""
    lab.here.wish("save-fails")
    done = lab.run("deploy")
    assert done.returncode == 1
    assert "docker could not save the image" in done.stderr
    assert (lab.there.state / "images").read_text() == ""
    assert not deployed(lab)
    assert lab.there.left() == lab.remnants() == []


def test_an_import_that_fails(lab: Lab) -> None:
    lab.there.wish("import-fails")
    done = lab.run("deploy")
    assert done.returncode == 1
    assert "no space left on device" in done.stderr
    assert lab.there.left() == lab.remnants() == []


def test_an_image_that_is_not_here(lab: Lab) -> None:
    done = lab.run("deploy", STAGING_IMAGE="gone:jvm")
    assert done.returncode == 1
    assert "the image gone:jvm is not in this machine's engine: Error: No such image: gone:jvm" in done.stderr


def test_nothing_secret_is_printed(lab: Lab) -> None:
    """SM-06: what the service is given stands in no output and in no command line."""
    done = lab.run("deploy", STAGING_SERVICE_ENVIRONMENT='{"TOKEN": "hunter2"}')
    assert done.returncode == 0
    assert lab.there.values["environmentJson"] == '{"TOKEN": "hunter2"}'
    everything = [done.stdout, done.stderr, *lab.here.calls(), *lab.there.calls()]
    assert not any("hunter2" in text or "PRIVATE" in text for text in everything)
    values = next(Path(lab.settings["E2E_REMOTE_PROJECT_DIR"]).rglob("values.json"))
    assert values.stat().st_mode & 0o077 == 0


def test_the_address_can_be_given(lab: Lab) -> None:
    """For a tunnel or a proxy in front of the host."""
    done = lab.run("deploy", E2E_BASE_URL="http://127.0.0.1:18080", E2E_NODE_PORT="30999")
    assert done.stdout.splitlines()[-1] == "url=http://127.0.0.1:18080"
    assert lab.there.values["nodePort"] == 30999


VM = {"E2E_VM_LIFECYCLE": "multipass", "E2E_VM_NAME": "staging-one", "E2E_VM_HOST": None}


def test_a_vm_is_made_found_and_deleted(lab: Lab) -> None:
    """SM-06: the multipass CLI makes the VM with our key in it, says its address, deletes it; the rest is SSH."""
    assert lab.run("destroy", **VM).returncode == 2, "only deploy makes one"
    for _ in range(2):
        done = lab.run("deploy", **VM)
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith(f"url={URL}\n")
    launched = lab.here.calls("multipass launch")
    assert len(launched) == 1
    public = Path(f"{lab.settings['E2E_SSH_KEY']}.pub").read_text().strip()
    assert (lab.here.state / "cloud-init").read_text() == f"#cloud-config\nssh_authorized_keys:\n  - {public}\n"
    assert lab.run("destroy", **VM).returncode == 0
    assert lab.here.calls("multipass delete") == [], "a cell's end is not the VM's"
    for _ in range(2):
        assert lab.run("remove-vm", **VM).returncode == 0
    assert lab.here.calls("multipass delete") == ["multipass delete --purge staging-one"]
    assert {call.split()[1] for call in lab.here.calls("multipass")} == {"info", "launch", "delete"}


def test_an_external_host_is_neither_made_nor_deleted(lab: Lab) -> None:
    """SM-06: nor is a VM whose name is not one of ours."""
    for command in ("deploy", "destroy"):
        assert lab.run(command).returncode == 0
    done = lab.run("remove-vm")
    assert done.returncode == 2
    assert "neither made nor deleted" in done.stderr
    assert lab.run("remove-vm", **{**VM, "E2E_VM_NAME": "primary"}).returncode == 2
    assert lab.here.calls("multipass") == []


def test_the_environment_of_the_caller_is_enough(lab: Lab) -> None:
    """No HOME, no USER: nothing is guessed from them."""
    assert not {"HOME", "USER"} & set(lab.environment())
    assert "HOME" in os.environ
    assert lab.run("deploy").returncode == 0
