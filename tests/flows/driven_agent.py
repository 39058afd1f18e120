"""A real agent whose clock a test moves: `python -m tests.flows.driven_agent OPTIONS`, orders on standard input.

Everything but the clock is the agent's own: keys and enrolment, journal, recorder, server, link to the gateway. The
machine is a virtual one, for a test cannot reboot this one. It ends when its input does; a power loss is kill -9.
"""

import argparse
import asyncio
import json
import math
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import uvloop

from agent.fleet_file import SiteSpec
from agent.identity import Identity, IdentityFile, SiteTls
from agent.keeping import Keeper, open_identities
from agent.link import Links
from agent.listening import bind_address
from agent.memory import Memory
from agent.protocol.identity import read_join
from agent.server import AgentServer
from agent.virtual_site import VirtualSite

DIAL_OUT, DIRECT = "dial_out", "direct"


class DrivenClock:
    """Seconds since the epoch, whole ones: `lag_s` behind the real clock, or still at `at_s`."""

    def __init__(self, lag_s: int) -> None:
        self.lag_s = lag_s
        self.at_s: int | None = None

    def __call__(self) -> float:
        return float(math.floor(time.time()) - self.lag_s if self.at_s is None else self.at_s)


class DrivenAgent:
    """The agent of one site. Orders are methods: what they are given are members of the order."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.clock = DrivenClock(options.lag_s)
        self.address, self.port, self.route = options.address, options.port, options.route
        spec = SiteSpec(options.site, options.address, options.seed)
        self.site = VirtualSite(spec, self.clock)
        if options.booted_s is not None:
            self.clock.at_s = options.booted_s
            self.site.reboot()
        self.clock.at_s = options.at_s
        self.memory = Memory(options.state / "journal.sqlite", [self.site], now_s=self.clock, mono_s=self.clock)
        self.doors: dict[str, SiteTls] = {}
        self.identity: Identity | None = None
        self.links = Links()
        self.server: AgentServer | None = None
        file = IdentityFile(options.state / "identities.sqlite")
        found = open_identities(file, [options.site])
        self.memory.sign_as(*found.values())
        loop = asyncio.get_running_loop()
        joins = {options.site: read_join(options.join)} if options.join else {}

        def renewed(identity: Identity) -> None:
            loop.call_soon_threadsafe(self._certified, identity)

        self.keeper = Keeper(file, found.values(), joins, renewed)
        if found[options.site].certificates is not None:
            self._certified(found[options.site])
        self.keeper.start()

    def _certified(self, identity: Identity) -> None:
        self.identity = identity
        self.doors[self.address] = SiteTls(identity)
        self.links.certify(identity)

    async def link(self, to_s: int | None = None) -> None:
        """Be reachable from now on, by the gateway or by being dialled; with the clock set to `to_s`."""
        if to_s is not None:
            await self.live(to_s)
        self.server = AgentServer({self.address: self.site}, max_connections=8, tls=self.doors, memory=self.memory)
        if self.route == DIAL_OUT:
            self.links.keep(self.site.site, self.address, self.server.new_connection)
        else:
            await self.server.listen([bind_address(self.address, self.port)])

    async def cut(self) -> None:
        """Be out of reach; time stands still until the next order."""
        await self.stand()
        await self.links.close()
        assert self.server is not None
        await self.server.close()
        self.links = Links()
        if self.identity is not None:
            self.links.certify(self.identity)

    async def stand(self) -> None:
        """Let time stand still until the next order."""
        self.clock.at_s = int(self.clock())

    async def live(self, to_s: int, step_s: int = 1) -> None:
        """Live on to that second of the site's clock, one tick in so many seconds."""
        for now_s in range(int(self.clock()) + step_s, to_s + 1, step_s):
            self.clock.at_s = now_s
            self.memory.tick()
        self.clock.at_s = to_s

    async def judge(self, state: Any) -> None:
        """Give another verdict, and write it down at this very second."""
        self.site.set_state(state)
        self.memory.tick()

    async def obey(self, order: Mapping[str, Any]) -> int:
        """Carry out `{"do": NAME, ...}`; the second that the site's clock shows then."""
        members = {name: value for name, value in order.items() if name != "do"}
        await getattr(self, order["do"])(**members)
        return int(self.clock())


async def _run(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    agent = DrivenAgent(options)
    agent.memory.start()
    print(int(agent.clock()), flush=True)
    while line := await orders.readline():
        print(await agent.obey(json.loads(line)), flush=True)
    agent.keeper.stop()
    await agent.links.close()
    if agent.server is not None:
        await agent.server.close()
    await agent.memory.close()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--site", type=UUID, required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--route", choices=[DIAL_OUT, DIRECT], required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--join", default="")
    parser.add_argument("--lag-s", type=int, default=0)
    parser.add_argument("--at-s", type=int)
    parser.add_argument("--booted-s", type=int)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(options))


class DrivenSite:
    """The test's side: starts the process, gives it orders, cuts its power."""

    def __init__(self, folder: Path, site: Any, *, route: str, lag_s: int, join: str) -> None:
        self.folder, self.route = folder, route
        folder.mkdir(exist_ok=True)
        host, _, port = site.address.partition(":")
        self._options = [
            *("--state", str(folder), "--site", str(site.uuid), "--address", host, "--port", port),
            *("--route", route, "--seed", str(_seed_without_reboot(site.uuid, lag_s)), "--lag-s", str(lag_s)),
        ]
        self._booted: list[str] = []
        self._child = self._start("--join", join)

    def _start(self, *options: str) -> subprocess.Popen[str]:
        with (self.folder / "agent.log").open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "tests.flows.driven_agent", *self._options, *options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert child.stdout is not None
        self.began_s = int(child.stdout.readline())
        return child

    def order(self, do: str, **members: Any) -> int:
        """Have it do something; the second that its clock shows afterwards."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps({"do": do, **members}) + "\n")
        self._child.stdin.flush()
        return int(self._child.stdout.readline())

    def kill(self) -> None:
        """kill -9: the power goes, or the process."""
        self._child.kill()
        self._close()

    def start(self, *, at_s: int, rebooted: bool) -> None:
        """Start again, the clock at that second; with `rebooted` the machine has booted just then."""
        if rebooted:
            self._booted = ["--booted-s", str(at_s)]
        self._child = self._start("--at-s", str(at_s), *self._booted)

    @property
    def pid(self) -> int:
        """The process."""
        return self._child.pid

    @property
    def journal(self) -> Path:
        """The file of its journal."""
        return self.folder / "journal.sqlite"

    def close(self) -> None:
        """End cleanly."""
        if self._child.poll() is None and self._child.stdin is not None:
            self._child.stdin.close()
        self._close()

    def _close(self) -> None:
        self._child.wait(20)
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                pipe.close()


def _seed_without_reboot(site: UUID, lag_s: int) -> int:
    """A seed whose virtual machine does not reboot by its own plan within the span."""
    now_s = time.time()
    for seed in range(1, 100):
        backend = VirtualSite(SiteSpec(site, "", seed), time.time)
        if backend.make(now_s - lag_s - 3_600).boot == backend.make(now_s + 3_600).boot:
            return seed
    raise AssertionError("every virtual machine reboots today")


if __name__ == "__main__":
    main()
