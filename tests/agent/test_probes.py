"""Probes against real sockets, files and a stand-in for a container engine; and what the agent makes of them."""

import asyncio
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.backends.host import HostBackend
from agent.config import ContainerProbe, DiskProbe, HttpProbe, Probe, TcpProbe, TemperatureProbe
from agent.memory import Memory
from agent.probes import looks
from agent.probes.runner import Prober, Watched, observe
from agent.protocol import Verdict, decode_report
from agent.protocol.entries import read_entry
from agent.verdict import Result
from tests.agent.factories import SITE
from tests.agent.wire import free_port
from tests.pki import Fleet

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nall is ok"
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


class Server:
    """Answers every connection with the same bytes, or with what a function of the request says."""

    def __init__(self) -> None:
        self.answer: bytes | Callable[[bytes], bytes] = OK
        self.requests: list[bytes] = []
        self.port = 0
        self.hold_open = False
        self.ended = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(request)
            writer.write(self.answer if isinstance(self.answer, bytes) else self.answer(request))
            await writer.drain()
            if self.hold_open:
                await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.ended += 1
            writer.close()


@asynccontextmanager
async def serving(path: Path | None = None, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server()
    if path is not None:
        listening = await asyncio.start_unix_server(server.serve, path)
    else:
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
        server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()


async def look(probe: Probe) -> Result:
    return await observe(Watched(probe, looks.look_of(probe)))


def web(server: Server, path: str = "/health?a=b", **fields: Any) -> HttpProbe:
    return HttpProbe(name="web", url=f"http://127.0.0.1:{server.port}{path}", **{"timeout_s": 2.0, **fields})


class TestHttp:
    async def test_a_good_answer_and_what_is_asked(self) -> None:
        async with serving() as server:
            assert await look(web(server, contains="is ok")) == Result("up")
            (request,) = server.requests
        assert request.startswith(b"GET /health?a=b HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % server.port)
        assert b"Accept-Encoding: identity\r\n" in request

    async def test_another_status_or_text(self) -> None:
        async with serving() as server:
            assert await look(web(server, contains="is well")) == Result(
                "down", "its answer does not hold the expected text"
            )
            server.answer = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"
            assert await look(web(server, severity="degraded")) == Result("degraded", "answered 503, expected 200")
            assert await look(web(server, expect_status=503)) == Result("up")

    async def test_redirects_are_not_followed(self) -> None:
        async with serving() as server, serving() as other:
            server.answer = (
                b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/\r\nContent-Length: 0\r\n\r\n" % other.port
            )
            assert await look(web(server)) == Result("down", "answered 302, expected 200")
            assert await look(web(server, expect_status=302)) == Result("up")
            assert other.requests == []

    async def test_proxies_from_the_environment_are_not_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with serving() as server, serving() as proxy:
            for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            assert await look(web(server)) == Result("up")
            assert proxy.requests == []

    async def test_an_endless_body_is_not_read_to_its_end(self) -> None:
        async with serving() as server:
            server.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n" + b"x" * (4 << 20)
            server.hold_open = True
            assert await look(web(server)) == Result("up")
            said = await look(web(server, contains="y"))
            assert said == Result("down", "its answer does not hold the expected text")

    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            (b"", "it closed the connection without an answer"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "its answer is not HTTP"),
            (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20_000, "its answer has too many headers"),
            (b"HTTP/1.1 100 Continue\r\n\r\n", "it closed the connection without an answer"),
        ],
    )
    async def test_what_is_no_answer(self, answer: bytes, said: str) -> None:
        async with serving() as server:
            server.answer = answer
            assert await look(web(server)) == Result("down", said)

    async def test_a_slow_drip_ends_at_the_timeout(self) -> None:
        async with serving() as server:
            server.answer, server.hold_open = b"HTTP/1.1 200 OK\r\nContent-", True
            began_s = time.monotonic()
            assert await look(web(server, timeout_s=0.3)) == Result("down", "no answer within 0.3 s")
            assert time.monotonic() - began_s < 10

    async def test_nobody_there(self) -> None:
        probe = HttpProbe(name="web", url=f"http://127.0.0.1:{free_port()}/")
        result = await look(probe)
        assert result.state == "down"
        assert "refused" in result.detail or "connect" in result.detail

    async def test_the_certificate_of_https_is_checked(self, tmp_path: Path) -> None:
        fleet = Fleet()
        (tmp_path / "root.pem").write_text(fleet.root.pem)
        async with serving(tls=fleet.server(fleet.service("gateway"))) as server:
            url = f"https://localhost:{server.port}/"
            unknown = await look(HttpProbe(name="web", url=url))
            named = await look(HttpProbe(name="web", url=url, ca_file=str(tmp_path / "root.pem")))
        assert unknown.detail.startswith("its certificate is refused: ")
        assert named.detail.startswith("its certificate is refused: Hostname mismatch")


