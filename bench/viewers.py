"""Many open browsers' websockets on one loop: `python -m bench.viewers URL SESSION_KEY COUNT`.

Prints "ready" when all of them are connected and have heard the server; ends when its standard input does.
"""

import asyncio
import sys

import uvloop
from websockets.asyncio.client import connect

from bench.web import SESSION_COOKIE

CONNECTS_AT_ONCE = 20


async def view(url: str, key: str, gate: asyncio.Semaphore, heard: asyncio.Queue[None]) -> None:
    """One viewer: reads whatever comes, says nothing."""
    address = f"ws{url.removeprefix('http')}/ws/live/"
    async with gate:
        socket = await connect(address, origin=url, additional_headers={"Cookie": f"{SESSION_COOKIE}={key}"})  # type: ignore[arg-type]  # Origin is a str
    async with socket:
        await socket.recv()
        heard.put_nowait(None)
        async for _ in socket:
            pass


async def main(url: str, key: str, count: int) -> None:
    """Connect all, and hold them until standard input ends. Raises when a viewer is sent away."""
    gate, heard = asyncio.Semaphore(CONNECTS_AT_ONCE), asyncio.Queue[None]()
    async with asyncio.TaskGroup() as group:
        viewers = [group.create_task(view(url, key, gate, heard)) for _ in range(count)]
        for _ in viewers:
            await heard.get()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        for viewer in viewers:
            viewer.cancel()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
