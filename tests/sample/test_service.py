"""The sample workspace's service: what each version answers, reports, costs and how it stops."""

from __future__ import annotations

import difflib
import json
import os
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ("baseline", "nodelay", "eager-buffers")
MODES = ("jvm", "native")
MIB = 1024 * 1024
BUILD_TIMEOUT_S = 180.0
READY_TIMEOUT_S = 60.0
REPLY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0  # less than the 30 s for which the JVM's server keeps an idle connection

Key = tuple[str, str]


def require_tool(name: str) -> str:
    """The tool's path; without it the test is skipped, or fails where STAGING_REQUIRE_LAB=1 promises the tools."""
    found = shutil.which(name)
    if found is None:
        _give_up(f"the sample service needs {name}, which is not on PATH")
    return found


def _give_up(reason: str) -> NoReturn:
    if os.environ.get("STAGING_REQUIRE_LAB") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """One keep-alive connection; a request leaves in a single send, so Nagle's algorithm never holds the client."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=REPLY_TIMEOUT_S)
        self._received = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def request(self, method: str, path: str, body: bytes = b"", headers: str = "") -> Reply:
        self.send(build_request(method, path, body, headers))
        return self.read_reply(has_body=method != "HEAD")

    def send_and_hang_up(self, data: bytes) -> None:
        """Returns when the service is done with the connection too, so that nothing is counted later."""
        try:
            self.send(data)
            self._socket.shutdown(socket.SHUT_WR)
            while self._socket.recv(65536):
                pass
        except ConnectionError:
            pass  # refusing while the client still sends is as good

    def pipeline(self, requests: list[bytes]) -> list[Reply]:
        """All at once, so that delayed acknowledgements cost one wait and not one for each request."""
        self.send(b"".join(requests))
        return [self.read_reply() for _ in requests]

    def read_reply(self, has_body: bool = True) -> Reply:
        while b"\r\n\r\n" not in self._received:
            self._receive()
        head, self._received = self._received.split(b"\r\n\r\n", 1)
        status_line, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0")) if has_body else 0
        while len(self._received) < length:
            self._receive()
        body, self._received = self._received[:length], self._received[length:]
        return Reply(int(status_line.split()[1]), headers, body)

    def _receive(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("the service closed the connection")
        self._received += data


def build_request(method: str, path: str, body: bytes = b"", headers: str = "") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: service\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


@dataclass(frozen=True)
class Service:
    mode: str
    port: int
    process: subprocess.Popen[bytes]

    def request(self, method: str, path: str, body: bytes = b"", headers: str = "") -> Reply:
        with Client(self.port) as client:
            return client.request(method, path, body, headers)

    def invoke(self, function: str, payload: object) -> Reply:
        return self.request("POST", f"/invoke/{function}", json.dumps(payload).encode())

    def metrics(self) -> dict[str, float]:
        return parse_metrics(self.request("GET", "/metrics").body.decode())

    def peak_resident_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
        assert found is not None, status
        return int(found.group(1)) * 1024


SAMPLE = re.compile(
    r'([a-z_:][a-z0-9_:]*(?:\{(?:[a-z_]+="[^"\\]*",?)+\})?) (-?[0-9.]+(?:[Ee][-+]?[0-9]+)?)', re.IGNORECASE
)


def parse_metrics(text: str) -> dict[str, float]:
    """Every sample by its name and labels; a line that is neither sample nor comment, or comes twice, is an error."""
    samples: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            continue
        found = SAMPLE.fullmatch(line)
        assert found is not None, f"not a sample: {line!r}"
        assert found.group(1) not in samples, f"twice: {line!r}"
        samples[found.group(1)] = float(found.group(2))
    return samples


def total(metrics: dict[str, float], name: str, label: str = "") -> float:
    return sum(value for key, value in metrics.items() if key.split("{")[0] == name and label in key)


def snapshot(version: str) -> Path:
    return ROOT / "versions" / version / "snapshot"


def load_mode(version: str, mode: str) -> dict[str, Any]:
    contract = yaml.safe_load((snapshot(version) / "service.yaml").read_text())
    loaded: dict[str, Any] = contract["modes"][mode]
    return loaded


def build(version: str, mode: str, folder: Path, flags: tuple[str, ...] = ()) -> list[str]:
    """Builds in a copy of the snapshot, as service.yaml says, and returns the start command."""
    source, artifact = folder / "source", folder / "artifact"
    shutil.copytree(snapshot(version), source)
    artifact.mkdir()
    declared = load_mode(version, mode)
    for command in declared["build"]:
        require_tool(command[0])
        filled = [command[0], *flags, *(word.format(artifact=artifact) for word in command[1:])]
        built = subprocess.run(filled, cwd=source, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False)
        assert built.returncode == 0, built.stderr
    return [word.format(artifact=artifact) for word in declared["start"]]


@contextmanager
def running(version: str, mode: str, command: list[str], folder: Path) -> Iterator[Service]:
    """A started service that answers its health check; whatever happens, it is gone afterwards."""
    require_tool(command[0])
    port = free_port()
    environment = {
        **os.environ,
        "STAGING_HOST": "127.0.0.1",
        "STAGING_PORT": str(port),
        "STAGING_MODE": mode,
        "STAGING_VERSION": version,
        "STAGING_VERSION_ROOT": str(folder / "source"),
    }
    log = folder / "service.log"
    with log.open("ab") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
    try:
        service = Service(mode, port, process)
        wait_until_healthy(service, log)
        yield service
    finally:
        process.kill()
        process.wait(STOP_TIMEOUT_S)


def free_port() -> int:
    """One that nobody is given meanwhile: the system chooses higher ones by itself."""
    while True:
        port = random.randrange(20000, 26000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def wait_until_healthy(service: Service, log: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        assert service.process.poll() is None, f"the service ended early: {log.read_text()}"
        try:
            if service.request("GET", "/healthz").status == 200:
                return
        except ConnectionError:
            time.sleep(0.02)  # between two looks at the condition, until the deadline
    pytest.fail(f"not healthy after {READY_TIMEOUT_S} s: {log.read_text()}")


def stop(service: Service) -> int:
    service.process.send_signal(signal.SIGTERM)
    return service.process.wait(STOP_TIMEOUT_S)


@pytest.fixture(scope="module")
def start_commands(tmp_path_factory: pytest.TempPathFactory) -> dict[Key, tuple[list[str], Path]]:
    """Every version in every mode, built once."""
    keys = [(version, mode) for version in VERSIONS for mode in MODES]
    folders = [tmp_path_factory.mktemp(f"{version}-{mode}") for version, mode in keys]
    for tool in ("javac", "java", "cc"):
        require_tool(tool)
    with ThreadPoolExecutor(max_workers=2) as pool:
        commands = list(pool.map(lambda key, folder: build(key[0], key[1], folder), keys, folders))
    return {key: (command, folder) for key, command, folder in zip(keys, commands, folders, strict=True)}


@pytest.fixture(scope="module")
def start(start_commands: dict[Key, tuple[list[str], Path]]) -> Callable[[str, str], Any]:
    """Starts a fresh service of a version in a mode."""
    return lambda version, mode: running(version, mode, *start_commands[version, mode])


@pytest.fixture(scope="module", params=[(v, m) for v in VERSIONS for m in MODES], ids="-".join)
def service(request: pytest.FixtureRequest, start: Callable[[str, str], Any]) -> Iterator[Service]:
    with start(*request.param) as started:
        yield started


def reference_word_stats(text: str) -> bytes:
    words = [word.lower() for word in re.findall(r"[A-Za-z0-9]+", text)]
    counts = Counter(words)
    answer = {
        "words": len(words),
        "unique": len(counts),
        "longest": min(counts, key=lambda word: (-len(word), word), default=""),
        "top": sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:5],
    }
    return json.dumps(answer, separators=(",", ":")).encode()


def reference_collatz(limit: int) -> bytes:
    lengths = {1: 1}
    for first in range(2, limit):
        path, n = [], first
        while n not in lengths:
            path.append(n)
            n = 3 * n + 1 if n % 2 else n // 2
        for distance, seen in enumerate(reversed(path), start=1):
            lengths[seen] = lengths[n] + distance
    best = max(range(1, limit), key=lambda first: (lengths[first], -first))
    return json.dumps({"limit": limit, "start": best, "length": lengths[best]}, separators=(",", ":")).encode()


PAYLOAD_TEXT = json.loads((ROOT / "benchmark" / "payloads" / "word-stats.json").read_text())["text"]
TEXTS = (
    "",
    " \t\r\n .,;!?",
    "a",
    "One one ONE two Two three",
    "f e d c b a",
    "b b a a d d c c f f e e",
    "aa bb cc",
    "x" * 5000 + " " + "y" * 5000,
    "don't stop-at_under_scores 3.14 v2",
    'quote " backslash \\ slash / tab \t bell \b feed \f line \n end',
    "nul \x00 del \x7f unit \x1f",
    "naïve café ÜBER straße \u212aelvin dotless \u0131 \u0130stanbul",
    "mixed日本語words and 😀emoji😀between",
    "word " * 5000,
    " ".join(str(number) for number in range(5000)),
    PAYLOAD_TEXT,
)
RAW_WORD_STATS = (
    rb'{"text":"\u0041\u0062c \u00e9 \ud83d\ude00 x\u0000y \/ \"q\" \\ \b\f\n\r\t"}',
    rb'{"te\u0078t":"escaped name"}',
    rb'{"text":"first","text":"second second"}',
    rb' { "other" : [1, -2.5e+3, true, false, null, {"text": "inner"}, []] , "text" : "outer" , "x" : {} } ',
    rb'{"text":"lone \ud800 surrogate"}',
    b'{"text":"outside","deep":' + b"[" * 60 + b"]" * 60 + b"}",
)
BAD_WORD_STATS = (
    b"",
    b"null",
    b'"text"',
    b"[]",
    b"{}",
    b'{"text":1}',
    b'{"text":null}',
    b'{"text":["a"]}',
    b'{"text":{"text":"a"}}',
    b'[{"text":"a"}]',
    b'{"text":"a"',
    b'{"text":"a',
    b'{"text":"a\\',
    b'{"text":"a\\u12',
    b'{"text":"a"}}',
    b'{"text":"a"} x',
    b'{"text":"a"}\x00',
    b'{"text":"a",}',
    b'{,"text":"a"}',
    b'{"text" "a"}',
    b"{text:'a'}",
    b'{"text":"a\\x"}',
    b'{"text":"\\u00g0"}',
    b'{"text":"\\u+123"}',
    b'{"text":"a\nb"}',
    b'{"text":"a","n":01}',
    b'{"text":"a","n":.5}',
    b'{"text":"a","n":1.}',
    b'{"text":"a","n":-}',
    b'{"text":"a","n":1e}',
    b'{"text":"a","n":tru}',
    b'{"text":"a","n":NaN}',
    b"[" * 100000,
    b'{"a":' * 100000,
)
LIMITS = (2, 3, 4, 10, 28, 100, 3000, 100_000)
BAD_LIMITS = (
    b"1",
    b"0",
    b"-0",
    b"-5",
    b"1000001",
    b"9223372036854775808",
    b"18446744073709551618",
    b"9" * 400,
    b"10.0",
    b"1e3",
    b"true",
    b'"10"',
    b"null",
    b"+10",
    b"0x10",
    b"",
)
BAD_COLLATZ = (*(b'{"limit":%s}' % limit for limit in BAD_LIMITS), b"{}", b"10", b"")


def test_word_stats_agrees_with_the_reference(service: Service) -> None:
    """Every text gives the reference's answer byte for byte, in each version and mode."""
    check_word_stats(service, [json.dumps({"text": text}, ensure_ascii=False).encode() for text in TEXTS])
    check_word_stats(service, [json.dumps({"text": text}).encode() for text in TEXTS if not text.isascii()])


