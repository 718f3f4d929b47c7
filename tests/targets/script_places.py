"""A user's scripts for the target `script`: they start and end a real service of this machine, out of our reach."""

from __future__ import annotations

import shlex
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workspaces import free_port

from pytest_staging.model.building import Image
from pytest_staging.model.ports import Deployment
from pytest_staging.model.script import ScriptSpec
from pytest_staging.model.version import ImageSpec, ModeSpec, Runtime
from pytest_staging.targets.local import LocalTarget
from pytest_staging.targets.script import ScriptTarget

SERVER = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"up")
    def log_message(self, *args):
        pass
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
with open(sys.argv[2] + ".new", "w") as file:
    file.write(str(os.getpid()))
os.rename(sys.argv[2] + ".new", sys.argv[2])
server.serve_forever()
"""

# `env -i` and setsid, because what a deploy leaves running on this machine would be ended with it.
DEPLOY = """
echo deploy >>"$LAB/calls"
env >"$LAB/deploy.env"
cp "$LAB"/lease/local.scripts/*.json "$LAB/record.json"
env -i setsid {python} -I "$LAB/server.py" "$PORT" "$LAB/pid" >/dev/null 2>&1 </dev/null &
while [ ! -e "$LAB/pid" ]; do sleep 0.01; done
echo deploying >&2
echo noise
{act}
echo "url=http://127.0.0.1:$PORT/"
"""

DESTROY = """
echo destroy >>"$LAB/calls"
env >"$LAB/destroy.env"
echo destroying >&2
[ ! -e "$LAB/stuck" ] || { echo "cannot be destroyed" >&2; exit 4; }
[ ! -e "$LAB/pid" ] || { kill "$(cat "$LAB/pid")"; rm "$LAB/pid"; }
"""


@dataclass(frozen=True)
class Scripts:
    """The scripts' folder, and the port that their service is to take."""

    folder: Path
    port: int

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def records(self) -> list[Path]:
        return sorted((self.folder / "lease" / "local.scripts").glob("*"))

    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().split() if path.exists() else []

    def environment(self, of: str) -> dict[str, str]:
        lines = (self.folder / f"{of}.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def spec(self, act: str = "", **changes: Any) -> ScriptSpec:
        """`act` is what deploy does before it prints the address."""
        deploy = DEPLOY.replace("{python}", shlex.quote(sys.executable)).replace("{act}", act)
        given: dict[str, Any] = {
            "deploy": ("sh", "-euc", deploy),
            "destroy": ("sh", "-euc", DESTROY),
            "environment": {"LAB": str(self.folder), "PORT": str(self.port)},
        }
        return ScriptSpec(**given | changes)

    def target(self, act: str = "", **changes: Any) -> ScriptTarget:
        return ScriptTarget(LocalTarget(self.folder / "lease"), self.spec(act, **changes), self.folder)

    def deployment(self, **changes: Any) -> Deployment:
        given: dict[str, Any] = {
            "campaign_id": "c1",
            "cell_id": "run001-jvm-faster",
            "image": Image(ref="staging/faster:jvm", id="sha256:1", size_bytes=1),
            "mode": ModeSpec(runtime=Runtime.JVM, image=ImageSpec(port=7070), environment={"A": "b"}),
            "snapshot": self.folder / "snapshot",
            "log": self.folder / "service.log",
            "environment": {"STAGING_VERSION": "faster", "STAGING_MODE": "jvm"},
        }
        return Deployment(**given | changes)

    def answers(self) -> bool:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"{self.base_url}/healthz", timeout=5) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False


def make_scripts(folder: Path) -> Scripts:
    (folder / "server.py").write_text(SERVER)
    return Scripts(folder, free_port())
