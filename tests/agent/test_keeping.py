"""The thread that keeps identities valid, against a gateway that answers as it likes."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent import keeping
from agent.identity import Identity, IdentityError, IdentityFile, Keys
from agent.keeping import Keeper, open_identities
from agent.protocol.identity import EnrolRequest, Join, RenewRequest, renew_message
from tests.agent.gateway import Answer, FakeGateway, refusal
from tests.agent.wire import free_port, until
from tests.pki import Fleet, now

ONE, TWO = UUID(int=1), UUID(int=2)
OLD = timedelta(days=5)  # of seven: past half-life


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
def gateway(fleet: Fleet) -> Iterator[FakeGateway]:
    gateway = FakeGateway(fleet)
    yield gateway
    gateway.close()


@pytest.fixture
def file(tmp_path: Path) -> IdentityFile:
    return IdentityFile(tmp_path / "identities")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses after refusals and failures, so that a test can wait for them."""
    monkeypatch.setattr(keeping, "RETRY_S", (0.05, 0.2))
    monkeypatch.setattr(keeping, "REFUSED_S", 0.1)


class Kept:
    """A running keeper and what it told of."""

    def __init__(self, keeper: Keeper, renewed: list[Identity]) -> None:
        self.keeper, self.renewed = keeper, renewed


@pytest.fixture
def keep(file: IdentityFile) -> Iterator[Callable[..., Kept]]:
    with ExitStack() as stack:

        def start(identities: list[Identity], joins: dict[UUID, Join]) -> Kept:
            renewed: list[Identity] = []
            keeper = Keeper(file, identities, joins, renewed.append)
            keeper.start()
            stack.callback(keeper.stop)
            return Kept(keeper, renewed)

        yield start


def fresh(file: IdentityFile, *sites: UUID) -> list[Identity]:
    return list(open_identities(file, sites).values())


class TestKeys:
    def test_they_are_on_the_disk_before_anybody_sees_them_and_the_same_next_time(self, file: IdentityFile) -> None:
        made = open_identities(file, [ONE, TWO])
        assert file.all([ONE, TWO]) == made
        assert open_identities(file, [TWO, ONE]) == made
        assert made[ONE].keys != made[TWO].keys

    def test_where_they_cannot_be_kept_they_are_not_made(self, file: IdentityFile, monkeypatch: Any) -> None:
        def full(*identities: Identity) -> None:
            raise IdentityError("no space left on device")

        monkeypatch.setattr(file, "put", full)
        with pytest.raises(IdentityError):
            open_identities(file, [ONE])


