"""The sender of webhooks against a real receiver: signatures, retries, leases, and addresses that are never called."""

import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections

from fleet.kit.models import AuditEntry
from fleet.kit.tenancy import scope
from fleet.rollouts import sender
from fleet.rollouts.hooks import spelled
from fleet.rollouts.models import WebhookDelivery, WebhookEndpoint
from fleet.rollouts.selectors.webhooks import secrets_of
from fleet.rollouts.sender import send_due
from fleet.rollouts.services import webhooks
from fleet.rollouts.services.sending import Told, claim, record_told
from tests.conftest import TEST, everything
from tests.database import OWNER, rows
from tests.fleet.rollouts.receiver import Receiver, receiving

pytestmark = pytest.mark.usefixtures("database")
WHO: dict[str, Any] = {"actor": TEST, "rights": everything()}
SOON = "UPDATE rollouts_webhookdelivery SET next_at = now() WHERE state = 'waiting' RETURNING id"
LEASE_OVER = "UPDATE rollouts_webhookdelivery SET leased_until = now() - interval '1 s' RETURNING id"


@pytest.fixture
def loopback(settings: Any) -> None:
    """http to this machine is taken, as in development."""
    settings.WEBHOOK_HTTP_LOOPBACK = True


@pytest.fixture
def receiver(loopback: None) -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def endpoint(url: str, **values: Any) -> WebhookEndpoint:
    return webhooks.save_endpoint(**WHO, values={"name": "chat", "url": url, **values})


def put_in(url: str) -> WebhookEndpoint:
    """An endpoint with a test message that is due."""
    row = endpoint(url)
    webhooks.send_test(**WHO, endpoint=row)
    return row


def message() -> WebhookDelivery:
    with scope(TEST):
        return WebhookDelivery.objects.select_related("endpoint").get()


