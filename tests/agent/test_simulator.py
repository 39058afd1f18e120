import stat
import threading
import time
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from agent.churn import Churn
from agent.control import ControlError
from agent.fleet_file import SiteSpec
from agent.misbehaviour import BOMB_BYTES, GARBAGE, HEADERS
from agent.protocol import MAX_BODY_BYTES, ProtocolError, Report, decode_report
from agent.virtual_site import MODES, VirtualSite
from tests.agent.wire import Client, Simulator, site_spec, until

SITES = 40


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    simulator = Simulator(tmp_path_factory.mktemp("simulator"), [site_spec(n) for n in range(SITES)])
    yield simulator
    status, out, err = simulator.close()
    assert (status, err) == (0, "")
    assert "Traceback" not in out
    assert not simulator.control.exists()


class Site:
    """One of the simulator's sites, healed after the test."""

    def __init__(self, simulator: Simulator, spec: dict[str, Any]) -> None:
        self.simulator, self.address, self.uuid = simulator, spec["address"], spec["site"]

    def fail(self, mode: str, **fields: Any) -> None:
        self.simulator.order("fail", sites=[self.uuid], mode=mode, **fields)

    def heal(self) -> None:
        self.simulator.order("heal", sites=[self.address])

    def client(self, timeout_s: float = 5.0) -> Client:
        return self.simulator.client(self.address, timeout_s)

    def report(self) -> Report:
        with self.client() as client:
            return decode_report(client.get().body)


@pytest.fixture
def site(simulator: Simulator) -> Iterator[Site]:
    """The first site; whatever a test did to it, afterwards it is well and its neighbour always was."""
    site = Site(simulator, simulator.specs[0])
    yield site
    assert Site(simulator, simulator.specs[1]).report().verdict.state == "up"
    site.heal()
    assert site.report().verdict.state == "up"


class TestSites:
    def test_every_address_is_its_own_site(self, simulator: Simulator) -> None:
        for spec in simulator.specs:
            assert Site(simulator, spec).report().site == UUID(spec["site"])

    def test_an_address_of_no_site_is_closed(self, simulator: Simulator) -> None:
        with pytest.raises(OSError), simulator.client("127.120.200.200") as client:  # noqa: PT011  # as above
            client.get()

    def test_an_upgrade_shows(self, simulator: Simulator, site: Site) -> None:
        before = site.report()
        answer = simulator.order("upgrade", sites=[site.uuid], kind="kernel", name="linux", version="6.99.0-test")
        after = site.report()
        assert answer == {"ok": True, "sites": 1, "changed": 1}
        assert (after.components or ())[0].version == "6.99.0-test"
        assert after.components_digest != before.components_digest
        assert after.boot != before.boot
        assert after.mono_ms < 60_000

    def test_an_upgrade_of_what_no_site_has_changes_none(self, simulator: Simulator) -> None:
        answer = simulator.order("upgrade", sites="all", kind="workload", name="doom", version="1.9")
        assert answer == {"ok": True, "sites": SITES, "changed": 0}


class TestVerdicts:
    @pytest.mark.parametrize("mode", ["degraded", "down"])
    def test_the_site_says_so_on_an_open_connection_at_once(self, site: Site, mode: str) -> None:
        with site.client() as client:
            before = decode_report(client.get().body)
            assert before.verdict.state == "up"
            site.fail(mode)
            after = decode_report(client.get().body)
            assert after.verdict.state == mode
            assert after.verdict.reasons
            assert after.verdict.since > before.at - timedelta(seconds=5)
            assert any(w.health == "unhealthy" for w in after.workloads)
            site.heal()
            assert decode_report(client.get().body).verdict.state == "up"

    def test_a_failure_for_a_time_ends_by_itself(self, site: Site) -> None:
        site.fail("down", for_s=0.2)
        assert site.report().verdict.state == "down"
        until(lambda: site.report().verdict.state == "up", "the site to heal")

    def test_a_later_failure_outlives_the_timer_of_an_earlier_one(self, site: Site) -> None:
        site.fail("down", for_s=0.2)
        site.fail("degraded")
        time.sleep(0.4)
        assert site.report().verdict.state == "degraded"


