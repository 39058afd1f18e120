"""What people decide about a site's identity: done, refused, audited; and nothing changed where it is denied."""

import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from agent.identity import Identity, Keys
from agent.protocol.identity import read_join
from fleet.kit.errors import Conflict, DomainError, Invalid, NotAllowed, NotFound
from fleet.kit.models import AuditEntry
from fleet.kit.tenancy import Rights, Scope, scope
from sites.models import JoinToken, PollSchedule, Site, SiteCertificate, SiteIdentity
from sites.selectors.identity import live_token, waiting_in
from sites.services import joining
from sites.services.enrolment import EnrolmentRefused, present_keys, record_certificates, renewable
from sites.services.sites import change_life
from tests.conftest import TEST, everything
from tests.sites.joined import join, owned, present, request_of, stored

pytestmark = pytest.mark.usefixtures("database")
ROOT = hashlib.sha256(b"root").digest()
REASON = "the cabinet was open"

Do = Callable[[Scope, Rights, Site], object]
CHANGES: dict[str, Do] = {
    "make_join": lambda who, may, site: joining.make_join(actor=who, rights=may, site=site, root_sha256=ROOT),
    "accept": lambda who, may, site: joining.accept(
        actor=who, rights=may, site=site, fingerprint=owned(SiteIdentity).get(state="pending").fingerprint
    ),
    "reject": lambda who, may, site: joining.reject(actor=who, rights=may, site=site, reason=REASON),
    "revoke": lambda who, may, site: joining.revoke(actor=who, rights=may, site=site, reason=REASON),
    "freeze": lambda who, may, site: joining.freeze(actor=who, rights=may, site=site, reason=REASON),
    "thaw": lambda who, may, site: joining.thaw(actor=who, rights=may, site=site, reason=REASON),
}
ACTION = {
    "make_join": "identity.join_string",
    "accept": "identity.accept",
    "reject": "identity.reject",
    "revoke": "identity.revoke",
    "freeze": "identity.freeze",
    "thaw": "identity.thaw",
}


def prepare(site: Site, change: str) -> None:
    """Bring the site to where the change can be made."""
    present(site, pre_authorised=True)
    present(site)
    if change == "thaw":
        joining.freeze(actor=TEST, rights=everything(), site=site, reason=REASON)


class TestRights:
    @pytest.mark.parametrize("change", CHANGES)
    @pytest.mark.parametrize(
        ("role", "limit"),
        [
            ("operator", "none"),
            ("operator", "provider"),
            ("operator", "region"),
            ("operator", "label"),
            ("admin", "none"),
        ],
    )
    def test_operators_and_admins_may_and_it_is_audited(
        self, make_site: Any, access: Any, role: str, limit: str, change: str
    ) -> None:
        site = make_site(labels={"tier": "gold"})
        prepare(site, change)
        limits = {
            "provider": {"provider": site.provider},
            "region": {"regions": [site.region]},
            "label": {"labels": {"tier": "gold"}},
        }
        who, may = access(role, **limits.get(limit, {}))
        before = owned(AuditEntry).latest("pk").pk
        CHANGES[change](who, may, site)
        (entry,) = owned(AuditEntry).filter(pk__gt=before)
        assert (entry.action, entry.actor, entry.actor_id, entry.object_type, entry.object_id, entry.provider_id) == (
            *(ACTION[change], who.name, who.user_id),
            *("site", str(site.pk), site.provider_id),
        )
        assert entry.note == (REASON if change in {"reject", "revoke", "freeze", "thaw"} else "")

    @pytest.mark.parametrize("change", CHANGES)
    @pytest.mark.parametrize("role", ["viewer", "manager", "provider_viewer", "provider_operator"])
    def test_others_may_not_on_sites_that_they_see(self, make_site: Any, access: Any, role: str, change: str) -> None:
        site = make_site()
        own = {"provider": site.provider} if role.startswith("provider") else {}
        self.denied(change, site, access(role, **own), NotAllowed)

    @pytest.mark.parametrize("change", CHANGES)
    @pytest.mark.parametrize("role", ["viewer", "operator", "manager", "provider_viewer", "provider_operator"])
    def test_a_foreign_providers_site_is_not_there(
        self, make_site: Any, make_provider: Any, access: Any, role: str, change: str
    ) -> None:
        self.denied(change, make_site(), access(role, provider=make_provider()), NotFound)

    @pytest.mark.parametrize("change", CHANGES)
    @pytest.mark.parametrize("limit", [{"regions": ["Nordics"]}, {"labels": {"tier": "gold"}}])
    def test_an_operator_of_another_region_or_label_may_not(
        self, make_site: Any, access: Any, limit: dict[str, Any], change: str
    ) -> None:
        self.denied(change, make_site(), access("operator", **limit), NotAllowed)

    @pytest.mark.parametrize("change", CHANGES)
    def test_no_scope_sees_no_site(self, make_site: Any, change: str) -> None:
        self.denied(change, make_site(), (Scope(name="nobody"), everything()), NotFound)

    @staticmethod
    def denied(change: str, site: Site, viewer: tuple[Scope, Rights], error: type[DomainError]) -> None:
        prepare(site, change)
        before = stored()
        with pytest.raises(error):
            CHANGES[change](*viewer, site)
        assert stored() == before

    def test_what_waits_is_shown_to_those_who_may_see_the_site(
        self, make_site: Any, make_provider: Any, access: Any
    ) -> None:
        site = make_site()
        present(site)
        seen = {}
        for name, (who, _) in {
            "all": access("viewer"),
            "own": access("provider_viewer", provider=site.provider),
            "foreign": access("provider_viewer", provider=make_provider()),
            "region": access("operator", regions=["Nordics"]),
        }.items():
            with scope(who):
                seen[name] = [identity.site_id for identity in waiting_in(who)]
        assert seen == {"all": [site.pk], "own": [site.pk], "foreign": [], "region": []}


