import asyncio
import re
import socket
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest

from agent.backends.host import HostBackend
from agent.identity import Identity, IdentityError, IdentityFile
from agent.keeping import Keeper
from agent.listening import ListenError, _bind_each, bind_address, bind_block
from agent.protocol import decode_report
from agent.protocol.identity import RenewRequest, decode_identity, encode_identity
from agent.server import AgentServer
from tests.agent.factories import SITE
from tests.agent.wire import Client, free_port
from tests.pki import Fleet

ADDRESS = "127.121.0.1"


class BrokenBackend:
    """A backend whose host cannot be read."""

    site = SITE

    def report(self, components_digest: str | None) -> bytes:
        raise OSError("no /proc here")


class Served:
    """A server in this loop; clients run in threads, for they are blocking sockets."""

    def __init__(self, server: AgentServer, port: int) -> None:
        self.server, self.port = server, port

    async def talk(self, raw: bytes, *, timeout_s: float = 3.0, address: str = ADDRESS) -> bytes:
        """All that comes back for these bytes, until the server closes or is silent for that long."""

        def exchange() -> bytes:
            got = b""
            with Client(address, self.port, timeout_s) as client:
                client.sock.sendall(raw)
                try:
                    while piece := client.sock.recv(1 << 20):
                        got += piece
                except (TimeoutError, ConnectionResetError):
                    pass
            return got

        return await asyncio.to_thread(exchange)


async def serve(backend: Any, **options: Any) -> Served:
    sock = bind_address(ADDRESS, 0)
    server = AgentServer({ADDRESS: backend}, **{"max_connections": 8, "tls": None, **options})
    await server.listen([sock])
    return Served(server, sock.getsockname()[1])


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = await serve(HostBackend(SITE))
    yield served
    await served.server.close()


CLOSE = "Connection: close\r\n"


class TestRoute:
    async def test_a_connection_is_kept_and_answers_many_polls(self, served: Served) -> None:
        def polls() -> list[Any]:
            with Client(ADDRESS, served.port) as client:
                first = client.get()
                report = decode_report(first.body)
                assert first.headers["content-type"] == "application/json"
                digest = report.components_digest
                plain = client.get(f"/v1/report?components={digest}")
                quoted = client.get(f"/v1/report?x=1&components={digest.replace(':', '%3A')}")
                return [report, decode_report(plain.body), decode_report(quoted.body)]

        full, plain, quoted = await asyncio.to_thread(polls)
        assert full.components is not None
        assert plain.components is None
        assert quoted.components is None
        assert served.server.reports == 3

    async def test_pipelined_and_divided_requests_are_answered_in_order(self, served: Served) -> None:
        def exchange() -> list[int]:
            with Client(ADDRESS, served.port) as client:
                request = f"GET /v1/report HTTP/1.1\r\nHost: {ADDRESS}\r\n\r\n".encode()
                for byte in request + request[:20]:
                    client.sock.sendall(bytes([byte]))
                client.sock.sendall(request[20:] + request)
                return [client.read().status for _ in range(3)]

        assert await asyncio.to_thread(exchange) == [200, 200, 200]

    @pytest.mark.parametrize(
        ("request_line", "status", "code"),
        [
            ("GET / HTTP/1.1", 404, "not_found"),
            ("GET /v1/reports HTTP/1.1", 404, "not_found"),
            ("GET /v1/report/ HTTP/1.1", 404, "not_found"),
            ("GET /" + "x" * 3_000 + " HTTP/1.1", 404, "not_found"),
            ("GET /v1/report?" + "a=1&" * 20 + " HTTP/1.1", 400, "bad_request"),
            ("POST /v1/report HTTP/1.1", 405, "method_not_allowed"),
            ("DELETE /v1/report HTTP/1.1", 405, "method_not_allowed"),
            ("HELLO", 400, "bad_request"),
            ("\x16\x03\x01\x02", 400, "bad_request"),
            ("GET /v1/report HTTP/1.1\r\nX: " + "x" * 17_000, 431, "request_too_large"),
        ],
    )
    async def test_everything_else_is_refused_in_json_and_closed(
        self, served: Served, request_line: str, status: int, code: str
    ) -> None:
        got = await served.talk(f"{request_line}\r\nHost: x\r\n\r\n".encode("latin-1"))
        assert got.startswith(f"HTTP/1.1 {status} ".encode())
        assert f'{{"error":{{"code":"{code}"'.encode() in got
        assert b"Connection: close\r\n" in got
        assert (b"Allow: GET\r\n" in got) == (status == 405)

    async def test_an_upgrade_is_refused(self, served: Served) -> None:
        raw = b"GET /v1/report HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        got = await served.talk(raw)
        assert got.count(b"HTTP/1.1 ") >= 1
        assert b" 101 " not in got

    @pytest.mark.parametrize(
        "raw", [b"GET /v1/report HTTP/1.0\r\n\r\n", f"GET /v1/report HTTP/1.1\r\n{CLOSE}\r\n".encode()]
    )
    async def test_a_client_that_wants_no_connection_gets_none(self, served: Served, raw: bytes) -> None:
        got = await served.talk(raw)
        head, _, body = got.partition(b"\r\n\r\n")
        assert b"Connection: close" in head
        assert decode_report(body).site == SITE

    async def test_a_body_is_read_and_ignored(self, served: Served) -> None:
        request = b"GET /v1/report HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
        got = await served.talk(request + request.replace(b"Host: x", CLOSE.strip().encode()))
        assert got.count(b"HTTP/1.1 200 OK") == 2

    async def test_a_host_that_cannot_be_read_is_a_500_and_a_log_line(self, caplog: pytest.LogCaptureFixture) -> None:
        served = await serve(BrokenBackend())
        got = await served.talk(b"GET /v1/report HTTP/1.1\r\n\r\n")
        await served.server.close()
        assert got.startswith(b"HTTP/1.1 500 ")
        assert "no /proc here" in caplog.text
        assert b"/proc" not in got


