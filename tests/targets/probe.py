"""The contract suite's service as a process. What it does is the word in PROBE; probe.c is the same in containers."""

from __future__ import annotations

import http.server
import os
import signal
import sys
from types import FrameType


class Answer(http.server.BaseHTTPRequestHandler):
    """Says for which cell it was started."""

    def do_GET(self) -> None:
        body = os.environ["STAGING_CELL"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """The log is the test's."""


def leave(*_: int | FrameType | None) -> None:
    os.write(1, b"bye\n")
    os._exit(0)


def main(act: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN if act == "deaf" else leave)
    if act == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if act == "exit":
        sys.stderr.write("last words\n")
        sys.exit(3)
    if act == "environment":
        print(*(f"{name}={value}" for name, value in os.environ.items()), sep="\n")
        return
    if act == "talk":
        print(*range(300_000), sep="\n")
        return
    if act == "hungry":
        _ = b"x" * (64 << 20)
    server = http.server.HTTPServer((os.environ["STAGING_HOST"], int(os.environ["STAGING_PORT"])), Answer)
    print("up", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(os.environ["PROBE"])
