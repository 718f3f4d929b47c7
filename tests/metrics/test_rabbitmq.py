"""A queue's depth and how it drains: on a real broker, and by what a fake one says."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from answering import hang, reply, serving
from brokering import ENVIRONMENT, PASSWORD, SCRIPT, USER, Broker, Consumer, answer
from sampling import StandIn, observe, samples, spec, url_of
from workspaces import give_up, wait_for

from pytest_staging.metrics.rabbitmq import RabbitMetrics, empty_since, measure_drain, parse_queue
from pytest_staging.metrics.sampler import Row
from pytest_staging.model.errors import ConnectionLost, UsageProblem
from pytest_staging.model.observing import Reading


def source(url: str, queue: str = "orders", environment: dict[str, str] = ENVIRONMENT, **more: Any) -> RabbitMetrics:
    given = {"user_env": "QUEUE_USER", "password_env": "QUEUE_PASSWORD", "lag_s": 0.0, "drain_timeout_s": 20.0, **more}
    return RabbitMetrics(spec("rabbitmq", url=url, queue=queue, **given), environment)


def rows(*depths: tuple[float, int]) -> list[Row]:
    return [Row(at_s, {"depth": float(depth)}) for at_s, depth in depths]


@pytest.mark.parametrize(
    ("depths", "lag_s", "expected"),
    [
        ([(0, 0), (1, 50), (2, 100), (3, 60), (4, 0), (5, 0)], 0.0, (100, 100, 2.0, 50.0)),
        ([(0, 0), (1, 50), (2, 100), (3, 60), (4, 0), (5, 0)], 1.0, (100, 100, 2.0, 50.0)),
        ([(0, 0), (1, 50), (2, 100), (3, 60), (4, 0), (5, 0)], 1.5, (100, 100, None, None)),
        ([(0, 9), (1, 0), (2, 0), (3, 0)], 1.0, (9, 0, 0.0, None)),
        ([(0, 0), (1, 0), (2, 0), (3, 70), (4, 0), (5, 0)], 1.0, (70, 70, 2.0, 35.0)),
        ([(0, 5), (1, 5), (2, 5), (3, 4)], 0.0, (5, 5, None, None)),
        ([(0, 5), (1, 8)], 0.0, (8, 8, None, None)),
    ],
    ids=["drained", "for as long as the lag", "not for as long", "empty before", "told late", "left", "nothing after"],
)
def test_draining(depths: list[tuple[float, int]], lag_s: float, expected: tuple[float | None, ...]) -> None:
    """SM-08: depth, drain time and rate, the load having ended at 2 s; no number where the end was not seen."""
    found = measure_drain(rows(*depths), 2.0, lag_s)
    assert found
    metrics, missing = found
    assert tuple(metrics[name] for name in ("depth_peak", "depth_end", "drain_time", "drain_rate")) == expected
    assert {name for name, value in metrics.items() if value is None} == set(missing)


def test_no_depth_at_all() -> None:
    assert measure_drain([], 2.0, 0.0) is None
    assert empty_since(rows((1, 5))) is None
    assert empty_since(rows((1, 0), (2, 5), (3, 0), (4, 0))) == 3


def over(folder: Path, *answers: Any, after: Any = lambda: None, **more: Any) -> Reading:
    """A window over a fake API of three samples, then `after`."""
    service = more.pop("service", None)
    with serving(*answers) as server:
        queue = source(url_of(server), **more)
        return observe([queue], folder, lambda: server.count >= 3, service=service, after=after)


def test_until_it_is_empty(tmp_path: Path) -> None:
    """SM-08: it goes on being sampled after the load, and the metrics carry the source's prefix."""
    draining = threading.Event()
    # The window's end waits for no sample: the last one of the window may be asked for when draining has begun.
    depths = iter((40, 40, 30, 20, 10))

    def fuller(handler: BaseHTTPRequestHandler) -> None:
        reply(handler, 200, answer(next(depths, 0) if draining.is_set() else 40).encode())

    reading = over(tmp_path, answer(10), fuller, prefix="orders", after=draining.set)
    assert reading.missing == {}
    assert (reading.metrics["orders_depth_peak"], reading.metrics["orders_depth_end"]) == (40.0, 40.0)
    assert reading.metrics["orders_drain_time"] > 0
    kept = samples(tmp_path, "rabbitmq orders")
    assert kept["values"]["depth"][-1] == 0
    assert kept["values"]["unacknowledged"][0] == 0