class TestJoining:
    def test_a_site_joins_and_its_certificate_is_kept(
        self, gateway: FakeGateway, file: IdentityFile, keep: Any
    ) -> None:
        kept = keep(fresh(file, ONE), {ONE: gateway.join(ONE)})
        until(lambda: kept.renewed, "the certificate")
        kept.keeper.stop()
        assert file.get(ONE) == kept.renewed[0]
        assert kept.keeper.problems == {}
        assert [type(message) for message in gateway.asked] == [EnrolRequest]

    def test_it_waits_for_a_person_and_says_so_once(
        self, gateway: FakeGateway, file: IdentityFile, keep: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "agent")
        gateway.enrol = lambda request: gateway.standing("pending", request)
        (identity,) = fresh(file, ONE)
        kept = keep([identity], {ONE: gateway.join(ONE)})
        until(lambda: len(gateway.asked) >= 3, "it to ask again")
        assert (kept.keeper.problems, kept.renewed) == ({ONE: "pending"}, [])
        assert caplog.text.count("waits to be accepted") == 1
        gateway.enrol = gateway.accept
        until(lambda: kept.renewed, "the certificate")
        assert kept.keeper.problems == {}
        assert len({message.signing_key for message in gateway.asked if isinstance(message, EnrolRequest)}) == 1

    def test_a_kill_between_answer_and_disk_costs_another_question_with_the_same_keys(
        self, gateway: FakeGateway, file: IdentityFile, keep: Any, monkeypatch: Any
    ) -> None:
        identities = fresh(file, ONE)
        monkeypatch.setattr(file, "put", lambda *_: (_ for _ in ()).throw(IdentityError("disk full")))
        kept = keep(identities, {ONE: gateway.join(ONE)})
        until(lambda: kept.renewed, "the certificate")
        kept.keeper.stop()
        assert file.get(ONE) == identities[0]
        monkeypatch.undo()
        again = keep(fresh(file, ONE), {ONE: gateway.join(ONE)})
        until(lambda: again.renewed, "the certificate")
        first, second = gateway.asked
        assert (first.tls_key, first.signing_key) == (second.tls_key, second.signing_key)  # type: ignore[union-attr]

    @pytest.mark.parametrize("code", ["expired", "withdrawn", "unknown_token", "frozen", "slow_down"])
    def test_a_refusal_is_said_once_and_asked_again_slowly(
        self, gateway: FakeGateway, file: IdentityFile, keep: Any, code: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        gateway.enrol = lambda request: refusal(code)
        kept = keep(fresh(file, ONE), {ONE: gateway.join(ONE)})
        until(lambda: len(gateway.asked) >= 3, "it to ask again")
        assert kept.keeper.problems == {ONE: f"because of {code}"}
        assert caplog.text.count(f"because of {code}") == 1
        gateway.enrol = gateway.accept
        until(lambda: kept.renewed, "the certificate")
        assert kept.keeper.problems == {}

    def test_rejected_keys(self, gateway: FakeGateway, file: IdentityFile, keep: Any) -> None:
        gateway.enrol = lambda request: gateway.standing("rejected", request)
        kept = keep(fresh(file, ONE), {ONE: gateway.join(ONE)})
        until(lambda: kept.keeper.problems, "the problem")
        assert kept.keeper.problems == {ONE: "its keys were rejected: why"}

    def test_no_join_string(self, file: IdentityFile, keep: Any) -> None:
        kept = keep(fresh(file, ONE), {})
        until(lambda: kept.keeper.problems, "the problem")
        assert kept.keeper.problems == {ONE: "it has not enrolled, and has no join string"}

    def test_one_sites_trouble_is_not_anothers(self, gateway: FakeGateway, file: IdentityFile, keep: Any) -> None:
        nowhere = gateway.join(ONE, gateway=f"127.0.0.1:{free_port()}")
        kept = keep(fresh(file, ONE, TWO), {ONE: nowhere, TWO: gateway.join(TWO)})
        until(lambda: kept.renewed, "the certificate")
        assert [identity.site for identity in kept.renewed] == [TWO]
        until(lambda: ONE in kept.keeper.problems, "the problem")
        assert kept.keeper.problems[ONE].startswith("the gateway cannot be reached")

    def test_a_certificate_for_another_key_is_not_taken(
        self, gateway: FakeGateway, file: IdentityFile, keep: Any, fleet: Fleet
    ) -> None:
        other = fleet.site(ONE).keys.public()[0]
        accept = gateway.accept

        def for_another(request: EnrolRequest) -> Any:
            return accept(msgspec.structs.replace(request, tls_key=other))

        gateway.enrol = for_another
        kept = keep(fresh(file, ONE), {ONE: gateway.join(ONE)})
        until(lambda: kept.keeper.problems, "the problem")
        assert kept.keeper.problems == {ONE: "the centre sent a certificate for another key"}
        assert kept.renewed == []

    def test_a_hundred_sites_join_over_one_connection_and_few_writes(
        self, gateway: FakeGateway, file: IdentityFile, keep: Any, monkeypatch: Any
    ) -> None:
        sites = [UUID(int=number) for number in range(1, 101)]
        identities, writes, put = fresh(file, *sites), [], file.put
        monkeypatch.setattr(file, "put", lambda *some: (writes.append(len(some)), put(*some)))
        kept = keep(identities, {site: gateway.join(site) for site in sites})
        until(lambda: len(kept.renewed) == 100, "all", 30)
        kept.keeper.stop()
        assert gateway.connections <= 3  # the roots, and everything else
        assert sum(writes) == 100
        assert len(writes) < 20
        assert all(identity.certificates for identity in file.all(sites).values())


class TestRenewal:
    def test_at_half_life_and_not_before(
        self, gateway: FakeGateway, fleet: Fleet, file: IdentityFile, keep: Any
    ) -> None:
        young, old = fleet.site(ONE), fleet.site(TWO, at=now() - OLD)
        kept = keep([young, old], {})
        until(lambda: kept.renewed, "the certificate")
        threading.Event().wait(0.3)
        assert [identity.site for identity in kept.renewed] == [TWO]
        assert [(type(message), message.site) for message in gateway.asked] == [(RenewRequest, TWO)]
        assert kept.renewed[0].renews_at() > now()

    def test_an_expired_certificate_is_renewed_too(
        self, gateway: FakeGateway, fleet: Fleet, file: IdentityFile, keep: Any
    ) -> None:
        kept = keep([fleet.site(ONE, at=now() - timedelta(days=80))], {})
        until(lambda: kept.renewed, "the certificate")
        assert kept.renewed[0].validity()[1] > now()

    @pytest.mark.parametrize("code", ["revoked", "frozen", "too_late", "proof"])
    def test_a_refused_site_goes_on_with_what_it_has(
        self, gateway: FakeGateway, fleet: Fleet, file: IdentityFile, keep: Any, code: str
    ) -> None:
        gateway.renew = lambda request: refusal(code)
        kept = keep([fleet.site(ONE, at=now() - OLD)], {})
        until(lambda: len(gateway.asked) >= 2, "it to ask again")
        assert kept.keeper.problems == {ONE: f"because of {code}"}
        assert kept.renewed == []

    @pytest.mark.parametrize("code", ["revoked", "not_enrolled", "too_late"])
    def test_with_another_join_string_it_joins_again(
        self, gateway: FakeGateway, fleet: Fleet, file: IdentityFile, keep: Any, code: str
    ) -> None:
        gateway.renew = lambda request: refusal(code)
        kept = keep([fleet.site(ONE, at=now() - OLD)], {ONE: gateway.join(ONE)})
        until(lambda: kept.renewed, "the certificate")
        assert [type(message) for message in gateway.asked] == [RenewRequest, EnrolRequest]

    def test_revoked_keys_are_replaced_and_on_the_disk_before_they_are_shown(
        self, gateway: FakeGateway, fleet: Fleet, file: IdentityFile, keep: Any
    ) -> None:
        old = Identity(ONE, Keys.make())
        file.put(old)
        on_disk = []

        def enrol(request: EnrolRequest) -> Answer:
            if request.signing_key == old.keys.public()[1]:
                return refusal("revoked_keys")
            found = file.get(ONE)
            on_disk.append(found is not None and found.keys.public()[1] == request.signing_key)
            return gateway.accept(request)

        gateway.enrol = enrol
        kept = keep([old], {ONE: gateway.join(ONE)})
        until(lambda: kept.renewed, "the certificate")
        assert on_disk == [True]
        assert kept.renewed[0].keys != old.keys

    def test_a_frozen_site_does_not_join_again(
        self, gateway: FakeGateway, fleet: Fleet, file: IdentityFile, keep: Any
    ) -> None:
        gateway.renew = lambda request: refusal("frozen")
        keep([fleet.site(ONE, at=now() - OLD)], {ONE: gateway.join(ONE)})
        until(lambda: len(gateway.asked) >= 2, "it to ask again")
        assert {type(message) for message in gateway.asked} == {RenewRequest}

    def test_it_goes_on_when_the_gateway_comes_back(self, fleet: Fleet, file: IdentityFile, keep: Any) -> None:
        gateway = FakeGateway(fleet)
        gateway.renew = lambda request: (503, b"not now")
        kept = keep([fleet.site(ONE, at=now() - OLD)], {})
        until(lambda: kept.keeper.problems, "the problem")
        gateway.renew = gateway.certify
        until(lambda: kept.renewed, "the certificate")
        assert kept.keeper.problems == {}
        gateway.close()


def test_stopping_takes_no_longer_than_what_is_under_way(file: IdentityFile, fleet: Fleet) -> None:
    keeper = Keeper(file, [fleet.site(ONE)], {}, lambda identity: None)
    keeper.start()
    keeper.stop()
    assert not keeper.is_alive()


class TestRenewalFromTheCentre:
    """`/v1/identity`: the keeper signs what is to be certified, and takes what was."""

    def keeper(self, file: IdentityFile, identity: Identity) -> tuple[Keeper, list[Identity]]:
        file.put(identity)
        renewed: list[Identity] = []
        return Keeper(file, [identity], {}, renewed.append), renewed

    def test_its_request_is_proven_by_both_keys_for_that_nonce(self, fleet: Fleet, file: IdentityFile) -> None:
        identity = fleet.site(ONE)
        keeper, _ = self.keeper(file, identity)
        request = keeper.renewal(ONE, b"n" * 32)
        tls_key, signing_key = identity.keys.public()
        message = renew_message(ONE, b"n" * 32, tls_key)
        assert (request.site, request.nonce, request.tls_key) == (ONE, b"n" * 32, tls_key)
        Ed25519PublicKey.from_public_bytes(signing_key).verify(request.signing_proof, message)
        with pytest.raises(IdentityError):
            keeper.renewal(TWO, b"n" * 32)

    def test_another_providers_chain_is_on_the_disk_before_it_says_so(self, fleet: Fleet, file: IdentityFile) -> None:
        identity = fleet.site(ONE)
        keeper, renewed = self.keeper(file, identity)
        after = fleet.site(ONE, provider_id=2, keys=identity.keys)
        assert after.certificates is not None
        answer = keeper.take(ONE, after.certificates)
        assert (answer.state, answer.reason) == ("taken", "")
        assert file.get(ONE) == after
        assert renewed == [after]
        assert keeper.take(ONE, after.certificates).state == "unchanged"
        assert renewed == [after]

    def test_its_roots_and_gateway_are_not_the_callers_to_change(self, fleet: Fleet, file: IdentityFile) -> None:
        identity = fleet.site(ONE)
        keeper, (*_,) = self.keeper(file, identity)
        after = fleet.site(ONE, provider_id=2, keys=identity.keys).certificates
        assert after is not None
        sly = msgspec.structs.replace(after, gateway="evil.example:1", roots=(Fleet().root.pem,), fleet="evil.example")
        assert keeper.take(ONE, sly).state == "taken"
        kept = file.get(ONE)
        assert kept is not None
        assert kept.certificates == msgspec.structs.replace(identity.certificates, chain=after.chain)

    @pytest.mark.parametrize(
        ("which", "reason"),
        [
            ("key", "the centre sent a certificate for another key"),
            ("root", "no root of this site vouches for the certificate that the centre sent"),
            ("middle", "no root of this site vouches for the certificate that the centre sent"),
            ("site", "the centre sent the certificate of another site"),
            ("old", "the certificate that the centre sent is not valid now; is the clock right?"),
        ],
    )
    def test_what_would_cut_it_off_is_refused(self, fleet: Fleet, file: IdentityFile, which: str, reason: str) -> None:
        identity = fleet.site(ONE)
        keeper, renewed = self.keeper(file, identity)
        made = {
            "key": lambda: fleet.site(ONE),
            "root": lambda: Fleet().site(ONE, keys=identity.keys),
            "middle": lambda: fleet.site(ONE, keys=identity.keys),
            "site": lambda: fleet.site(TWO, keys=identity.keys),
            "old": lambda: fleet.site(ONE, keys=identity.keys, at=now() - timedelta(days=30)),
        }[which]().certificates
        assert made is not None
        if which == "middle":
            made = msgspec.structs.replace(made, chain=made.chain[:1])
        answer = keeper.take(ONE, made)
        assert (answer.state, answer.reason) == ("refused", reason)
        assert file.get(ONE) == identity
        assert renewed == []

    def test_one_that_has_not_enrolled_takes_nothing(self, fleet: Fleet, file: IdentityFile) -> None:
        (identity,) = fresh(file, ONE)
        keeper, renewed = self.keeper(file, identity)
        made = fleet.site(ONE, keys=identity.keys).certificates
        assert made is not None
        assert keeper.take(ONE, made).state == "refused"
        assert keeper.take(TWO, made).state == "refused"
        assert renewed == []
