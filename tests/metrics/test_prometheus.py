"""Heap, pauses and peak memory: what is read is right, and what cannot be read is said, in bounded time."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from answering import Answering, hang, reply, serving, trickle, trickle_header
from workspaces import wait_for

from pytest_staging.metrics import prometheus
from pytest_staging.metrics.prometheus import ServiceMetrics, parse_exposition
from pytest_staging.model.ports import Command, Process, Reading
from pytest_staging.model.version import ModeSpec, Runtime
from pytest_staging.targets.local import LocalTarget

MICROMETER = """\
# HELP jvm_memory_used_bytes The amount of used memory
# TYPE jvm_memory_used_bytes gauge
jvm_memory_used_bytes{area="heap",id="G1 Survivor Space",} 1048576.0
jvm_memory_used_bytes{area="heap",id="G1 Old Gen",} 7.340032E7
jvm_memory_used_bytes{area="nonheap",id="Metaspace",} 6.1234567E7
jvm_memory_used_bytes{area="heap",id="G1 Eden Space",} 2.5165824E7
# HELP jvm_gc_pause_seconds Time spent in GC pause
# TYPE jvm_gc_pause_seconds summary
jvm_gc_pause_seconds_count{action="end of minor GC",cause="G1 Evacuation Pause",} 3.0
jvm_gc_pause_seconds_sum{action="end of minor GC",cause="G1 Evacuation Pause",} 0.012
jvm_gc_pause_seconds_count{action="end of major GC",cause="System.gc()",} 1.0
jvm_gc_pause_seconds_sum{action="end of major GC",cause="System.gc()",} 0.03
# TYPE jvm_gc_pause_seconds_max gauge
jvm_gc_pause_seconds_max{action="end of major GC",cause="System.gc()",} 0.03
# TYPE http_server_requests_seconds summary
http_server_requests_seconds_count{uri="/a\\"b\\\\n",} 5.0
"""
JVM = ModeSpec(runtime=Runtime.JVM, start=("x",), metrics="/metrics")


def scrape(heap: float, pause_s: float) -> str:
    return f'jvm_memory_used_bytes{{area="heap",id="Eden"}} {heap}\njvm_gc_pause_seconds_sum{{cause="x"}} {pause_s}\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MICROMETER, {"heap_bytes": 1048576.0 + 7.340032e7 + 2.5165824e7, "gc_pause_s": pytest.approx(0.042)}),
        ('jvm_memory_used_bytes{area="heap"} 5\n', {"heap_bytes": 5.0, "gc_pause_s": 0.0}),
        ('jvm_memory_used_bytes{area="nonheap"} 5\n', {}),
        ("jvm_gc_pause_seconds_sum 1\n", {}),
        ("up 1\n", {}),
        ("", {}),
    ],
    ids=["Micrometer", "no pause yet", "no heap", "pause alone", "others", "empty"],
)
def test_parsing(text: str, expected: dict[str, float]) -> None:
    """SM-08: the heap is the sum over its areas, the pause the sum over its causes."""
    assert parse_exposition(text) == expected


@pytest.mark.parametrize(
    "text",
    ["<html><body>hello</body></html>", '{"heap": 5}', "jvm_memory_used_bytes{area=heap} 5\n", "a b c d\n",
     scrape(float("nan"), 0), scrape(float("inf"), 0), scrape(5, float("nan"))],
)  # fmt: skip
def test_what_is_no_exposition(text: str) -> None:
    with pytest.raises(ValueError):
        parse_exposition(text)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    started = LocalTarget().start(Command(argv=["sleep", "300"], cwd=tmp_path, log=tmp_path / "log"))
    yield started
    started.stop(0.0)


def observe(url: str, process: Process, folder: Path, until: Callable[[], object], mode: ModeSpec = JVM) -> Reading:
    sampling = ServiceMetrics(interval_s=0.01).observe(url, mode, process, folder / "samples.json")
    try:
        sampling.begin()
        wait_for(until)
        return sampling.finish()
    finally:
        sampling.close()


def samples(folder: Path) -> dict[str, list[object]]:
    return dict(json.loads((folder / "samples.json").read_text()))


def url_of(server: Answering) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def test_peak_and_growth(tmp_path: Path, process: Process) -> None:
    """SM-08: the largest heap of the window, and the pause counter's growth over it in ms."""
    with serving(scrape(100, 2.0), scrape(900, 2.1), scrape(300, 2.25)) as server:
        reading = observe(url_of(server), process, tmp_path, lambda: server.count >= 4)
    assert reading.metrics == {"heap_peak": 900.0, "gc_pause": 250.0}
    assert reading.missing == {}
    kept = samples(tmp_path)
    assert len(kept["samples"]) == server.count
    assert kept["failed_scrapes"] == []


def test_the_edges_are_scraped(tmp_path: Path, process: Process) -> None:
    """However long the interval, the window has its first and its last value."""
    with serving(scrape(1, 1.0), scrape(2, 1.5)) as server:
        sampling = ServiceMetrics(interval_s=60).observe(url_of(server), JVM, process, tmp_path / "samples.json")
        sampling.begin()
        wait_for(lambda: server.count == 1)
        reading = sampling.finish()
        sampling.close()
    assert reading.metrics == {"heap_peak": 2.0, "gc_pause": 500.0}


@pytest.mark.parametrize("values", [(5.0, 4.0), (5.0, 0.1, 6.0)], ids=["at the end", "in between"])
def test_a_counter_that_goes_backwards(tmp_path: Path, process: Process, values: tuple[float, ...]) -> None:
    """A service that restarted within the window has no growth to report; nothing is invented."""
    with serving(*[scrape(7, value) for value in values]) as server:
        reading = observe(url_of(server), process, tmp_path, lambda: server.count > len(values))
    assert reading.metrics == {"heap_peak": 7.0, "gc_pause": None}
    assert reading.missing == {"gc_pause": "the pause counter went backwards"}


BAD: dict[str, tuple[str | Callable[[BaseHTTPRequestHandler], None], str]] = {
    "html": ("<html><body>hello</body></html>", "Error"),
    "other metrics": ("up 1\n", "has no jvm_memory_used_bytes"),
    "status 500": (lambda handler: reply(handler, 500, scrape(1, 1).encode()), "answered 500"),
    "redirect": (lambda handler: reply(handler, 302, b""), "answered 302"),
    "not utf-8": (lambda handler: reply(handler, 200, b"\xff\xfe"), "decode"),
    "5 MB": (lambda handler: reply(handler, 200, scrape(1, 1).encode() * 60_000), "never ends or is too large"),
    "cut short": (lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nup"), "Error"),
    "no answer": (lambda handler: handler.connection.shutdown(socket.SHUT_RDWR), "Error"),
    "endless body": (trickle, "never ends or is too large"),
    "hanging": (hang, "ReadTimeout"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_endpoints(tmp_path: Path, process: Process, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """XP-06: each failed scrape is counted with its reason, never raised, and the metrics are missing, not zero."""
    answer, expected = BAD[name]
    monkeypatch.setattr(prometheus, "SCRAPE_TIMEOUT_S", 0.2)
    with serving(answer) as server:
        reading = observe(url_of(server), process, tmp_path, lambda: server.count)
    assert reading.metrics == {"heap_peak": None, "gc_pause": None}
    assert set(reading.missing) == {"heap_peak", "gc_pause"}
    assert f"scrapes of {url_of(server)}/metrics failed: " in reading.missing["heap_peak"]
    failed = samples(tmp_path)["failed_scrapes"]
    assert failed
    assert all(expected in str(one) for one in failed), failed


def test_an_endpoint_that_defies_every_timeout(
    tmp_path: Path, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Headers that come letter by letter, for as long as the test lets them: the window ends all the same."""
    monkeypatch.setattr(prometheus, "FINISH_DEADLINE_S", 0.2)
    with serving(trickle_header) as server:
        reading = observe(url_of(server), process, tmp_path, lambda: server.count)
    assert reading.metrics == {"heap_peak": None, "gc_pause": None}
    assert samples(tmp_path)["failed_scrapes"] == ["the last scrape did not end in 0.2 s"]


def test_some_scrapes_fail(tmp_path: Path, process: Process) -> None:
    """In between that costs samples only; at the end the counter's growth is not known."""
    with serving(scrape(1, 1.0), "nonsense {", scrape(5, 1.5)) as server:
        reading = observe(url_of(server), process, tmp_path, lambda: server.count >= 4)
    assert reading.metrics == {"heap_peak": 5.0, "gc_pause": 500.0}
    assert len(samples(tmp_path)["failed_scrapes"]) == 1
    with serving(scrape(1, 1.0), scrape(5, 1.5), "nonsense {") as server:
        reading = observe(url_of(server), process, tmp_path, lambda: server.count >= 3)
    assert reading.metrics == {"heap_peak": 5.0, "gc_pause": None}
    assert reading.missing == {"gc_pause": "the first or the last scrape failed"}


def test_a_mode_without_an_endpoint(tmp_path: Path, process: Process) -> None:
    mode = ModeSpec(runtime=Runtime.JVM, start=("x",))
    reading = observe("http://127.0.0.1:9", process, tmp_path, lambda: True, mode)
    assert reading.metrics == {"heap_peak": None, "gc_pause": None}
    assert reading.missing["heap_peak"] == "the mode declares no metrics endpoint"


def test_native(tmp_path: Path, process: Process) -> None:
    """SM-08: a native mode has its peak resident memory, and no pause: null, not 0."""
    mode = ModeSpec(runtime=Runtime.NATIVE, start=("x",), metrics="/metrics")
    wait_for(process.peak_resident_bytes)
    reading = observe("http://127.0.0.1:9", process, tmp_path, lambda: True, mode)
    peak = process.peak_resident_bytes()
    assert peak
    assert reading.metrics == {"heap_peak": float(peak), "gc_pause": None}
    assert reading.inapplicable == ("gc_pause",)
    process.stop(0.0)
    reading = observe("http://127.0.0.1:9", process, tmp_path, lambda: True, mode)
    assert reading.metrics == {"heap_peak": None, "gc_pause": None}
    assert "could not be read from /proc" in reading.missing["heap_peak"]
