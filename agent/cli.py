"""The command line: `run` an agent, `simulate` many, `simctl` to order the simulated ones about."""

import argparse
import asyncio
import gc
import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import uvloop

from agent import __version__
from agent.apply.applier import Applier, Player
from agent.apply.machine import ThisMachine
from agent.apply.setup import open_desk
from agent.apply.store import FILE, FOLDER, FileStore, SharedStore, StoreError
from agent.apply.virtual import VirtualMachine, recall, virtual_parts
from agent.backends.host import HostBackend
from agent.churn import MAX_PER_MINUTE
from agent.control import ControlError, ControlServer, request
from agent.fleet_file import MAX_SITES, FleetFileError, read_fleet
from agent.identity import Identity, IdentityError, IdentityFile, SiteTls
from agent.journal_file import InUseError
from agent.keeping import Keeper, open_identities
from agent.link import Links
from agent.listening import ListenError, bind_address, bind_block
from agent.memory import Memory
from agent.process import die_with_parent, log_to_stdout, raise_file_limit, signal_to_end
from agent.protocol import KINDS, STATES, ProtocolError
from agent.protocol.identity import Join, read_join
from agent.routes import ROUTE
from agent.server import AgentServer, AtAnyAddress
from agent.simulator import SimulatedFleet
from agent.virtual_site import APPLY_FAULTS, MODES

HOST_CONNECTIONS: Final = 64
IDENTITIES: Final = "identities.sqlite"
JOURNAL: Final = "journal.sqlite"
_SPARE_FILES: Final = 64
_DIE_VARIABLE: Final = "ARCHIPELAGO_DIE_WITH_PARENT"

