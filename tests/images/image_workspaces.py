"""Small workspaces whose versions become container images, and what a real engine knows about them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))  # dockering

import pytest
from dockering import Engine, start_engine
from workspaces import give_up, make_version, wait_for

from pytest_staging import engine as engines
from pytest_staging import store
from pytest_staging.images.cache import BuiltImage, ImageCache
from pytest_staging.images.container import ClassicBuilder
from pytest_staging.store import Workspace
from pytest_staging.targets import procfs

DEADLINE_S = 120.0
MARK = "staging.images-test"
PLAIN = "FROM scratch\nCOPY data /data\n"
# Says that it began, then waits to be killed, and may go on talking; its argument tells the test's own from any other.
SLEEPING = 'FROM scratch\nCOPY waiter /waiter\nRUN ["/waiter", "{token}"]\n'
FAILING = 'FROM scratch\nCOPY waiter /waiter\nRUN ["/waiter"]\n'
WAITER_C = """
#include <unistd.h>
int main(int count, char **words) {
    (void)words;
    if (count < 2) { write(2, "why it failed\\n", 14); return 3; }
    do write(1, "begun\\n", 6); while (count < 3 ? pause() : !usleep(100000));
    return 0;
}
"""


def compile_waiter(path: Path) -> None:
    """The program of SLEEPING and FAILING, which needs nothing in its image."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        give_up("a static test program needs gcc")
    command = [compiler, "-static", "-w", "-x", "c", "-o", str(path), "-"]
    done = subprocess.run(command, input=WAITER_C, capture_output=True, text=True, timeout=DEADLINE_S)
    if done.returncode:
        give_up(f"a static program cannot be linked: {done.stderr.strip()}")


@dataclass(frozen=True)
class ImageWorkspace:
    """`root` is a workspace; images and containers that come from it carry the label MARK with `token`."""

    root: Path
    engine: Engine
    token: str = field(default_factory=lambda: uuid4().hex[:16])

    @property
    def label(self) -> str:
        return f"{MARK}={self.token}"

    def snapshot(self, slug: str = "baseline") -> Path:
        return self.root / "versions" / slug / "snapshot"

    def images(self, slug: str = "baseline") -> Path:
        return self.root / "versions" / slug / "images"

    def write(
        self,
        dockerfile: str = PLAIN,
        slug: str = "baseline",
        *,
        status: str = "baseline",
        files: Mapping[str, str] | None = None,
        image: Mapping[str, Any] | None = None,
        modes: Sequence[str] = ("native",),
        **spec: Any,
    ) -> None:
        """A version; its Dockerfile's images get the label. `image` and `spec` are keys of each mode."""
        make_version(self.root, slug, status)
        snapshot = self.snapshot(slug)
        self.write_dockerfile(dockerfile, slug)
        for name, text in {"data": f"{slug}\n", **(files or {})}.items():
            (snapshot / name).write_text(text)
        if "/waiter" in dockerfile:
            compile_waiter(snapshot / "waiter")
        mode_spec = {"runtime": "native", "image": {"dockerfile": "Dockerfile", **(image or {})}, **spec}
        described = dict.fromkeys(modes, mode_spec)
        (snapshot / "service.yaml").write_text(json.dumps({"functions": ["echo"], "modes": described}))

    def write_dockerfile(self, text: str, slug: str = "baseline", name: str = "Dockerfile") -> None:
        lines = text.replace("{token}", self.token).splitlines(keepends=True)
        marked = [f"{line}LABEL {self.label}\n" if line.startswith("FROM ") else line for line in lines]
        (self.snapshot(slug) / name).write_text("".join(marked))

    def cache(self) -> ImageCache:
        """With the engine's classic builder."""
        versions = Workspace(self.root).versions_folder
        return ImageCache(versions, ClassicBuilder(versions, engines.Engine(self.address)))

    @property
    def address(self) -> str | None:
        return self.engine.environment.get("DOCKER_HOST")

    def ensure(self, slug: str = "baseline", mode: str = "native", force: bool = False) -> BuiltImage:
        version = store.load_version(Workspace(self.root), slug)
        return self.cache().ensure(version, mode, self.root / "build.log", force)

    def entries(self, slug: str = "baseline") -> list[dict[str, Any]]:
        """Of the manifest; none when there is no such file."""
        path = self.images(slug) / "manifest.json"
        return list(json.loads(path.read_text())["images"]) if path.exists() else []

    def known_images(self) -> set[str]:
        """Ids of this workspace's images, as the engine has them."""
        listed = self.engine("image", "ls", "--all", "--quiet", "--no-trunc", "--filter", f"label={self.label}")
        return set(listed.split())

    def containers(self) -> list[str]:
        """Containers of this workspace, running or not: builds make them."""
        return self.engine("ps", "--all", "--quiet", "--filter", f"label={self.label}").split()

    def processes(self) -> list[int]:
        """What SLEEPING started, in whichever container."""
        found = []
        for pid in procfs.process_ids():
            with suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if words[:2] == [b"/waiter", self.token.encode()] and procfs.is_alive(pid):
                    found.append(pid)
        return found

    def kill_processes(self) -> None:
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def await_build(self) -> None:
        """Until SLEEPING sleeps."""
        wait_for(self.processes, DEADLINE_S)

    def await_quiet(self) -> None:
        """Until no build of this workspace is left in the engine. Fails when one stays."""
        wait_for(lambda: not self.processes(), DEADLINE_S)
        wait_for(lambda: not self.containers(), DEADLINE_S)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "pytest_staging", "--root", str(self.root), *arguments]

    def run(self, *arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        """staging-manager as a user runs it; fails when it shows a traceback."""
        done = subprocess.run(
            self.command(*arguments), cwd=cwd or self.root, env={**os.environ, **environment}, capture_output=True,
            text=True, timeout=DEADLINE_S,
        )  # fmt: skip
        assert "Traceback" not in done.stdout + done.stderr, done.stderr
        return done

    def build(self, *arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        """build-images --target docker."""
        return self.run("build-images", "--target", "docker", *arguments, cwd=cwd, **environment)

    @contextmanager
    def building(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """The same under way, in a process group of its own as a shell would start it."""
        process = subprocess.Popen(
            self.command("build-images", "--target", "docker", *arguments), cwd=self.root, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        with process:
            try:
                yield process
            finally:
                process.kill()

    def remove_all(self) -> None:
        """Containers first, then images, with those in between."""
        if found := self.containers():
            self.engine("rm", "--force", *found)
        while images := self.known_images():
            # In no order that is known here an image goes before those that it was made from.
            remove = ["docker", "image", "rm", "--force", *images]
            subprocess.run(remove, env=self.engine.environment, capture_output=True, timeout=DEADLINE_S)
            left = self.known_images()
            assert len(left) < len(images), f"cannot be removed: {left}"


def find_engine() -> Engine:
    """The machine's engine, left running with its base images: both are there to be found by the next run."""
    try:
        import docker  # noqa: F401
    except ImportError:
        give_up("the docker package is missing: pip install 'pytest-staging[docker]'")
    return start_engine()


@contextmanager
def image_workspace(root: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[ImageWorkspace]:
    """An empty workspace, with the classic builder unless a test says otherwise; its images are removed.

    Programs that the test starts find the same engine.
    """
    monkeypatch.setenv("DOCKER_BUILDKIT", "0")
    found = ImageWorkspace(root, engine)
    if found.address:
        monkeypatch.setenv("DOCKER_HOST", found.address)
    try:
        yield found
    finally:
        found.remove_all()