class TestTcp:
    async def test_a_port_that_listens_and_one_that_does_not(self) -> None:
        async with serving() as server:
            assert await look(TcpProbe(name="db", host="127.0.0.1", port=server.port)) == Result("up")
        gone = await look(TcpProbe(name="db", host="127.0.0.1", port=free_port(), severity="degraded"))
        assert gone.state == "degraded"
        assert gone.detail

    @pytest.mark.parametrize("host", ["x" * 300, "a..b", "\u2603" * 70])
    async def test_a_name_that_is_none(self, host: str) -> None:
        assert (await look(TcpProbe(name="db", host=host, port=1))).state == "down"


class TestDisk:
    async def test_warn_and_critical(self) -> None:
        disk = os.statvfs("/")
        used = (disk.f_blocks - disk.f_bfree) / (disk.f_blocks - disk.f_bfree + disk.f_bavail)
        assert 0.001 < used < 0.999
        said = f"/ is {used * 100:.0f} % full"
        assert await look(DiskProbe(name="d", path="/", warn_ratio=0.999, critical_ratio=1)) == Result("up")
        warn = DiskProbe(name="d", path="/", warn_ratio=0.0005, critical_ratio=1, severity="down")
        assert await look(warn) == Result("degraded", said)
        critical = DiskProbe(name="d", path="/", warn_ratio=0.0001, critical_ratio=0.0005, severity="down")
        assert await look(critical) == Result("down", said)

    async def test_a_path_that_is_gone(self, tmp_path: Path) -> None:
        gone = DiskProbe(name="d", path=str(tmp_path / "gone"))
        assert await look(gone) == Result("degraded", "no such file or directory")

    async def test_a_read_that_hangs_costs_one_thread_and_no_other_probe(self, monkeypatch: pytest.MonkeyPatch) -> None:
        free = threading.Event()
        calls: list[int] = []

        def hang(probe: DiskProbe) -> Result:
            calls.append(1)
            free.wait(10)
            return Result("up")

        monkeypatch.setattr(looks, "read_disk", hang)
        watched = Watched(p := DiskProbe(name="d", path="/", timeout_s=0.1), looks.look_of(p))
        for _ in range(3):
            assert await observe(watched) == Result("degraded", "no answer within 0.1 s")
        assert len(calls) == 1
        free.set()
        assert await observe(watched) == Result("up")


@pytest.mark.parametrize(
    ("celsius", "result"),
    [
        (79.9, Result("up")),
        (80.0, Result("degraded", "the CPU has 80 °C")),
        (95.5, Result("down", "the CPU has 95.5 °C")),
        (None, Result("down", "there is no temperature sensor")),
    ],
)
async def test_temperature(celsius: float | None, result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "temperature_celsius", lambda: celsius)
    assert await look(TemperatureProbe(name="heat", severity="down")) == result


class TestContainer:
    """The two engines' answers differ in much, not in this part."""

    def probe(self, path: Path, **fields: Any) -> ContainerProbe:
        return ContainerProbe(name="pos", container="pos", socket=str(path), timeout_s=2, **fields)

    @pytest.mark.parametrize(
        ("state", "said"),
        [
            ({"Status": "running", "Running": True}, ""),
            ({"Status": "running", "Running": True, "Health": None}, ""),
            ({"Status": "running", "Running": True, "Health": {"Status": "healthy"}}, ""),
            ({"Status": "running", "Running": True, "Health": {"Status": "starting"}}, ""),
            ({"Status": "running", "Running": True, "Health": {"Status": ""}}, ""),
            ({"Status": "running", "Running": True, "Health": {"Status": "unhealthy"}}, "the container is unhealthy"),
            ({"Status": "exited", "Running": False, "ExitCode": 137}, "the container is exited"),
            ({"Status": "paused", "Running": True, "Paused": True}, "the container is paused"),
            ({"Status": "restarting", "Running": False}, "the container is restarting"),
        ],
    )
    async def test_what_its_state_means(self, state: dict[str, Any], said: str, tmp_path: Path) -> None:
        async with serving(tmp_path / "e.sock") as engine:
            body = json.dumps({"Id": "1", "Config": {"Env": ["A=b"] * 2_000}, "State": state}).encode()
            engine.answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (
                len(body),
                body,
            )
            assert await look(self.probe(tmp_path / "e.sock")) == (Result("down", said) if said else Result("up"))
            (request,) = engine.requests
        assert request.startswith(b"GET /containers/pos/json HTTP/1.1\r\n")

    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            (b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}", "there is no container pos"),
            (b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\n{}", "the container engine answered 500"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "the container engine's answer cannot be read"),
            (b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 5_000, "the container engine's answer cannot be read"),
        ],
    )
    async def test_other_answers(self, answer: bytes, said: str, tmp_path: Path) -> None:
        async with serving(tmp_path / "e.sock") as engine:
            engine.answer = answer
            assert await look(self.probe(tmp_path / "e.sock", severity="degraded")) == Result("degraded", said)

    async def test_no_engine(self, tmp_path: Path) -> None:
        assert await look(self.probe(tmp_path / "none.sock")) == Result("down", "no such file or directory")


