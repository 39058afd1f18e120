"""Checks of the clock, of the way to the gateway, and of the agent's own door."""

import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from agent.calling import TIMEOUT_S, CallError, Gateway, fetch_roots, split_endpoint, trusted
from agent.doctor.check import Check, ok, problem, warning
from agent.identity import Identity
from agent.protocol.identity import Join

CLOCK_WARNING_S: Final = 5.0
CLOCK_PROBLEM_S: Final = 300.0
_SET_CLOCK: Final = "Set the clock: `timedatectl set-ntp true`, and see that the time server can be reached."


class Centre:
    """Where the gateway is and how it is recognised: by the certificates' roots, or by the join string's hash."""

    def __init__(self, identity: Identity | None, join: Join | None) -> None:
        known = identity.certificates if identity is not None else None
        self._join = join
        self._roots = known.roots if known is not None else None
        self.endpoint = known.gateway if known is not None else join.gateway if join is not None else None
        self.fleet = known.fleet if known is not None else join.fleet if join is not None else ""

    def proven(self) -> str | None:
        """Call the gateway and recognise it; its clock. Raises CallError."""
        assert self.endpoint is not None
        roots = self._roots
        if roots is None:
            assert self._join is not None
            roots = fetch_roots(self._join)
        return self._date(trusted(roots))

    def unproven(self) -> str | None:
        """The clock of whoever answers there: enough to explain why it cannot be recognised. Raises CallError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # nothing secret is sent, nothing that is answered is trusted
        return self._date(context)

    def _date(self, context: ssl.SSLContext) -> str | None:
        assert self.endpoint is not None
        with Gateway(self.endpoint, self.fleet, context) as gateway:
            gateway.roots()
            return gateway.date


def check_gateway(centre: Centre, now: datetime) -> Iterator[Check]:
    """Is its name known, does it answer, is it ours, and does its clock agree with this machine's?"""
    if centre.endpoint is None:
        yield warning("gateway", "It is not known: this machine has not enrolled.", "Run `archipelago-agent enrol`.")
        return
    name = _check_name(centre.endpoint)
    yield name
    if name.level == "problem":
        return
    try:
        date = centre.proven()
    except CallError as error:
        yield from _unproven(centre, error, now)
        return
    yield ok("gateway", f"{centre.endpoint} answers, and is the centre's.")
    yield check_clock(date, now, "the gateway's")


def _unproven(centre: Centre, error: CallError, now: datetime) -> Iterator[Check]:
    if error.code == "root":
        remedy = "Somebody may be in between: check the network on the way before anything else."
        yield problem("gateway", f"{centre.endpoint} is not the centre's: {error}.", remedy)
    elif error.code == "certificate":
        remedy = "Set the clock if `clock` says so; otherwise somebody may be in between."
        yield problem("gateway", f"{centre.endpoint} cannot be recognised: {error}.", remedy)
        try:
            yield check_clock(centre.unproven(), now, "the (unproven) gateway's")
        except CallError:
            return
    else:
        remedy = "Check the network, firewalls on the way, and whether the gateway runs."
        yield problem("gateway", f"{centre.endpoint}: {str(error).rstrip('.')}.", remedy)


def _check_name(endpoint: str) -> Check:
    try:
        host, port = split_endpoint(endpoint)
    except CallError as error:
        return problem("name", f"The gateway's address is none: {error}.", "Enrol again with a new join string.")
    try:
        ip_address(host)
    except ValueError:
        pass
    else:
        return ok("name", f"The gateway is known by its address, {host}.")
    try:
        found = sorted({str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})
    except (OSError, UnicodeError) as error:
        return problem("name", f"{host} is not found: {error}.", "Check the name server: `getent hosts` with the name.")
    return ok("name", f"{host} is {', '.join(found[:4])}.")


def check_clock(date: str | None, now: datetime, whose: str) -> Check:
    """This machine's clock against an HTTP date, which counts whole seconds."""
    name = "clock"
    try:
        at = parsedate_to_datetime(date or "")
        ahead_s = (now - at.astimezone(UTC)).total_seconds()
    except (ValueError, OverflowError):
        return warning(name, "The gateway did not tell its time.", "Compare the clock by hand: `timedatectl`.")
    if abs(ahead_s) < CLOCK_WARNING_S:
        return ok(name, f"It agrees with {whose}.")
    said = f"This machine's clock is {amount(abs(ahead_s))} {'ahead of' if ahead_s > 0 else 'behind'} {whose}."
    return (problem if abs(ahead_s) >= CLOCK_PROBLEM_S else warning)(name, said, _SET_CLOCK)


def amount(seconds: float) -> str:
    """Such as `2 years`, `3 hours`, in whole units."""
    for unit, unit_s in (("year", 31_557_600), ("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= unit_s * 0.95:
            count = max(1, round(seconds / unit_s))
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{seconds:.0f} seconds"


def check_door(endpoint: tuple[str, int], identity: Identity | None) -> Check:
    """Does the agent show its certificate where the centre would dial it? By a real handshake from this machine."""
    name = "door"
    host, port = endpoint
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # compared, not bound
    shown = urlsplit(f"//{f'[{host}]' if ':' in host else host}:{port}").netloc
    try:
        with socket.create_connection((address, port), TIMEOUT_S) as raw:
            if identity is None or identity.certificates is None:
                return warning(
                    name, f"Somebody listens at {shown}; without a certificate no more can be said.", "Enrol."
                )
            site = identity.name()
            with trusted(identity.certificates.roots).wrap_socket(raw, server_hostname=site):
                return ok(name, f"The agent shows its certificate at {shown}.")
    except ssl.SSLCertVerificationError as error:
        remedy = "If the certificate or the clock is wrong, see above; otherwise restart the agent."
        return problem(name, f"What {shown} shows is not this site's certificate: {error.verify_message}.", remedy)
    except TimeoutError:
        return problem(name, f"{shown} does not answer in time.", "Restart the agent.")
    except (ssl.SSLError, CallError) as error:
        return problem(name, f"No handshake at {shown}: {error}.", "See whether another program listens there.")
    except OSError as error:
        remedy = "Start the agent, or correct `listen` in the configuration."
        return problem(name, f"Nobody listens at {shown}: {(error.strerror or str(error)).lower()}.", remedy)
