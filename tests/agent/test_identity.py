"""A site's keys and certificates: made, proven, kept, shown."""

import os
import sqlite3
import stat
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from agent.identity import Identity, IdentityError, IdentityFile, Keys, SiteTls, names_of
from agent.protocol.identity import enrol_message, key_fingerprint, renew_message, site_name
from tests.agent.factories import SITE
from tests.agent.wire import ROOT
from tests.fleet.signer.tls import handshake
from tests.pki import FLEET, Fleet, now

NAME = site_name(FLEET, 1, SITE)


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return Fleet()


class TestKeys:
    def test_they_are_of_their_kinds_and_never_the_same(self) -> None:
        one, two = Keys.make(), Keys.make()
        tls_key, signing_key = one.public()
        public = load_der_public_key(tls_key)
        assert isinstance(public, ec.EllipticCurvePublicKey)
        assert (public.curve.name, len(signing_key)) == ("secp256r1", 32)
        assert one.fingerprint == key_fingerprint(tls_key, signing_key) != two.fingerprint

    def test_keys_that_were_exchanged_or_damaged(self) -> None:
        keys = Keys.make()
        swapped = Keys(keys.signing_pem, keys.tls_pem)
        for broken, words in ((swapped, "another kind"), (Keys(b"x", b"y"), "cannot be read")):
            for read in (broken.tls, broken.signing):
                with pytest.raises(IdentityError, match=words):
                    read()

    def test_proofs_of_an_enrolment(self) -> None:
        identity = Identity(SITE, Keys.make())
        request = identity.enrol_request(b"s" * 32, host="h" * 300)
        message = enrol_message(SITE, b"s" * 32, request.tls_key, request.signing_key)
        verify(request.tls_key, request.tls_proof, request.signing_key, request.signing_proof, message)
        assert len(request.host) == 255

    def test_proofs_of_a_renewal(self) -> None:
        identity = Identity(SITE, Keys.make())
        request = identity.renew_request(b"n" * 48)
        message = renew_message(SITE, b"n" * 48, request.tls_key)
        verify(request.tls_key, request.tls_proof, identity.keys.public()[1], request.signing_proof, message)


def verify(tls_key: bytes, tls_proof: bytes, signing_key: bytes, signing_proof: bytes, message: bytes) -> None:
    public = load_der_public_key(tls_key)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(tls_proof, message, ec.ECDSA(hashes.SHA256()))
    Ed25519PublicKey.from_public_bytes(signing_key).verify(signing_proof, message)


class TestCertificates:
    def test_half_life(self, fleet: Fleet) -> None:
        at = now().replace(microsecond=0)
        identity = fleet.site(SITE, at=at)
        assert identity.validity() == (at - timedelta(hours=1), at + timedelta(days=7))
        assert identity.renews_at() == at + timedelta(days=3, hours=11, minutes=30)

    def test_without_one(self) -> None:
        identity = Identity(SITE, Keys.make())
        for read in (identity.validity, identity.renews_at, lambda: SiteTls(identity)):
            with pytest.raises(IdentityError, match=r"^this site has no certificate yet$"):
                read()

    def test_one_for_another_key_is_refused(self, fleet: Fleet) -> None:
        other = fleet.site(SITE).certificates
        assert other is not None
        with pytest.raises(IdentityError, match="for another key"):
            Identity(SITE, Keys.make()).with_certificates(other)

    @pytest.mark.parametrize("where", ["leaf", "issuer", "root"])
    def test_one_that_cannot_be_read_is_refused(self, fleet: Fleet, where: str) -> None:
        identity = fleet.site(SITE)
        assert identity.certificates is not None
        leaf, issuer = identity.certificates.chain
        bad = {
            "leaf": {"chain": ("x", issuer)},
            "issuer": {"chain": (leaf, "x")},
            "root": {"roots": (fleet.root.pem, "x")},
        }[where]
        values = {"gateway": "g:1", "chain": (leaf, issuer), "roots": (fleet.root.pem,), "fleet": FLEET} | bad
        with pytest.raises(IdentityError, match="cannot be read"):
            identity.with_certificates(type(identity.certificates)(**values))


