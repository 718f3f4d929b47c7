"""Stands in for k6: answers what it is asked, serves its REST API while paused, and plays a recorded run.

FAKE_K6 is a JSON object: `version` (what `k6 version` prints), `options` (what `k6 inspect` prints), `inspect_status`,
`summary` and `points` (files to play), `status` (how `k6 run` ends), `signal` (which it ends itself by).
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

SAID = json.loads(os.environ.get("FAKE_K6", "{}"))


class Api(BaseHTTPRequestHandler):
    """Paused until it is told otherwise."""

    resumed = threading.Event()

    def do_GET(self) -> None:
        state = {"status": 4, "paused": not self.resumed.is_set(), "running": self.resumed.is_set()}
        content = json.dumps({"data": {"type": "status", "id": "default", "attributes": state}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_PATCH(self) -> None:
        change = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert change["data"]["attributes"] == {"paused": False}
        self.do_GET()
        self.resumed.set()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def run(arguments: list[str]) -> int:
    host, _, port = arguments[arguments.index("--address") + 1].rpartition(":")
    server = HTTPServer((host, int(port)), Api)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    Api.resumed.wait(20)
    if "summary" in SAID:
        shutil.copyfile(SAID["summary"], arguments[arguments.index("--summary-export") + 1])
    if "points" in SAID:
        shutil.copyfile(SAID["points"], arguments[arguments.index("--out") + 1].removeprefix("json="))
    if "signal" in SAID:
        os.kill(os.getpid(), SAID["signal"])
    return int(SAID.get("status", 0))


def main(arguments: list[str]) -> int:
    if arguments[0] == "version":
        print(SAID.get("version", "k6 v1.1.0 (commit/0e3fb953be, go1.24.4, linux/amd64)"))
        return 0
    if arguments[0] == "inspect":
        print(json.dumps(SAID.get("options", {"scenarios": None, "totalDuration": "0s"})))
        print(SAID.get("complaint", ""), file=sys.stderr)
        return int(SAID.get("inspect_status", 0))
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
