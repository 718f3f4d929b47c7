"""Heap, pauses and the benchmark's own metrics: what is read is right, what cannot be read is said, in bounded time."""

from __future__ import annotations

import gzip
import socket
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from answering import closing, hang, keep_open, reply, serving, trickle, trickle_header
from sampling import JVM, NATIVE, StandIn, observe, samples, spec, url_of
from workspaces import wait_for

from pytest_staging.metrics import prometheus
from pytest_staging.metrics.fetching import Endpoint
from pytest_staging.metrics.prometheus import ServiceMetrics
from pytest_staging.model.observing import Reading
from pytest_staging.model.version import ModeSpec, Runtime

Answer = str | Callable[[BaseHTTPRequestHandler], None]
REQUESTS = {"name": "http_server_requests_seconds_count", "how": "delta"}


def scrape(heap: float, pause_s: float) -> str:
    return f'jvm_memory_used_bytes{{area="heap",id="Eden"}} {heap}\njvm_gc_pause_seconds_sum{{cause="x"}} {pause_s}\n'


def over(
    folder: Path, *answers: Answer, at_least: int = 0, names: dict[str, Any] | None = None, **more: Any
) -> Reading:
    """A window over an endpoint that gives these answers; `more` goes to observe."""
    with serving(*answers) as server:
        return observe([ServiceMetrics(spec("service", names=names or {}))], folder,
                       lambda: server.count >= max(at_least, len(answers) + 1), url_of(server), **more)  # fmt: skip


def test_peak_and_growth(tmp_path: Path) -> None:
    """SM-08: the largest heap of the window, and the pause counter's growth over it in ms."""
    reading = over(tmp_path, scrape(100, 2.0), scrape(900, 2.1), scrape(300, 2.25))
    assert (reading.metrics["heap_peak"], reading.metrics["gc_pause"]) == (900.0, 250.0)
    assert {"heap_peak", "gc_pause"} & set(reading.missing) == set()


def test_micrometers_names(tmp_path: Path) -> None:
    """SM-08: what a Spring service exposes needs no mapping."""
    text = (
        "# TYPE jvm_threads_live_threads gauge\njvm_threads_live_threads 23.0\n"
        'jvm_memory_used_bytes{area="nonheap",id="Metaspace",} 6.0E7\n'
        'jvm_memory_used_bytes{area="heap",id="G1 Eden Space",} 1.0E6\n'
        'jvm_gc_pause_seconds_count{action="end of minor GC",cause="G1 Evacuation Pause",} %d\n'
        'jvm_gc_pause_seconds_sum{action="end of minor GC",cause="G1 Evacuation Pause",} 0.0\n'
    )
    reading = over(tmp_path, text % 3, text % 8)
    assert reading.metrics == {
        "heap_peak": 1e6, "nonheap_peak": 6e7, "threads_peak": 23.0, "gc_pause": 0.0, "gc_count": 5.0,
    }  # fmt: skip


def test_the_benchmarks_own_names(tmp_path: Path) -> None:
    """SM-08: any metric that the benchmark adds: by name, labels, and what of it counts."""
    text = 'pool_size 7\nbytes_total{to="a"} %d\nbytes_total{to="b"} 999\n'
    names = {
        "sent": {"name": "bytes_total", "labels": {"to": "a"}, "how": "delta", "scale": 0.5},
        "pool": {"name": "pool_size", "how": "last"},
        "heap_peak": {"name": "pool_size", "how": "peak", "scale": 1024.0},
    }
    reading = over(tmp_path, text % 100, text % 300, names=names)
    assert (reading.metrics["sent"], reading.metrics["pool"], reading.metrics["heap_peak"]) == (100.0, 7.0, 7168.0)
    assert "sent" not in reading.missing
    native = over(tmp_path, text % 100, text % 300, names=names, mode=NATIVE)
    assert native.metrics["sent"] == 100.0, "also without a JVM"
    assert native.metrics["heap_peak"] == 7168.0, "a name of the benchmark's takes the place of the built-in one"


def test_a_counter_that_has_not_counted_yet(tmp_path: Path) -> None:
    """Only when the benchmark says so is absence zero; a page that holds no metrics at all is never that."""
    answers = ("up 1\n", "up 1\nhttp_server_requests_seconds_count 4\n")
    told = over(tmp_path, *answers, names={"requests": {**REQUESTS, "absent_is_zero": True}})
    assert told.metrics["requests"] == 4.0
    untold = over(tmp_path, answers[0] + "jvm_gc_pause_seconds_sum 0\n", answers[1], names={"requests": REQUESTS})
    assert untold.metrics["requests"] is None
    assert "not in the first or the last sample" in untold.missing["requests"]
    page = over(tmp_path, "<html>sorry</html>", names={"requests": {**REQUESTS, "absent_is_zero": True}})
    assert page.metrics["requests"] is None