class TestBounds:
    async def test_silent_and_slow_clients_are_cut(self) -> None:
        served = await serve(HostBackend(SITE), request_timeout_s=0.2, idle_timeout_s=60)
        silent = asyncio.create_task(served.talk(b""))
        slow = asyncio.create_task(served.talk(b"GET /v1/report HTTP/1.1\r\n"))
        assert list(await asyncio.gather(silent, slow)) == [b"", b""]
        await served.server.close()

    async def test_an_idle_connection_is_cut_after_its_own_longer_time(self) -> None:
        served = await serve(HostBackend(SITE), request_timeout_s=0.1, idle_timeout_s=0.5)
        begin_s = asyncio.get_running_loop().time()
        got = await served.talk(b"GET /v1/report HTTP/1.1\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 200 OK")
        assert 0.4 < asyncio.get_running_loop().time() - begin_s < 20
        await served.server.close()

    async def test_a_client_that_does_not_read_is_neither_buffered_for_nor_kept(self) -> None:
        served = await serve(HostBackend(SITE), request_timeout_s=0.4)
        request = b"GET /v1/report HTTP/1.1\r\n\r\n"

        def flood() -> int:
            with socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
                sock.settimeout(3)
                sock.connect((ADDRESS, served.port))
                sent = 0
                try:
                    for _ in range(20_000):
                        sock.sendall(request * 500)
                        sent += 500
                except OSError:
                    pass
                return sent

        assert await asyncio.to_thread(flood) < 10_000_000
        assert served.server.reports < 100_000
        assert not served.server.connections
        await served.server.close()

    async def test_connections_beyond_the_limit_are_closed(self) -> None:
        served = await serve(HostBackend(SITE), max_connections=2)

        def crowd() -> list[bool]:
            with Client(ADDRESS, served.port) as one, Client(ADDRESS, served.port) as two:
                assert (one.get().status, two.get().status) == (200, 200)
                with Client(ADDRESS, served.port) as three:
                    return [three.closed(), one.get().status == 200]

        assert await asyncio.to_thread(crowd) == [True, True]
        await served.server.close()


class TestAddresses:
    @pytest.mark.parametrize("host", ["localhost", "", "128.0.0", "127.0.0.1.example", "0x7f000001", "[::1]"])
    def test_only_an_address_can_be_bound(self, host: str) -> None:
        with pytest.raises(ListenError, match=f"^{re.escape(host)} is not an address$"):
            bind_address(host, 0)

    def test_an_address_of_another_machine_is_one_clear_line(self) -> None:
        with pytest.raises(ListenError, match=r"^cannot listen on 192\.0\.2\.1:0: cannot assign requested address$"):
            bind_address("192.0.2.1", 0)

    @pytest.mark.parametrize("host", ["0.0.0.0", ADDRESS, "::1"])
    def test_every_address_of_this_machine_can_be_bound(self, host: str) -> None:
        with bind_address(host, 0) as sock:
            assert sock.getsockname()[0] == host

    def test_a_taken_port_is_one_clear_line(self) -> None:
        with bind_address(ADDRESS, 0) as taken:
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(ListenError, match=f"cannot listen on {ADDRESS}:{port}: address already in use"):
                bind_address(ADDRESS, port)

    async def test_one_block_socket_serves_its_sites_and_no_other_address(self) -> None:
        backends = {ADDRESS: HostBackend(SITE), "127.121.0.2": HostBackend(UUID(int=2))}
        sockets = bind_block(list(backends), 0)
        port = sockets[0].getsockname()[1]
        assert all(sock.getsockname()[0].startswith("127.") or is_tied_to_loopback(sock) for sock in sockets)
        server = AgentServer(backends, max_connections=9, tls=None)
        await server.listen(sockets)

        def visit() -> list[Any]:
            seen: list[Any] = []
            for address in backends:
                with Client(address, port) as client:
                    seen.append(decode_report(client.get().body).site)
            own = [a.address for addresses in psutil.net_if_addrs().values() for a in addresses if a.family == 2]
            for address in {"127.121.0.3", "127.0.0.1", *own} - set(backends):
                seen.append(is_shut(address, port))
            return seen

        first, second, *others = await asyncio.to_thread(visit)
        assert (first, second) == (SITE, UUID(int=2))
        assert others
        assert all(others)
        await server.close()


