"""Certificates that must not be accepted (matrix row 16): real handshakes, the real server of agents, the real wire."""

import asyncio
import ssl
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import uvloop
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from agent import server as server_module
from agent.backends.host import HostBackend
from agent.identity import Identity, Keys, SiteTls
from agent.listening import bind_address
from agent.protocol.identity import site_name
from agent.server import AgentServer
from fleet.signer.authority import Issuer
from sites import wire as wire_module
from sites.addresses import Vetting, networks
from sites.agent_client import PollResult, PollTarget, poll
from sites.health import first
from sites.states import Failure
from sites.wire import Peer, Wire
from tests.pki import FLEET, Fleet, now, odd_leaf

HOST = "127.64.9.10"
OTHER_HOST = "127.64.9.11"
SITE, OTHER = UUID(int=1), UUID(int=2)
NAME = site_name(FLEET, 1, SITE)
DEMO = Vetting(exceptions=networks(["127.64.0.0/10"]))
Outcome = tuple[Failure | None, str]


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture(scope="module")
def site(fleet: Fleet) -> Identity:
    return fleet.site(SITE)


def target(peer: Peer) -> PollTarget:
    at = now()
    return PollTarget(1, SITE, 1, peer, (), at, 0, first(at))


def outcome(result: PollResult) -> Outcome:
    return result.failure, result.detail


class Shown:
    """An agent at HOST in this loop, showing `chain` for the keys of `identity`; whatever it is, it serves TLS."""

    def __init__(self, fleet: Fleet, identity: Identity, chain: tuple[str, ...] | None = None) -> None:
        self.context = fleet.server(
            identity if chain is None else replace(identity, certificates=fleet.certificates(chain))
        )
        self.asked = 0

    async def __aenter__(self) -> int:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if await reader.read(1):
                self.asked += 1
            writer.close()

        self._server = await asyncio.start_server(serve, HOST, 0, ssl=self.context)
        return int(self._server.sockets[0].getsockname()[1])

    async def __aexit__(self, *_: object) -> None:
        self._server.close()


def run(work: Awaitable[Any]) -> Any:
    """As pollers and agents run: on uvloop."""

    async def main() -> Any:
        return await work

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


def meet(fleet: Fleet, identity: Identity, chain: tuple[str, ...] | None = None, *, pin: str | None = None) -> Outcome:
    """What a poll of SITE comes to, where whoever is dialled shows this; not one byte of ours may reach it."""

    async def work() -> Outcome:
        shown = Shown(fleet, identity, chain)
        async with shown as port:
            wire = Wire(asyncio.get_running_loop(), tls=fleet.dashboard)
            peer = fleet.peer(replace(identity, site=SITE), f"{HOST}:{port}")
            result = await poll(wire, target(replace(peer, pin=peer.pin if pin is None else pin)), DEMO)
            wire.close()
            await asyncio.sleep(0.05)
            assert len(wire) == 0
        assert shown.asked == 0
        return outcome(result)

    return run(work())