def test_word_stats_reads_json_as_the_reference_does(service: Service) -> None:
    """Escapes, white space, other members and repeated names are understood as Python understands them."""
    check_word_stats(service, RAW_WORD_STATS)


def check_word_stats(service: Service, bodies: Sequence[bytes]) -> None:
    with Client(service.port) as client:
        replies = client.pipeline([build_request("POST", "/invoke/word-stats", body) for body in bodies])
    for body, reply in zip(bodies, replies, strict=True):
        assert (reply.status, reply.body) == (200, reference_word_stats(json.loads(body)["text"])), body[:60]


def test_collatz_agrees_with_the_reference(service: Service) -> None:
    """The longest chain below a limit, the smaller start on a tie, is the reference's."""
    for limit in LIMITS:
        reply = service.invoke("collatz", {"limit": limit})
        assert (reply.status, reply.body) == (200, reference_collatz(limit))


def test_bad_input_is_refused_alike_in_both_modes(start: Callable[[str, str], Any]) -> None:
    """Bad bodies get 400 with one and the same explanation in both modes, and the connection lives on."""
    requests = {
        build_request("POST", f"/invoke/{function}", body): body
        for function, bodies in (("word-stats", BAD_WORD_STATS), ("collatz", BAD_COLLATZ))
        for body in bodies
    }
    replies: list[list[Reply]] = []
    for mode in MODES:
        with start("baseline", mode) as service, Client(service.port) as client:
            replies.append(client.pipeline(list(requests)))
    for body, jvm, native in zip(requests.values(), *replies, strict=True):
        assert (jvm.status, native.status) == (400, 400), body[:60]
        assert jvm.body == native.body
        assert "error" in json.loads(jvm.body)


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/", 404, None),
        ("POST", "/invoke/unknown", 404, None),
        ("POST", "/invoke/collatz/", 404, None),
        ("GET", "/invoke/collatz", 405, "POST"),
        ("HEAD", "/invoke/collatz", 405, "POST"),
        ("POST", "/healthz", 405, "GET"),
        ("DELETE", "/metrics", 405, "GET"),
        ("GET", "/healthz?verbose=1", 200, None),
    ],
)
def test_paths_and_methods(service: Service, method: str, path: str, status: int, allow: str | None) -> None:
    """Unknown paths get 404, wrong methods 405 with Allow, a query is ignored, and the connection lives on."""
    with Client(service.port) as client:
        for _ in range(2):
            reply = client.request(method, path, b"{}")
            assert (reply.status, reply.headers.get("allow")) == (status, allow)


