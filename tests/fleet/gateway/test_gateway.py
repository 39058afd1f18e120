"""The gateway as sites and strangers meet it: real TLS, a real signer, a real database (matrix row 17)."""

import gzip
import hashlib
import socket
import ssl
import threading
import time
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import psutil
import pytest
from aiohttp.test_utils import TestClient, TestServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from django.utils import timezone

from agent.calling import CallError, fetch_roots, trusted
from agent.identity import Identity, IdentityFile, Keys, SiteTls, load_chain
from agent.keeping import Keeper, open_identities
from agent.protocol.identity import (
    EnrolRequest,
    NonceAnswer,
    decode_identity,
    encode_identity,
    enrol_message,
    read_join,
    site_name,
    tls_pin,
)
from fleet.gateway import app as gateway_module
from fleet.gateway.app import Gateway
from fleet.kit import signing
from fleet.kit.models import AuditEntry
from sites.models import Site, SiteCertificate, SiteIdentity
from sites.services import joining
from tests.conftest import TEST, everything
from tests.fleet.gateway.conftest import Centre, restart_signer
from tests.fleet.signer.tls import handshake
from tests.flows.system import wait_for
from tests.pki import Fleet, public_der
from tests.sites.joined import join, owned, request_of

ROUTES = [("GET", "roots"), ("GET", "nonce"), ("POST", "enrol"), ("POST", "renew")]
REASON = "the cabinet was open"


def row(site: Site) -> Site:
    return owned(Site).get(pk=site.pk)


class TestJoining:
    def test_a_site_joins_is_accepted_and_certified_and_the_dashboard_reaches_it(
        self, centre: Centre, make_site: Any
    ) -> None:
        site = make_site()
        text = joining.make_join(
            actor=TEST, rights=everything(), site=site, root_sha256=bytes.fromhex(centre.roots.root_sha256)
        )
        said = read_join(text)
        caller = centre.caller(trusted(fetch_roots(said)))
        identity = Identity(said.site, Keys.make())
        waiting = caller.enrol(identity, said.secret, host="host-1")
        assert (waiting.state, waiting.fingerprint, waiting.certificates, waiting.retry_s) == (
            *("pending", identity.keys.fingerprint),
            *(None, 5.0),
        )
        assert row(site).tls_name == ""
        joining.accept(actor=TEST, rights=everything(), site=site, fingerprint=waiting.fingerprint)
        accepted = caller.enrol(identity, said.secret, host="host-1")
        assert accepted.certificates is not None
        identity = identity.with_certificates(accepted.certificates)
        name = site_name(centre.roots.fleet, site.provider_id, site.uuid)
        assert (row(site).tls_name, row(site).tls_pin) == (name, tls_pin(identity.keys.public()[0]))
        certificate = owned(SiteCertificate).get()
        leaf = x509.load_pem_x509_certificate(accepted.certificates.chain[0].encode())
        assert (certificate.serial, certificate.route) == (f"{leaf.serial_number:032x}", "enrol")
        assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == timedelta(days=7, hours=1)
        door = SiteTls(identity)
        met = handshake(door.context, signing.service_context("dashboard").context, name)
        assert (met.server, met.client, met.server_saw, met.client_saw) == ("", "", (door.caller,), (name,))

    def test_somebody_in_between_is_noticed_before_the_secret_is_sent(self, centre: Centre, make_site: Any) -> None:
        text = joining.make_join(
            actor=TEST, rights=everything(), site=make_site(), root_sha256=hashlib.sha256(b"another root").digest()
        )
        with pytest.raises(CallError, match="somebody is in between") as refused:
            fetch_roots(read_join(text))
        assert refused.value.code == "root"

    def test_an_honest_retry_gets_the_same_answer(self, centre: Centre, make_site: Any) -> None:
        site = make_site()
        secret, caller = join(site, pre_authorised=True), centre.caller()
        identity = Identity(site.uuid, Keys.make())
        answers = [caller.enrol(identity, secret, host="host-1") for _ in range(3)]
        assert {(answer.state, answer.fingerprint) for answer in answers} == {("accepted", identity.keys.fingerprint)}
        for answer in answers:
            assert answer.certificates is not None
            assert identity.with_certificates(answer.certificates).certificates == answer.certificates
        assert owned(SiteIdentity).count() == 1
        assert row(site).identity_frozen_at is None

    def test_the_same_request_sent_again_by_another_is_worth_nothing_without_the_keys(
        self, centre: Centre, make_site: Any
    ) -> None:
        site = make_site()
        request = request_of(site, join(site, pre_authorised=True))
        assert centre.caller().post(request)[0] == 200
        status, answer = centre.caller().post(request)
        assert status == 200
        thief = Identity(site.uuid, Keys.make())
        leaf = x509.load_pem_x509_certificate(answer["certificates"]["chain"][0].encode())
        assert leaf.public_key() != thief.keys.tls().public_key()

    def test_a_keeper_joins_a_site_and_keeps_its_certificate(
        self, centre: Centre, make_site: Any, tmp_path: Any
    ) -> None:
        site = make_site()
        said = read_join(
            joining.make_join(
                actor=TEST,
                rights=everything(),
                site=site,
                root_sha256=bytes.fromhex(centre.roots.root_sha256),
                pre_authorised=True,
            )
        )
        file, renewed = IdentityFile(tmp_path / "identities"), []
        keeper = Keeper(file, open_identities(file, [site.uuid]).values(), {site.uuid: said}, renewed.append)
        keeper.start()
        try:
            wait_for(lambda: renewed, what="the certificate")
        finally:
            keeper.stop()
        kept = file.get(site.uuid)
        assert kept == renewed[0]
        assert row(site).tls_pin == tls_pin(kept.keys.public()[0])


