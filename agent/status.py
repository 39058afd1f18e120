"""What the running agent says of itself, through a unix socket of mode 0600 in its state folder."""

import asyncio
import contextlib
import logging
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Final, Literal
from uuid import UUID

import msgspec
from msgspec import Struct

from agent.identity import Identity, IdentityError, IdentityFile
from agent.protocol import VerdictState
from agent.state import IDENTITIES, JOURNAL, kept_join
from agent.unix_socket import UnixSocketError, bind_private

ANSWER_S: Final = 5.0
MAX_STATUS_BYTES: Final = 1 << 20
LinkMode = Literal["direct", "dial-out"]

log = logging.getLogger("agent")


class CertificateStatus(Struct, frozen=True, kw_only=True):
    """The certificate and when it is renewed."""

    valid_from: datetime
    valid_until: datetime
    renews_at: datetime
    gateway: str
    fleet: str


class IdentityStatus(Struct, frozen=True, kw_only=True):
    """Who the site is. `waiting`: a join string is there, the centre has not accepted yet."""

    site: UUID
    fingerprint: str
    waiting: bool
    certificate: CertificateStatus | None


class LinkStatus(Struct, frozen=True, kw_only=True):
    """How the centre reaches the site; `since` is when the present link of a site that calls was opened."""

    mode: LinkMode
    address: str | None = None
    since: datetime | None = None


class ProbeStatus(Struct, frozen=True, kw_only=True):
    """A probe: what holds after hysteresis, and what its last look said."""

    name: str
    kind: str
    state: VerdictState
    detail: str
    last_at: datetime | None
    last_state: VerdictState | None
    last_detail: str


class VerdictStatus(Struct, frozen=True, kw_only=True):
    """The site's own verdict."""

    state: VerdictState
    since: datetime
    reasons: tuple[str, ...]


class JournalStatus(Struct, frozen=True, kw_only=True):
    """How far the journal is; `waiting` entries are in memory, for the disk has no room. None: cannot be told now."""

    seq: int
    unacknowledged: int | None
    used_bytes: int | None
    bound_bytes: int | None
    waiting: int = 0


class Status(Struct, frozen=True, kw_only=True):
    """Everything; what only the running agent knows is None where none runs."""

    running: bool
    version: str
    pid: int | None = None
    started_at: datetime | None = None
    identity: IdentityStatus | None = None
    problem: str | None = None
    link: LinkStatus | None = None
    last_poll_at: datetime | None = None
    verdict: VerdictStatus | None = None
    probes: tuple[ProbeStatus, ...] = ()
    journal: JournalStatus | None = None
    rss_bytes: int | None = None


class StatusServer:
    """Tells whoever connects the status, once, and closes. Only this user can connect."""

    def __init__(self, path: Path, status: Callable[[], Status]) -> None:
        self._path = path
        self._status = status
        self._server: asyncio.AbstractServer | None = None
        self._inode = 0

    async def listen(self) -> None:
        """Answer from now on. An agent whose socket cannot be made still works: it says so in its log."""
        try:
            sock = bind_private(self._path, "archipelago-agent")
        except UnixSocketError as error:
            log.warning("`status` will not find this agent: %s", error)
            return
        self._inode = self._path.stat().st_ino
        self._server = await asyncio.start_unix_server(self._serve, sock=sock)

    async def close(self) -> None:
        """Answer no more, and remove the socket if it is still ours."""
        if self._server is None:
            return
        self._server.close()
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()

    async def _serve(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(msgspec.json.encode(self._status()))
            await asyncio.wait_for(writer.drain(), ANSWER_S)
        except (OSError, TimeoutError):
            pass
        except Exception:  # the top of a request: the agent goes on
            log.exception("the status could not be told")
        finally:
            writer.close()


def ask(path: Path) -> Status | None:
    """The status of the agent that listens at `path`; None where none runs. Raises UnixSocketError for other faults."""
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(ANSWER_S)
            sock.connect(str(path))
            with sock.makefile("rb") as answer:
                raw = answer.read(MAX_STATUS_BYTES)
        return msgspec.json.decode(raw, type=Status)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        return None
    except TimeoutError:
        raise UnixSocketError(f"the agent at {path} does not answer within {ANSWER_S:g} s") from None
    except OSError as error:
        raise UnixSocketError(f"{path} cannot be asked: {(error.strerror or str(error)).lower()}") from None
    except ValueError:
        raise UnixSocketError(f"what answers at {path} is not this agent, or it ended meanwhile") from None


# Without a running agent --------------------------------------------------------------------------------------
def describe_identity(identity: Identity, *, waiting: bool) -> IdentityStatus:
    """What can be said of an identity. Raises IdentityError for keys or certificates that cannot be read."""
    certificate = None
    if identity.certificates is not None:
        begin, end = identity.validity()
        certificate = CertificateStatus(
            valid_from=begin,
            valid_until=end,
            renews_at=identity.renews_at(),
            gateway=identity.certificates.gateway,
            fleet=identity.certificates.fleet,
        )
    return IdentityStatus(
        site=identity.site, fingerprint=identity.keys.fingerprint, waiting=waiting, certificate=certificate
    )


def read_identity(folder: Path) -> Identity | None:
    """The one identity in a state folder, None where there is none. Makes nothing. Raises IdentityError."""
    path = folder / IDENTITIES
    if not path.exists():
        return None
    file = IdentityFile(path)
    found = file.sites()
    if len(found) > 1:
        raise IdentityError(f"{path} holds {len(found)} sites: it is a simulator's, not that of one machine")
    return file.get(found[0]) if found else None


def read_status(folder: Path, version: str) -> Status:
    """The status as the files tell it, while no agent runs. Raises IdentityError."""
    identity = read_identity(folder)
    described = None
    if identity is not None:
        waiting = identity.certificates is None and kept_join(folder) is not None
        described = describe_identity(identity, waiting=waiting)
    journal = _read_journal(folder / JOURNAL, identity.site) if identity is not None else None
    return Status(running=False, version=version, identity=described, journal=journal)


def _read_journal(path: Path, site: UUID) -> JournalStatus | None:
    """Last number and what the centre has not acknowledged; None for a file that cannot be read now."""
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(path.absolute().as_uri() + "?mode=ro", uri=True, timeout=1)) as db:
            row = db.execute("SELECT seq, acked FROM site WHERE uuid = ?", (site.bytes,)).fetchone() or (0, 0)
            (pages,) = db.execute("PRAGMA page_count").fetchone()
            (free,) = db.execute("PRAGMA freelist_count").fetchone()
            (page_bytes,) = db.execute("PRAGMA page_size").fetchone()
    except sqlite3.Error:
        return None
    used_bytes = int((pages - free) * page_bytes)
    return JournalStatus(seq=row[0], unacknowledged=row[0] - row[1], used_bytes=used_bytes, bound_bytes=None)
