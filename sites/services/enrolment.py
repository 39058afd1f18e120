"""What sites themselves do about their identity: present keys, have them certified, renew. Called by the gateway.

Nothing here calls the signer: a step decides in one transaction, the signer signs outside of any, and
record_certificate() writes what it made.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from django.conf import settings

from agent.protocol.identity import (
    EnrolmentState,
    EnrolRequest,
    RenewRequest,
    enrol_message,
    key_fingerprint,
    renew_message,
    site_name,
    tls_pin,
)
from fleet.kit import audit, live
from fleet.kit.clock import database_now
from fleet.kit.rows import write_back
from fleet.kit.signing import Issued
from fleet.kit.tenancy import job, scope
from sites.models import JoinToken, PollSchedule, Site, SiteCertificate, SiteIdentity
from sites.services.joining import accept_identity, freeze_site, token_mac
from sites.services.journal_keys import follow_keys
from sites.services.sites import object_of
from sites.states import IdentityState, Life

GATEWAY = job("gateway")
RENEW_WITHIN = timedelta(days=90)
# Sites renew at half-life. One that cannot reach the gateway is renewed by the centre from then on.
PUSH_AFTER = 0.75


class EnrolmentRefused(Exception):
    """A site's request about its identity is refused: `code` says why in one word, `message` in a sentence."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Presented:
    """Where the keys that a site presented stand; `identity_id` may be certified when they are accepted."""

    state: EnrolmentState
    identity_id: int
    fingerprint: str
    detail: str = ""


def present_keys(request: EnrolRequest, *, remote: str) -> Presented:
    """Take the keys of an enrolment, or say where they stand: the same request always gets the same answer.

    Other keys with a token that was used freeze the site. Audited. Raises EnrolmentRefused.
    """
    _check_proofs(request)
    with scope(GATEWAY):
        token = JoinToken.objects.filter(mac=token_mac(request.secret)).first()
        named = Site.objects.select_for_update(no_key=True).filter(uuid=request.site)
        site = named.filter(pk=token.site_id).first() if token else None
        if token is None or site is None:
            raise EnrolmentRefused("unknown_token", "This join string is not known here, or not for this site.")
        _check_life(site)
        token.refresh_from_db(fields=["withdrawn_at"])  # now that nobody can withdraw it any more
        identity = SiteIdentity.objects.filter(token=token).first()
        frozen = site.identity_frozen_at is not None
        if identity is not None and not _same_keys(identity, request):
            if token.withdrawn_at is not None:  # else whoever once had it could freeze the site for ever, thaw or not
                raise _withdrawn()
            if not frozen:  # one alarm, however often it is tried
                _alarm(site, "a join string was used with other keys", remote)
            frozen = True
        if not frozen and identity is None:
            identity = _take_keys(token, site, request, remote)
    # Outside of the transaction, which must keep the freeze.
    if frozen or identity is None:
        raise EnrolmentRefused("frozen", "The identity of this site is frozen; its operators must look into it.")
    return _standing(identity)


def _take_keys(token: JoinToken, site: Site, request: EnrolRequest, remote: str) -> SiteIdentity:
    """Write new keys down as waiting, or as accepted where the token says so. The site is locked."""
    now = database_now()
    if token.withdrawn_at is not None:
        raise _withdrawn()
    if token.expires_at <= now:
        raise EnrolmentRefused("expired", "This join string has expired; ask for a new one.")
    revoked = SiteIdentity.objects.filter(state=IdentityState.REVOKED, signing_key=request.signing_key)
    if revoked.exists():  # whoever stole them would come back with them
        raise EnrolmentRefused("revoked_keys", "These keys were revoked; the agent must make new ones.")
    SiteIdentity.objects.filter(site=site, state=IdentityState.PENDING).update(
        state=IdentityState.REPLACED, decided_at=now, decided_by="a newer enrolment"
    )
    identity = SiteIdentity(
        site=site,
        provider_id=site.provider_id,
        token=token,
        tls_key=request.tls_key,
        signing_key=request.signing_key,
        fingerprint=key_fingerprint(request.tls_key, request.signing_key),
        agent=_printable(request.agent),
        host=_printable(request.host),
        remote=remote[:64],
    )
    identity.save(force_insert=True)
    audit.record(
        GATEWAY,
        "identity.present",
        **object_of(site),
        after={"fingerprint": identity.fingerprint, "from": remote, "pre_authorised": token.pre_authorised},
    )
    if token.pre_authorised:
        accept_identity(identity, by=f"pre-authorised by {token.made_by}"[:150], now=now)
    live.publish(hints=[((topic, pk), site.provider_id) for topic, pk in (("attention", 0), ("site", site.pk))])
    return identity


