"""What documents do at virtual sites, in their own time; and at a real simulator, many at once."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import msgspec
import pytest

from agent.apply.blobs import Piece
from agent.apply.virtual import KERNEL, SETTLE_S, VirtualMachine, recall, virtual_parts
from agent.cli import main
from agent.fleet_file import SiteSpec
from agent.protocol import Component, Report, decode_report
from agent.protocol.desired import (
    AgentRelease,
    DesiredStatus,
    DesiredWorkload,
    Limits,
    OsState,
    PutDesired,
    digest,
    open_receipt,
)
from agent.virtual_site import ApplyFault, VirtualSite
from tests.agent.apply.documents import Bench, documents_certificate, sealed, trusting, workload
from tests.agent.factories import AT, SITE
from tests.agent.wire import Client, Simulator, site_spec, until
from tests.pki import Fleet

WHEEL = b"wheel"


class Clock:
    def __init__(self) -> None:
        self.now_s = (AT + timedelta(hours=1)).timestamp()

    def __call__(self) -> float:
        return self.now_s


class Virtual:
    """A virtual site whose time is the test's, taking documents."""

    def __init__(self, open_bench: Callable[..., Bench], clock: Clock) -> None:
        self.clock = clock
        self.site = VirtualSite(SiteSpec(site=SITE, address="127.64.0.9", seed=7, workloads=3), clock)
        machine: Any = VirtualMachine(self.site)
        self.bench = open_bench(machine=machine, parts=virtual_parts(self.site))
        recall(self.bench.desk.part_sites()[SITE])

    def run(self, limit_s: float = 60.0) -> float:
        """Until there is nothing more to do; the seconds of the site's time that it took."""
        began_s = self.clock.now_s
        while (wait_s := self.bench.step().wait_s) is not None:
            self.clock.now_s += wait_s
            assert self.clock.now_s < began_s + limit_s, self.bench.desk.status(SITE)
        return self.clock.now_s - began_s

    def apply(self, body: bytes) -> float:
        assert self.bench.desk.put(SITE, body).state == "accepted"
        return self.run()

    def component(self, kind: str, name: str) -> Component | None:
        return next((c for c in self.site.components if (c.kind, c.name) == (kind, name)), None)

    def workloads(self) -> list[tuple[str, str | None]]:
        return [(c.name, c.version) for c in self.site.components if c.kind == "workload"]

    @property
    def state(self) -> tuple[int, str, str]:
        status = self.bench.desk.status(SITE)
        return status.version, status.state, status.detail


@pytest.fixture
def virtual(open_bench: Callable[..., Bench]) -> Virtual:
    return Virtual(open_bench, Clock())


class TestChanges:
    def test_workloads_come_change_and_go(self, virtual: Virtual) -> None:
        took_s = virtual.apply(sealed(1, "pos:5.0", "new:1.0"))
        assert 1 <= took_s < 30
        assert virtual.workloads() == [("pos", "5.0"), ("new", "1.0")]
        pos = virtual.component("workload", "pos")
        assert pos is not None
        assert pos.digest == workload("pos", "5.0").image.partition("@")[2]
        report = virtual.site.make_now()
        assert [(w.name, w.managed, w.state) for w in report.workloads] == [
            ("pos", True, "running"),
            ("new", True, "running"),
        ]
        assert virtual.state == (1, "applied", "")

    def test_a_start_is_seen_when_it_is_over_and_not_a_look_later(self, virtual: Virtual) -> None:
        took_s = virtual.apply(sealed(1, "pos:5.0"))
        image = workload("pos", "5.0").image.partition("@")[2]
        settle_s = Random(f"{virtual.site.seed}/pos/5.0 ({image[:15]}…)").uniform(*SETTLE_S)
        assert took_s == pytest.approx(settle_s, abs=0.011)

    def test_configuration_and_limits(self, virtual: Virtual) -> None:
        blob = b"{}"
        virtual.bench.desk.put_blob(digest(blob), Piece(0, len(blob)), blob)
        limited = workload("pos", "5.0", config_sha256=digest(blob), limits=Limits(mem_bytes=64 << 20))
        virtual.apply(sealed(1, workloads=(limited,)))
        assert virtual.component("config", "pos") == Component("config", "pos", None, digest(blob))
        assert virtual.site.make_now().workloads[0].mem_limit_bytes == 64 << 20
        virtual.apply(sealed(2, "pos:5.0"))
        assert virtual.component("config", "pos") is None

    def test_packages_agent_and_a_kernel_with_its_reboot(self, virtual: Virtual) -> None:
        virtual.bench.desk.put_blob(digest(WHEEL), Piece(0, len(WHEEL)), WHEEL)
        boot = virtual.site.boot
        running: tuple[DesiredWorkload, ...] = (workload("pos", "5.0"),)
        state = OsState(packages={"openssl": "3.0.17-1"}, kernel="6.1.0-99-amd64", reboot="if_required")
        virtual.apply(sealed(1, workloads=running, os=state, agent=AgentRelease("9.9.9", digest(WHEEL))))
        assert virtual.component("os", "openssl") == Component("os", "openssl", "3.0.17-1")
        assert virtual.component("agent", "archipelago-agent") == Component("agent", "archipelago-agent", "9.9.9")
        assert virtual.component("kernel", "linux") == Component("kernel", "linux", "6.1.0-99-amd64")
        assert virtual.site.boot != boot
        assert virtual.state == (1, "applied", "")
        envelope = virtual.bench.desk.status(SITE).receipt
        assert envelope is not None
        key = virtual.bench.desk._entries[SITE].key
        assert key is not None
        receipt = open_receipt(envelope, key.public_key().public_bytes_raw())
        assert receipt.boot == virtual.site.boot
        assert KERNEL in receipt.changed

    def test_a_site_without_power_does_nothing(self, virtual: Virtual) -> None:
        virtual.bench.desk.put(SITE, sealed(1, "pos:5.0"))
        virtual.site.set_mode("off")
        before = virtual.site.components
        for _ in range(20):
            assert virtual.bench.step().wait_s == 1.0
        assert virtual.site.components == before
        virtual.site.set_mode(None)
        virtual.run()
        assert virtual.state == (1, "applied", "")

    def test_the_same_seed_takes_the_same_time(self, open_bench: Callable[..., Bench], tmp_path: Path) -> None:
        def once(name: str) -> float:
            site = Virtual(lambda **options: open_bench(folder=tmp_path / name, **options), Clock())
            return site.apply(sealed(1, "pos:5.0", "a:1"))

        assert once("one") == once("two")