class TestWire:
    def test_off_is_dark_and_comes_back_in_another_boot(self, site: Site) -> None:
        before = site.report().boot
        with site.client() as client:
            site.fail("off")
            assert client.closed()
        site.heal()
        assert site.report().boot != before

    def test_dark_cuts_open_connections_and_refuses_new_ones(self, site: Site) -> None:
        with site.client() as client:
            assert client.get().status == 200
            site.fail("dark")
            assert client.closed()
        with pytest.raises(OSError), site.client() as client:  # noqa: PT011  # whichever way the reset shows first
            client.get()

    def test_hang_accepts_and_never_answers(self, site: Site) -> None:
        site.fail("hang")
        with site.client(timeout_s=0.4) as client:
            client.send()
            assert not client.closed()
            site.heal()
            assert client.closed()

    def test_loris_sends_a_byte_a_second(self, site: Site) -> None:
        site.fail("loris")
        with site.client(timeout_s=5) as client:
            client.send()
            begin_s = time.monotonic()
            assert client.sock.recv(100) == b"H"
            assert client.sock.recv(100) == b"T"
            assert 0.8 < time.monotonic() - begin_s < 5

    def test_loris_is_the_next_time_slow_with_the_body_only(self, site: Site) -> None:
        site.fail("loris")
        for _ in range(2):
            with site.client(timeout_s=0.5) as client:
                client.send()
                got = client.sock.recv(1_000)
        assert got.endswith((b"\r\n\r\n", b"\r\n\r\n{"))

    def test_garbage_is_malformed_in_every_way_and_each_is_refused(self, site: Site) -> None:
        site.fail("garbage")
        with site.client() as client:
            for _ in GARBAGE:
                answer = client.get()
                assert answer.status == 200
                with pytest.raises(ProtocolError):
                    decode_report(answer.body)
            client.send()
            assert not client.drain(1_000).startswith(b"HTTP/")

    def test_big_never_ends_whether_in_chunks_or_announced(self, site: Site) -> None:
        site.fail("big")
        for announced in (b"Transfer-Encoding: chunked", b"Content-Length: 1073741824"):
            with site.client() as client:
                client.send()
                got = client.drain(8 * MAX_BODY_BYTES)
            assert announced in got[:200]
            assert len(got) >= 8 * MAX_BODY_BYTES

    def test_big_is_not_buffered_for_a_slow_reader(self, simulator: Simulator, site: Site) -> None:
        site.fail("big")
        with site.client() as client:
            client.send()
            time.sleep(0.3)
            before_kib = resident_kib(simulator.process.pid)
            time.sleep(0.3)
            assert resident_kib(simulator.process.pid) - before_kib < 2_048

    def test_bomb_is_a_small_body_that_unpacks_to_a_quarter_of_a_gigabyte(self, site: Site) -> None:
        site.fail("bomb")
        with site.client() as client:
            answer = client.get()
        assert answer.headers["content-encoding"] == "gzip"
        assert len(answer.body) < MAX_BODY_BYTES
        unpacker, size, packed = zlib.decompressobj(wbits=31), 0, answer.body
        while packed and not unpacker.eof:
            size += len(unpacker.decompress(packed, 1 << 22))
            packed = unpacker.unconsumed_tail
        assert size == BOMB_BYTES
        assert unpacker.eof

    def test_liar_lies_about_the_length_in_every_way(self, site: Site) -> None:
        size = len(self.truth(site))
        site.fail("liar")
        lengths = []
        for _ in range(5):
            with site.client(timeout_s=0.3) as client:
                client.send()
                head, _, body = client.sock.recv(1 << 16).partition(b"\r\n\r\n")
                assert abs(len(body) - size) < 50
                lines = [line for line in head.split(b"\r\n") if line.startswith(b"Content-Length")]
                lengths.append([int(line.split()[1]) for line in lines])
                assert client.closed() == (len(lengths) == 2)
        assert [len(found) for found in lengths] == [1, 1, 1, 2, 1]
        assert lengths[0][0] > MAX_BODY_BYTES
        assert lengths[1][0] > 1.5 * size
        assert lengths[2][0] < 0.6 * size
        assert lengths[3][0] != lengths[3][1]
        assert lengths[4][0] < 0

    def test_headers_sends_a_million_of_them(self, site: Site) -> None:
        site.fail("headers")
        with site.client() as client:
            client.send()
            head, _, body = client.drain(100 << 20).partition(b"\r\n\r\n")
        assert head.count(b"\r\nX-") == HEADERS
        assert body == b"{}"

    def test_wrong_site_answers_for_another(self, site: Site) -> None:
        site.fail("wrong_site")
        assert site.report().site != UUID(site.uuid)

    def test_wrong_protocol_is_refused_by_number(self, site: Site) -> None:
        site.fail("wrong_protocol")
        with pytest.raises(ProtocolError, match="protocol 2, expected 1"):
            site.report()

    def test_future_clock_is_two_years_ahead(self, site: Site) -> None:
        site.fail("future_clock")
        ahead = site.report().at - datetime.now(UTC)
        assert timedelta(days=729) < ahead < timedelta(days=731)

    def test_every_mode_has_a_test_here(self) -> None:
        names = " ".join(name for kind in (TestWire, TestVerdicts) for name in vars(kind))
        assert [m for m in MODES if f"test_{m}_" not in names] == ["down", "degraded"]  # these two by parameter

    def test_greedy_and_stuck_readers_do_not_hold_up_the_others(self, simulator: Simulator) -> None:
        greedy = [spec["site"] for spec in simulator.specs[10:20]]
        simulator.order("fail", sites=greedy[:5], mode="big")
        simulator.order("fail", sites=greedy[5:], mode="hang")
        ended = threading.Event()

        def read_on(address: str) -> None:
            with simulator.client(address, 0.5) as client:
                client.send()
                while not ended.is_set():
                    try:
                        client.sock.recv(1 << 16)
                    except OSError:
                        return

        readers = [threading.Thread(target=read_on, args=(spec["address"],)) for spec in simulator.specs[10:20]]
        for reader in readers:
            reader.start()
        try:
            with simulator.client(simulator.specs[20]["address"]) as client:
                begin_s = time.monotonic()
                assert [client.get().status for _ in range(20)] == [200] * 20
                assert time.monotonic() - begin_s < 2
        finally:
            ended.set()
            simulator.order("heal", sites=greedy)
            for reader in readers:
                reader.join()

    @staticmethod
    def truth(site: Site) -> bytes:
        with site.client() as client:
            return client.get().body