def assert_signed(headers: dict[str, str], body: str, secret: bytes) -> None:
    """As a receiver that was written by the specification checks it."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body}".encode()
    expected = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    assert f"v1,{expected}" in headers["webhook-signature"].split(" ")


# What arrives -----------------------------------------------------------------------------------------------
def test_a_message_arrives_signed_once_and_is_noted(receiver):
    row = put_in(receiver.url)
    receiver.answer(200, b"thank you")
    assert send_due() == 1
    assert send_due() == 0
    ((path, headers, body),) = receiver.got
    found = message()
    assert (path, body) == ("/hook", found.body)
    assert json.loads(body)["type"] == "webhook.test"
    assert headers["content-type"] == "application/json"
    assert headers["webhook-id"] == found.message
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    assert_signed(headers, body, secrets_of(row, found.made_at)[0])
    assert (found.state, found.attempts, found.status, found.answer, found.problem) == (
        *("delivered", 1, 200, "thank you"),
        "",
    )
    assert found.latency_ms is not None
    assert found.latency_ms < 5000
    assert (found.next_at, found.leased_until) == (None, None)


def test_the_example_of_the_document_verifies_what_is_sent(receiver, request):
    text = (request.config.rootpath / "docs/webhooks.md").read_text()
    code = text.partition("```python\n")[2].partition("```")[0]
    assert 5 < code.count("\n") <= 16
    names: dict[str, Any] = {}
    exec(compile(code, "docs/webhooks.md", "exec"), names)
    row = put_in(receiver.url)
    send_due()
    ((_, headers, body),) = receiver.got
    secret = spelled(secrets_of(row, message().made_at)[0])
    verify = names["verify"]
    assert verify(secret, headers, body.encode()) is True
    assert verify(secret, headers, body.encode() + b" ") is False
    assert verify(spelled(b"x" * 32), headers, body.encode()) is False
    assert verify(secret, {**headers, "webhook-id": "msg_other"}, body.encode()) is False
    old = {**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) - 600)}
    assert verify(secret, old, body.encode()) is False
    late = {**headers, "webhook-timestamp": str(int(time.time()) - 600)}
    signed = f"{late['webhook-id']}.{late['webhook-timestamp']}.{body}".encode()
    key = secrets_of(row, message().made_at)[0]
    late["webhook-signature"] = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert verify(secret, late, body.encode()) is False, "replayed ten minutes later"


def test_after_a_rotation_both_secrets_verify(receiver):
    row = endpoint(receiver.url)
    (old,) = secrets_of(row, row.made_at)
    row = webhooks.rotate_secret(**WHO, endpoint=row)
    webhooks.send_test(**WHO, endpoint=row)
    send_due()
    ((_, headers, body),) = receiver.got
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (old, secrets_of(row, message().made_at)[0]):
        assert_signed(headers, body, secret)


# What does not ----------------------------------------------------------------------------------------------
def test_what_fails_is_tried_again_under_the_same_id(receiver):
    row = put_in(receiver.url)
    receiver.answer(500, b"x" * 5000)
    assert send_due() == 1
    found = message()
    assert (found.state, found.attempts, found.status, len(found.answer)) == ("waiting", 1, 500, 500)
    assert found.tried_at is not None
    assert found.next_at is not None
    assert timedelta(seconds=3.9) < found.next_at - found.tried_at < timedelta(seconds=6.1)
    assert found.endpoint.failing_since == found.tried_at
    assert send_due() == 0, "not before its time"
    rows(SOON, using=OWNER)
    assert send_due() == 1
    assert len(set(receiver.ids())) == 1
    assert len(receiver.got) == 2
    found = message()
    assert (found.state, found.attempts, found.answer) == ("delivered", 2, "")
    with scope(TEST):
        assert WebhookEndpoint.objects.get(pk=row.pk).failing_since is None


def test_a_receiver_that_is_down_is_tried_again_when_it_is_up(loopback):
    with receiving() as gone:
        pass
    put_in(gone.url)
    send_due()
    found = message()
    assert (found.state, found.status) == ("waiting", None)
    assert found.problem.startswith("It could not be reached")
    with receiving(gone.port) as back:
        rows(SOON, using=OWNER)
        send_due()
        assert len(back.got) == 1
    assert message().state == "delivered"


def test_after_a_day_it_is_given_up_and_can_be_sent_again(receiver):
    put_in(receiver.url)
    rows("UPDATE rollouts_webhookdelivery SET give_up_at = now() + interval '1 s' RETURNING id", using=OWNER)
    receiver.answer(503)
    send_due()
    found = message()
    assert (found.state, found.next_at, found.endpoint.is_active) == ("given_up", None, True)
    webhooks.redeliver(**WHO, message=found)
    send_due()
    assert message().state == "delivered"
    assert len(set(receiver.ids())) == 1


def test_redelivering_what_has_arrived_sends_the_same_again(receiver):
    put_in(receiver.url)
    send_due()
    webhooks.redeliver(**WHO, message=message())
    send_due()
    (first, second) = receiver.got
    assert (first[1]["webhook-id"], first[2]) == (second[1]["webhook-id"], second[2])


def test_an_endpoint_that_fails_for_three_days_is_switched_off_with_a_sentence(receiver):
    row = put_in(receiver.url)
    webhooks.send_test(**WHO, endpoint=row)
    days = "UPDATE rollouts_webhookendpoint SET failing_since = now() - interval '{}' RETURNING id"
    for span, off in (("71 hours", False), ("73 hours", True)):
        rows(days.format(span), using=OWNER)
        rows(
            "UPDATE rollouts_webhookdelivery SET state = 'waiting', next_at = now(), give_up_at = now()"
            " WHERE id = (SELECT min(id) FROM rollouts_webhookdelivery) RETURNING id",
            using=OWNER,
        )
        rows(
            "UPDATE rollouts_webhookdelivery SET next_at = now() + interval '1 h'"
            " WHERE id = (SELECT max(id) FROM rollouts_webhookdelivery) RETURNING id",
            using=OWNER,
        )
        receiver.answer(500)
        assert send_due() == 1
        with scope(TEST):
            found = WebhookEndpoint.objects.get(pk=row.pk)
        assert found.is_active is not off
    assert found.off_reason == "Nothing has got through for 3 days, and a message was given up."
    with scope(TEST):
        assert set(WebhookDelivery.objects.values_list("state", flat=True)) == {"given_up"}
        entry = AuditEntry.objects.get(action="webhook.off")
    assert (entry.actor, entry.note) == ("job:webhooks", found.off_reason)


def test_a_receiver_that_says_gone_is_believed(receiver):
    row = put_in(receiver.url)
    receiver.answer(410)
    send_due()
    with scope(TEST):
        found = WebhookEndpoint.objects.get(pk=row.pk)
    assert (found.is_active, found.off_reason) == (False, "The receiver answered 410: it wants no more messages.")
    assert message().state == "given_up"


def test_a_receiver_that_hangs_costs_its_deadline_and_nobody_else(receiver, monkeypatch):
    monkeypatch.setattr(sender, "TOTAL_S", 0.5)
    with receiving() as slow:
        slow.delay_s = 1.5
        first = endpoint(slow.url, name="slow")
        webhooks.send_test(**WHO, endpoint=first)
        second = endpoint(receiver.url, name="quick")
        webhooks.send_test(**WHO, endpoint=second)
        send_due()
    with scope(TEST):
        found = {one.endpoint_id: one for one in WebhookDelivery.objects.all()}
    assert found[second.pk].state == "delivered"
    assert (found[first.pk].state, found[first.pk].problem) == ("waiting", "It did not answer within 0.5 s.")


def test_an_answer_without_end_is_cut(loopback, monkeypatch):
    """Headers that never end run into the deadline; a body that never ends is not waited for."""
    monkeypatch.setattr(sender, "TOTAL_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()

        def play() -> None:
            while not stop.is_set():
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    try:
                        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n")
                        while not stop.is_set():
                            connection.sendall(b"x" * 4096)
                    except OSError:
                        continue

        thread = threading.Thread(target=play, daemon=True)
        thread.start()
        put_in(f"http://127.0.0.1:{server.getsockname()[1]}/")
        began = time.monotonic()
        send_due()
        assert time.monotonic() - began < 5
        stop.set()
    thread.join(5)
    found = message()
    assert (found.state, found.status, found.answer) == ("delivered", 200, "x" * 500)


def test_redirects_are_not_followed(receiver):
    with receiving() as other:
        put_in(receiver.url)
        receiver.answer(302, location=other.url)
        send_due()
        assert other.got == []
    found = message()
    assert (found.state, found.status) == ("waiting", 302)
    assert found.problem == "Redirects are not followed; give the address that it leads to."


# Leases -----------------------------------------------------------------------------------------------------
def test_two_senders_never_have_one_message_and_a_dead_ones_is_sent_by_another(receiver):
    row = put_in(receiver.url)
    (mine,) = claim()
    assert claim() == []
    webhooks.send_test(**WHO, endpoint=row)
    assert claim() == [], "one batch an endpoint at a time"
    rows(LEASE_OVER, using=OWNER)
    theirs = claim()
    assert (theirs[0].pk, theirs[0].message) == (mine.pk, mine.message)
    assert record_told(mine, Told(1, 200)) is False, "its lease is lost"
    with scope(TEST):
        assert set(WebhookDelivery.objects.values_list("state", flat=True)) == {"waiting"}
    assert record_told(theirs[0], Told(1, 200)) is True


def test_what_is_locked_is_skipped_and_not_waited_for(receiver):
    put_in(receiver.url)
    with connections[OWNER].cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT 1 FROM rollouts_webhookdelivery FOR UPDATE")
        began = time.monotonic()
        assert claim() == []
        assert time.monotonic() - began < 2
        cursor.execute("ROLLBACK")
    assert len(claim()) == 1


def test_one_endpoint_gets_few_at_a_time_and_others_their_turn(receiver):
    many, one = endpoint(receiver.url, name="many"), endpoint(receiver.url, name="one")
    for _ in range(6):
        webhooks.send_test(**WHO, endpoint=many)
    webhooks.send_test(**WHO, endpoint=one)
    assert send_due() == 5
    assert send_due() == 2
    assert len(set(receiver.ids())) == len(receiver.got) == 7


def test_a_message_that_is_being_sent_is_not_redelivered(receiver):
    from fleet.kit.errors import Conflict

    put_in(receiver.url)
    claim()
    with pytest.raises(Conflict, match="right now"):
        webhooks.redeliver(**WHO, message=message())


# Addresses --------------------------------------------------------------------------------------------------
REFUSED = [
    *("127.0.0.1", "127.8.8.8", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "localhost", "[::1]"),
    *("10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "[fd00::1]", "[fc00::1]"),
    *("169.254.169.254", "169.254.0.1", "[fe80::1]", "100.100.100.200", "168.63.129.16", "[fd00:ec2::254]"),
    *("224.0.0.1", "[ff02::1]", "0.0.0.0", "255.255.255.255", "[::]", "192.0.2.1"),
    *("[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[::ffff:10.0.0.1]"),
]


@pytest.fixture
def no_packets(monkeypatch: Any) -> list[Any]:
    """Notes every connection that somebody begins to a network address."""
    begun: list[Any] = []
    real = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> Any:
        if self.family != socket.AF_UNIX:
            begun.append(address)
        return real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    import asyncio.selector_events as loops

    dial = loops.BaseSelectorEventLoop.sock_connect

    async def sock_connect(self: Any, sock: Any, address: Any) -> Any:
        begun.append(address)
        return await dial(self, sock, address)

    monkeypatch.setattr(loops.BaseSelectorEventLoop, "sock_connect", sock_connect)
    return begun


@pytest.mark.parametrize("host", REFUSED)
def test_addresses_that_are_not_public_are_never_called(no_packets, host):
    put_in(f"https://{host}:9/")
    begun = list(no_packets)
    send_due()
    found = message()
    assert found.state == "waiting"
    assert found.status is None
    assert "may not be dialled" in found.problem or "no address" in found.problem, found.problem
    assert [one for one in no_packets if one not in begun and one[1] == 9] == []


def names(monkeypatch: Any, *answers: str) -> list[str]:
    """The name server gives these addresses, one set a question; returns what was asked."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if host != "hooks.example.com":
            return real(host, port, *args, **options)
        asked.append(host)
        found = answers[min(len(asked), len(answers)) - 1].split()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_every_address_of_a_name_must_do(monkeypatch, no_packets):
    asked = names(monkeypatch, "93.184.215.14 10.0.0.5")
    put_in("https://hooks.example.com:9/")
    send_due()
    assert asked == ["hooks.example.com"]
    assert "10.0.0.5 may not be dialled" in message().problem
    assert [one for one in no_packets if one[1] == 9] == []