def test_health(service: Service) -> None:
    """The health check says UP in JSON."""
    reply = service.request("GET", "/healthz")
    assert (reply.status, reply.body) == (200, b'{"status":"UP"}')
    assert reply.headers["content-type"] == "application/json"


def test_body_up_to_the_bound_is_read_and_beyond_it_refused(service: Service) -> None:
    """A body of 1 MiB is answered, one byte more gets 413 although the client sends it all before it reads."""
    frame = len(b'{"text":""}')
    assert service.request("POST", "/invoke/word-stats", b'{"text":"%s"}' % (b"a" * (MIB - frame))).status == 200
    for size in (MIB + 1, 3 * MIB):
        reply = service.request("POST", "/invoke/word-stats", b'{"text":"%s"}' % (b"a" * (size - frame)))
        assert reply.status == 413
    assert service.invoke("collatz", {"limit": 10}).status == 200


def test_concurrent_keep_alive_requests_are_all_correct(service: Service) -> None:
    """Sixteen threads with fifty requests each, no two alike, all get their own answer."""
    check_concurrency(service, threads=16, requests=50)


def test_many_connections_at_once(service: Service) -> None:
    """Sixty-four connections that are open at the same time are all served, again and again."""
    clients = [Client(service.port) for _ in range(64)]
    try:
        for _ in range(2):
            for client in clients:
                client.send(build_request("POST", "/invoke/collatz", b'{"limit":30}'))
            assert {client.read_reply().body for client in clients} == {reference_collatz(30)}
    finally:
        for client in clients:
            client.__exit__()