def renewable(request: RenewRequest) -> int:
    """The id of the identity that may certify the key of a renewal. Takes another TLS key over. Audited when it does.

    Raises EnrolmentRefused: nothing accepted, revoked, frozen, a wrong proof, away for more than RENEW_WITHIN.
    """
    with scope(GATEWAY):
        site = Site.objects.select_for_update(no_key=True).filter(uuid=request.site).first()
        if site is None:
            raise EnrolmentRefused("not_enrolled", "This site is not known here.")
        _check_life(site)
        identity = SiteIdentity.objects.filter(site=site, state=IdentityState.ACCEPTED).first()
        if identity is None:
            revoked = SiteIdentity.objects.filter(site=site, state=IdentityState.REVOKED).exists()
            raise EnrolmentRefused("revoked" if revoked else "not_enrolled", "This site has no accepted keys.")
        message = renew_message(request.site, request.nonce, request.tls_key)
        if not (
            _signed(bytes(identity.signing_key), request.signing_proof, message)
            and _tls_signed(request.tls_key, request.tls_proof, message)
        ):
            raise EnrolmentRefused("proof", "The request is not signed by the keys of this site.")
        if site.identity_frozen_at is not None:
            raise EnrolmentRefused("frozen", "The identity of this site is frozen; its operators must look into it.")
        newest = SiteCertificate.objects.filter(identity=identity).order_by("-not_after").first()
        if newest is not None and newest.not_after + RENEW_WITHIN < database_now():
            raise EnrolmentRefused("too_late", "The site was away for more than 90 days; it must join again.")
        if bytes(identity.tls_key) != request.tls_key:
            identity.tls_key = request.tls_key
            identity.save(update_fields=["tls_key"])
            audit.record(GATEWAY, "identity.new_tls_key", **object_of(site), after={"pin": tls_pin(request.tls_key)})
    return identity.pk


def record_certificates(made: Sequence[tuple[int, Issued]], *, route: str) -> set[int]:
    """Write down certificates that the signer made for accepted identities: from now on pollers expect them.

    Pairs of (identity id, what was issued). Returns the identities whose certificates count: the others were revoked,
    replaced or frozen since.
    """
    with scope(GATEWAY):
        good = add_certificates(made, route=route)
        expect_certificates(good)
    return {pk for pk, _ in good}


def add_certificates(made: Sequence[tuple[int, Issued]], *, route: str) -> list[tuple[int, Issued]]:
    """Write certificates down, within the open scope, and lock their sites. Returns those that count.

    One whose identity is no longer accepted, or was frozen since it was signed, is written as revoked.
    """
    issued = dict(made)
    identities = SiteIdentity.objects.in_bulk(list(issued))
    _locked([identity.site_id for identity in identities.values()])
    good = set(
        SiteIdentity.objects.filter(
            pk__in=issued, state=IdentityState.ACCEPTED, site__identity_frozen_at=None
        ).values_list("pk", flat=True)
    )
    now = database_now()
    SiteCertificate.objects.bulk_create(
        [
            SiteCertificate(
                site_id=identity.site_id,
                provider_id=identity.provider_id,
                identity=identity,
                serial=issued[pk].serial,
                sha256=issued[pk].sha256,
                tls_pin=tls_pin(bytes(identity.tls_key)),
                not_before=issued[pk].not_before,
                not_after=issued[pk].not_after,
                route=route,
                revoked_at=None if pk in good else now,
            )
            for pk, identity in identities.items()
        ]
    )
    return [(pk, one) for pk, one in made if pk in good]