def test_one_that_does_not_empty(tmp_path: Path) -> None:
    """XP-01: no drain time then, not the deadline's."""
    reading = over(tmp_path, answer(7), drain_timeout_s=0.2)
    assert (reading.metrics["queue_drain_time"], reading.metrics["queue_depth_end"]) == (None, 7.0)
    assert reading.missing["queue_drain_time"] == "the queue was not seen empty within 0.2 s after the load"
    assert set(reading.missing) == {"queue_drain_time", "queue_drain_rate"}


def test_a_service_that_ends_meanwhile(tmp_path: Path) -> None:
    service = StandIn()
    began = time.monotonic()
    ended = {"service": service, "after": lambda: setattr(service, "code", 1)}
    reading = over(tmp_path, answer(7), drain_timeout_s=60.0, **ended)
    assert reading.missing["queue_drain_time"] == "the service ended before the queue was empty"
    assert time.monotonic() - began < 60, "nobody waits for the deadline"


def test_a_host_that_is_lost_meanwhile(tmp_path: Path) -> None:
    class Lost(StandIn):
        def poll(self) -> int | None:
            raise ConnectionLost("gone")

    with pytest.raises(ConnectionLost):
        over(tmp_path, answer(7), service=Lost())


BAD: dict[str, tuple[Any, str]] = {
    "401": (lambda handler: reply(handler, 401, b"{}"), "answered 401"),
    "404": (lambda handler: reply(handler, 404, b"{}"), "answered 404"),
    "500": (lambda handler: reply(handler, 500, b"{}"), "answered 500"),
    "html": ("<html>", "JSONDecodeError"),
    "a list": ("[]", "no list of queues"),
    "no items": ('{"items": 5}', "no list of queues"),
    "nested": ("[" * 100_000, "Error"),
    "another queue": ('{"items": [{"name": "orders2", "messages": 5}, 7]}', "has no queue 'orders'"),
    "no counts": ('{"items": [{"name": "orders"}]}', "no count of messages"),
    "NaN": (answer(1).replace("1", "NaN", 1), "depth is nan, not a count"),
    "negative": (answer(-1), "depth is -1, not a count"),
    "huge": (answer(1 << 60), "not a count"),
    "text": (answer(1).replace("1", '"1"', 1), "depth is 1, not a count"),
    "half": (answer(1).replace("1", "1.5", 1), "depth is 1.5, not a count"),
    "true": (answer(1).replace("1", "true", 1), "depth is True, not a count"),
    "hanging": (hang, "timed out"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_answers(tmp_path: Path, name: str) -> None:
    """XP-06: said, counted, never raised; and no password anywhere."""
    given, expected = BAD[name]
    with serving(given) as server:
        rabbit = source(url_of(server), timeout_s=0.2 if name == "hanging" else 10.0, drain_timeout_s=0.1)
        reading = observe([rabbit], tmp_path, lambda: server.count)
    assert set(reading.metrics.values()) == {None}
    assert expected in reading.missing["queue_depth_peak"], reading.missing
    assert PASSWORD not in f"{reading}{(tmp_path / 'samples.json').read_text()}{rabbit!r}{rabbit._spec!r}"


def test_counts_that_are_optional() -> None:
    assert parse_queue('{"items": [{"name": "a", "messages": 3, "more": []}]}', "a") == {"depth": 3.0}


@pytest.mark.parametrize("given", [{}, {"QUEUE_USER": "a"}, {"QUEUE_USER": "a", "QUEUE_PASSWORD": ""}])
def test_credentials_that_are_not_set(given: dict[str, str]) -> None:
    """Before anything runs, and by the variable's name alone."""
    with pytest.raises(UsageProblem, match=r"reads QUEUE_(USER|PASSWORD) from the environment, and it is not set"):
        source("http://127.0.0.1:9", environment=given)


def test_a_broker_that_nobody_reaches(tmp_path: Path) -> None:
    """It costs the cell its metrics, and not the deadline's time on top."""
    began = time.monotonic()
    reading = observe([source("http://127.0.0.1:9", drain_timeout_s=60.0, lag_s=60.0)], tmp_path, lambda: True)
    assert time.monotonic() - began < 60
    assert "ConnectError" in reading.missing["queue_drain_time"]


def test_the_login_is_shown_to_nobody_unknown(tmp_path: Path) -> None:
    """Over https only to a broker whose certificate is trusted."""
    with https_server(tmp_path) as (url, seen):
        reading = observe([source(url)], tmp_path, lambda: True)
    assert "CERTIFICATE_VERIFY_FAILED" in reading.missing["queue_drain_time"]
    assert seen == []


@contextmanager
def https_server(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """With a certificate of its own making; remembers the headers that it was shown."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
            "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]  # fmt: skip
    if shutil.which("openssl") is None:
        give_up("openssl is not installed")
    subprocess.run(made, check=True, capture_output=True, timeout=60)
    seen: list[str] = []

    def remember(handler: BaseHTTPRequestHandler) -> None:
        seen.append(str(handler.headers))
        reply(handler, 200, answer(0).encode())

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(remember) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        yield f"https://127.0.0.1:{server.server_port}", seen


def depths(folder: Path, queue: str) -> Sequence[float]:
    return list(samples(folder, f"rabbitmq {queue}")["values"]["depth"])


def test_a_real_queue_that_drains(tmp_path: Path, broker: Broker) -> None:
    """SM-08: RabbitMQ itself: depth is what was published, drain time is when the last message was taken."""
    with broker.queue() as queue:
        consumer = Consumer(broker, queue, 40, 0.2)
        consumer.start()
        rabbit = source(broker.url, queue, lag_s=1.0, interval_s=0.05, timeout_s=5.0)
        ended: list[float] = []

        def publish() -> bool:
            broker.publish(queue, 300)
            return bool(wait_for(lambda: broker.depth(queue) == 300))

        def consume() -> None:
            ended.append(time.monotonic())
            consumer.go.set()

        reading = observe([rabbit], tmp_path, publish, after=consume)
        consumer.join(30)
    assert reading.missing == {}
    metrics = reading.metrics
    assert 200 <= metrics["queue_depth_end"] <= metrics["queue_depth_peak"] <= 300
    taken_s = consumer.emptied_s - ended[0]
    # The broker tells its statistics four times a second here, and a busy machine asks for them late.
    assert consumer.asked_s - ended[0] - 0.5 < metrics["queue_drain_time"] < taken_s + 5.0
    rate = metrics["queue_depth_end"] / metrics["queue_drain_time"]
    assert metrics["queue_drain_rate"] == pytest.approx(rate, rel=0.01)
    kept = depths(tmp_path, queue)
    assert (kept[-1], max(kept)) == (0, metrics["queue_depth_peak"])
    print(f"drained in {taken_s:.2f} s, measured {metrics['queue_drain_time']:.2f} s")


def test_the_lab_starts_it_once(broker: Broker) -> None:
    """A broker that answers is left as it is; its password is in no argument that others can see."""
    again = subprocess.run([SCRIPT], env=broker.environment, capture_output=True, text=True, timeout=60, check=True)
    assert again.stdout.split()[:2] == ["ready", broker.url]
    assert again.stderr == "", "nothing was started"
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it may have ended meanwhile
            assert PASSWORD.encode() not in path.read_bytes()


def test_a_real_queue_that_nobody_serves(tmp_path: Path, broker: Broker) -> None:
    with broker.queue() as queue:
        broker.publish(queue, 5)
        wait_for(lambda: broker.depth(queue) == 5)
        reading = observe([source(broker.url, queue, drain_timeout_s=0.3)], tmp_path, lambda: True)
    assert (reading.metrics["queue_depth_end"], reading.metrics["queue_drain_time"]) == (5.0, None)


@pytest.mark.parametrize(
    ("environment", "queue", "expected"),
    [
        ({**ENVIRONMENT, "QUEUE_PASSWORD": "wrong"}, "orders", "answered 401"),
        (ENVIRONMENT, "no such/queue?", "has no queue 'no such/queue?'"),
    ],
    ids=["wrong password", "no such queue"],
)
def test_a_real_refusal(
    tmp_path: Path, broker: Broker, environment: dict[str, str], queue: str, expected: str
) -> None:
    rabbit = source(broker.url, queue, environment, drain_timeout_s=0.1, timeout_s=5.0)
    reading = observe([rabbit], tmp_path, lambda: True)
    assert expected in reading.missing["queue_drain_time"]
    assert USER not in str(reading)
