"""`run`: answer for this machine."""

import argparse
import asyncio
import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec
import psutil

from agent import __version__
from agent.apply.applier import Applier
from agent.apply.desk import Desk
from agent.apply.part import ApplyError
from agent.apply.setup import open_desk
from agent.apply.store import FOLDER, FileStore
from agent.commands.arguments import add_config, add_lifetime, endpoint, serve, uuid
from agent.commands.equipment import Equipment
from agent.commands.kept import Kept, join_of, kept, read_joins
from agent.config import CONFIG_FILE, Config, ConfigError, read_config
from agent.identity import Identity, IdentityError, SiteTls
from agent.link import Links
from agent.listening import bind_address
from agent.memory import Memory
from agent.probes.runner import Prober
from agent.process import feed_watchdog, signal_to_end, tell_systemd
from agent.protocol.identity import Join
from agent.routes import ROUTE
from agent.server import AgentServer, AtAnyAddress
from agent.state import (
    IDENTITIES,
    JOURNAL,
    PROBES,
    SOCKET,
    become_owner,
    forget_join,
    kept_join,
    locked,
    why,
)
from agent.status import (
    JournalStatus,
    LinkStatus,
    ProbeStatus,
    Status,
    StatusServer,
    VerdictStatus,
    describe_identity,
    read_identity,
)

HOST_CONNECTIONS: Final = 64
_NOWHERE: Final = ("127.0.0.1", 0)

log = logging.getLogger("agent")


class NotEnrolledError(Exception):
    """Nobody has told this machine yet which site it is."""


def add(commands: Any) -> None:
    """Describe the command."""
    run = commands.add_parser(
        "run",
        help="answer for this machine",
        description="Answer polls for this machine, as its configuration says. The flags below --state are for trying"
        " things out without a configuration; where both are given, a flag wins.",
    )
    add_config(run)
    run.add_argument("--listen", type=endpoint, metavar="ADDRESS:PORT", help="where the centre dials this site")
    run.add_argument("--dial-out", action="store_true", help="call the gateway, for nobody can dial this machine")
    run.add_argument("--site", type=uuid, metavar="UUID", help="the site this machine is; default: as it has enrolled")
    run.add_argument("--join-file", type=Path, metavar="FILE", help="holds the join string, until it has enrolled")
    add_lifetime(run)
    run.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    config = _with_flags(options)
    text = _read(options.join_file) if options.join_file is not None else None
    become_owner(config.folder)
    with locked(config.folder):
        site, join = _who(config.folder, options.site, text)
        return serve(options, _Host(config, site, join).run(), config.log_level)


def _with_flags(options: argparse.Namespace) -> Config:
    """The configuration, or what flags say in its place and above it. Raises ConfigError."""
    if options.config is not None or options.state is None:
        config = read_config(options.config or CONFIG_FILE)
    else:
        config = Config()
    if options.state is not None:
        config = msgspec.structs.replace(config, state=str(options.state.absolute()))
    if options.listen is not None:
        host, port = options.listen
        listen = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        config = msgspec.structs.replace(config, listen=listen, dial_out=False)
    if options.dial_out:
        config = msgspec.structs.replace(config, dial_out=True)
    if config.listen is None and not config.dial_out:
        raise ConfigError("without a configuration, --listen ADDRESS:PORT or --dial-out must be given")
    return config


def _who(folder: Path, site: UUID | None, text: str | None) -> tuple[UUID, Join | None]:
    """Which site this is, and its join string if there is one. Raises NotEnrolledError or IdentityError."""
    if site is not None:
        return site, read_joins({site: text}).get(site) if text is not None else None
    join = join_of(text) if text is not None else kept_join(folder)
    identity = read_identity(folder)
    if identity is None and join is None:
        raise NotEnrolledError("this machine has not enrolled yet: run `archipelago-agent enrol` first")
    if identity is not None and join is not None and join.site != identity.site:
        raise IdentityError(f"the join string is for site {join.site}, not {identity.site}")
    if identity is not None and identity.certificates is None and join is None:
        raise NotEnrolledError("this machine was never accepted: run `archipelago-agent enrol` with its join string")
    site = identity.site if identity is not None else join.site  # type: ignore[union-attr]  # one of both is there
    return site, join


