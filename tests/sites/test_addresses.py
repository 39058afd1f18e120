"""Where pollers may dial (matrix row 15): never a packet to what is refused."""

import asyncio
import ipaddress
import socket

import pytest

from sites.addresses import Vetting, networks, resolve
from sites.states import Failure
from sites.wire import WireError

DEMO = Vetting(exceptions=networks(["127.64.0.0/10"]))
OWN = Vetting(own=frozenset({ipaddress.ip_address("93.184.216.34")}))


def dialled(address: str, vetting: Vetting = DEMO, allowed: tuple[str, ...] = ()) -> tuple[str, int]:
    return asyncio.run(_resolve(address, vetting, allowed))


async def _resolve(address: str, vetting: Vetting, allowed: tuple[str, ...]) -> tuple[str, int]:
    return await resolve(asyncio.get_running_loop(), address, vetting, networks(allowed))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "2130706433",
        "017700000001",
        "localhost",
        "0.0.0.0",
        "0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::]",
        "169.254.169.254",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "100.100.100.200",
        "168.63.129.16",
        "224.0.0.1",
        "[ff02::1]",
        "255.255.255.255",
        "10.0.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "[fd12:3456::1]",
    ],
)
def test_refused_addresses(host: str) -> None:
    with pytest.raises(WireError) as caught:
        dialled(f"{host}:9100")
    assert caught.value.failure in {Failure.ADDRESS_REFUSED, Failure.UNREACHABLE}
    assert caught.value.failure is Failure.ADDRESS_REFUSED or "resolve" in caught.value.detail


def test_public_addresses_pass() -> None:
    assert dialled("93.184.216.34:9100") == ("93.184.216.34", 9100)
    assert dialled("[2606:2800:220:1::1]:9100") == ("2606:2800:220:1::1", 9100)


def test_simulated_sites_block_is_the_only_exception() -> None:
    assert dialled("127.64.0.10:9101") == ("127.64.0.10", 9101)
    with pytest.raises(WireError):
        dialled("127.63.255.255:9101")
    with pytest.raises(WireError):
        dialled("127.64.0.10:9101", Vetting())


def test_own_services_are_refused_even_inside_a_providers_networks() -> None:
    with pytest.raises(WireError, match="our own"):
        dialled("93.184.216.34:9100", OWN, ("93.184.216.0/24",))


def test_providers_networks_bound_their_sites() -> None:
    assert dialled("10.1.2.3:9100", DEMO, ("10.1.0.0/16",)) == ("10.1.2.3", 9100)
    with pytest.raises(WireError, match="outside its provider's networks"):
        dialled("93.184.216.34:9100", DEMO, ("10.1.0.0/16",))


def test_providers_networks_never_open_loopback_or_metadata() -> None:
    for host in ("127.0.0.1", "169.254.169.254"):
        with pytest.raises(WireError, match="may not be dialled"):
            dialled(f"{host}:9100", DEMO, ("0.0.0.0/0",))


def test_name_is_resolved_once_and_every_answer_vetted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with one public and one loopback answer (rebinding) is refused whole; the vetted address is dialled."""
    asked = []

    async def answer(*args: object, **kwargs: object) -> list[tuple[object, ...]]:
        asked.append(args[1])
        hosts = ["93.184.216.34", "127.0.0.1"] if args[1] == "two.example.net" else ["93.184.216.34"]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 9100)) for host in hosts]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", answer)
    with pytest.raises(WireError, match=r"127\.0\.0\.1"):
        dialled("two.example.net:9100")
    assert dialled("one.example.net:9100") == ("93.184.216.34", 9100)
    assert asked == ["two.example.net", "one.example.net"]


@pytest.mark.parametrize("address", ["host", "host:", "host:0", "host:65536", "host:١", "::1:80", "a b:80", ":80", ""])
def test_malformed_addresses(address: str) -> None:
    with pytest.raises(WireError) as caught:
        dialled(address)
    assert caught.value.failure is Failure.ADDRESS_REFUSED
