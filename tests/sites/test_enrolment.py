"""What sites do about their identity: keys presented, certified, renewed; and all that is not let through (row 17)."""

import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings
from django.db import connections
from django.utils import timezone

from agent.identity import Identity, Keys
from agent.protocol.identity import EnrolRequest, RenewRequest, enrol_message, renew_message, site_name, tls_pin
from fleet.kit.errors import Conflict
from fleet.kit.models import AuditEntry
from fleet.kit.tenancy import scope
from sites.models import JoinToken, PollSchedule, Site, SiteCertificate, SiteIdentity
from sites.selectors.identity import certificates_of, identities_of, signable
from sites.selectors.polling import poll_targets
from sites.services import joining
from sites.services.enrolment import EnrolmentRefused, present_keys, record_certificates, renewable
from sites.services.pushing import AGAIN, confirm_certificates, confirm_name, offer_certificates, put_off
from sites.services.sites import change_life, update_site
from tests.conftest import TEST, everything
from tests.pki import public_der
from tests.sites.joined import join, owned, present, request_of, stored

pytestmark = pytest.mark.usefixtures("database")
REASON = "the cabinet was open"
NONCE = b"n" * 48


def refusal(request: EnrolRequest | RenewRequest) -> str:
    """The code with which it is refused."""
    with pytest.raises(EnrolmentRefused) as refused:
        if isinstance(request, EnrolRequest):
            present_keys(request, remote="192.0.2.9")
        else:
            renewable(request)
    return refused.value.code


def unchanged(request: EnrolRequest | RenewRequest) -> str:
    """The same, where nothing may have changed."""
    before = stored()
    code = refusal(request)
    assert stored() == before
    return code


def signed(site: UUID, secret: bytes, tls_key: bytes, tls_proof: bytes, keys: Keys) -> EnrolRequest:
    """An enrolment with a TLS key of any kind; the signing key's proof is right."""
    _, signing_key = keys.public()
    message = enrol_message(site, secret, tls_key, signing_key)
    return EnrolRequest(
        protocol=1,
        site=site,
        secret=secret,
        tls_key=tls_key,
        signing_key=signing_key,
        tls_proof=tls_proof,
        signing_proof=keys.signing().sign(message),
    )


class TestPresenting:
    def test_keys_wait_until_they_are_accepted_and_the_same_request_says_how_far(self, make_site: Any) -> None:
        site = make_site()
        secret, identity = join(site), Identity(site.uuid, Keys.make())
        request = request_of(site, secret, identity)
        first = present_keys(request, remote="192.0.2.7")
        assert (first.state, first.fingerprint) == ("pending", identity.keys.fingerprint)
        before = stored()
        assert present_keys(request, remote="192.0.2.7") == first
        assert present_keys(request_of(site, secret, identity), remote="192.0.2.8") == first
        assert stored() == before
        joining.accept(actor=TEST, rights=everything(), site=site, fingerprint=first.fingerprint)
        before = stored()
        assert present_keys(request, remote="192.0.2.7") == replace(first, state="accepted")
        assert stored() == before

    def test_what_is_kept_and_audited(self, make_site: Any) -> None:
        site = make_site()
        identity = Identity(site.uuid, Keys.make())
        request = msgspec.structs.replace(request_of(site, join(site), identity), host="a\0b\u202ec", agent="1.0\n")
        present_keys(request, remote="192.0.2.7")
        row = owned(SiteIdentity).get()
        tls_key, signing_key = identity.keys.public()
        assert (bytes(row.tls_key), bytes(row.signing_key), row.fingerprint) == (
            *(tls_key, signing_key),
            identity.keys.fingerprint,
        )
        assert (row.host, row.agent, row.remote, row.provider_id) == ("a?b?c", "1.0?", "192.0.2.7", site.provider_id)
        entry = owned(AuditEntry).get(action="identity.present")
        assert (entry.object_id, entry.actor, entry.after) == (
            *(str(site.pk), "job:gateway"),
            {"fingerprint": row.fingerprint, "from": "192.0.2.7", "pre_authorised": False},
        )

    def test_where_it_was_said_before_they_are_accepted_at_once(self, make_site: Any) -> None:
        site = make_site()
        present(site, pre_authorised=True)
        row = owned(SiteIdentity).get()
        assert (row.state, row.decided_by) == ("accepted", "pre-authorised by test")

    def test_newer_keys_that_wait_take_the_place_of_older_ones(self, make_site: Any) -> None:
        site = make_site()
        secret, identity = join(site), Identity(site.uuid, Keys.make())
        old = request_of(site, secret, identity)
        present_keys(old, remote="")
        present(site)
        assert unchanged(old) == "replaced"
        with scope(TEST):
            assert [found.state for found in identities_of(site)] == ["pending", "replaced"]


