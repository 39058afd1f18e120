"""The HTTP/1.1 server an agent listens with, over TLS 1.3 with certificates on both sides, kept alive.

The transport is behind this one seam: backends make report bodies and know nothing of connections.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from agent.apply.desk import Desk
from agent.backends.base import Backend
from agent.connection import Connection, Renewals
from agent.identity import HANDSHAKE_S, SiteTls, names_of
from agent.listening import BACKLOG
from agent.memory import Memory

REQUEST_TIMEOUT_S: Final = 10.0
IDLE_TIMEOUT_S: Final = 900.0
WORKERS: Final = 16
_SWEEP_S: Final = 5.0
_NAMES_S: Final = 1.0
T = TypeVar("T")
log = logging.getLogger("agent")


class AtAnyAddress(Mapping[str, T]):
    """One and the same thing, whatever address of this machine is dialled; nothing while it is None."""

    def __init__(self, thing: T | None = None) -> None:
        self.thing = thing

    def __getitem__(self, address: str) -> T:
        if self.thing is None:
            raise KeyError(address)
        return self.thing

    def __iter__(self) -> Iterator[str]:
        return iter(() if self.thing is None else ("",))

    def __len__(self) -> int:
        return int(self.thing is not None)


class AgentServer:
    """Listens for one site or many: which one is asked is told by the local address of the connection."""

    def __init__(
        self,
        backends: Mapping[str, Backend],
        *,
        max_connections: int,
        tls: Mapping[str, SiteTls] | None,
        memory: Memory | None = None,
        renewals: Renewals | None = None,
        desk: Desk | None = None,
        connection: type[Connection] = Connection,
        idle_timeout_s: float = IDLE_TIMEOUT_S,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> None:
        """`backends` and `tls` map the address that is dialled to its site, and to what that shows and admits.

        `tls` may grow while we serve: a site that has not enrolled yet answers nobody. None, plaintext, is for tests.
        """
        self.backends = backends
        self.tls = tls
        self.memory = memory
        self.renewals = renewals
        self.desk = desk
        self.workers = ThreadPoolExecutor(WORKERS, "agent worker")  # what waits for the disk
        self.max_connections = max_connections
        self.connections: set[Connection] = set()
        self.reports = 0
        self.tick = 0
        self._connection = connection
        self._sweep_s = min(_SWEEP_S, request_timeout_s / 2)
        self._idle_ticks = idle_timeout_s / self._sweep_s
        self._request_ticks = request_timeout_s / self._sweep_s
        self._servers: list[asyncio.Server] = []
        self._sweeper: asyncio.Task[None] | None = None

    def new_connection(self) -> Connection:
        """The protocol of one more connection."""
        return self._connection(self)

    async def listen(self, sockets: list[socket.socket]) -> None:
        """Serve on listening sockets, which the server then owns, until `close`."""
        loop = asyncio.get_running_loop()
        context = None if self.tls is None else self._door(self.tls)
        for sock in sockets:
            server = await loop.create_server(
                self.new_connection,
                sock=sock,
                backlog=BACKLOG,
                ssl=context,
                ssl_handshake_timeout=HANDSHAKE_S if context else None,
            )
            self._servers.append(server)
        self._sweeper = asyncio.create_task(self._sweep())

    async def close(self) -> None:
        """Stop listening and cut all connections."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
        for server in self._servers:
            server.close()
        for connection in list(self.connections):
            if connection.transport is not None:
                connection.transport.abort()
        for server in self._servers:
            await server.wait_closed()
        self.workers.shutdown(wait=False)

    def admits(self, address: str, transport: asyncio.Transport) -> bool:
        """Whether it is the centre who calls, and the site of this address whom it calls by name.

        What comes through a link has passed the gateway, whom the site itself has called and recognised.
        """
        if transport.get_extra_info("linked"):
            return True
        if self.tls is None:
            return True
        site = self.tls.get(address)
        connection = transport.get_extra_info("ssl_object")
        if site is not None and site.admits(connection):
            return True
        # Whoever comes so far was certified by the fleet's root: it is worth a line.
        names = ", ".join(names_of(connection.getpeercert()))
        log.warning("refused %s, who is not the dashboard, or dialled another site than that of %s", names, address)
        return False

    def _door(self, tls: Mapping[str, SiteTls]) -> ssl.SSLContext:
        """The context of all handshakes: the name that is asked for chooses the site's own."""
        door = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        door.minimum_version = ssl.TLSVersion.TLSv1_3
        door.verify_mode = ssl.CERT_REQUIRED
        door.verify_flags |= ssl.VERIFY_X509_STRICT
        door.num_tickets = 0
        by_name: dict[str, SiteTls] = {}
        read_at = -_NAMES_S
        read_len = -1

        def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
            nonlocal read_at, read_len
            found = by_name.get(name or "")
            now = time.monotonic()
            # Enrolled since, or renamed; but whoever asks for names that there are not must not make us read all.
            if (found is None or name not in found.names) and (len(tls) != read_len or now - read_at >= _NAMES_S):
                read_at, read_len = now, len(tls)
                by_name.clear()
                by_name.update((own, site) for site in tls.values() for own in site.names)
                found = by_name.get(name or "")
            if found is None:
                return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
            connection.context = found.context
            return None

        door.sni_callback = choose
        return door

    async def _sweep(self) -> None:
        """Close what is idle or slow. One coarse clock for all is cheaper than a timer a connection."""
        while True:
            await asyncio.sleep(self._sweep_s)
            self.tick += 1
            for connection in list(self.connections):
                age = self.tick - connection.tick
                limit = self._request_ticks if connection.waiting else self._idle_ticks
                if age > limit and connection.transport is not None:
                    connection.transport.abort()