async def test_where_the_device_cannot_be_bound_each_address_gets_a_socket() -> None:
    port = free_port()
    addresses = [ADDRESS, "127.121.0.2"]
    sockets = _bind_each(addresses, port)
    assert [sock.getsockname() for sock in sockets] == [(address, port) for address in addresses]
    with pytest.raises(ListenError, match="address already in use"):
        _bind_each(["127.121.0.3", ADDRESS], port)
    with socket.socket() as sock:
        sock.bind(("127.121.0.3", port))  # what was bound before the failure is free again
    for sock in sockets:
        sock.close()


def is_tied_to_loopback(sock: socket.socket) -> bool:
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0") == b"lo"


def is_shut(address: str, port: int) -> bool:
    try:
        with Client(address, port, 2.0) as client:
            client.send()
            return client.closed()
    except OSError:
        return True


class TestIdentity:
    """`/v1/identity`, over a plain connection: TLS is tested with real handshakes elsewhere."""

    @pytest.fixture
    async def kept(self, tmp_path: Path) -> AsyncIterator[tuple[Served, IdentityFile, Fleet, Identity]]:
        fleet, file = Fleet(), IdentityFile(tmp_path / "identities")
        identity = fleet.site(SITE)
        file.put(identity)
        served = await serve(HostBackend(SITE), renewals=Keeper(file, [identity], {}, lambda renewed: None))
        yield served, file, fleet, identity
        await served.server.close()

    async def test_the_centre_asks_for_a_request_and_hands_the_certificate_over(self, kept: Any) -> None:
        served, file, fleet, identity = kept
        nonce = urlsafe_b64encode(b"n" * 32)
        got = await served.talk(b"GET /v1/identity?nonce=%b HTTP/1.1\r\nConnection: close\r\n\r\n" % nonce)
        request = decode_identity(got.partition(b"\r\n\r\n")[2], RenewRequest)
        assert (request.site, request.nonce) == (SITE, b"n" * 32)

        after = fleet.site(SITE, provider_id=2, keys=identity.keys)
        body = encode_identity(after.certificates)
        put = b"PUT /v1/identity HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        last = put.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
        for state in (b"taken", b"unchanged"):
            assert re.findall(rb'"state":"(\w+)"', await served.talk(last)) == [state]
            assert file.get(SITE) == after
        # A second request before the first is on the disk has no place in this protocol.
        assert b"one request at a time" in await served.talk(put + put)

    @pytest.mark.parametrize(
        ("raw", "status"),
        [
            (b"GET /v1/identity HTTP/1.1\r\n\r\n", 400),
            (b"GET /v1/identity?nonce=AAAA HTTP/1.1\r\n\r\n", 400),
            (b"GET /v1/identity?nonce=" + b"A" * 400 + b" HTTP/1.1\r\n\r\n", 400),
            (b"GET /v1/identity?nonce=%80%81 HTTP/1.1\r\n\r\n", 400),
            (b"PUT /v1/identity HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", 400),
            (b"PUT /v1/identity HTTP/1.1\r\nContent-Length: 4\r\n\r\nnull", 400),
            (b"POST /v1/identity HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 405),
        ],
    )
    async def test_what_is_no_such_request_is_refused(self, kept: Any, raw: bytes, status: int) -> None:
        served, file, _, identity = kept
        got = await served.talk(raw)
        assert got.startswith(b"HTTP/1.1 %d " % status)
        assert file.get(SITE) == identity

    async def test_where_it_cannot_be_kept_the_answer_says_so(self, kept: Any, monkeypatch: Any) -> None:
        served, file, fleet, identity = kept

        def full(*identities: Identity) -> None:
            raise IdentityError("no space left on device")

        monkeypatch.setattr(file, "put", full)
        body = encode_identity(fleet.site(SITE, provider_id=2, keys=identity.keys).certificates)
        got = await served.talk(b"PUT /v1/identity HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        assert got.startswith(b"HTTP/1.1 503 ")
        monkeypatch.undo()
        assert file.get(SITE) == identity