def expect_certificates(made: Sequence[tuple[int, Issued]]) -> None:
    """From now on pollers expect these certificates, and poll at once. Within the open scope; locks the sites."""
    issued = dict(made)
    identities = SiteIdentity.objects.filter(state=IdentityState.ACCEPTED).in_bulk(list(issued))
    sites = {site.pk: site for site in _locked([identity.site_id for identity in identities.values()])}
    now = database_now()
    for pk, identity in identities.items():
        site, one = sites[identity.site_id], issued[pk]
        site.tls_name, site.tls_pin = one.name, tls_pin(bytes(identity.tls_key))
        # Handed over since it was signed: the new provider's CA certifies it at once.
        own = one.name == site_name(settings.FLEET_NAME, site.provider_id, site.uuid)
        site.tls_push_at = one.not_before + (one.not_after - one.not_before) * PUSH_AFTER if own else now
    write_back(sites.values(), ["tls_name", "tls_pin", "tls_push_at"])
    follow_keys(sorted(identities))
    PollSchedule.objects.filter(site__in=sites, next_poll_at__gt=now).update(next_poll_at=now, backoff=1)


# ------------------------------------------------------------------------------------------------------------
def _locked(site_ids: Sequence[int]) -> Sequence[Site]:
    # Not against those who only point at a site: who stores its reports holds its state, which is wanted next.
    return list(Site.objects.select_for_update(of=("self",), no_key=True).filter(pk__in=site_ids).order_by("pk"))


def _check_life(site: Site) -> None:
    if site.life == Life.RETIRED:
        raise EnrolmentRefused("retired", "This site is retired.")


def _withdrawn() -> EnrolmentRefused:
    return EnrolmentRefused("withdrawn", "This join string was withdrawn; ask for the newest one.")


def _standing(identity: SiteIdentity) -> Presented:
    if identity.state == IdentityState.REVOKED:
        raise EnrolmentRefused("revoked", "The keys of this site were revoked.")
    if identity.state == IdentityState.REPLACED:
        raise EnrolmentRefused("replaced", "Newer keys of this site took the place of these.")
    states: dict[str, EnrolmentState] = {"pending": "pending", "accepted": "accepted", "rejected": "rejected"}
    return Presented(states[identity.state], identity.pk, identity.fingerprint, identity.reason)


def _alarm(site: Site, why: str, remote: str) -> None:
    freeze_site(site, f"{why} (from {remote})")
    audit.record(GATEWAY, "identity.alarm", **object_of(site), after={"frozen": True, "from": remote}, note=why)
    live.publish(hints=[((topic, pk), site.provider_id) for topic, pk in (("attention", 0), ("site", site.pk))])


def _same_keys(identity: SiteIdentity, request: EnrolRequest) -> bool:
    """The signing key says who it is; a TLS key may have been renewed since."""
    return bytes(identity.signing_key) == request.signing_key


def _check_proofs(request: EnrolRequest) -> None:
    message = enrol_message(request.site, request.secret, request.tls_key, request.signing_key)
    if not _tls_signed(request.tls_key, request.tls_proof, message):
        raise EnrolmentRefused("proof", "The request is not signed by its TLS key, which must be P-256.")
    if not _signed(request.signing_key, request.signing_proof, message):
        raise EnrolmentRefused("proof", "The request is not signed by its signing key.")


def _signed(key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _tls_signed(key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        public = load_der_public_key(key)
        if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
            return False
        if public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != key:
            return False  # a compressed point, say: pollers pin the usual form, and the signer certifies no other
        public.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