def make_join(site: Site, **options: Any) -> str:
    return joining.make_join(actor=TEST, rights=everything(), site=site, root_sha256=ROOT, **options)


class TestJoinStrings:
    def test_it_says_where_who_and_whom_to_trust_and_its_secret_is_not_kept(
        self, make_site: Any, settings: Any
    ) -> None:
        settings.GATEWAY_ADDRESS = "gate.example:9443"
        site = make_site()
        said = read_join(make_join(site))
        assert (said.gateway, said.fleet, said.site, said.root_sha256) == (
            *("gate.example:9443", settings.FLEET_NAME),
            *(site.uuid, ROOT),
        )
        token = owned(JoinToken).get()
        assert bytes(token.mac) == joining.token_mac(said.secret)
        assert said.secret not in b"".join(repr(row).encode("latin-1") for row in stored().values())
        assert said.secret.hex() not in repr(stored())
        assert token.expires_at - token.made_at < timedelta(hours=24, seconds=5)
        assert token.expires_at > timezone.now() + timedelta(hours=23, minutes=59)

    def test_the_mac_depends_on_the_installations_secret(self, settings: Any) -> None:
        before = joining.token_mac(b"s" * 32)
        settings.SECRET_KEY = "another"
        assert joining.token_mac(b"s" * 32) != before

    def test_a_newer_one_withdraws_the_older(self, make_site: Any) -> None:
        site = make_site()
        old, new = read_join(make_join(site)), read_join(make_join(site))
        with pytest.raises(EnrolmentRefused) as refused:
            present_keys(request_of(site, old.secret), remote="")
        assert refused.value.code == "withdrawn"
        assert present_keys(request_of(site, new.secret), remote="").state == "pending"

    def test_the_live_one_is_shown_until_it_is_used_withdrawn_or_expired(self, make_site: Any) -> None:
        site, now = make_site(), timezone.now()

        def live(at: Any = now) -> bool:
            with scope(TEST):
                return live_token(site, now=at) is not None

        secret = read_join(make_join(site)).secret
        assert (live(), live(now + timedelta(hours=25))) == (True, False)
        present_keys(request_of(site, secret), remote="")
        assert live() is False

    def test_neither_a_retired_nor_a_frozen_site_gets_one(self, make_site: Any) -> None:
        retired, frozen = make_site(), make_site()
        change_life(actor=TEST, rights=everything(), site=retired, life="retired")
        joining.freeze(actor=TEST, rights=everything(), site=frozen, reason=REASON)
        before = stored()
        for site in (retired, frozen):
            with pytest.raises(Conflict):
                make_join(site)
        assert stored() == before

    def test_many_at_once_take_the_place_of_those_before(self, make_site: Any) -> None:
        sites = [make_site(), make_site()]
        old = read_join(make_join(sites[0])).secret
        with scope(TEST):
            secrets = joining.make_tokens(sites, made_by="seed", now=timezone.now())
        assert [present_keys(request_of(site, secrets[site.pk]), remote="").state for site in sites] == ["accepted"] * 2
        with pytest.raises(EnrolmentRefused):
            present_keys(request_of(sites[0], old), remote="")