class TestTls:
    def test_it_shows_the_site_and_demands_the_dashboard(self, fleet: Fleet) -> None:
        door = SiteTls(fleet.site(SITE))
        met = handshake(door.context, fleet.dashboard, NAME)
        assert (met.server, met.client, met.version) == ("", "", "TLSv1.3")
        assert (met.server_saw, met.client_saw) == ((f"dashboard.{FLEET}",), (NAME,))
        assert (door.names, door.caller) == ({NAME}, f"dashboard.{FLEET}")

    def test_a_renewal_shows_in_new_connections(self, fleet: Fleet) -> None:
        identity = fleet.site(SITE)
        door = SiteTls(identity)
        door.update(fleet.site(SITE, provider_id=2, keys=identity.keys))
        moved = site_name(FLEET, 2, SITE)
        assert door.names == {moved}
        assert handshake(door.context, fleet.dashboard, moved).client_saw == (moved,)

    def test_a_certificate_that_does_not_fit_its_key_is_one_line(self, fleet: Fleet) -> None:
        with pytest.raises(IdentityError, match=r"^the site's certificate and key do not fit: "):
            SiteTls(replace(fleet.site(SITE), keys=Keys.make()))

    def test_names(self) -> None:
        assert names_of({"subjectAltName": (("DNS", "a"), ("IP Address", "10.0.0.1"), ("DNS", "b"))}) == ["a", "b"]
        assert [names_of(nothing) for nothing in (None, {}, {"subjectAltName": "x"})] == [[], [], []]


class TestFile:
    def test_what_was_put_is_there_and_only_for_this_user(self, fleet: Fleet, tmp_path: Path) -> None:
        path = tmp_path / "state" / "identities"
        one, two = fleet.site(SITE), Identity(UUID(int=2), Keys.make())
        before = os.umask(0)
        try:
            IdentityFile(path).put(one, two)
        finally:
            os.umask(before)
        again = IdentityFile(path)
        assert again.all([one.site, two.site, UUID(int=3)]) == {one.site: one, two.site: two}
        assert (again.get(SITE), again.get(UUID(int=3))) == (one, None)
        assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o600, 0o700)
        assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}

    def test_a_newer_one_takes_the_place(self, fleet: Fleet, tmp_path: Path) -> None:
        file, identity = IdentityFile(tmp_path / "i"), fleet.site(SITE)
        file.put(replace(identity, certificates=None))
        file.put(identity)
        assert file.all([SITE]) == {SITE: identity}

    @pytest.mark.parametrize("content", [b"not a database", b"x" * 8_192])
    def test_a_damaged_file_is_one_line(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "i"
        path.write_bytes(content)
        with pytest.raises(IdentityError, match=f"^{path} cannot be used: "):
            IdentityFile(path)
        assert path.read_bytes() == content

    def test_damaged_certificates_are_one_line(self, fleet: Fleet, tmp_path: Path) -> None:
        path = tmp_path / "i"
        file = IdentityFile(path)
        file.put(fleet.site(SITE))
        with sqlite3.connect(path) as database:
            database.execute("UPDATE identity SET certificates = '{}'")
        database.close()
        with pytest.raises(IdentityError, match=f"^{path} cannot be read: "):
            file.get(SITE)

    def test_a_kill_leaves_the_old_or_the_new(self, tmp_path: Path) -> None:
        path = tmp_path / "i"
        code = (
            "import sys; from pathlib import Path; from uuid import UUID\n"
            "from agent.identity import Identity, IdentityFile, Keys\n"
            f"file = IdentityFile(Path({str(path)!r}))\n"
            "sites = [UUID(int=n) for n in range(1, 51)]\n"
            "while True:\n"
            "    keys = Keys.make()\n"
            "    file.put(*(Identity(site, keys) for site in sites))\n"
            "    print('kept', flush=True)\n"
        )
        for wait in range(1, 6):
            process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            for _ in range(wait):
                process.stdout.readline()
            process.kill()
            process.wait()
            process.stdout.close()
            found = IdentityFile(path).all([UUID(int=n) for n in range(1, 51)])
            assert (len(found), len({identity.keys for identity in found.values()})) == (50, 1)