def test_requests_in_pieces_and_in_one_piece(service: Service) -> None:
    """A request that trickles in is put together; requests sent in one go are answered in their order."""
    bodies = [b'{"text":"%s"}' % (b"a " * count) for count in range(1, 6)]
    requests = [build_request("POST", "/invoke/word-stats", body) for body in bodies]
    with Client(service.port) as client:
        for byte in requests[0]:
            client.send(bytes([byte]))
        assert json.loads(client.read_reply().body)["words"] == 1
        assert [json.loads(reply.body)["words"] for reply in client.pipeline(requests)] == [1, 2, 3, 4, 5]


def test_connection_close_is_honoured(service: Service) -> None:
    """After Connection: close the answer is complete and the service hangs up."""
    with Client(service.port) as client:
        assert client.request("GET", "/healthz", headers="Connection: close\r\n").status == 200
        with pytest.raises(ConnectionError):
            client.request("GET", "/healthz")


def test_broken_requests_do_not_hurt_others(service: Service) -> None:
    """Garbage, a head without end, contradictory lengths and an early hang-up leave the service answering."""
    broken = (
        b"\r\n\r\n",
        b"GARBAGE\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 70000,
        b"POST /invoke/collatz HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /invoke/collatz HTTP/1.1\r\nContent-Length: ten\r\n\r\n",
        b"POST /invoke/collatz HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST /invoke/collatz HTTP/1.1\r\nContent-Length: 50\r\n\r\n{",
    )
    for data in broken:
        with Client(service.port) as client:
            client.send_and_hang_up(data)
    assert service.invoke("collatz", {"limit": 10}).body == reference_collatz(10)


