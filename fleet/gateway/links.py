"""Dial-out at the centre's side: links of sites that call in, and the unix socket through which pollers reach them.

A poller connects to the socket, names a site in one line, and from then on speaks with its agent as if it had dialled
it. One such connection a site: another one takes the place of the one before.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Collection
from pathlib import Path

from aiohttp import WSMsgType, web

logger = logging.getLogger(__name__)
NEW, CLOSED = "new", "closed"
NAME_BYTES = 300
NAME_S = 3.0
PIECE_BYTES = 64 * 1024
MAX_MESSAGE_BYTES = 2 << 20
HEARTBEAT_S = 20.0
MOST_LINKS = 18_000


class Link:
    """One site's websocket, and the poller that speaks through it just now."""

    def __init__(self, site_id: int, socket: web.WebSocketResponse) -> None:
        self.site_id = site_id
        self.socket = socket
        self.caller: asyncio.StreamWriter | None = None

    def hang_up(self) -> None:
        """End the poller's connection, if there is one."""
        caller, self.caller = self.caller, None
        if caller is not None:
            caller.close()


class Links:
    """All links of this gateway, by the name in the site's certificate."""

    def __init__(self) -> None:
        self._by_name: dict[str, Link] = {}
        self._server: asyncio.AbstractServer | None = None

    def __len__(self) -> int:
        return len(self._by_name)

    @property
    def site_ids(self) -> Collection[int]:
        """Sites that are linked now."""
        return [link.site_id for link in self._by_name.values()]

    async def serve(self, name: str, site_id: int, socket: web.WebSocketResponse, changed: Callable[[], None]) -> None:
        """Keep a site's link until it ends. A newer link of the same site ends this one."""
        link = Link(site_id, socket)
        before = self._by_name.get(name)
        self._by_name[name] = link
        if before is not None:
            before.hang_up()
            await before.socket.close()
        changed()
        try:
            async for message in socket:
                if message.type == WSMsgType.BINARY:
                    await self._pass_on(link, message.data)
                elif message.type == WSMsgType.TEXT and message.data == CLOSED:
                    link.hang_up()
        finally:
            link.hang_up()
            if self._by_name.get(name) is link:
                del self._by_name[name]
            changed()

    async def end(self, site_ids: Collection[int]) -> None:
        """End the links of these sites."""
        for link in [link for link in self._by_name.values() if link.site_id in site_ids]:
            link.hang_up()
            await link.socket.close()

    @staticmethod
    async def _pass_on(link: Link, data: bytes) -> None:
        """To the poller. One that does not read is cut off, rather than waited for."""
        if link.caller is None:
            return
        link.caller.write(data)
        try:
            async with asyncio.timeout(NAME_S):
                await link.caller.drain()
        except (TimeoutError, ConnectionError):
            link.hang_up()

    # Pollers --------------------------------------------------------------------------------------------------
    async def listen(self, path: Path) -> None:
        """Take pollers' connections at a unix socket of mode 0600; a file that was left there is replaced."""
        path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._meet, path, limit=PIECE_BYTES)
        finally:
            os.umask(before)

    async def close(self) -> None:
        """Take no more pollers, and end all links."""
        if self._server is not None:
            self._server.close()
        for link in list(self._by_name.values()):
            link.hang_up()
            await link.socket.close()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link: Link | None = None
        try:
            async with asyncio.timeout(NAME_S):
                name = (await reader.readuntil(b"\n")).decode("ascii").strip()
            link = self._by_name.get(name)
            if link is None:
                return
            link.hang_up()
            link.caller = writer
            await link.socket.send_str(NEW)
            while link.caller is writer and (data := await reader.read(PIECE_BYTES)):
                await link.socket.send_bytes(data)
        except (
            TimeoutError,
            ConnectionError,
            UnicodeDecodeError,
            asyncio.IncompleteReadError,
            asyncio.LimitOverrunError,
        ):
            pass
        finally:
            if link is not None and link.caller is writer:
                link.caller = None
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
