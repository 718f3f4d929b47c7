"""A load program of a user's own, for the tool `command`: REQUEST [READY]. Sends in turn or at a rate, and reports."""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

Row = tuple[float, float, str, bool]
"""When a request was due, its latency in ms from then, its error, and whether it was sent late."""


def main(request: dict[str, object], ready: str | None) -> None:
    begun_s = time.time() + float(request["warm_up_s"])
    until_s = begun_s + float(request["duration_s"])
    if ready:
        Path(f"{ready}.draft").write_text(repr(begun_s - float(request["warm_up_s"])))
        Path(f"{ready}.draft").rename(ready)
    rows: list[Row] = []
    users = [threading.Thread(target=load, args=(request, user, until_s, rows)) for user in range(request["users"])]
    for user in users:
        user.start()
    for user in users:
        user.join()
    report(request, [row for row in rows if begun_s <= row[0] < until_s])


def load(request: dict[str, object], user: int, until_s: float, rows: list[Row]) -> None:
    (function, body), *_ = request["functions"].items()
    connection = http.client.HTTPConnection(urlsplit(request["base_url"]).netloc, timeout=request["request_timeout_s"])
    gap_s = request["users"] / request["rate_rps"] if request["rate_rps"] else 0.0
    due_s = time.time() + user * gap_s / request["users"]
    while due_s < until_s:
        time.sleep(max(0.0, due_s - time.time()))
        if (sent_s := time.time()) >= until_s:
            return
        try:
            connection.request("POST", f"/invoke/{function}", Path(body).read_bytes())
            answer = connection.getresponse()
            answer.read()
            error = "" if answer.status < 400 else f"status {answer.status}"
        except OSError as problem:
            error = str(problem)
            connection.close()
        rows.append((due_s, (time.time() - due_s) * 1000, error, sent_s - due_s > 0.01))
        due_s = due_s + gap_s if gap_s else time.time()


def report(request: dict[str, object], rows: list[Row]) -> None:
    errors = [error for _, _, error, _ in rows if error]
    result = {
        "schema": "staging-load/1",
        "requests": len(rows),
        "failures": len(errors),
        "first_error": errors[0] if errors else None,
        "latencies_ms": [latency_ms for _, latency_ms, error, _ in rows if not error],
        "program": {"name": "loader", "version": "1.0"},
    }
    if request["rate_rps"]:
        achieved = len(rows) / request["duration_s"]
        late = sum(late for _, _, _, late in rows)
        dropped = max(0, int(request["rate_rps"] * request["duration_s"]) - 1 - len(rows))
        pace = {"intended_rps": request["rate_rps"], "achieved_rps": achieved, "dropped": dropped, "late": late}
        result["pace"] = {**pace, "from_intended_start": True}
    Path(request["result"]).write_text(json.dumps(result))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2] if len(sys.argv) > 2 else None)