def test_no_pause_without_a_heap(tmp_path: Path) -> None:
    """SM-08: null, not 0, where nothing shows that there is a collector."""
    reading = over(tmp_path, 'jvm_memory_used_bytes{area="nonheap"} 5\n')
    assert reading.metrics["gc_pause"] is None
    assert reading.missing["gc_pause"].startswith("jvm_gc_pause_seconds_sum was in none of ")
    with_heap = over(tmp_path, 'jvm_memory_used_bytes{area="heap"} 5\n')
    assert with_heap.metrics["gc_pause"] == 0.0, "Micrometer shows the timer from the first collection on"


@pytest.mark.parametrize("value", ["NaN", "+Inf", "1e999"])
def test_what_is_no_number(tmp_path: Path, value: str) -> None:
    """XP-06: it costs that metric and no other."""
    reading = over(tmp_path, f'jvm_memory_used_bytes{{area="heap"}} {value}\njvm_threads_live_threads 5\n')
    assert (reading.metrics["heap_peak"], reading.metrics["threads_peak"]) == (None, 5.0)
    assert "no finite number" in reading.missing["heap_peak"]
    assert reading.metrics["gc_pause"] is None


def test_the_edges_are_sampled(tmp_path: Path) -> None:
    """However long the interval, the window has its first and its last value."""
    with serving(scrape(1, 1.0), scrape(2, 1.5)) as server:
        source = ServiceMetrics(spec("service", interval_s=60.0))
        reading = observe([source], tmp_path, lambda: server.count == 1, url_of(server))
    assert (reading.metrics["heap_peak"], reading.metrics["gc_pause"]) == (2.0, 500.0)


@pytest.mark.parametrize("values", [(5.0, 4.0), (5.0, 0.1, 6.0)], ids=["at the end", "in between"])
def test_a_counter_that_goes_backwards(tmp_path: Path, values: tuple[float, ...]) -> None:
    """A service that restarted within the window has no growth to report; nothing is invented."""
    reading = over(tmp_path, *[scrape(7, value) for value in values])
    assert (reading.metrics["heap_peak"], reading.metrics["gc_pause"]) == (7.0, None)
    assert reading.missing["gc_pause"] == "the counter jvm_gc_pause_seconds_sum went backwards"


def gigabyte(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(1 << 30))
    handler.end_headers()
    chunk = scrape(1, 1).encode() * 1000
    while not closing(handler).is_set():
        handler.wfile.write(chunk)


def with_header(handler: BaseHTTPRequestHandler, name: str, value: str, body: bytes) -> None:
    handler.send_response(200)
    handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