class TestAPollerMeetsAnAgent:
    def test_expired(self, fleet: Fleet, site: Identity) -> None:
        old = odd_leaf(fleet.issuer(), site.keys, NAME, begin=timedelta(days=-8), end=timedelta(days=-1))
        assert meet(fleet, site, old) == (Failure.CERTIFICATE, "certificate has expired")

    def test_not_yet_valid(self, fleet: Fleet, site: Identity) -> None:
        early = odd_leaf(fleet.issuer(), site.keys, NAME, begin=timedelta(hours=1), end=timedelta(days=1))
        assert meet(fleet, site, early) == (Failure.CERTIFICATE, "certificate is not yet valid")

    def test_wrong_usage(self, fleet: Fleet, site: Identity) -> None:
        caller = odd_leaf(fleet.issuer(), site.keys, NAME, usage=(ExtendedKeyUsageOID.CLIENT_AUTH,))
        assert meet(fleet, site, caller) == (Failure.CERTIFICATE, "unsuitable certificate purpose")

    def test_self_signed(self, fleet: Fleet, site: Identity) -> None:
        assert meet(fleet, site, odd_leaf(None, site.keys, NAME)) == (Failure.CERTIFICATE, "self-signed certificate")

    def test_unknown_ca(self, fleet: Fleet, site: Identity) -> None:
        foreign = odd_leaf(Fleet().issuer(), site.keys, NAME)
        assert meet(fleet, site, foreign) == (Failure.CERTIFICATE, "unable to get local issuer certificate")

    def test_unknown_root_sent_along(self, fleet: Fleet, site: Identity) -> None:
        other = Fleet()
        foreign = (*odd_leaf(other.issuer(), site.keys, NAME), other.root.pem)
        assert meet(fleet, site, foreign) == (Failure.CERTIFICATE, "self-signed certificate in certificate chain")

    def test_provider_as_ca_with_bs_name(self, fleet: Fleet, site: Identity) -> None:
        stolen = odd_leaf(fleet.issuer(2), site.keys, NAME)
        assert meet(fleet, site, stolen) == (Failure.CERTIFICATE, "permitted subtree violation")

    def test_a_site_that_signs_certificates_itself(self, fleet: Fleet, site: Identity) -> None:
        assert site.certificates is not None
        own, issuer = site.certificates.chain
        keys = Keys.make()
        chain = odd_leaf(Issuer(site.keys.tls(), x509.load_pem_x509_certificate(own.encode())), keys, NAME)
        got = meet(fleet, Identity(SITE, keys), (*chain, issuer))
        assert got == (Failure.CERTIFICATE, "invalid CA certificate")

    def test_site_2s_certificate_at_site_1s_address(self, fleet: Fleet) -> None:
        assert meet(fleet, fleet.site(OTHER)) == (Failure.IDENTITY_MISMATCH, "the certificate is another site's")

    def test_the_gateways_own_certificate(self, fleet: Fleet) -> None:
        got = meet(fleet, fleet.service("gateway"))
        assert got == (Failure.IDENTITY_MISMATCH, "the certificate is another site's")

    def test_the_name_at_another_provider(self, fleet: Fleet) -> None:
        moved = fleet.site(SITE, provider_id=2)
        assert meet(fleet, moved) == (Failure.IDENTITY_MISMATCH, "the certificate is another site's")

    def test_a_key_that_is_no_longer_accepted(self, fleet: Fleet, site: Identity) -> None:
        assert meet(fleet, fleet.site(SITE), pin=fleet.peer(site, "").pin) == (
            Failure.IDENTITY_MISMATCH,
            "it shows a key that is not, or no longer, the site's accepted one",
        )

    def test_revoked(self, fleet: Fleet, site: Identity) -> None:
        """Revoking clears name and pin: nothing is dialled at all."""

        async def work() -> Outcome:
            shown = Shown(fleet, site)
            async with shown as port:
                wire = Wire(asyncio.get_running_loop(), tls=fleet.dashboard)
                result = await poll(wire, target(Peer(f"{HOST}:{port}", "", "")), DEMO)
                assert (wire.opened, shown.asked) == (0, 0)
                wire.close()
            return outcome(result)

        assert run(work()) == (Failure.NOT_ENROLLED, "it has no accepted keys; let it join")

    def test_a_pin_alone_without_a_name_is_no_peer_and_a_name_without_a_pin_fits_no_key(
        self, fleet: Fleet, site: Identity
    ) -> None:
        assert meet(fleet, site, pin="")[0] is Failure.IDENTITY_MISMATCH

    def test_plaintext(self, fleet: Fleet, site: Identity) -> None:
        async def work() -> Outcome:
            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
                writer.close()

            server = await asyncio.start_server(serve, HOST, 0)
            wire = Wire(asyncio.get_running_loop(), tls=fleet.dashboard)
            peer = fleet.peer(site, f"{HOST}:{server.sockets[0].getsockname()[1]}")
            result = await poll(wire, target(peer), DEMO)
            wire.close()
            server.close()
            return outcome(result)

        assert run(work()) == (Failure.CERTIFICATE, "no TLS with it: WRONG_VERSION_NUMBER")

    def test_tls_1_2(self, fleet: Fleet, site: Identity) -> None:
        shown = Shown(fleet, site)
        shown.context.minimum_version = shown.context.maximum_version = ssl.TLSVersion.TLSv1_2

        async def work() -> Outcome:
            async with shown as port:
                wire = Wire(asyncio.get_running_loop(), tls=fleet.dashboard)
                result = await poll(wire, target(fleet.peer(site, f"{HOST}:{port}")), DEMO)
                wire.close()
                return outcome(result)

        assert run(work()) == (Failure.UNREACHABLE, "connection closed during the handshake")

    @pytest.mark.parametrize("hello", [b"", b"\x16\x03\x03\x00\x7a\x02"])
    def test_a_handshake_that_never_ends(
        self, fleet: Fleet, site: Identity, hello: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(wire_module, "CONNECT_TIMEOUT_S", 0.3)

        async def work() -> Outcome:
            ended = asyncio.Event()

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.write(hello)
                while await reader.read(4_096):
                    pass
                ended.set()
                writer.close()

            server = await asyncio.start_server(serve, HOST, 0)
            wire = Wire(asyncio.get_running_loop(), tls=fleet.dashboard)
            result = await poll(wire, target(fleet.peer(site, f"{HOST}:{server.sockets[0].getsockname()[1]}")), DEMO)
            async with asyncio.timeout(2):
                await ended.wait()
            wire.close()
            server.close()
            return outcome(result)

        assert run(work()) == (Failure.TIMEOUT, "no handshake within 0.3 s")


class Agents:
    """The real server, playing SITE at HOST and OTHER at OTHER_HOST; polled over one wire."""

    def __init__(self, tls: Mapping[str, SiteTls], caller: ssl.SSLContext) -> None:
        backends = {HOST: HostBackend(SITE), OTHER_HOST: HostBackend(OTHER)}
        self.server = AgentServer(backends, max_connections=8, tls=tls)
        self.caller = caller

    async def __aenter__(self) -> "Agents":
        first_socket = bind_address(HOST, 0)
        self.port = first_socket.getsockname()[1]
        await self.server.listen([first_socket, bind_address(OTHER_HOST, self.port)])
        self.wire = Wire(asyncio.get_running_loop(), tls=self.caller)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.wire.close()
        await self.server.close()

    async def poll(self, peer: Peer, host: str = HOST, uuid: UUID = SITE) -> Outcome:
        at = now()
        wanted = PollTarget(1, uuid, 1, replace(peer, address=f"{host}:{self.port}"), (), at, 0, first(at))
        return outcome(await poll(self.wire, wanted, DEMO))


REFUSED = (Failure.UNREACHABLE, "connection closed before an answer, as by a site that refuses our certificate")


class TestAnAgentMeetsACaller:
    def call(self, fleet: Fleet, site: Identity, caller: Identity | None) -> Outcome:
        """What a poll by this caller comes to; one that is refused leaves nothing behind, and no report was made."""

        async def work() -> Outcome:
            async with Agents({HOST: SiteTls(site)}, fleet.caller(caller)) as agents:
                got = await agents.poll(fleet.peer(site, ""))
                await asyncio.sleep(0.05)
                assert agents.server.reports == len(agents.server.connections) == int(got[0] is None)
                return got

        return run(work())

    def test_the_dashboard(self, fleet: Fleet, site: Identity) -> None:
        assert self.call(fleet, site, fleet.service("dashboard")) == (None, "")

    def test_no_certificate(self, fleet: Fleet, site: Identity) -> None:
        assert self.call(fleet, site, None) == REFUSED

    @pytest.mark.parametrize("who", ["another site", "the site itself"])
    def test_a_sites_certificate(
        self, fleet: Fleet, site: Identity, who: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caller = site if who == "the site itself" else fleet.site(OTHER)
        assert self.call(fleet, site, caller) == REFUSED
        (name,) = SiteTls(caller).names
        assert f"refused {name}, who is not the dashboard" in caplog.text

    def test_the_gateways_certificate(self, fleet: Fleet, site: Identity) -> None:
        assert self.call(fleet, site, fleet.service("gateway")) == REFUSED

    def test_a_foreign_fleets_dashboard(self, fleet: Fleet, site: Identity) -> None:
        assert self.call(fleet, site, Fleet().service("dashboard")) == REFUSED

    def odd(self, fleet: Fleet, issuer: Issuer | None, **span: Any) -> Identity:
        keys = Keys.make()
        return Identity(SITE, keys, fleet.certificates(odd_leaf(issuer, keys, f"dashboard.{FLEET}", **span)))

    def test_an_expired_one(self, fleet: Fleet, site: Identity) -> None:
        span = {"begin": timedelta(days=-2), "end": timedelta(days=-1)}
        assert self.call(fleet, site, self.odd(fleet, fleet.services, **span)) == REFUSED

    def test_one_that_is_not_yet_valid(self, fleet: Fleet, site: Identity) -> None:
        span = {"begin": timedelta(hours=1), "end": timedelta(days=1)}
        assert self.call(fleet, site, self.odd(fleet, fleet.services, **span)) == REFUSED

    def test_one_for_servers(self, fleet: Fleet, site: Identity) -> None:
        server = self.odd(fleet, fleet.services, usage=(ExtendedKeyUsageOID.SERVER_AUTH,))
        assert self.call(fleet, site, server) == REFUSED

    def test_a_self_signed_one(self, fleet: Fleet, site: Identity) -> None:
        assert self.call(fleet, site, self.odd(fleet, None)) == REFUSED

    def test_a_providers_ca_that_names_the_dashboard(self, fleet: Fleet, site: Identity) -> None:
        assert self.call(fleet, site, self.odd(fleet, fleet.issuer())) == REFUSED

    def test_the_same_by_the_right_issuer_is_admitted(self, fleet: Fleet, site: Identity) -> None:
        """That the refusals above are not the work of the certificates' maker."""
        assert self.call(fleet, site, self.odd(fleet, fleet.services)) == (None, "")

    def test_the_dashboard_that_dials_another_sites_address_or_a_name_of_nobody(
        self, fleet: Fleet, site: Identity, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def work() -> list[Outcome]:
            tls = {HOST: SiteTls(site), OTHER_HOST: SiteTls(fleet.site(OTHER))}
            async with Agents(tls, fleet.dashboard) as agents:
                peer = fleet.peer(site, "")
                elsewhere = await agents.poll(peer, host=OTHER_HOST)
                nobody = await agents.poll(fleet.peer(replace(site, site=UUID(int=5)), ""))
                assert agents.server.reports == 0
                return [elsewhere, nobody, await agents.poll(peer)]

        closed = (Failure.UNREACHABLE, "connection closed during the handshake")
        assert run(work()) == [REFUSED, closed, (None, "")]
        assert f"or dialled another site than that of {OTHER_HOST}" in caplog.text

    def test_a_site_that_is_certified_later_answers_from_then_on(self, fleet: Fleet, site: Identity) -> None:
        async def work() -> list[Failure | None]:
            tls: dict[str, SiteTls] = {}
            async with Agents(tls, fleet.dashboard) as agents:
                before = await agents.poll(fleet.peer(site, ""))
                tls[HOST] = SiteTls(site)
                return [before[0], (await agents.poll(fleet.peer(site, "")))[0]]

        assert run(work()) == [Failure.UNREACHABLE, None]

    def test_a_handshake_that_never_ends(self, fleet: Fleet, site: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server_module, "HANDSHAKE_S", 0.3)

        async def work() -> bytes:
            async with Agents({HOST: SiteTls(site)}, fleet.dashboard) as agents:
                reader, writer = await asyncio.open_connection(HOST, agents.port)
                writer.write(b"\x16\x03\x01\x02\x00\x01")
                async with asyncio.timeout(2):
                    got = await reader.read()
                writer.close()
                return got

        assert run(work()) == b""


class TestKeptConnections:
    """A kept connection ends when it leads to another peer than the site's row says now."""

    def test_the_same_peer_is_dialled_once(self, fleet: Fleet, site: Identity) -> None:
        async def work() -> int:
            async with Agents({HOST: SiteTls(site)}, fleet.dashboard) as agents:
                for _ in range(3):
                    assert await agents.poll(fleet.peer(site, "")) == (None, "")
                return agents.wire.opened

        assert run(work()) == 1

    @pytest.mark.parametrize("change", ["pin", "name"])
    def test_another_pin_or_name_ends_it(self, fleet: Fleet, site: Identity, change: str) -> None:
        async def work() -> Outcome:
            async with Agents({HOST: SiteTls(site)}, fleet.dashboard) as agents:
                peer = fleet.peer(site, "")
                assert await agents.poll(peer) == (None, "")
                got = await agents.poll(replace(peer, **{change: "0" * 64 if change == "pin" else "s-x.test.example"}))
                await asyncio.sleep(0.05)
                assert (len(agents.wire), len(agents.server.connections), agents.server.reports) == (0, 0, 1)
                assert await agents.poll(peer) == (None, "")
                return got

        assert run(work())[0] is (Failure.IDENTITY_MISMATCH if change == "pin" else Failure.UNREACHABLE)

    def test_a_revoked_site_is_not_asked_over_it(self, fleet: Fleet, site: Identity) -> None:
        async def work() -> Outcome:
            async with Agents({HOST: SiteTls(site)}, fleet.dashboard) as agents:
                assert await agents.poll(fleet.peer(site, "")) == (None, "")
                got = await agents.poll(Peer("", "", ""))
                assert agents.server.reports == 1
                await asyncio.sleep(0.05)
                assert (len(agents.wire), len(agents.server.connections)) == (0, 0)
                return got

        assert run(work())[0] is Failure.NOT_ENROLLED

    def test_a_renewal_of_the_same_key_leaves_it(self, fleet: Fleet, site: Identity) -> None:
        async def work() -> int:
            door = SiteTls(site)
            async with Agents({HOST: door}, fleet.dashboard) as agents:
                assert await agents.poll(fleet.peer(site, "")) == (None, "")
                door.update(fleet.site(SITE, keys=site.keys))
                assert await agents.poll(fleet.peer(site, "")) == (None, "")
                return agents.wire.opened

        assert run(work()) == 1

    def test_it_is_dialled_anew_after_a_day(
        self, fleet: Fleet, site: Identity, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def work() -> int:
            async with Agents({HOST: SiteTls(site)}, fleet.dashboard) as agents:
                assert await agents.poll(fleet.peer(site, "")) == (None, "")
                monkeypatch.setattr(wire_module, "MAX_AGE_S", -1.0)
                assert await agents.poll(fleet.peer(site, "")) == (None, "")
                return agents.wire.opened

        assert run(work()) == 2