class TestRefusals:
    def test_a_guessed_secret(self, make_site: Any) -> None:
        site = make_site()
        join(site)
        assert unchanged(request_of(site, b"g" * 32)) == "unknown_token"

    def test_keys_that_were_revoked_never_come_back(self, make_site: Any) -> None:
        site = make_site()
        stolen = present(site, pre_authorised=True)
        joining.revoke(actor=TEST, rights=everything(), site=site, reason="stolen from the rack")
        secret = join(site, pre_authorised=True)
        assert unchanged(request_of(site, secret, stolen)) == "revoked_keys"
        fresh = Identity(site.uuid, Keys.make())
        assert present_keys(request_of(site, secret, fresh), remote="").state == "accepted"

    def test_another_sites_secret(self, make_site: Any) -> None:
        one, two = make_site(), make_site()
        secret = join(one)
        assert unchanged(request_of(two, secret)) == "unknown_token"
        assert unchanged(EnrolRequest(**{**fields(request_of(one, secret)), "site": uuid4()})) == "proof"

    def test_expired(self, make_site: Any) -> None:
        site = make_site()
        secret = join(site, expires_at=timezone.now())
        assert unchanged(request_of(site, secret)) == "expired"

    def test_withdrawn(self, make_site: Any) -> None:
        site = make_site()
        secret = join(site)
        join(site)
        assert unchanged(request_of(site, secret)) == "withdrawn"

    def test_withdrawn_in_the_moment_before_the_site_was_locked(
        self, make_site: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        site = make_site()
        secret, found = join(site), JoinToken.objects.filter

        def then_withdrawn(*args: Any, **kwargs: Any) -> Any:
            class Once:
                def first(self) -> Any:
                    token = found(*args, **kwargs).first()
                    owned(JoinToken).update(withdrawn_at=timezone.now())
                    return token

            return Once()

        request = request_of(site, secret)
        monkeypatch.setattr(JoinToken.objects, "filter", then_withdrawn)
        assert refusal(request) == "withdrawn"
        assert not owned(SiteIdentity).exists()

    def test_a_retired_site(self, make_site: Any) -> None:
        site = make_site()
        secret = join(site)
        identity = present_with(site, secret)
        change_life(actor=TEST, rights=everything(), site=site, life="retired")
        assert unchanged(request_of(site, secret)) == "retired"
        assert unchanged(identity.renew_request(NONCE)) == "retired"

    @pytest.mark.parametrize("field", ["tls_proof", "signing_proof", "tls_key", "signing_key", "secret"])
    def test_a_proof_that_does_not_fit_says_nothing_of_the_token(self, make_site: Any, field: str) -> None:
        site = make_site()
        values = fields(request_of(site, join(site)))
        values[field] = fields(request_of(site, b"o" * 32))[field]
        assert unchanged(EnrolRequest(**values)) == "proof"

    @pytest.mark.parametrize("kind", ["P-384", "P-521", "secp256k1", "RSA", "Ed25519", "X25519", "garbage"])
    def test_a_tls_key_of_another_kind(self, make_site: Any, kind: str) -> None:
        site, keys = make_site(), Keys.make()
        secret = join(site, pre_authorised=True)
        key: Any = {
            "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
            "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
            "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
            "RSA": lambda: rsa.generate_private_key(65_537, 1_024),
            "Ed25519": Ed25519PrivateKey.generate,
            "X25519": x25519.X25519PrivateKey.generate,
            "garbage": lambda: None,
        }[kind]()
        der = public_der(key) if key else b"\x30" * 91
        message = enrol_message(site.uuid, secret, der, keys.public()[1])
        proof = key.sign(message, ec.ECDSA(hashes.SHA256())) if hasattr(key, "curve") else b"p" * 64
        assert unchanged(signed(site.uuid, secret, der, proof, keys)) == "proof"

    def test_a_kind_that_nobody_knows(self, make_site: Any) -> None:
        site, keys = make_site(), Keys.make()
        secret = join(site)
        der = keys.public()[0].replace(bytes.fromhex("2a8648ce3d0201"), bytes.fromhex("2a8648ce3d0209"))
        assert unchanged(signed(site.uuid, secret, der, b"p" * 64, keys)) == "proof"

    def test_p_256_in_a_form_that_the_signer_would_never_certify(self, make_site: Any) -> None:
        site, keys = make_site(), Keys.make()
        secret = join(site, pre_authorised=True)
        point = keys.tls().public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        der = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + point
        message = enrol_message(site.uuid, secret, der, keys.public()[1])
        proof = keys.tls().sign(message, ec.ECDSA(hashes.SHA256()))
        assert unchanged(signed(site.uuid, secret, der, proof, keys)) == "proof"


class TestOtherKeys:
    def test_they_freeze_the_site_which_keeps_what_it_has(self, make_site: Any, certified: Any) -> None:
        site = make_site()
        secret = join(site, pre_authorised=True)
        honest = present_with(site, secret)
        certified(site)
        had = owned(Site).values("tls_name", "tls_pin").get(pk=site.pk)
        assert refusal(request_of(site, secret)) == "frozen"
        now = owned(Site).get(pk=site.pk)
        assert now.identity_frozen_reason == "a join string was used with other keys (from 192.0.2.9)"
        assert {"tls_name": now.tls_name, "tls_pin": now.tls_pin} == had
        assert owned(SiteIdentity).get().state == "accepted"
        assert owned(SiteCertificate).get().revoked_at is None
        entry = owned(AuditEntry).get(action="identity.alarm")
        assert (entry.object_id, entry.provider_id, entry.actor, entry.after, entry.note) == (
            *(str(site.pk), site.provider_id, "job:gateway"),
            {"frozen": True, "from": "192.0.2.9"},
            "a join string was used with other keys",
        )
        assert unchanged(honest.renew_request(NONCE)) == "frozen"
        assert unchanged(request_of(site, secret, honest)) == "frozen"

    def test_one_alarm_however_often(self, make_site: Any) -> None:
        site = make_site()
        secret = join(site)
        present_with(site, secret)
        assert refusal(request_of(site, secret)) == "frozen"
        assert [unchanged(request_of(site, secret)) for _ in range(3)] == ["frozen"] * 3

    def test_after_the_thaw_the_old_join_string_freezes_it_no_more_and_the_site_goes_on(self, make_site: Any) -> None:
        site = make_site()
        secret = join(site, pre_authorised=True)
        honest = present_with(site, secret)
        assert refusal(request_of(site, secret)) == "frozen"
        joining.thaw(actor=TEST, rights=everything(), site=site, reason=REASON)
        assert unchanged(request_of(site, secret)) == "withdrawn"
        assert present_keys(request_of(site, secret, honest), remote="").state == "accepted"
        assert renewable(honest.renew_request(NONCE)) == owned(SiteIdentity).get().pk

    def test_two_at_once_with_different_keys_have_one_winner(self, make_site: Any) -> None:
        site = make_site()
        secret = join(site, pre_authorised=True)
        requests = [request_of(site, secret) for _ in range(2)]
        gate, said = threading.Barrier(2), ["", ""]

        def call(number: int) -> None:
            gate.wait()
            try:
                said[number] = present_keys(requests[number], remote=f"192.0.2.{number}").state
            except EnrolmentRefused as error:
                said[number] = error.code
            finally:
                connections["default"].close()

        threads = [threading.Thread(target=call, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(said) == ["accepted", "frozen"]
        winner = owned(SiteIdentity).get()
        assert bytes(winner.signing_key) == requests[said.index("accepted")].signing_key
        assert owned(AuditEntry).filter(action="identity.alarm").count() == 1

    def test_two_at_once_with_the_same_keys_are_one(self, make_site: Any) -> None:
        site = make_site()
        request = request_of(site, join(site))
        gate, said = threading.Barrier(4), []

        def call() -> None:
            gate.wait()
            try:
                said.append(present_keys(request, remote="").state)
            finally:
                connections["default"].close()

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert said == ["pending"] * 4
        assert owned(SiteIdentity).count() == 1


class TestRenewal:
    def test_an_accepted_site_may_renew_its_key_and_nothing_is_written_yet(self, make_site: Any) -> None:
        site = make_site()
        identity = present(site, pre_authorised=True)
        before = stored()
        assert renewable(identity.renew_request(NONCE)) == owned(SiteIdentity).get().pk
        assert stored() == before

    def test_another_tls_key_is_taken_over_with_the_proof_of_the_signing_key(self, make_site: Any) -> None:
        site = make_site()
        identity = present(site, pre_authorised=True)
        new = Identity(site.uuid, Keys(Keys.make().tls_pem, identity.keys.signing_pem))
        renewable(new.renew_request(NONCE))
        assert bytes(owned(SiteIdentity).get().tls_key) == new.keys.public()[0]
        entry = owned(AuditEntry).get(action="identity.new_tls_key")
        assert entry.after == {"pin": tls_pin(new.keys.public()[0])}

    def test_whoever_has_only_the_tls_key_may_not(self, make_site: Any) -> None:
        site = make_site()
        identity = present(site, pre_authorised=True)
        thief = Identity(site.uuid, Keys(identity.keys.tls_pem, Keys.make().signing_pem))
        assert unchanged(thief.renew_request(NONCE)) == "proof"

    @pytest.mark.parametrize("field", ["nonce", "tls_key", "tls_proof", "signing_proof"])
    def test_a_proof_that_does_not_fit(self, make_site: Any, field: str) -> None:
        site = make_site()
        identity = present(site, pre_authorised=True)
        values = fields(identity.renew_request(NONCE))
        values[field] = fields(Identity(site.uuid, Keys.make()).renew_request(b"m" * 48))[field]
        assert unchanged(RenewRequest(**values)) == "proof"

    def test_a_foreign_key_cannot_be_certified_by_repeating_its_proof(self, make_site: Any) -> None:
        """The signing key vouches for a TLS key only together with that key's own proof."""
        site = make_site()
        identity = present(site, pre_authorised=True)
        other = Keys.make().public()[0]
        message = renew_message(site.uuid, NONCE, other)
        request = RenewRequest(
            site=site.uuid,
            nonce=NONCE,
            tls_key=other,
            tls_proof=identity.keys.tls().sign(message, ec.ECDSA(hashes.SHA256())),
            signing_proof=identity.keys.signing().sign(message),
        )
        assert unchanged(request) == "proof"

    def test_neither_unknown_nor_waiting_nor_rejected_nor_revoked_nor_frozen(self, make_site: Any) -> None:
        site = make_site()
        assert unchanged(Identity(uuid4(), Keys.make()).renew_request(NONCE)) == "not_enrolled"
        waiting = present(site)
        assert unchanged(waiting.renew_request(NONCE)) == "not_enrolled"
        joining.reject(actor=TEST, rights=everything(), site=site, reason=REASON)
        assert unchanged(waiting.renew_request(NONCE)) == "not_enrolled"
        accepted = present(site, pre_authorised=True)
        joining.freeze(actor=TEST, rights=everything(), site=site, reason=REASON)
        assert unchanged(accepted.renew_request(NONCE)) == "frozen"
        joining.thaw(actor=TEST, rights=everything(), site=site, reason=REASON)
        joining.revoke(actor=TEST, rights=everything(), site=site, reason=REASON)
        assert unchanged(accepted.renew_request(NONCE)) == "revoked"

    def test_replaced_keys_may_not(self, make_site: Any) -> None:
        site = make_site()
        old = present(site, pre_authorised=True)
        present(site, pre_authorised=True)
        assert unchanged(old.renew_request(NONCE)) == "proof"

    @pytest.mark.parametrize(("days", "code"), [(89, ""), (91, "too_late")])
    def test_a_site_may_be_away_for_90_days(self, make_site: Any, certified: Any, days: int, code: str) -> None:
        site = make_site()
        identity = present(site, pre_authorised=True)
        certified(site, timezone.now() - timedelta(days=days + 7))
        request = identity.renew_request(NONCE)
        assert (unchanged(request) if code else str(renewable(request) and "")) == code


class TestCertificates:
    def test_what_pollers_expect_from_then_on(self, make_site: Any, certified: Any) -> None:
        site = make_site()
        identity = present(site, pre_authorised=True)
        owned(PollSchedule).update(next_poll_at=timezone.now() + timedelta(hours=1), due_at=timezone.now())
        (target,) = poll_targets([site.pk])
        assert (target.peer.name, target.peer.pin) == ("", "")
        made = certified(site)
        (target,) = poll_targets([site.pk])
        assert (target.peer.name, target.peer.pin) == (made.name, tls_pin(identity.keys.public()[0]))
        assert owned(PollSchedule).get().next_poll_at <= timezone.now()
        with scope(TEST):
            (row,) = certificates_of(site)
        assert (row.serial, row.sha256, row.route, row.revoked_at) == (made.serial, made.sha256, "enrol", None)

    def test_the_signer_certifies_only_what_is_accepted_and_the_sites_own(
        self, make_site: Any, make_provider: Any
    ) -> None:
        site = make_site()
        identity = present(site)
        pk = owned(SiteIdentity).get().pk

        def said() -> str:
            with scope(TEST):
                try:
                    return str(signable(pk).tls_key == identity.keys.public()[0])
                except Conflict as error:
                    return str(error)

        assert said() == "the identity is pending, not accepted"
        joining.accept(actor=TEST, rights=everything(), site=site, fingerprint=identity.keys.fingerprint)
        assert said() == "True"
        joining.freeze(actor=TEST, rights=everything(), site=site, reason=REASON)
        assert said() == "the site's identity is frozen"
        joining.thaw(actor=TEST, rights=everything(), site=site, reason=REASON)
        owned(Site).filter(pk=site.pk).update(provider_id=make_provider().pk)
        assert said() == "the identity belongs to the site's earlier provider"

    def test_nothing_made_is_nothing_written(self, database: None) -> None:
        before = stored()
        record_certificates([], route="renew")
        assert stored() == before

    def test_one_that_was_frozen_since_it_was_signed_does_not_count(self, make_site: Any, issued: Any) -> None:
        site = make_site()
        present(site, pre_authorised=True)
        pk = owned(SiteIdentity).get().pk
        made = issued(site)
        joining.freeze(actor=TEST, rights=everything(), site=site, reason=REASON)
        assert record_certificates([(pk, made)], route="enrol") == set()
        assert owned(SiteCertificate).get().revoked_at is not None
        assert (owned(Site).get().tls_name, owned(Site).get().tls_pin) == ("", "")


class TestFromTheCentre:
    """A certificate that is pushed is written down before it is handed out, and expected once it was taken."""

    def test_a_hand_over_is_due_at_once_and_expected_when_taken(
        self, make_site: Any, make_provider: Any, certified: Any, issued: Any
    ) -> None:
        site, new = make_site(), make_provider()
        present(site, pre_authorised=True)
        before = certified(site)
        assert owned(Site).get().tls_push_at > timezone.now() + timedelta(days=5)
        update_site(actor=TEST, rights=everything(), site=site, values={"provider": new})
        assert owned(Site).get().tls_push_at <= timezone.now()
        pk = owned(SiteIdentity).get().pk
        made = [(pk, issued(owned(Site).get()))]
        assert offer_certificates(made) == {pk}
        assert owned(Site).get().tls_name == before.name
        assert owned(SiteCertificate).order_by("-pk")[0].route == "pushed"
        confirm_certificates(made)
        assert owned(Site).get().tls_name == made[0][1].name == site_name(settings.FLEET_NAME, new.pk, site.uuid)
        assert owned(Site).get().tls_push_at > timezone.now() + timedelta(days=5)

    def test_a_lost_answer_is_made_up_for_only_if_a_certificate_was_offered(
        self, make_site: Any, make_provider: Any, certified: Any, issued: Any
    ) -> None:
        site, new = make_site(), make_provider()
        present(site, pre_authorised=True)
        before = certified(site)
        update_site(actor=TEST, rights=everything(), site=site, values={"provider": new})
        name = site_name(settings.FLEET_NAME, new.pk, site.uuid)
        confirm_name(site.pk, name)
        assert owned(Site).get().tls_name == before.name
        offer_certificates([(owned(SiteIdentity).get().pk, issued(owned(Site).get()))])
        confirm_name(site.pk, name)
        assert owned(Site).get().tls_name == name

    def test_handed_over_between_signing_and_taking_it_is_due_again(
        self, make_site: Any, make_provider: Any, certified: Any, issued: Any
    ) -> None:
        site, new = make_site(), make_provider()
        present(site, pre_authorised=True)
        certified(site)
        pk, late = owned(SiteIdentity).get().pk, issued(site)
        update_site(actor=TEST, rights=everything(), site=site, values={"provider": new})
        record_certificates([(pk, late)], route="renew")
        assert owned(Site).get().tls_push_at <= timezone.now()

    def test_what_is_revoked_or_frozen_is_not_pushed(self, make_site: Any, certified: Any, issued: Any) -> None:
        site = make_site()
        present(site, pre_authorised=True)
        certified(site)
        pk, made = owned(SiteIdentity).get().pk, issued(site)
        joining.freeze(actor=TEST, rights=everything(), site=site, reason=REASON)
        assert offer_certificates([(pk, made)]) == set()
        joining.thaw(actor=TEST, rights=everything(), site=site, reason=REASON)
        joining.revoke(actor=TEST, rights=everything(), site=site, reason=REASON)
        assert owned(Site).get().tls_push_at is None
        confirm_certificates([(pk, made)])
        assert (owned(Site).get().tls_name, owned(Site).get().tls_push_at) == ("", None)

    def test_it_is_put_off(self, make_site: Any, certified: Any) -> None:
        site = make_site()
        present(site, pre_authorised=True)
        certified(site)
        put_off([site.pk])
        wait = owned(Site).get().tls_push_at - timezone.now()
        assert timedelta(minutes=4, seconds=50) < wait <= AGAIN


def present_with(site: Site, secret: bytes) -> Identity:
    identity = Identity(site.uuid, Keys.make())
    present_keys(request_of(site, secret, identity), remote="192.0.2.7")
    return identity


def fields(message: msgspec.Struct) -> dict[str, Any]:
    return {name: getattr(message, name) for name in message.__struct_fields__}


def test_after_a_hand_over_the_same_keys_are_the_new_providers_and_join_strings_are_void(
    make_site: Any, make_provider: Any
) -> None:
    site, new = make_site(), make_provider("new")
    identity = present(site, pre_authorised=True)
    secret = join(site)
    update_site(actor=TEST, rights=everything(), site=site, values={"provider": new})
    assert owned(SiteIdentity).get(state="accepted").provider_id == new.pk
    assert renewable(identity.renew_request(NONCE)) == owned(SiteIdentity).get(state="accepted").pk
    assert unchanged(request_of(site, secret)) == "withdrawn"