BAD: dict[str, tuple[Answer, str]] = {
    "html": ("<html><body>hello</body></html>", "has no jvm_memory_used_bytes: it begins with '<html>"),
    "json": ('{"jvm_memory_used_bytes": 5}', "has no jvm_memory_used_bytes"),
    "empty": ("", "it is empty"),
    "other metrics": ("up 1\n", "has no jvm_memory_used_bytes"),
    "broken label": ("jvm_memory_used_bytes{area=heap} 5\n", "no Prometheus text"),
    "no value": ("jvm_memory_used_bytes a b c\n", "no Prometheus text"),
    "status 500": (lambda handler: reply(handler, 500, scrape(1, 1).encode()), "answered 500"),
    "redirect": (lambda handler: reply(handler, 302, b""), "answered 302"),
    "not utf-8": (lambda handler: reply(handler, 200, b"\xff\xfe"), "decode"),
    "no charset": (lambda handler: with_header(handler, "Content-Type", "text/plain; charset=xyz", b"x"), "'xyz'"),
    "compressed": (
        lambda handler: with_header(handler, "Content-Encoding", "gzip", gzip.compress(scrape(1, 1).encode())),
        "encoding 'gzip'",
    ),
    "5 MB": (lambda handler: reply(handler, 200, scrape(1, 1).encode() * 60_000), "never ends or is too large"),
    "a gigabyte": (gigabyte, "never ends or is too large"),
    "cut short": (lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nup"), "Error"),
    "no answer": (lambda handler: handler.connection.shutdown(socket.SHUT_RDWR), "Error"),
    "endless body": (trickle, "timed out"),
    "hanging": (hang, "timed out"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_endpoints(tmp_path: Path, name: str) -> None:
    """XP-06: each failed sample is counted with its reason, never raised, and the metrics are missing, not zero."""
    answer, expected = BAD[name]
    with serving(answer) as server:
        endless = name in ("hanging", "endless body")
        source = ServiceMetrics(spec("service", timeout_s=0.2 if endless else 10.0))
        reading = observe([source], tmp_path, lambda: server.count, url_of(server))
        where = f"{url_of(server)}/metrics"
    assert set(reading.metrics.values()) == {None}
    assert set(reading.missing) == set(reading.metrics)
    assert f"samples of {where} failed: " in reading.missing["heap_peak"]
    facts, kept = reading.sources["service"], samples(tmp_path)
    assert facts["samples"] == 0
    assert facts["failed"] == kept["failed"] > 0
    assert all(expected in reason for _, reason in kept["failures"]), kept["failures"]


@pytest.mark.parametrize("charset", ["utf-16", "iso-8859-1", "UTF-8"])
def test_other_charsets(tmp_path: Path, charset: str) -> None:
    """Labels may hold anything; the answer says what it is written in."""
    text = f'greeting{{word="Grüße"}} 1\n{scrape(5, 0)}'
    body, kind = text.encode(charset), f"text/plain; version=0.0.4; charset={charset}"
    reading = over(tmp_path, lambda handler: with_header(handler, "Content-Type", kind, body))
    assert reading.metrics["heap_peak"] == 5.0


def test_an_endpoint_that_defies_every_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers that come letter by letter, for as long as the test lets them: the window ends all the same."""
    monkeypatch.setattr(prometheus, "FINISH_TIMEOUTS", 0.02)
    with serving(trickle_header) as server:
        source = ServiceMetrics(spec("service", timeout_s=10.0))
        reading = observe([source], tmp_path, lambda: server.count, url_of(server))
    assert set(reading.metrics.values()) == {None}
    assert [reason for _, reason in samples(tmp_path)["failures"]] == ["the last sample did not end in 0.2 s"]


def test_the_time_limit_holds_for_the_head_too(tmp_path: Path) -> None:
    """XP-06: letter by letter no single read times out; the fetch does, also over a connection that is open already."""
    with serving(keep_open, trickle_header, keep_open) as server:
        endpoint = Endpoint(url_of(server), timeout_s=1.0)
        try:
            assert endpoint.fetch() == "up 1\n"
            with pytest.raises(ValueError, match="timed out: no whole answer within 1 s"):
                endpoint.fetch()
            assert not server.outlasted.is_set()
            assert endpoint.fetch() == "up 1\n"
        finally:
            endpoint.close()


def test_the_windows_end_waits_for_nobody(tmp_path: Path) -> None:
    """XP-06: an endpoint that hangs takes no time from the load."""
    with serving(hang) as server:
        sampling = ServiceMetrics(spec("service", timeout_s=60.0)).observe(url_of(server), JVM, StandIn())
        sampling.begin()
        wait_for(lambda: server.count)
        began = time.perf_counter()
        sampling.end()
        assert time.perf_counter() - began < 60 / 2
        sampling.close()


def test_some_samples_fail(tmp_path: Path) -> None:
    """In between that costs samples only; at the end the counter's growth is not known."""
    reading = over(tmp_path, scrape(1, 1.0), "nonsense {", scrape(5, 1.5))
    assert (reading.metrics["heap_peak"], reading.metrics["gc_pause"]) == (5.0, 500.0)
    facts = reading.sources["service"]
    assert facts["failed"] == 1
    assert facts["failure"].startswith("ValueError: has no jvm_memory_used_bytes")
    assert facts["samples"] >= 3
    reading = over(tmp_path, scrape(1, 1.0), scrape(5, 1.5), "nonsense {")
    assert (reading.metrics["heap_peak"], reading.metrics["gc_pause"]) == (5.0, None)
    assert reading.missing["gc_pause"] == "the first or the last sample failed"


def test_the_time_series(tmp_path: Path) -> None:
    """SM-08: kept beside the cell: one column for the instants, one for each metric."""
    over(tmp_path, scrape(100, 2.0), scrape(900, 2.125), "nonsense", scrape(300, 2.25), at_least=6)
    kept = samples(tmp_path)
    assert kept["at_ms"] == sorted(kept["at_ms"])
    assert kept["values"]["heap_peak"][:3] == [100, 900, 300]
    assert kept["values"]["gc_pause"][:3] == [2000, 2125, 2250]
    assert {len(column) for column in kept["values"].values()} == {len(kept["at_ms"])}
    assert kept["failed"] == 1


def test_a_mode_without_an_endpoint(tmp_path: Path) -> None:
    mode = ModeSpec(runtime=Runtime.JVM, start=("x",))
    reading = observe([ServiceMetrics(spec("service"))], tmp_path, lambda: True, mode=mode)
    assert set(reading.metrics.values()) == {None}
    assert reading.missing["heap_peak"] == "the mode declares no metrics endpoint"


def test_native(tmp_path: Path) -> None:
    """SM-08: a native mode has its peak resident memory, and no pause: null, not 0."""
    source = ServiceMetrics(spec("service"))
    reading = observe([source], tmp_path, lambda: True, mode=NATIVE, service=StandIn(peak=4096))
    assert (reading.metrics["heap_peak"], reading.metrics["gc_pause"]) == (4096.0, None)
    assert set(reading.inapplicable) == {"gc_pause", "gc_count", "nonheap_peak", "threads_peak"}
    assert reading.missing["gc_pause"] == "a native process has no garbage collector to report"
    reading = observe([source], tmp_path, lambda: True, mode=NATIVE, service=StandIn(peak=None))
    assert (reading.metrics["heap_peak"], reading.metrics["gc_pause"]) == (None, None)
    assert "could not be read from /proc" in reading.missing["heap_peak"]
