"""The client: certificates from a running signer, TLS contexts whose keys touch no disk, and the real process."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from datetime import timedelta
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleet.env import ROOT
from fleet.kit import signing
from fleet.kit.errors import Unavailable
from fleet.kit.signing import Issued, SignerAway, SignerRefused
from tests.fleet.signer.conftest import FLEET, row
from tests.fleet.signer.tls import Outcome, Party, context, handshake, new_key, public_der, rogue

NAME = f"s-00000000-0000-0000-0000-000000000009.p7.sites.{FLEET}"


def site(running, number: int = 9) -> Party:
    """A site that has enrolled."""
    key = new_key()
    running.rows[number] = type(row(number))(row(number).uuid, 7, public_der(key))
    return Party(key, signing.issue_site(number).chain_pem)


# Questions --------------------------------------------------------------------------------------------------
def test_roots(start):
    running = start()
    found = signing.roots()
    assert (found.roots, found.fleet, found.root_sha256) == (
        (running.store.root.pem,),
        FLEET,
        running.store.root_sha256,
    )


def test_what_is_issued_says_what_stands_in_the_certificate(start):
    running = start()
    issued = signing.issue_site(1)
    leaf = x509.load_pem_x509_certificate(issued.chain_pem[0].encode())
    assert issued == Issued(
        chain_pem=(issued.chain_pem[0], running.store.provider(7).pem),
        serial=f"{leaf.serial_number:032x}",
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        sha256=sha256(leaf.public_bytes(Encoding.DER)).hexdigest(),
        name=f"s-00000000-0000-0000-0000-000000000001.p7.sites.{FLEET}",
    )
    assert issued.half_life == issued.not_before + timedelta(days=3, hours=12, minutes=30)


def test_many_sites_go_in_batches_and_keep_their_order(start, monkeypatch):
    running = start()
    monkeypatch.setattr(signing, "MAX_BATCH", 2)
    running.rows[4] = row(4, 8)
    results = signing.issue_sites([4, 3, 99, 1, 2])
    assert [result.name[-30:] if isinstance(result, Issued) else result.code for result in results] == [
        "00000004.p8.sites.demo.example",
        "conflict",
        "not_found",
        "00000001.p7.sites.demo.example",
        "00000002.p7.sites.demo.example",
    ]
    assert signing.issue_sites([]) == []


def test_the_largest_batch_fits(start):
    running = start()
    big = 2**63 - 501
    running.rows.update({big + number: row(number + 1) for number in range(500)})
    results = signing.issue_sites(range(big, big + 500))
    assert [isinstance(result, Issued) for result in results] == [True] * 500


def test_refusals_say_why(start):
    start(sites=1)
    with pytest.raises(SignerRefused, match="the identity is pending") as caught:
        signing.issue_site(3)
    assert (caught.value.code, caught.value.status) == ("conflict", 409)
    with pytest.raises(SignerRefused) as caught:
        signing.issue_site(1)
    assert caught.value.code == "busy"
    with pytest.raises(SignerRefused) as caught:
        signing.issue_sites([1, 2])
    assert caught.value.code == "busy"
    with pytest.raises(SignerRefused) as caught:
        signing.issue_service("gateway", b"no key")
    assert caught.value.code == "key"
    assert SignerRefused.code == "refused"


def test_an_absent_signer_is_away(settings, tmp_path):
    settings.SIGNER_SOCKET = tmp_path / "signer.sock"
    with pytest.raises(SignerAway, match=r"no signer answers at .*: no such file"):
        signing.roots()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(settings.SIGNER_SOCKET))
    with pytest.raises(SignerAway, match="connection refused"):
        signing.service_context("dashboard")
    assert issubclass(SignerAway, Unavailable)


@pytest.mark.parametrize("answer", [b"", b'{"roots":["', b"hello\n", b"{}\n", b"[]\n", b'{"results":[]}\n'])
def test_a_signer_that_answers_nonsense_is_away(settings, tmp_path, answer):
    settings.SIGNER_SOCKET = tmp_path / "signer.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(settings.SIGNER_SOCKET))
        server.listen()
        pid = os.fork()
        if pid == 0:
            connection, _ = server.accept()
            connection.recv(1000)
            connection.sendall(answer)
            os._exit(0)
        try:
            with pytest.raises(SignerAway):
                signing.issue_sites([1])
        finally:
            os.waitpid(pid, 0)


def test_a_refused_caller_hears_why(start, monkeypatch):
    running = start()
    monkeypatch.setattr(running.server, "_uids", frozenset())
    for _ in range(20):  # whether the question or the refusal comes first
        with pytest.raises(SignerRefused) as caught:
            signing.roots()
        assert caught.value.code == "forbidden"


# Contexts ---------------------------------------------------------------------------------------------------
def test_the_dashboard_calls_a_site(start):
    running = start()
    identity = signing.service_context("dashboard")
    made = identity.context
    assert (made.minimum_version, made.verify_mode, made.check_hostname, made.hostname_checks_common_name) == (
        ssl.TLSVersion.TLSv1_3,
        ssl.CERT_REQUIRED,
        True,
        False,
    )
    assert made.verify_flags & ssl.VERIFY_X509_STRICT
    assert len(made.get_ca_certs()) == 1
    assert identity.issued.name == f"dashboard.{FLEET}"
    server = context(ssl.PROTOCOL_TLS_SERVER, site(running), running.store.root.pem)
    assert handshake(server, made, NAME) == Outcome("", "", (f"dashboard.{FLEET}",), (NAME,), "TLSv1.3")
    assert handshake(server, made, NAME.replace("0009", "0008")).client.startswith("Hostname mismatch")


def test_the_gateway_takes_a_certificate_or_none_but_no_wrong_one(start):
    running = start()
    identity = signing.service_context("gateway")
    made, root, name = identity.context, running.store.root.pem, f"gateway.{FLEET}"
    assert (made.minimum_version, made.verify_mode, made.num_tickets) == (
        ssl.TLSVersion.TLSv1_3,
        ssl.CERT_OPTIONAL,
        0,
    )
    known = context(ssl.PROTOCOL_TLS_CLIENT, site(running), root)
    assert handshake(made, known, name) == Outcome("", "", (NAME,), (name,), "TLSv1.3")
    unknown = context(ssl.PROTOCOL_TLS_CLIENT, None, root)
    assert handshake(made, unknown, name) == Outcome("", "", (), (name,), "TLSv1.3")
    wrong = context(ssl.PROTOCOL_TLS_CLIENT, rogue(None, NAME, identity.issued.not_after), root)
    assert handshake(made, wrong, name).server == "self-signed certificate"
    running.rows[8] = row(8)
    own = Party(new_key(), ())
    theirs = signing.issue_service("gateway", public_der(own.key))
    as_client = context(ssl.PROTOCOL_TLS_CLIENT, Party(own.key, theirs.chain_pem), root)
    assert handshake(made, as_client, name).server == "unsuitable certificate purpose"


def test_no_older_tls_is_spoken(start):
    running = start()
    client = context(ssl.PROTOCOL_TLS_CLIENT, None, running.store.root.pem)
    client.minimum_version = ssl.TLSVersion.TLSv1_2
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    outcome = handshake(signing.service_context("gateway").context, client, f"gateway.{FLEET}")
    assert (outcome.version, outcome.server) == (None, "UNSUPPORTED_PROTOCOL")


def test_a_context_is_renewed_in_place(start):
    """A listener keeps its context: the next handshakes show the new certificate."""
    running = start()
    client = context(ssl.PROTOCOL_TLS_CLIENT, None, running.store.root.pem)
    first = signing.service_context("gateway")
    assert serial_shown(first.context, client) == first.issued.serial
    again = signing.service_context("gateway", into=first.context)
    assert again.context is first.context
    assert again.issued.serial != first.issued.serial
    assert serial_shown(again.context, client) == again.issued.serial


def serial_shown(server: ssl.SSLContext, client: ssl.SSLContext) -> str:
    """Serial of the certificate that the gateway shows."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        thread = threading.Thread(target=lambda: server.wrap_socket(ours, server_side=True).close())
        thread.start()
        with client.wrap_socket(theirs, server_hostname=f"gateway.{FLEET}") as tls:
            found = tls.getpeercert()["serialNumber"]
        thread.join()
    return f"{int(found, 16):032x}"


