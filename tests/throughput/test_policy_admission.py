"""What workers ask: limits at once, the last ones while they are current, then the floors; alone in one file."""

from __future__ import annotations

import asyncio
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from answering import serving, trickle_header
from serving import FakeBroker, Served, fake_broker, quick_policy, served
from workspaces import wait_for

from pytest_staging.throughput import admission as module
from pytest_staging.throughput.admission import Admission, AsyncAdmission, Limits

CLASSES = ("quick", "heavy")


@pytest.fixture(scope="module")
def broker() -> Iterator[FakeBroker]:
    with fake_broker() as one:
        yield one


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, broker: FakeBroker) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("admission"), quick_policy(broker.url)) as one:
        wait_for(lambda: not one.status()["fail_safe"])
        yield one


class Noting(Admission):
    """Notes when it asked, and the limit that it was told."""

    def __init__(self, base_url: str) -> None:
        self.told: list[tuple[float, int]] = []
        super().__init__(base_url)

    def ask(self) -> bool:
        asked_s = time.monotonic()
        if answered := super().ask():
            self.told.append((asked_s, self.limit("heavy")))
        return answered

    def told_since(self, instant_s: float) -> list[int]:
        return [limit for asked_s, limit in self.told if asked_s >= instant_s]


def test_an_override_reaches_every_worker_within_a_second(api: Served) -> None:
    """TP-04: an override takes effect for all clients within 1 s: ten of them, each asking by itself twice a second,
    and whatever was asked after it is answered by it. How long that takes is for perf/policy.py to hold."""
    clients = [Noting(api.url) for _ in range(10)]
    try:
        for client in clients:
            wait_for(lambda one=client: one.limit("heavy") == 6)  # type: ignore[misc]
        api.call("PUT", "override", {"preset": "conservative", "ttl_seconds": 600})
        began_s = time.monotonic()
        for client in clients:
            assert client.refresh_s <= 0.5
            assert set(wait_for(lambda one=client: one.told_since(began_s))) == {2}  # type: ignore[misc]
        assert clients[0].admits("heavy", 1)
        assert not clients[0].admits("heavy", 2)
    finally:
        api.call("DELETE", "override")
        for client in clients:
            client.close()


def test_the_last_state_holds_until_it_is_stale(
    tmp_path: Path, broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TP-02: when the API is away the last limits hold, then the floors that it told; when it is back, its limits."""
    with served(tmp_path, quick_policy(broker.url)) as one:
        wait_for(lambda: not one.status()["fail_safe"])
        client = Limits(one.url, stale_s=600.0)
        assert client.ask()
        one.kill()
        assert not client.ask()
        assert (client.limit("heavy"), client.fail_safe) == (6, False)
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + 600))
        assert client.fail_safe
        assert (client.limit("heavy"), client.limit("quick")) == (2, 4)
        assert "does not tell" in client.problem


def test_before_the_first_answer_there_is_the_fail_safe() -> None:
    """TP-01: what the worker was given, else one job; never none, and never all."""
    client = Limits("http://127.0.0.1:9", fail_safe={"heavy": 2})
    assert not client.ask()
    assert (client.limit("heavy"), client.limit("unheard-of"), client.fail_safe) == (2, 1, True)


def test_an_answer_that_comes_letter_by_letter_is_none() -> None:
    """TP-04: `timeout_s` is for the whole answer, its head too: a worker soon knows that the API is silent."""
    with serving(trickle_header) as server:
        client = Limits(f"http://127.0.0.1:{server.server_port}", timeout_s=0.5)
        assert not client.ask()
        assert not server.outlasted.is_set()
    assert "does not tell" in client.problem


NONE_FOR_ALL = b'{"class_states": [{"class_name": "a", "active_parallelism": 0, "minimum_floor": 1}]}'
NO_FLOOR = b'{"class_states": [{"class_name": "a", "active_parallelism": 3}]}'


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"class_states": []}', NONE_FOR_ALL, NO_FLOOR])
def test_a_bad_answer_is_none(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    """TP-01: an answer that would stop a class, or is none, changes nothing."""
    import json

    client = Limits("http://127.0.0.1:9")
    monkeypatch.setattr(client, "_fetch", lambda _: json.loads(body))
    assert not client.ask()
    assert client.limit("a") == 1


@pytest.mark.parametrize("limit", [1, 2, 5, 7, 8])
def test_the_parts_of_all_workers_add_up(limit: int) -> None:
    """TP-01: several workers of a class share its limit, exactly."""
    workers = [Limits("http://127.0.0.1:9", fail_safe={"a": limit}, worker=number, workers=3) for number in range(3)]
    assert sum(one.limit("a") for one in workers) == limit


@pytest.mark.parametrize("settings", [{"refresh_s": 0}, {"stale_s": 0.1}, {"worker": 1}, {"workers": 0}])
def test_settings_that_cannot_be(settings: dict[str, float]) -> None:
    """TP-04: said at once, not by silence."""
    with pytest.raises(ValueError, match=r"."):
        Limits("http://127.0.0.1:9", **settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no http or https URL"):
        Limits("file:///etc/passwd")


def test_asyncio(api: Served) -> None:
    """TP-04: the same in a task; the loop is never blocked."""

    async def work() -> int:
        async with AsyncAdmission(api.url) as client:
            for _ in range(2000):
                if not client.fail_safe:
                    break
                await asyncio.sleep(0.01)
            return client.limit("heavy")

    assert asyncio.run(work()) == 6


def test_the_file_works_alone(api: Served, tmp_path: Path) -> None:
    """TP-04: copied into a container, with nothing else of ours and no other package."""
    shutil.copy(str(module.__file__), tmp_path / "admission.py")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import admission\n"
        f"client = admission.Limits({api.url!r})\n"
        "assert client.ask(), client.problem\n"
        "print(client.limit('heavy'), 'pytest_staging' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout == "6 False\n", done.stderr


def test_a_check_costs_next_to_nothing(api: Served) -> None:
    """TP-04: cheaper than reading a small dictionary a hundred times; perf/policy.py holds the limit of 5 us."""
    client = Limits(api.url)
    assert client.ask()
    known = {"heavy": 6}

    def cost(work: object, times: int) -> float:
        began = time.perf_counter()
        for _ in range(times):
            work("heavy")  # type: ignore[operator]
        return (time.perf_counter() - began) / times

    ratios = [cost(client.limit, 2000) / cost(known.get, 2000) for _ in range(15)]
    assert statistics.median(ratios) < 100
