"""Certificates: what stands in them, and what OpenSSL makes of them in real handshakes."""

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleet.signer import authority
from fleet.signer.authority import SignerError
from tests.fleet.signer.tls import Outcome, Party, context, handshake, new_key, public_der, rogue

FLEET = "demo.example"
SITE = UUID("11111111-2222-4333-8444-555555555555")
OTHER = UUID("99999999-2222-4333-8444-555555555555")
NAME = f"s-{SITE}.p7.sites.{FLEET}"
NOW = datetime.now(tz=UTC)
LONG_AGO = NOW - timedelta(days=30)
SECOND = timedelta(seconds=1)

ROOT = authority.make_root(FLEET, LONG_AGO)
P7 = authority.make_provider_issuer(ROOT, FLEET, 7, LONG_AGO)
P8 = authority.make_provider_issuer(ROOT, FLEET, 8, LONG_AGO)
SERVICES = authority.make_services_issuer(ROOT, FLEET, LONG_AGO)


def site(issuer=P7, *, provider_id=7, uuid=SITE, now=NOW, fleet=FLEET) -> Party:
    key = new_key()
    issued = authority.certify_site(
        issuer, fleet=fleet, provider_id=provider_id, site=uuid, tls_key=public_der(key), now=now
    )
    return Party(key, issued.chain_pem)


def service(which, now=NOW) -> Party:
    key = new_key()
    issued = authority.certify_service(SERVICES, fleet=FLEET, service=which, tls_key=public_der(key), now=now)
    return Party(key, issued.chain_pem)


def meet(server: Party | None, client: Party | None, name: str = NAME) -> Outcome:
    return handshake(
        context(ssl.PROTOCOL_TLS_SERVER, server, ROOT.pem), context(ssl.PROTOCOL_TLS_CLIENT, client, ROOT.pem), name
    )


def extensions(certificate: x509.Certificate) -> list[tuple[type, bool]]:
    return [(type(extension.value), extension.critical) for extension in certificate.extensions]


def usages(certificate: x509.Certificate) -> set[str]:
    found = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    return {
        name for name in ("digital_signature", "key_cert_sign", "crl_sign", "key_agreement") if getattr(found, name)
    }


# What stands in them ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(("ca", "length", "days"), [(ROOT, 1, 7305), (P7, 0, 1826), (SERVICES, 0, 1826)])
def test_a_ca_signs_certificates_and_nothing_else(ca, length, days):
    found = ca.certificate
    basic = found.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value) == (True, x509.BasicConstraints(ca=True, path_length=length))
    assert usages(found) == {"key_cert_sign", "crl_sign"}
    assert found.not_valid_after_utc == (LONG_AGO + timedelta(days=days)).replace(microsecond=0)
    assert found.not_valid_before_utc == (LONG_AGO - timedelta(hours=1)).replace(microsecond=0)
    assert found.signature_hash_algorithm.name == "sha256"
    assert isinstance(found.public_key().curve, ec.SECP256R1)
    kinds = dict(extensions(found))
    assert kinds[x509.KeyUsage] is True
    assert {x509.SubjectKeyIdentifier, x509.AuthorityKeyIdentifier} <= set(kinds)


def test_the_cas_are_named_after_the_fleet():
    assert ROOT.certificate.subject.rfc4514_string() == "CN=Archipelago root,DC=demo,DC=example"
    assert P7.certificate.subject.rfc4514_string() == "CN=Archipelago sites of provider 7,DC=demo,DC=example"
    assert SERVICES.certificate.subject.rfc4514_string() == "CN=Archipelago services,DC=demo,DC=example"
    assert P7.certificate.issuer == ROOT.certificate.subject


@pytest.mark.parametrize(
    ("ca", "permitted"),
    [(P7, ["p7.sites.demo.example"]), (SERVICES, ["dashboard.demo.example", "gateway.demo.example"])],
)
def test_an_issuing_ca_can_name_its_own_and_no_address(ca, permitted):
    found = ca.certificate.extensions.get_extension_for_class(x509.NameConstraints)
    assert found.critical is True
    assert found.value.permitted_subtrees == [x509.DNSName(name) for name in permitted]
    every = [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]
    assert [subtree.value for subtree in found.value.excluded_subtrees] == every


def test_the_root_has_no_constraint_and_a_short_lived_root_bounds_its_issuers():
    assert x509.NameConstraints not in dict(extensions(ROOT.certificate))
    old = authority.make_root(FLEET, NOW - timedelta(days=7000))
    issuer = authority.make_provider_issuer(old, FLEET, 7, NOW)
    assert issuer.certificate.not_valid_after_utc == old.certificate.not_valid_after_utc


