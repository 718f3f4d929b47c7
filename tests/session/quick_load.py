"""A load program for campaigns whose load tool is not what is tested: `quick_load.py REQUEST READY`.

It starts in a fraction of Locust's time, leaves CPU to others, and sends a few requests in the load window however long
the machine lets it stand still: a window of a Locust that stood still is empty, and its cell fails, rightly.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

FEWEST = 5
PAUSE_S = 0.005


def main(request: dict[str, object], ready: Path) -> None:
    connection = http.client.HTTPConnection(urlsplit(request["base_url"]).netloc, timeout=request["request_timeout_s"])
    (function, body), *_ = request["functions"].items()
    data = Path(body).read_bytes()
    ready_s = time.time()
    begun_s = ready_s + request["warm_up_s"]
    until_s = begun_s + request["duration_s"]
    draft = ready.with_suffix(".draft")
    draft.write_text(repr(ready_s))
    draft.rename(ready)
    latencies_ms: list[float] = []
    errors: list[str] = []
    while (sent_s := time.time()) < until_s or len(latencies_ms) + len(errors) < FEWEST:
        error = send(connection, f"/invoke/{function}", data)
        if sent_s >= begun_s:
            if error:
                errors.append(error)
            else:
                latencies_ms.append((time.time() - sent_s) * 1000)
        time.sleep(PAUSE_S)
    result = {
        "schema": "staging-load/1",
        "requests": len(latencies_ms) + len(errors),
        "failures": len(errors),
        "first_error": errors[0] if errors else None,
        "latencies_ms": latencies_ms,
        "program": {"name": "quick-load", "version": "1.0"},
    }
    Path(request["result"]).write_text(json.dumps(result))


def send(connection: http.client.HTTPConnection, path: str, data: bytes) -> str:
    """What went wrong, or nothing."""
    try:
        connection.request("POST", path, data)
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException) as problem:
        connection.close()
        return f"{type(problem).__name__}: {problem}"
    return "" if answer.status < 400 else f"status {answer.status}"


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
