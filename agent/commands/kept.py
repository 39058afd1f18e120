"""Keeps the identities of a process's sites while it runs, and brings what is renewed back into its loop."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID

from agent.identity import Identity, IdentityError, IdentityFile
from agent.keeping import Keeper, open_identities
from agent.protocol import ProtocolError
from agent.protocol.identity import Join, read_join

log = logging.getLogger("agent")


@dataclass(frozen=True, slots=True)
class Kept:
    """The identities as they were at the start, and the keeper who knows what became of them."""

    identities: list[Identity]
    keeper: Keeper


@contextmanager
def kept(
    path: Path, sites: list[UUID], joins: Mapping[UUID, Join], certified: Callable[[Identity], None]
) -> Iterator[Kept]:
    """Keep the identities of sites for as long as we run. `certified` is called in this loop, now and at each renewal.

    Raises IdentityError.
    """
    loop = asyncio.get_running_loop()
    file = IdentityFile(path)
    identities = open_identities(file, sites)
    for identity in identities.values():
        if identity.certificates is not None:
            certified(identity)
    keeper = Keeper(file, identities.values(), joins, lambda identity: _soon(loop, partial(_try, certified, identity)))
    keeper.start()
    try:
        yield Kept(list(identities.values()), keeper)
    finally:
        keeper.stop()


def read_joins(texts: Mapping[UUID, str]) -> dict[UUID, Join]:
    """Join strings by site. Raises IdentityError for one that is damaged, or another site's."""
    joins = {}
    for site, text in texts.items():
        joins[site] = join_of(text)
        if joins[site].site != site:
            raise IdentityError(f"the join string is for site {joins[site].site}, not {site}")
    return joins


def join_of(text: str) -> Join:
    """What a join string says. Raises IdentityError."""
    try:
        return read_join(text)
    except ProtocolError as error:
        raise IdentityError(error.reason) from None


def _soon(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(call)


def _try(certified: Callable[[Identity], None], identity: Identity) -> None:
    try:
        certified(identity)
    except IdentityError as error:
        log.error("site %s cannot show its certificate: %s", identity.site, error)
