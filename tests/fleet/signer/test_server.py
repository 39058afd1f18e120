"""The signer's door: what it answers, whom it refuses, and that no caller holds up the others."""

import base64
import json
import os
import socket
import stat
import tempfile
import threading
import time
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.db import OperationalError

from fleet.signer import server as door
from fleet.signer.authority import SignerError
from fleet.signer.operations import TokenBucket
from fleet.signer.server import SignerServer
from tests.fleet.signer.conftest import FLEET, row
from tests.fleet.signer.tls import new_key, public_der


@contextmanager
def calling(path: Path, timeout_s: float = 5):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout_s)
        connection.connect(str(path))
        yield connection


def send(path: Path, data: bytes) -> list[dict]:
    """Answers to the bytes, until the signer closes (we close our half)."""
    with calling(path) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        received = b""
        try:
            while piece := connection.recv(1 << 16):
                received += piece
        except ConnectionResetError:
            pass
    return [json.loads(line) for line in received.splitlines()]


def ask(path: Path, **question) -> dict:
    (answer,) = send(path, json.dumps(question).encode() + b"\n")
    return answer


def wait_for(true) -> None:
    deadline = time.monotonic() + 5
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:  # it closed before it had read all that we sent
        return True


def code(answer: dict) -> str:
    assert set(answer) == {"error"}, answer
    assert set(answer["error"]) == {"code", "message"}
    return answer["error"]["code"]


# Operations -------------------------------------------------------------------------------------------------
def test_roots(start):
    running = start()
    root = running.store.root
    assert ask(running.path, op="roots") == {
        "roots": [root.pem],
        "fleet": FLEET,
        "root_sha256": sha256(root.certificate.public_bytes(Encoding.DER)).hexdigest(),
        "documents": [running.store.documents_pem],
    }


def test_a_site_is_certified_as_its_row_says(start):
    running = start()
    answer = ask(running.path, op="issue_site", identity_id=1)
    assert set(answer) == {"chain_pem", "serial", "not_before", "not_after", "sha256", "name"}
    leaf = x509.load_pem_x509_certificate(answer["chain_pem"][0].encode())
    assert answer["name"] == f"s-00000000-0000-0000-0000-000000000001.p7.sites.{FLEET}"
    assert leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == running.rows[1].tls_key
    assert answer["chain_pem"][1] == running.store.provider(7).pem
    assert answer["sha256"] == sha256(leaf.public_bytes(Encoding.DER)).hexdigest()


def test_a_batch_gives_each_its_own_answer_in_order(start):
    running = start()
    running.rows[4] = row(4, provider_id=8)
    running.rows[5] = type(running.rows[4])(running.rows[4].uuid, 8, b"no key")
    results = ask(running.path, op="issue_site", identity_ids=[4, 3, 99, 5, 1, 1])["results"]
    assert [result.get("name", result.get("error", {}).get("code")) for result in results] == [
        f"s-00000000-0000-0000-0000-000000000004.p8.sites.{FLEET}",
        "conflict",
        "not_found",
        "key",
        f"s-00000000-0000-0000-0000-000000000001.p7.sites.{FLEET}",
        f"s-00000000-0000-0000-0000-000000000001.p7.sites.{FLEET}",
    ]
    assert results[4]["serial"] != results[5]["serial"]


def test_a_service_is_certified(start):
    running = start()
    key = base64.b64encode(public_der(new_key())).decode()
    for service in ("dashboard", "gateway"):
        answer = ask(running.path, op="issue_service", service=service, tls_key=key)
        assert answer["name"] == f"{service}.{FLEET}"
    assert code(ask(running.path, op="issue_service", service="dashboard", tls_key="AAAA")) == "key"


def test_refusals_of_the_selector_are_passed_on(start):
    running = start()
    assert ask(running.path, op="issue_site", identity_id=3) == {
        "error": {"code": "conflict", "message": "the identity is pending"}
    }
    assert code(ask(running.path, op="issue_site", identity_id=99)) == "not_found"


def test_a_lost_database_is_said_and_survived(start):
    running = start()
    running.rows[9] = OperationalError("server closed the connection")
    running.rows[10] = ZeroDivisionError("secret")
    assert code(ask(running.path, op="issue_site", identity_id=9)) == "unavailable"
    assert code(ask(running.path, op="issue_site", identity_ids=[1, 9])) == "unavailable"
    answer = ask(running.path, op="issue_site", identity_id=10)
    assert code(answer) == "internal"
    assert "secret" not in json.dumps(answer)
    assert "serial" in ask(running.path, op="issue_site", identity_id=1)


def test_each_certificate_leaves_one_line_and_no_key(start, caplog):
    running = start()
    caplog.set_level("INFO", logger="fleet.signer")
    answer = ask(running.path, op="issue_site", identity_id=1)
    (record,) = [record for record in caplog.records if record.getMessage() == "issued"]
    assert (record.certificate, record.serial) == (answer["name"], answer["serial"])
    assert "PRIVATE" not in caplog.text


