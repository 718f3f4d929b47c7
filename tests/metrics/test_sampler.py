"""The sampling thread: when it samples, what it survives, and what it costs."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from answering import serving
from sampling import JVM, StandIn, spec, url_of
from test_prometheus import scrape
from workspaces import wait_for

from pytest_staging.metrics.prometheus import ServiceMetrics
from pytest_staging.metrics.sampler import KEPT_FAILURES, Recording, Row, Sampler, Values

MICROMETER = "".join(
    f"# HELP some_metric_{number} What it says\n# TYPE some_metric_{number} gauge\n"
    + "".join(f'some_metric_{number}{{area="part {part}",cause="a \\"reason\\""}} {number}.5\n' for part in range(5))
    for number in range(100)
)


def joined(sampler: Sampler) -> Recording:
    return sampler.join(30.0)


def test_a_sample_that_fails_costs_only_itself() -> None:
    answers: Iterator[Values | Exception] = iter([{"a": 1.0}, OSError("no"), {"a": 2.0}])
    taken: list[int] = []

    def probe() -> Values:
        taken.append(1)
        answer = next(answers, {"a": 3.0})
        if isinstance(answer, Exception):
            raise answer
        return answer

    sampler = Sampler(probe, 0.001)
    sampler.begin()
    wait_for(lambda: len(taken) >= 5)
    recording = joined(sampler)
    assert [row.values["a"] for row in recording.rows[:3]] == [1.0, 2.0, 3.0]
    assert (recording.failed, recording.first, recording.last) == (1, True, True)
    assert recording.facts()["failure"] == "OSError: no"


def test_one_that_never_ends_is_given_up() -> None:
    """XP-06: what it says afterwards is nobody's any more."""
    asked, released = threading.Event(), threading.Event()

    def probe() -> Values:
        asked.set()
        released.wait(20)
        return {"a": 1.0}

    sampler = Sampler(probe, 0.001)
    sampler.begin()
    assert asked.wait(30)
    recording = sampler.join(0.05)
    released.set()
    wait_for(lambda: not [one for one in threading.enumerate() if one.name == "metrics"])
    assert (recording.rows, recording.failed) == ([], 1)
    assert recording.failure == "the last sample did not end in 0.05 s"


def test_one_that_never_began() -> None:
    recording = joined(Sampler(dict, 0.001))
    assert (recording.rows, recording.failed, recording.last) == ([], 0, False)


def test_failures_are_counted_and_the_first_kept() -> None:
    recording = Recording()
    for number in range(1000):
        recording.fail(float(number), "no")
    assert recording.facts() == {"samples": 0, "failed": 1000, "failure": "no"}
    assert len(recording.series(0.0)["failures"]) == KEPT_FAILURES


def test_columns() -> None:
    """SM-08: a value that is not there is null."""
    recording = Recording([Row(10.0, {"a": 1.0}), Row(10.5, {"a": None, "b": 2.25}), Row(11.0, {"b": 1e300})])
    series = recording.series(10.0)
    assert series["at_ms"] == [0, 500, 1000]
    assert series["values"] == {"a": [1, None, None], "b": [None, 2.25, 1e300]}


@pytest.mark.parametrize("cost_s", [0.0, 0.004])
def test_a_dear_source_is_asked_less_often(cost_s: float) -> None:
    """SM-08: sampling takes at most a hundredth of one CPU, whatever a sample costs."""
    clock = iter(range(10**9))
    sampler = Sampler(lambda: {"a": 1.0}, 0.25, cost=lambda: next(clock) * cost_s)
    assert sampler._sample() == pytest.approx(max(0.25, cost_s / 0.01))


def test_what_a_sample_of_an_endpoint_costs() -> None:
    """SM-08: 500 lines of a JVM's metrics, twice a second, at less than 1 % of one CPU: that is 5 ms for a sample on a
    machine that squares a hundred thousand numbers in this time, and in proportion on others."""
    text = MICROMETER + scrape(5, 1)
    with serving(text) as server:
        observation = ServiceMetrics(spec("service")).observe(url_of(server), JVM, StandIn())
        observation._scrape()
        cost_s = cpu_seconds(observation._scrape)
        observation.close()
    allowed_s = cpu_seconds(lambda: sum(one * one for one in range(100_000)))
    print(f"a sample costs {cost_s * 1000:.2f} ms of CPU, of {allowed_s * 1000:.2f}")
    assert cost_s < allowed_s


def cpu_seconds(what: Callable[[], object]) -> float:
    """Of this thread, the median of thirty times."""
    costs = []
    for _ in range(30):
        before_s = time.thread_time()
        what()
        costs.append(time.thread_time() - before_s)
    return statistics.median(costs)
