"""The sample's Dockerfiles: each version and mode as an image that answers, stops when told to, and stays small."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from dockering import BASE_IMAGES, ROOT, Engine, run_script

VERSIONS = ("baseline", "nodelay", "eager-buffers")
MODES = ("jvm", "native")
MAX_IMAGE_BYTES = {"jvm": 120_000_000, "native": 10_000_000}
PORT = 8080
BUILD_TIMEOUT_S = 120.0
READY_TIMEOUT_S = 60.0
REPLY_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 60.0
LABEL = f"staging.lab-test={uuid4().hex}"

Key = tuple[str, str]
CELLS = pytest.mark.parametrize(("version", "mode"), [(version, mode) for version in VERSIONS for mode in MODES])


def snapshot(version: str) -> Path:
    return ROOT / "versions" / version / "snapshot"


@pytest.fixture(scope="module")
def images(engine: Engine) -> Iterator[Mapping[Key, str]]:
    """An image id for each version and mode, built without a network."""

    def build(key: Key) -> str:
        version, mode = key
        folder = snapshot(version)
        return engine(
            "build", "--quiet", "--network", "none", "--label", LABEL,
            "--file", str(folder / f"Dockerfile.{mode}"), str(folder),
            timeout_s=BUILD_TIMEOUT_S,
        )  # fmt: skip

    keys = [(version, mode) for mode in MODES for version in VERSIONS]
    with ThreadPoolExecutor(2) as pool:
        built = dict(zip(keys, pool.map(build, keys), strict=True))
    yield built
    engine("image", "rm", "--force", *built.values())


@pytest.fixture(scope="module")
def network(engine: Engine) -> Iterator[str]:
    """A network of the module's own; that it can be removed shows that no container is left in it."""
    name = engine("network", "create", "--label", LABEL, f"staging-lab-{uuid4().hex[:8]}")
    yield name
    engine("network", "rm", name)
    assert engine("ps", "--all", "--quiet", "--filter", f"label={LABEL}") == ""
    assert engine("network", "ls", "--quiet", "--filter", f"label={LABEL}") == ""


@pytest.fixture
def container(engine: Engine, images: Mapping[Key, str], network: str, version: str, mode: str) -> Iterator[str]:
    """A running container of the version and mode, published on a free port of 127.0.0.1."""
    name = engine(
        "run", "--detach", "--label", LABEL, "--network", network, "--publish", f"127.0.0.1::{PORT}",
        "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", images[version, mode],
    )  # fmt: skip
    yield name
    engine("rm", "--force", "--volumes", name)


def request(url: str, body: bytes | None = None) -> Any:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, body, timeout=REPLY_TIMEOUT_S) as reply:
        return json.load(reply)


def wait_until_healthy(url: str) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while True:
        try:
            assert request(f"{url}/healthz") == {"status": "UP"}
            return
        except OSError:  # nothing listens yet, or docker-proxy does and the service does not
            assert time.monotonic() < deadline, f"{url} is not healthy after {READY_TIMEOUT_S} s"
            time.sleep(0.02)


@CELLS
def test_image_answers_and_stops(engine: Engine, container: str, version: str, mode: str) -> None:
    """A published container answers, and SIGTERM ends it with 0; a SIGKILL would say 137."""
    url = "http://" + engine("port", container, str(PORT))
    wait_until_healthy(url)
    assert request(f"{url}/invoke/collatz", b'{"limit":10}') == {"limit": 10, "start": 9, "length": 20}
    engine("kill", "--signal", "TERM", container)
    assert engine("wait", container, timeout_s=STOP_TIMEOUT_S) == "0", engine("logs", container)
    state = engine.inspect("container", container)["State"]
    assert (state["OOMKilled"], state["Error"]) == (False, "")


@CELLS
def test_image_is_small_and_needs_no_rights(
    engine: Engine, images: Mapping[Key, str], version: str, mode: str
) -> None:
    """What pulling, copying and starting it cost, and as whom it runs."""
    found = engine.inspect("image", images[version, mode])
    assert found["Size"] < MAX_IMAGE_BYTES[mode]
    assert found["Config"]["User"] == "65534:65534"
    assert found["Config"]["ExposedPorts"] == {f"{PORT}/tcp": {}}


def test_java_starts_with_its_class_archive(engine: Engine) -> None:
    """Without the archive every start would be slower than that of the same version as a local process."""
    options = ("--rm", "--network", "none", "--label", LABEL, "--entrypoint", "java")
    engine("run", *options, "staging-lab/jre:17", "-Xshare:on", "-XX:+UseSerialGC", "-version")


def test_base_images_are_made_once(engine: Engine) -> None:
    """A second call keeps the ids, on which every cache above rests."""
    tags = ("staging-lab/jre:17", "staging-lab/jdk:17", "staging-lab/cc:12")
    before = [engine.inspect("image", tag)["Id"] for tag in tags]
    again = run_script(BASE_IMAGES)
    assert again.returncode == 0, again.stderr
    assert [line.split()[1:] for line in again.stderr.splitlines()] == [[tag, "is", "up", "to", "date"] for tag in tags]
    assert [engine.inspect("image", tag)["Id"] for tag in tags] == before


def exec_form(dockerfile: Path, instruction: str) -> list[str]:
    """The last exec form of an instruction."""
    text = dockerfile.read_text().replace("\\\n", "")
    arguments: list[str] = json.loads(re.findall(rf"^{instruction} (\[.*\])$", text, re.MULTILINE)[-1])
    return arguments


@CELLS
def test_dockerfile_says_what_service_yaml_says(version: str, mode: str) -> None:
    """The same service in a container as in a process: same compiler options, same start; only native is static."""
    declared = yaml.safe_load((snapshot(version) / "service.yaml").read_text())["modes"][mode]
    dockerfile = snapshot(version) / f"Dockerfile.{mode}"
    sources = {"java/": "/source/", "native/": "/source/", "{artifact}": "/artifact"}

    def in_container(command: list[str]) -> list[str]:
        for here, there in sources.items():
            command = [re.sub(rf"^{re.escape(here)}", there, argument) for argument in command]
        return [argument.replace("/artifact/service", "/service") for argument in command]

    (build,) = declared["build"]
    assert [word for word in exec_form(dockerfile, "RUN") if word != "-static"] == in_container(build)
    assert exec_form(dockerfile, "ENTRYPOINT") == in_container(declared["start"])