def resident_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


class TestControl:
    def test_only_this_user_may_order(self, simulator: Simulator) -> None:
        assert stat.S_IMODE(simulator.control.stat().st_mode) == 0o600

    def test_status_counts(self, simulator: Simulator) -> None:
        names = [spec["site"] for spec in simulator.specs[5:8]]
        simulator.order("fail", sites=names[:1], mode="down")
        simulator.order("fail", sites=names[1:], mode="hang")
        with simulator.client(simulator.specs[0]["address"]) as client:
            before = simulator.order("status")
            client.get()
            status = simulator.order("status")
        simulator.order("heal", sites=names)
        assert status["sites"] == SITES
        assert status["modes"] == {"down": 1, "hang": 2}
        assert status["verdicts"] == {"up": SITES - 1, "degraded": 0, "down": 1}
        assert status["connections"] >= 1
        assert status["reports"] == before["reports"] + 1

    @pytest.mark.parametrize(
        ("order", "reason"),
        [
            ({}, "cmd"),
            ({"cmd": "explode"}, "explode"),
            ({"cmd": "fail", "sites": "all", "mode": "sideways"}, "mode"),
            ({"cmd": "fail", "sites": "all", "mode": "down", "for_s": 0}, "for_s"),
            ({"cmd": "fail", "sites": "some", "mode": "down"}, "sites"),
            ({"cmd": "fail", "sites": ["10.0.0.1"], "mode": "down"}, "10.0.0.1"),
            ({"cmd": "heal", "sites": ["x"]}, "no site 'x'"),
            ({"cmd": "upgrade", "sites": "all", "kind": "firmware", "name": "a", "version": "1"}, "kind"),
            ({"cmd": "churn", "per_minute": -1}, "per_minute"),
        ],
    )
    def test_bad_orders_are_refused_with_a_reason(
        self, simulator: Simulator, order: dict[str, Any], reason: str
    ) -> None:
        order = {"cmd": None, **order}
        with pytest.raises(ControlError, match=reason):
            simulator.order(**order)

    def test_an_order_names_all_or_nothing(self, simulator: Simulator) -> None:
        with pytest.raises(ControlError):
            simulator.order("fail", sites=[simulator.specs[3]["site"], "nowhere"], mode="down")
        assert simulator.order("status")["modes"] == {}


class TestChurn:
    def test_sites_come_and_go_and_all_recover_when_it_ends(self, simulator: Simulator) -> None:
        simulator.order("churn", per_minute=10)
        until(lambda: simulator.order("status")["churned"] >= 2, "churn")
        status = simulator.order("status")
        assert status["verdicts"]["up"] == SITES - status["churned"]
        simulator.order("churn", per_minute=0)
        assert simulator.order("status")["verdicts"] == {"up": SITES, "degraded": 0, "down": 0}

    def test_the_rate_is_held_and_the_fleet_stays_mostly_well(self) -> None:
        flips, ill = self.simulate(seed=1)
        assert flips == pytest.approx(0.02 * 1_000 * 60, rel=0.05)
        assert 0.005 * 1_000 < ill < 0.04 * 1_000

    def test_it_is_seeded(self) -> None:
        assert self.simulate(seed=2) == self.simulate(seed=2)

    def test_ordered_failures_are_left_alone(self) -> None:
        sites = self.make_sites(4)
        for site in sites:
            site.set_mode("hang")
        churn = Churn(sites)
        churn.set_rate(10)
        assert churn.advance(60.0, 60.0) == 0
        assert {site.mode for site in sites} == {"hang"}

    @staticmethod
    def make_sites(count: int) -> list[VirtualSite]:
        specs = [site_spec(n) for n in range(count)]
        return [VirtualSite(SiteSpec(UUID(s["site"]), s["address"], s["seed"]), time.time) for s in specs]

    def simulate(self, seed: int) -> tuple[int, int]:
        """Flips in an hour at 2 % a minute over 1,000 sites, and how many are ill at the end."""
        sites = self.make_sites(1_000)
        churn = Churn(sites, seed)
        churn.set_rate(0.02)
        flips = sum(churn.advance(step * 0.25, 0.25) for step in range(4 * 3_600))
        return flips, sum(site.state != "up" for site in sites)