def check_concurrency(service: Service, threads: int, requests: int) -> None:
    def worker(number: int) -> int:
        correct = 0
        with Client(service.port) as client:
            for turn in range(requests):
                if turn % 2:
                    text = f"thread{number} turn{turn} turn{turn} " + "filler " * (turn * 20)
                    body, expected = json.dumps({"text": text}).encode(), reference_word_stats(text)
                    reply = client.request("POST", "/invoke/word-stats", body)
                else:
                    limit = 2 + number * requests + turn
                    expected = reference_collatz(limit)
                    reply = client.request("POST", "/invoke/collatz", b'{"limit":%d}' % limit)
                correct += (reply.status, reply.body) == (200, expected)
        return correct

    with ThreadPoolExecutor(threads) as pool:
        assert list(pool.map(worker, range(threads))) == [requests] * threads


def test_metrics_count_each_request_once(service: Service) -> None:
    """The counters grow by exactly the requests made between two readings, by path, status and outcome."""
    before = service.metrics()
    with Client(service.port) as client:
        for _ in range(7):
            client.request("POST", "/invoke/collatz", b'{"limit":10}')
        for _ in range(3):
            client.request("POST", "/invoke/word-stats", b"{}")
        client.request("GET", "/nowhere")
    after = service.metrics()
    expected = {
        'outcome="SUCCESS",status="200",uri="/invoke/collatz"': 7,
        'outcome="CLIENT_ERROR",status="400",uri="/invoke/word-stats"': 3,
        'outcome="CLIENT_ERROR",status="404",uri="UNKNOWN"': 1,
        'outcome="SUCCESS",status="200",uri="/metrics"': 1,
    }
    for labels, count in expected.items():
        key = f"http_server_requests_seconds_count{{{labels}}}"
        assert after[key] - before.get(key, 0) == count, labels
        assert after[key.replace("_count", "_sum")] > 0
    name = "http_server_requests_seconds_count"
    assert total(after, name) - total(before, name) == sum(expected.values())
    assert after["process_uptime_seconds"] > before["process_uptime_seconds"] > 0