def test_the_key_is_new_each_time_and_touches_no_disk(start, monkeypatch):
    start()
    loaded = []
    real = ssl.SSLContext.load_cert_chain

    def watched(self, path, *args):
        with open(path, "rb") as file:
            loaded.append((os.readlink(path), os.stat(path).st_nlink, file.read()))
        real(self, path, *args)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", watched)
    keys = {signing.service_context("dashboard").issued.sha256 for _ in range(2)}
    assert len(keys) == 2
    assert [(path, links) for path, links, _ in loaded] == [("/memfd:tls (deleted)", 0)] * 2
    assert len({data[:200] for *_, data in loaded}) == 2
    assert not [fd for fd in os.listdir("/proc/self/fd") if "memfd:tls" in _target(fd)]


def _target(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""


# The real process -------------------------------------------------------------------------------------------
def test_the_real_process(tmp_path, settings):
    """It starts without a database, answers, refuses to run twice, and ends cleanly at SIGTERM."""
    settings.SIGNER_SOCKET = tmp_path / "signer.sock"
    nowhere = "postgres://nobody:x@127.0.0.1:1/none"
    environ = os.environ | {
        "ARCHIPELAGO_SIGNER_SOCKET": str(settings.SIGNER_SOCKET),
        "ARCHIPELAGO_SIGNER_KEYS": str(tmp_path / "keys"),
        "ARCHIPELAGO_FLEET": FLEET,
        "ARCHIPELAGO_PROCESS": "signer",
        "DATABASE_URL": nowhere,
        "DATABASE_OWNER_URL": nowhere,
    }
    command = [sys.executable, "manage.py", "signer"]
    child = subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 30
        while not settings.SIGNER_SOCKET.exists():
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert signing.roots().fleet == FLEET
        identity = signing.service_context("dashboard")
        twice = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=30)
        assert (twice.returncode, twice.stderr) == (
            1,
            f"CommandError: {tmp_path / 'keys'} is in use by another signer\n",
        )
        with pytest.raises(SignerRefused, match="the database is away"):
            signing.issue_site(1)
    finally:
        child.send_signal(signal.SIGTERM)
        _, log = child.communicate(timeout=10)
    assert child.returncode == 0
    assert not settings.SIGNER_SOCKET.exists()
    assert f"issued certificate=dashboard.{FLEET} serial={identity.issued.serial}" in log
    assert "PRIVATE" not in log
    assert "Traceback" not in log


IN_A_FINALISER = """
import sys, time
from pathlib import Path
from fleet.signer.server import SignerServer, serve

class Slow:
    def __del__(self):
        print("in it", flush=True)
        until = time.monotonic() + 1
        while time.monotonic() < until:
            time.sleep(0.01)

class Server(SignerServer):
    def service_actions(self):
        Slow()

class Nothing:
    def answer(self, line, deadline):
        return b"\\n"

serve(Server(Path(sys.argv[1]), Nothing()), lambda: print("ready", flush=True))
"""


def test_a_signal_that_comes_in_a_finaliser_ends_it_too(tmp_path):
    """Python drops what a signal's handler raises there."""
    command = [sys.executable, "-c", IN_A_FINALISER, str(tmp_path / "s.sock")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            with socket.socket(socket.AF_UNIX) as caller:
                caller.connect(str(tmp_path / "s.sock"))
            assert child.stdout.readline() == "in it\n"
            child.send_signal(signal.SIGTERM)
            assert child.wait(20) == 0
        finally:
            child.kill()
