"""Whatever bytes an agent is sent, or a centre is sent as a page of a journal: refused in order, and it works on."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.backends.host import HostBackend
from agent.connection import MAX_REQUEST_BYTES, Connection
from agent.identity import Identity, Keys
from agent.link import CLOSED, LinkTransport
from agent.memory import Memory
from agent.protocol import ProtocolError, decode_report
from agent.protocol.entries import Alive
from agent.protocol.journal import open_page
from agent.server import AgentServer
from tests.agent.factories import SITE
from tests.agent.journals import PUBLIC, UP, make_chain, make_page

EXAMPLES, EXAMPLES_FULL = 150, 3_000
TOLD = frozenset({200, 400, 404, 405, 409, 431})
GOOD = b"GET /v1/report HTTP/1.1\r\nhost: s\r\n\r\n"

Test = Callable[..., None]


def fuzz(test: Test) -> Test:
    """Few examples in the normal run, many under the marker `full`."""
    quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]

    @pytest.mark.parametrize("examples", [EXAMPLES, pytest.param(EXAMPLES_FULL, marks=pytest.mark.full)])
    def run(examples: int, request: pytest.FixtureRequest) -> None:
        made = request.getfixturevalue("agent")
        settings(max_examples=examples, deadline=None, suppress_health_check=quiet)(
            given(data=st.data())(lambda data: test(made, data))
        )()

    return run


class Wire(LinkTransport):
    """The transport of a linked connection, which is what the websocket's frames are fed to; keeps what is sent."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.ended = False
        super().__init__("127.0.0.1", self._keep)

    def _keep(self, data: bytes | str) -> None:
        if isinstance(data, str):
            self.ended = self.ended or data == CLOSED
        else:
            self.sent += data


class Agent:
    """The real server with a real journal, without a socket: frames are handed to its connections."""

    def __init__(self, folder: Path) -> None:
        backend = HostBackend(SITE)
        self.memory = Memory(folder / "journal.sqlite", [backend])
        self.memory.sign_as(Identity(SITE, Keys.make()))
        self.memory.tick()
        self.server = AgentServer({"127.0.0.1": backend}, max_connections=8, tls=None, memory=self.memory)

    def say(self, *frames: bytes) -> list[int]:
        """Statuses of the answers to frames on one connection."""
        wire, connection = Wire(), Connection(self.server)
        connection.connection_made(wire)
        for frame in frames:
            if not wire.is_closing():
                connection.data_received(frame)
        connection.connection_lost(None)
        return [int(part[:3]) for part in bytes(wire.sent).split(b"HTTP/1.1 ")[1:] if part[:3].isdigit()]

    def answers(self) -> bool:
        """Whether it still answers a good request, with a report."""
        wire, connection = Wire(), Connection(self.server)
        connection.connection_made(wire)
        connection.data_received(GOOD)
        connection.connection_lost(None)
        return decode_report(bytes(wire.sent).partition(b"\r\n\r\n")[2]).site == SITE


@pytest.fixture
def agent(tmp_path: Path) -> Any:
    loop = asyncio.new_event_loop()
    made = Agent(tmp_path)
    yield made
    loop.run_until_complete(made.memory.close())
    loop.close()