# What is malformed ------------------------------------------------------------------------------------------
SITE_PLUS = '{"op":"issue_site","identity_id":1,"tls_key":"AAAA"}'


@pytest.mark.parametrize(
    "line",
    [
        *(
            b"",
            b"{}",
            b"[]",
            b"null",
            b"\x00\xff\xfe",
            b"{" * 8000,
            b"[" * 16000,
            b'{"op":"roots"',
            b"GET / HTTP/1.1\r",
        ),
        *(b'{"op":"sign_document"}', b'{"op":"keys"}', b'{"op":["roots"]}', b'{"op":"roots","more":1}'),
        *(b'{"op":"issue_site"}', SITE_PLUS.encode(), b'{"op":"issue_site","identity_id":1,"identity_ids":[1]}'),
        *(b'{"op":"issue_site","identity_id":0}', b'{"op":"issue_site","identity_id":"1"}'),
        *(b'{"op":"issue_site","identity_id":9223372036854775808}', b'{"op":"issue_site","identity_id":1.5}'),
        *(b'{"op":"issue_site","identity_id":true}', b'{"op":"issue_site","identity_ids":[]}'),
        b'{"op":"issue_site","identity_ids":[%s]}' % b",".join([b"1"] * 501),
        b'{"op":"issue_site","identity_id":%s}' % (b"9" * 5000),
        *(b'{"op":"issue_service","service":"root","tls_key":"AAAA"}', b'{"op":"issue_service","service":"gateway"}'),
        b'{"op":"issue_service","service":"gateway","tls_key":"not base64!"}',
        b'{"op":"issue_service","service":"gateway","tls_key":"%s"}' % base64.b64encode(b"x" * 257),
    ],
)
def test_garbage_is_answered_and_the_next_line_too(start, line):
    running = start(sites=1)
    refused, fine = send(running.path, line + b'\n{"op":"roots"}\n')
    assert code(refused) == "malformed"
    assert fine["fleet"] == FLEET
    assert "serial" in ask(running.path, op="issue_site", identity_id=1)  # nothing of it was counted


def test_a_line_ends_at_16_kb(start):
    running = start()
    fits = b'{"op":"roots"}'.ljust(door.MAX_LINE_BYTES)
    assert len(send(running.path, fits + b"\n")) == 1
    assert [code(answer) for answer in send(running.path, fits + b" \n")] == ["too_long"]
    assert [code(answer) for answer in send(running.path, b"x" * 40_000)] == ["too_long"]
    assert ask(running.path, op="roots")["fleet"] == FLEET


def test_a_flood_without_an_end_is_cut_off(start):
    running = start()
    with calling(running.path) as connection, pytest.raises((BrokenPipeError, ConnectionResetError)):
        for _ in range(10_000):
            connection.sendall(b"x" * 65_536)
    assert ask(running.path, op="roots")["fleet"] == FLEET


def test_half_a_line_is_nothing(start):
    running = start()
    assert send(running.path, b'{"op":"roots"}') == []
    assert send(running.path, b"") == []


def test_lines_in_pieces_and_several_at_once(start):
    running = start()
    with calling(running.path) as connection, connection.makefile("rb") as lines:
        for byte in b'{"op":"roots"}\n':
            connection.sendall(bytes([byte]))
        assert json.loads(lines.readline())["fleet"] == FLEET
        connection.sendall(b'{"op":"roots"}\n{"op":"issue_site","identity_id":1}\n{"op":"ro')
        assert json.loads(lines.readline())["fleet"] == FLEET
        assert "serial" in json.loads(lines.readline())
        connection.sendall(b'ots"}\n')
        assert json.loads(lines.readline())["fleet"] == FLEET


# Bounds -----------------------------------------------------------------------------------------------------
def test_slow_lines_and_idle_callers_end_at_the_deadline(start):
    running = start(request_s=0.4)
    began = time.monotonic()
    with calling(running.path) as slow, calling(running.path) as idle:
        for _ in range(20):
            try:
                slow.sendall(b"x")
            except OSError:
                break
            time.sleep(0.05)
        assert code(json.loads(slow.recv(1000))) == "deadline"
        assert code(json.loads(idle.recv(1000))) == "deadline"
        assert is_closed(slow)
        assert is_closed(idle)
    assert 0.4 <= time.monotonic() - began < 2


def test_a_caller_that_reads_nothing_is_dropped(start):
    running = start(request_s=0.4, sites=100_000)
    question = b'{"op":"issue_site","identity_ids":[%s]}\n' % b",".join([b"1"] * 400)
    with calling(running.path) as deaf:
        deaf.sendall(question)  # its answer is larger than the socket's buffers
        wait_for(lambda: running.server._open)
        wait_for(lambda: not running.server._open)
    assert ask(running.path, op="roots")["fleet"] == FLEET


def test_a_long_batch_ends_at_the_deadline(start):
    running = start()
    line = b'{"op":"issue_site","identity_ids":[1,2]}'
    assert code(json.loads(running.signer.answer(line, time.monotonic() - 1))) == "deadline"


