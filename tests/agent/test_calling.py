"""A site calls the gateway: what it trusts, and what it says of what goes wrong."""

import ssl
from collections.abc import Iterator
from hashlib import sha256
from uuid import UUID

import pytest

from agent.calling import CallError, Gateway, fetch_roots, split_endpoint, trusted
from agent.identity import Identity, Keys
from agent.protocol.identity import EnrolRequest, RenewRequest
from tests.agent.factories import SITE
from tests.agent.gateway import FakeGateway, refusal
from tests.agent.wire import free_port
from tests.pki import FLEET, Fleet


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
def gateway(fleet: Fleet) -> Iterator[FakeGateway]:
    gateway = FakeGateway(fleet)
    yield gateway
    gateway.close()


@pytest.fixture
def caller(gateway: FakeGateway) -> Iterator[Gateway]:
    with Gateway(gateway.endpoint, FLEET, trusted(gateway.roots)) as caller:
        yield caller


class TestEndpoints:
    def test_host_and_port(self) -> None:
        assert [split_endpoint(e) for e in ("gate.example:9443", "192.0.2.1:1", "[2001:db8::1]:65535")] == [
            ("gate.example", 9443),
            ("192.0.2.1", 1),
            ("2001:db8::1", 65_535),
        ]

    @pytest.mark.parametrize("endpoint", ["", "gate", ":9443", "gate:", "gate:http", "gate:0", "gate:65536", "gate:-1"])
    def test_what_is_none(self, endpoint: str) -> None:
        with pytest.raises(CallError, match="is not HOST:PORT"):
            split_endpoint(endpoint)


class TestTheFirstCall:
    """A site that joins knows its centre by one hash alone."""

    def test_the_root_of_the_join_string(self, fleet: Fleet, gateway: FakeGateway) -> None:
        assert fetch_roots(gateway.join(SITE)) == (fleet.root.pem,)

    def test_another_root_is_somebody_in_between(self, gateway: FakeGateway) -> None:
        gateway.roots = (Fleet().root.pem,)
        with pytest.raises(CallError, match="somebody is in between") as refused:
            fetch_roots(gateway.join(SITE))
        assert refused.value.code == "root"

    @pytest.mark.parametrize("way", ["beside", "behind in one text"])
    def test_a_root_that_is_smuggled_in_with_the_true_one_is_not_trusted(self, way: str) -> None:
        """In between sits somebody who may read what the gateway gives to everybody: the true root."""
        for _ in range(4):  # texts that end with padding and such that do not
            true, own = Fleet(), Fleet()
            between = FakeGateway(own)
            pair = (true.root.pem, own.root.pem)
            between.roots = pair if way == "beside" else ("".join(pair),)
            join = FakeGateway.join(between, SITE, root_sha256=root_hash(true))
            with pytest.raises(CallError) as refused:
                Gateway(between.endpoint, FLEET, trusted(fetch_roots(join))).enrol(
                    Identity(SITE, Keys.make()), join.secret, host="h"
                )
            assert refused.value.code in {"certificate", "root"}
            assert between.asked == []  # the secret was not told
            between.close()

    @pytest.mark.parametrize("root", ["x", "-----BEGIN CERTIFICATE-----\n%\n-----END CERTIFICATE-----\n", "\u00e9"])
    def test_what_is_no_root(self, gateway: FakeGateway, root: str) -> None:
        gateway.roots = (root,)
        with pytest.raises(CallError):
            fetch_roots(gateway.join(SITE))

    def test_roots_that_cannot_be_read(self) -> None:
        with pytest.raises(CallError, match=r"the centre's root cannot be read"):
            trusted(("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",))


def root_hash(fleet: Fleet) -> bytes:

    return sha256(ssl.PEM_cert_to_DER_cert(fleet.root.pem)).digest()


class TestCalls:
    def test_enrol_and_renew_over_one_connection(self, fleet: Fleet, gateway: FakeGateway, caller: Gateway) -> None:
        identity = Identity(SITE, Keys.make())
        answer = caller.enrol(identity, b"s" * 32, host="host-1")
        assert answer.certificates is not None
        identity = identity.with_certificates(answer.certificates)
        assert identity.with_certificates(caller.renew(identity)).site == SITE
        assert [type(message) for message in gateway.asked] == [EnrolRequest, RenewRequest]
        assert gateway.asked[1].nonce == b"n" * 48  # type: ignore[union-attr]
        assert gateway.connections == 1

    def test_a_connection_that_was_closed_meanwhile_is_opened_again(
        self, gateway: FakeGateway, caller: Gateway
    ) -> None:
        gateway.keep = False
        assert [caller.roots() for _ in range(3)] == [gateway.roots] * 3
        assert gateway.connections == 3

    def test_a_refusal_is_told_by_code_and_sentence(self, gateway: FakeGateway, caller: Gateway) -> None:
        gateway.enrol = lambda request: refusal("expired")
        with pytest.raises(CallError, match=r"^because of expired$") as refused:
            caller.enrol(Identity(SITE, Keys.make()), b"s" * 32, host="")
        assert refused.value.code == "expired"

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            (200, b""),
            (200, b"{}"),
            (200, b"[" * 5_000),
            (200, b"x" * 70_000),
            (500, b"oops"),
            (302, b"{}"),
            (403, b"{}"),
        ],
    )
    def test_an_answer_that_is_none(self, gateway: FakeGateway, caller: Gateway, status: int, body: bytes) -> None:
        gateway.enrol = lambda request: (status, body)
        with pytest.raises(CallError, match=rf"the gateway's answer \(status {status}\) cannot be read") as refused:
            caller.enrol(Identity(SITE, Keys.make()), b"s" * 32, host="")
        assert refused.value.code == ""
        assert caller.roots() == gateway.roots

    def test_nobody_there(self) -> None:
        with pytest.raises(CallError, match=r"the gateway cannot be reached: .*refused") as refused:
            Gateway(f"127.0.0.1:{free_port()}", FLEET, ssl.create_default_context()).roots()
        assert refused.value.code == ""


class TestWhoAnswers:
    @pytest.mark.parametrize(
        ("who", "why"),
        [
            ("another fleet", "certificate signature failure|unable to get local issuer certificate"),
            ("a site", "unable|mismatch"),
            ("the dashboard", "purpose"),
        ],
    )
    def test_only_the_gateway_of_the_fleet(self, fleet: Fleet, who: str, why: str) -> None:
        shown = {
            "another fleet": lambda: Fleet().service("gateway"),
            "a site": lambda: fleet.site(UUID(int=1)),
            "the dashboard": lambda: fleet.service("dashboard"),
        }[who]()
        other = FakeGateway(fleet, shown)
        with pytest.raises(CallError, match=r"^the gateway's certificate is refused: ") as refused:
            Gateway(other.endpoint, FLEET, trusted((fleet.root.pem,))).enrol(
                Identity(SITE, Keys.make()), b"s" * 32, host=""
            )
        other.close()
        assert refused.value.code == "certificate"
        assert other.asked == []
        assert any(part in str(refused.value) for part in why.split("|")), str(refused.value)
