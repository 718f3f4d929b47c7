"""Prometheus text of any kind: numbers come out, or one error, and never anything else."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_staging.metrics.exposition import JVM_SERIES, SeriesParser
from pytest_staging.model.benchmark import How, SeriesSpec

GOOD = """\
# HELP jvm_memory_used_bytes The amount of used memory
# TYPE jvm_memory_used_bytes gauge
jvm_memory_used_bytes{area="heap",id="G1 Survivor Space",} 1048576.0
jvm_memory_used_bytes{area="heap",id="G1 Old Gen",} 7.340032E7
jvm_memory_used_bytes{area="nonheap",id="Meta\\\\space \\"x\\"",} 6.1234567E7 1700000000000
# TYPE jvm_gc_pause_seconds summary
jvm_gc_pause_seconds_count{action="end of minor GC",cause="G1 Evacuation Pause",} 3.0
jvm_gc_pause_seconds_sum{action="end of minor GC",cause="G1 Evacuation Pause",} 0.012
jvm_gc_pause_seconds_sum{action="end of major GC",cause="System.gc()",} 0.03
jvm_gc_pause_seconds_max{action="end of major GC",cause="System.gc()",} 0.03
"""
PARSER = SeriesParser(JVM_SERIES)


def test_what_a_jvm_exposes() -> None:
    """SM-08: the heap is the sum over its areas, the pause the sum over its causes; names that only begin alike do not
    count."""
    found = PARSER.parse(GOOD)
    assert found["heap_peak"] == 1048576.0 + 7.340032e7
    assert found["nonheap_peak"] == 6.1234567e7
    assert found["gc_pause"] == pytest.approx(42.0)
    assert found["gc_count"] == 3.0
    assert "threads_peak" not in found


@pytest.mark.parametrize("line", ["pool 5", "  pool 5", "pool\t5", "pool{} 5", 'pool{a="b"} 5', "pool 5 1700000000000"])
def test_ways_to_write_a_line(line: str) -> None:
    parser = SeriesParser({"pool": SeriesSpec(name="pool", how=How.PEAK)})
    assert parser.parse(f"pool_size 7\n{line}\nxpool 8\n") == {"pool": 5.0}
    assert parser.parse(f"pool_size 7\r\n{line}\r\n") == {"pool": 5.0}


@pytest.mark.parametrize("tenth", range(10))
def test_cut_off(tenth: int) -> None:
    """XP-06: a truncated text gives what is whole, or an error; a number that was cut is not told apart by anybody."""
    text = GOOD[: len(GOOD) * tenth // 10]
    whole = text[: text.rfind("\n") + 1]
    try:
        found = PARSER.parse(whole)
    except ValueError:
        assert "area=" not in whole
    else:
        assert set(found) <= {"heap_peak", "nonheap_peak", "gc_pause", "gc_count"}


@given(st.one_of(st.text(), st.text(alphabet='jvm_memoryusdbt{}=",\\ \n#0123456789.eENaIf+-'),
                 st.tuples(st.text(max_size=20), st.text(max_size=20)).map(
                     lambda pair: f'jvm_memory_used_bytes{{area="heap",id="{pair[0]}"}} {pair[1]}\n')))  # fmt: skip
def test_anything(text: str) -> None:
    """XP-06: a ValueError or finite numbers, whatever an endpoint says."""
    try:
        found = PARSER.parse(text)
    except ValueError:
        return
    assert all(value is None or math.isfinite(value) for value in found.values())