class TestOtherKeys:
    def test_they_freeze_the_site_and_alarm_and_it_keeps_what_it_has(self, centre: Centre, make_site: Any) -> None:
        site = make_site()
        secret = join(site, pre_authorised=True)
        honest = centre.enrolled(site, secret)
        before, thief = row(site), centre.caller()
        assert thief.code(request_of(site, secret)) == (403, "frozen")
        after = row(site)
        assert (after.tls_name, after.tls_pin) == (before.tls_name, before.tls_pin)
        assert after.identity_frozen_reason == f"a join string was used with other keys (from {thief.source})"
        assert owned(AuditEntry).get(action="identity.alarm").after == {"frozen": True, "from": thief.source}
        with pytest.raises(CallError) as refused:
            centre.caller().renew(honest)
        assert refused.value.code == "frozen"
        with pytest.raises(CallError) as refused:
            centre.caller().enrol(honest, secret, host="host-1")
        assert refused.value.code == "frozen"
        assert owned(SiteCertificate).filter(revoked_at=None).count() == 1

    def test_two_at_once_have_one_winner(self, centre: Centre, make_site: Any) -> None:
        site = make_site()
        secret = join(site)
        requests = [request_of(site, secret) for _ in range(2)]
        callers, gate = [centre.caller() for _ in range(2)], threading.Barrier(2)
        said: list[Any] = [None, None]

        def call(number: int) -> None:
            gate.wait()
            said[number] = callers[number].post(requests[number])

        threads = [threading.Thread(target=call, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(status for status, _ in said) == [200, 403]
        winner = next(number for number, (status, _) in enumerate(said) if status == 200)
        assert said[winner][1]["state"] == "pending"
        assert said[1 - winner][1]["error"]["code"] == "frozen"
        assert bytes(owned(SiteIdentity).get().signing_key) == requests[winner].signing_key
        assert owned(AuditEntry).filter(action="identity.alarm").count() == 1
        assert row(site).identity_frozen_at is not None

    def test_many_at_once_with_the_same_keys_are_one(self, centre: Centre, make_site: Any) -> None:
        site = make_site()
        request, caller = request_of(site, join(site, pre_authorised=True)), centre.caller()
        said: list[int] = []
        threads = [threading.Thread(target=lambda: said.append(caller.post(request)[0])) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert said == [200] * 8
        assert owned(SiteIdentity).count() == 1
        assert row(site).identity_frozen_at is None


class TestRefusals:
    def test_expired_withdrawn_for_another_site_and_guessed(self, centre: Centre, make_site: Any) -> None:
        one, two, three = make_site(), make_site(), make_site()
        withdrawn = join(one)
        current = join(one)
        expired = join(two, expires_at=timezone.now())
        caller = centre.caller()
        assert caller.code(request_of(one, withdrawn)) == (403, "withdrawn")
        assert caller.code(request_of(two, expired)) == (403, "expired")
        assert caller.code(request_of(three, current)) == (403, "unknown_token")
        assert caller.code(request_of(one, b"g" * 32)) == (403, "unknown_token")
        assert caller.code(request_of(replace_uuid(one), current)) == (403, "unknown_token")
        assert not owned(SiteIdentity).exists()
        assert not owned(Site).exclude(identity_frozen_at=None).exists()

    def test_who_guesses_must_wait_and_the_honest_site_gets_in(self, centre: Centre, make_site: Any) -> None:
        site = make_site()
        secret, guesser = join(site), centre.caller()
        said = [guesser.code(request_of(site, bytes([number]) * 32)) for number in range(33)]
        assert said == [(403, "unknown_token")] * 30 + [(429, "slow_down")] * 3
        assert guesser.code(request_of(site, secret)) == (429, "slow_down")  # nor with the right one
        assert {guesser.send(method, f"/agent/v1/{name}", b"{}")[0] for method, name in ROUTES} == {429}
        assert centre.caller().post(request_of(site, secret))[0] == 200

    @pytest.mark.parametrize("field", ["tls_proof", "signing_proof", "tls_key", "signing_key"])
    def test_wrong_proofs(self, centre: Centre, make_site: Any, field: str) -> None:
        site = make_site()
        secret = join(site)
        other = getattr(request_of(site, b"o" * 32), field)
        request = msgspec.structs.replace(request_of(site, secret), **{field: other})
        assert centre.caller().code(request) == (403, "proof")
        assert not owned(SiteIdentity).exists()

    @pytest.mark.parametrize("kind", ["P-384", "RSA", "unknown"])
    def test_a_key_of_another_kind(self, centre: Centre, make_site: Any, kind: str) -> None:
        site, keys = make_site(), Keys.make()
        secret, signing_key = join(site, pre_authorised=True), keys.public()[1]
        proof = b"p" * 64
        if kind == "P-384":
            key = ec.generate_private_key(ec.SECP384R1())
            tls_key = public_der(key)
            proof = key.sign(enrol_message(site.uuid, secret, tls_key, signing_key), ec.ECDSA(hashes.SHA256()))
        elif kind == "RSA":
            tls_key = public_der(rsa.generate_private_key(65_537, 1_024))  # type: ignore[arg-type]  # for its DER
        else:
            tls_key = keys.public()[0].replace(b"\x2a\x86\x48\xce\x3d\x02\x01", b"\x2a\x86\x48\xce\x3d\x02\x09")
        request = EnrolRequest(
            protocol=1,
            site=site.uuid,
            secret=secret,
            tls_key=tls_key,
            signing_key=signing_key,
            tls_proof=proof,
            signing_proof=keys.signing().sign(enrol_message(site.uuid, secret, tls_key, signing_key)),
        )
        assert centre.caller().code(request) == (403, "proof")
        assert not owned(SiteIdentity).exists()


def replace_uuid(site: Site) -> Site:
    return Site(uuid=uuid4(), pk=site.pk)


class TestRenewal:
    def test_a_site_renews_with_no_certificate_shown_and_pollers_expect_the_new_one(
        self, centre: Centre, make_site: Any
    ) -> None:
        site = make_site()
        identity = centre.enrolled(site, join(site, pre_authorised=True))
        again = identity.with_certificates(centre.caller().renew(identity))
        assert again.certificates != identity.certificates
        assert [c.route for c in owned(SiteCertificate).order_by("pk")] == ["enrol", "renew"]

    def test_it_may_show_its_certificate_and_another_keys_is_refused(self, centre: Centre, make_site: Any) -> None:
        site = make_site()
        identity = centre.enrolled(site, join(site, pre_authorised=True))
        assert centre.caller(trusted(centre.roots.roots, identity)).renew(identity).fleet == centre.roots.fleet
        stranger = trusted(centre.roots.roots)
        load_chain(stranger, Fleet(centre.roots.fleet).site(site.uuid, provider_id=site.provider_id))
        with pytest.raises(CallError):
            centre.caller(stranger).renew(identity)

    def test_revoked_and_frozen_ask_in_vain(self, centre: Centre, make_site: Any) -> None:
        site = make_site()
        identity = centre.enrolled(site, join(site, pre_authorised=True))

        def code() -> str:
            with pytest.raises(CallError) as refused:
                centre.caller(trusted(centre.roots.roots, identity)).renew(identity)
            return refused.value.code

        joining.freeze(actor=TEST, rights=everything(), site=site, reason=REASON)
        assert code() == "frozen"
        joining.thaw(actor=TEST, rights=everything(), site=site, reason=REASON)
        joining.revoke(actor=TEST, rights=everything(), site=site, reason=REASON)
        assert code() == "revoked"
        assert owned(SiteCertificate).count() == 1

    @pytest.mark.parametrize("nonce", [b"n" * 16, b"n" * 48, b"\0" * 128, b"\xff" * 48])
    def test_a_nonce_that_is_not_ours(self, centre: Centre, make_site: Any, nonce: bytes) -> None:
        site = make_site()
        identity = centre.enrolled(site, join(site, pre_authorised=True))
        assert centre.caller().code(identity.renew_request(nonce)) == (403, "nonce")

    async def test_a_nonce_is_good_for_two_minutes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """In this process, for its clock; the nonce is looked at before anything else."""
        gateway = Gateway()
        monkeypatch.setattr(gateway_module, "renewable", lambda request: (_ for _ in ()).throw(LookupError))
        identity = Identity(UUID(int=1), Keys.make())
        async with TestClient(TestServer(gateway.application())) as client:
            body = await (await client.get("/agent/v1/nonce")).read()
            request = encode_identity(identity.renew_request(decode_identity(body, NonceAnswer).nonce))
            said, clock = [], time.time
            for age_s in (0, 118, 122, -3):  # it was made within a second, and is looked at within another
                monkeypatch.setattr(gateway_module.time, "time", lambda age_s=age_s: clock() + age_s)
                said.append((await client.post("/agent/v1/renew", data=request)).status)
        assert said == [500, 500, 403, 403]  # 500: it went on to renewable(), which breaks here


HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "1 MB": b"x" * 1_000_000,
    "1 MB of JSON": b'{"site": "' + b"x" * 1_000_000 + b'"}',
    "deep lists": b"[" * 30_000,
    "deep objects": b'{"a":' * 10_000,
    "deep in an ignored field": b'{"x":' + b"[" * 30_000,
    "garbage": bytes(range(256)) * 100,
    "NUL": b"\0" * 1_000,
    "not UTF-8": b'{"site": "\xff\xfe"}',
    "surrogate": b'{"protocol": 1, "site": "\\ud800"}',
    "numbers": b'{"protocol": 1e999}',
    "long number": b'{"protocol": ' + b"9" * 5_000 + b"}",
    "NaN": b'{"protocol": NaN}',
    "another protocol": b'{"protocol": 2}',
    "wrong types": b'{"protocol": "1", "site": 7, "secret": [], "tls_key": {}}',
    "list": b"[]",
    "null": b"null",
    "bad base64": b'{"protocol": 1, "site": "3f6c1c1e-7f2d-4c55-9d0a-0a4c8a1f2b10", "secret": "***"}',
}


class TestHostileBytes:
    @pytest.mark.parametrize("route", ROUTES, ids=lambda route: route[1])
    @pytest.mark.parametrize("what", HOSTILE)
    def test_no_body_is_a_fault_of_ours(self, centre: Centre, what: str, route: tuple[str, str]) -> None:
        method, name = route
        for verb in {method, "POST"}:
            status, answer = centre.caller().send(verb, f"/agent/v1/{name}", HOSTILE[what])
            assert status in ({200} if method == verb == "GET" else {400, 405, 413})
            assert "error" in answer or method == "GET"

    @pytest.mark.parametrize(
        "name", ["site", "secret", "tls_key", "signing_key", "tls_proof", "signing_proof", "nonce"]
    )
    def test_every_field_filled_with_noise(self, centre: Centre, name: str) -> None:
        identity = Identity(UUID(int=1), Keys.make())
        noise = [None, "", "AA==", "A" * 60_000, "\ud800", -1, 2**70, 1.5, [], {}, [[]], True, "0" * 36]
        messages = (identity.enrol_request(b"s" * 32, host="h"), identity.renew_request(b"n" * 48))
        for path, message in zip(("enrol", "renew"), messages, strict=True):
            good = msgspec.json.decode(encode_identity(message))
            if name not in good:
                continue
            caller = centre.caller()
            for value in noise:
                try:
                    body = msgspec.json.encode(good | {name: value})
                except (UnicodeEncodeError, OverflowError):
                    continue
                status, _ = caller.send("POST", f"/agent/v1/{path}", body)
                assert status in {400, 403}

    @pytest.mark.parametrize(
        "path", ["/", "/agent/v1/", "/agent/v1/link", "/agent/v1/enrol/../roots", "/%00", "/" + "x" * 9_000]
    )
    @pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "BREW"])
    def test_other_paths_and_methods(self, centre: Centre, method: str, path: str) -> None:
        caller = centre.caller()
        with caller._connect().sock as sock:
            sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            status = int(sock.recv(100).split()[1])
        assert 400 <= status < 500

    def test_a_packed_bomb_is_cut_and_memory_stays(self, centre: Centre) -> None:
        bomb = gzip.compress(b"[" * 500_000_000, 9)
        process = psutil.Process(centre.system._children["gateway"][1].pid)
        before = process.memory_info().rss
        for name in ("enrol", "renew"):
            status, _ = centre.caller().send(
                "POST", f"/agent/v1/{name}", bomb, Content_Encoding="gzip", Content_Type="application/json"
            )
            assert status in {400, 413, 415}
        assert process.memory_info().rss - before < 10 << 20

    @pytest.mark.parametrize(
        "raw",
        [
            b"\x16\x03\x01\xff\xff" + b"\0" * 1_000,
            b"GET /agent/v1/roots HTTP/1.1\r\n\r\n",
            b"\0" * 100_000,
            b"SSH-2.0-x\r\n",
        ],
    )
    def test_what_is_no_tls_ends_and_harms_nobody(self, centre: Centre, raw: bytes) -> None:
        caller = centre.caller()
        with socket.create_connection((caller._host, caller._port), 5) as sock:
            try:
                sock.sendall(raw)
                while sock.recv(4_096):
                    pass
            except (ConnectionError, TimeoutError):
                pass
        assert caller.send("GET", "/agent/v1/roots")[0] == 200

    @pytest.mark.parametrize(
        "raw",
        [
            b"POST /agent/v1/enrol HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
            b"POST /agent/v1/enrol HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
            b"POST /agent/v1/enrol HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            b"POST /agent/v1/enrol HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"GET /agent/v1/roots HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 100_000 + b"\r\n",
            b"GET /agent/v1/roots HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 1_000_000 + b"\r\n\r\n",
            b"HELLO\r\n\r\n",
        ],
        ids=["two lengths", "negative length", "both", "bad chunk", "many headers", "long header", "no HTTP"],
    )
    def test_what_is_no_http_is_refused(self, centre: Centre, raw: bytes) -> None:
        caller = centre.caller()
        got = b""
        with caller._connect().sock as sock:
            try:
                sock.sendall(raw)
                sock.settimeout(3)
                while piece := sock.recv(1 << 16):
                    got += piece
            except (OSError, TimeoutError):
                pass
        assert b"HTTP/1.1 5" not in got
        assert caller.send("GET", "/agent/v1/roots")[0] == 200

    def test_tls_1_2_is_refused(self, centre: Centre) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata="".join(centre.roots.roots))
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(OSError):  # noqa: PT011  # an alert, or a cut connection
            centre.caller(context).send("GET", "/agent/v1/roots")

    def test_its_log_names_no_secret_and_no_traceback(self, centre: Centre, make_site: Any) -> None:
        site = make_site()
        request = request_of(site, b"\xabcret".ljust(32, b"!"))
        centre.caller().post(request)
        log = centre.system.log("gateway").read_text()
        assert "Traceback" not in log
        assert msgspec.json.encode(request.secret).decode().strip('"') not in log


class TestWithoutTheSigner:
    def test_it_says_so_and_goes_on_when_there_is_one_again(self, centre: Centre, make_site: Any) -> None:
        site = make_site()
        secret, identity = join(site, pre_authorised=True), Identity(site.uuid, Keys.make())
        centre.system.kill("signer")
        with pytest.raises(CallError) as refused:
            centre.caller().enrol(identity, secret, host="host-1")
        assert refused.value.code == "unavailable"
        assert row(site).tls_name == ""
        restart_signer(centre)
        assert centre.caller().enrol(identity, secret, host="host-1").state == "accepted"
        assert owned(SiteCertificate).count() == 1

    def test_roots_are_known_without_it(self, centre: Centre) -> None:
        assert centre.caller().roots() == centre.roots.roots
