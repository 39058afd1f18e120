"""`simulate`: play many sites in one process."""

import argparse
import gc
import logging
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from agent.apply.applier import Player
from agent.apply.desk import Desk
from agent.apply.setup import open_desk
from agent.apply.store import FILE, SharedStore
from agent.apply.virtual import VirtualMachine, recall, virtual_parts
from agent.commands.arguments import add_lifetime, port, serve
from agent.commands.kept import kept, read_joins
from agent.control import ControlServer
from agent.fleet_file import MAX_SITES, SiteSpec, read_fleet
from agent.identity import Identity, SiteTls
from agent.link import Links
from agent.listening import bind_block
from agent.memory import Memory
from agent.process import raise_file_limit, signal_to_end
from agent.simulator import SimulatedFleet
from agent.state import IDENTITIES, JOURNAL

_SPARE_FILES: Final = 64

log = logging.getLogger("agent")


def add(commands: Any) -> None:
    """Describe the command."""
    simulate = commands.add_parser(
        "simulate",
        help="play many sites",
        description=f"Play up to {MAX_SITES} sites, each at an address of its own in 127.64.0.0/10, on one port.",
    )
    simulate.add_argument("--fleet", required=True, type=Path, metavar="FILE", help="JSON file with the sites")
    simulate.add_argument("--port", required=True, type=port, help="TCP port of all sites")
    simulate.add_argument(
        "--state", required=True, type=Path, metavar="FOLDER", help="keeps keys and certificates; for this user only"
    )
    simulate.add_argument("--control", type=Path, metavar="SOCKET", help="unix socket to make for simctl")
    add_lifetime(simulate)
    simulate.set_defaults(command=_simulate)


def _simulate(options: argparse.Namespace) -> int:
    return serve(options, _run_simulator(options.fleet, options.state, options.port, options.control))


async def _run_simulator(path: Path, state: Path, port: int, control_path: Path | None) -> None:
    end = signal_to_end()
    specs = read_fleet(path)
    limit = raise_file_limit()
    if limit < len(specs) + _SPARE_FILES:
        log.warning("the limit of %d open files is too low for a kept-alive connection to each site", limit)
    addresses = {spec.site: spec.address for spec in specs}
    joins = read_joins({spec.site: spec.join for spec in specs if spec.join})
    shown = _Shown(specs)
    fleet = SimulatedFleet(specs, max_connections=limit - _SPARE_FILES, tls=shown.doors)
    control = ControlServer(fleet, control_path) if control_path is not None else None
    with kept(state / IDENTITIES, list(addresses), joins, shown.certified) as known:
        fleet.server.renewals = known.keeper
        fleet.server.memory = shown.memory = memory = Memory(state / JOURNAL, fleet.sites)
        memory.sign_as(*known.identities)
        store = SharedStore(state / FILE)
        fleet.server.desk = shown.desk = desk = open_desk(store, state, fleet.sites, memory)
        desk.add((site.site, VirtualMachine(site), virtual_parts(site)) for site in fleet.sites)
        for identity in known.identities:
            desk.certify(identity)
        for played in desk.part_sites().values():
            recall(played)
        player = Player(desk)
        memory.start()
        player.start()
        for site in shown.calling:
            shown.links.keep(site, addresses[site], fleet.server.new_connection)
        await fleet.server.listen(bind_block(list(fleet.server.backends), port))
        try:
            if control is not None:
                await control.listen()
            await _play(fleet, port, end)
        finally:
            if control is not None:
                await control.close()
            await shown.links.close()
            await fleet.close()
            await player.close()
            await memory.close()
            store.close()


class _Shown:
    """Where the certificates of sites are shown: at their doors, or to the gateway whom they call."""

    def __init__(self, specs: list[SiteSpec]) -> None:
        self.doors: dict[str, SiteTls] = {}
        self.links = Links()
        self.memory: Memory | None = None
        self.desk: Desk | None = None
        self.calling: set[UUID] = {spec.site for spec in specs if spec.dial_out}
        self._addresses = {spec.site: spec.address for spec in specs}

    def certified(self, identity: Identity) -> None:
        """Show these certificates, and sign with their keys, from now on. Raises IdentityError."""
        if self.memory is not None:
            self.memory.sign_as(identity)
        if self.desk is not None:
            self.desk.certify(identity)
        if identity.site in self.calling:
            self.links.certify(identity)
            return
        door = self.doors.get(self._addresses[identity.site])
        if door is None:
            self.doors[self._addresses[identity.site]] = SiteTls(identity)
        else:
            door.update(identity)


async def _play(fleet: SimulatedFleet, port: int, end: Awaitable[str]) -> None:
    gc.collect()
    gc.freeze()  # the sites live as long as the process: the collector need not walk them again
    log.info("%d simulated sites answer on port %d", len(fleet.sites), port)
    log.info("ending on %s", await end)
