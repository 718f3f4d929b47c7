"""Takes texts from a queue, counts their words and looks each text up elsewhere, which is mostly waiting.

Two classes of work, each with a queue of its name: `word-stats` is cheap and ends with a task for `enrichment`, which
is dear. How many of each are in hand at a time is asked of limits.parallelism. GET /healthz and /metrics answer on port
9100.

    AMQP_HOST, AMQP_USER, AMQP_PASSWORD   the broker
    ENRICHMENT_MS                         how long one look-up takes; default 20
    WORKER_MAX_PARALLEL, POLICY_API       see limits.py
"""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pika
from limits import parallelism

CLASSES = ("word-stats", "enrichment")
PORT = 9100
MOST_IN_HAND = 64
ASK_AGAIN_S = 0.5
RECONNECT_S = 0.5
WORD = re.compile(r"[a-z0-9]+")


class Gate:
    """Lets as many tasks of a class in as `parallelism` says at that moment."""

    def __init__(self, class_name: str) -> None:
        self._class_name = class_name
        self._changed = threading.Condition()
        self.active = 0
        self.done = 0
        self.failed = 0

    def __enter__(self) -> None:
        with self._changed:
            while self.active >= parallelism(self._class_name):
                self._changed.wait(ASK_AGAIN_S)
            self.active += 1

    def __exit__(self, kind: object, *_: object) -> None:
        with self._changed:
            self.active -= 1
            self.done += kind is None
            self.failed += kind is not None
            self._changed.notify()


GATES = {name: Gate(name) for name in CLASSES}
CONNECTED = {name: threading.Event() for name in CLASSES}


def count_words(body: bytes) -> bytes:
    """The cheap class: what the service computes at once when it is asked directly."""
    words = WORD.findall(str(json.loads(body)["text"]).lower())
    return json.dumps({"words": len(words), "unique": len(set(words))}).encode()


def enrich(body: bytes) -> None:
    """The dear class: asks somebody else about a text. Here nobody is asked, only waited for."""
    json.loads(body)
    time.sleep(float(os.environ.get("ENRICHMENT_MS") or 20) / 1000)


def consume(class_name: str) -> None:
    """Takes tasks of one class for ever; a broker that went away is connected to again."""
    login = pika.PlainCredentials(os.environ["AMQP_USER"], os.environ["AMQP_PASSWORD"])
    where = pika.ConnectionParameters(
        os.environ["AMQP_HOST"], credentials=login, heartbeat=30, blocked_connection_timeout=30, socket_timeout=5
    )
    while True:
        try:
            with pika.BlockingConnection(where) as connection, ThreadPoolExecutor(MOST_IN_HAND) as pool:
                channel = connection.channel()
                for name in CLASSES:
                    channel.queue_declare(name, durable=True)
                follow(connection, channel, class_name, 0)
                channel.basic_consume(class_name, functools.partial(take, connection, pool, class_name))
                CONNECTED[class_name].set()
                channel.start_consuming()
        except (pika.exceptions.AMQPError, OSError) as error:
            print(f"{class_name}: the broker is lost: {type(error).__name__}: {error}", file=sys.stderr)
        CONNECTED[class_name].clear()
        time.sleep(RECONNECT_S)


def follow(connection, channel, class_name: str, known: int) -> None:
    """Takes as many tasks as may be in hand now. What is taken beyond that waits here, out of other workers' reach."""
    wanted = min(MOST_IN_HAND, parallelism(class_name))
    if wanted != known:
        channel.basic_qos(prefetch_count=wanted, global_qos=True)  # of the channel: it holds for the present consumer
    connection.call_later(ASK_AGAIN_S, functools.partial(follow, connection, channel, class_name, wanted))


def take(connection, pool, class_name: str, channel, method, properties, body: bytes) -> None:
    """Runs in the connection's thread; the work itself in the pool."""

    def work() -> None:
        following = None
        try:
            with GATES[class_name]:
                following = count_words(body) if class_name == "word-stats" else enrich(body)
        except (ValueError, KeyError, TypeError) as error:
            print(f"{class_name}: no task: {error}", file=sys.stderr)  # a bad one is done with, not tried for ever
        connection.add_callback_threadsafe(functools.partial(finish, channel, method.delivery_tag, following))

    pool.submit(work)


def finish(channel, tag: int, following: bytes | None) -> None:
    """Publishes what follows before it lets go of the task: a crash between both repeats work and loses none."""
    if following is not None:
        channel.basic_publish("", "enrichment", following, pika.BasicProperties(delivery_mode=2))
    channel.basic_ack(tag)


def metrics() -> str:
    """Prometheus text."""
    lines = []
    for name, how in (("worker_tasks_active", "gauge"), ("worker_tasks_total", "counter"),
                      ("worker_tasks_failed_total", "counter"), ("worker_parallelism", "gauge")):
        lines.append(f"# TYPE {name} {how}")
        for class_name, gate in GATES.items():
            value = {"worker_tasks_active": gate.active, "worker_tasks_total": gate.done,
                     "worker_tasks_failed_total": gate.failed,
                     "worker_parallelism": parallelism(class_name)}[name]
            lines.append(f'{name}{{class="{class_name}"}} {value}')
    return "\n".join(lines) + "\n"


class Handler(http.server.BaseHTTPRequestHandler):
    """GET /healthz and /metrics."""

    def do_GET(self) -> None:
        pages: dict[str, Callable[[], tuple[int, str]]] = {
            "/healthz": lambda: (200, "UP\n") if all(one.is_set() for one in CONNECTED.values()) else (503, "DOWN\n"),
            "/metrics": lambda: (200, metrics()),
        }
        status, text = pages.get(self.path, lambda: (404, "not found\n"))()
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nobody reads a line for each scrape."""


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # what was not acknowledged goes back to the queue
    for class_name in CLASSES:
        threading.Thread(target=consume, args=(class_name,), daemon=True, name=class_name).start()
    server = http.server.ThreadingHTTPServer(("0.0.0.0", PORT), Handler)
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    main()