def test_metrics_have_the_modes_names(service: Service) -> None:
    """A JVM reports heap, collections and threads under Micrometer's names, a native process its resident memory."""
    reply = service.request("GET", "/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    metrics = parse_metrics(reply.body.decode())
    if service.mode == "native":
        assert MIB < metrics["process_resident_memory_bytes"] <= service.peak_resident_bytes()
        assert not [key for key in metrics if key.startswith("jvm_")]
        return
    assert 0 < total(metrics, "jvm_memory_used_bytes", 'area="heap"') <= 96 * MIB
    assert total(metrics, "jvm_memory_used_bytes", 'area="nonheap"') > 0
    assert 80 * MIB < total(metrics, "jvm_memory_max_bytes", 'area="heap"') <= 96 * MIB
    pause = '{action="end of minor GC",cause="Allocation Failure",gc="Copy"}'
    assert {f"jvm_gc_pause_seconds_{part}{pause}" for part in ("count", "sum", "max")} <= metrics.keys()
    assert metrics["jvm_threads_live_threads"] > 0


def test_modest_load_makes_the_jvm_collect(start: Callable[[str, str], Any]) -> None:
    """Some hundred requests are enough for a collection, so that the collection metrics have something to say."""
    with start("nodelay", "jvm") as service:
        before = total(service.metrics(), "jvm_gc_pause_seconds_count")
        invoke_payload(service, 600)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while total(service.metrics(), "jvm_gc_pause_seconds_count") == before:  # it is told a moment later
            assert time.monotonic() < deadline, "no collection was reported"
        assert total(service.metrics(), "jvm_gc_pause_seconds_sum") > 0


def invoke_payload(service: Service, requests: int) -> None:
    body = json.dumps({"text": PAYLOAD_TEXT}).encode()
    with Client(service.port) as client:
        assert {client.request("POST", "/invoke/word-stats", body).status for _ in range(requests)} == {200}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mode", MODES)
def test_sigterm_ends_the_service_with_zero(start: Callable[[str, str], Any], version: str, mode: str) -> None:
    """SIGTERM ends it promptly with exit status 0, although an idle keep-alive connection is open."""
    with start(version, mode) as service, Client(service.port) as client:
        assert client.request("GET", "/healthz").status == 200
        assert stop(service) == 0


@pytest.mark.parametrize("mode", MODES)
def test_sigterm_lets_the_request_in_hand_finish(start: Callable[[str, str], Any], mode: str) -> None:
    """A request that is being worked on when SIGTERM comes still gets its whole answer."""
    with start("baseline", mode) as service, Client(service.port) as client:
        before_s = used_s(service)
        client.send(build_request("POST", "/invoke/collatz", b'{"limit":1000000}'))
        wait_until_busy(service, before_s)
        assert stop(service) == 0
        assert json.loads(client.read_reply().body) == {"limit": 1000000, "start": 837799, "length": 525}


def used_s(service: Service) -> float:
    fields = Path(f"/proc/{service.process.pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_until_busy(service: Service, before_s: float) -> None:
    """Until the process has used 50 ms of processor time more than before, which only the computation can explain."""
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while used_s(service) < before_s + 0.05:
        assert time.monotonic() < deadline, "the request never began"


@pytest.mark.parametrize("mode", MODES)
def test_without_an_address_the_service_says_so(start_commands: dict[Key, tuple[list[str], Path]], mode: str) -> None:
    """Without a listen address it ends with an error that names the missing variables."""
    command, folder = start_commands["baseline", mode]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("STAGING_")}
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=READY_TIMEOUT_S, check=False
    )
    assert ended.returncode == 1
    assert "STAGING_HOST" in ended.stderr