ROUTES = st.sampled_from([b"/v1/report", b"/v1/journal", b"/v1/journal/ack", b"/", b"*", b"//x", b"/v1/identity"])
METHODS = st.sampled_from([b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"CONNECT", b"OPTIONS", b"get", b"PRI"])
NAMES = st.sampled_from([b"after", b"limit", b"components", b"x", b""])
VALUES = st.one_of(
    st.integers().map(lambda number: str(number).encode()),
    st.sampled_from([b"", b"-1", b"%00", b"9" * 19, b"9" * 400, b"1e3", b"%f0%9f%92%a3", b"\xd9\xa3", b"0x1"]),
    st.binary(max_size=40),
)
QUERIES = st.lists(st.tuples(NAMES, VALUES).map(b"=".join), max_size=4).map(b"&".join)
BODIES = st.one_of(
    st.binary(max_size=300),
    st.fixed_dictionaries(
        {},
        optional={
            "upto": st.one_of(st.integers(), st.none(), st.text(max_size=5), st.floats()),
            "head": st.one_of(st.just("sha256:" + "0" * 64), st.text(max_size=80), st.integers()),
        },
    ).map(lambda body: repr(body).replace("'", '"').encode(errors="replace")),
    st.sampled_from([b"[" * 5_000, b'{"upto":' + b"9" * 5_000 + b"}", b"NaN", b"null", b"\x00"]),
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request that is mostly well-formed."""
    target = draw(ROUTES) + draw(st.sampled_from([b"", b"?"])) + draw(QUERIES)
    body = draw(BODIES)
    length = draw(st.sampled_from([len(body), len(body), 0, len(body) + 5, -1, 2**70]))
    extra = draw(st.lists(st.binary(max_size=60), max_size=2))
    head = [draw(METHODS) + b" " + target + b" HTTP/1.1", b"host: s", b"content-length: %d" % length, *extra]
    return b"\r\n".join([*head, b"", b""]) + body


@fuzz
def test_requests_are_answered_or_refused(agent: Agent, data: st.DataObject) -> None:
    statuses = agent.say(*data.draw(st.lists(requests(), min_size=1, max_size=3)))
    assert set(statuses) <= TOLD
    assert agent.answers()


@fuzz
def test_frames_of_any_bytes_in_any_pieces(agent: Agent, data: st.DataObject) -> None:
    raw = data.draw(st.one_of(st.binary(max_size=2_000), requests()))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    pieces = [raw[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert set(agent.say(*pieces)) <= TOLD
    assert agent.answers()


def test_more_than_a_request_may_be_is_cut_and_not_kept(agent: Agent) -> None:
    for first in (GOOD[:-2] + b"x: ", b"POST /v1/journal/ack HTTP/1.1\r\ncontent-length: 999999999\r\n\r\n"):
        assert agent.say(first, *[b"y" * 4_096] * (MAX_REQUEST_BYTES // 4_096 + 1)) == [431]
    assert agent.answers()


PAGE = make_page(make_chain([UP, Alive(), UP]))


def is_refused(body: bytes) -> bool:
    try:
        open_page(body, site=SITE, signing_key=PUBLIC, after=0, prev=None)
    except ProtocolError:
        return True
    return False


def test_every_changed_byte_of_a_page_is_refused() -> None:
    assert not is_refused(PAGE)
    for place, byte in enumerate(PAGE):
        assert is_refused(PAGE[:place] + bytes([byte ^ 1]) + PAGE[place + 1 :]), place
        assert is_refused(PAGE[:place] + bytes([byte ^ 0x20]) + PAGE[place + 1 :]), place
        assert is_refused(PAGE[:place] + PAGE[place + 1 :]), place


@fuzz
def test_a_page_that_is_mutated_is_refused(agent: Agent, data: st.DataObject) -> None:
    place, length = data.draw(st.integers(0, len(PAGE))), data.draw(st.integers(0, 40))
    body = PAGE[:place] + data.draw(st.binary(max_size=40)) + PAGE[place + length :]
    assert body == PAGE or is_refused(body)
    assert is_refused(data.draw(st.binary(max_size=400)))


@fuzz
def test_a_page_of_wrong_values_that_is_signed_is_refused(agent: Agent, data: st.DataObject) -> None:
    """The site itself signs: what it says must be a history all the same."""
    raws = make_chain([UP, Alive(), UP])
    name = data.draw(st.sampled_from(["site", "from", "to", "head", "holes"]))
    junk = st.one_of(st.integers(-2, 2**70), st.text(max_size=80), st.none(), st.lists(st.integers(0, 5), max_size=3))
    value = data.draw(junk)
    if value == {"from": 1, "to": 3, "holes": []}.get(name, ...):
        return
    fields: dict[str, Any] = {name: value}
    assert is_refused(make_page(raws, **fields))