def test_a_site_leaf():
    key = new_key()
    issued = authority.certify_site(P7, fleet=FLEET, provider_id=7, site=SITE, tls_key=public_der(key), now=NOW)
    leaf = x509.load_pem_x509_certificate(issued.chain_pem[0].encode())
    assert issued.chain_pem[1] == P7.pem
    assert public_der(key) == leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert leaf.subject.rfc4514_string() == f"CN=s-{SITE}"
    assert list(leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value) == [x509.DNSName(NAME)]
    assert issued.name == NAME
    assert usages(leaf) == {"digital_signature"}
    assert list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    ]
    assert extensions(leaf) == [
        (x509.BasicConstraints, True),
        (x509.KeyUsage, True),
        (x509.ExtendedKeyUsage, False),
        (x509.SubjectAlternativeName, False),
        (x509.SubjectKeyIdentifier, False),
        (x509.AuthorityKeyIdentifier, False),
    ]
    begin = (NOW - timedelta(hours=1)).replace(microsecond=0)
    assert (leaf.not_valid_before_utc, issued.not_before) == (begin, begin)
    end = (NOW + timedelta(days=7)).replace(microsecond=0)
    assert (leaf.not_valid_after_utc, issued.not_after) == (end, end)
    assert f"{leaf.serial_number:032x}" == issued.serial
    assert leaf.serial_number < 2**128
    authority.check_issuer(P7, ROOT, ("p7.sites.demo.example",))
    leaf.verify_directly_issued_by(P7.certificate)


def test_serials_are_128_bits_of_chance():
    serials = [int(x509.load_pem_x509_certificate(site().chain_pem[0].encode()).serial_number) for _ in range(64)]
    assert len(set(serials)) == 64
    assert max(serial.bit_length() for serial in serials) > 120
    assert max(serial.bit_length() for serial in serials) <= 128


def test_service_leaves():
    for which, usage in (
        ("dashboard", ExtendedKeyUsageOID.CLIENT_AUTH),
        ("gateway", ExtendedKeyUsageOID.SERVER_AUTH),
    ):
        leaf = x509.load_pem_x509_certificate(service(which).chain_pem[0].encode())
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert list(names) == [x509.DNSName(f"{which}.{FLEET}")]
        assert list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [usage]
        assert leaf.not_valid_after_utc == (NOW + timedelta(hours=24)).replace(microsecond=0)


def test_the_longest_fleet_name_works_and_no_other_name_gets_in():
    fleet = ".".join(["a" * 59, "b" * 60])
    assert len(fleet) == 120
    root = authority.make_root(fleet, NOW)
    issuer = authority.make_provider_issuer(root, fleet, 2**31 - 1, NOW)
    party = site(issuer, provider_id=2**31 - 1, fleet=fleet)
    name = f"s-{SITE}.p2147483647.sites.{fleet}"
    server = context(ssl.PROTOCOL_TLS_SERVER, party, root.pem)
    client = context(ssl.PROTOCOL_TLS_CLIENT, party, root.pem)
    assert handshake(server, client, name) == Outcome("", "", (name,), (name,), "TLSv1.3")
    with pytest.raises(ValueError, match="not a DNS name"):
        authority.make_root("Demo Example", NOW)


# Keys that are refused --------------------------------------------------------------------------------------
def test_only_p256_in_its_usual_form_is_certified():
    good = new_key().public_key()
    compressed = good.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    usual = good.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    # The same SubjectPublicKeyInfo around the compressed point: lengths 0x59 and 0x42 become 0x39 and 0x22.
    short = usual[:1] + b"\x39" + usual[2:23] + b"\x03\x22\x00" + compressed
    point_off_curve = usual[:-1] + bytes([usual[-1] ^ 1])
    for key, why in (
        (b"", "cannot be read"),
        (b"\x00" * 91, "cannot be read"),
        (usual[:-1], "cannot be read"),
        (usual + b"\x00", "cannot be read"),
        (point_off_curve, "cannot be read"),
        (short, "usual form"),
        (public_der(ec.generate_private_key(ec.SECP384R1())), "not one of P-256"),
        (public_der(ec.generate_private_key(ec.SECP256K1())), "not one of P-256"),
        (public_der(ed25519.Ed25519PrivateKey.generate()), "not one of P-256"),
        (public_der(rsa.generate_private_key(65537, 2048)), "not one of P-256"),
    ):
        with pytest.raises(SignerError, match=why) as caught:
            authority.certify_site(P7, fleet=FLEET, provider_id=7, site=SITE, tls_key=key, now=NOW)
        assert caught.value.code == "key"


def test_an_issuer_does_not_name_what_is_not_its_own():
    key = public_der(new_key())
    for issuer, provider_id in ((P8, 7), (P7, 77), (SERVICES, 7), (ROOT, 7)):
        with pytest.raises(SignerError, match="outside of what its issuer may name"):
            authority.certify_site(issuer, fleet=FLEET, provider_id=provider_id, site=SITE, tls_key=key, now=NOW)
    with pytest.raises(SignerError, match="outside"):
        authority.certify_service(P7, fleet=FLEET, service="dashboard", tls_key=key, now=NOW)


