"""What a builder really sends of a context is what counts, however it reads the .dockerignore."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from dockering import CALL_TIMEOUT_S, Engine, give_up

from pytest_staging.dockerignore import parse_dockerignore

docker = pytest.importorskip("docker")

FILES = [
    "a", "README.md", "readme.txt", "a+b", "aab", "x[1].c", "x1.c", "foo", "xfoo", "keep", "#hash", "Dock/x",
    "dir/a", "dir/keep", "dir/sub/a", "dir/sub/deep/keep", "other/dir/a", "other/dir/keep", "other/b.c",
]  # fmt: skip
# The builder needs them, whatever the rules say.
ALWAYS_COUNTED = {"Dockerfile", ".dockerignore"}

Send = Callable[[Path], set[str]]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "link").symlink_to("dir")
    # Of its own: another run on this machine must not get, and remove, the same image.
    label = f"LABEL staging.lab={uuid4().hex}"
    (tmp_path / "Dockerfile").write_text(f'FROM scratch\n{label}\nCOPY . /context/\nCMD ["nothing"]\n')
    return tmp_path


@pytest.fixture(scope="session")
def senders(engine: Engine) -> dict[str, Send]:
    """The SDK, and the first docker client on PATH that has BuildKit."""
    client = docker.from_env(environment=dict(engine.environment))

    def send_by_sdk(context: Path) -> set[str]:
        image, _ = client.images.build(path=str(context), rm=True)
        return read_context(engine, image.id)

    program = find_buildkit(engine)
    return {"SDK": send_by_sdk, "BuildKit": lambda context: read_context(engine, build(engine, program, str(context)))}


def find_buildkit(engine: Engine) -> str:
    """Some clients need a plugin for BuildKit, and the machine may have another client beside."""
    programs = dict.fromkeys(shutil.which("docker", path=folder) for folder in os.get_exec_path())
    found = next((one for one in programs if one and has_buildkit(engine, one)), None)
    return found or give_up("no docker client on PATH has BuildKit")


def has_buildkit(engine: Engine, program: str) -> bool:
    try:
        return bool(build(engine, program, "-", 'FROM scratch\nLABEL staging.lab="has BuildKit"\n'))
    except subprocess.CalledProcessError:
        return False


def build(engine: Engine, program: str, context: str, dockerfile: str = "") -> str:
    """The image's id."""
    done = subprocess.run(
        [program, "build", "--quiet", context],
        env={**engine.environment, "DOCKER_BUILDKIT": "1"},
        input=dockerfile,
        capture_output=True,
        text=True,
        check=True,
        timeout=CALL_TIMEOUT_S,
    )
    return done.stdout.split()[-1]


def read_context(engine: Engine, image: str) -> set[str]:
    """Files and links below /context of an image, which goes away."""
    container = engine("create", image)
    try:
        exported = subprocess.run(
            ["docker", "export", container],
            env=engine.environment,
            capture_output=True,
            check=True,
            timeout=CALL_TIMEOUT_S,
        )
    finally:
        engine("rm", container)
        engine("rmi", image)
    with tarfile.open(fileobj=io.BytesIO(exported.stdout)) as archive:
        names = {member.name for member in archive if not member.isdir()}
    return {name.removeprefix("context/") for name in names if name.startswith("context/")}


def files_of(context: Path) -> Iterator[str]:
    for path in context.rglob("*"):
        if path.is_symlink() or path.is_file():
            yield path.relative_to(context).as_posix()


def compare(senders: dict[str, Send], context: Path, rules: str) -> tuple[set[str], dict[str, set[str]]]:
    """What counts, and what each builder sends of it; a file that is sent and does not count fails the test."""
    (context / ".dockerignore").write_text(rules)
    ignored = parse_dockerignore(rules)
    counted = {name for name in files_of(context) if not ignored(name)} | ALWAYS_COUNTED
    sent = {who: send(context) | ALWAYS_COUNTED for who, send in senders.items()}
    assert {who: names - counted for who, names in sent.items()} == {who: set() for who in sent}
    return counted, sent


@pytest.mark.parametrize(
    "rules",
    [
        "# dir\n/other/\n a \n*.md",
        "**/dir\n!other/dir/keep\nlink",
        "*\n!dir/sub\n!README.md\n!foo",
        "dir/**\n!dir/keep\n?foo\nDock\nDockerfile",
        "**\n!other/**\nother/b.c\n!x[1].c",
        ".\n/\n\ndir\n**/*.txt\n!dir/sub/deep\ndir/sub/deep/k??p",
    ],
)  # fmt: skip
def test_rules_that_all_read_alike(senders: dict[str, Send], context: Path, rules: str) -> None:
    """SM-05: the fingerprint is over exactly the files that are sent."""
    counted, sent = compare(senders, context, rules)
    assert sent == dict.fromkeys(sent, counted)


@pytest.mark.parametrize(
    "rules",
    [
        "a\nreadme.md\nx[!2].c\n #hash\na+b",
        "x\\[1\\].c\n**foo\n../a\nREADME.*\n!README.md",
        "*\n!**/keep\n!**/*.c",
        "dir\n!dir/keep\n*r\ndir/sub\n!dir/sub/deep",
        "\ufeffa\nfoo\nother/../dir/\n!/keep",
        "dir/sub\n!dir\nlink/\nlink/keep",
    ],
)  # fmt: skip
def test_rules_that_they_read_differently(senders: dict[str, Send], context: Path, rules: str) -> None:
    """SM-05: whatever one of them sends counts."""
    counted, _ = compare(senders, context, rules)
    assert counted != set(files_of(context)), "something is left out by all"


def test_a_dockerfile_in_an_excluded_folder(engine: Engine, context: Path) -> None:
    """SM-05: the SDK goes there for the Dockerfile, and takes the folder's other files along."""
    (context / "Dockerfile").rename(context / "dir" / "Dockerfile")
    (context / ".dockerignore").write_text("**/dir")
    image, _ = docker.from_env(environment=dict(engine.environment)).images.build(
        path=str(context), dockerfile="dir/Dockerfile", rm=True
    )
    sent = read_context(engine, image.id)
    ignored = parse_dockerignore("**/dir", "dir/Dockerfile")
    assert "dir/a" in sent
    assert {name for name in sent if ignored(name)} == set()