class TestFaults:
    @pytest.mark.parametrize(
        ("fault", "state", "detail"),
        [
            ("pull", "failed", "cannot be pulled: the registry knows no such thing"),
            ("unhealthy", "rolled_back", "pos: its health check never passed"),
        ],
    )
    def test_it_fails_and_all_is_as_it_was(self, virtual: Virtual, fault: ApplyFault, state: str, detail: str) -> None:
        virtual.apply(sealed(1, "pos:5.0", "api:1"))
        before = virtual.site.components
        virtual.site.apply_fault = fault
        virtual.apply(sealed(2, "api:2", "pos:6.0") if fault == "pull" else sealed(2, "api:1", "pos:6.0"))
        assert virtual.site.components == before
        assert virtual.state[:2] == (2, state)
        assert detail in virtual.state[2]

    def test_a_kernel_that_came_before_what_failed_is_taken_back(self, virtual: Virtual) -> None:
        virtual.apply(sealed(1, "pos:5.0"))
        before = virtual.site.components
        virtual.site.apply_fault = "unhealthy"
        virtual.apply(sealed(2, "pos:5.0", os=OsState(kernel="6.1.0-99-amd64", reboot="if_required")))
        assert virtual.site.components == before
        assert virtual.state == (2, "rolled_back", "kernel: its health check never passed")

    def test_a_liar_says_applied_and_reports_the_old_digest(self, virtual: Virtual) -> None:
        virtual.apply(sealed(1, "pos:5.0"))
        before = virtual.site.components
        virtual.site.apply_fault = "lies"
        virtual.apply(sealed(2, "pos:6.0"))
        assert virtual.state[:2] == (2, "applied")
        assert virtual.site.components == before

    def test_one_that_hangs_is_applying_until_healed(self, virtual: Virtual) -> None:
        virtual.site.apply_fault = "hang"
        virtual.bench.desk.put(SITE, sealed(1, "pos:5.0", "a:1"))
        for _ in range(100):
            virtual.clock.now_s += virtual.bench.step().wait_s or 0
        assert virtual.state[:2] == (1, "applying")
        virtual.site.apply_fault = None
        virtual.run()
        assert virtual.state == (1, "applied", "")

    def test_a_change_may_cut_the_uplink(self, virtual: Virtual) -> None:
        virtual.apply(sealed(1, "pos:5.0"))
        virtual.site.apply_fault = "cuts"
        virtual.apply(sealed(2, "pos:5.0"))
        assert virtual.site.mode is None  # nothing was changed
        virtual.apply(sealed(3, "pos:6.0"))
        assert (virtual.site.mode, *virtual.state[:2]) == ("dark", 3, "applied")


class TestRestart:
    def test_what_was_applied_is_what_a_new_process_plays(
        self, virtual: Virtual, open_bench: Callable[..., Bench]
    ) -> None:
        virtual.apply(sealed(1, "pos:5.0", os=OsState(kernel="6.1.0-99-amd64", reboot="if_required")))
        again = Virtual(open_bench, virtual.clock)
        assert again.run() == 0
        assert again.workloads() == [("pos", "5.0")]
        assert again.site.make_now().components_digest == virtual.site.make_now().components_digest

    @pytest.mark.parametrize("phase", ["staged", "switching", "checking", "keeping", "restoring"])
    def test_one_that_ends_in_mid_apply_goes_on(
        self, virtual: Virtual, open_bench: Callable[..., Bench], phase: str
    ) -> None:
        virtual.apply(sealed(1, "pos:5.0", "a:1"))
        if phase == "restoring":
            virtual.site.apply_fault = "unhealthy"
        virtual.bench.desk.put(SITE, sealed(2, "pos:6.0", "a:2"))
        state = virtual.bench.desk.part_sites()[SITE]
        while state.work is None or state.work.version != 2 or state.work.phase != phase:
            virtual.clock.now_s += virtual.bench.step().wait_s or 0
        again = Virtual(open_bench, virtual.clock)
        again.run()
        if phase == "restoring":
            assert again.workloads() == [("pos", "5.0"), ("a", "1")]
            assert again.state[:2] == (2, "rolled_back")
        else:
            assert again.workloads() == [("pos", "6.0"), ("a", "2")]
            assert again.state[:2] == (2, "applied")


