"""The updater as a process of its own behind its socket, and the agent's side of it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.apply.os_part import OsPart
from agent.apply.part import ApplyError, Change
from agent.protocol.desired import Document, open_document
from agent.unix_socket import bind_private
from agent.updater.messages import Answer, Request
from agent.updater.serving import Server
from tests.agent.updater.conftest import NEW, OLD
from tests.agent.updater.machine import Box


class NoBlobs:
    def read(self, digest: str) -> bytes:
        raise ApplyError("there are none")


@contextmanager
def served(box: Box, path: Path, *, user: int | None = None) -> Iterator[int]:
    """The updater in a process of its own; yields its id."""
    listening = bind_private(path, "updater")
    listening.listen()
    child = os.fork()
    if child == 0:
        try:
            Server(listening, os.getuid() if user is None else user, box.desk().answer).serve(idle_s=30)
        finally:
            os._exit(0)
    listening.close()
    try:
        yield child
    finally:
        os.kill(child, signal.SIGTERM)
        assert os.waitpid(child, 0)[1] == 0
        path.unlink()


def part(box: Box, path: Path, envelope: bytes) -> tuple[OsPart, Document]:
    document = open_document(envelope, [box.key.public_key().public_bytes_raw()])
    return OsPart(path, lambda document: envelope, lambda: (box.certificate,)), document


def test_the_part_drives_the_updater(box: Box, tmp_path: Path) -> None:
    os_part, document = part(box, tmp_path / "socket", box.document(NEW))
    with served(box, tmp_path / "socket"):
        (change,) = os_part.changes(document, NoBlobs())
        assert change == Change("os", "packages", "alpha 1.0, beta 1.0", "alpha 1.1, beta 1.1")
        os_part.stage(document, change, NoBlobs())
        os_part.switch(document, change, NoBlobs())
        assert os_part.check(document, change).state == "well"
        os_part.restore(document, change)
        assert box.versions() == OLD
        os_part.stage(document, change, NoBlobs())
        os_part.switch(document, change, NoBlobs())
        os_part.keep(document, change)
        assert box.versions() == NEW
        assert list(os_part.changes(document, NoBlobs())) == []
        with pytest.raises(ApplyError, match=r"^there is nothing that a reboot would bring about$"):
            os_part.reboot()


def test_without_an_updater_the_document_is_refused(box: Box, tmp_path: Path) -> None:
    os_part, document = part(box, tmp_path / "none", box.document(NEW))
    with pytest.raises(ApplyError) as raised:
        os_part.changes(document, NoBlobs())
    assert str(raised.value) == (
        "this machine's packages cannot be changed, for archipelago-updater is not set up: no such file or directory"
    )
    assert not raised.value.transient


def test_another_user_is_not_heard(box: Box, tmp_path: Path) -> None:
    os_part, document = part(box, tmp_path / "socket", box.document(NEW))
    refusal = pytest.raises(ApplyError, match=r"^only the agent's own user may ask$")
    with served(box, tmp_path / "socket", user=os.getuid() + 1), refusal:
        os_part.changes(document, NoBlobs())
    assert box.folder.held("newest.json") is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_cannot_even_open_it(box: Box, tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and len(folder.parts) > 2:
            folder.chmod(0o755)
    with served(box, tmp_path / "socket"):
        code = f"import os,socket;os.setuid(65534);socket.socket(1).connect({str(tmp_path / 'socket')!r})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "PermissionError" in done.stderr


def test_an_updater_that_is_killed_is_asked_again(box: Box, tmp_path: Path) -> None:
    box.publish("alpha", "1.2", scripts={"postinst": 'touch "$DPKG_ROOT/run/slow"; sleep 1'})
    os_part, document = part(box, tmp_path / "socket", box.document(NEW | {"alpha": "1.2"}))
    change = Change("os", "packages", "", "")
    listening = bind_private(tmp_path / "socket", "updater")
    listening.listen()
    child = os.fork()
    if child == 0:
        Server(listening, os.getuid(), box.desk().answer).serve(idle_s=30)
        os._exit(0)
    listening.close()
    os_part.stage(document, change, NoBlobs())
    killer = subprocess.Popen(
        ["sh", "-c", f"while [ ! -e '{box.root}/run/slow' ]; do sleep 0.02; done; kill -9 {child}"]
    )
    with pytest.raises(ApplyError) as raised:
        os_part.switch(document, change, NoBlobs())
    assert raised.value.transient
    assert killer.wait() == 0
    os.waitpid(child, 0)
    (tmp_path / "socket").unlink()
    with served(box, tmp_path / "socket"):
        os_part.switch(document, change, NoBlobs())
        assert os_part.check(document, change).state == "well"
    assert box.versions() == NEW | {"alpha": "1.2"}


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"\n", "not a request: "),
        (b'{"command":"dance"}\n', "not a request: Invalid enum value 'dance'"),
        (b'{"command":"stage","shell":"rm"}\n', "not a request: Object contains unknown field `shell`"),
        (b'{"command":"stage","document":"' + b"A" * (1 << 21) + b'"}\n', "not a request: "),
        (b"[" * 100_000 + b"\n", "not a request: "),
    ],
)
def test_what_is_no_request(sent: bytes, said: str, tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    server = Server(ours, os.getuid(), lambda request: Answer())
    with ours, theirs:
        theirs.sendall(sent[:100_000])
        theirs.shutdown(socket.SHUT_WR)
        server._serve_one(ours)
        assert said in theirs.recv(10_000).decode()


def test_a_step_that_breaks_does_not_end_the_service() -> None:
    def answer(request: Request) -> Answer:
        raise RuntimeError("broken")

    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b'{"command":"check"}\n')
        Server(ours, os.getuid(), answer)._serve_one(ours)
        assert b"RuntimeError: broken" in theirs.recv(10_000)
