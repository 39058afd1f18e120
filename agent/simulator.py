"""Many simulated sites on one event loop and one port, and the orders they take."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from agent.churn import Churn
from agent.fleet_file import SiteSpec
from agent.identity import SiteTls
from agent.misbehaviour import SimulatedConnection
from agent.protocol import STATES, VerdictState
from agent.server import AgentServer
from agent.virtual_site import ApplyFault, Mode, VirtualSite

_CHURN_S = 0.25

log = logging.getLogger("agent")


class OrderError(Exception):
    """An order that cannot be carried out; the message says why in one line."""


class SimulatedFleet:
    """The sites, the server that speaks for them, and what is ordered to happen to them."""

    def __init__(
        self,
        specs: Iterable[SiteSpec],
        *,
        max_connections: int,
        tls: Mapping[str, SiteTls] | None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """`tls` maps addresses to what their sites show and admit; it may grow as they enrol. See AgentServer."""
        self.sites = [VirtualSite(spec, now_s) for spec in specs]
        self.server = AgentServer(
            {site.address: site for site in self.sites},
            max_connections=max_connections,
            tls=tls,
            connection=SimulatedConnection,
        )
        self._by_name = {site.address: site for site in self.sites} | {str(site.site): site for site in self.sites}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._churn = Churn(self.sites)
        self._churning: asyncio.Task[None] | None = None

    def select(self, names: list[str] | Literal["all"]) -> list[VirtualSite]:
        """Sites by uuid or address. Raises OrderError when one is unknown."""
        if names == "all":
            return self.sites
        try:
            return [self._by_name[name.lower()] for name in names]
        except KeyError as error:
            raise OrderError(f"no site {str(error.args[0])[:80]!r} in this simulator") from None

    def fail(self, sites: list[VirtualSite], mode: Mode, for_s: float | None = None) -> None:
        """Let sites fail in that mode, until healed or for a time."""
        self._set_mode(sites, mode)
        if for_s is not None:
            loop = asyncio.get_running_loop()
            for site in sites:
                self._timers[site.address] = loop.call_later(for_s, self._set_mode, [site], None)

    def heal(self, sites: list[VirtualSite]) -> None:
        """Let sites be well again, and changes succeed; versions stay as they are."""
        self._set_mode(sites, None)
        for site in sites:
            site.apply_fault = None

    def fail_apply(self, sites: list[VirtualSite], fault: ApplyFault) -> None:
        """Let the changes of desired state fail so from now on, until healed."""
        for site in sites:
            site.apply_fault = fault

    def judge(self, sites: list[VirtualSite], state: VerdictState) -> None:
        """Let sites give that verdict of themselves, whatever else is wrong with them."""
        for site in sites:
            site.set_state(state)

    def upgrade(self, sites: list[VirtualSite], kind: str, name: str, version: str) -> int:
        """Give a component of the sites another version. Returns how many of them have such a component."""
        return sum([site.upgrade(kind, name, version) for site in sites])

    def churn(self, per_minute: float) -> None:
        """Let that share of the sites change its verdict each minute; 0 ends it."""
        self._churn.set_rate(per_minute)
        if per_minute and self._churning is None:
            self._churning = asyncio.create_task(self._run_churn())

    def status(self) -> dict[str, Any]:
        """Counts of sites by mode and verdict, of connections, and of reports since the start."""
        verdicts = Counter(site.state for site in self.sites)
        return {
            "sites": len(self.sites),
            "verdicts": {state: verdicts[state] for state in STATES},
            "modes": Counter(site.mode for site in self.sites if site.mode is not None),
            "apply_faults": Counter(site.apply_fault for site in self.sites if site.apply_fault is not None),
            "churned": sum(site.churned for site in self.sites),
            "churn_per_minute": self._churn.per_minute,
            "connections": len(self.server.connections),
            "reports": self.server.reports,
        }

    async def close(self) -> None:
        """Stop all timers and the server."""
        for timer in self._timers.values():
            timer.cancel()
        if self._churning is not None:
            self._churning.cancel()
            await asyncio.gather(self._churning, return_exceptions=True)
        await self.server.close()

    def _set_mode(self, sites: list[VirtualSite], mode: Mode | None) -> None:
        cut = {site for site in sites if site.on_the_wire or mode in {"dark", "off"}}
        for site in sites:
            timer = self._timers.pop(site.address, None)
            if timer is not None:
                timer.cancel()
            site.set_mode(mode)
        if not cut:
            return
        # A connection in the middle of a failure cannot be used again.
        for connection in list(self.server.connections):
            if connection.backend in cut and isinstance(connection, SimulatedConnection):
                connection.reset()

    async def _run_churn(self) -> None:
        before_s = time.monotonic()
        while True:
            await asyncio.sleep(_CHURN_S)
            now_s = time.monotonic()
            self._churn.advance(now_s, now_s - before_s)
            before_s = now_s
