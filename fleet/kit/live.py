"""Live updates: workers publish facts and hints to groups; browsers refetch under their own rights."""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction

logger = logging.getLogger(__name__)
FLEET = "fleet"
_loop: asyncio.AbstractEventLoop | None = None

Hint = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Delta:
    """A site's new state as the map shows it; `since` in seconds since the epoch."""

    site_id: int
    provider_id: int
    state: str
    reachability: str
    compliance: str
    since: int

    @property
    def row(self) -> list[Any]:
        """The five values that the browser reads, in the order of the protocol."""
        return [self.site_id, self.state, self.reachability, self.compliance, self.since]


def use_loop(loop: asyncio.AbstractEventLoop | None) -> None:
    """Send through a loop that runs in another thread, over one kept connection (a poller does)."""
    global _loop  # noqa: PLW0603  (one process, one sender)
    _loop = loop


def provider_group(provider_id: int) -> str:
    """Group of the viewers of one provider."""
    return f"provider.{provider_id}"


def publish(deltas: Iterable[Delta] = (), *, hints: Iterable[tuple[Hint, int | None]] = ()) -> None:
    """Send after commit. `hints` are ((topic, pk), provider id or None for the fleet group alone).

    A lost broker costs the browsers latency only: failures are logged, never raised.
    """
    messages = _by_group(list(deltas), list(hints))
    if messages:
        transaction.on_commit(lambda: _send_all(messages), robust=True)


def _by_group(deltas: list[Delta], hints: list[tuple[Hint, int | None]]) -> dict[str, dict[str, Any]]:
    messages: dict[str, dict[str, Any]] = {}

    def entry(group: str) -> dict[str, Any]:
        return messages.setdefault(group, {"type": "live.update", "deltas": [], "hints": []})

    for delta in deltas:
        entry(FLEET)["deltas"].append(delta.row)
        entry(provider_group(delta.provider_id))["deltas"].append(delta.row)
    for hint, provider_id in hints:
        entry(FLEET)["hints"].append(list(hint))
        if provider_id is not None:
            entry(provider_group(provider_id))["hints"].append(list(hint))
    return messages


async def _send(messages: dict[str, dict[str, Any]]) -> None:
    layer = get_channel_layer()
    assert layer is not None
    for group, message in messages.items():
        await layer.group_send(group, message)


async def _send_quietly(messages: dict[str, dict[str, Any]]) -> None:
    try:
        async with asyncio.timeout(3):
            await _send(messages)
    except Exception as error:  # noqa: BLE001  (whatever the broker's client raises: hints may be lost)
        logger.warning("live update lost: %s", error)


def _send_all(messages: dict[str, dict[str, Any]]) -> None:
    if _loop is not None and _loop.is_running():
        asyncio.run_coroutine_threadsafe(_send_quietly(messages), _loop)
    else:
        async_to_sync(_send_quietly)(messages)
