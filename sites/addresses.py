"""Where a poller may dial: an address is resolved once, vetted, and the vetted one is dialled."""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sites.states import Failure
from sites.validators import split_address
from sites.wire import WireError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Forms of IPv6 that carry an IPv4 address to wherever a translator or tunnel takes it (RFC 6052, 8215, 3056, 4380),
# and the metadata addresses of clouds. `is_global` lets some of them through.
_REFUSED: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2002::/16",
        "2001::/32",
        "::/96",
        "::ffff:0:0/96",
        "::ffff:0:0:0/96",
        "fec0::/10",
        "fd00:ec2::/32",
        "100.100.100.200/32",
        "168.63.129.16/32",
        "0.0.0.0/8",
        "255.255.255.255/32",
    )
)


@dataclass(frozen=True, slots=True)
class Vetting:
    """What may be dialled beside public addresses: `exceptions` whatever they are, `own` never."""

    exceptions: tuple[Network, ...] = ()
    own: frozenset[Address] = frozenset()

    def problem(self, address: Address, allowed: Sequence[Network]) -> str | None:
        """Why the address may not be dialled, or None. `allowed` are the provider's networks; empty: any public."""
        if any(address in network for network in self.exceptions if network.version == address.version):
            return None
        if address in self.own:
            return "it is an address of our own services"
        if any(address in network for network in _REFUSED if network.version == address.version):
            return "it is a reserved or translated address"
        for kind, bad in (
            ("loopback", address.is_loopback),
            ("link-local", address.is_link_local),
            ("multicast", address.is_multicast),
            ("unspecified", address.is_unspecified),
        ):
            if bad:
                return f"it is {kind}"
        if allowed:
            inside = any(address in network for network in allowed if network.version == address.version)
            return None if inside else "it is outside its provider's networks"
        return None if address.is_global else "it is private, and its provider has no network that holds it"


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks in CIDR form. Raises ValueError."""
    return tuple(ipaddress.ip_network(text) for text in texts)


def _literal(host: str) -> Address | None:
    """The address that `host` spells canonically, if it is one."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


async def resolve(
    loop: asyncio.AbstractEventLoop, address: str, vetting: Vetting, allowed: Sequence[Network]
) -> tuple[str, int]:
    """Vetted IP and port of `host:port`. Raises WireError; every address that a name resolves to must pass."""
    try:
        host, port = split_address(address)
    except ValueError as error:
        raise WireError(Failure.ADDRESS_REFUSED, str(error)) from None
    literal = _literal(host)
    found = [literal] if literal else await _look_up(loop, host, port)
    for candidate in found:
        problem = vetting.problem(candidate, allowed)
        if problem:
            raise WireError(Failure.ADDRESS_REFUSED, f"{candidate} may not be dialled: {problem}")
    return str(found[0]), port


async def _look_up(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[Address]:
    try:
        async with asyncio.timeout(3):
            rows = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise WireError(Failure.UNREACHABLE, "its name was not resolved within 3 s") from None
    except OSError as error:
        raise WireError(Failure.UNREACHABLE, f"its name does not resolve: {error.strerror or error}") from None
    # A scope id ("fe80::1%eth0") is dropped; such addresses are refused anyway.
    return [ipaddress.ip_address(str(row[4][0]).partition("%")[0]) for row in rows]