@pytest.mark.parametrize("version", ["baseline", "eager-buffers"])
def test_native_service_is_clean_under_sanitizers(tmp_path: Path, version: str) -> None:
    """Under load, with bad input and at its end, the sanitizers find no bad access, leak or undefined behaviour."""
    flags = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    command = build(version, "native", tmp_path, flags)
    with running(version, "native", command, tmp_path) as service:
        check_concurrency(service, threads=16, requests=20)
        with Client(service.port) as client:
            bodies = (*RAW_WORD_STATS, *BAD_WORD_STATS, *BAD_COLLATZ)
            paths = ("/invoke/word-stats", "/invoke/collatz")
            client.pipeline([build_request("POST", path, body) for path in paths for body in bodies])
            service.metrics()
            assert service.request("POST", "/invoke/word-stats", b"x" * (MIB + 1)).status == 413
            code = stop(service)
    log = (tmp_path / "service.log").read_text()
    assert (code, log) == (0, "")


def typical_latency_s(service: Service) -> float:
    """The lower quartile on one keep-alive connection, which a busy machine leaves alone longer than the median; after
    the first requests, whose packets the kernel acknowledges at once."""
    latencies: list[float] = []
    with Client(service.port) as client:
        for _ in range(45):
            began = time.perf_counter()
            assert client.request("POST", "/invoke/collatz", b'{"limit":100}').status == 200
            latencies.append(time.perf_counter() - began)
    return statistics.quantiles(latencies[18:], n=4)[0]


@pytest.mark.parametrize("mode", MODES)
def test_nodelay_is_far_faster_on_keep_alive(start: Callable[[str, str], Any], mode: str) -> None:
    """The typical latency of nodelay is at most a quarter of the baseline's, measured in one run."""
    with start("baseline", mode) as baseline, start("nodelay", mode) as candidate:
        assert typical_latency_s(candidate) <= typical_latency_s(baseline) / 4


@pytest.mark.parametrize("mode", MODES)
def test_eager_buffers_cost_memory(start: Callable[[str, str], Any], mode: str) -> None:
    """After the same load, eager-buffers holds at least 16 MiB more, by the mode's own measure of memory."""

    def used_bytes(service: Service) -> float:
        if mode == "native":
            return service.peak_resident_bytes()
        return total(service.metrics(), "jvm_memory_used_bytes", 'area="heap"')

    used: list[float] = []
    for version in ("baseline", "eager-buffers"):
        with start(version, mode) as service:
            service.invoke("word-stats", {"text": PAYLOAD_TEXT})
            used.append(used_bytes(service))
    assert used[1] - used[0] >= 16 * MIB


def changed_files(version: str) -> dict[str, int]:
    """Lines removed from and added to the baseline, by file."""
    changes: dict[str, int] = {}
    files = {path.relative_to(snapshot(name)) for name in ("baseline", version) for path in snapshot(name).rglob("*.*")}
    for file in files:
        left, right = ((snapshot(name) / file).read_text().splitlines() for name in ("baseline", version))
        lines = list(difflib.unified_diff(left, right, n=0, lineterm=""))[2:]
        changes[str(file)] = sum(line[0] in "+-" for line in lines)
    return {file: count for file, count in changes.items() if count}


def test_candidates_differ_only_where_their_hypothesis_says() -> None:
    """A candidate's difference from its parent stays small enough to be read as its story."""
    assert changed_files("nodelay") == {"service.yaml": 1, "Dockerfile.jvm": 1, "native/service.c": 2}
    eager = changed_files("eager-buffers")
    assert eager.keys() == {"java/Service.java", "native/service.c"}
    assert max(eager.values()) <= 40


@pytest.mark.parametrize("version", VERSIONS)
def test_version_records_are_complete(version: str) -> None:
    """Each version names itself, its parent and its birth, and explains itself under the agreed headings."""
    folder = ROOT / "versions" / version
    record = yaml.safe_load((folder / "version.yaml").read_text())
    is_baseline = version == "baseline"
    assert record["slug"] == version
    assert (record["kind"], record["status"], record["parent"]) == (
        "generic-service",
        "baseline" if is_baseline else "candidate",
        None if is_baseline else "baseline",
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", record["created_at"])
    headings = re.findall(r"^## (.+)$", (folder / "hypothesis.md").read_text(), re.MULTILINE)
    assert headings == ["Context", "Differences from parent", "Hypotheses", "Risks", "Expected impact"]