# A real simulator -----------------------------------------------------------------------------------------------
def now_sealed(spec: dict[str, Any], version: int, *names: str, **fields: Any) -> bytes:
    now = datetime.now(UTC).replace(microsecond=0)
    return sealed(version, *names, site=UUID(spec["site"]), issued_at=now, expires_at=now + timedelta(days=1), **fields)


def trusting_now(fleet: Fleet, identity: Any) -> Any:
    begin = datetime.now(UTC) - timedelta(days=1)
    return trusting(fleet, identity, documents_certificate(fleet, begin=begin))


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    folder = tmp_path_factory.mktemp("virtual")
    simulator = Simulator(folder, [site_spec(n) for n in range(600, 605)], given=trusting_now)
    yield simulator
    status, out, err = simulator.close()
    assert (status, err) == (0, "")
    assert "Traceback" not in out


def put(client: Client, body: bytes) -> PutDesired:
    client.sock.sendall(b"PUT /v1/desired HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    return msgspec.json.decode(client.read().body, type=PutDesired)


def status(client: Client) -> DesiredStatus:
    return msgspec.json.decode(client.get("/v1/desired").body, type=DesiredStatus)


def report(client: Client) -> Report:
    return decode_report(client.get().body)


class TestSimulator:
    def test_a_document_over_mutual_tls_changes_what_is_reported(self, simulator: Simulator) -> None:
        spec = simulator.specs[0]
        with simulator.client(spec["address"]) as client:
            assert put(client, now_sealed(spec, 1, "pos:5.0")).state == "accepted"
            until(lambda: status(client).state == "applied", "the document to be applied", 20)
            until(lambda: (d := report(client).desired) is not None and d.state == "applied", "a report of it")
            found = report(client)
        assert found.desired is not None
        assert (found.desired.epoch, found.desired.version) == (1, 1)
        assert [(c.name, c.version) for c in found.components or () if c.kind == "workload"] == [("pos", "5.0")]

    def test_orders_let_it_fail(self, simulator: Simulator) -> None:
        spec = simulator.specs[1]
        simulator.order("fail_apply", sites=[spec["site"]], fault="pull")
        assert simulator.order("status")["apply_faults"] == {"pull": 1}
        with simulator.client(spec["address"]) as client:
            put(client, now_sealed(spec, 1, "pos:5.0"))
            until(lambda: status(client).state == "failed", "the document to fail", 20)
        simulator.order("heal", sites=[spec["site"]])
        assert simulator.order("status")["apply_faults"] == {}

    def test_orders_from_the_command_line(self, simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
        site = simulator.specs[4]["site"]
        assert main(["simctl", "--control", str(simulator.control), "fail-apply", "hang", site]) == 0
        assert capsys.readouterr().out == "sites: 1\n"
        assert simulator.order("status")["apply_faults"] == {"hang": 1}
        simulator.order("heal", sites=[site])

    def test_a_lost_answer_was_taken_nevertheless(self, simulator: Simulator) -> None:
        spec = simulator.specs[2]
        simulator.order("fail_apply", sites=[spec["site"]], fault="lost")
        body = now_sealed(spec, 1, "pos:5.0")
        with simulator.client(spec["address"]) as client, pytest.raises(OSError):  # noqa: PT011  # reset, or closed
            put(client, body)
        simulator.order("heal", sites=[spec["site"]])
        with simulator.client(spec["address"]) as client:
            assert put(client, body).state == "unchanged"
            until(lambda: status(client).state == "applied", "the document to be applied", 20)

    def test_a_connection_of_before_is_cut_with_the_uplink(self, simulator: Simulator) -> None:
        spec = simulator.specs[3]
        simulator.order("fail_apply", sites=[spec["site"]], fault="cuts")
        with simulator.client(spec["address"]) as client:
            assert put(client, now_sealed(spec, 1, "pos:5.0")).state == "accepted"
            until(lambda: simulator.order("status")["modes"] == {"dark": 1}, "the uplink to be cut", 20)
            with pytest.raises(OSError):  # noqa: PT011  # reset, or closed
                status(client)
        simulator.order("heal", sites=[spec["site"]])
        with simulator.client(spec["address"]) as client:
            until(lambda: status(client).state == "applied", "the document to be applied", 20)

    def test_another_sites_document_is_refused(self, simulator: Simulator) -> None:
        with simulator.client(simulator.specs[4]["address"]) as client:
            answer = put(client, now_sealed(simulator.specs[3], 1, "pos:5.0"))
            assert (answer.state, answer.reason) == ("refused", "not_mine")
            assert status(client).state == "none"
