from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from agent.apply.trust import NO_KEY, TrustError, read_trust
from agent.identity import Identity, IdentityError, Keys
from agent.protocol.identity import provider_of, site_name
from tests.agent.apply.documents import KEY, OTHER_KEY, documents_certificate, trusting
from tests.agent.factories import AT, SITE
from tests.pki import Fleet

RAW = KEY.public_key().public_bytes_raw()


def trust_of(identity: Identity) -> Any:
    assert identity.certificates is not None
    return read_trust(identity.certificates)


def test_the_key_that_the_root_has_certified_is_believed(identity: Identity) -> None:
    assert trust_of(identity).at(AT) == (RAW,)
    assert trust_of(identity).problems == ()


def test_a_new_key_beside_the_old_one(fleet: Fleet) -> None:
    both = trusting(
        fleet,
        fleet.site(SITE),
        documents_certificate(fleet, end=AT + timedelta(days=1)),
        documents_certificate(fleet, OTHER_KEY, begin=AT),
    )
    other = OTHER_KEY.public_key().public_bytes_raw()
    assert trust_of(both).at(AT) == (RAW, other)
    assert trust_of(both).at(AT + timedelta(days=2)) == (other,)


def wrong(fleet: Fleet) -> dict[str, str]:
    """Certificates that are not to be believed, by what is wrong."""
    return {
        "no root of this site has issued it": documents_certificate(fleet, issuer=Fleet().root),
        "its key is not of Ed25519": documents_certificate(fleet, ec.generate_private_key(ec.SECP256R1())),
        f"it is not for documents.{fleet.name}": documents_certificate(fleet, name=f"dashboard.{fleet.name}"),
        "its key is not for signatures alone": documents_certificate(fleet, usage=("digital_signature", "crl_sign")),
        "it is that of an issuer": documents_certificate(fleet, ca=True),
    }


def test_each_wrong_certificate_is_refused_with_its_reason(fleet: Fleet) -> None:
    for reason, pem in wrong(fleet).items():
        trust = trust_of(trusting(fleet, fleet.site(SITE), pem))
        assert trust.keys == ()
        assert trust.problems == (f"a certificate for documents is not believed: {reason}",)
        with pytest.raises(TrustError, match=NO_KEY):
            trust.at(AT)


@pytest.mark.parametrize(
    "options",
    [
        {"is_critical": False},
        {"usage": ()},
        {"name": "documents.other.example"},
        {"issuer": "services"},
        {"issuer": "provider"},
    ],
)
def test_a_certificate_of_another_kind_is_refused(fleet: Fleet, options: dict[str, Any]) -> None:
    issuers = {"services": fleet.services, "provider": fleet.issuer(1)}
    if "issuer" in options:  # below the root, but not by it: no issuing CA may say who signs documents
        options = {"issuer": issuers[options["issuer"]]}
    assert trust_of(trusting(fleet, fleet.site(SITE), documents_certificate(fleet, **options))).keys == ()


def test_one_that_cannot_be_read_does_not_hide_the_others(fleet: Fleet) -> None:
    trust = trust_of(trusting(fleet, fleet.site(SITE), "rubbish", documents_certificate(fleet)))
    assert [key.raw for key in trust.keys] == [RAW]
    assert len(trust.problems) == 1


@pytest.mark.parametrize("days", [-800, 4_000])
def test_a_clock_that_is_off_is_said_in_plain_words(identity: Identity, days: int) -> None:
    now = AT + timedelta(days=days)
    with pytest.raises(TrustError) as caught:
        trust_of(identity).at(now)
    assert str(caught.value).startswith(f"the clock of this machine says {now:%Y-%m-%d}")
    assert str(caught.value).endswith("is the clock right?")


class TestRoots:
    """A gateway that was broken into cannot bring a root, and so no keys for documents."""

    def test_another_root_is_refused_at_renewal(self, fleet: Fleet, identity: Identity) -> None:
        thief = Fleet(name=fleet.name)
        forged = trusting(thief, thief.site(SITE, keys=identity.keys)).certificates
        assert forged is not None
        with pytest.raises(IdentityError, match="no root of this site vouches for"):
            identity.with_certificates(forged)

    def test_another_root_beside_the_true_one_is_refused_too(self, fleet: Fleet, identity: Identity) -> None:
        import msgspec

        assert identity.certificates is not None
        both = (fleet.root.pem, Fleet(name=fleet.name).root.pem)
        with pytest.raises(IdentityError, match="no root of this site vouches for"):
            identity.with_certificates(msgspec.structs.replace(identity.certificates, roots=both))

    def test_at_enrolment_the_join_string_names_the_root(self, fleet: Fleet) -> None:
        from cryptography.hazmat.primitives.hashes import SHA256

        keys = Keys.make()
        given = fleet.site(SITE, keys=keys).certificates
        assert given is not None
        true, false = fleet.root.certificate.fingerprint(SHA256()), b"\0" * 32
        assert Identity(SITE, keys).with_certificates(given, root_sha256=true).certificates == given
        with pytest.raises(IdentityError, match="no root of this site vouches for"):
            Identity(SITE, keys).with_certificates(given, root_sha256=false)


def test_the_provider_is_read_from_the_sites_own_name() -> None:
    assert provider_of(site_name("a.example", 7, SITE), "a.example", SITE) == 7
    assert provider_of("dashboard.a.example", "a.example", SITE) is None
