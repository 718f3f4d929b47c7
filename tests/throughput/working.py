"""A real worker program and a real source of load, each a process of its own: `working.py work|publish ...`.

The worker has a few slots that both classes of jobs share, as they would share processors; a job takes its time in one.
It asks the policy how many jobs of a class may run, by the admission client alone, from a copy of its file.
"""

from __future__ import annotations

import importlib
import json
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

SLOTS = 4
JOBS = {"quick": 0.005, "heavy": 0.2}
IDLE_S = 0.01


def connect(port: int, user: str, password: str) -> Any:
    import pika

    login = pika.PlainCredentials(user, password)
    link = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port, credentials=login, heartbeat=0))
    return link.channel()


def work(port: int, user: str, password: str, api: str, log: Path) -> None:
    """Until it is ended; a line of JSON per job: class, seconds since it was published, how many of the class run."""
    admission = importlib.import_module("admission").Admission(api, stale_s=3.0)
    lock, running = threading.Lock(), dict.fromkeys(JOBS, 0)
    with log.open("a") as lines:

        def take(channel: Any, name: str) -> bool:
            with lock:
                if not admission.admits(name, running[name]):
                    return False
                running[name] += 1
                beside = running[name]
            try:
                method, _, body = channel.basic_get(f"jobs.{name}")
                if method is None:
                    return False
                time.sleep(JOBS[name])
                channel.basic_ack(method.delivery_tag)
                now = time.time()
                entry = {"class": name, "latency_s": now - float(body), "beside": beside, "at": now,
                         "limit": admission.limit(name)}  # fmt: skip
                with lock:
                    lines.write(json.dumps(entry) + "\n")
                    lines.flush()
                return True
            finally:
                with lock:
                    running[name] -= 1

        def slot() -> None:
            channel = connect(port, user, password)
            names = list(JOBS)
            while True:
                random.shuffle(names)
                took = [take(channel, name) for name in names]
                if not any(took):
                    time.sleep(IDLE_S)

        threads = [threading.Thread(target=slot, daemon=True) for _ in range(SLOTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def publish(port: int, user: str, password: str, name: str, count: int, rate: float) -> None:
    """So many jobs of a class; `rate` a second, 0 for all at once."""
    channel = connect(port, user, password)
    began = time.monotonic()
    for number in range(count):
        if rate:
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
        channel.basic_publish("", f"jobs.{name}", repr(time.time()).encode())
    channel.connection.close()


if __name__ == "__main__":
    what, port_text, login, secret, *rest = sys.argv[1:]
    if what == "work":
        work(int(port_text), login, secret, rest[0], Path(rest[1]))
    else:
        publish(int(port_text), login, secret, rest[0], int(rest[1]), float(rest[2]))
