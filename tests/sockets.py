"""A browser's end of the websocket, spoken to the real ASGI application."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from asgiref.testing import ApplicationCommunicator
from django.test import Client

HOST = "127.0.0.1:8000"


class Page:
    """One connection. `headers` as a browser would send them."""

    def __init__(self, headers: list[tuple[bytes, bytes]], path: str = "/ws/live/") -> None:
        from fleet.asgi import application

        scope = {
            "type": "websocket",
            "path": path,
            "query_string": b"",
            "headers": headers,
            "subprotocols": [],
            "client": ["127.0.0.1", 50000],
        }
        self.app = ApplicationCommunicator(application, scope)

    async def connect(self) -> bool:
        """Whether the server accepts."""
        await self.app.send_input({"type": "websocket.connect"})
        event = await self._event(5)
        assert event["type"] in {"websocket.accept", "websocket.close"}
        return bool(event["type"] == "websocket.accept")

    async def say(self, *, text: str | None = None, data: bytes | None = None) -> None:
        """Send one frame."""
        await self.app.send_input({"type": "websocket.receive", "text": text, "bytes": data})

    async def hear(self, kind: str, timeout_s: float = 5) -> Any:
        """The next message of a kind; others are passed over."""
        async with asyncio.timeout(timeout_s):
            while True:
                message = json.loads((await self._event(timeout_s))["text"])
                if message["t"] == kind:
                    return message

    async def hear_all(self, seconds: float = 0.4) -> list[tuple[float, Any]]:
        """(time, message) of all that comes within this time, heartbeats left out."""
        heard: list[tuple[float, Any]] = []
        try:
            async with asyncio.timeout(seconds):
                await self.listen(heard)
        except TimeoutError:
            pass
        return heard

    async def listen(self, heard: list[tuple[float, Any]]) -> None:
        """Put (time, message) of all that comes into `heard`, heartbeats left out, until cancelled."""
        while True:
            message = json.loads((await self.app.output_queue.get())["text"])
            if message["t"] != "b":
                heard.append((time.monotonic(), message))

    async def ending(self, timeout_s: float = 5) -> tuple[list[Any], int]:
        """All messages up to the close, and its code."""
        messages = []
        async with asyncio.timeout(timeout_s):
            while True:
                event = await self._event(timeout_s)
                if event["type"] == "websocket.close":
                    return messages, event["code"]
                messages.append(json.loads(event["text"]))

    async def leave(self) -> None:
        """Close the page."""
        await self.app.send_input({"type": "websocket.disconnect", "code": 1001})
        await self.app.wait(timeout=5)

    async def _event(self, timeout_s: float) -> dict[str, Any]:
        async with asyncio.timeout(timeout_s):
            return await self.app.output_queue.get()  # type: ignore[no-any-return]


def headers_for(
    client: Client | None, *, origin: str | None = f"http://{HOST}", host: str = HOST
) -> list[tuple[bytes, bytes]]:
    """Headers of a page with a client's session."""
    headers = [(b"host", host.encode())]
    if origin is not None:
        headers.append((b"origin", origin.encode()))
    if client is not None:
        key = client.cookies["__Host-session"].value
        headers.append((b"cookie", f"__Host-session={key}".encode()))
    return headers


@asynccontextmanager
async def opened(client: Client) -> AsyncIterator[Page]:
    """A page that is connected and has heard its first heartbeat, so that it is in its groups."""
    page = Page(headers_for(client))
    assert await page.connect()
    await page.hear("b")
    yield page
    await page.leave()