def test_connections_are_bounded(start):
    running = start(most=3)
    with calling(running.path) as a, calling(running.path) as b, calling(running.path) as c:
        for connection in (a, b, c):
            connection.sendall(b'{"op":"roots"}\n')
            assert b"root_sha256" in connection.recv(10_000)
        assert code(ask(running.path, op="roots")) == "busy"
    wait_for(lambda: not running.server._open)
    assert ask(running.path, op="roots")["fleet"] == FLEET


def test_rates_are_bounded_each_for_itself(start):
    running = start(sites=5, services=1)
    key = base64.b64encode(public_der(new_key())).decode()
    assert len(ask(running.path, op="issue_site", identity_ids=[1, 2, 3])["results"]) == 3
    assert code(ask(running.path, op="issue_site", identity_ids=[1, 2, 3])) == "busy"
    assert len(ask(running.path, op="issue_site", identity_ids=[1, 99])["results"]) == 2
    assert code(ask(running.path, op="issue_site", identity_id=1)) == "busy"
    assert "serial" in ask(running.path, op="issue_service", service="gateway", tls_key=key)
    assert code(ask(running.path, op="issue_service", service="gateway", tls_key=key)) == "busy"
    assert ask(running.path, op="roots")["fleet"] == FLEET


def test_a_bucket_fills_up_with_time_and_no_further():
    now = 100.0
    bucket = TokenBucket(10, 30, lambda: now)
    assert (bucket.take(30), bucket.take(1)) == (True, False)
    now += 0.5
    assert (bucket.take(6), bucket.take(5), bucket.take(1)) == (False, True, False)
    now += 1000
    assert (bucket.take(31), bucket.take(30), bucket.take(1)) == (False, True, False)


# Who may ask ------------------------------------------------------------------------------------------------
def test_the_sockets_mode(start):
    before = os.umask(0)
    try:
        assert stat.S_IMODE(start().path.stat().st_mode) == 0o600
        assert stat.S_IMODE(start(mode=0o660).path.stat().st_mode) == 0o660
    finally:
        os.umask(before)


def ask_as(uid: int, path: Path) -> str:
    """The answer's code (or 'fine') to a child process that has become `uid`."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setresuid(uid, uid, uid)
            answer = ask(path, op="roots")
            os.write(writer, answer.get("error", {"code": "fine"})["code"].encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        found = file.read()
    os.waitpid(child, 0)
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_only_we_and_those_who_are_named_are_answered(start):
    signer = start().signer
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # others cannot enter pytest's own folders
        Path(folder).chmod(0o711)
        path = Path(folder) / "s"
        server = SignerServer(path, signer, uids=[54_321])
        path.chmod(0o666)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        assert [ask_as(uid, path) for uid in (54_321, 54_322, 0)] == ["fine", "forbidden", "fine"]
        server.shutdown()
        server.close()


def test_a_stranger_is_refused_by_what_the_kernel_says(start, monkeypatch, caplog):
    running = start()
    monkeypatch.setattr(running.server, "_uids", frozenset({54_321}))
    assert code(ask(running.path, op="roots")) == "forbidden"
    (record,) = [record for record in caplog.records if record.getMessage() == "refused a caller"]
    assert (record.uid, record.pid) == (os.geteuid(), os.getpid())
    assert running.server._open == set()


# The socket file --------------------------------------------------------------------------------------------
def test_a_stale_socket_is_replaced_and_a_live_one_is_not(start, tmp_path):
    running = start()
    with pytest.raises(SignerError, match="another signer already listens"):
        SignerServer(running.path, running.signer)
    assert ask(running.path, op="roots")["fleet"] == FLEET
    stale = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(stale))
    server = SignerServer(stale, running.signer)
    server.close()
    assert not stale.exists()


def test_other_files_are_not_replaced(start, tmp_path):
    signer = start().signer
    (tmp_path / "file").write_text("kept")
    with pytest.raises(SignerError, match="is not a socket"):
        SignerServer(tmp_path / "file", signer)
    assert (tmp_path / "file").read_text() == "kept"
    for path in (tmp_path / "no" / "such", tmp_path / ("x" * 108)):
        with pytest.raises(SignerError, match="cannot make the socket"):
            SignerServer(path, signer)


def test_what_is_in_hand_is_answered_before_the_end(tmp_path):
    entered, go_on = threading.Event(), threading.Event()

    class Slow:
        """Answers when the test says so."""

        def answer(self, line: bytes, deadline: float) -> bytes:
            entered.set()
            go_on.wait(5)
            return b"{}\n"

    server = SignerServer(tmp_path / "s", Slow())
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    with calling(tmp_path / "s") as connection, calling(tmp_path / "s") as idle:
        connection.sendall(b"x\n")
        assert entered.wait(5)
        wait_for(lambda: len(server._open) == 2)
        server.shutdown()
        threading.Timer(0.2, go_on.set).start()
        began = time.monotonic()
        server.close()
        assert 0.15 < time.monotonic() - began < 4
        assert connection.recv(10) == b"{}\n"
        assert is_closed(idle)
