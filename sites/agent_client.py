"""One poll of one agent: dial, ask, read, check. Whatever is wrong becomes a fact, never an exception."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol
from uuid import UUID

from django.conf import settings
from msgspec import Struct

from agent.protocol import ProtocolError, Report, decode_report
from sites.addresses import Network, Vetting, resolve
from sites.health import Health
from sites.states import Failure
from sites.wire import Answer, Connection, NoAnswerYet, Peer, Wire, WireError


class PollTarget(Struct, frozen=True):
    """What a poll needs of a site, and the state that its outcome will be decided against."""

    site_id: int
    uuid: UUID
    provider_id: int
    peer: Peer
    networks: Sequence[Network]
    due_at: datetime
    version: int
    health: Health
    backoff: int = 1
    digest: str | None = None
    boot: str = ""
    reasons: Sequence[str] = ()
    last_error: str = ""
    busy: bool = False
    desired: str = ""


@dataclass(slots=True)
class PollResult:
    """What one poll brought: a report, or the class of failure and a line that says why.

    `keep_workloads` is the poller's choice of whether the workloads' figures are worth writing this time.
    """

    target: PollTarget
    at: datetime
    rtt_ms: int
    report: Report | None = None
    failure: Failure | None = None
    detail: str = ""
    keep_workloads: bool = True


def request_bytes(target: PollTarget) -> bytes:
    """The request of one poll."""
    query = f"?components={target.digest}" if target.digest else ""
    return (
        f"GET /v1/report{query} HTTP/1.1\r\nhost: {target.peer.name}\r\naccept: application/json\r\n"
        "accept-encoding: identity\r\n\r\n"
    ).encode()


async def poll(wire: Wire, target: PollTarget, vetting: Vetting) -> PollResult:
    """Poll one site. Never raises for anything that a site, a name server or a network does."""
    started = wire.loop.time()
    failure: Failure
    try:
        answer = await ask(wire, target, vetting, request_bytes(target))
        report = _read(answer, target)
    except WireError as error:
        failure, detail = error.failure, error.detail
    except ProtocolError as error:
        failure, detail = Failure.PROTOCOL_ERROR, error.reason
    except _OtherSite as error:
        failure, detail = Failure.IDENTITY_MISMATCH, str(error)
    else:
        return PollResult(target, datetime.now(UTC), round((wire.loop.time() - started) * 1000), report)
    rtt_ms = round((wire.loop.time() - started) * 1000)
    return PollResult(target, datetime.now(UTC), rtt_ms, None, failure, detail[:300])


class _OtherSite(Exception):
    """The agent answers for another site."""


class Reached(Protocol):
    """What is needed to reach a site's agent."""

    @property
    def site_id(self) -> int:
        """Key of its connection."""
        ...

    @property
    def peer(self) -> Peer:
        """Who must answer."""
        ...

    @property
    def networks(self) -> Sequence[Network]:
        """Its provider's networks."""
        ...


async def ask(wire: Wire, site: Reached, vetting: Vetting, message: bytes) -> Answer:
    """One request over the kept connection, or a new one; one that was closed while idle is dialled again, once.

    Raises WireError.
    """
    started = wire.loop.time()
    await wire.idle(site.site_id)
    kept = wire.kept(site.site_id, site.peer)  # first, for it ends a connection to keys that were revoked
    if not site.peer.name:
        raise WireError(Failure.NOT_ENROLLED, "it has no accepted keys; let it join")
    if kept is not None:
        try:
            return await wire.get(kept, message, started=started)
        except NoAnswerYet:
            pass
    connection = await _dial(wire, site, vetting)
    return await wire.get(connection, message, started=started)


async def _dial(wire: Wire, site: Reached, vetting: Vetting) -> Connection:
    if site.peer.gateway:
        return await wire.dial_gateway(site.site_id, str(gateway_socket(site.peer.gateway)), site.peer)
    ip, port = await resolve(wire.loop, site.peer.address, vetting, site.networks)
    return await wire.dial(site.site_id, ip, port, site.peer)


def gateway_socket(gateway: str) -> Path:
    """The unix socket at which a gateway of this machine passes pollers on."""
    return Path(settings.GATEWAY_SOCKETS) / f"{gateway}.sock"


def _read(answer: Answer, target: PollTarget) -> Report:
    """The report of an answer. Raises WireError, ProtocolError, _OtherSite."""
    if answer.status != 200:
        raise WireError(Failure.PROTOCOL_ERROR, f"answered with status {answer.status}")
    report = decode_report(answer.body)
    if report.site != target.uuid:
        raise _OtherSite(f"the agent answers for site {report.site}")
    if report.components is None and report.components_digest != target.digest:
        raise ProtocolError("components are missing, and their digest is not the one that was sent")
    return report
