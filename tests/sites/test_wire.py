"""The transport against hostile agents (matrix rows 11 to 13), over real sockets on loopback."""

import asyncio
import gzip
import resource
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest

from agent.protocol import MAX_BODY_BYTES
from sites import wire as wire_module
from sites.addresses import Vetting, networks
from sites.agent_client import PollResult, PollTarget, poll
from sites.health import first
from sites.states import Failure
from sites.wire import Peer, Wire

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HOST = "127.64.9.9"
DEMO = Vetting(exceptions=networks(["127.64.0.0/10"]))
NOW = datetime.now(UTC)


def target(port: int, number: int = 1) -> PollTarget:
    peer = Peer(f"{HOST}:{port}", f"s-{number}.test.example", "")
    return PollTarget(number, uuid.UUID(int=number), 1, peer, (), NOW, 0, first(NOW))


def run(handler: Handler, polls: int = 1, *, limit: int = 100, sites: int = 1) -> tuple[list[PollResult], Wire, int]:
    """Poll `sites` sites `polls` times against a server of ours. Returns results, the wire, connections accepted."""

    async def main() -> tuple[list[PollResult], Wire, int]:
        accepted = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal accepted
            accepted += 1
            try:
                await handler(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(serve, HOST, 0)
        port = server.sockets[0].getsockname()[1]
        wire = Wire(asyncio.get_running_loop(), tls=None, limit=limit)
        results = []
        for _ in range(polls):
            for number in range(1, sites + 1):
                results.append(await poll(wire, target(port, number), DEMO))
        wire.close()
        server.close()
        await asyncio.sleep(0.01)
        return results, wire, accepted

    return asyncio.run(main())


def answering(raw: bytes, *, keep: bool = True) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(raw)
            await writer.drain()
            if not keep:
                return

    return handler


def http(body: bytes, headers: str = "", status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode() + body


def outcome(handler: Handler) -> tuple[str, str]:
    results, _, _ = run(handler)
    assert results[0].failure is not None
    return results[0].failure.value, results[0].detail


def test_connections_are_kept_alive() -> None:
    _, _, accepted = run(answering(http(b"{}")), polls=5)
    assert accepted == 1


def test_connection_closed_while_idle_is_dialled_anew() -> None:
    results, _, accepted = run(answering(http(b"{}"), keep=False), polls=3)
    assert accepted == 3
    assert {result.detail for result in results} == {results[0].detail}


def test_least_recently_used_connection_makes_room() -> None:
    _, wire, accepted = run(answering(http(b"{}")), polls=1, limit=3, sites=5)
    assert (wire.evicted, accepted) == (2, 5)


def test_redirects_are_not_followed() -> None:
    assert outcome(answering(http(b"", "location: http://127.0.0.1/\r\n", "302 Found"))) == (
        "protocol_error",
        "answered with status 302",
    )


def test_content_encoding_is_refused() -> None:
    bomb = gzip.compress(b"0" * 50_000_000)
    assert outcome(answering(http(bomb, "content-encoding: gzip\r\n"))) == (
        "protocol_error",
        "content encodings are refused",
    )


def test_announced_body_above_the_bound() -> None:
    failure, detail = outcome(answering(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n"))
    assert (failure, detail) == ("protocol_error", f"a body of more than {MAX_BODY_BYTES} bytes was announced")


def test_two_content_lengths() -> None:
    raw = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}"
    assert outcome(answering(raw))[0] == "protocol_error"


def test_length_with_chunks_is_refused() -> None:
    raw = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    assert outcome(answering(raw))[0] == "protocol_error"


def test_lying_length_then_more_bytes_ends_the_connection() -> None:
    results, _, accepted = run(answering(http(b"{}") + b"surplus"), polls=2)
    assert accepted == 2
    assert all(result.failure is Failure.PROTOCOL_ERROR for result in results)


def test_closing_in_the_middle_of_a_body() -> None:
    raw = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"
    assert outcome(answering(raw, keep=False)) == ("protocol_error", "connection closed in the middle of an answer")


def endless(chunk: bytes, head: bytes = b"") -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        for _ in range(2_000):
            writer.write(chunk)
            await writer.drain()

    return handler


def test_endless_chunks_are_cut_at_the_bound_and_memory_stays() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    assert outcome(endless(b"ffff\r\n" + b"x" * 0xFFFF + b"\r\n", head)) == (
        "protocol_error",
        f"a body of more than {MAX_BODY_BYTES} bytes",
    )
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10 * 1024


def test_a_million_headers() -> None:
    failure, detail = outcome(endless(b"a: b\r\n" * 500, b"HTTP/1.1 200 OK\r\n"))
    assert (failure, detail) == ("protocol_error", "more than 100 headers")


def test_one_endless_header() -> None:
    failure, detail = outcome(endless(b"a" * 4096, b"HTTP/1.1 200 OK\r\nx: "))
    assert (failure, detail) == ("protocol_error", "more than 16384 bytes of headers")


def test_what_is_not_http() -> None:
    assert outcome(answering(b"SSH-2.0-OpenSSH_9.2\r\n"))[0] == "protocol_error"


def test_interim_responses_are_refused() -> None:
    assert outcome(answering(b"HTTP/1.1 100 Continue\r\n\r\n"))[0] == "protocol_error"


@pytest.mark.parametrize("where", ["silent", "headers", "body"])
def test_slow_loris_ends_at_the_total_deadline(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_module, "TOTAL_TIMEOUT_S", 0.6)
    monkeypatch.setattr(wire_module, "SWEEP_S", 0.05)
    head = {
        "silent": b"",
        "headers": b"HTTP/1.1 200 OK\r\nx: ",
        "body": b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n",
    }

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head[where])
        for _ in range(30):
            await asyncio.sleep(0.1)
            if where != "silent":
                writer.write(b"x")

    results, _, _ = run(handler)
    assert (results[0].failure, results[0].detail) == (Failure.TIMEOUT, "no whole answer within 0.6 s")
    assert 550 <= results[0].rtt_ms < 2_000


def test_refused_connection_is_unreachable() -> None:
    async def main() -> PollResult:
        server = await asyncio.start_server(lambda r, w: None, HOST, 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        wire = Wire(asyncio.get_running_loop(), tls=None)
        result = await poll(wire, target(port), DEMO)
        wire.close()
        return result

    assert asyncio.run(main()).failure is Failure.UNREACHABLE
