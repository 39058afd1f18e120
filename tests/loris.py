"""Clients that never finish: no handshake, or one byte a second of whatever they say."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

DRIP_S = 1.0


@dataclass(frozen=True)
class Loris:
    """How one dawdles: `speaks` what, a byte a second, after `greeting`; over TLS where a context is given."""

    name: str
    speaks: bytes = b""
    greeting: bytes = b""
    tls: ssl.SSLContext | None = None
    host: str = ""


def client_hello() -> bytes:
    """The first message of a handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    shy = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="s.example")
    with contextlib.suppress(ssl.SSLWantReadError):
        shy.do_handshake()
    return outgoing.read()


def besiege(
    address: tuple[str, int],
    kinds: list[Loris],
    *,
    each: int,
    meanwhile: Callable[[], None],
    limit_s: float,
) -> dict[str, float]:
    """Have `each` clients of every kind dawdle at once, all connected, `meanwhile()` being done over and over.

    The longest that one of each kind was borne, in seconds; fails if one is borne for more than `limit_s`.
    """

    async def work() -> dict[str, float]:
        clients = {kind.name: [asyncio.create_task(_dawdle(address, kind)) for _ in range(each)] for kind in kinds}
        flat = [task for tasks in clients.values() for task in tasks]
        async with asyncio.timeout(limit_s):
            while not all(task.done() for task in flat):
                await asyncio.to_thread(meanwhile)
                await asyncio.sleep(0.2)
        return {name: max(task.result() for task in tasks) for name, tasks in clients.items()}

    return asyncio.run(work())


async def _dawdle(address: tuple[str, int], kind: Loris) -> float:
    """Until the other side ends it; how long that took."""
    began_s = time.monotonic()
    reader, writer = await asyncio.open_connection(
        *address, ssl=kind.tls, server_hostname=kind.host if kind.tls else None
    )
    drip = asyncio.create_task(_drip(writer, kind))
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while await reader.read(4_096):
            pass
    drip.cancel()
    writer.transport.abort()
    return time.monotonic() - began_s


async def _drip(writer: asyncio.StreamWriter, kind: Loris) -> None:
    with contextlib.suppress(ConnectionError):
        writer.write(kind.greeting)
        for byte in kind.speaks:
            writer.write(bytes([byte]))
            await asyncio.sleep(DRIP_S)
