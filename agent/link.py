"""Dial-out: a site that nobody can dial keeps a websocket open to the gateway, and the same protocol runs through it.

What comes in over the websocket is what would have come in over a connection of the poller, byte for byte; a text
message `new` begins another such connection, in place of the one before.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any, Final
from uuid import UUID

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from agent.calling import CallError, split_endpoint, trusted
from agent.identity import Identity, IdentityError, certified_names
from agent.protocol.identity import service_name

PATH: Final = "/agent/v1/link"
NEW: Final = "new"
CLOSED: Final = "closed"
MAX_MESSAGE_BYTES: Final = 1 << 20
OPEN_S: Final = 10.0
PING_S: Final = 20.0
RETRY_S: Final = (1.0, 60.0)
RELINK_S: Final = 0.5

log = logging.getLogger("agent")


class LinkTransport(asyncio.Transport):
    """The transport of a connection that comes through the link: what is written goes out as binary messages."""

    def __init__(self, address: str, send: Callable[[bytes | str], None]) -> None:
        super().__init__({"sockname": (address, 0), "peername": ("gateway", 0), "linked": True})
        self._send = send
        self._closing = False

    def write(self, data: Any) -> None:
        """Send on, in order."""
        if not self._closing:
            self._send(bytes(data))

    def close(self) -> None:
        """The connection is over; the link goes on."""
        if not self._closing:
            self._closing = True
            self._send(CLOSED)

    def abort(self) -> None:
        """The same: there is nothing of our own to wait for."""
        self.close()

    def is_closing(self) -> bool:
        """Whether it is over."""
        return self._closing

    def pause_reading(self) -> None:
        """The link itself is not paused: a caller has one request under way at a time."""

    def resume_reading(self) -> None:
        """See pause_reading()."""


class Link:
    """Keeps one site linked to the gateway for as long as it runs, with growing pauses while it cannot.

    `accept` makes the protocol of a new connection, as a server's protocol factory does. `context` gives the TLS
    context that shows the site's present certificate, or None while there is none.
    """

    def __init__(
        self,
        address: str,
        accept: Callable[[], asyncio.Protocol],
        context: Callable[[], tuple[str, str, ssl.SSLContext] | None],
    ) -> None:
        self._address = address
        self._accept = accept
        self._context = context
        self._random = Random()
        self._protocol: asyncio.Protocol | None = None
        self._socket: ClientConnection | None = None
        self._closing: asyncio.Task[None] | None = None
        self.linked_at: datetime | None = None

    def call_again(self) -> None:
        """End the link, to be opened anew with the certificate that the site has now."""
        if self._socket is not None:
            self._closing = asyncio.create_task(self._socket.close())

    async def run(self) -> None:
        """Until it is cancelled."""
        least, most = RETRY_S
        pause_s = least
        while True:
            known = self._context()
            if known is not None:
                try:
                    await self._stay_linked(*known)
                    pause_s = least
                except (OSError, WebSocketException, TimeoutError) as error:
                    if pause_s == least:
                        log.info("the link to the gateway is not there: %s", error)
            self.linked_at = None
            await asyncio.sleep(pause_s * self._random.uniform(0.5, 1.0))
            pause_s = min(most, pause_s * 2)

    async def _stay_linked(self, endpoint: str, fleet: str, context: ssl.SSLContext) -> None:
        """Open the link and serve it until it ends."""
        host, port = split_endpoint(endpoint)
        async with connect(
            f"wss://{service_name(fleet, 'gateway')}:{port}{PATH}",
            host=host,
            port=port,
            ssl=context,
            server_hostname=service_name(fleet, "gateway"),
            open_timeout=OPEN_S,
            ping_interval=PING_S,
            ping_timeout=PING_S,
            max_size=MAX_MESSAGE_BYTES,
            compression=None,
            proxy=None,
        ) as socket:
            self._socket = socket
            self.linked_at = datetime.now(UTC)
            outgoing: asyncio.Queue[bytes | str] = asyncio.Queue()
            sender = asyncio.create_task(_send_all(socket, outgoing))
            try:
                await self._serve(socket, outgoing.put_nowait)
            finally:
                self._socket = None
                sender.cancel()
                self._end(None)
                with contextlib.suppress(asyncio.CancelledError, WebSocketException):
                    await sender

    async def _serve(self, socket: ClientConnection, send: Callable[[bytes | str], None]) -> None:
        async for message in socket:
            if isinstance(message, str):
                self._end(None)
                if message == NEW:
                    self._protocol = self._accept()
                    self._protocol.connection_made(LinkTransport(self._address, send))
            elif self._protocol is not None:
                self._protocol.data_received(message)

    def _end(self, error: Exception | None) -> None:
        if self._protocol is not None:
            self._protocol.connection_lost(error)
            self._protocol = None


async def _send_all(socket: ClientConnection, outgoing: "asyncio.Queue[bytes | str]") -> None:
    while True:
        await socket.send(await outgoing.get())


class Links:
    """The links of all sites of a process that dial out."""

    def __init__(self) -> None:
        self._known: dict[UUID, tuple[str, str, ssl.SSLContext]] = {}
        self._names: dict[UUID, frozenset[str]] = {}
        self._links: dict[UUID, Link] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def certify(self, identity: Identity) -> None:
        """Show these certificates from the next link on. Raises IdentityError."""
        certificates = identity.certificates
        if certificates is None:
            raise IdentityError("this site has no certificate yet")
        try:
            context = trusted(certificates.roots, identity)
        except CallError as error:
            raise IdentityError(str(error)) from None
        self._known[identity.site] = (certificates.gateway, certificates.fleet, context)
        name = certified_names(certificates.chain[0])
        if self._names.get(identity.site, name) != name and identity.site in self._links:
            # The gateway knows a link by the name it came with. What asked for the change is answered first.
            asyncio.get_running_loop().call_later(RELINK_S, self._links[identity.site].call_again)
        self._names[identity.site] = name

    def keep(self, site: UUID, address: str, accept: Callable[[], asyncio.Protocol]) -> None:
        """Keep the site linked from now on, in the running loop."""
        self._links[site] = link = Link(address, accept, lambda: self._known.get(site))
        self._tasks.append(asyncio.create_task(link.run()))

    def linked_at(self, site: UUID) -> datetime | None:
        """When the site's present link was opened; None while there is none."""
        link = self._links.get(site)
        return link.linked_at if link is not None else None

    async def close(self) -> None:
        """End all links."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
