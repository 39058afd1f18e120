"""One poll of one agent: dial, ask, read, check. Whatever is wrong becomes a fact, never an exception."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

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
    journal_seq: int | None = None


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
        answer = await _ask(wire, target, vetting, started)
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


async def _ask(wire: Wire, target: PollTarget, vetting: Vetting, started: float) -> Answer:
    """Ask over the kept connection, or a new one; a connection that was closed while idle is retried once."""
    kept = wire.kept(target.site_id, target.peer)  # first, for it ends a connection to keys that were revoked
    if not target.peer.name:
        raise WireError(Failure.NOT_ENROLLED, "it has no accepted keys; let it join")
    message = request_bytes(target)
    if kept is not None:
        try:
            return await wire.get(kept, message, started=started)
        except NoAnswerYet:
            pass
    connection = await _dial(wire, target, vetting)
    return await wire.get(connection, message, started=started)


async def _dial(wire: Wire, target: PollTarget, vetting: Vetting) -> Connection:
    ip, port = await resolve(wire.loop, target.peer.address, vetting, target.networks)
    return await wire.dial(target.site_id, ip, port, target.peer)


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
