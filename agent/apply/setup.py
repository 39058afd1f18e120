"""Ties desired state to what else an agent is made of: its reports say it, its journal keeps it."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from uuid import UUID

from agent.apply.blobs import FOLDER
from agent.apply.desk import Desk
from agent.apply.store import Store
from agent.backends.base import Backend
from agent.memory import Memory
from agent.protocol import Desired
from agent.protocol.entries import Receipt


def open_desk(store: Store, state: Path, backends: Sequence[Backend], memory: Memory) -> Desk:
    """The desk of these backends' sites, for the running loop; `state` is the agent's folder. Raises StoreError."""
    loop = asyncio.get_running_loop()
    by_site = {backend.site: backend for backend in backends}

    def soon(call: Callable[[], None]) -> None:
        try:
            loop.call_soon_threadsafe(call)
        except RuntimeError:  # the loop has ended: the next start says it
            return

    def published(site: UUID, desired: Desired) -> None:
        soon(partial(by_site[site].set_desired, desired))

    def noted(site: UUID, entry: Receipt) -> None:
        is_alarm = entry.state == "equivocation"
        memory.note(site, entry, (lambda: None) if is_alarm else partial(desk.told, site))

    desk = Desk(store, state / FOLDER, published=published, noted=noted)
    return desk  # noted() needs the name