class TestDecisions:
    def test_accepting_wants_the_fingerprint_that_was_looked_at(self, make_site: Any) -> None:
        site = make_site()
        first = present(site)
        second = present(site)
        with pytest.raises(Conflict, match="Other keys are waiting"):
            joining.accept(actor=TEST, rights=everything(), site=site, fingerprint=first.keys.fingerprint)
        written = f"  {second.keys.fingerprint.upper()} "
        accepted = joining.accept(actor=TEST, rights=everything(), site=site, fingerprint=written)
        assert (accepted.state, accepted.decided_by, accepted.fingerprint) == (
            *("accepted", "job:test"),
            second.keys.fingerprint,
        )

    def test_accepted_keys_take_the_place_of_those_before_only_then(self, make_site: Any) -> None:
        site = make_site()
        first = present(site, pre_authorised=True)
        second = present(site)
        assert states() == {first.keys.fingerprint: "accepted", second.keys.fingerprint: "pending"}
        joining.accept(actor=TEST, rights=everything(), site=site, fingerprint=second.keys.fingerprint)
        assert states() == {first.keys.fingerprint: "replaced", second.keys.fingerprint: "accepted"}

    def test_nothing_to_decide_is_a_conflict(self, make_site: Any) -> None:
        site = make_site()
        before = stored()
        for change in ("reject", "revoke", "thaw"):
            with pytest.raises(Conflict):
                CHANGES[change](TEST, everything(), site)
        with pytest.raises(Conflict):
            joining.accept(actor=TEST, rights=everything(), site=site, fingerprint="x")
        assert stored() == before

    @pytest.mark.parametrize("reason", ["", "  ", "no", "x" * 301, "two\nlines", "nul\0nul"])
    @pytest.mark.parametrize("change", ["reject", "revoke", "freeze", "thaw"])
    def test_a_reason_is_wanted_on_one_line(self, make_site: Any, change: str, reason: str) -> None:
        site = make_site()
        prepare(site, change)
        before = stored()
        with pytest.raises(Invalid):
            getattr(joining, change)(actor=TEST, rights=everything(), site=site, reason=reason)
        assert stored() == before

    def test_rejected_keys_stay_rejected_and_their_join_string_is_used_up(self, make_site: Any) -> None:
        site = make_site()
        secret = join(site)
        identity = Identity(site.uuid, Keys.make())
        present_keys(request_of(site, secret, identity), remote="")
        joining.reject(actor=TEST, rights=everything(), site=site, reason=REASON)
        again = present_keys(request_of(site, secret, identity), remote="")
        assert (again.state, again.detail) == ("rejected", REASON)
        assert owned(SiteIdentity).count() == 1

    def test_revoking_ends_polls_renewals_and_certificates(self, make_site: Any, certified: Any) -> None:
        site = make_site()
        identity = present(site, pre_authorised=True)
        certified(site)
        site.refresh_from_db(using="owner")
        assert (bool(site.tls_name), bool(site.tls_pin)) == (True, True)
        owned(PollSchedule).update(next_poll_at=timezone.now() + timedelta(hours=1))
        joining.revoke(actor=TEST, rights=everything(), site=site, reason=REASON)
        site.refresh_from_db(using="owner")
        assert (site.tls_name, site.tls_pin) == ("", "")
        assert owned(SiteCertificate).filter(revoked_at=None).count() == 0
        assert owned(PollSchedule).get().next_poll_at <= timezone.now()
        with pytest.raises(EnrolmentRefused) as refused:
            renewable(identity.renew_request(b"n" * 48))
        assert refused.value.code == "revoked"

    def test_a_certificate_that_was_made_while_its_keys_were_revoked_is_written_as_revoked(
        self, make_site: Any, issued: Any
    ) -> None:
        site = make_site()
        present(site, pre_authorised=True)
        pk = owned(SiteIdentity).get().pk
        made = issued(site)
        joining.revoke(actor=TEST, rights=everything(), site=site, reason=REASON)
        record_certificates([(pk, made)], route="renew")
        site.refresh_from_db(using="owner")
        assert (site.tls_name, site.tls_pin) == ("", "")
        assert owned(SiteCertificate).get().revoked_at is not None

    def test_freezing_keeps_what_the_site_has(self, make_site: Any, certified: Any) -> None:
        site = make_site()
        present(site, pre_authorised=True)
        certified(site)
        site.refresh_from_db(using="owner")
        joining.freeze(actor=TEST, rights=everything(), site=site, reason=REASON)
        frozen = Site.objects.using("owner").get(pk=site.pk)
        assert (frozen.tls_name, frozen.tls_pin, frozen.identity_frozen_reason) == (
            *(site.tls_name, site.tls_pin),
            REASON,
        )
        assert set(states().values()) == {"accepted"}
        with pytest.raises(Conflict, match="frozen already"):
            joining.freeze(actor=TEST, rights=everything(), site=site, reason=REASON)

    def test_nothing_is_accepted_while_frozen_and_thawing_withdraws_the_join_string(self, make_site: Any) -> None:
        site = make_site()
        waiting = present(site)
        joining.freeze(actor=TEST, rights=everything(), site=site, reason=REASON)
        with pytest.raises(Conflict, match="frozen"):
            joining.accept(actor=TEST, rights=everything(), site=site, fingerprint=waiting.keys.fingerprint)
        joining.thaw(actor=TEST, rights=everything(), site=site, reason=REASON)
        assert owned(JoinToken).filter(withdrawn_at=None).count() == 0
        thawed = Site.objects.using("owner").get(pk=site.pk)
        assert (thawed.identity_frozen_at, thawed.identity_frozen_reason) == (None, "")


def states() -> dict[str, str]:
    return dict(owned(SiteIdentity).values_list("fingerprint", "state"))