log = logging.getLogger("agent")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 it could not, 2 the command line is wrong."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except (ControlError, FleetFileError, IdentityError, InUseError, ListenError, StoreError) as error:
        print(f"archipelago-agent: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(options: argparse.Namespace) -> int:
    return _serve(options, _run_host(options.site, options.state, options.join_file, options.listen, options.dial_out))


async def _run_host(site: UUID, state: Path, join_file: Path | None, listen: tuple[str, int], dial_out: bool) -> None:
    end = signal_to_end()
    joins = _read_joins({site: join_file.read_text()} if join_file is not None and join_file.exists() else {})
    door: AtAnyAddress[SiteTls] = AtAnyAddress()
    backend = HostBackend(site)
    memory = Memory(state / JOURNAL, [backend])
    linked = Links()

    desk = open_desk(FileStore(state / FOLDER, site), state, [backend], memory)
    desk.add([(site, ThisMachine(), [])])
    applier = Applier(desk)

    def certified(identity: Identity) -> None:
        memory.sign_as(identity)
        desk.certify(identity)
        linked.certify(identity)
        if door.thing is None:
            door.thing = SiteTls(identity)
        else:
            door.thing.update(identity)

    with _kept(state / IDENTITIES, [site], joins, certified) as keeper:
        server = AgentServer(
            AtAnyAddress(backend), max_connections=HOST_CONNECTIONS, tls=door, memory=memory, renewals=keeper, desk=desk
        )
        memory.start()
        applier.start()
        if dial_out:
            linked.keep(site, listen[0], server.new_connection)
        else:
            await server.listen([bind_address(*listen)])
        log.info("agent %s answers for site %s at %s:%d%s", __version__, site, *listen, ROUTE)
        log.info("ending on %s", await end)
        await linked.close()
        await server.close()
        await asyncio.to_thread(applier.stop)
        await memory.close()


def _simulate(options: argparse.Namespace) -> int:
    return _serve(options, _run_simulator(options.fleet, options.state, options.port, options.control))


async def _run_simulator(path: Path, state: Path, port: int, control_path: Path | None) -> None:
    end = signal_to_end()
    specs = read_fleet(path)
    limit = raise_file_limit()
    if limit < len(specs) + _SPARE_FILES:
        log.warning("the limit of %d open files is too low for a kept-alive connection to each site", limit)
    doors: dict[str, SiteTls] = {}
    addresses = {spec.site: spec.address for spec in specs}
    calling = {spec.site for spec in specs if spec.dial_out}
    linked = Links()
    fleet = SimulatedFleet(specs, max_connections=limit - _SPARE_FILES, tls=doors)
    fleet.server.memory = memory = Memory(state / JOURNAL, fleet.sites)
    store = SharedStore(state / FILE)
    fleet.server.desk = desk = open_desk(store, state, fleet.sites, memory)
    desk.add((site.site, VirtualMachine(site), virtual_parts(site)) for site in fleet.sites)
    for known in desk.part_sites().values():
        recall(known)
    player = Player(desk)

    def certified(identity: Identity) -> None:
        memory.sign_as(identity)
        desk.certify(identity)
        if identity.site in calling:
            linked.certify(identity)
            return
        door = doors.get(addresses[identity.site])
        if door is None:
            doors[addresses[identity.site]] = SiteTls(identity)
        else:
            door.update(identity)

    control = ControlServer(fleet, control_path) if control_path is not None else None
    joins = _read_joins({spec.site: spec.join for spec in specs if spec.join})
    with _kept(state / IDENTITIES, list(addresses), joins, certified) as keeper:
        fleet.server.renewals = keeper
        memory.start()
        player.start()
        for site in calling:
            linked.keep(site, addresses[site], fleet.server.new_connection)
        await fleet.server.listen(bind_block(list(fleet.server.backends), port))
        try:
            if control is not None:
                await control.listen()
            await _play(fleet, port, end)
        finally:
            if control is not None:
                await control.close()
            await linked.close()
            await fleet.close()
            await player.close()
            await memory.close()
            store.close()


@contextmanager
def _kept(
    path: Path, sites: list[UUID], joins: Mapping[UUID, Join], certified: Callable[[Identity], None]
) -> Iterator[Keeper]:
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
        yield keeper
    finally:
        keeper.stop()


def _soon(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(call)


def _try(certified: Callable[[Identity], None], identity: Identity) -> None:
    try:
        certified(identity)
    except IdentityError as error:
        log.error("site %s cannot show its certificate: %s", identity.site, error)


def _read_joins(texts: Mapping[UUID, str]) -> dict[UUID, Join]:
    """Join strings by site. Raises IdentityError for one that is damaged, or another site's."""
    joins = {}
    for site, text in texts.items():
        try:
            joins[site] = read_join(text)
        except ProtocolError as error:
            raise IdentityError(error.reason) from None
        if joins[site].site != site:
            raise IdentityError(f"the join string is for site {joins[site].site}, not {site}")
    return joins


async def _play(fleet: SimulatedFleet, port: int, end: Awaitable[str]) -> None:
    gc.collect()
    gc.freeze()  # the sites live as long as the process: the collector need not walk them again
    log.info("%d simulated sites answer on port %d", len(fleet.sites), port)
    log.info("ending on %s", await end)


def _serve(options: argparse.Namespace, work: Any) -> int:
    if options.die_with_parent:
        die_with_parent()
    log_to_stdout()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)
    return 0


def _order(options: argparse.Namespace) -> int:
    order: dict[str, Any] = {"cmd": options.order.replace("-", "_")}
    if "sites" in options:
        order["sites"] = "all" if options.sites == ["all"] else options.sites
    for name in ("mode", "for_s", "state", "kind", "name", "version", "per_minute", "fault"):
        if getattr(options, name, None) is not None:
            order[name] = getattr(options, name)
    answer = request(options.control, order)
    del answer["ok"]
    if options.json:
        print(json.dumps(answer))
        return 0
    for name, value in answer.items():
        shown = ", ".join(f"{key} {count}" for key, count in value.items()) if isinstance(value, dict) else value
        print(f"{name.replace('_', ' ')}: {shown if shown != '' else 'none'}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="archipelago-agent", description=__doc__)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_run(commands)
    _add_simulate(commands)
    _add_simctl(commands)
    return parser


def _add_run(commands: Any) -> None:
    run = commands.add_parser("run", help="answer for this machine", description="Answer polls for this machine.")
    run.add_argument(
        "--listen",
        required=True,
        type=_endpoint,
        metavar="ADDRESS:PORT",
        help="where the centre dials this site, such as 0.0.0.0:9100",
    )
    run.add_argument("--site", required=True, type=_uuid, metavar="UUID", help="the site this machine is")
    run.add_argument("--dial-out", action="store_true", help="call the gateway, for nobody can dial this machine")
    run.add_argument("--join-file", type=Path, metavar="FILE", help="holds the join string, until it has enrolled")
    _add_state(run)
    _add_lifetime(run)
    run.set_defaults(command=_run)


def _add_simulate(commands: Any) -> None:
    simulate = commands.add_parser(
        "simulate",
        help="play many sites",
        description=f"Play up to {MAX_SITES} sites, each at an address of its own in 127.64.0.0/10, on one port.",
    )
    simulate.add_argument("--fleet", required=True, type=Path, metavar="FILE", help="JSON file with the sites")
    simulate.add_argument("--port", required=True, type=_port, help="TCP port of all sites")
    _add_state(simulate)
    simulate.add_argument("--control", type=Path, metavar="SOCKET", help="unix socket to make for simctl")
    _add_lifetime(simulate)
    simulate.set_defaults(command=_simulate)


def _add_state(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--state", required=True, type=Path, metavar="FOLDER", help="keeps keys and certificates; for this user only"
    )


def _add_lifetime(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--die-with-parent",
        action="store_true",
        default=os.environ.get(_DIE_VARIABLE, "") not in {"", "0"},
        help=f"end when the parent process ends (also: {_DIE_VARIABLE}=1)",
    )


def _add_simctl(commands: Any) -> None:
    simctl = commands.add_parser(
        "simctl", help="order simulated sites about", description="Order the sites of a running simulator about."
    )
    simctl.add_argument("--control", required=True, type=Path, metavar="SOCKET", help="its control socket")
    simctl.add_argument("--json", action="store_true", help="print the answer as JSON")
    simctl.set_defaults(command=_order)
    orders = simctl.add_subparsers(dest="order", metavar="ORDER", required=True)
    fail = orders.add_parser("fail", help="let sites fail")
    fail.add_argument("mode", choices=MODES, metavar="MODE", help=", ".join(MODES))
    fail.add_argument("--for", dest="for_s", type=float, metavar="SECONDS", help="heal them after that time")
    heal = orders.add_parser("heal", help="let sites be well again")
    judge = orders.add_parser("judge", help="let sites give a verdict of themselves, whatever else is wrong with them")
    judge.add_argument("state", choices=STATES, metavar="STATE", help=", ".join(STATES))
    upgrade = orders.add_parser("upgrade", help="give a component another version")
    upgrade.add_argument("kind", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    upgrade.add_argument("name", help="such as linux, or pos")
    upgrade.add_argument("version")
    fail_apply = orders.add_parser("fail-apply", help="let the changes of desired state fail, until healed")
    fail_apply.add_argument("fault", choices=APPLY_FAULTS, metavar="FAULT", help=", ".join(APPLY_FAULTS))
    for order in (fail, heal, judge, upgrade, fail_apply):
        order.add_argument("sites", nargs="+", metavar="SITE", help="uuid or address of a site, or: all")
    churn = orders.add_parser("churn", help="let sites come and go on their own")
    churn.add_argument(
        "per_minute",
        type=float,
        metavar="SHARE",
        help=f"share of the sites that changes its verdict each minute, 0 to {MAX_PER_MINUTE:g}; 0.01 is 1 %%",
    )
    orders.add_parser("status", help="print counts")


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a UUID") from None


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65_536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port")
    return int(text)


def _endpoint(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"{text!r} is not ADDRESS:PORT")
    return host, _port(port)