def test_stored_cas_are_checked():
    authority.check_root(ROOT, FLEET)
    authority.check_issuer(SERVICES, ROOT, authority.service_domains(FLEET))
    stranger = authority.make_root(FLEET, NOW)
    with pytest.raises(SignerError, match="another fleet"):
        authority.check_root(ROOT, "other.example")
    with pytest.raises(SignerError, match="does not fit its key"):
        authority.check_root(authority.Issuer(stranger.key, ROOT.certificate), FLEET)
    with pytest.raises(SignerError, match="does not fit its key"):
        authority.check_issuer(authority.Issuer(P8.key, P7.certificate), ROOT, ("p7.sites.demo.example",))
    with pytest.raises(SignerError, match="not made by this root"):
        authority.check_issuer(P7, stranger, ("p7.sites.demo.example",))
    with pytest.raises(SignerError, match="not limited to p8"):
        authority.check_issuer(P7, ROOT, ("p8.sites.demo.example",))


# Real handshakes --------------------------------------------------------------------------------------------
def test_the_right_ones_meet():
    dashboard, right = service("dashboard"), site()
    met = Outcome("", "", ("dashboard.demo.example",), (NAME,), "TLSv1.3")
    assert meet(right, dashboard) == met
    calls_in = meet(service("gateway"), site(), "gateway.demo.example")
    assert calls_in == Outcome("", "", (NAME,), ("gateway.demo.example",), "TLSv1.3")


@pytest.mark.parametrize(
    ("server", "why"),
    [
        (lambda: rogue(P8, NAME, NOW), "permitted subtree violation"),
        (lambda: rogue(SERVICES, NAME, NOW), "permitted subtree violation"),
        (lambda: site(now=NOW - timedelta(days=7) - SECOND), "certificate has expired"),
        (lambda: site(now=NOW + timedelta(hours=2)), "certificate is not yet valid"),
        (lambda: rogue(None, NAME, NOW), "self-signed certificate"),
        (lambda: site(uuid=OTHER), "Hostname mismatch"),
        (lambda: site(P8, provider_id=8), "Hostname mismatch"),
        (lambda: Party((party := site()).key, party.chain_pem[:1]), "unable to get local issuer certificate"),
    ],
)
def test_a_wrong_server_is_refused_with_its_reason(server, why):
    outcome = meet(server(), service("dashboard"))
    assert outcome.client.startswith(why)
    assert (outcome.client_saw, outcome.server_saw == ()) == ((), True)


@pytest.mark.parametrize(
    ("client", "why"),
    [
        (lambda: rogue(P8, NAME, NOW), "permitted subtree violation"),
        (lambda: rogue(P7, "dashboard.demo.example", NOW), "permitted subtree violation"),
        (lambda: rogue(P7, "10.0.0.1", NOW), "permitted subtree violation"),
        (lambda: service("dashboard", now=NOW - timedelta(hours=24) - SECOND), "certificate has expired"),
        (lambda: service("dashboard", now=NOW + timedelta(hours=2)), "certificate is not yet valid"),
        (lambda: service("gateway"), "unsuitable certificate purpose"),
        (lambda: rogue(None, "dashboard.demo.example", NOW), "self-signed certificate"),
        (lambda: None, "PEER_DID_NOT_RETURN_A_CERTIFICATE"),
    ],
)
def test_a_wrong_client_is_refused_with_its_reason(client, why):
    outcome = meet(site(), client())
    assert outcome.server.startswith(why)
    assert outcome.server_saw == ()


def test_wrong_usage_of_a_server():
    outcome = meet(service("dashboard"), site(), "dashboard.demo.example")
    assert outcome.client == "unsuitable certificate purpose"


def test_an_issuer_cannot_make_a_further_issuer():
    below = rogue(P7, "x.p7.sites.demo.example", NOW, ca=True)
    certificate = x509.load_pem_x509_certificate(below.chain_pem[0].encode())
    leaf = rogue(authority.Issuer(below.key, certificate), NAME, NOW)
    outcome = meet(Party(leaf.key, (*leaf.chain_pem, P7.pem)), service("dashboard"))
    assert outcome.client == "path length constraint exceeded"


def test_a_root_of_the_same_name_is_not_the_root():
    stranger = authority.make_root(FLEET, LONG_AGO)
    foreign = authority.make_provider_issuer(stranger, FLEET, 7, LONG_AGO)
    outcome = meet(site(foreign), service("dashboard"))
    assert outcome.client == "unable to get local issuer certificate"


def test_a_renewed_issuer_of_the_same_name_serves_beside_the_old():
    renewed = authority.make_provider_issuer(ROOT, FLEET, 7, NOW)
    assert renewed.certificate.subject == P7.certificate.subject
    for issuer in (P7, renewed):
        assert meet(site(issuer), service("dashboard")).client == ""
    assert NameOID.COMMON_NAME in {part.oid for part in renewed.certificate.subject}