def _read(path: Path) -> str | None:
    """A join string; None where the file is gone, as it is after enrolment. Raises IdentityError."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise IdentityError(f"{path} cannot be read: {why(error)}") from None


class _Host:
    """This machine while it is served."""

    def __init__(self, config: Config, site: UUID, join: Join | None) -> None:
        self._config, self._site = config, site
        self._joins = {site: join} if join is not None else {}
        self._began = datetime.now(UTC)
        self._links = Links()
        self._door: AtAnyAddress[SiteTls] = AtAnyAddress()
        self._memory: Memory | None = None
        self._desk: Desk | None = None
        self._kept: Kept | None = None
        try:
            self._prober = Prober(config.probes, config.folder / PROBES)
        except OSError as error:
            raise ConfigError(f"a probe's ca_file cannot be used: {why(error)}") from None

    async def run(self) -> None:
        """Until a signal ends it."""
        end = signal_to_end()
        folder = self._config.folder
        equipment = Equipment(self._config, self._site, lambda: self._prober.verdict, self)
        backend = equipment.backend
        status = StatusServer(folder / SOCKET, self.status)
        listen = self._config.endpoint
        # Before anything is written: an agent that finds its port taken again and again must not fill the journal.
        sockets = [bind_address(*listen)] if listen is not None else []
        with kept(folder / IDENTITIES, [self._site], self._joins, self._certified) as self._kept:
            self._memory = memory = Memory(folder / JOURNAL, [backend], bound_bytes=self._config.journal_bytes)
            memory.sign_as(*self._kept.identities)
            self._desk = desk = self._open_desk(equipment, memory)
            applier = Applier(desk, begin=equipment.begin)
            server = AgentServer(
                AtAnyAddress(backend),
                max_connections=HOST_CONNECTIONS,
                tls=self._door,
                memory=memory,
                renewals=self._kept.keeper,
                desk=desk,
            )
            memory.start()
            applier.start()
            self._prober.start()
            if listen is None:
                self._links.keep(self._site, _NOWHERE[0], server.new_connection)
                log.info("agent %s answers for site %s, which calls the gateway", __version__, self._site)
            else:
                await server.listen(sockets)
                log.info("agent %s answers for site %s at %s:%d%s", __version__, self._site, *listen, ROUTE)
            await status.listen()
            tell_systemd("READY=1")
            watchdog = asyncio.create_task(feed_watchdog())
            log.info("ending on %s", await end)
            tell_systemd("STOPPING=1")
            watchdog.cancel()
            for part in (status, self._prober, self._links, server):
                await part.close()
            await asyncio.to_thread(applier.stop)
            equipment.close()
            await memory.close()

    def _certified(self, identity: Identity) -> None:
        """Show these certificates, and sign with their keys: they are new ones where the old were revoked."""
        self._links.certify(identity)
        if self._door.thing is None:
            self._door.thing = SiteTls(identity)
        else:
            self._door.thing.update(identity)
        if self._memory is not None:
            self._memory.sign_as(identity)
        if self._desk is not None:
            self._desk.certify(identity)
        forget_join(self._config.folder)

    def _open_desk(self, equipment: Equipment, memory: Memory) -> Desk:
        """Where documents come in. Raises StoreError."""
        assert self._kept is not None
        folder = self._config.folder
        desk = open_desk(FileStore(folder / FOLDER, self._site), folder, [equipment.backend], memory)
        desk.add([(self._site, equipment.machine, equipment.parts)])
        for identity in self._kept.identities:
            desk.certify(identity)
        return desk

    # What the parts of documents ask of us: agent.commands.equipment.Known.
    def envelope(self) -> bytes:
        """The envelope of the document that is being applied. Raises ApplyError while there is none."""
        work = self._desk.part_sites()[self._site].work if self._desk is not None else None
        if work is None:
            raise ApplyError("no document is being applied")
        return work.envelope

    def certificates(self) -> tuple[str, ...]:
        """Those of the keys that sign documents."""
        assert self._kept is not None
        known = self._kept.keeper.identity(self._site).certificates
        return known.documents if known is not None else ()

    def is_polled(self) -> bool:
        """Whether the centre has polled this process."""
        return self._memory is not None and self._site in self._memory.polled_at_s

    def status(self) -> Status:
        """What `archipelago-agent status` shows."""
        assert self._kept is not None
        assert self._memory is not None
        keeper, memory, config = self._kept.keeper, self._memory, self._config
        problem = keeper.problems.get(self._site)
        seq, acked, used_bytes, waiting = memory.usage(self._site)
        polled_at_s = memory.polled_at_s.get(self._site)
        verdict = self._prober.verdict
        identity = describe_identity(keeper.identity(self._site), waiting=problem == "pending")
        return Status(
            running=True,
            version=__version__,
            pid=os.getpid(),
            started_at=self._began,
            identity=identity,
            problem=None if problem == "pending" else problem,
            link=LinkStatus(
                mode="dial-out" if config.endpoint is None else "direct",
                address=config.listen if config.endpoint is not None else None,
                since=self._links.linked_at(self._site),
            ),
            last_poll_at=datetime.fromtimestamp(polled_at_s, UTC) if polled_at_s is not None else None,
            verdict=VerdictStatus(state=verdict.state, since=verdict.since, reasons=verdict.reasons),
            probes=self._probes(),
            journal=JournalStatus(
                seq=seq,
                unacknowledged=seq - acked if acked is not None else None,
                used_bytes=used_bytes,
                bound_bytes=memory.bound_bytes,
                waiting=waiting,
            ),
            rss_bytes=psutil.Process().memory_info().rss,
        )

    def _probes(self) -> tuple[ProbeStatus, ...]:
        return tuple(
            ProbeStatus(
                name=watched.probe.name,
                kind=watched.kind,
                state=watched.standing.state,
                detail=watched.standing.detail if watched.standing.state != "up" else "",
                last_at=watched.last_at,
                last_state=watched.last.state if watched.last is not None else None,
                last_detail=watched.last.detail if watched.last is not None else "",
            )
            for watched in self._prober.watched
        )