def test_a_name_is_looked_up_once_and_what_was_checked_is_called(monkeypatch, settings, receiver):
    """A name server that answers differently the second time (rebinding) is not asked a second time."""
    settings.WEBHOOK_NETWORKS_ALLOWED = ["127.0.0.0/8"]
    asked = names(monkeypatch, "127.0.0.1", "10.0.0.5")
    put_in(f"http://hooks.example.com:{receiver.port}/hook")
    send_due()
    assert asked == ["hooks.example.com"]
    ((_, headers, _),) = receiver.got
    assert headers["host"] == f"hooks.example.com:{receiver.port}"
    assert message().state == "delivered"


def test_http_is_for_loopback_alone_and_only_where_the_setting_says_so(settings, no_packets, monkeypatch, loopback):
    names(monkeypatch, "93.184.215.14")
    put_in("http://hooks.example.com:9/")
    send_due()
    assert "http is for this machine alone" in message().problem
    settings.WEBHOOK_HTTP_LOOPBACK = False
    rows(SOON, using=OWNER)
    send_due()
    assert message().problem == "An address begins with https://."
    assert [one for one in no_packets if one[1] == 9] == []


def test_networks_of_the_setting_are_called(settings, no_packets):
    settings.WEBHOOK_NETWORKS_ALLOWED = ["127.0.0.0/8"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        server.close()
        put_in(f"https://127.0.0.1:{port}/")
        send_due()
    assert message().problem.startswith("It could not be reached")
    assert any(one[1] == port for one in no_packets), "the list of connections sees what is begun"


def test_certificates_are_checked(settings, tmp_path):
    import ssl
    import subprocess

    settings.WEBHOOK_NETWORKS_ALLOWED = ["127.0.0.0/8"]
    key, chain = tmp_path / "key.pem", tmp_path / "chain.pem"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
    names_ = [
        "-keyout",
        str(key),
        "-out",
        str(chain),
        "-subj",
        "/CN=127.0.0.1",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]
    subprocess.run([*make, *names_], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    with receiving(tls=context) as secure:
        row = put_in(secure.url)
        send_due()
        assert secure.got == []
        assert "certificate" in message().problem.lower()
        trusted = ssl.create_default_context(cafile=str(chain))
        rows(SOON, using=OWNER)
        (mine,) = claim()
        told = sender.try_once(mine, sender.vetting(), trusted)
        assert (told.status, told.problem) == (204, "")
        ((_, headers, body),) = secure.got
        assert_signed(headers, body, secrets_of(row, mine.at)[0])
