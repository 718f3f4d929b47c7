"""Several sources in one window: each fails alone, nobody waits for another, one file holds all series."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from answering import hang, serving
from sampling import JVM, StandIn, observe, spec, url_of
from test_prometheus import scrape
from workspaces import wait_for

from pytest_staging.metrics.combined import CombinedMetrics
from pytest_staging.metrics.process import ProcessMetrics
from pytest_staging.metrics.prometheus import ServiceMetrics
from pytest_staging.metrics.sampler import Recording, Row
from pytest_staging.model.errors import LeaseLost, RemoteFailed, StorageError
from pytest_staging.model.observing import Reading
from pytest_staging.model.ports import Usage

STEPS = ("observe", "begin", "end", "finish", "close")


class Broken:
    """A source that fails at one step."""

    title = "broken"
    metrics = ("mine", "mine_too")

    def __init__(self, at: str, error: Exception) -> None:
        self._at, self._error, self.done = at, error, list[str]()

    def _step(self, name: str) -> None:
        self.done.append(name)
        if name == self._at:
            raise self._error

    def observe(self, *_: Any) -> Broken:
        self._step("observe")
        return self

    def begin(self) -> None:
        self._step("begin")

    def end(self) -> None:
        self._step("end")

    def finish(self) -> tuple[Reading, Recording]:
        self._step("finish")
        return Reading(metrics={"mine": 1.0, "mine_too": 2.0}, missing={}), Recording()

    def close(self) -> None:
        self._step("close")


def using() -> StandIn:
    return StandIn(usage=lambda: Usage(cpu_s=1.0, switches={7: (1, 2)}))


@pytest.mark.parametrize("at", STEPS)
def test_each_fails_alone(tmp_path: Path, at: str) -> None:
    """XP-06: one that breaks costs its own metrics, with the reason, and no other's."""
    broken = Broken(at, RuntimeError("no luck"))
    with serving(scrape(5, 1)) as server:
        sources = [broken, ServiceMetrics(spec("service")), ProcessMetrics(spec("process"))]
        reading = observe(sources, tmp_path, lambda: server.count > 2, url_of(server), service=using())
    assert (reading.metrics["heap_peak"], reading.metrics["cpu_seconds"]) == (5.0, 0.0)
    if at == "close":  # everything was there by then
        assert (reading.metrics["mine"], "mine" in reading.missing) == (1.0, False)
        return
    assert (reading.metrics["mine"], reading.metrics["mine_too"]) == (None, None)
    assert reading.missing["mine"] == "the source broken failed: RuntimeError: no luck"
    assert reading.sources["broken"] == {"samples": 0, "failed": 1, "failure": "RuntimeError: no luck"}
    assert broken.done[-1] == ("observe" if at == "observe" else "close"), "what was made is closed"


@pytest.mark.parametrize("error", [LeaseLost("away"), RemoteFailed("no space")])
def test_what_is_the_cells_own_failure(tmp_path: Path, error: Exception) -> None:
    """A lease that is lost spoils all that was measured; a source that cannot be read does not."""
    sources = [Broken("end", error)]
    if isinstance(error, LeaseLost):
        with pytest.raises(LeaseLost):
            observe(sources, tmp_path, lambda: True)
    else:
        assert "RemoteFailed: no space" in observe(sources, tmp_path, lambda: True).missing["mine"]


def test_nobody_waits_for_another(tmp_path: Path) -> None:
    """A source that hangs holds up neither the load's end nor the last sample of another."""
    with serving(hang) as hanging, serving(scrape(5, 1.0), scrape(5, 1.5)) as fine:
        slow = ServiceMetrics(spec("service", timeout_s=60.0, names={"slow": {"name": "slow", "how": "peak"}}))
        quick = ServiceMetrics(spec("service", interval_s=60.0))
        both = CombinedMetrics([At(slow, url_of(hanging)), At(quick, url_of(fine))])
        sampling = both.observe("", JVM, StandIn(), tmp_path / "samples.json")
        sampling.begin()
        wait_for(lambda: hanging.count and fine.count)
        began = time.perf_counter()
        sampling.end()
        wait_for(lambda: fine.count == 2)
        assert time.perf_counter() - began < 60 / 2
        hanging.closing.set()
        reading = sampling.finish()
        sampling.close()
    assert reading.metrics["gc_pause"] == 500.0


class At:
    """A source at an address of its own."""

    def __init__(self, source: ServiceMetrics, url: str) -> None:
        self._source, self._url = source, url
        self.title, self.metrics = source.title, source.metrics

    def observe(self, _: str, mode: Any, service: Any) -> Any:
        return self._source.observe(self._url, mode, service)


def test_one_file_for_all_series(tmp_path: Path) -> None:
    """SM-08: samples.json says when the window was, and holds each source's columns."""
    before = time.time()
    with serving(scrape(5, 1)) as server:
        sources = [ServiceMetrics(spec("service")), ProcessMetrics(spec("process")), ProcessMetrics(spec("process"))]
        observe(sources, tmp_path, lambda: server.count > 3, url_of(server), service=using())
    text = (tmp_path / "samples.json").read_text()
    kept = json.loads(text)
    assert kept["schema_version"] == 1
    assert before - 0.01 <= kept["began_at_s"] <= time.time()
    assert list(kept["sources"]) == ["service", "process", "process 2"]
    at_ms = kept["sources"]["service"]["at_ms"]
    assert -50 < at_ms[0] < 500
    assert at_ms[-1] == pytest.approx(kept["window_ms"], abs=500)
    assert ": " not in text, "an hour of samples should not be mostly blanks"


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    sampling = CombinedMetrics([]).observe("", JVM, StandIn(), tmp_path / "gone" / "samples.json")
    sampling.begin()
    sampling.end()
    with pytest.raises(StorageError):
        sampling.finish()


def test_an_hour_takes_little_room() -> None:
    """SM-08: 7,200 samples of five series."""
    recording = Recording()
    for number in range(7200):
        values = {"heap_peak": 123456789.0 + number, "gc_pause": 12.5 * number, "gc_count": number / 1.0,
                  "nonheap_peak": 61234567.0, "threads_peak": 23.0}  # fmt: skip
        recording.rows.append(Row(number / 2, values))
    size = len(json.dumps(recording.series(0.0), separators=(",", ":")))
    assert size < 400_000, f"{size / 7200:.0f} bytes a sample"