class TestTheRunner:
    def make(self, *probes: Probe, kept_at: Path | None = None) -> Prober:
        self.at = NOW
        return Prober(probes, kept_at, now=lambda: self.at)

    async def test_it_looks_at_its_interval_and_judges(self) -> None:
        async with serving() as server:
            server.answer = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"
            prober = Prober([web(server, interval_s=0.1, timeout_s=0.1)])
            prober.start()
            while prober.verdict.state == "up":
                await asyncio.sleep(0.01)
            assert len(server.requests) == 3
            assert prober.verdict.reasons == ("web: answered 503, expected 200",)
            server.answer = OK
            while prober.verdict.state == "down":
                await asyncio.sleep(0.01)
            await prober.close()
            asked = len(server.requests)
            await asyncio.sleep(0.3)
            assert len(server.requests) == asked

    async def test_a_probe_that_hangs_stops_neither_the_loop_nor_the_others(self) -> None:
        async with serving() as server, serving() as slow:
            slow.answer, slow.hold_open = b"", True
            hanging = [
                msgspec.structs.replace(web(slow, interval_s=5.0, timeout_s=5.0), name=f"slow {n}") for n in range(7)
            ]
            prober = Prober([*hanging, web(server, interval_s=0.1, timeout_s=0.1)])
            prober.start()
            await asyncio.sleep(1.8)
            assert len(server.requests) >= 5
            await prober.close()

    async def test_the_verdict_is_in_report_and_journal(self, tmp_path: Path) -> None:
        prober = self.make(TcpProbe(name="db", host="h", port=1))
        backend = HostBackend(SITE, verdict=lambda: prober.verdict)
        memory = Memory(tmp_path / "journal", [backend])
        memory.tick()
        for minute in range(1, 7):
            self.at = NOW + timedelta(minutes=minute)
            prober.take(prober.watched[0], Result("down", 'said "no"\n') if minute <= 3 else Result("up"))
            memory.tick()
        page = memory._journal.page(SITE, 0)
        entries = [read_entry(raw) for raw in page.entries]
        told = [entry.body for entry in entries if isinstance(entry.body, Verdict)]
        assert told == [
            Verdict("up", NOW),
            Verdict("down", NOW + timedelta(minutes=3), ('db: said "no"?',)),
            Verdict("up", NOW + timedelta(minutes=5)),
        ]
        assert decode_report(backend.report(None)).verdict == told[-1]
        await memory.close()

    def test_a_restart_does_not_make_a_site_well(self, tmp_path: Path) -> None:
        probe = TcpProbe(name="db", host="h", port=1)
        first = self.make(probe, kept_at=tmp_path / "probes")
        for _ in range(3):
            first.take(first.watched[0], Result("down", "refused"))
        self.at = NOW + timedelta(hours=1)
        again = Prober([probe], tmp_path / "probes", now=lambda: self.at)
        assert again.verdict == Verdict("down", NOW, ("db: refused",))
        again.take(again.watched[0], Result("up"))
        assert again.verdict.state == "down"
        again.take(again.watched[0], Result("up"))
        assert again.verdict == Verdict("up", self.at)
        assert Prober([probe], tmp_path / "probes", now=lambda: NOW).verdict == Verdict("up", NOW)

    def test_a_probe_that_is_no_more_is_forgotten(self, tmp_path: Path) -> None:
        first = self.make(TcpProbe(name="db", host="h", port=1), kept_at=tmp_path / "probes")
        for _ in range(3):
            first.take(first.watched[0], Result("down", "refused"))
        other = DiskProbe(name="db", path="/")
        assert self.make(other, kept_at=tmp_path / "probes").verdict == Verdict("up", NOW)

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"state":"bad"}', b"\xff" * 100])
    def test_a_damaged_memory_is_as_good_as_none(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "probes").write_bytes(content)
        assert self.make(kept_at=tmp_path / "probes").verdict == Verdict("up", NOW)

    def test_what_a_probe_quotes_is_bounded_and_fit_for_a_terminal(self) -> None:
        prober = self.make(TcpProbe(name="db", host="h", port=1, fall=1))
        prober.take(prober.watched[0], Result("down", "\x1b[2J" + "x" * 10_000))
        last = prober.watched[0].last
        assert last is not None
        assert last.detail == "?[2J" + "x" * 196
        assert prober.verdict.reasons == (f"db: {last.detail}"[:200],)

    def test_an_unreadable_ca_file_is_said_at_the_start(self) -> None:
        with pytest.raises(OSError, match="No such file"):
            Prober([HttpProbe(name="web", url="https://h/", ca_file="/nowhere")])


def test_the_loop_is_not_blocked_by_a_slow_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are resolved in a thread: a resolver that hangs costs that probe its timeout, nobody else anything."""
    real = socket.getaddrinfo

    def slow(host: Any, *rest: Any, **more: Any) -> Any:
        if host == "slow.invalid":
            time.sleep(0.5)
        return real("127.0.0.1", *rest, **more)

    async def play() -> tuple[Result, int]:
        turns = 0
        looking = asyncio.create_task(look(TcpProbe(name="db", host="slow.invalid", port=free_port(), timeout_s=0.2)))
        while not looking.done():
            await asyncio.sleep(0.01)
            turns += 1
        return looking.result(), turns

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    result, turns = asyncio.run(play())
    assert result == Result("down", "no answer within 0.2 s")
    assert turns >= 10
