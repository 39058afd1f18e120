"""The client of the Engine API, on the wire: whoever answers there, it is bounded and says what is wrong."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.engine.client import MAX_ANSWER_BYTES, Engine
from agent.engine.errors import EngineAway, EngineError, one_line
from agent.engine.messages import Listed, read_time

VERSION = b'{"ApiVersion": "1.43", "MinAPIVersion": "1.24", "Components": [{"Name": "Engine"}]}'


def answer(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Wire:
    """Somebody at a socket: each connection is given the next of `answers`, the last one for ever."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: list[bytes | None] = []
        self.asked: list[str] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._done.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            with caller:
                self.asked.append(caller.recv(65_536).partition(b"\r\n")[0].decode())
                said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if said is None:
                    self._done.wait(5)
                    continue
                try:
                    caller.sendall(said)
                except OSError:
                    continue


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    made = Wire(tmp_path / "engine.sock")
    try:
        yield made
    finally:
        made.close()


def ask(wire: Wire) -> tuple[Listed, ...]:
    return Engine(wire.path, timeout_s=0.5).get("/containers/json", tuple[Listed, ...], all=True)


class TestAbsence:
    def test_no_socket(self, tmp_path: Path) -> None:
        with pytest.raises(EngineAway, match=rf"^the engine's socket {tmp_path}/none is not there$"):
            Engine(tmp_path / "none").get("/containers/json", tuple[Listed, ...])

    def test_nobody_at_it(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(tmp_path / "dead"))
        with pytest.raises(EngineAway, match=r"^nobody answers at the engine's socket"):
            Engine(tmp_path / "dead").get("/containers/json", tuple[Listed, ...])

    def test_not_allowed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # Root may open any socket, so the kernel's answer is put in at the wire.
        def refuse(self: socket.socket, address: str) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("agent.engine.client.socket.socket.connect", refuse, raising=False)
        with pytest.raises(EngineAway, match=r"add the agent's user to the group of the socket$"):
            Engine(tmp_path / "closed").get("/containers/json", tuple[Listed, ...])

    def test_silence(self, wire: Wire) -> None:
        wire.answers = [None]
        with pytest.raises(EngineAway, match=r"^the engine did not answer within 0.5 s$"):
            ask(wire)

    @pytest.mark.parametrize("said", [b"", b"SSH-2.0-OpenSSH_9\r\n\r\n", answer(VERSION)[:-20]])
    def test_something_else_or_half_of_it(self, wire: Wire, said: bytes) -> None:
        wire.answers = [said]
        with pytest.raises(EngineAway, match=r"^the engine broke off: "):
            ask(wire)


class TestAnswers:
    @pytest.mark.parametrize(
        ("said", "sentence"),
        [
            (answer(b"", "301 Moved", "Location: /v1.41/other"), "the engine answers with a redirect"),
            (answer(b"[" * 5_000), "the engine's answer cannot be read"),
            (answer(b'[{"Id": 7}]'), "the engine's answer cannot be read"),
            (answer(b'{"message": "no\\nsuch  thing"}', "404 Not Found"), "^no such thing$"),
            (answer(b"plain words", "500 Internal"), "^plain words$"),
            (answer(b"", "503 Busy"), "^status 503$"),
            (answer(b" " * (MAX_ANSWER_BYTES + 1)), f"above {MAX_ANSWER_BYTES} bytes"),
        ],
    )
    def test_that_are_none(self, wire: Wire, said: bytes, sentence: str) -> None:
        wire.answers = [answer(VERSION), said]
        with pytest.raises(EngineError, match=sentence) as caught:
            ask(wire)
        assert not isinstance(caught.value, EngineAway)
        assert caught.value.transient == ("503" in str(caught.value))

    def test_are_read_leniently(self, wire: Wire) -> None:
        wire.answers = [answer(VERSION), answer(b'[{"Id": "ab", "Names": ["/pos"], "Labels": null, "New": {}}]')]
        (found,) = ask(wire)
        assert (found.name, found.label("x")) == ("pos", "")

    def test_a_stream_whose_line_has_no_end(self, wire: Wire) -> None:
        wire.answers = [answer(VERSION), answer(b"x" * (2 << 20))]
        with pytest.raises(EngineError, match="a line without end"):
            list(Engine(wire.path).stream("/images/create", {}, 5.0))


class TestVersion:
    @pytest.mark.parametrize(
        ("newest", "oldest", "spoken"),
        [("1.41", "1.24", "1.41"), ("1.43", "1.24", "1.43"), ("1.52", "1.44", "1.44"), ("2.0", "1.44", "1.44")],
    )
    def test_is_the_newest_of_both(self, wire: Wire, newest: str, oldest: str, spoken: str) -> None:
        version = f'{{"ApiVersion": "{newest}", "MinAPIVersion": "{oldest}"}}'.encode()
        wire.answers = [answer(version), answer(b"[]")]
        ask(wire)
        assert wire.asked == ["GET /version HTTP/1.1", f"GET /v{spoken}/containers/json?all=true HTTP/1.1"]

    @pytest.mark.parametrize(("newest", "oldest"), [("1.40", "1.12"), ("1.60", "1.45"), ("new", "1.12")])
    def test_may_have_nothing_in_common(self, wire: Wire, newest: str, oldest: str) -> None:
        wire.answers = [answer(f'{{"ApiVersion": "{newest}", "MinAPIVersion": "{oldest}"}}'.encode())]
        with pytest.raises(EngineError, match=r"the engine (speaks versions|says that its API)"):
            ask(wire)

    def test_is_asked_anew_when_the_engine_was_away(self, wire: Wire) -> None:
        engine = Engine(wire.path)
        wire.answers = [answer(VERSION), answer(b"[]"), b"", answer(VERSION), answer(b"[]")]
        calls: list[Callable[[], object]] = [lambda: engine.get("/images/json", tuple[Listed, ...])] * 3
        assert calls[0]() == ()
        with pytest.raises(EngineAway):
            calls[1]()
        assert calls[2]() == ()
        assert [line.split()[1] for line in wire.asked] == [
            *("/version", "/v1.43/images/json", "/v1.43/images/json", "/version", "/v1.43/images/json")
        ]


def test_texts_of_others_become_one_printable_line() -> None:
    assert one_line("a\x1b[31m\n\tb\ud800") == "a [31m b"
    assert one_line("x" * 500) == "x" * 399 + "…"


def test_moments_are_read_to_the_microsecond() -> None:
    moment = read_time("2026-11-25T18:52:59.479089928Z")
    assert moment is not None
    assert moment.isoformat() == "2026-11-25T18:52:59.479089+00:00"
    assert [read_time(text) for text in ("0001-01-01T00:00:00Z", "", "soon", "2026-11-25T18:52:59")] == [None] * 4
